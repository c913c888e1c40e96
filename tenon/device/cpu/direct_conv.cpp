#include "tenon/device/cpu/direct_conv.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "tenon/device/cpu/copy.h"
#include "tenon/device/cpu/product.h"

namespace tenon::cpu {
namespace {

constexpr int64_t kLongSum = 1536;           // products from which on a panel is narrow, so that it stays in the cache
constexpr int64_t kChunk = 16 * 1024;        // bytes of input that all panels run over, where
constexpr int64_t kFewWeights = 512 * 1024;  // … the weights have no more bytes than this
constexpr int64_t kDepthwiseTile = 2048;     // elements
constexpr int64_t kFewPlaces = 512;          // of the examples that go together, …
constexpr int64_t kTogether = 1024 * 1024;   // … and bytes of their input
constexpr int64_t kPartProducts = 512 * 1024;  // multiply-adds of one part, at least

int64_t rounded_up(int64_t x, int64_t to) { return (x + to - 1) / to * to; }

// Strides of a tensor [n, channels, spatial…] as {n, depth, height, width, channel}.
struct Strides {
  std::array<int64_t, 4> place{};  // of the axes that places have
  int64_t channel = 0;
};
Strides strides_of(const Shape& strides, int axes) {
  Strides s;
  s.place[0] = strides[0];
  s.channel = strides[1];
  const auto count = static_cast<size_t>(axes);
  for (size_t d = 0; d < count; ++d) s.place[4 - count + d] = strides[2 + d];
  return s;
}

enum class Reach : uint8_t { One, Channels, All };  // of an operand

struct Operand {
  const float* data;
  Strides strides;
  Reach reach;
};

// Columns of `operand` from `filter` on, for all places of the tile.
void load_operand(const Operand& operand, int64_t at, int64_t step, int64_t places, float* to, int64_t columns,
                  int64_t filters) {
  const int64_t channel = operand.strides.channel;
  for (int64_t i = 0; i < places; ++i, to += columns) {
    const float* from = operand.data + at + i * step;
    if (channel == 1) {
      std::memcpy(to, from, static_cast<size_t>(filters) * sizeof(float));
    } else {
      for (int64_t c = 0; c < filters; ++c) to[c] = from[c * channel];
    }
  }
}

}  // namespace

// The places of the result as rows: axes that run on in every tensor are one.
struct DirectConv::Space {
  std::array<int64_t, 4> extent{};
  int64_t rows = 1, width = 1;

  // For each tensor the strides of its place axes, innermost last; axes that vanish have extent 1.
  void merge(std::vector<std::array<int64_t, 4>*> tensors) {
    for (size_t d = 3; d-- > 0;) {
      if (extent[3] == 1) {
        for (auto* t : tensors) (*t)[3] = (*t)[d];
      }
      const bool one = std::all_of(tensors.begin(), tensors.end(), [&](const auto* t) {
        return extent[d] == 1 || extent[3] == 1 || (*t)[d] == (*t)[3] * extent[3];
      });
      if (!one) break;
      extent[3] *= extent[d];
      extent[d] = 1;
    }
    width = extent[3];
    rows = extent[0] * extent[1] * extent[2];
  }
  [[nodiscard]] int64_t offset(const std::array<int64_t, 4>& strides, int64_t row) const {
    int64_t at = row % extent[2] * strides[2];
    row /= extent[2];
    return at + row % extent[1] * strides[1] + row / extent[1] * strides[0];
  }
};

struct DirectConv::Job {
  Space space;
  const float* x = nullptr;
  std::array<int64_t, 4> x_step{};  // from a place to the next one's input
  std::vector<int64_t> taps;
  int64_t run = 1;
  float* y = nullptr;
  Strides y_strides;
  std::vector<Operand> operands;
  int64_t tile_rows = 1;     // places of a tile, at most
  int64_t tiles_of_row = 1;  // 0: two rows of places make one tile
  int64_t tiles = 0;

  // Runs of places that a tile consists of.
  struct Piece {
    int64_t row, first, count;
  };
  struct Tile {
    Piece piece[2];
    int pieces = 1;
    [[nodiscard]] int64_t places() const { return piece[0].count + (pieces == 2 ? piece[1].count : 0); }
  };
  [[nodiscard]] Tile tile(int64_t t) const {
    if (tiles_of_row == 0) {
      Tile two{{{2 * t, 0, space.width}, {2 * t + 1, 0, space.width}}, 2};
      if (2 * t + 1 == space.rows) two.pieces = 1;
      return two;
    }
    const int64_t row = t / tiles_of_row, i = t % tiles_of_row;
    const int64_t first = space.width * i / tiles_of_row;
    return {{{row, first, space.width * (i + 1) / tiles_of_row - first}, {}}, 1};
  }
  // What stands between the sums in `block` [places, columns] and the result: the program, and the way to memory.
  void finish(const Tile& tile, const TileProgram* after, TileProgram::Room* room, float* block, int64_t columns,
              int64_t filter, int64_t filters) const;
};

void DirectConv::Job::finish(const Tile& tile, const TileProgram* after, TileProgram::Room* room, float* block,
                             int64_t columns, int64_t filter, int64_t filters) const {
  if (after != nullptr) {
    for (size_t k = 0; k < operands.size(); ++k) {
      const Operand& operand = operands[k];
      if (operand.reach != Reach::All) continue;
      float* to = room->input(static_cast<int>(k) + 1);
      for (int p = 0; p < tile.pieces; ++p) {
        const Piece& piece = tile.piece[p];
        const int64_t at = space.offset(operand.strides.place, piece.row) + piece.first * operand.strides.place[3] +
                           filter * operand.strides.channel;
        load_operand(operand, at, operand.strides.place[3], piece.count, to, columns, filters);
        to += piece.count * columns;
      }
    }
    block = after->run(*room, block, tile.places() * columns);
  }
  for (int p = 0; p < tile.pieces; ++p) {
    const Piece& piece = tile.piece[p];
    const int64_t step = y_strides.place[3], channel = y_strides.channel;
    float* to = y + space.offset(y_strides.place, piece.row) + piece.first * step + filter * channel;
    if (channel == 1) {
      for (int64_t i = 0; i < piece.count; ++i)
        std::memcpy(to + i * step, block + i * columns, static_cast<size_t>(filters) * sizeof(float));
    } else {
      for (int64_t c = 0; c < filters; ++c) {
        float* row = to + c * channel;
        for (int64_t i = 0; i < piece.count; ++i) row[i * step] = block[i * columns + c];
      }
    }
    block += piece.count * columns;
  }
}

namespace {

// Operands that are the same for every place, repeated for each place of a tile.
void load_repeated(const std::vector<Operand>& operands, TileProgram::Room& room, Reach reach, int64_t places,
                   int64_t columns, int64_t filter, int64_t filters) {
  for (size_t k = 0; k < operands.size(); ++k) {
    if (operands[k].reach != reach) continue;
    float* to = room.input(static_cast<int>(k) + 1);
    if (reach == Reach::One) {
      std::fill_n(to, places * columns, *operands[k].data);
      continue;
    }
    load_operand(operands[k], filter * operands[k].strides.channel, 0, places, to, columns, filters);
  }
}

}  // namespace

DirectConv::DirectConv(const ConvShape& shape, const LevelTable& level, const std::optional<ir::ScalarProgram>& after)
    : s_(moved_to_the_end(shape)), loops_(level.tiles) {
  if (after) after_.emplace(level, *after);
  depthwise_ = s_.groups == s_.channels && s_.filters == s_.channels;
  channel_stride_ = depthwise_ ? rounded_up(s_.channels, loops_.lanes) : s_.channels;
  for (size_t d = 0; d < 3; ++d) padded_[d] = (s_.out[d] - 1) * s_.stride[d] + s_.dilation[d] * (s_.window[d] - 1) + 1;
  merged_ = s_.groups == 1 && s_.dilation[2] == 1;
  depth_ = s_.channels / s_.groups * ConvShape::volume(s_.window);
  if (!depthwise_) choose_tile();
}

// Panels that leave few columns empty; of those, wide ones read the input less often, narrow ones the weights.
void DirectConv::choose_tile() {
  const int64_t filters = s_.filters / s_.groups;
  const bool narrow = depth_ > kLongSum || s_.out[2] <= kTileSegment;
  int64_t best = 0;
  for (const int n : narrow ? std::array{2, 3, 4, 1} : std::array{4, 3, 2, 1}) {
    if (loops_.most_rows[n] == 0) continue;
    const int64_t columns = rounded_up(filters, static_cast<int64_t>(n) * loops_.lanes);
    if (best != 0 && columns >= best) continue;
    best = columns;
    vectors_ = n;
  }
  columns_ = static_cast<int64_t>(vectors_) * loops_.lanes;
  panels_ = best / columns_;
}

Ref<Buffer> DirectConv::pack(const float* weight) const {
  const int64_t taps = ConvShape::volume(s_.window), channels = s_.channels / s_.groups;
  if (depthwise_) {
    Ref<Buffer> packed = Buffer::allocate(static_cast<size_t>(taps * channel_stride_) * sizeof(float));
    auto* to = reinterpret_cast<float*>(packed->data());
    std::fill_n(to, taps * channel_stride_, 0.0F);
    for (int64_t c = 0; c < s_.channels; ++c) {
      for (int64_t t = 0; t < taps; ++t) to[t * channel_stride_ + c] = weight[c * taps + t];
    }
    return packed;
  }
  const int64_t filters = s_.filters / s_.groups;
  Ref<Buffer> packed = Buffer::allocate(static_cast<size_t>(s_.groups * panels_ * depth_ * columns_) * sizeof(float));
  auto* to = reinterpret_cast<float*>(packed->data());
  for (int64_t g = 0; g < s_.groups; ++g) {
    for (int64_t p = 0; p < panels_; ++p, to += depth_ * columns_) {
      const int64_t count = std::min(columns_, filters - p * columns_);
      const float* from = weight + (g * filters + p * columns_) * depth_;
      if (taps == 1) {
        pack_panel(from, 1, depth_, depth_, count, to, columns_, loops_);
        continue;
      }
      if (count < columns_) std::fill_n(to, depth_ * columns_, 0.0F);
      for (int64_t c = 0; c < channels; ++c)
        loops_.transpose(from + c * taps, depth_, count, taps, to + c * columns_, channels * columns_);
    }
  }
  return packed;
}

// One example with its padding, channels last.
void DirectConv::place(const ConstView& x, float* to, ThreadPool& pool) const {
  const Strides from = strides_of(x.strides, s_.axes);
  const int64_t row_size = padded_[2] * channel_stride_;
  std::array<int64_t, 3> begin{}, count{};
  for (size_t d = 0; d < 3; ++d) {
    begin[d] = std::clamp<int64_t>(s_.low[d], 0, padded_[d]);
    count[d] = std::max<int64_t>(0, std::min(padded_[d], s_.in[d] + s_.low[d]) - begin[d]);
  }
  const bool inside_row = count[2] > 0;
  for (int64_t d = 0; d < padded_[0]; ++d) {
    for (int64_t h = 0; h < padded_[1]; ++h) {
      float* row = to + (d * padded_[1] + h) * row_size;
      const bool inside =
          inside_row && d >= begin[0] && d < begin[0] + count[0] && h >= begin[1] && h < begin[1] + count[1];
      if (!inside || channel_stride_ != s_.channels) {
        std::fill_n(row, row_size, 0.0F);
      } else {
        std::fill_n(row, begin[2] * channel_stride_, 0.0F);
        std::fill(row + (begin[2] + count[2]) * channel_stride_, row + row_size, 0.0F);
      }
    }
  }
  if (!inside_row || count[0] == 0 || count[1] == 0) return;
  const Shape shape{count[0], count[1], count[2], s_.channels};
  ConstView in{x.data, x.dtype, shape, {from.place[1], from.place[2], from.place[3], from.channel}, x.offset};
  View out{reinterpret_cast<std::byte*>(to), x.dtype, shape, {padded_[1] * row_size, row_size, channel_stride_, 1}, 0};
  for (size_t d = 0; d < 3; ++d) {
    in.offset += (begin[d] - s_.low[d]) * in.strides[d];
    out.offset += begin[d] * out.strides[d];
  }
  copy(in, out, pool);
}

Ref<Buffer> DirectConv::take_space(int64_t bytes) const {
  {
    const std::lock_guard lock(mutex_);
    while (!spaces_.empty()) {
      Ref<Buffer> space = std::move(spaces_.back());
      spaces_.pop_back();
      if (space->size() >= static_cast<size_t>(bytes)) return space;
    }
  }
  return Buffer::allocate(static_cast<size_t>(bytes));
}
void DirectConv::give_back(Ref<Buffer> space) const {
  const std::lock_guard lock(mutex_);
  spaces_.push_back(std::move(space));
}

void DirectConv::run(const ConstView& x, std::span<const ConstView> operands, const View& y, ThreadPool& pool) const {
  const int64_t n = y.shape[0];
  if (numel(y.shape) == 0) return;
  Job job;
  job.y = y.as<float>();
  job.y_strides = strides_of(y.strides, s_.axes);
  for (const ConstView& o : operands) {
    const Strides strides = strides_of(o.strides, s_.axes);
    const bool everywhere = std::all_of(strides.place.begin(), strides.place.end(), [](int64_t v) { return v == 0; });
    const Reach reach = !everywhere ? Reach::All : strides.channel != 0 ? Reach::Channels : Reach::One;
    job.operands.push_back({o.as<float>(), strides, reach});
  }
  Strides from = strides_of(x.strides, s_.axes);
  const auto zero = [](const ConvShape::Extents& e) { return e == ConvShape::Extents{0, 0, 0}; };
  const bool as_it_is =
      from.channel == 1 && zero(s_.low) && zero(s_.high) && channel_stride_ == s_.channels && numel(x.shape) != 0;
  const auto run_on = [&](Job& part, const float* data, const Strides& strides, int64_t examples, ThreadPool& threads) {
    part.x = data;
    part.space.extent = {examples, s_.out[0], s_.out[1], s_.out[2]};
    part.x_step[0] = strides.place[0];
    for (size_t d = 0; d < 3; ++d) part.x_step[d + 1] = strides.place[d + 1] * s_.stride[d];
    const bool merged = merged_ && strides.place[3] == s_.channels;
    part.run = depthwise_ ? 1 : s_.channels / s_.groups * (merged ? s_.window[2] : 1);
    for (int64_t d = 0; d < s_.window[0]; ++d) {
      for (int64_t h = 0; h < s_.window[1]; ++h) {
        for (int64_t w = 0; w < (merged ? 1 : s_.window[2]); ++w)
          part.taps.push_back(d * s_.dilation[0] * strides.place[1] + h * s_.dilation[1] * strides.place[2] +
                              w * s_.dilation[2] * strides.place[3]);
      }
    }
    run_placed(part, threads);
  };
  if (as_it_is) {
    run_on(job, x.as<float>(), from, n, pool);
    return;
  }
  const int64_t size = ConvShape::volume(padded_) * channel_stride_;
  // Examples of few places go together, so that weights are read once for all of them.
  const int64_t bytes = std::max<int64_t>(1, size * static_cast<int64_t>(sizeof(float)));  // no channels, no bytes
  const int64_t most = std::max<int64_t>(1, kTogether / bytes);
  const int64_t wanted = std::min(kFewPlaces / ConvShape::volume(s_.out), n / (2 * pool.threads()));
  const int64_t together = std::clamp<int64_t>(wanted, 1, most);
  const auto examples = [&](int64_t group) {
    const int64_t first = group * together, count = std::min(together, n - first);
    Ref<Buffer> space = take_space(count * size * static_cast<int64_t>(sizeof(float)));
    auto* placed = reinterpret_cast<float*>(space->data());
    for (int64_t i = 0; i < count; ++i) {
      ConstView one = x;
      one.offset += (first + i) * x.strides[0];
      place(one, placed + i * size, pool);
    }
    Job part = job;
    part.y += first * part.y_strides.place[0];
    for (Operand& o : part.operands) o.data += first * o.strides.place[0];
    const int64_t row = padded_[2] * channel_stride_;
    run_on(part, placed, {{size, padded_[1] * row, row, channel_stride_}, 1}, count, pool);
    give_back(std::move(space));
  };
  const int64_t groups = (n + together - 1) / together;
  if (groups < 2 * pool.threads()) {
    for (int64_t g = 0; g < groups; ++g) examples(g);
  } else {
    pool.run(groups, examples);
  }
}

void DirectConv::run_placed(const Job& given, ThreadPool& pool) const {
  Job job = given;
  std::vector<std::array<int64_t, 4>*> tensors{&job.x_step, &job.y_strides.place};
  for (Operand& o : job.operands) {
    if (o.reach == Reach::All) tensors.push_back(&o.strides.place);
  }
  job.space.merge(tensors);
  const int64_t products = job.space.rows * job.space.width * s_.filters * depth_;
  const int64_t threads = products < 2 * kPartProducts ? 1 : pool.threads();
  if (depthwise_) {
    const int64_t parts = threads == 1 ? 1 : std::min<int64_t>(job.space.rows, 4 * threads);
    pool.run(parts,
             [&](int64_t p) { run_depthwise(job, job.space.rows * p / parts, job.space.rows * (p + 1) / parts); });
    return;
  }
  job.tile_rows = loops_.most_rows[vectors_];
  const bool pairs = job.space.width == kTileSegment && job.tile_rows == 2 * kTileSegment && job.space.rows > 1;
  job.tiles_of_row = pairs ? 0 : (job.space.width + job.tile_rows - 1) / job.tile_rows;
  job.tiles = pairs ? (job.space.rows + 1) / 2 : job.space.rows * job.tiles_of_row;
  const int64_t panels = s_.groups * panels_;
  // Each thread its own weights where these are more than the places; the bits are the same either way.
  const bool by_panel =
      panels >= 2 * threads && depth_ * s_.filters > 4 * job.space.rows * job.space.width * s_.channels;
  const int64_t units = by_panel ? panels : job.tiles;
  const int64_t parts = threads == 1 ? 1 : std::min(units, 4 * threads);
  pool.run(parts, [&](int64_t p) {
    const int64_t first = units * p / parts, end = units * (p + 1) / parts;
    if (by_panel) {
      run_tiles(job, 0, job.tiles, first, end);
    } else {
      run_tiles(job, first, end, 0, panels);
    }
  });
}

void DirectConv::run_tiles(const Job& job, int64_t first, int64_t end, int64_t panel, int64_t panel_end) const {
  alignas(64) float block[kTileRows * kTileVectors * 16] = {};
  std::optional<TileProgram::Room> room;
  const TileProgram* after = after_ ? &*after_ : nullptr;
  if (after != nullptr) {
    room.emplace(*after, job.tile_rows * columns_);
    load_repeated(job.operands, *room, Reach::One, job.tile_rows, columns_, 0, 0);
  }
  const int64_t filters = s_.filters / s_.groups;
  const bool few_weights = (panel_end - panel) * depth_ * columns_ * static_cast<int64_t>(sizeof(float)) <= kFewWeights;
  const int64_t bytes = job.tile_rows * job.x_step[3] * static_cast<int64_t>(sizeof(float));
  const int64_t chunk = few_weights ? std::max<int64_t>(1, kChunk / std::max<int64_t>(1, bytes)) : end - first;
  const auto* weights = reinterpret_cast<const float*>(weights_->data());
  for (int64_t begin = first; begin < end; begin += chunk) {
    for (int64_t p = panel; p < panel_end; ++p) {
      const int64_t group = p / panels_, filter = group * filters + p % panels_ * columns_;
      const int64_t count = std::min(columns_, filters - p % panels_ * columns_);
      if (after != nullptr) load_repeated(job.operands, *room, Reach::Channels, job.tile_rows, columns_, filter, count);
      const int vectors = static_cast<int>((count + loops_.lanes - 1) / loops_.lanes);
      Tile tile{};
      tile.step = job.x_step[3];
      tile.jump = kTileSegment * job.x_step[3];
      tile.x_step = 1;
      tile.taps = job.taps.data();
      tile.tap_count = static_cast<int64_t>(job.taps.size());
      tile.run = job.run;
      tile.weight = tile.next = weights + p * depth_ * columns_;
      tile.weight_step = columns_;
      tile.y = block;
      tile.y_step = columns_;
      tile.last = static_cast<int>(count - static_cast<int64_t>(vectors - 1) * loops_.lanes);
      for (int64_t t = begin; t < std::min(end, begin + chunk); ++t) {
        const Job::Tile places = job.tile(t);
        const Job::Piece& piece = places.piece[0];
        const int64_t x = job.space.offset(job.x_step, piece.row);
        tile.x = job.x + x + piece.first * job.x_step[3] + group * (s_.channels / s_.groups);
        if (places.pieces == 2) tile.jump = job.space.offset(job.x_step, places.piece[1].row) - x;
        const bool straight = after == nullptr && places.pieces == 1 && job.y_strides.channel == 1;
        if (straight) {
          tile.y =
              job.y + job.space.offset(job.y_strides.place, piece.row) + piece.first * job.y_strides.place[3] + filter;
          tile.y_step = job.y_strides.place[3];
        }
        loops_.tile[vectors][places.places()](tile);
        if (!straight) job.finish(places, after, room ? &*room : nullptr, block, columns_, filter, count);
      }
    }
  }
}

void DirectConv::run_depthwise(const Job& job, int64_t first, int64_t end) const {
  const int64_t most = std::clamp<int64_t>(kDepthwiseTile / channel_stride_, 1, job.space.width);
  std::vector<float> block(static_cast<size_t>(most * channel_stride_));
  std::optional<TileProgram::Room> room;
  const TileProgram* after = after_ ? &*after_ : nullptr;
  if (after != nullptr) {
    room.emplace(*after, most * channel_stride_);
    load_repeated(job.operands, *room, Reach::One, most, channel_stride_, 0, 0);
    load_repeated(job.operands, *room, Reach::Channels, most, channel_stride_, 0, s_.channels);
  }
  DepthwiseRow row{nullptr,
                   job.x_step[3],
                   0,
                   channel_stride_,
                   job.taps.data(),
                   static_cast<int64_t>(job.taps.size()),
                   reinterpret_cast<const float*>(weights_->data()),
                   block.data(),
                   channel_stride_};
  for (int64_t r = first; r < end; ++r) {
    const float* x = job.x + job.space.offset(job.x_step, r);
    for (int64_t at = 0; at < job.space.width; at += most) {
      row.x = x + at * job.x_step[3];
      row.places = std::min(most, job.space.width - at);
      loops_.depthwise(row);
      const Job::Tile places{{{r, at, row.places}, {}}, 1};
      job.finish(places, after, room ? &*room : nullptr, block.data(), channel_stride_, 0, s_.channels);
    }
  }
}

}  // namespace tenon::cpu
