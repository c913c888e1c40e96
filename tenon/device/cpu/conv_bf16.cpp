#include "tenon/device/cpu/conv_bf16.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <vector>

#include "tenon/device/cpu/amx.h"
#include "tenon/device/cpu/copy.h"
#include "tenon/device/cpu/product_bf16.h"

namespace tenon::cpu {
namespace {

using amx::kDepth;
using amx::kSide;

constexpr auto kElement = static_cast<int64_t>(sizeof(uint16_t));

// Strides with the channels side by side, in the order of axes [n, channels, spatial…].
Shape channels_last(const Shape& shape) {
  Shape strides(shape.size(), 0);
  strides[1] = 1;
  int64_t next = shape[1];
  for (size_t d = shape.size(); d-- > 2; next *= shape[d]) strides[d] = next;
  strides[0] = next;
  return strides;
}

// The step from place to place (in the order n, spatial…) where it is the same everywhere.
std::optional<int64_t> place_step(const ConstView& v) {
  std::optional<int64_t> step;
  int64_t next = 0;
  const auto follow = [&](size_t axis) {
    if (v.shape[axis] == 1) return true;
    if (!step) {
      step = v.strides[axis];
    } else if (v.strides[axis] != next) {
      return false;
    }
    next = v.strides[axis] * v.shape[axis];
    return true;
  };
  for (size_t d = v.shape.size(); d-- > 2;) {
    if (!follow(d)) return std::nullopt;
  }
  if (!follow(0)) return std::nullopt;
  return step.value_or(0);
}

// A tensor whose places lie evenly: itself, or a copy with the channels last.
struct Even {
  Even(const ConstView& v, ThreadPool& pool) {
    const auto there = place_step(v);
    const int64_t size = element_size(v.dtype);
    if (there) {
      data = v.data + v.offset * size;
      row = *there;
      column = v.strides[1];
      return;
    }
    copied = Buffer::allocate(static_cast<size_t>(numel(v.shape) * size));
    copy(v, {copied->data(), v.dtype, v.shape, channels_last(v.shape), 0}, pool);
    data = copied->data();
    row = v.shape[1];
    column = 1;
  }
  const std::byte* data;
  int64_t row, column;
  Ref<Buffer> copied;
};

// What the windows of places see, in the order of amx::pack_left.
class Windows final : public Bf16Rows {
 public:
  // x: example, depth, height and width are `step` elements apart, channels are neighbours.
  Windows(const ConvShape& s, const uint16_t* x, const std::array<int64_t, 4>& step, int64_t taps)
      : s_(s), x_(x), step_(step), taps_(taps) {}

  void pack(int64_t first, int64_t count, uint16_t* to) const override {
    int64_t w = first % s_.out[2], h = first / s_.out[2] % s_.out[1];
    int64_t d = first / (s_.out[2] * s_.out[1]) % s_.out[0], n = first / ConvShape::volume(s_.out);
    for (int64_t r = 0; r < kSide; ++r, to += kDepth) {
      if (r >= count) {
        amx::spread(nullptr, 0, depth(), to);
        continue;
      }
      window(x_ + n * step_[0], d * s_.stride[0] - s_.low[0], h * s_.stride[1] - s_.low[1],
             w * s_.stride[2] - s_.low[2], to);
      if (++w < s_.out[2]) continue;
      w = 0;
      if (++h < s_.out[1]) continue;
      h = 0;
      if (++d < s_.out[0]) continue;
      d = 0;
      ++n;
    }
  }

 private:
  [[nodiscard]] int64_t run_steps() const { return amx::steps(taps_ * s_.channels); }
  [[nodiscard]] int64_t depth() const {
    return s_.window[0] * s_.window[1] * (s_.window[2] / taps_) * run_steps() * kDepth;
  }
  void window(const uint16_t* example, int64_t d, int64_t h, int64_t w, uint16_t* to) const {
    for (int64_t i = 0; i < s_.window[0]; ++i) {
      const int64_t at_d = d + i * s_.dilation[0];
      for (int64_t j = 0; j < s_.window[1]; ++j) {
        const int64_t at_h = h + j * s_.dilation[1];
        const bool inside = at_d >= 0 && at_d < s_.in[0] && at_h >= 0 && at_h < s_.in[1];
        const uint16_t* line = inside ? example + at_d * step_[1] + at_h * step_[2] : nullptr;
        for (int64_t k = 0; k < s_.window[2]; k += taps_, to += run_steps() * amx::kStepSize)
          run(line, w + k * s_.dilation[2], to);
      }
    }
  }
  // The pixels [at, at + taps) of a line; null and what lies outside are zeros.
  void run(const uint16_t* line, int64_t at, uint16_t* to) const {
    const int64_t begin = std::max<int64_t>(at, 0), end = std::min(at + taps_, s_.in[2]);
    const int64_t size = taps_ * s_.channels, whole = run_steps() * kDepth;
    if (line == nullptr || begin >= end) {
      amx::spread(nullptr, 0, whole, to);
    } else if (end - begin == taps_) {
      amx::spread(line + at * step_[3], size, whole, to);
    } else {
      // At an edge: with zeros around, in the order of memory first.
      constexpr int64_t kUsual = 2048;
      uint16_t usual[kUsual];
      std::vector<uint16_t> long_one;
      uint16_t* padded = usual;
      if (size > kUsual) {
        long_one.resize(static_cast<size_t>(size));
        padded = long_one.data();
      }
      uint16_t* from = padded + (begin - at) * s_.channels;
      const int64_t there = (end - begin) * s_.channels;
      std::fill(padded, from, uint16_t{0});
      std::memcpy(from, line + begin * step_[3], static_cast<size_t>(there * kElement));
      std::fill(from + there, padded + size, uint16_t{0});
      amx::spread(padded, size, whole, to);
    }
  }

  const ConvShape& s_;
  const uint16_t* x_;
  std::array<int64_t, 4> step_;
  int64_t taps_;
};

}  // namespace

Bf16Conv::Bf16Conv(const ConvShape& shape) : s_(moved_to_the_end(shape)) {
  taps_ = s_.dilation[2] == 1 ? s_.window[2] : 1;
  run_size_ = taps_ * s_.channels;
  depth_ = ConvShape::volume(s_.window) / taps_ * amx::steps(run_size_) * kDepth;
}

bool Bf16Conv::plain() const {
  const auto all = [](const ConvShape::Extents& e, int64_t x) { return e == ConvShape::Extents{x, x, x}; };
  return all(s_.window, 1) && all(s_.stride, 1) && all(s_.low, 0) && all(s_.high, 0);
}

Ref<Buffer> Bf16Conv::pack(const uint16_t* weight, ThreadPool& pool) const {
  // Filter by filter in the order of the windows, then as the right side of a product.
  const int64_t taps = ConvShape::volume(s_.window), whole = amx::steps(run_size_) * kDepth;
  std::vector<uint16_t> ordered(static_cast<size_t>(s_.filters * depth_), 0);
  for (int64_t f = 0; f < s_.filters; ++f) {
    for (int64_t tap = 0; tap < taps; ++tap) {
      uint16_t* to = ordered.data() + f * depth_ + tap / taps_ * whole + tap % taps_ * s_.channels;
      const uint16_t* from = weight + f * s_.channels * taps + tap;
      for (int64_t c = 0; c < s_.channels; ++c) to[c] = from[c * taps];
    }
  }
  return pack_right_bf16(ordered.data(), 1, depth_, depth_, s_.filters, pool);
}

void Bf16Conv::run(const ConstView& x, const Ref<Buffer>& packed, const float* bias, const TileProgram* after,
                   std::span<const ConstView> operands, const View& y, ThreadPool& pool) const {
  if (numel(y.shape) == 0) return;
  // Pixels of a line must be neighbours where runs are longer than one; other axes may lie anywhere.
  Ref<Buffer> copied;
  ConstView in = x;
  const size_t last = in.shape.size() - 1;
  const bool pixels = taps_ == 1 || in.strides[last] == s_.channels || in.shape[last] == 1;
  if (!(in.strides[1] == 1 || in.shape[1] == 1) || !pixels) {
    copied = Buffer::allocate(static_cast<size_t>(std::max<int64_t>(1, numel(x.shape)) * kElement));
    copy(x, {copied->data(), x.dtype, x.shape, channels_last(x.shape), 0}, pool);
    in = {copied->data(), x.dtype, x.shape, channels_last(x.shape), 0};
  }
  std::array<int64_t, 4> step{in.strides[0], 0, 0, 0};
  for (size_t d = 0; d < static_cast<size_t>(s_.axes); ++d)
    step[4 - static_cast<size_t>(s_.axes) + d] = in.strides[2 + d];
  const Windows windows(s_, in.as<uint16_t>(), step, taps_);

  const int64_t size = element_size(y.dtype);
  const auto place = place_step({y.data, y.dtype, y.shape, y.strides, y.offset});
  const bool there =
      place && (*place == s_.filters || numel(y.shape) == s_.filters) && (y.strides[1] == 1 || y.shape[1] == 1);
  const Ref<Buffer> result = there ? Ref<Buffer>() : Buffer::allocate(static_cast<size_t>(numel(y.shape) * size));
  std::byte* to = there ? y.data + y.offset * size : result->data();

  Bf16Product p{.m = numel(y.shape) / s_.filters, .n = s_.filters, .k = depth_, .rows = &windows, .bias = bias};
  const auto even = place_step(in);
  if (even && plain()) {
    // The input's pixels are the rows.
    p.rows = nullptr;
    p.a = in.as<uint16_t>();
    p.a_row = *even;
    p.a_k = 1;
    p.k = s_.channels;
  }
  p.packed = reinterpret_cast<const uint16_t*>(packed->data());
  p.c_row = p.n;
  if (after == nullptr) {
    p.c = reinterpret_cast<uint16_t*>(to);
    product(p, pool);
  } else {
    std::vector<Even> kept;
    kept.reserve(operands.size());
    std::vector<Bf16Follow::Operand> list;
    for (const ConstView& o : operands) {
      const Even& e = kept.emplace_back(o, pool);
      list.push_back({e.data, e.row, e.column});
    }
    const Bf16Follow follow{*after, list, to, p.n};
    product(p, pool, &follow);
  }
  if (!there) copy({to, y.dtype, y.shape, channels_last(y.shape), 0}, y, pool);
}

}  // namespace tenon::cpu
