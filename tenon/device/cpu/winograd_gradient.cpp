#include <algorithm>
#include <array>
#include <vector>

#include "tenon/device/cpu/pieces.h"
#include "tenon/device/cpu/winograd.h"

namespace tenon::cpu {
namespace {

constexpr int64_t kBlock = 128;    // tiles whose sums go together
constexpr int64_t kFewTiles = 64;  // below which the transforms of the sums cost too much

// Products of the transformed inputs v [16, tile, channel] and cotangents z [16, panel, tile, filter], added up in sums
// [16, panel, channel, filter].
class WeightGradient {
 public:
  WeightGradient(const ConvShape& s, const LevelTable& level)
      : s_(s),
        loops_(level.tiles),
        transforms_(level.winograd),
        add_(level.loop[static_cast<size_t>(ir::ScalarOp::Add)][static_cast<size_t>(DType::F32)]),
        panels_(panels_of(s.filters, loops_, std::array{2, 3, 4, 1})),
        of_one_(s, 1),
        zeros_(static_cast<size_t>(std::max(s.channels, s.filters)), 0.0F) {
    channel_stride_ = rounded_up(s.channels, loops_.lanes);
    position_ = panels_.count * s.channels * panels_.columns;
    parts_ = batch_parts(s.n, kWinogradPositions * s.channels * s.filters, of_one_.count());
    x_ = {.in = s.in, .low = {}, .extent = s.in, .channels = s.channels, .channel_stride = s.channels};
    dy_ = {.in = s.out, .low = {}, .extent = s.out, .channels = s.filters, .channel_stride = s.filters};
  }

  void run(const ConstView& x, const ConstView& dy, float* dw, ThreadPool& pool) const {
    const int64_t size = kWinogradPositions * position_;
    const Ref<Buffer> memory = Buffer::allocate_scratch(static_cast<size_t>(parts_ * size * kFloat));
    auto* sums = reinterpret_cast<float*>(memory->data());
    const auto part = [&](int64_t p) {
      add_part(x, dy, s_.n * p / parts_, s_.n * (p + 1) / parts_, sums + p * size, pool);
    };
    if (parts_ < 2 * pool.threads()) {
      for (int64_t p = 0; p < parts_; ++p) part(p);
    } else {
      pool.run(parts_, part);
    }
    pool.run(kWinogradPositions, [&](int64_t i) {
      for (int64_t p = 1; p < parts_; ++p) {
        float* sum = sums + i * position_;
        add_(sum, sum, sum + p * size, nullptr, position_);
      }
    });
    pool.run(panels_.count, [&](int64_t panel) { store(sums, panel, dw); });
  }

 private:
  // Examples with their channels side by side: where they lie, or a copy.
  struct Images {
    const float* data = nullptr;
    PlaceStrides strides;
  };
  Images placed(const ConstView& from, const PlacedInput& as, int64_t first, int64_t count, float* space,
                ThreadPool& pool) const {
    const PlaceStrides strides = place_strides(from.strides);
    const float* data = from.as<float>() + first * strides.place[0];
    if (strides.channel == 1) return {data, strides};
    for (int64_t i = 0; i < count; ++i)
      as.place(data + i * strides.place[0], strides, space + i * as.distance(), loops_, pool);
    return {space, as.strides()};
  }

  // Images of the examples that were placed, and their tiles [first, end): a block.
  struct Block {
    Images x, dy;
    int64_t first = 0, end = 0;
    float *v = nullptr, *z = nullptr;
    [[nodiscard]] int64_t tiles() const { return end - first; }
  };

  void add_part(const ConstView& x, const ConstView& dy, int64_t begin, int64_t end, float* sums,
                ThreadPool& pool) const {
    const int64_t most = std::clamp<int64_t>(kBlock / of_one_.count(), 1, end - begin);
    const int64_t of_filters = panels_.count * panels_.columns;
    const int64_t block_size = kWinogradPositions * kBlock * (channel_stride_ + of_filters);
    const Ref<Buffer> space =
        Buffer::allocate_scratch(static_cast<size_t>((block_size + most * (x_.distance() + dy_.distance())) * kFloat));
    auto* v = reinterpret_cast<float*>(space->data());
    float* examples = v + block_size;
    for (int64_t i = begin; i < end; i += most) {
      const int64_t count = std::min(most, end - i), tiles = count * of_one_.count();
      Block block{placed(x, x_, i, count, examples, pool),
                  placed(dy, dy_, i, count, examples + most * x_.distance(), pool),
                  0,
                  0,
                  v,
                  v + kWinogradPositions * kBlock * channel_stride_};
      const int64_t blocks = parts_of(tiles, kBlock);
      for (int64_t b = 0; b < blocks; ++b) {
        block.first = tiles * b / blocks;
        block.end = tiles * (b + 1) / blocks;
        const int64_t parts = std::min<int64_t>(block.tiles(), 4 * pool.threads());
        pool.run(parts,
                 [&](int64_t p) { transform(block, block.tiles() * p / parts, block.tiles() * (p + 1) / parts); });
        pool.run(kWinogradPositions, [&](int64_t p) { multiply(block, p, i == begin && b == 0, sums); });
      }
    }
  }

  // Tiles [first, end) of a block.
  void transform(const Block& block, int64_t first, int64_t end) const {
    const WinogradPlaces of_x(s_, block.x.strides, zeros_.data()), of_dy(s_, block.dy.strides, zeros_.data());
    const int64_t tiles = block.tiles(), columns = panels_.columns;
    for (int64_t t = first; t < end; ++t) {
      const int64_t tile = block.first + t, row = tile / of_one_.columns;
      const int64_t image = row / of_one_.rows, column = tile % of_one_.columns;
      const float *d[kWinogradPositions], *ct[4];
      of_x.input(block.x.data, image, row % of_one_.rows, column, d);
      transforms_.input(d, s_.channels, block.v + t * channel_stride_, tiles * channel_stride_);
      of_dy.result(block.dy.data, image, row % of_one_.rows, column, ct);
      for (int64_t panel = 0; panel < panels_.count; ++panel) {
        float* z = block.z + (panel * tiles + t) * columns;
        const int64_t count = std::min(columns, s_.filters - panel * columns);
        transforms_.cotangent(ct, count, z, panels_.count * tiles * columns);
        // The columns of the last panel that no vector reached are read, but go nowhere.
        for (int64_t c = rounded_up(count, loops_.lanes); c < columns; ++c) {
          for (int64_t p = 0; p < kWinogradPositions; ++p) z[p * panels_.count * tiles * columns + c] = 0;
        }
        for (auto& at : ct) at += at == zeros_.data() ? 0 : columns;
      }
    }
  }

  void multiply(const Block& block, int64_t position, bool from_zero, float* sums) const {
    const int64_t tiles = block.tiles(), columns = panels_.columns, no_tap = 0;
    const int64_t pieces = parts_of(s_.channels, loops_.most_rows[panels_.vectors]);
    Tile tile{};
    tile.step = 1;
    tile.jump = kTileSegment;
    tile.x_step = channel_stride_;
    tile.taps = &no_tap;
    tile.tap_count = 1;
    tile.run = tiles;
    tile.weight_step = tile.y_step = columns;
    tile.last = loops_.lanes;
    for (int64_t panel = 0; panel < panels_.count; ++panel) {
      tile.weight = tile.next = block.z + (position * panels_.count + panel) * tiles * columns;
      float* sum = sums + position * position_ + panel * s_.channels * columns;
      for (int64_t p = 0; p < pieces; ++p) {
        const int64_t first = s_.channels * p / pieces, rows = s_.channels * (p + 1) / pieces - first;
        tile.x = block.v + position * tiles * channel_stride_ + first;
        tile.y = sum + first * columns;
        tile.from = from_zero ? nullptr : tile.y;
        tile.soon = sum + (p + 1 < pieces ? s_.channels * (p + 1) / pieces : 0) * columns;
        loops_.tile[panels_.vectors][rows](tile);
      }
    }
  }

  // From the sums to dw [filter, channel, tap].
  void store(const float* sums, int64_t panel, float* dw) const {
    const int64_t columns = panels_.columns, filter = panel * columns, count = std::min(columns, s_.filters - filter);
    std::vector<float> taps(static_cast<size_t>(9 * columns));
    for (int64_t c = 0; c < s_.channels; ++c) {
      transforms_.weight_gradient(sums + (panel * s_.channels + c) * columns, position_, columns, taps.data());
      loops_.transpose(taps.data(), columns, 9, count, dw + (filter * s_.channels + c) * 9, s_.channels * 9);
    }
  }

  const ConvShape& s_;
  const TileLoops& loops_;
  const WinogradLoops& transforms_;
  LoopFn add_;
  Panels panels_;
  WinogradTiles of_one_;
  std::vector<float> zeros_;
  PlacedInput x_, dy_;
  int64_t channel_stride_ = 0;
  int64_t position_ = 0;  // floats of one position's sums
  int64_t parts_ = 1;
};

}  // namespace

// The sums are transformed once, however few tiles there are.
bool winograd_takes_weight_gradient(const ConvShape& s) {
  return winograd_takes(s) && WinogradTiles(s, s.n).count() >= kFewTiles;
}

void winograd_weight_gradient(const ConvShape& s, const ConstView& x, const ConstView& dy, float* dw,
                              const LevelTable& level, ThreadPool& pool) {
  WeightGradient(s, level).run(x, dy, dw, pool);
}

}  // namespace tenon::cpu
