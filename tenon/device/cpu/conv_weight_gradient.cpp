#include <algorithm>
#include <vector>

#include "tenon/device/cpu/conv_gradients.h"
#include "tenon/device/cpu/conv_plan.h"
#include "tenon/device/cpu/pieces.h"
#include "tenon/device/cpu/pointwise.h"
#include "tenon/device/cpu/winograd.h"
#include "tenon/tensor/buffer.h"

namespace tenon::cpu {
namespace {

constexpr int64_t kTogether = 1024 * 1024;              // bytes of x and dy of the examples that go together, …
constexpr int64_t kTogetherInBlocks = 4 * 1024 * 1024;  // … and where channels lie in blocks
constexpr int64_t kManyChannels = 256;                  // from which on they lie in blocks
constexpr int64_t kPlaces = 192;                        // of a tile's sum, from which it goes on in the next one
constexpr int64_t kDepthwisePlaces = 64;                // the same where each channel is by itself; bits depend on it

// A tile is (tap, channel) by filters: rows of it are neighbours in the placed input, its columns a panel of dy, and
// its sum runs over places. The sums lie as panels [group, panel of filters, tap, channel, filter], those of channels
// by themselves as [tap, channel].
class WeightGradient {
 public:
  WeightGradient(const ConvShape& s, const LevelTable& level)
      : s_(s),
        loops_(level.tiles),
        add_(level.loop[static_cast<size_t>(ir::ScalarOp::Add)][static_cast<size_t>(DType::F32)]),
        depthwise_(s.groups == s.channels && s.filters == s.channels),
        blocked_(!depthwise_ && s.channels / s.groups >= kManyChannels),
        merged_(!blocked_ && s.groups == 1 && s.dilation[2] == 1),
        channels_(s.channels / s.groups),
        filters_(s.filters / s.groups),
        taps_(ConvShape::volume(s.window)) {
    // Narrow panels have the most places at a time.
    if (!depthwise_) panels_ = panels_of(filters_, loops_, std::array{2, 3, 4, 1});
    int64_t channel_stride = depthwise_ ? rounded_up(s.channels, loops_.lanes) : s.channels;
    if (blocked_) {
      blocks_ = parts_of(channels_, loops_.most_rows[panels_.vectors]);
      channel_stride = parts_of(channels_, blocks_);
    }
    x_ = placed_input(s, channel_stride);
    starts_ = tap_offsets(s, x_.strides(), merged_ || depthwise_);
    length_ = merged_ ? channels_ * s.window[2] : channels_;
    if (depthwise_) {
      columns_ = channel_stride;
      sums_ = taps_ * channel_stride;
    } else {
      columns_ = panels_.columns;
      sums_ = s.groups * panels_.count * taps_ * channels_ * columns_;
    }
    dy_ = {.in = s.out, .low = {}, .extent = s.out, .channels = filters_, .channel_stride = columns_};
    find_rows();
    parts_ = batch_parts(s.n, s.weight_size(), ConvShape::volume(s.out));
    const int64_t elements = ConvShape::volume(x_.extent) * s.channels + s.y_size();
    together_ = std::clamp<int64_t>((blocked_ ? kTogetherInBlocks : kTogether) / (elements * kFloat), 1, s.n);
  }

  void run(const ConstView& x, const ConstView& dy, float* dw, ThreadPool& pool) const {
    const Ref<Buffer> memory = Buffer::allocate_scratch(static_cast<size_t>(parts_ * sums_ * kFloat));
    auto* sums = reinterpret_cast<float*>(memory->data());
    const auto part = [&](int64_t p) { add_part(x, dy, p, sums + p * sums_, pool); };
    if (parts_ < 2 * pool.threads()) {
      for (int64_t p = 0; p < parts_; ++p) part(p);
    } else {
      pool.run(parts_, part);
    }
    const int64_t panels = depthwise_ ? 1 : s_.groups * panels_.count, size = sums_ / panels;
    pool.run(panels, [&](int64_t panel) {
      float* sum = sums + panel * size;
      for (int64_t p = 1; p < parts_; ++p) add_(sum, sum, sum + p * sums_, nullptr, size);
      store(sum, panel, dw);
    });
  }

 private:
  // The places of an example: `rows_` rows of `width_` of them.
  void find_rows() {
    const PlaceStrides strides = x_.strides();
    x_step_ = strides.place[3] * s_.stride[2];
    width_ = s_.out[2];
    const bool runs_on = s_.out[1] == 1 || strides.place[2] * s_.stride[1] == width_ * x_step_;
    if (runs_on) width_ *= s_.out[1];
    for (int64_t d = 0; d < s_.out[0]; ++d) {
      for (int64_t h = 0; h < (runs_on ? 1 : s_.out[1]); ++h)
        rows_.push_back(d * s_.stride[0] * strides.place[1] + h * s_.stride[1] * strides.place[2]);
    }
  }

  struct Examples {
    int64_t first, count;
    float *x, *dy;  // placed
    [[nodiscard]] int64_t places(const PlacedInput& of_one) const { return count * ConvShape::volume(of_one.extent); }
  };

  // The sums over the p-th part of the batch.
  void add_part(const ConstView& x, const ConstView& dy, int64_t p, float* sums, ThreadPool& pool) const {
    const int64_t begin = s_.n * p / parts_, end = s_.n * (p + 1) / parts_;
    const int64_t dy_size = (depthwise_ ? 1 : s_.groups * panels_.count) * dy_.size();
    const int64_t most = std::min(together_, end - begin);
    const int64_t x_size = (blocked_ ? s_.groups * blocks_ : 1) * x_.distance();
    const Ref<Buffer> space = Buffer::allocate_scratch(static_cast<size_t>(most * (x_size + dy_size) * kFloat));
    auto* memory = reinterpret_cast<float*>(space->data());
    for (int64_t i = begin; i < end; i += most) {
      const Examples examples{i, std::min(most, end - i), memory, memory + most * x_size};
      place(x, dy, examples, pool);
      if (depthwise_) {
        add_depthwise(examples, i == begin, sums);
      } else {
        add_tiles(examples, i == begin, sums, pool);
      }
    }
  }

  void place(const ConstView& x, const ConstView& dy, const Examples& e, ThreadPool& pool) const {
    const PlaceStrides of_x = place_strides(x.strides), of_dy = place_strides(dy.strides);
    const int64_t panels = depthwise_ ? 1 : s_.groups * panels_.count, panel_size = e.count * dy_.size();
    const auto one = [&](int64_t i) {
      const float* element = x.as<float>() + (e.first + i) * of_x.place[0];
      for (int64_t b = 0; b < (blocked_ ? s_.groups * blocks_ : 1); ++b) {
        PlacedInput block = x_;
        if (blocked_) block.channels = first_of_block(b % blocks_ + 1) - first_of_block(b % blocks_);
        const int64_t first = blocked_ ? b / blocks_ * channels_ + first_of_block(b % blocks_) : 0;
        block.place(element + first * of_x.channel, of_x, e.x + (b * e.count + i) * x_.distance(), loops_, pool);
      }
      const float* from = dy.as<float>() + (e.first + i) * of_dy.place[0];
      for (int64_t p = 0; p < panels; ++p) {
        PlacedInput panel = dy_;
        const int64_t filter = depthwise_ ? 0 : p % panels_.count * columns_;
        panel.channels = depthwise_ ? s_.filters : std::min(columns_, filters_ - filter);
        const int64_t first = depthwise_ ? 0 : p / panels_.count * filters_ + filter;
        panel.place(from + first * of_dy.channel, of_dy, e.dy + p * panel_size + i * dy_.size(), loops_, pool);
      }
    };
    if (e.count < 2 * pool.threads()) {
      for (int64_t i = 0; i < e.count; ++i) one(i);
    } else {
      pool.run(e.count, one);
    }
  }

  // Places whose sums go together: `count` rows of `width`.
  struct Block {
    int64_t place;      // the first one, of all
    size_t row, count;  // of `at`
    int64_t width;
  };
  struct Blocks {
    std::vector<int64_t> at;  // where each row's input begins
    std::vector<Block> list;
  };
  [[nodiscard]] Blocks blocks_of(int64_t examples, int64_t most) const {
    Blocks b;
    // Long rows are cut.
    const int64_t pieces = parts_of(width_, 2 * most) == 1 ? 1 : parts_of(width_, most);
    const int64_t together = pieces == 1 ? std::max<int64_t>(1, most / width_) : 1;
    int64_t place = 0;
    for (int64_t i = 0; i < examples; ++i) {
      for (const int64_t row : rows_) {
        for (int64_t p = 0; p < pieces; ++p) {
          const int64_t first = width_ * p / pieces, width = width_ * (p + 1) / pieces - first;
          b.at.push_back(i * x_.distance() + row + first * x_step_);
          if (b.list.empty() || static_cast<int64_t>(b.list.back().count) == together)
            b.list.push_back({place, b.at.size() - 1, 0, width});
          ++b.list.back().count;
          place += width;
        }
      }
    }
    return b;
  }

  [[nodiscard]] int64_t first_of_block(int64_t b) const { return channels_ * b / blocks_; }

  // Rows of one tile: where their input begins from a place's, and their place among the sums.
  struct Rows {
    int64_t x, row, count;
  };
  [[nodiscard]] std::vector<Rows> tiles_of(int64_t examples) const {
    std::vector<Rows> tiles;
    if (blocked_) {
      for (int64_t b = 0; b < blocks_; ++b) {
        const int64_t first = first_of_block(b), count = first_of_block(b + 1) - first;
        for (int64_t t = 0; t < taps_; ++t)
          tiles.push_back(
              {b * examples * x_.distance() + starts_[static_cast<size_t>(t)], t * channels_ + first, count});
      }
      return tiles;
    }
    const int64_t pieces = parts_of(length_, loops_.most_rows[panels_.vectors]);
    for (size_t i = 0; i < starts_.size(); ++i) {
      for (int64_t p = 0; p < pieces; ++p) {
        const int64_t first = length_ * p / pieces, count = length_ * (p + 1) / pieces - first;
        tiles.push_back({starts_[i] + first, static_cast<int64_t>(i) * length_ + first, count});
      }
    }
    return tiles;
  }

  void add_tiles(const Examples& e, bool first, float* sums, ThreadPool& pool) const {
    const Blocks blocks = blocks_of(e.count, kPlaces);
    const std::vector<Rows> tiles = tiles_of(e.count);
    const int64_t places = e.places(dy_);
    const int64_t group = blocked_ ? blocks_ * e.count * x_.distance() : channels_;
    pool.run(s_.groups * panels_.count, [&](int64_t panel) {
      Tile t{};
      t.step = 1;
      t.jump = kTileSegment;
      t.x_step = x_step_;
      t.weight_step = t.y_step = columns_;
      t.last = loops_.lanes;
      const float* x = e.x + panel / panels_.count * group;
      float* sum = sums + panel * taps_ * channels_ * columns_;
      for (const Block& block : blocks.list) {
        t.taps = blocks.at.data() + block.row;
        t.tap_count = static_cast<int64_t>(block.count);
        t.run = block.width;
        t.weight = t.next = e.dy + (panel * places + block.place) * columns_;
        const bool from_zero = first && &block == blocks.list.data();
        for (size_t i = 0; i < tiles.size(); ++i) {
          const Rows& rows = tiles[i];
          t.x = x + rows.x;
          t.y = sum + rows.row * columns_;
          t.from = from_zero ? nullptr : t.y;
          t.soon = sum + tiles[i + 1 < tiles.size() ? i + 1 : 0].row * columns_;
          loops_.tile[panels_.vectors][rows.count](t);
        }
      }
    });
  }

  void add_depthwise(const Examples& e, bool first, float* sums) const {
    const Blocks blocks = blocks_of(e.count, kDepthwisePlaces);
    std::vector<float> sum(static_cast<size_t>(s_.window[2] * columns_));
    const auto size = static_cast<int64_t>(sum.size());
    std::vector<DepthwiseTap> places;
    DepthwiseRow row{};
    row.step = s_.dilation[2] * columns_;
    row.places = s_.window[2];
    row.channels = row.y_step = columns_;
    row.y = sum.data();
    for (const Block& block : blocks.list) {
      places.clear();
      for (size_t r = block.row; r < block.row + block.count; ++r) {
        for (int64_t w = 0; w < block.width; ++w)
          places.push_back({blocks.at[r] + w * x_step_, static_cast<int64_t>(places.size()) * columns_});
      }
      row.taps = places.data();
      row.tap_count = static_cast<int64_t>(places.size());
      row.weight = e.dy + block.place * columns_;
      const bool from_zero = first && &block == blocks.list.data();
      for (size_t i = 0; i < starts_.size(); ++i) {
        row.x = e.x + starts_[i];
        float* to = sums + static_cast<int64_t>(i) * size;
        row.y = from_zero ? to : sum.data();
        loops_.depthwise(row);
        if (!from_zero) add_(to, to, sum.data(), nullptr, size);
      }
    }
  }

  // From one panel of sums to dw [filter, channel, tap].
  void store(const float* sum, int64_t panel, float* dw) const {
    if (depthwise_) {
      loops_.transpose(sum, columns_, taps_, s_.channels, dw, taps_);
      return;
    }
    const int64_t filter = panel % panels_.count * columns_, count = std::min(columns_, filters_ - filter);
    const int64_t size = channels_ * taps_;
    float* to = dw + (panel / panels_.count * filters_ + filter) * size;
    if (taps_ == 1) {
      loops_.transpose(sum, columns_, channels_, count, to, size);
      return;
    }
    for (int64_t c = 0; c < channels_; ++c)
      loops_.transpose(sum + c * columns_, channels_ * columns_, taps_, count, to + c * taps_, size);
  }

  ConvShape s_;
  const TileLoops& loops_;
  LoopFn add_;
  bool depthwise_, blocked_, merged_;
  int64_t channels_, filters_;  // of a group
  int64_t taps_;
  PlacedInput x_, dy_;           // dy: one panel of it
  std::vector<int64_t> starts_;  // where rows of tiles begin, from a place's input
  int64_t length_ = 0;           // of each, in rows
  int64_t blocks_ = 1;           // of a group's channels
  Panels panels_{1, 0, 1};       // of a group's filters
  int64_t columns_ = 0;          // of a row of sums
  std::vector<int64_t> rows_;    // of places, in one example
  int64_t width_ = 0, x_step_ = 0;
  int64_t sums_ = 0;  // floats
  int64_t parts_ = 1, together_ = 1;
};

}  // namespace

void conv_weight_gradient(const ConvShape& shape, const ConstView& x, const ConstView& dy, float* dw,
                          const LevelTable& level, ThreadPool& pool) {
  if (shape.weight_size() == 0) return;
  if (shape.n == 0 || shape.x_size() == 0 || shape.y_size() == 0) {
    std::fill_n(dw, shape.weight_size(), 0.0F);
    return;
  }
  if (is_pointwise(shape, x, dy)) {
    pointwise_weight_gradient(shape, x, dy, dw, level, pool);
    return;
  }
  const ConvShape s = moved_to_the_end(shape);
  if (winograd_takes_weight_gradient(s)) {
    winograd_weight_gradient(s, x, dy, dw, level, pool);
  } else {
    WeightGradient(s, level).run(x, dy, dw, pool);
  }
}

}  // namespace tenon::cpu
