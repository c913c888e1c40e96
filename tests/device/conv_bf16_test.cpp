#include "tenon/device/cpu/conv_bf16.h"

#include <gtest/gtest.h>

#include <cmath>

#include "tenon/device/cpu/bf16_blocks.h"
#include "tenon/device/cpu/conv_gradients_bf16.h"
#include "tenon/device/cpu/copy.h"
#include "tenon/tensor/low_precision.h"
#include "tests/device/support.h"

namespace tenon::test {
namespace {

using cpu::Bf16Conv;
using cpu::ConvShape;

class ConvBf16 : public testing::Test {
 protected:
  void SetUp() override {
    if (!cpu::bf16_blocks::available())
      GTEST_SKIP() << "this CPU has neither AMX nor AVX-512 with bf16, or TENON_CPU_LEVEL names a level";
  }
};

ConvShape made(ConvShape s) {
  for (size_t d = 0; d < static_cast<size_t>(s.axes); ++d)
    s.out[d] = (s.in[d] + s.low[d] + s.high[d] - s.dilation[d] * (s.window[d] - 1) - 1) / s.stride[d] + 1;
  return s;
}
// 1 to 3 axes, windows that reach outside and beyond, strides, dilations, cuts, channels around the depth of a tile.
std::vector<ConvShape> bf16_shapes() {
  std::vector<ConvShape> list;
  list.push_back({.n = 2,
                  .channels = 33,
                  .filters = 40,
                  .in = {7, 9, 1},
                  .window = {3, 3, 1},
                  .low = {1, 1, 0},
                  .high = {1, 1, 0}});
  list.push_back({.n = 1,
                  .channels = 3,
                  .filters = 64,
                  .in = {20, 19, 1},
                  .window = {7, 7, 1},
                  .stride = {2, 2, 1},
                  .low = {3, 3, 0},
                  .high = {3, 3, 0}});
  list.push_back({.n = 3, .channels = 64, .filters = 5, .in = {6, 6, 1}, .window = {1, 1, 1}, .stride = {2, 2, 1}});
  list.push_back({.n = 1,
                  .channels = 20,
                  .filters = 7,
                  .in = {9, 8, 1},
                  .window = {3, 2, 1},
                  .dilation = {2, 3, 1},
                  .low = {2, 4, 0},
                  .high = {1, 3, 0}});
  list.push_back({.n = 2,
                  .channels = 4,
                  .filters = 3,
                  .in = {9, 8, 1},
                  .window = {3, 3, 1},
                  .low = {-1, 1, 0},
                  .high = {2, -2, 0}});
  list.push_back({.axes = 1,
                  .n = 2,
                  .channels = 5,
                  .filters = 33,
                  .in = {70, 1, 1},
                  .window = {5, 1, 1},
                  .low = {4, 0, 0},
                  .high = {4, 0, 0}});
  list.push_back({.axes = 3,
                  .n = 1,
                  .channels = 6,
                  .filters = 9,
                  .in = {4, 5, 6},
                  .window = {2, 3, 3},
                  .stride = {1, 2, 1},
                  .low = {1, 1, 1},
                  .high = {0, 1, 1}});
  list.push_back({.n = 1,
                  .channels = 700,
                  .filters = 36,
                  .in = {3, 3, 1},
                  .window = {3, 3, 1},
                  .low = {1, 1, 0},
                  .high = {1, 1, 0}});
  // Channels that fill whole steps: images side by side, at the edges of blocks, with their zeros between them or not.
  for (const int64_t stride : {1, 2, 3}) {
    list.push_back({.n = 5,
                    .channels = 32,
                    .filters = 34,
                    .in = {7, 7, 1},
                    .window = {3, 3, 1},
                    .stride = {stride, stride, 1},
                    .low = {1, 1, 0},
                    .high = {1, 1, 0}});
    list.push_back({.n = 2,
                    .channels = 64,
                    .filters = 3,
                    .in = {9, 12, 1},
                    .window = {2, 5, 1},
                    .stride = {1, stride, 1},
                    .dilation = {3, 2, 1},
                    .low = {2, 3, 0},
                    .high = {1, 5, 0}});
  }
  list.push_back({.n = 3, .channels = 32, .filters = 8, .in = {14, 13, 1}, .window = {1, 1, 1}, .stride = {2, 2, 1}});
  // Few channels, whose lines are gathered once for all windows that see them.
  for (const int64_t line : {14, 40}) {
    list.push_back({.n = 3,
                    .channels = 3,
                    .filters = 9,
                    .in = {11, 2 * line, 1},
                    .window = {7, 7, 1},
                    .stride = {2, 2, 1},
                    .low = {3, 3, 0},
                    .high = {3, 3, 0}});
  }
  // Lines of whole groups of places, which are read where they lie: beside the image at either end, in between not.
  for (const int64_t line : {8, 14, 24}) {
    for (const int64_t dilation : {1, 2}) {
      list.push_back({.n = 2,
                      .channels = 64,
                      .filters = 7,
                      .in = {5, line, 1},
                      .window = {3, 3, 1},
                      .dilation = {2, dilation, 1},
                      .low = {2, dilation, 0},
                      .high = {2, dilation, 0}});
    }
    list.push_back({.n = 3,
                    .channels = 32,
                    .filters = 5,
                    .in = {7, 2 * line, 1},
                    .window = {3, 3, 1},
                    .stride = {2, 2, 1},
                    .low = {1, 1, 0},
                    .high = {3, 1, 0}});
    list.push_back({.n = 2,
                    .channels = 32,
                    .filters = 4,
                    .in = {2, line + 3, 1},
                    .window = {4, 3, 1},
                    .low = {3, -2, 0},
                    .high = {3, 1, 0}});
  }
  // Planes of windows of one plane, of which some lie before or after the image, or before it alone.
  for (const int64_t low : {1, -1}) {
    list.push_back({.axes = 3,
                    .n = 2,
                    .channels = 32,
                    .filters = 6,
                    .in = {3, 4, 8},
                    .window = {1, 3, 3},
                    .low = {low, 1, 1},
                    .high = {1, 1, 1}});
  }
  list.push_back({.n = 2,
                  .channels = 32,
                  .filters = 4,
                  .in = {8, 9, 1},
                  .window = {3, 3, 1},
                  .low = {-1, 2, 0},
                  .high = {3, -2, 0}});
  list.push_back({.axes = 3,
                  .n = 2,
                  .channels = 32,
                  .filters = 6,
                  .in = {4, 5, 6},
                  .window = {2, 3, 3},
                  .stride = {2, 1, 1},
                  .low = {1, 1, 1},
                  .high = {0, 1, 1}});
  for (ConvShape& s : list) s = made(s);
  return list;
}

Shape full_shape(const ConvShape& s, int64_t channels, const ConvShape::Extents& e) {
  Shape shape{s.n, channels};
  for (size_t d = 0; d < static_cast<size_t>(s.axes); ++d) shape.push_back(e[d]);
  return shape;
}
std::vector<uint16_t> laid(const std::vector<uint16_t>& row_major, const Shape& shape, const Shape& strides) {
  std::vector<uint16_t> to(row_major.size());
  ThreadPool alone(1);
  cpu::copy({reinterpret_cast<const std::byte*>(row_major.data()), DType::BF16, shape, contiguous_strides(shape), 0},
            {reinterpret_cast<std::byte*>(to.data()), DType::BF16, shape, strides, 0}, alone);
  return to;
}

// Row-major inputs and result; magnitude: the sum of the absolute products.
void exact(const ConvShape& s, const std::vector<uint16_t>& x, const std::vector<uint16_t>& weight, int64_t n,
           int64_t f, const ConvShape::Extents& at, double& sum, double& magnitude) {
  for (int64_t c = 0; c < s.channels; ++c) {
    for (int64_t i = 0; i < s.window[0]; ++i) {
      for (int64_t j = 0; j < s.window[1]; ++j) {
        for (int64_t k = 0; k < s.window[2]; ++k) {
          const int64_t p = at[0] * s.stride[0] - s.low[0] + i * s.dilation[0];
          const int64_t q = at[1] * s.stride[1] - s.low[1] + j * s.dilation[1];
          const int64_t r = at[2] * s.stride[2] - s.low[2] + k * s.dilation[2];
          if (p < 0 || p >= s.in[0] || q < 0 || q >= s.in[1] || r < 0 || r >= s.in[2]) continue;
          const auto xi = static_cast<size_t>((((n * s.channels + c) * s.in[0] + p) * s.in[1] + q) * s.in[2] + r);
          const auto wi =
              static_cast<size_t>((((f * s.channels + c) * s.window[0] + i) * s.window[1] + j) * s.window[2] + k);
          const double product = static_cast<double>(bf16_to_f32(x[xi])) * bf16_to_f32(weight[wi]);
          sum += product;
          magnitude += std::abs(product);
        }
      }
    }
  }
}

TEST_F(ConvBf16, IsTheSumRoundedOnceWithTheSameBitsForEveryLayoutAndThreadCount) {
  for (const ConvShape& s : bf16_shapes()) {
    const Shape in = full_shape(s, s.channels, s.in), out = full_shape(s, s.filters, s.out);
    const auto x = draw_bf16(numel(in), 1), weight = draw_bf16(s.weight_size(), 2);
    std::vector<float> bias;
    for (int64_t f = 0; f < s.filters; ++f) bias.push_back(0.125F * static_cast<float>(f % 7));
    const Bf16Conv conv(s);
    std::vector<uint16_t> first;
    for (const int layout : {0, 1, 2, 3}) {
      const Shape x_strides = layout % 2 == 0 ? contiguous_strides(in) : channels_last_strides(in);
      const Shape y_strides = layout / 2 == 0 ? contiguous_strides(out) : channels_last_strides(out);
      const auto placed = laid(x, in, x_strides);
      std::vector<uint16_t> y(static_cast<size_t>(numel(out)), 0x7fff);
      ThreadPool pool(layout + 1);
      conv.run({reinterpret_cast<const std::byte*>(placed.data()), DType::BF16, in, x_strides, 0},
               conv.pack(weight.data(), pool), bias.data(), nullptr, {},
               {reinterpret_cast<std::byte*>(y.data()), DType::BF16, out, y_strides, 0}, pool);
      std::vector<uint16_t> row_major(y.size());
      cpu::copy({reinterpret_cast<const std::byte*>(y.data()), DType::BF16, out, y_strides, 0},
                {reinterpret_cast<std::byte*>(row_major.data()), DType::BF16, out, contiguous_strides(out), 0}, pool);
      if (!first.empty()) {
        ASSERT_EQ(first, row_major) << "layout " << layout << " of " << to_string(in);
        continue;
      }
      first = row_major;
      size_t o = 0;
      for (int64_t n = 0; n < s.n; ++n) {
        for (int64_t f = 0; f < s.filters; ++f) {
          for (ConvShape::Extents at{}; at[0] < s.out[0]; ++at[0]) {
            for (at[1] = 0; at[1] < s.out[1]; ++at[1]) {
              for (at[2] = 0; at[2] < s.out[2]; ++at[2], ++o) {
                double sum = bias[static_cast<size_t>(f)], magnitude = sum;
                exact(s, x, weight, n, f, at, sum, magnitude);
                const double sums = std::ldexp(1.0, -24) *
                                    static_cast<double>(s.channels * ConvShape::volume(s.window) + 2) * magnitude;
                ASSERT_NEAR(bf16_to_f32(first[o]), sum, sums + (std::abs(sum) + sums) * std::ldexp(1.0, -8))
                    << "element " << o << " of " << to_string(in) << " to " << to_string(out);
              }
            }
          }
        }
      }
    }
  }
}

// f(where in x, in the weight and in y) for each product of a convolution, all row-major.
template <class F>
void each_product(const ConvShape& s, const F& f) {
  size_t y = 0;
  for (int64_t n = 0; n < s.n; ++n) {
    for (int64_t filter = 0; filter < s.filters; ++filter) {
      for (ConvShape::Extents at{}; at[0] < s.out[0]; ++at[0]) {
        for (at[1] = 0; at[1] < s.out[1]; ++at[1]) {
          for (at[2] = 0; at[2] < s.out[2]; ++at[2], ++y) {
            for (int64_t tap = 0; tap < ConvShape::volume(s.window); ++tap) {
              const ConvShape::Extents t{tap / s.window[2] / s.window[1], tap / s.window[2] % s.window[1],
                                         tap % s.window[2]};
              int64_t place = 0;
              bool inside = true;
              for (size_t d = 0; d < 3; ++d) {
                const int64_t e = at[d] * s.stride[d] - s.low[d] + t[d] * s.dilation[d];
                inside = inside && e >= 0 && e < s.in[d];
                place = place * s.in[d] + e;
              }
              if (!inside) continue;
              for (int64_t c = 0; c < s.channels; ++c)
                f(static_cast<size_t>((n * s.channels + c) * ConvShape::volume(s.in) + place),
                  static_cast<size_t>((filter * s.channels + c) * ConvShape::volume(s.window) + tap), y);
            }
          }
        }
      }
    }
  }
}
struct Exact {
  double sum = 0, magnitude = 0, count = 0;
  void add(uint16_t a, uint16_t b) {
    const double product = static_cast<double>(bf16_to_f32(a)) * bf16_to_f32(b);
    sum += product;
    magnitude += std::abs(product);
    ++count;
  }
};
void expect_near(const std::vector<uint16_t>& got, const std::vector<Exact>& want, const Shape& in) {
  for (size_t i = 0; i < got.size(); ++i) {
    const double sums = std::ldexp(1.0, -24) * (want[i].count + 2) * want[i].magnitude;
    ASSERT_NEAR(bf16_to_f32(got[i]), want[i].sum, sums + (std::abs(want[i].sum) + sums) * std::ldexp(1.0, -8))
        << "element " << i << " of " << to_string(in);
  }
}

TEST_F(ConvBf16, GradientsAreSumsRoundedOnceWithTheSameBitsForEveryLayoutAndThreadCount) {
  for (const ConvShape& s : bf16_shapes()) {
    const Shape in = full_shape(s, s.channels, s.in), out = full_shape(s, s.filters, s.out);
    const auto x = draw_bf16(numel(in), 1), weight = draw_bf16(s.weight_size(), 2), dy = draw_bf16(numel(out), 3);
    std::vector<Exact> want_dx(x.size()), want_dw(weight.size());
    each_product(s, [&](size_t at_x, size_t at_weight, size_t at_y) {
      want_dx[at_x].add(weight[at_weight], dy[at_y]);
      want_dw[at_weight].add(x[at_x], dy[at_y]);
    });
    std::vector<uint16_t> first_dx, first_dw;
    for (const int layout : {0, 1, 2, 3}) {
      const Shape in_strides = layout % 2 == 0 ? contiguous_strides(in) : channels_last_strides(in);
      const Shape out_strides = layout / 2 == 0 ? contiguous_strides(out) : channels_last_strides(out);
      const auto placed_x = laid(x, in, in_strides), placed_dy = laid(dy, out, out_strides);
      const auto view_of = [](const std::vector<uint16_t>& v, const Shape& shape, const Shape& strides) {
        return ConstView{reinterpret_cast<const std::byte*>(v.data()), DType::BF16, shape, strides, 0};
      };
      ThreadPool pool(layout + 1);
      std::vector<uint16_t> dx(x.size(), 0x7fff), dw(weight.size(), 0x7fff), row_major(x.size());
      const View to{reinterpret_cast<std::byte*>(dx.data()), DType::BF16, in, in_strides, 0};
      cpu::conv_input_gradient_bf16(s, view_of(placed_dy, out, out_strides), weight.data(), to, pool);
      cpu::copy(view_of(dx, in, in_strides),
                {reinterpret_cast<std::byte*>(row_major.data()), DType::BF16, in, contiguous_strides(in), 0}, pool);
      cpu::conv_weight_gradient_bf16(s, view_of(placed_x, in, in_strides), view_of(placed_dy, out, out_strides),
                                     dw.data(), pool);
      if (first_dx.empty()) {
        expect_near(row_major, want_dx, in);
        expect_near(dw, want_dw, in);
        first_dx = row_major;
        first_dw = dw;
      }
      ASSERT_EQ(first_dx, row_major) << "layout " << layout << " of " << to_string(in);
      ASSERT_EQ(first_dw, dw) << "layout " << layout << " of " << to_string(in);
    }
  }
}

// relu(x * factor[channel] + other) with both layouts of `other`, as what stands behind convolutions in networks: in
// steps that registers do, and in others; behind gathered windows and behind images side by side.
TEST_F(ConvBf16, WhatFollowsIsTheProgramOfEachRoundedElement) {
  for (const int64_t channels : {10, 32}) {
    for (const bool in_steps : {false, true}) {
      const ConvShape s = made({.n = 2,
                                .channels = channels,
                                .filters = 420,
                                .in = {5, 7, 1},
                                .window = {3, 3, 1},
                                .low = {1, 1, 0},
                                .high = {1, 1, 0}});
      const Shape in = full_shape(s, s.channels, s.in), out = full_shape(s, s.filters, s.out);
      const auto x = draw_bf16(numel(in), 3), weight = draw_bf16(s.weight_size(), 4), other = draw_bf16(numel(out), 5);
      std::vector<float> factor;
      for (int64_t f = 0; f < s.filters; ++f) factor.push_back(0.5F + 0.01F * static_cast<float>(f));
      ir::ScalarBuilder builder;
      const ir::Scalar sum = builder.input(DType::BF16), f = builder.input(DType::F32), o = builder.input(DType::BF16);
      const ir::Scalar y = sum * f + o;
      const ir::Scalar relu =
          in_steps ? ir::apply_op(ir::ScalarOp::Max, std::array{y, ir::Scalar(0.0)}) : select(0 < y, y, 0);
      const ir::ScalarProgram text = builder.finish(relu, DType::BF16);
      ASSERT_TRUE(cpu::TileProgram::accepts(text));
      const cpu::Bf16After program(text);
      EXPECT_EQ(program.chain().has_value(), in_steps);
      const Bf16Conv conv(s);
      ThreadPool pool(2);
      const Ref<Buffer> packed = conv.pack(weight.data(), pool);
      const ConstView source{reinterpret_cast<const std::byte*>(x.data()), DType::BF16, in, contiguous_strides(in), 0};
      std::vector<uint16_t> plain(other.size()), got(other.size());
      const auto view_of = [&](std::vector<uint16_t>& v) {
        return View{reinterpret_cast<std::byte*>(v.data()), DType::BF16, out, contiguous_strides(out), 0};
      };
      conv.run(source, packed, nullptr, nullptr, {}, view_of(plain), pool);
      Shape of_channel(out.size(), 0);
      of_channel[1] = 1;
      for (const bool last : {false, true}) {
        const Shape strides = last ? channels_last_strides(out) : contiguous_strides(out);
        const auto placed = laid(other, out, strides);
        const std::array operands{
            ConstView{reinterpret_cast<const std::byte*>(factor.data()), DType::F32, out, of_channel, 0},
            ConstView{reinterpret_cast<const std::byte*>(placed.data()), DType::BF16, out, strides, 0}};
        conv.run(source, packed, nullptr, &program, operands, view_of(got), pool);
        const int64_t plane = ConvShape::volume(s.out);
        for (size_t i = 0; i < got.size(); ++i) {
          const float want =
              bf16_to_f32(plain[i]) * factor[i / static_cast<size_t>(plane) % factor.size()] + bf16_to_f32(other[i]);
          ASSERT_EQ(got[i], f32_to_bf16(want > 0 ? want : 0)) << i << (last ? ", channels last" : "");
        }
      }
    }
  }
}

}  // namespace
}  // namespace tenon::test
