#include "tenon/device/cpu/conv_bf16.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>
#include <vector>

#include "tenon/device/cpu/bf16_blocks.h"
#include "tenon/device/cpu/copy.h"
#include "tenon/device/cpu/image_places.h"
#include "tenon/device/cpu/placed_images.h"
#include "tenon/device/cpu/product_bf16.h"

namespace tenon::cpu {
namespace {

using bf16_blocks::kDepth;
using bf16_blocks::kSide;

constexpr auto kElement = static_cast<int64_t>(sizeof(uint16_t));
constexpr int64_t kPlacedBytes = 1024 * 1024;  // of images that go together
constexpr int64_t kLineRunsPart = 64 * 1024;   // elements that one part gathers, about

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
      data = v.first();
      row = *there;
      column = v.strides[1];
      return;
    }
    copied = Buffer::allocate(static_cast<size_t>(numel(v.shape) * size));
    copy(v, {copied->data(), v.dtype, v.shape, channels_last_strides(v.shape), 0}, pool);
    data = copied->data();
    row = v.shape[1];
    column = 1;
  }
  const std::byte* data;
  int64_t row, column;
  Ref<Buffer> copied;
};

// The pixels [at, at + taps) of a line: where they lie, at an edge in `edge` with zeros around them. Null: all zeros.
const uint16_t* part_of(const ConvShape& s, const uint16_t* line, int64_t pixel, int64_t at, int64_t taps,
                        uint16_t* edge) {
  const int64_t begin = std::max<int64_t>(at, 0), end = std::min(at + taps, s.in[2]);
  if (begin >= end) return nullptr;
  if (end - begin == taps) return line + at * pixel;
  uint16_t* from = edge + (begin - at) * s.channels;
  const int64_t there = (end - begin) * s.channels;
  std::fill(edge, from, uint16_t{0});
  std::memcpy(from, line + begin * pixel, static_cast<size_t>(there * kElement));
  std::fill(from + there, edge + taps * s.channels, uint16_t{0});
  return edge;
}

// What the windows of places see, gathered in the order of bf16_blocks::pack_left.
class Windows final : public Bf16Rows {
 public:
  // x: example, depth, height and width are `step` elements apart, channels are neighbours.
  Windows(const ConvShape& s, int64_t places, const uint16_t* x, const std::array<int64_t, 4>& step, int64_t taps)
      : s_(s), places_(places), x_(x), step_(step), taps_(taps) {}

  [[nodiscard]] int64_t blocks() const override { return (places_ + kSide - 1) / kSide; }
  [[nodiscard]] int64_t block_bytes() const override { return depth() * kSide * kElement; }
  // With what runs at edges are put together in.
  [[nodiscard]] int64_t room() const override { return (depth() + taps_ * s_.channels) * kSide; }
  int runs(int64_t i, std::span<Bf16Run, kSide> to) const override {
    to[0] = {0, std::min(kSide, places_ - i * kSide), i * kSide};
    return 1;
  }
  bf16_blocks::Left block(int64_t i, uint16_t* room) const override {
    std::array<Origin, kSide> origins{};
    const int64_t count = origins_of(i, origins);
    const int64_t size = taps_ * s_.channels, whole = run_steps() * kDepth;
    std::array<const uint16_t*, kSide> from{};
    uint16_t *to = room, *edges = room + depth() * kSide;
    for (int64_t d = 0; d < s_.window[0]; ++d) {
      for (int64_t h = 0; h < s_.window[1]; ++h) {
        for (int64_t w = 0; w < s_.window[2]; w += taps_, to += whole * kSide) {
          for (int64_t r = 0; r < count; ++r) {
            const Origin& o = origins[static_cast<size_t>(r)];
            const int64_t at_d = o.d + d * s_.dilation[0], at_h = o.h + h * s_.dilation[1];
            const bool inside = at_d >= 0 && at_d < s_.in[0] && at_h >= 0 && at_h < s_.in[1];
            const uint16_t*& run = from[static_cast<size_t>(r)];
            if (!inside) {
              run = nullptr;
              continue;
            }
            const uint16_t* line = o.example + at_d * step_[1] + at_h * step_[2];
            run = o.whole ? line + o.w * step_[3]
                          : part_of(s_, line, step_[3], o.w + w * s_.dilation[2], taps_, edges + r * size);
          }
          bf16_blocks::spread(from.data(), size, whole, to);
        }
      }
    }
    bf16_blocks::Left left{.at = room};
    left.rows = count;
    if (size < kDepth) left.pairs = (size + 1) / 2;
    return left;
  }

 private:
  // Where the window of a place begins, and whether its lines are runs that lie within those of the input.
  struct Origin {
    const uint16_t* example;
    int64_t d, h, w;
    bool whole;
  };
  int64_t origins_of(int64_t block, std::span<Origin, kSide> origins) const {
    const int64_t first = block * kSide, count = std::min(kSide, places_ - first);
    PlaceCursor place(s_, first);
    for (int64_t r = 0; r < count; ++r, place.next()) {
      const auto begin = [&](size_t axis) { return place.at[axis] * s_.stride[axis] - s_.low[axis]; };
      const int64_t at = begin(2);
      origins[static_cast<size_t>(r)] = {x_ + place.n * step_[0], begin(0), begin(1), at,
                                         taps_ == s_.window[2] && at >= 0 && at + taps_ <= s_.in[2]};
    }
    return count;
  }
  [[nodiscard]] int64_t run_steps() const { return bf16_blocks::steps(taps_ * s_.channels); }
  [[nodiscard]] int64_t depth() const {
    return s_.window[0] * s_.window[1] * (s_.window[2] / taps_) * run_steps() * kDepth;
  }
  const ConvShape& s_;
  int64_t places_;
  const uint16_t* x_;
  std::array<int64_t, 4> step_;
  int64_t taps_;
};

// What a line of the window sees from each place of a line, for all lines of the input: a step each. So it is gathered
// once for all lines of windows that it is in, and what is left of the window has one column.
class LineRuns {
 public:
  // Where runs are one step, and lines in several windows.
  static bool takes(const ConvShape& s) {
    return s.dilation[2] == 1 && s.window[2] > 1 && s.window[2] * s.channels <= kDepth && s.window[1] > s.stride[1] &&
           ImagePlaces::takes(shape_of(s));
  }
  LineRuns(const ConvShape& s, int64_t images)
      : s_(s), pitch_((s.out[2] + kSide - 1) / kSide * kSide), lines_(images * s.in[0] * s.in[1]), images_(images) {
    room_ = Buffer::allocate_scratch(static_cast<size_t>(lines_ * pitch_ * kDepth * kElement));
  }
  static int64_t bytes(const ConvShape& s) { return s.in[0] * s.in[1] * s.out[2] * kDepth * kElement; }
  // x: as for Windows.
  ImagePlaces gather(const uint16_t* x, const std::array<int64_t, 4>& step, ThreadPool& pool) const {
    auto* to = reinterpret_cast<uint16_t*>(room_->data());
    const int64_t size = pitch_ * kDepth, parts = std::clamp<int64_t>(lines_ * size / kLineRunsPart, 1, lines_);
    pool.run(parts, [&](int64_t part) {
      for (int64_t l = lines_ * part / parts; l < lines_ * (part + 1) / parts; ++l) {
        const int64_t h = l % s_.in[1], d = l / s_.in[1] % s_.in[0], n = l / s_.in[1] / s_.in[0];
        line(x + n * step[0] + d * step[1] + h * step[2], step[3], to + l * size);
      }
    });
    const std::array<int64_t, 4> steps{s_.in[0] * s_.in[1] * size, s_.in[1] * size, size, kDepth};
    return {shape_of(s_), images_, to, steps, (s_.window[2] * s_.channels + 1) / 2};
  }

 private:
  static ConvShape shape_of(ConvShape s) {
    s.channels = kDepth;
    s.in[2] = s.out[2];
    s.window[2] = s.stride[2] = 1;
    s.low[2] = s.high[2] = 0;
    return s;
  }
  void line(const uint16_t* x, int64_t pixel, uint16_t* to) const {
    const int64_t taps = s_.window[2], size = taps * s_.channels;
    uint16_t edges[kSide * kDepth];
    for (int64_t first = 0; first < s_.out[2]; first += kSide, to += kSide * kDepth) {
      std::array<const uint16_t*, kSide> from{};
      for (int64_t r = 0; r < std::min(kSide, s_.out[2] - first); ++r)
        from[static_cast<size_t>(r)] =
            part_of(s_, x, pixel, (first + r) * s_.stride[2] - s_.low[2], taps, edges + r * kDepth);
      bf16_blocks::spread(from.data(), size, kDepth, to);
    }
  }
  const ConvShape& s_;
  int64_t pitch_, lines_, images_;  // places from line to line
  Ref<Buffer> room_;
};

}  // namespace

Bf16Conv::Bf16Conv(const ConvShape& shape) : s_(moved_to_the_end(shape)) {
  taps_ = s_.dilation[2] == 1 ? s_.window[2] : 1;
  run_size_ = taps_ * s_.channels;
  depth_ = ConvShape::volume(s_.window) / taps_ * bf16_blocks::steps(run_size_) * kDepth;
}

bool Bf16Conv::plain() const {
  const auto all = [](const ConvShape::Extents& e, int64_t x) { return e == ConvShape::Extents{x, x, x}; };
  return all(s_.window, 1) && all(s_.stride, 1) && all(s_.low, 0) && all(s_.high, 0);
}

Ref<Buffer> Bf16Conv::pack(const uint16_t* weight, ThreadPool& pool) const {
  return pack(weight, row_major_steps(s_), pool);
}

Ref<Buffer> Bf16Conv::pack(const uint16_t* weight, const WeightSteps& steps, ThreadPool& pool) const {
  // Filter by filter in the order of the windows, then as the right side of a product.
  const int64_t taps = ConvShape::volume(s_.window), whole = bf16_blocks::steps(run_size_) * kDepth;
  std::vector<uint16_t> ordered(static_cast<size_t>(s_.filters * depth_), 0);
  for (int64_t f = 0; f < s_.filters; ++f) {
    for (int64_t tap = 0; tap < taps; ++tap) {
      uint16_t* to = ordered.data() + f * depth_ + tap / taps_ * whole + tap % taps_ * s_.channels;
      const uint16_t* from = weight + f * steps.filter + steps.taps[static_cast<size_t>(tap)];
      for (int64_t c = 0; c < s_.channels; ++c) to[c] = from[c * steps.channel];
    }
  }
  return pack_right_bf16(ordered.data(), 1, depth_, depth_, s_.filters, pool);
}

void Bf16Conv::run(const ConstView& x, const Ref<Buffer>& packed, const float* bias, const Bf16After* after,
                   std::span<const ConstView> operands, const View& y, ThreadPool& pool) const {
  if (numel(y.shape) == 0) return;
  // Pixels of a line must be neighbours where runs are longer than one; other axes may lie anywhere.
  Ref<Buffer> copied;
  ConstView in = x;
  const size_t last = in.shape.size() - 1;
  const bool pixels = taps_ == 1 || in.strides[last] == s_.channels || in.shape[last] == 1;
  if (!(in.strides[1] == 1 || in.shape[1] == 1) || !pixels) {
    copied = Buffer::allocate(static_cast<size_t>(std::max<int64_t>(1, numel(x.shape)) * kElement));
    copy(x, {copied->data(), x.dtype, x.shape, channels_last_strides(x.shape), 0}, pool);
    in = {copied->data(), x.dtype, x.shape, channels_last_strides(x.shape), 0};
  }
  const int64_t size = element_size(y.dtype);
  const auto place = place_step({y.data, y.dtype, y.shape, y.strides, y.offset});
  const bool there =
      place && (*place == s_.filters || numel(y.shape) == s_.filters) && (y.strides[1] == 1 || y.shape[1] == 1);
  const Ref<Buffer> result =
      there ? Ref<Buffer>() : Buffer::allocate_scratch(static_cast<size_t>(numel(y.shape) * size));
  std::byte* to = there ? y.first() : result->data();

  Bf16Product p{.m = numel(y.shape) / s_.filters, .n = s_.filters, .k = depth_, .bias = bias};
  p.packed = reinterpret_cast<const uint16_t*>(packed->data());
  p.c = after == nullptr ? reinterpret_cast<uint16_t*>(to) : nullptr;
  p.c_row = p.n;
  std::vector<Even> kept;
  kept.reserve(operands.size());
  std::vector<Bf16Follow::Operand> list;
  for (const ConstView& o : operands) {
    const Even& e = kept.emplace_back(o, pool);
    list.push_back({e.data, e.row, e.column});
  }
  std::optional<Bf16Follow> follow;
  if (after != nullptr) follow.emplace(Bf16Follow{*after, list, to, p.n});
  run_rows(in, p, follow ? &*follow : nullptr, pool);
  if (!there) copy({to, y.dtype, y.shape, channels_last_strides(y.shape), 0}, y, pool);
}

void Bf16Conv::run_rows(const ConstView& x, Bf16Product p, const Bf16Follow* follow, ThreadPool& pool) const {
  if (const auto even = place_step(x); even && plain()) {
    // The input's pixels are the rows.
    p.a = x.as<uint16_t>();
    p.a_row = *even;
    p.a_k = 1;
    p.k = s_.channels;
    product(p, pool, follow);
    return;
  }
  std::array<int64_t, 4> step{x.strides[0], 0, 0, 0};
  for (size_t d = 0; d < static_cast<size_t>(s_.axes); ++d)
    step[4 - static_cast<size_t>(s_.axes) + d] = x.strides[2 + d];
  const int64_t examples = x.shape[0], places = ConvShape::volume(s_.out);
  const bool in_registers = follow == nullptr || follow->in_registers();
  if (in_registers && ImagePlaces::takes(s_)) {
    const ImagePlaces rows(s_, examples, x.as<uint16_t>(), step);
    p.rows = &rows;
    product(p, pool, follow);
    return;
  }
  if (in_registers && LineRuns::takes(s_)) {
    const int64_t together = std::clamp<int64_t>(kPlacedBytes / LineRuns::bytes(s_), 1, examples);
    for (int64_t i = 0; i < examples; i += together) {
      const LineRuns lines(s_, std::min(together, examples - i));
      ImagePlaces rows = lines.gather(x.as<uint16_t>() + i * step[0], step, pool);
      rows.result_from(i * places);
      p.rows = &rows;
      p.m = std::min(together, examples - i) * places;
      product(p, pool, follow);
    }
    return;
  }
  const int64_t one = PlacedImages(s_, 1).size() * kElement;
  const int64_t together = std::clamp<int64_t>(kPlacedBytes / one, 1, examples);
  if (!in_registers || !PlacedImages(s_, together).worthwhile()) {
    const Windows windows(s_, p.m, x.as<uint16_t>(), step, taps_);
    p.rows = &windows;
    product(p, pool, follow);
    return;
  }
  // As many images at a time as stay in the second cache.
  for (int64_t i = 0; i < examples; i += together) {
    const int64_t count = std::min(together, examples - i);
    PlacedImages images(s_, count);
    const Ref<Buffer> room = Buffer::allocate_scratch(static_cast<size_t>(images.size() * kElement));
    images.place(x.as<uint16_t>() + i * step[0], step, reinterpret_cast<uint16_t*>(room->data()), pool);
    images.result_from(i * places);
    const WantedPlaces wanted(images);
    p.rows = bf16_blocks::rows_anywhere() ? static_cast<const Bf16Rows*>(&wanted) : &images;
    p.m = count * places;
    product(p, pool, follow);
  }
}

}  // namespace tenon::cpu
