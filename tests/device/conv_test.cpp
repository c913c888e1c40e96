#include "tenon/device/cpu/conv.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <optional>

#include "tenon/device/cpu/conv_gradients.h"
#include "tenon/device/cpu/direct_conv.h"
#include "tenon/device/cpu/planes.h"
#include "tenon/device/cpu/pointwise.h"
#include "tenon/device/cpu/winograd.h"
#include "tests/device/support.h"
#include "tests/device/tile_support.h"

namespace tenon::test {
namespace {

using cpu::ConvShape;

ConvShape shape_of(int axes, int64_t n, int64_t channels, int64_t filters, int64_t groups, ConvShape::Extents in,
                   ConvShape::Extents window, ConvShape::Extents stride, ConvShape::Extents dilation,
                   ConvShape::Extents low, ConvShape::Extents high) {
  ConvShape s{axes, n, channels, filters, groups, in, {1, 1, 1}, window, stride, dilation, low, high};
  for (size_t d = 0; d < static_cast<size_t>(axes); ++d) {
    s.out[d] = (in[d] + low[d] + high[d] - dilation[d] * (window[d] - 1) - 1) / stride[d] + 1;
  }
  return s;
}

// f(y, x, weight) for every product of the sum, by counting through all indices.
template <class F>
void each_product(const ConvShape& s, const F& f) {
  const int64_t cg = s.channels / s.groups;
  const int64_t fg = s.filters / s.groups;
  const int64_t in = ConvShape::volume(s.in);
  const int64_t out = ConvShape::volume(s.out);
  const int64_t taps = ConvShape::volume(s.window);
  for (int64_t n = 0; n < s.n; ++n) {
    for (int64_t o = 0; o < s.filters; ++o) {
      for (int64_t p = 0; p < out; ++p) {
        for (int64_t c = 0; c < cg; ++c) {
          for (int64_t t = 0; t < taps; ++t) {
            int64_t element = 0;
            bool inside = true;
            int64_t rest_p = p;
            int64_t rest_t = t;
            int64_t pitch = 1;
            for (size_t d = 3; d-- > 0;) {
              const int64_t at = rest_p % s.out[d] * s.stride[d] + rest_t % s.window[d] * s.dilation[d] - s.low[d];
              rest_p /= s.out[d];
              rest_t /= s.window[d];
              inside = inside && at >= 0 && at < s.in[d];
              element += at * pitch;
              pitch *= s.in[d];
            }
            if (!inside) continue;
            f((n * s.filters + o) * out + p, (n * s.channels + o / fg * cg + c) * in + element,
              (o * cg + c) * taps + t);
          }
        }
      }
    }
  }
}

std::vector<ConvShape> shapes() {
  return {
      shape_of(2, 4, 1, 6, 1, {28, 28, 1}, {5, 5, 1}, {1, 1, 1}, {1, 1, 1}, {2, 2, 0}, {2, 2, 0}),
      shape_of(2, 3, 16, 32, 1, {9, 11, 1}, {3, 3, 1}, {1, 1, 1}, {1, 1, 1}, {1, 1, 0}, {1, 1, 0}),
      shape_of(2, 2, 16, 8, 1, {8, 8, 1}, {1, 1, 1}, {2, 2, 1}, {1, 1, 1}, {0, 0, 0}, {0, 0, 0}),
      shape_of(2, 2, 8, 12, 4, {9, 7, 1}, {3, 2, 1}, {2, 1, 1}, {1, 2, 1}, {0, 1, 0}, {2, 1, 0}),
      shape_of(2, 2, 6, 6, 6, {9, 7, 1}, {3, 3, 1}, {1, 1, 1}, {1, 1, 1}, {1, 1, 0}, {1, 1, 0}),
      shape_of(1, 5, 3, 4, 1, {20, 1, 1}, {4, 1, 1}, {3, 1, 1}, {2, 1, 1}, {2, 0, 0}, {1, 0, 0}),
      shape_of(3, 2, 3, 5, 1, {5, 6, 7}, {2, 3, 2}, {1, 2, 1}, {1, 1, 2}, {1, 0, 1}, {0, 1, 1}),
      shape_of(2, 2, 3, 4, 1, {9, 9, 1}, {3, 3, 1}, {1, 1, 1}, {1, 1, 1}, {-1, 0, 0}, {0, -2, 0}),
      shape_of(2, 37, 16, 16, 1, {16, 16, 1}, {3, 3, 1}, {1, 1, 1}, {1, 1, 1}, {1, 1, 0}, {1, 1, 0}),
      shape_of(2, 0, 3, 4, 1, {5, 5, 1}, {3, 3, 1}, {1, 1, 1}, {1, 1, 1}, {0, 0, 0}, {0, 0, 0}),
      // Elements of x that fall into phases: with taps of their own, with none, in groups, by themselves, cropped.
      shape_of(2, 5, 5, 7, 1, {11, 10, 1}, {3, 3, 1}, {2, 2, 1}, {1, 1, 1}, {1, 1, 0}, {1, 1, 0}),
      shape_of(2, 2, 5, 20, 1, {13, 9, 1}, {2, 1, 1}, {3, 2, 1}, {1, 1, 1}, {0, 0, 0}, {0, 0, 0}),
      shape_of(2, 2, 6, 9, 3, {13, 12, 1}, {3, 5, 1}, {2, 3, 1}, {2, 2, 1}, {2, 3, 0}, {1, 4, 0}),
      shape_of(2, 2, 18, 18, 18, {11, 9, 1}, {3, 3, 1}, {2, 2, 1}, {1, 1, 1}, {1, 1, 0}, {1, 1, 0}),
      shape_of(2, 3, 16, 16, 16, {9, 9, 1}, {3, 2, 1}, {2, 2, 1}, {1, 3, 1}, {0, 1, 0}, {2, 1, 0}),
      shape_of(3, 2, 4, 6, 2, {5, 6, 7}, {3, 2, 3}, {2, 1, 2}, {1, 2, 1}, {1, 1, 0}, {0, 1, 2}),
      shape_of(2, 2, 4, 5, 1, {12, 9, 1}, {3, 3, 1}, {2, 2, 1}, {1, 1, 1}, {-2, 0, 0}, {1, -3, 0}),
      shape_of(1, 2, 2, 3, 1, {1500, 1, 1}, {9, 1, 1}, {1, 1, 1}, {1, 1, 1}, {4, 0, 0}, {4, 0, 0}),
      shape_of(1, 2, 3, 3, 3, {300, 1, 1}, {4, 1, 1}, {1, 1, 1}, {2, 1, 1}, {3, 0, 0}, {0, 0, 0}),
      // Many channels, in blocks; in groups too.
      shape_of(2, 3, 258, 5, 1, {4, 5, 1}, {3, 3, 1}, {2, 1, 1}, {1, 1, 1}, {1, 1, 0}, {1, 1, 0}),
      shape_of(1, 2, 514, 4, 2, {5, 1, 1}, {2, 1, 1}, {1, 1, 1}, {1, 1, 1}, {0, 0, 0}, {1, 0, 0}),
      // Few places and long sums: examples side by side.
      shape_of(2, 33, 90, 9, 1, {4, 4, 1}, {3, 3, 1}, {1, 1, 1}, {1, 1, 1}, {1, 1, 0}, {1, 1, 0}),
  };
}

// Those that go by transforms of 4 x 4 places: odd extents, channels and filters that fill no vector, padding of every
// kind, few and many tiles, whole images in one band, as many parts of the batch as have room for their sums (where
// columns that only one CPU level has must not count), planes of a third axis.
std::vector<ConvShape> winograd_shapes() {
  return {
      shape_of(2, 2, 32, 32, 1, {7, 7, 1}, {3, 3, 1}, {1, 1, 1}, {1, 1, 1}, {1, 1, 0}, {1, 1, 0}),
      shape_of(2, 1, 41, 70, 1, {9, 16, 1}, {3, 3, 1}, {1, 1, 1}, {1, 1, 1}, {1, 1, 0}, {1, 1, 0}),
      shape_of(2, 21, 40, 48, 1, {4, 4, 1}, {3, 3, 1}, {1, 1, 1}, {1, 1, 1}, {1, 1, 0}, {1, 1, 0}),
      shape_of(2, 2, 36, 33, 1, {14, 37, 1}, {3, 3, 1}, {1, 1, 1}, {1, 1, 1}, {0, 0, 0}, {0, 0, 0}),
      shape_of(2, 1, 32, 35, 1, {8, 11, 1}, {3, 3, 1}, {1, 1, 1}, {1, 1, 1}, {3, 0, 0}, {-1, 1, 0}),
      shape_of(2, 1, 256, 160, 1, {6, 6, 1}, {3, 3, 1}, {1, 1, 1}, {1, 1, 1}, {1, 1, 0}, {1, 1, 0}),
      shape_of(2, 8, 128, 72, 1, {6, 6, 1}, {3, 3, 1}, {1, 1, 1}, {1, 1, 1}, {1, 1, 0}, {1, 1, 0}),
      shape_of(3, 2, 32, 32, 1, {3, 6, 8}, {1, 3, 3}, {1, 1, 1}, {1, 1, 1}, {0, 1, 1}, {0, 1, 1}),
  };
}

template <class T>
std::vector<T> numbers(int64_t n, int seed) {
  std::vector<T> v(static_cast<size_t>(n));
  for (size_t i = 0; i < v.size(); ++i)
    v[i] = static_cast<T>(static_cast<int>((i * 31 + static_cast<size_t>(seed) * 17) % 11) - 5);
  return v;
}

// Whole numbers, so that every order of summation gives the same.
template <class T>
void check_all() {
  ThreadPool pool(2);
  std::vector<ConvShape> all = shapes();
  if (std::is_same_v<T, float>) {
    for (const ConvShape& s : winograd_shapes()) all.push_back(s);
  }
  for (const ConvShape& s : all) {
    const auto x = numbers<T>(s.n * s.x_size(), 1);
    const auto w = numbers<T>(s.weight_size(), 2);
    const auto b = numbers<T>(s.filters, 3);
    const auto dy = numbers<T>(s.n * s.y_size(), 4);
    std::vector<T> y(dy.size(), T{99});
    std::vector<T> want(dy.size());
    for (size_t i = 0; i < want.size(); ++i) want[i] = b[i / static_cast<size_t>(ConvShape::volume(s.out)) % b.size()];
    std::vector<T> dx(x.size(), T{99});
    std::vector<T> want_dx(x.size(), T{0});
    std::vector<T> dw(w.size(), T{99});
    std::vector<T> want_dw(w.size(), T{0});
    each_product(s, [&](int64_t o, int64_t i, int64_t k) {
      const auto oo = static_cast<size_t>(o);
      const auto ii = static_cast<size_t>(i);
      const auto kk = static_cast<size_t>(k);
      want[oo] += x[ii] * w[kk];
      want_dx[ii] += dy[oo] * w[kk];
      want_dw[kk] += dy[oo] * x[ii];
    });
    cpu::conv_forward(s, x.data(), w.data(), b.data(), y.data(), pool);
    EXPECT_EQ(y, want);
    cpu::conv_backward_data(s, dy.data(), w.data(), dx.data(), pool);
    EXPECT_EQ(dx, want_dx);
    cpu::conv_backward_weight(s, x.data(), dy.data(), dw.data(), pool);
    EXPECT_EQ(dw, want_dw);
  }
}

TEST(Conv, ForwardAndGradientsAgreeWithALoopF32) { check_all<float>(); }
TEST(Conv, ForwardAndGradientsAgreeWithALoopF64) { check_all<double>(); }

TEST(Conv, SameBitsForAnyNumberOfThreads) {
  const ConvShape s = shape_of(2, 20, 16, 24, 1, {16, 16, 1}, {3, 3, 1}, {1, 1, 1}, {1, 1, 1}, {1, 1, 0}, {1, 1, 0});
  Array x(DType::F32, {s.n * s.x_size()});
  Array w(DType::F32, {s.weight_size()});
  Array dy(DType::F32, {s.n * s.y_size()});
  x.fill_random(1);
  w.fill_random(2);
  dy.fill_random(3);
  std::vector<std::vector<float>> seen;
  for (int threads : {1, 2, 5}) {
    ThreadPool pool(threads);
    std::vector<float> all;
    std::vector<float> y(static_cast<size_t>(s.n * s.y_size()));
    std::vector<float> dx(static_cast<size_t>(s.n * s.x_size()));
    std::vector<float> dw(static_cast<size_t>(s.weight_size()));
    cpu::conv_forward(s, x.data<float>(), w.data<float>(), nullptr, y.data(), pool);
    cpu::conv_backward_data(s, dy.data<float>(), w.data<float>(), dx.data(), pool);
    cpu::conv_backward_weight(s, x.data<float>(), dy.data<float>(), dw.data(), pool);
    for (const auto* part : {&y, &dx, &dw}) all.insert(all.end(), part->begin(), part->end());
    seen.push_back(all);
  }
  EXPECT_EQ(std::memcmp(seen[0].data(), seen[1].data(), seen[0].size() * 4), 0);
  EXPECT_EQ(std::memcmp(seen[0].data(), seen[2].data(), seen[0].size() * 4), 0);
}

// A product is (input, weight) or (weight, input) or (input, cotangent); `at` is its place in the chain.
struct Link {
  int64_t at;
  float a, b;
};
float chained(std::vector<Link>& links) {
  std::sort(links.begin(), links.end(), [](const Link& a, const Link& b) { return a.at < b.at; });
  float sum = 0;
  for (const Link& link : links) sum = std::fma(link.a, link.b, sum);
  return sum;
}

// Shapes that reach every loop of DirectConv: tiles of several widths and depths, pairs of short rows, groups, each
// channel by itself with and without a rest and in strips, padding on one side, places in one run.
std::vector<ConvShape> direct_shapes() {
  std::vector<ConvShape> all = shapes();
  std::erase_if(all, [](const ConvShape& s) { return s.n > 8; });
  for (const ConvShape& s :
       {shape_of(2, 1, 3, 64, 1, {14, 14, 1}, {7, 7, 1}, {2, 2, 1}, {1, 1, 1}, {3, 3, 0}, {3, 3, 0}),
        shape_of(2, 1, 40, 100, 1, {9, 9, 1}, {1, 1, 1}, {1, 1, 1}, {1, 1, 1}, {0, 0, 0}, {0, 0, 0}),
        shape_of(2, 1, 180, 32, 1, {7, 7, 1}, {3, 3, 1}, {1, 1, 1}, {2, 2, 1}, {2, 2, 0}, {2, 2, 0}),
        shape_of(2, 1, 64, 48, 1, {14, 14, 1}, {3, 3, 1}, {2, 2, 1}, {1, 1, 1}, {1, 1, 0}, {1, 1, 0}),
        shape_of(2, 1, 32, 32, 32, {15, 13, 1}, {3, 3, 1}, {2, 2, 1}, {1, 1, 1}, {1, 1, 0}, {1, 1, 0}),
        shape_of(2, 1, 64, 64, 64, {4, 60, 1}, {3, 3, 1}, {1, 1, 1}, {1, 1, 1}, {1, 1, 0}, {1, 1, 0}),
        shape_of(2, 3, 19, 19, 19, {6, 8, 1}, {5, 3, 1}, {1, 1, 1}, {1, 2, 1}, {2, 2, 0}, {2, 2, 0}),
        shape_of(2, 1, 12, 24, 12, {6, 8, 1}, {3, 3, 1}, {1, 1, 1}, {1, 1, 1}, {1, 1, 0}, {1, 1, 0}),
        shape_of(2, 8, 96, 20, 1, {2, 2, 1}, {3, 3, 1}, {1, 1, 1}, {1, 1, 1}, {1, 1, 0}, {1, 1, 0}),
        shape_of(2, 5, 24, 33, 1, {1, 1, 1}, {1, 1, 1}, {1, 1, 1}, {1, 1, 1}, {0, 0, 0}, {0, 0, 0}),
        shape_of(2, 1, 16, 16, 1, {8, 8, 1}, {1, 3, 1}, {1, 1, 1}, {1, 1, 1}, {0, 3, 0}, {0, 0, 0}),
        // Products of matrices: few and many places, more filters or more channels, in groups.
        shape_of(2, 3, 20, 12, 1, {13, 11, 1}, {1, 1, 1}, {1, 1, 1}, {1, 1, 1}, {0, 0, 0}, {0, 0, 0}),
        shape_of(2, 2, 10, 24, 1, {24, 24, 1}, {1, 1, 1}, {1, 1, 1}, {1, 1, 1}, {0, 0, 0}, {0, 0, 0}),
        shape_of(1, 2, 24, 40, 2, {150, 1, 1}, {1, 1, 1}, {1, 1, 1}, {1, 1, 1}, {0, 0, 0}, {0, 0, 0}),
        // Channels by themselves in long rows: rows of one vector and of many, with all taps nowhere, with steps,
        // spread, with more taps than places, cropped, without a tap for some of x, planes of a third axis.
        shape_of(2, 2, 5, 5, 5, {9, 28, 1}, {3, 3, 1}, {1, 1, 1}, {1, 1, 1}, {1, 1, 0}, {1, 1, 0}),
        shape_of(2, 1, 3, 3, 3, {4, 203, 1}, {5, 5, 1}, {1, 1, 1}, {1, 1, 1}, {2, 2, 0}, {2, 2, 0}),
        shape_of(2, 2, 4, 4, 4, {11, 56, 1}, {3, 3, 1}, {2, 2, 1}, {1, 1, 1}, {1, 1, 0}, {1, 1, 0}),
        shape_of(2, 1, 3, 3, 3, {10, 113, 1}, {3, 5, 1}, {1, 3, 1}, {2, 2, 1}, {2, 5, 0}, {1, 2, 0}),
        shape_of(2, 1, 2, 2, 2, {3, 29, 1}, {1, 33, 1}, {1, 1, 1}, {1, 1, 1}, {0, 16, 0}, {0, 16, 0}),
        shape_of(2, 1, 3, 3, 3, {8, 70, 1}, {3, 3, 1}, {1, 1, 1}, {1, 1, 1}, {-1, -3, 0}, {0, -7, 0}),
        shape_of(2, 2, 3, 3, 3, {7, 61, 1}, {1, 1, 1}, {2, 2, 1}, {1, 1, 1}, {0, 0, 0}, {0, 0, 0}),
        shape_of(3, 1, 3, 3, 3, {4, 5, 40}, {2, 3, 3}, {1, 2, 1}, {1, 1, 2}, {1, 1, 2}, {0, 1, 2})})
    all.push_back(s);
  for (const ConvShape& s : all) EXPECT_FALSE(cpu::winograd_takes(cpu::moved_to_the_end(s)));
  return all;
}

Shape full_shape(const ConvShape& s, bool y) {
  Shape shape{s.n, y ? s.filters : s.channels};
  for (size_t d = 0; d < static_cast<size_t>(s.axes); ++d) shape.push_back(y ? s.out[d] : s.in[d]);
  return shape;
}

// Steps that tiles do in registers, alone and two at a time, and what they are.
ir::ScalarProgram what_follows_in_tiles(bool pairs) {
  const DType f = DType::F32;
  return program_of({f, f, f, f}, [&](auto x) {
    const auto clamped = [](const ir::Scalar& y) {
      return ir::apply_op(ir::ScalarOp::Min,
                          std::array{ir::apply_op(ir::ScalarOp::Max, std::array{y, ir::Scalar(0.0)}), ir::Scalar(0.5)});
    };
    if (pairs) return clamped(x[0] * x[1] + x[3]) + x[2];
    return ir::apply_op(ir::ScalarOp::Max, std::array{(x[0] - x[3]) * x[1], ir::Scalar(0.0)}) + x[2];
  });
}
float in_tiles(bool pairs, float sum, float scale, float other, float least) {
  if (!pairs) return std::max((sum - least) * scale, 0.0F) + other;
  const float moved = sum * scale + least;
  return std::clamp(moved, 0.0F, 0.5F) + other;
}
enum class Follows : uint8_t { Nothing, Program, Steps, AboveZero, Tiles, Pairs };

// The operands of a convolution.
struct Operands {
  explicit Operands(const ConvShape& s)
      : x_shape(full_shape(s, false)),
        y_shape(full_shape(s, true)),
        x(DType::F32, x_shape),
        w(DType::F32, {s.weight_size()}),
        dy(DType::F32, y_shape) {
    x.fill_random(1);
    w.fill_random(2);
    dy.fill_random(3);
  }
  Shape x_shape, y_shape;
  Array x, w, dy;
};

// That the convolution's sums have these bits whatever lies where and whoever computes it: all layouts, CPU levels and
// numbers of threads, and the scalar program as if it ran by itself.
void expect_every_way(const ConvShape& s, const Operands& of, const std::vector<float>& sums) {
  const Shape &x_shape = of.x_shape, &y_shape = of.y_shape;
  Array scale(DType::F32, {s.filters}), other(DType::F32, y_shape), least(DType::F32, {1});
  scale.fill_random(4);
  other.fill_random(5);
  least.fill_random(6, -1, 0);
  Array zero(DType::F32, {1});
  zero.fill([](int64_t) { return 0.0F; });
  Array x_last = channels_last(x_shape), other_last = channels_last(y_shape);
  x_last.fill([&](int64_t i) { return of.x.data<float>()[i]; });
  other_last.fill([&](int64_t i) { return other.data<float>()[i]; });
  for (int level : {2, 3, 4}) {
    if (cpu::best_level() < level) continue;
    const cpu::LevelTable& loops = cpu::level_table(level);
    for (int threads : {1, 3}) {
      ThreadPool pool(threads);
      Array plain(DType::F32, y_shape);
      for (const auto& [takes, run] :
           {std::pair(&cpu::is_pointwise, &cpu::pointwise), std::pair(&cpu::is_by_planes, &cpu::planes)}) {
        if (!takes(s, of.x.in(), plain.in())) continue;
        for (const bool biased : {false, true}) {
          run(s, of.x.in(), of.w.data<float>(), biased ? scale.data<float>() : nullptr, plain.out(), loops, pool);
          std::vector<float> want = sums;
          const size_t plane = want.size() / static_cast<size_t>(s.n * s.filters);
          for (size_t o = 0; biased && o < want.size(); ++o)
            want[o] += scale.data<float>()[o / plane % static_cast<size_t>(s.filters)];
          EXPECT_TRUE(same_bits(floats(plain), want)) << level << threads << biased;
        }
      }
      for (const Follows kind :
           {Follows::Nothing, Follows::Program, Follows::Steps, Follows::AboveZero, Follows::Tiles, Follows::Pairs}) {
        const bool follow = kind != Follows::Nothing, tiles = kind == Follows::Tiles || kind == Follows::Pairs;
        const Array& bound = kind == Follows::AboveZero ? zero : least;
        std::optional<ir::ScalarProgram> program;
        if (kind == Follows::Program) program = what_follows();
        if (kind == Follows::Steps || kind == Follows::AboveZero) program = what_follows_in_steps();
        if (tiles) program = what_follows_in_tiles(kind == Follows::Pairs);
        cpu::DirectConv conv(s, loops, program);
        conv.use(conv.pack(of.w.data<float>()));
        for (bool in_last : {false, true}) {
          for (bool out_last : {false, true}) {
            Array y = out_last ? channels_last(y_shape) : Array(DType::F32, y_shape);
            std::vector<ConstView> operands{cpu::bias_view(scale.data<float>(), y_shape),
                                            in_last ? other_last.in() : other.in(), bound.in()};
            operands[2].shape = y_shape;
            operands[2].strides = Shape(y_shape.size(), 0);
            if (!follow) operands.clear();
            conv.run(in_last ? x_last.in() : of.x.in(), operands, y.out(), pool);
            std::vector<float> want = sums;
            for (size_t o = 0; follow && o < want.size(); ++o) {
              const size_t plane = want.size() / static_cast<size_t>(s.n * s.filters);
              const float by = scale.data<float>()[o / plane % static_cast<size_t>(s.filters)];
              const float added = other.data<float>()[o], least_of_all = bound.data<float>()[0];
              want[o] = tiles ? in_tiles(kind == Follows::Pairs, want[o], by, added, least_of_all)
                              : std::max(want[o] * by + added, least_of_all);
            }
            EXPECT_TRUE(same_bits(floats(y), want))
                << level << threads << static_cast<int>(kind) << in_last << out_last;
          }
        }
      }
    }
  }
}

// The same of both gradients; `dw` may be empty, then its bits only have to be the same every time. They are returned.
std::vector<float> expect_gradients_every_way(const ConvShape& s, const Operands& of, const std::vector<float>& want_dx,
                                              std::vector<float> want_dw) {
  Array x_last = channels_last(of.x_shape), dy_last = channels_last(of.y_shape);
  x_last.fill([&](int64_t i) { return of.x.data<float>()[i]; });
  dy_last.fill([&](int64_t i) { return of.dy.data<float>()[i]; });
  for (int level : {2, 3, 4}) {
    if (cpu::best_level() < level) continue;
    const cpu::LevelTable& loops = cpu::level_table(level);
    for (int threads : {1, 3}) {
      ThreadPool pool(threads);
      for (bool last : {false, true}) {
        Array dx = last ? channels_last(of.x_shape) : Array(DType::F32, of.x_shape);
        cpu::conv_input_gradient(s, last ? dy_last.in() : of.dy.in(), of.w.data<float>(), dx.out(), loops, pool);
        EXPECT_TRUE(same_bits(floats(dx), want_dx)) << level << threads << last;
        std::vector<float> dw(static_cast<size_t>(s.weight_size()));
        cpu::conv_weight_gradient(s, last ? x_last.in() : of.x.in(), last ? dy_last.in() : of.dy.in(), dw.data(), loops,
                                  pool);
        if (want_dw.empty()) want_dw = dw;
        EXPECT_TRUE(same_bits(dw, want_dw)) << level << threads << last;
      }
    }
  }
  return want_dw;
}

// One chain of fused multiply-adds over (window, channel) for every element.
TEST(Conv, BitsAreThoseOfOneChain) {
  int products = 0, planes = 0;
  for (const ConvShape& s : direct_shapes()) {
    const Operands of(s);
    SCOPED_TRACE(to_string(of.x_shape) + " -> " + to_string(of.y_shape));
    products += cpu::is_pointwise(s, of.x.in(), of.dy.in()) ? 1 : 0;
    planes += cpu::is_by_planes(s, of.x.in(), of.dy.in()) ? 1 : 0;
    // each_product visits (channel, window); the chain is (window, channel).
    std::vector<std::vector<Link>> chains(static_cast<size_t>(numel(of.y_shape)));
    const int64_t cg = s.channels / s.groups, taps = ConvShape::volume(s.window);
    each_product(s, [&](int64_t o, int64_t i, int64_t k) {
      const int64_t place = k % taps * cg + k / taps % cg;
      chains[static_cast<size_t>(o)].push_back({place, of.x.data<float>()[i], of.w.data<float>()[k]});
    });
    std::vector<float> sums;
    for (auto& links : chains) sums.push_back(chained(links));
    expect_every_way(s, of, sums);
  }
  EXPECT_GE(products, 3);
  EXPECT_GE(planes, 9);
}

// The gradients likewise: of the input one chain over (window, filter), where the window runs as dy does; of the weight
// one over places, where the batch is one part and no channel is by itself. In every case sums in f64 bear them out.
TEST(Conv, BitsOfGradientsAreThoseOfOneChain) {
  for (const ConvShape& s : direct_shapes()) {
    const Operands of(s);
    SCOPED_TRACE(to_string(of.x_shape) + " -> " + to_string(of.y_shape));
    const int64_t fg = s.filters / std::max<int64_t>(1, s.groups), taps = ConvShape::volume(s.window);
    const int64_t places = ConvShape::volume(s.out);
    std::vector<std::vector<Link>> of_x(static_cast<size_t>(numel(of.x_shape))),
        of_w(static_cast<size_t>(s.weight_size()));
    each_product(s, [&](int64_t o, int64_t i, int64_t k) {
      const int64_t filter = o / places % s.filters, example = o / places / s.filters;
      const float dy = of.dy.data<float>()[o];
      of_x[static_cast<size_t>(i)].push_back({(taps - 1 - k % taps) * fg + filter % fg, dy, of.w.data<float>()[k]});
      of_w[static_cast<size_t>(k)].push_back({example * places + o % places, of.x.data<float>()[i], dy});
    });
    const bool one_chain = s.groups != s.channels && places * s.n * s.weight_size() < 1024 * 1024;
    std::vector<float> want_dx, want_dw;
    for (auto& links : of_x) want_dx.push_back(chained(links));
    for (auto& links : of_w) want_dw.push_back(chained(links));
    const std::vector<float> dw =
        expect_gradients_every_way(s, of, want_dx, one_chain ? want_dw : std::vector<float>{});
    for (size_t k = 0; k < dw.size(); ++k) {
      double sum = 0, size = 0;
      for (const Link& link : of_w[k]) {
        const double product = static_cast<double>(link.a) * static_cast<double>(link.b);
        sum += product;
        size += std::abs(product);
      }
      ASSERT_NEAR(dw[k], sum, 1e-6 * size) << k;
    }
  }
}

// F(2 x 2, 3 x 3) as the paper has it, rows first, each sum of two numbers rounded: the bits that are promised.
using Four = std::array<float, 4>;
Four of_input(const Four& d) { return {d[0] - d[2], d[1] + d[2], d[2] - d[1], d[1] - d[3]}; }
Four of_weight(const std::array<float, 3>& g) {
  const float outer = g[0] + g[2];
  return {g[0], (outer + g[1]) * 0.5F, (outer - g[1]) * 0.5F, g[2]};
}
std::array<float, 2> of_result(const Four& m) { return {m[0] + m[1] + m[2], m[1] - m[2] - m[3]}; }
Four of_cotangent(const std::array<float, 2>& d) { return {d[0], d[0] + d[1], d[0] - d[1], 0.0F - d[1]}; }
std::array<float, 3> of_gradient(const Four& u) {
  const float sum = (u[1] + u[2]) * 0.5F;
  return {u[0] + sum, (u[1] - u[2]) * 0.5F, sum + u[3]};
}
template <size_t From, class F>
auto both_ways(const std::array<std::array<float, From>, From>& square, const F& f) {
  using To = decltype(f(square[0]));
  constexpr size_t kTo = std::tuple_size_v<To>;
  std::array<To, From> rows{};
  for (size_t i = 0; i < From; ++i) rows[i] = f(square[i]);
  std::array<To, kTo> all{};
  for (size_t j = 0; j < kTo; ++j) {
    std::array<float, From> column{};
    for (size_t i = 0; i < From; ++i) column[i] = rows[i][j];
    const To to = f(column);
    for (size_t i = 0; i < kTo; ++i) all[i][j] = to[i];
  }
  return all;
}

// A plain loop over images [n, channels, plane] of an operand; what lies outside is zero.
struct Planes {
  const float* data;
  int64_t channels;
  ConvShape::Extents in;  // planes, rows, columns
  [[nodiscard]] float at(int64_t image, int64_t c, int64_t row, int64_t column) const {
    if (row < 0 || row >= in[1] || column < 0 || column >= in[2]) return 0;
    const int64_t n = image / in[0], plane = image % in[0];
    return data[(((n * channels + c) * in[0] + plane) * in[1] + row) * in[2] + column];
  }
  template <size_t Side>
  [[nodiscard]] std::array<std::array<float, Side>, Side> square(int64_t image, int64_t c, int64_t row,
                                                                 int64_t column) const {
    std::array<std::array<float, Side>, Side> d{};
    for (size_t i = 0; i < Side; ++i) {
      for (size_t j = 0; j < Side; ++j)
        d[i][j] = at(image, c, row + static_cast<int64_t>(i), column + static_cast<int64_t>(j));
    }
    return d;
  }
};
using Taps = std::array<std::array<float, 3>, 3>;

// weight(filter, channel) are the taps; `low` what lies in front of x.
template <class F>
std::vector<float> winograd_loop(int64_t images, const Planes& x, int64_t filters, ConvShape::Extents out,
                                 ConvShape::Extents low, const F& weight) {
  std::vector<float> y(static_cast<size_t>(images * filters * out[1] * out[2]));
  for (int64_t image = 0; image < images; ++image) {
    for (int64_t row = 0; row < out[1]; row += 2) {
      for (int64_t column = 0; column < out[2]; column += 2) {
        for (int64_t f = 0; f < filters; ++f) {
          std::array<Four, 4> m{};
          for (int64_t c = 0; c < x.channels; ++c) {
            const auto v = both_ways(x.square<4>(image, c, row - low[1], column - low[2]), of_input);
            const auto u = both_ways(weight(f, c), of_weight);
            for (size_t i = 0; i < 4; ++i) {
              for (size_t j = 0; j < 4; ++j) m[i][j] = std::fma(v[i][j], u[i][j], m[i][j]);
            }
          }
          const auto tile = both_ways(m, of_result);
          const int64_t n = image / out[0], plane = image % out[0];
          for (int64_t i = row; i < std::min(row + 2, out[1]); ++i) {
            for (int64_t j = column; j < std::min(column + 2, out[2]); ++j)
              y[static_cast<size_t>((((n * filters + f) * out[0] + plane) * out[1] + i) * out[2] + j)] =
                  tile[static_cast<size_t>(i - row)][static_cast<size_t>(j - column)];
          }
        }
      }
    }
  }
  return y;
}

std::vector<float> winograd_weight_loop(int64_t images, const Planes& x, const Planes& dy, ConvShape::Extents low) {
  std::vector<float> dw;
  for (int64_t f = 0; f < dy.channels; ++f) {
    for (int64_t c = 0; c < x.channels; ++c) {
      std::array<Four, 4> sum{};
      for (int64_t image = 0; image < images; ++image) {
        for (int64_t row = 0; row < dy.in[1]; row += 2) {
          for (int64_t column = 0; column < dy.in[2]; column += 2) {
            const auto v = both_ways(x.square<4>(image, c, row - low[1], column - low[2]), of_input);
            const auto z = both_ways(dy.square<2>(image, f, row, column), of_cotangent);
            for (size_t i = 0; i < 4; ++i) {
              for (size_t j = 0; j < 4; ++j) sum[i][j] = std::fma(v[i][j], z[i][j], sum[i][j]);
            }
          }
        }
      }
      for (const auto& row : both_ways(sum, of_gradient)) dw.insert(dw.end(), row.begin(), row.end());
    }
  }
  return dw;
}

TEST(Conv, BitsOfWindowsOfThreeByThreeAreThoseOfWinogradsTiles) {
  for (const ConvShape& given : winograd_shapes()) {
    const ConvShape s = cpu::moved_to_the_end(given);
    ASSERT_TRUE(cpu::winograd_takes(s));
    const Operands of(given);
    SCOPED_TRACE(to_string(of.x_shape) + " -> " + to_string(of.y_shape));
    const Planes x{of.x.data<float>(), s.channels, s.in}, dy{of.dy.data<float>(), s.filters, s.out};
    const int64_t images = s.n * s.out[0];
    const auto taps = [&](int64_t f, int64_t c) {
      Taps g{};
      const float* from = of.w.data<float>() + (f * s.channels + c) * 9;
      for (size_t t = 0; t < 9; ++t) g[t / 3][t % 3] = from[t];
      return g;
    };
    const auto turned = [&](int64_t c, int64_t f) {
      Taps g = taps(f, c);
      std::reverse(g.begin(), g.end());
      for (auto& row : g) std::reverse(row.begin(), row.end());
      return g;
    };
    expect_every_way(given, of, winograd_loop(images, x, s.filters, s.out, s.low, taps));
    const std::vector<float> dx = winograd_loop(images, dy, s.channels, s.in, {0, 2 - s.low[1], 2 - s.low[2]}, turned);
    const int64_t tiles = images * ((s.out[1] + 1) / 2) * ((s.out[2] + 1) / 2);
    const bool one_chain = cpu::winograd_takes_weight_gradient(s) && tiles * 16 * s.channels * s.filters < 2048 * 1024;
    expect_gradients_every_way(given, of, dx,
                               one_chain ? winograd_weight_loop(images, x, dy, s.low) : std::vector<float>{});
  }
}

// What the transforms cost in digits: against sums in f64 about what the plain chain loses, whose sums are longer.
TEST(Conv, WinogradsTilesAreAsAccurateAsTheChain) {
  ThreadPool pool(1);
  for (const int64_t channels : {32, 256}) {
    const ConvShape s =
        shape_of(2, 1, channels, 32, 1, {8, 8, 1}, {3, 3, 1}, {1, 1, 1}, {1, 1, 1}, {1, 1, 0}, {1, 1, 0});
    const Operands of(s);
    std::vector<float> y(static_cast<size_t>(s.n * s.y_size())), chain(y.size());
    std::vector<double> exact(y.size());
    each_product(s, [&](int64_t o, int64_t i, int64_t k) {
      const float a = of.x.data<float>()[i], b = of.w.data<float>()[k];
      chain[static_cast<size_t>(o)] = std::fma(a, b, chain[static_cast<size_t>(o)]);
      exact[static_cast<size_t>(o)] += static_cast<double>(a) * static_cast<double>(b);
    });
    cpu::conv_forward(s, of.x.data<float>(), of.w.data<float>(), nullptr, y.data(), pool);
    double worst = 0, worst_of_chain = 0;
    for (size_t i = 0; i < y.size(); ++i) {
      worst = std::max(worst, std::abs(y[i] - exact[i]));
      worst_of_chain = std::max(worst_of_chain, std::abs(chain[i] - exact[i]));
    }
    EXPECT_LT(worst, 1.5 * worst_of_chain) << channels;
    EXPECT_GT(worst, 0);
  }
}

// Tiles share places, so an infinity spreads, but only to tiles that see it.
TEST(Conv, AnInfinityReachesOnlyTilesThatSeeIt) {
  ThreadPool pool(1);
  const ConvShape s = shape_of(2, 1, 32, 32, 1, {12, 12, 1}, {3, 3, 1}, {1, 1, 1}, {1, 1, 1}, {1, 1, 0}, {1, 1, 0});
  Operands of(s);
  of.x.data<float>()[5 * 12 + 5] = INFINITY;
  std::vector<float> y(static_cast<size_t>(s.y_size()));
  cpu::conv_forward(s, of.x.data<float>(), of.w.data<float>(), nullptr, y.data(), pool);
  for (int64_t row = 0; row < 12; ++row) {
    for (int64_t column = 0; column < 12; ++column) {
      const bool sees = std::abs(row - 5) <= 1 && std::abs(column - 5) <= 1;
      const bool tile_sees = row >= 4 && row < 8 && column >= 4 && column < 8;
      const float value = y[static_cast<size_t>(row * 12 + column)];
      EXPECT_FALSE(sees && std::isfinite(value)) << row << column;
      EXPECT_TRUE(tile_sees || std::isfinite(value)) << row << column;
    }
  }
}

}  // namespace
}  // namespace tenon::test
