#include "tenon/device/cpu/conv_finish.h"

#include <algorithm>
#include <cmath>

namespace tenon::cpu {
namespace {

using Reach = ConvResult::Reach;

// places x filters from memory to a block [places, columns].
void load(const float* from, int64_t step, int64_t channel, int64_t places, int64_t filters, float* to, int64_t columns,
          const TileLoops& loops) {
  if (channel == 1) {
    loops.copy(from, step, places, filters, to, columns);
  } else if (step == 1) {
    loops.transpose(from, channel, filters, places, to, columns);
  } else {
    for (int64_t i = 0; i < places; ++i, to += columns) {
      for (int64_t c = 0; c < filters; ++c) to[c] = from[i * step + c * channel];
    }
  }
}
void store(const float* block, int64_t columns, int64_t places, int64_t filters, float* to, int64_t step,
           int64_t channel, const TileLoops& loops) {
  if (channel == 1) {
    loops.copy(block, columns, places, filters, to, step);
  } else if (step == 1) {
    loops.transpose(block, columns, places, filters, to, channel);
  } else {
    for (int64_t c = 0; c < filters; ++c) {
      for (int64_t i = 0; i < places; ++i) to[c * channel + i * step] = block[i * columns + c];
    }
  }
}

// A clamp's steps in fewer instructions (TileOp), by the number that is the operand.
TileOp op_with(TileOp op, float number) {
  if (op == TileOp::Larger && number == 0 && !std::signbit(number)) return TileOp::AboveZero;
  if (op == TileOp::Smaller && number != 0 && !std::isnan(number)) return TileOp::Below;
  return op;
}

// Steps that tiles do together with the next one.
void join(std::vector<TileStep>& steps) {
  for (size_t i = 0; i + 1 < steps.size(); ++i) {
    TileOp& op = steps[i].op;
    if (op == TileOp::Multiply && steps[i + 1].op == TileOp::Add && steps[i].place == 0 && steps[i + 1].place == 0)
      op = TileOp::MultiplyThenAdd;
    else if (op == TileOp::AboveZero && steps[i + 1].op == TileOp::Below)
      op = TileOp::AboveZeroThenBelow;
  }
}

}  // namespace

bool PlaceSpace::runs_on(const Tensors& tensors, size_t d) const {
  return std::all_of(tensors.begin(), tensors.end(),
                     [&](const auto* t) { return extent[d] == 1 || extent[3] == 1 || (*t)[d] == (*t)[3] * extent[3]; });
}

void PlaceSpace::merge(const Tensors& tensors) {
  for (size_t d = 3; d-- > 0;) {
    if (extent[3] == 1) {
      for (auto* t : tensors) (*t)[3] = (*t)[d];
    }
    if (!runs_on(tensors, d)) break;
    extent[3] *= extent[d];
    extent[d] = 1;
  }
  count();
}

void PlaceSpace::count() {
  width = extent[3];
  rows = extent[0] * extent[1] * extent[2];
}

void ConvResult::add_operand(const float* data, const PlaceStrides& of) {
  const bool everywhere = std::all_of(of.place.begin(), of.place.end(), [](int64_t v) { return v == 0; });
  operands.push_back({data, of, !everywhere ? Reach::All : of.channel != 0 ? Reach::Channels : Reach::One});
}

ConvProgram::ConvProgram(const LevelTable& level, const std::optional<ir::ScalarProgram>& after)
    : chain(after ? chain_of(*after) : std::vector<ChainStep>{}) {
  if (after) program.emplace(level, *after);
}

ConvFinish::ConvFinish(const ConvResult& result, const PlaceSpace& space, const ConvProgram& program,
                       const TileLoops& loops, int64_t places, int64_t columns)
    : result_(result),
      space_(space),
      program_(program),
      loops_(loops),
      places_(places),
      columns_(columns),
      channels_(result.operands.size()) {
  const bool apart = std::any_of(result.operands.begin(), result.operands.end(), [](const auto& operand) {
    return operand.reach == Reach::All && operand.strides.channel != 1;
  });
  if (program.chain && !apart) {
    bool keeps = false;
    for (const ChainStep& step : *program.chain) {
      const float* number = step.input == 0 ? &step.number : nullptr;  // or null: what is kept, or set for each tile
      steps_.push_back({number != nullptr ? op_with(step.op, *number) : step.op, number != nullptr, number, 0});
      keeps = keeps || step.input == ChainStep::kKept;
      if (step.input <= 0) continue;
      const ConvResult::Operand& operand = result.operands[static_cast<size_t>(step.input) - 1];
      if (operand.reach == Reach::One) steps_.back().op = op_with(step.op, *operand.data);
      if (operand.reach != Reach::All) continue;
      steps_.back().place = operand.strides.place[3];
      every_place_ = true;
    }
    join(steps_);
    in_tiles_ = result.strides.channel == 1 && !keeps && std::all_of(steps_.begin(), steps_.end(), fits_tiles);
    return;
  }
  room_.emplace(*program.program, places * columns);
  load_repeated(Reach::One, 0);
}

void ConvFinish::filters(int64_t first, int64_t count) {
  filter_ = first;
  filters_ = count;
  if (room_) {
    load_repeated(Reach::Channels, count);
    return;
  }
  for (size_t i = 0; i < steps_.size(); ++i) {
    const int input = (*program_.chain)[i].input;
    if (input <= 0) continue;
    const ConvResult::Operand& operand = result_.operands[static_cast<size_t>(input) - 1];
    TileStep& step = steps_[i];
    step.one = operand.reach == Reach::One;
    step.data = operand.data;
    if (operand.reach != Reach::Channels) continue;
    step.data += first * operand.strides.channel;
    if (operand.strides.channel == 1) continue;
    std::vector<float>& own = channels_[static_cast<size_t>(input) - 1];
    own.resize(static_cast<size_t>(columns_));
    load(step.data, 0, operand.strides.channel, 1, count, own.data(), columns_, loops_);
    step.data = own.data();
  }
}

bool ConvFinish::runs_on(const PlaceStrides& of, const PlaceTile& tile) const {
  return tile.pieces == 1 || result_.place_of(space_, of, tile.piece[1]) ==
                                 result_.place_of(space_, of, tile.piece[0]) + tile.piece[0].count * of.place[3];
}

// To a run of places.
void ConvFinish::point_steps(const PlaceTile::Piece& piece) {
  if (!every_place_) return;
  for (size_t i = 0; i < steps_.size(); ++i) {
    const int input = (*program_.chain)[i].input;
    if (input <= 0) continue;
    const ConvResult::Operand& operand = result_.operands[static_cast<size_t>(input) - 1];
    if (operand.reach == Reach::All)
      steps_[i].data = operand.data + result_.place_of(space_, operand.strides, piece) + filter_;
  }
}

float* ConvFinish::straight(const PlaceTile& tile) {
  if (!in_tiles_ || !runs_on(result_.strides, tile)) return nullptr;
  for (const auto& operand : result_.operands) {
    if (operand.reach == Reach::All && !runs_on(operand.strides, tile)) return nullptr;
  }
  point_steps(tile.piece[0]);
  return result_.y + result_.place_of(space_, result_.strides, tile.piece[0]) + filter_;
}

void ConvFinish::operator()(const PlaceTile& tile, float* block) {
  if (room_) {
    run_program(tile, block);
  } else {
    run_chain(tile, block);
  }
}

void ConvFinish::run_chain(const PlaceTile& tile, float* block) {
  const PlaceStrides& to = result_.strides;
  for (int p = 0; p < tile.pieces; ++p) {
    const PlaceTile::Piece& piece = tile.piece[p];
    point_steps(piece);
    float* y = result_.y + result_.place_of(space_, to, piece) + filter_ * to.channel;
    const bool last = to.channel == 1;
    if (last || !steps_.empty())
      loops_.finish({block, columns_, piece.count, filters_, steps_.data(), static_cast<int>(steps_.size()),
                     last ? y : block, last ? to.place[3] : columns_});
    if (!last) store(block, columns_, piece.count, filters_, y, to.place[3], to.channel, loops_);
    block += piece.count * columns_;
  }
}

void ConvFinish::run_program(const PlaceTile& tile, float* block) {
  for (size_t k = 0; k < result_.operands.size(); ++k) {
    const ConvResult::Operand& operand = result_.operands[k];
    if (operand.reach != Reach::All) continue;
    float* to = room_->input(static_cast<int>(k) + 1);
    for (int p = 0; p < tile.pieces; ++p) {
      const PlaceTile::Piece& piece = tile.piece[p];
      const float* from =
          operand.data + result_.place_of(space_, operand.strides, piece) + filter_ * operand.strides.channel;
      load(from, operand.strides.place[3], operand.strides.channel, piece.count, filters_, to, columns_, loops_);
      to += piece.count * columns_;
    }
  }
  block = program_.program->run(*room_, block, tile.places() * columns_);
  for (int p = 0; p < tile.pieces; ++p) {
    const PlaceTile::Piece& piece = tile.piece[p];
    const PlaceStrides& to = result_.strides;
    store(block, columns_, piece.count, filters_,
          result_.y + result_.place_of(space_, to, piece) + filter_ * to.channel, to.place[3], to.channel, loops_);
    block += piece.count * columns_;
  }
}

// Operands that are the same for every place, repeated for each place of a tile.
void ConvFinish::load_repeated(Reach reach, int64_t filters) {
  for (size_t k = 0; k < result_.operands.size(); ++k) {
    const ConvResult::Operand& operand = result_.operands[k];
    if (operand.reach != reach) continue;
    float* to = room_->input(static_cast<int>(k) + 1);
    if (reach == Reach::One) {
      std::fill_n(to, places_ * columns_, *operand.data);
    } else {
      load(operand.data + filter_ * operand.strides.channel, 0, operand.strides.channel, places_, filters, to, columns_,
           loops_);
    }
  }
}

}  // namespace tenon::cpu
