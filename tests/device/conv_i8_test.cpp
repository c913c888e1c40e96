#include "tenon/device/cpu/conv_i8.h"

#include <gtest/gtest.h>

#include <array>

#include "tenon/device/cpu/product_i8.h"
#include "tests/device/support.h"

namespace tenon::test {
namespace {

using cpu::ConvShape;

struct Bytes {
  std::vector<uint8_t> list;
  bool is_signed;
  [[nodiscard]] int64_t at(int64_t i) const {
    const uint8_t byte = list[static_cast<size_t>(i)];
    return is_signed ? static_cast<int8_t>(byte) : byte;
  }
};

// The definition, product after product.
std::vector<int32_t> naive(const ConvShape& s, const Bytes& x, int64_t x_zero, const Bytes& weight,
                           const std::vector<int32_t>& zeros) {
  const int64_t channels = s.channels / s.groups, taps = ConvShape::volume(s.window);
  std::vector<int32_t> y;
  const auto sum_of = [&](int64_t n, int64_t f, const ConvShape::Extents& place) {
    const int64_t zero = zeros.empty() ? 0 : zeros[zeros.size() == 1 ? 0 : static_cast<size_t>(f)];
    const int64_t first = n * s.channels + f / (s.filters / s.groups) * channels;
    const auto at = [&](size_t axis, int64_t tap) {
      return place[axis] * s.stride[axis] + tap * s.dilation[axis] - s.low[axis];
    };
    const auto inside = [&](size_t axis, int64_t i) { return i >= 0 && i < s.in[axis]; };
    int64_t sum = 0, tap = 0;
    for (int64_t i = 0; i < s.window[0]; ++i) {
      for (int64_t j = 0; j < s.window[1]; ++j) {
        for (int64_t k = 0; k < s.window[2]; ++k, ++tap) {
          const int64_t d = at(0, i), h = at(1, j), w = at(2, k);
          if (!inside(0, d) || !inside(1, h) || !inside(2, w)) continue;
          for (int64_t c = 0; c < channels; ++c)
            sum += (x.at((((first + c) * s.in[0] + d) * s.in[1] + h) * s.in[2] + w) - x_zero) *
                   (weight.at((f * channels + c) * taps + tap) - zero);
        }
      }
    }
    return static_cast<int32_t>(static_cast<uint32_t>(sum));
  };
  for (int64_t n = 0; n < s.n; ++n) {
    for (int64_t f = 0; f < s.filters; ++f) {
      for (int64_t d = 0; d < s.out[0]; ++d) {
        for (int64_t h = 0; h < s.out[1]; ++h) {
          for (int64_t w = 0; w < s.out[2]; ++w) y.push_back(sum_of(n, f, {d, h, w}));
        }
      }
    }
  }
  return y;
}

struct Geometry {
  int64_t n, channels, filters, groups;
  ConvShape::Extents in, window, stride{1, 1, 1}, dilation{1, 1, 1}, low{0, 0, 0}, high{0, 0, 0};
};

ConvShape shape_of(const Geometry& g) {
  ConvShape s;
  s.axes = 3;
  s.n = g.n;
  s.channels = g.channels;
  s.filters = g.filters;
  s.groups = g.groups;
  s.in = g.in;
  s.window = g.window;
  s.stride = g.stride;
  s.dilation = g.dilation;
  s.low = g.low;
  s.high = g.high;
  for (size_t a = 0; a < 3; ++a)
    s.out[a] = (s.in[a] + s.low[a] + s.high[a] - s.dilation[a] * (s.window[a] - 1) - 1) / s.stride[a] + 1;
  return s;
}

const std::vector<Geometry>& geometries() {
  static const std::vector<Geometry> list{
      {1, 1, 1, 1, {1, 1, 1}, {1, 1, 1}},
      {1, 5, 7, 1, {1, 1, 1}, {1, 3, 3}, {1, 1, 1}, {1, 1, 1}, {0, 1, 1}, {0, 1, 1}},  // one pixel, mostly padding
      {2, 64, 33, 1, {1, 7, 7}, {1, 1, 1}},
      {2, 13, 70, 1, {1, 9, 11}, {1, 1, 1}},
      {1, 6, 9, 1, {1, 9, 11}, {1, 1, 1}, {1, 2, 3}},
      {1, 3, 40, 1, {1, 23, 29}, {1, 7, 7}, {1, 2, 2}, {1, 1, 1}, {0, 3, 3}, {0, 3, 2}},
      {1, 20, 35, 1, {1, 14, 14}, {1, 3, 3}, {1, 1, 1}, {1, 1, 1}, {0, 1, 1}, {0, 1, 1}},
      {1, 17, 12, 1, {1, 8, 40}, {1, 2, 4}, {1, 1, 2}, {1, 3, 2}, {0, 2, 1}, {0, 0, 3}},
      {1, 12, 10, 2, {1, 7, 6}, {1, 3, 3}, {1, 1, 1}, {1, 1, 1}, {0, 1, 1}, {0, 1, 1}},
      {2, 10, 15, 5, {1, 9, 9}, {1, 3, 2}, {1, 2, 1}, {1, 1, 1}, {0, 0, 1}, {0, 2, 0}},
      {2, 9, 9, 9, {1, 11, 37}, {1, 3, 3}, {1, 1, 1}, {1, 1, 1}, {0, 1, 1}, {0, 1, 1}},  // depthwise
      {1, 4, 8, 4, {1, 11, 37}, {1, 3, 5}, {1, 2, 2}, {1, 1, 2}, {0, 1, 4}, {0, 0, 3}},
      {1, 6, 5, 1, {1, 8, 9}, {1, 3, 3}, {1, 1, 1}, {1, 1, 1}, {0, -2, -1}, {0, 1, -3}},           // cuts
      {1, 5, 6, 1, {1, 1, 3}, {1, 1, 2}, {1, 1, 1}, {1, 1, 70000}, {0, 0, 70000}, {0, 0, 70000}},  // no image of it
      {1, 5, 6, 1, {4, 5, 6}, {3, 2, 3}, {1, 2, 1}, {1, 1, 2}, {1, 0, 2}, {1, 1, 2}},
      {1, 30, 20, 1, {1, 1, 50}, {1, 1, 5}, {1, 1, 1}, {1, 1, 2}, {0, 0, 4}, {0, 0, 4}},
      {1, 64, 70, 1, {1, 30, 31}, {1, 3, 3}, {1, 1, 1}, {1, 1, 1}, {0, 1, 1}, {0, 1, 1}},  // for several threads
  };
  return list;
}

// All loops that this CPU has, for all signs, zero points and thread counts: the sums of a plain loop.
TEST(ConvI8, IsTheExactSumInEveryLoop) {
  ThreadPool one(1), three(3);
  for (size_t k = 0; k < geometries().size(); ++k) {
    const ConvShape s = shape_of(geometries()[k]);
    const bool is_large = k + 1 == geometries().size();
    for (int signs = 0; signs < 4; ++signs) {
      const Bytes x{draw_bytes(s.n * s.x_size(), 1), signs % 2 == 1};
      const Bytes weight{draw_bytes(s.weight_size(), 2), signs / 2 == 1};
      for (int kind = 0; kind < 4; ++kind) {  // of zero points: none; x's; one for all weights; one for each filter
        if (is_large && (kind != signs || kind < 2)) continue;
        const int32_t x_zero = kind == 0 ? 0 : x.is_signed ? -128 + kind : 253 + kind % 3;
        std::vector<int32_t> zeros;
        for (int64_t f = 0; f < (kind == 2 ? 1 : kind == 3 ? s.filters : 0); ++f)
          zeros.push_back(weight.is_signed ? static_cast<int32_t>(f * 37 % 256) - 128
                                           : static_cast<int32_t>((255 - f * 37 % 256)));
        const auto expected = naive(s, x, x_zero, weight, zeros);
        for (const cpu::I8Loops* loops : cpu::all_i8_loops()) {
          const cpu::I8Conv conv(s, x.is_signed, weight.is_signed, *loops);
          const auto packed = conv.pack(weight.list.data());
          for (ThreadPool* pool : {&one, &three}) {
            SCOPED_TRACE(testing::Message() << loops->name << ": geometry " << k << ", signs " << signs << ", zeros "
                                            << kind << ", threads " << pool->threads());
            std::vector<int32_t> y(expected.size(), -77);
            conv.run({s.n, x.list.data(), x_zero, packed->data(), zeros, y.data()}, *pool);
            ASSERT_EQ(y, expected);
          }
        }
      }
    }
  }
}

// 70,000 products of 255 x 255 are more than 2^31.
TEST(ConvI8, SumsWrap) {
  ThreadPool one(1);
  ConvShape s;
  s.n = 1;
  s.channels = 70000;
  s.filters = 2;
  const std::vector<uint8_t> ones(static_cast<size_t>(2 * s.channels), 0xff);
  for (const bool x_signed : {false, true}) {
    for (const cpu::I8Loops* loops : cpu::all_i8_loops()) {
      const cpu::I8Conv conv(s, x_signed, false, *loops);
      std::array<int32_t, 2> y{};
      const auto packed = conv.pack(ones.data());
      conv.run({1, ones.data(), 0, packed->data(), {}, y.data()}, one);
      const int64_t sum = s.channels * 255 * (x_signed ? -1 : 255);
      EXPECT_EQ(y[0], static_cast<int32_t>(static_cast<uint32_t>(sum))) << loops->name;
      EXPECT_EQ(y[1], y[0]) << loops->name;
    }
  }
}

}  // namespace
}  // namespace tenon::test
