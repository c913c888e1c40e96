#include "tenon/device/cpu/tile_program.h"

#include <algorithm>

#include "tenon/base/error.h"

namespace tenon::cpu {

using ir::ScalarInstr;
using ir::ScalarOp;

bool TileProgram::accepts(const ir::ScalarProgram& program) {
  constexpr size_t kMost = 48;
  if (program.inputs == 0 || program.code.size() > kMost || program.code.back().op == ScalarOp::Input) return false;
  const auto is_half = [](DType d) { return d == DType::F16 || d == DType::BF16; };
  const DType first = program.input(0);
  const auto comes_and_goes = [&](DType d) { return d == DType::F32 || (is_half(d) && d == first); };
  return comes_and_goes(first) && comes_and_goes(program.result()) &&
         std::all_of(program.code.begin(), program.code.end(), [&](const ScalarInstr& i) {
           if (i.op == ScalarOp::Input) return comes_and_goes(i.dtype);
           return i.op != ScalarOp::Bitcast && (i.dtype == DType::F32 || i.dtype == DType::Bool || is_half(i.dtype));
         });
}

TileProgram::TileProgram(const LevelTable& level, ir::ScalarProgram program) : program_(std::move(program)) {
  if (!accepts(program_)) throw InternalError("a scalar program that does not run on tiles: " + to_string(program_));
  const auto& code = program_.code;
  slots_ = program_.inputs;  // slot 0 is the tile itself
  std::vector<size_t> last_use(code.size(), 0);
  for (size_t i = 0; i < code.size(); ++i) {
    for (int a = 0; a < info(code[i].op).arity; ++a) last_use[static_cast<size_t>(code[i].args[a])] = i;
  }
  for (size_t i = 0; i < code.size(); ++i) {
    Step step;
    const ScalarInstr& instr = code[i];
    if (instr.op == ScalarOp::Input) {
      step.slot = instr.args[0];
    } else if (instr.op == ScalarOp::Const) {
      step.slot = slots_++;
    } else {
      step.run = loop_for(level, program_, instr);
      step.slot = -1;
      for (int a = 0; a < info(instr.op).arity; ++a) {
        step.args[a] = instr.args[a];
        const auto from = static_cast<size_t>(instr.args[a]);
        // In place where the operand is dead and this tile's own: the tile or a value in between, of the same width.
        const bool own = steps_[from].run != nullptr || steps_[from].slot == 0;
        if (own && last_use[from] == i && step.slot < 0 && code[from].dtype == instr.dtype)
          step.slot = steps_[from].slot;
      }
      if (step.slot < 0) step.slot = slots_++;
    }
    steps_.push_back(step);
  }
}

TileProgram::Room::Room(const TileProgram& program, int64_t most)
    : program_(program),
      most_((most + 15) / 16 * 16),
      memory_(static_cast<size_t>(most_ * program.slots_)),
      values_(program.steps_.size(), nullptr) {
  for (size_t i = 0; i < values_.size(); ++i) {
    const ScalarInstr& instr = program.program_.code[i];
    values_[i] = slot(program.steps_[i].slot);
    if (instr.op != ScalarOp::Const) continue;
    if (instr.dtype == DType::F32)
      std::fill_n(static_cast<float*>(values_[i]), most_, static_cast<float>(instr.real));
    else
      std::fill_n(static_cast<uint8_t*>(values_[i]), most_, static_cast<uint8_t>(instr.integer));
  }
}

void TileProgram::Room::point(int i, const void* data) {
  for (size_t v = 0; v < values_.size(); ++v) {
    const ScalarInstr& instr = program_.program_.code[v];
    if (instr.op == ScalarOp::Input && instr.args[0] == i) values_[v] = const_cast<void*>(data);
  }
}

namespace {
template <class T>
void load_as(const std::byte* data, int64_t first, int64_t step, int64_t n, void* to) {
  const T* from = reinterpret_cast<const T*>(data) + first;
  T* out = static_cast<T*>(to);
  if (step == 0) {
    std::fill_n(out, n, *from);
  } else if (step == 1) {
    std::copy_n(from, n, out);
  } else {
    for (int64_t j = 0; j < n; ++j) out[j] = from[j * step];
  }
}
}  // namespace

void TileProgram::Room::load(int i, const std::byte* data, int64_t first, int64_t step, int64_t n) {
  const bool narrow = program_.program_.input(i) == DType::BF16;
  if (step == 1) {
    point(i, data + first * static_cast<int64_t>(narrow ? sizeof(uint16_t) : sizeof(float)));
    return;
  }
  load_rows(i, data, first, 0, step, 1, n);
}

void TileProgram::Room::load_rows(int i, const std::byte* data, int64_t first, int64_t row, int64_t step, int64_t rows,
                                  int64_t n) {
  float* to = slot(i);
  point(i, to);
  for (int64_t r = 0; r < rows; ++r) {
    if (program_.program_.input(i) == DType::BF16)
      load_as<uint16_t>(data, first + r * row, step, n, reinterpret_cast<uint16_t*>(to) + r * n);
    else
      load_as<float>(data, first + r * row, step, n, to + r * n);
  }
}

void* TileProgram::run(Room& room, void* tile, int64_t n, void* out) const {
  const auto last = static_cast<int32_t>(steps_.size()) - 1;
  const auto at = [&](int32_t value) -> void* {
    if (value < 0) return nullptr;
    if (value == last && out != nullptr) return out;
    const auto i = static_cast<size_t>(value);
    return steps_[i].slot == 0 ? tile : room.values_[i];
  };
  for (int32_t i = 0; i <= last; ++i) {
    const Step& step = steps_[static_cast<size_t>(i)];
    if (step.run != nullptr) step.run(at(i), at(step.args[0]), at(step.args[1]), at(step.args[2]), n);
  }
  return at(last);
}

std::optional<std::vector<ChainStep>> chain_of(const ir::ScalarProgram& program) {
  const auto op_of = [](ScalarOp op) -> std::optional<TileOp> {
    switch (op) {
      case ScalarOp::Add:
        return TileOp::Add;
      case ScalarOp::Sub:
        return TileOp::Subtract;
      case ScalarOp::Mul:
        return TileOp::Multiply;
      case ScalarOp::Max:
        return TileOp::Larger;
      case ScalarOp::Min:
        return TileOp::Smaller;
      default:
        return std::nullopt;
    }
  };
  const auto& code = program.code;
  const auto is_operand = [&](int32_t i) {
    const ScalarInstr& instr = code[static_cast<size_t>(i)];
    return instr.op == ScalarOp::Const || (instr.op == ScalarOp::Input && instr.args[0] != 0);
  };
  const auto is_cast = [&](int32_t i, DType to) {
    return i < static_cast<int32_t>(code.size()) && code[static_cast<size_t>(i)].op == ScalarOp::Cast &&
           code[static_cast<size_t>(i)].dtype == to && code[static_cast<size_t>(i)].args[0] == i - 1;
  };
  std::vector<ChainStep> steps;
  int32_t before = 0;  // inputs come first, in order
  for (int32_t i = 0; i < static_cast<int32_t>(code.size()); ++i) {
    const ScalarInstr& instr = code[static_cast<size_t>(i)];
    if (instr.op == ScalarOp::Cast && instr.dtype == DType::F16 && instr.args[0] == before &&
        is_cast(i + 1, DType::F32)) {
      steps.push_back({TileOp::Half, 0, 0.0F});
      before = ++i;
      continue;
    }
    if (instr.dtype != DType::F32) return std::nullopt;
    if (instr.op == ScalarOp::Input || instr.op == ScalarOp::Const) continue;
    const auto op = op_of(instr.op);
    if (!op) return std::nullopt;
    int32_t other = instr.args[1];
    const bool turns = *op == TileOp::Add || *op == TileOp::Multiply;
    if (instr.args[0] != before) {
      if (!turns || other != before) return std::nullopt;
      other = instr.args[0];
    }
    if (!is_operand(other)) return std::nullopt;
    const ScalarInstr& operand = code[static_cast<size_t>(other)];
    const bool number = operand.op == ScalarOp::Const;
    steps.push_back({*op, number ? 0 : operand.args[0], number ? static_cast<float>(operand.real) : 0.0F});
    before = i;
  }
  return steps;
}

}  // namespace tenon::cpu
