#include "tenon/device/cpu/conv_gradients_bf16.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "tenon/device/cpu/bf16_blocks.h"
#include "tenon/device/cpu/conv_bf16.h"
#include "tenon/device/cpu/conv_plan.h"
#include "tenon/device/cpu/copy.h"
#include "tenon/device/cpu/pieces.h"
#include "tenon/device/cpu/placed_images.h"
#include "tenon/device/cpu/product_bf16.h"

namespace tenon::cpu {
namespace {

using bf16_blocks::kSide;

constexpr int64_t kPlaces = 2048;  // whose products are added up at a time
constexpr auto kElement = static_cast<int64_t>(sizeof(uint16_t));

Ref<Buffer> scratch(int64_t bytes) {
  return Buffer::allocate_scratch(static_cast<size_t>(std::max<int64_t>(1, bytes)));
}
uint16_t* elements(const Ref<Buffer>& buffer) { return reinterpret_cast<uint16_t*>(buffer->data()); }

// Dense, with the channels side by side.
View channels_last(const Ref<Buffer>& buffer, const Shape& shape) {
  return {buffer->data(), DType::BF16, shape, channels_last_strides(shape), 0};
}

// A tensor whose channels are neighbours: itself, or a copy.
struct ChannelsLast {
  ChannelsLast(const ConstView& x, ThreadPool& pool) : view(x) {
    if (x.strides[1] == 1 || x.shape[1] == 1) return;
    copied = scratch(numel(x.shape) * kElement);
    const View last = channels_last(copied, x.shape);
    copy(x, last, pool);
    view = {last.data, last.dtype, last.shape, last.strides, last.offset};
  }
  ConstView view;
  Ref<Buffer> copied;
};

// The result's gradient at the places of placed images [places, filters]; places that are none have zeros.
Ref<Buffer> gradient_at_places(const ConvShape& s, const PlacedImages& images, const ConstView& dy, ThreadPool& pool) {
  const int64_t blocks = images.blocks();
  const Ref<Buffer> placed = scratch(blocks * kSide * s.filters * kElement);
  const ChannelsLast source(dy, pool);
  const Shape& step = source.view.strides;
  const auto* from = source.view.as<uint16_t>();
  const int64_t parts = std::min<int64_t>(blocks, 64);
  pool.run(parts, [&](int64_t p) {
    for (int64_t b = blocks * p / parts; b < blocks * (p + 1) / parts; ++b) {
      uint16_t* to = elements(placed) + b * kSide * s.filters;
      std::fill_n(to, kSide * s.filters, uint16_t{0});
      std::array<Bf16Run, kSide> runs{};
      const int count = images.runs(b, runs);
      for (const Bf16Run& run : std::span(runs).first(static_cast<size_t>(count))) {
        int64_t at = run.row % s.out[2] * step[4], rest = run.row / s.out[2];
        at += rest % s.out[1] * step[3];
        rest /= s.out[1];
        at += rest % s.out[0] * step[2] + rest / s.out[0] * step[0];
        for (int64_t i = 0; i < run.count; ++i)
          std::memcpy(to + (run.first + i) * s.filters, from + at + i * step[4],
                      static_cast<size_t>(s.filters * kElement));
      }
    }
  });
  return placed;
}

// Sums [tap, channels, filters] in blocks.
class WeightSums {
 public:
  explicit WeightSums(const ConvShape& s)
      : s_(s),
        rows_(parts_of(s.channels, kSide)),
        columns_(parts_of(s.filters, kSide)),
        units_(ConvShape::volume(s.window) * rows_),
        sums_(scratch(units_ * columns_ * bf16_blocks::kBlockSize * static_cast<int64_t>(sizeof(float)))) {}
  // x and the packed gradient of `count` places, the first of which is `first`.
  void add(const PlacedImages& images, const uint16_t* x, int64_t first, int64_t count, const uint16_t* packed,
           ThreadPool& pool) {
    pool.run(units_, [&](int64_t unit) {
      const bf16_blocks::Tiles tiles;
      const int64_t tap = unit / rows_, c = unit % rows_ * kSide;
      const ConvShape::Extents at{tap / s_.window[2] / s_.window[1], tap / s_.window[2] % s_.window[1],
                                  tap % s_.window[2]};
      const Ref<Buffer> left = scratch(bf16_blocks::packed_size(count) * kElement);
      bf16_blocks::pack_left(x + (first + images.tap(at)) * s_.channels + c, 1, s_.channels,
                             std::min(kSide, s_.channels - c), count, elements(left));
      for (int64_t f = 0; f < columns_; ++f)
        bf16_blocks::block({.at = elements(left)},
                           {packed + f * bf16_blocks::packed_size(count), bf16_blocks::steps(count)}, block(unit, f),
                           kSide, first > 0);
    });
  }
  void round(uint16_t* dw, ThreadPool& pool) const {
    const int64_t taps = ConvShape::volume(s_.window);
    pool.run(units_, [&](int64_t unit) {
      const int64_t tap = unit / rows_, c = unit % rows_ * kSide;
      for (int64_t f = 0; f < columns_; ++f) {
        alignas(64) uint16_t rounded[bf16_blocks::kBlockSize];
        bf16_blocks::finish(block(unit, f), {nullptr, nullptr, 0, true}, kSide, kSide, rounded, kSide);
        for (int64_t j = 0; j < std::min(kSide, s_.filters - f * kSide); ++j) {
          uint16_t* to = dw + ((f * kSide + j) * s_.channels + c) * taps + tap;
          for (int64_t i = 0; i < std::min(kSide, s_.channels - c); ++i) to[i * taps] = rounded[i * kSide + j];
        }
      }
    });
  }

 private:
  [[nodiscard]] float* block(int64_t unit, int64_t f) const {
    return reinterpret_cast<float*>(sums_->data()) + (unit * columns_ + f) * bf16_blocks::kBlockSize;
  }
  const ConvShape& s_;
  int64_t rows_, columns_, units_;
  Ref<Buffer> sums_;
};

}  // namespace

void conv_input_gradient_bf16(const ConvShape& shape, const ConstView& dy, const uint16_t* weight, const View& dx,
                              ThreadPool& pool) {
  if (numel(dx.shape) == 0) return;
  const ConvShape s = moved_to_the_end(shape);
  const std::vector<InputPhase> phases = input_phases(s);
  const View wide = with_three_axes(dx);
  const ConstView from = with_three_axes(dy);
  const auto run = [&](const InputPhase& phase, const View& to) {
    const Bf16Conv conv(phase.shape);
    conv.run(from, conv.pack(weight, phase_steps(s, phase), pool), nullptr, nullptr, {}, to, pool);
  };
  const bool sums = !phases.empty() && s.y_size() != 0;
  if (sums && phases.size() == 1 && phases[0].shape.out == s.in) return run(phases[0], wide);
  const Ref<Buffer> result = scratch(numel(wide.shape) * kElement);
  std::memset(result->data(), 0, static_cast<size_t>(numel(wide.shape) * kElement));
  const View last = channels_last(result, wide.shape);
  for (const InputPhase& phase : sums ? phases : std::vector<InputPhase>{}) {
    View part = last;
    for (size_t d = 0; d < 3; ++d) {
      part.offset += phase.first[d] * last.strides[d + 2];
      part.shape[d + 2] = phase.shape.out[d];
      part.strides[d + 2] *= s.stride[d];
    }
    run(phase, part);
  }
  copy({last.data, last.dtype, last.shape, last.strides, 0}, wide, pool);
}

void conv_weight_gradient_bf16(const ConvShape& shape, const ConstView& x, const ConstView& dy, uint16_t* dw,
                               ThreadPool& pool) {
  if (shape.weight_size() == 0) return;
  const ConvShape s = moved_to_the_end(shape);
  if (s.n == 0 || ConvShape::volume(s.out) == 0) {
    std::fill_n(dw, s.weight_size(), uint16_t{0});
    return;
  }
  const ChannelsLast source(with_three_axes(x), pool);
  PlacedImages images(s, s.n);
  const Ref<Buffer> placed = scratch(images.size() * kElement);
  const Shape& step = source.view.strides;
  images.place(source.view.as<uint16_t>(), {step[0], step[2], step[3], step[4]}, elements(placed), pool);
  const Ref<Buffer> gradient = gradient_at_places(s, images, with_three_axes(dy), pool);
  WeightSums sums(s);
  for (int64_t first = 0; first < images.places(); first += kPlaces) {
    const int64_t count = std::min(kPlaces, images.places() - first);
    const Ref<Buffer> packed =
        pack_right_bf16(elements(gradient) + first * s.filters, s.filters, 1, count, s.filters, pool);
    sums.add(images, elements(placed), first, count, elements(packed), pool);
  }
  sums.round(dw, pool);
}

}  // namespace tenon::cpu
