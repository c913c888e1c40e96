#include "tenon/device/cpu/conv.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <optional>

#include "tenon/device/cpu/conv_gradients.h"
#include "tenon/device/cpu/direct_conv.h"
#include "tenon/device/cpu/elementwise.h"
#include "tenon/device/cpu/widen.h"
#include "tenon/ir/compose.h"
#include "tenon/tensor/low_precision.h"
#include "tests/device/support.h"

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
  for (const ConvShape& s : shapes()) {
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
// channel by itself with and without a rest, padding on one side, places in one run.
std::vector<ConvShape> direct_shapes() {
  std::vector<ConvShape> all = shapes();
  std::erase_if(all, [](const ConvShape& s) { return s.n > 8; });
  for (const ConvShape& s :
       {shape_of(2, 1, 3, 64, 1, {14, 14, 1}, {7, 7, 1}, {2, 2, 1}, {1, 1, 1}, {3, 3, 0}, {3, 3, 0}),
        shape_of(2, 1, 40, 100, 1, {9, 9, 1}, {1, 1, 1}, {1, 1, 1}, {1, 1, 1}, {0, 0, 0}, {0, 0, 0}),
        shape_of(2, 1, 180, 32, 1, {7, 7, 1}, {3, 3, 1}, {1, 1, 1}, {1, 1, 1}, {1, 1, 0}, {1, 1, 0}),
        shape_of(2, 1, 64, 48, 1, {14, 14, 1}, {3, 3, 1}, {2, 2, 1}, {1, 1, 1}, {1, 1, 0}, {1, 1, 0}),
        shape_of(2, 1, 32, 32, 32, {15, 13, 1}, {3, 3, 1}, {2, 2, 1}, {1, 1, 1}, {1, 1, 0}, {1, 1, 0}),
        shape_of(2, 3, 19, 19, 19, {6, 8, 1}, {5, 3, 1}, {1, 1, 1}, {1, 2, 1}, {2, 2, 0}, {2, 2, 0}),
        shape_of(2, 1, 12, 24, 12, {6, 8, 1}, {3, 3, 1}, {1, 1, 1}, {1, 1, 1}, {1, 1, 0}, {1, 1, 0}),
        shape_of(2, 8, 96, 20, 1, {2, 2, 1}, {3, 3, 1}, {1, 1, 1}, {1, 1, 1}, {1, 1, 0}, {1, 1, 0}),
        shape_of(2, 5, 24, 33, 1, {1, 1, 1}, {1, 1, 1}, {1, 1, 1}, {1, 1, 1}, {0, 0, 0}, {0, 0, 0}),
        shape_of(2, 1, 16, 16, 1, {8, 8, 1}, {1, 3, 1}, {1, 1, 1}, {1, 1, 1}, {0, 3, 0}, {0, 0, 0})})
    all.push_back(s);
  return all;
}

// A tensor [n, channels, spatial…] whose channels lie side by side.
Array channels_last(const Shape& shape) {
  Shape strides(shape.size(), 1);
  int64_t next = shape[1];
  for (size_t d = shape.size(); d-- > 2;) {
    strides[d] = next;
    next *= shape[d];
  }
  strides[0] = next;
  return {DType::F32, shape, strides, 0, numel(shape)};
}
Shape full_shape(const ConvShape& s, bool y) {
  Shape shape{s.n, y ? s.filters : s.channels};
  for (size_t d = 0; d < static_cast<size_t>(s.axes); ++d) shape.push_back(y ? s.out[d] : s.in[d]);
  return shape;
}

std::vector<float> floats(const Array& x) {
  const std::vector<double> reals = x.reals();
  return {reals.begin(), reals.end()};
}
bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
  return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(float)) == 0);
}

// … but of a NaN only that it is one.
bool same_numbers(const std::vector<float>& a, const std::vector<float>& b) {
  return std::ranges::equal(a, b, [](float x, float y) {
    return (std::isnan(x) && std::isnan(y)) || std::bit_cast<uint32_t>(x) == std::bit_cast<uint32_t>(y);
  });
}

// sum * operand 1 (a channel's number), plus operand 2 (another tensor), at least operand 3 (one number).
ir::ScalarProgram what_follows() {
  const DType f = DType::F32;
  return program_of({f, f, f, f}, [](auto x) {
    const ir::Scalar y = x[0] * x[1] + x[2];
    return select(y < x[3], x[3], y);
  });
}

// The same as a chain of steps, one after the other.
ir::ScalarProgram what_follows_in_steps() {
  const DType f = DType::F32;
  return program_of({f, f, f, f},
                    [](auto x) { return ir::apply_op(ir::ScalarOp::Max, std::array{x[2] + x[0] * x[1], x[3]}); });
}
enum class Follows : uint8_t { Nothing, Program, Steps };

// (x + bias) times its sigmoid.
ir::ScalarProgram swish() {
  const DType f = DType::F32;
  return program_of({f, f}, [](auto x) {
    const ir::Scalar y = x[0] + x[1];
    return y * (1.0 / (1.0 + ir::apply_op(ir::ScalarOp::Exp, std::array{-y})));
  });
}

// One chain of fused multiply-adds over (window, channel) for every element, whatever lies where and whoever computes
// it: all layouts, CPU levels and numbers of threads, and the scalar program as if it ran by itself.
TEST(Conv, BitsAreThoseOfOneChain) {
  for (const ConvShape& s : direct_shapes()) {
    const Shape x_shape = full_shape(s, false), y_shape = full_shape(s, true);
    SCOPED_TRACE(to_string(x_shape) + " -> " + to_string(y_shape));
    Array x(DType::F32, x_shape), w(DType::F32, {s.weight_size()}), scale(DType::F32, {s.filters}),
        other(DType::F32, y_shape), least(DType::F32, {1});
    x.fill_random(1);
    w.fill_random(2);
    scale.fill_random(3);
    other.fill_random(4);
    least.fill_random(5, -1, 0);
    std::vector<float> sums(static_cast<size_t>(numel(y_shape)), 0.0F);
    // each_product visits (channel, window); the chain is (window, channel).
    const int64_t cg = s.channels / s.groups, taps = ConvShape::volume(s.window);
    std::vector<std::vector<std::pair<int64_t, std::pair<float, float>>>> chains(sums.size());
    each_product(s, [&](int64_t o, int64_t i, int64_t k) {
      const int64_t place = k % taps * cg + k / taps % cg;
      chains[static_cast<size_t>(o)].push_back({place, {x.data<float>()[i], w.data<float>()[k]}});
    });
    for (size_t o = 0; o < sums.size(); ++o) {
      std::sort(chains[o].begin(), chains[o].end(), [](const auto& a, const auto& b) { return a.first < b.first; });
      for (const auto& [place, factors] : chains[o]) sums[o] = std::fma(factors.first, factors.second, sums[o]);
    }
    Array x_last = channels_last(x_shape), other_last = channels_last(y_shape);
    x_last.fill([&](int64_t i) { return x.data<float>()[i]; });
    other_last.fill([&](int64_t i) { return other.data<float>()[i]; });
    for (int level : {2, 3, 4}) {
      if (cpu::best_level() < level) continue;
      const cpu::LevelTable& loops = cpu::level_table(level);
      for (int threads : {1, 3}) {
        ThreadPool pool(threads);
        for (const Follows kind : {Follows::Nothing, Follows::Program, Follows::Steps}) {
          const bool follow = kind != Follows::Nothing;
          std::optional<ir::ScalarProgram> program;
          if (follow) program = kind == Follows::Program ? what_follows() : what_follows_in_steps();
          cpu::DirectConv conv(s, loops, program);
          conv.use(conv.pack(w.data<float>()));
          for (bool in_last : {false, true}) {
            for (bool out_last : {false, true}) {
              Array y = out_last ? channels_last(y_shape) : Array(DType::F32, y_shape);
              std::vector<ConstView> operands{cpu::bias_view(scale.data<float>(), y_shape),
                                              in_last ? other_last.in() : other.in(), least.in()};
              operands[2].shape = y_shape;
              operands[2].strides = Shape(y_shape.size(), 0);
              if (!follow) operands.clear();
              conv.run(in_last ? x_last.in() : x.in(), operands, y.out(), pool);
              std::vector<float> want = sums;
              for (size_t o = 0; follow && o < want.size(); ++o) {
                const size_t plane = want.size() / static_cast<size_t>(s.n * s.filters);
                const float scaled = want[o] * scale.data<float>()[o / plane % static_cast<size_t>(s.filters)];
                want[o] = std::max(scaled + other.data<float>()[o], least.data<float>()[0]);
              }
              EXPECT_TRUE(same_bits(floats(y), want))
                  << level << threads << static_cast<int>(kind) << in_last << out_last;
            }
          }
        }
      }
    }
  }
}

// The gradients likewise: of the input one chain over (window, filter), where the window runs as dy does; of the weight
// one over places, where the batch is one part and no channel is by itself. In every case sums in f64 bear them out.
TEST(Conv, BitsOfGradientsAreThoseOfOneChain) {
  for (const ConvShape& s : direct_shapes()) {
    const Shape x_shape = full_shape(s, false), y_shape = full_shape(s, true);
    SCOPED_TRACE(to_string(x_shape) + " -> " + to_string(y_shape));
    Array x(DType::F32, x_shape), w(DType::F32, {s.weight_size()}), dy(DType::F32, y_shape);
    x.fill_random(1);
    w.fill_random(2);
    dy.fill_random(3);
    const int64_t fg = s.filters / std::max<int64_t>(1, s.groups), taps = ConvShape::volume(s.window);
    const int64_t places = ConvShape::volume(s.out);
    std::vector<std::vector<Link>> of_x(static_cast<size_t>(numel(x_shape))),
        of_w(static_cast<size_t>(s.weight_size()));
    each_product(s, [&](int64_t o, int64_t i, int64_t k) {
      const int64_t filter = o / places % s.filters, example = o / places / s.filters;
      of_x[static_cast<size_t>(i)].push_back(
          {(taps - 1 - k % taps) * fg + filter % fg, dy.data<float>()[o], w.data<float>()[k]});
      of_w[static_cast<size_t>(k)].push_back({example * places + o % places, x.data<float>()[i], dy.data<float>()[o]});
    });
    const bool one_chain = s.groups != s.channels && places * s.n * s.weight_size() < 1024 * 1024;
    std::vector<float> want_dx, want_dw;
    for (auto& links : of_x) want_dx.push_back(chained(links));
    for (auto& links : of_w) want_dw.push_back(chained(links));
    Array x_last = channels_last(x_shape), dy_last = channels_last(y_shape);
    x_last.fill([&](int64_t i) { return x.data<float>()[i]; });
    dy_last.fill([&](int64_t i) { return dy.data<float>()[i]; });
    std::vector<float> first;
    for (int level : {2, 3, 4}) {
      if (cpu::best_level() < level) continue;
      const cpu::LevelTable& loops = cpu::level_table(level);
      for (int threads : {1, 3}) {
        ThreadPool pool(threads);
        for (bool last : {false, true}) {
          Array dx = last ? channels_last(x_shape) : Array(DType::F32, x_shape);
          cpu::conv_input_gradient(s, last ? dy_last.in() : dy.in(), w.data<float>(), dx.out(), loops, pool);
          EXPECT_TRUE(same_bits(floats(dx), want_dx)) << level << threads << last;
          std::vector<float> dw(want_dw.size());
          cpu::conv_weight_gradient(s, last ? x_last.in() : x.in(), last ? dy_last.in() : dy.in(), dw.data(), loops,
                                    pool);
          EXPECT_TRUE(!one_chain || same_bits(dw, want_dw)) << level << threads << last;
          if (first.empty()) first = dw;
          EXPECT_TRUE(same_bits(dw, first)) << level << threads << last;
        }
      }
    }
    for (size_t k = 0; k < first.size(); ++k) {
      double sum = 0, size = 0;
      for (const Link& link : of_w[k]) {
        const double product = static_cast<double>(link.a) * static_cast<double>(link.b);
        sum += product;
        size += std::abs(product);
      }
      ASSERT_NEAR(first[k], sum, 1e-6 * size) << k;
    }
  }
}

TEST(TileProgram, KnowsChains) {
  const DType f = DType::F32;
  EXPECT_FALSE(cpu::chain_of(what_follows()));
  const auto steps = cpu::chain_of(what_follows_in_steps());
  ASSERT_TRUE(steps);
  ASSERT_EQ(steps->size(), 3U);
  EXPECT_EQ((*steps)[0].input, 1);
  EXPECT_EQ((*steps)[1].input, 2);
  EXPECT_EQ((*steps)[2].op, cpu::TileOp::Larger);
  const auto number = cpu::chain_of(program_of({f}, [](auto x) { return x[0] * 2.5; }));
  ASSERT_TRUE(number);
  EXPECT_EQ((*number)[0].input, 0);
  EXPECT_EQ((*number)[0].number, 2.5F);
  using enum cpu::TileOp;
  const auto ops = [](const ir::ScalarProgram& program) {
    std::vector<cpu::TileOp> list;
    const auto chain = cpu::chain_of(program);
    for (const cpu::ChainStep& step : chain.value_or(std::vector<cpu::ChainStep>{})) list.push_back(step.op);
    return list;
  };
  using Ops = std::vector<cpu::TileOp>;
  EXPECT_EQ(ops(program_of({f, f}, [](auto x) { return x[1] - x[0]; })), Ops{SubtractFrom});
  EXPECT_EQ(ops(program_of({f}, [](auto x) { return x[0] / 3.0; })), Ops{Divide});
  // One value that is used later is kept; a second one, once the first is done with.
  EXPECT_EQ(ops(program_of({f}, [](auto x) { return x[0] * x[0]; })), (Ops{Keep, Multiply}));
  EXPECT_EQ(ops(swish()), (Ops{Add, Keep, Negate, Exp, Add, DivideInto, Multiply}));
  EXPECT_EQ(ops(program_of({f},
                           [](auto x) {
                             const ir::Scalar a = x[0] * -x[0], b = a + 1.0;
                             return b / (b + 2.0);
                           })),
            (Ops{Keep, Negate, Multiply, Add, Keep, Add, DivideInto}));
  EXPECT_FALSE(cpu::chain_of(program_of({f}, [](auto x) {
    const ir::Scalar a = x[0] + 1.0, b = a * 2.0;
    return (b + 1.0) * x[0] - a;
  })));
  EXPECT_FALSE(cpu::chain_of(program_of({f, f}, [](auto x) { return (x[0] + x[1]) * (x[0] - x[1]); })));
  // Of 0 and -0 the larger is the second.
  const auto larger = [](int a, int b) {
    return program_of({DType::F32, DType::F32},
                      [=](auto x) { return ir::apply_op(ir::ScalarOp::Max, std::array{x[a], x[b]}); });
  };
  EXPECT_EQ(ops(larger(0, 1)), Ops{Larger});
  EXPECT_FALSE(cpu::chain_of(larger(1, 0)));
}

// Rounding to f16 and back is a step; to bf16 it is none.
TEST(TileProgram, RoundingToF16IsAStep) {
  const auto rounding = [](DType to) {
    ir::ScalarBuilder builder;
    const ir::Scalar sum = builder.input(DType::F32), bias = builder.input(DType::F32);
    return builder.finish(apply_op(ir::ScalarOp::Max, std::array{builder.cast(sum + bias, to), ir::Scalar(0.0)}),
                          DType::F32);
  };
  const auto steps = cpu::chain_of(rounding(DType::F16));
  ASSERT_TRUE(steps);
  ASSERT_EQ(steps->size(), 3U);
  EXPECT_EQ((*steps)[0].op, cpu::TileOp::Add);
  EXPECT_EQ((*steps)[1].op, cpu::TileOp::Half);
  EXPECT_EQ((*steps)[2].op, cpu::TileOp::Larger);
  EXPECT_FALSE(cpu::chain_of(rounding(DType::BF16)));
}

// Programs over halves as programs over f32 that hold the same numbers.
TEST(TileProgram, WidenedProgramsRoundWhereTheResultsOfOpsDo) {
  const DType h = DType::F16;
  const auto relu =
      program_of({h}, [](auto x) { return apply_op(ir::ScalarOp::Max, std::array{x[0], ir::Scalar(0.0)}); }, h);
  EXPECT_EQ(ir::to_string(cpu::widened_program(relu)),
            "%0: f32 = input 0\n%1: f16 = cast %0\n%2: f32 = cast %1\n%3: f32 = const 0\n%4: f32 = max %2, %3\n");
  // Scaled, then the residual: two roundings, that of the result is the writer's.
  const auto scaled = program_of({h, h}, [](auto x) { return x[0] * x[1]; }, h);
  const auto sum = program_of({h, h}, [](auto x) { return x[0] + x[1]; }, h);
  const auto both = cpu::widened_program(ir::compose(scaled, sum, std::array{0}));
  const auto steps = cpu::chain_of(both);
  ASSERT_TRUE(steps);
  ASSERT_EQ(steps->size(), 4U);
  EXPECT_EQ((*steps)[0].op, cpu::TileOp::Half);
  EXPECT_EQ((*steps)[1].op, cpu::TileOp::Multiply);
  EXPECT_EQ((*steps)[2].op, cpu::TileOp::Half);
  EXPECT_EQ((*steps)[3].op, cpu::TileOp::Add);
  // The program as it was, element by element on the device, gives the bits.
  std::vector<uint16_t> a(4000), b(a.size()), c(a.size()), want(a.size());
  std::vector<float> wide[3];
  for (size_t i = 0; i < a.size(); ++i) {
    const auto n = static_cast<float>(i);
    a[i] = f32_to_f16(std::sin(n) * 40), b[i] = f32_to_f16(std::cos(n * 1.7F)), c[i] = f32_to_f16(std::sin(n * 0.3F));
    want[i] = f32_to_f16(f16_to_f32(f32_to_f16(f16_to_f32(a[i]) * f16_to_f32(b[i]))) + f16_to_f32(c[i]));
    wide[0].push_back(f16_to_f32(a[i])), wide[1].push_back(f16_to_f32(b[i])), wide[2].push_back(f16_to_f32(c[i]));
  }
  for (int level : {2, 3, 4}) {
    if (cpu::best_level() < level) continue;
    const cpu::LevelTable& table = cpu::level_table(level);
    std::vector<cpu::TileStep> list;
    for (const auto& s : *steps) list.push_back({s.op, false, s.input == 0 ? nullptr : wide[s.input].data(), 0});
    std::vector<float> got(a.size());
    table.tiles.finish({wide[0].data(), 0, 1, 4000, list.data(), 4, got.data(), 0});
    for (size_t i = 0; i < a.size(); ++i) ASSERT_EQ(f32_to_f16(got[i]), want[i]) << i;
  }
}

// Each step gives the bits of the device's own loop, whatever the numbers and the level are.
TEST(TileProgram, StepsAreTheLoopsOfTheirOps) {
  constexpr int64_t kPlaces = 11, kColumns = 37;
  const float nan = std::nanf("");
  const float special[] = {0.0F, -0.0F, nan, INFINITY, -INFINITY, 1e-45F, 3e38F, 6.0F};
  std::vector<float> a(kPlaces * kColumns), b(a.size());
  for (size_t i = 0; i < a.size(); ++i) {
    a[i] = i % 3 == 0 ? special[i / 3 % 8] : static_cast<float>(i) * 0.37F - 50;
    b[i] = i % 4 == 0 ? special[i / 24 % 8] : 20 - static_cast<float>(i) * 0.11F;
  }
  for (int level : {2, 3, 4}) {
    if (cpu::best_level() < level) continue;
    const cpu::LevelTable& table = cpu::level_table(level);
    for (const auto& [step_op, op] :
         {std::pair{cpu::TileOp::Add, ir::ScalarOp::Add}, std::pair{cpu::TileOp::Subtract, ir::ScalarOp::Sub},
          std::pair{cpu::TileOp::SubtractFrom, ir::ScalarOp::Sub}, std::pair{cpu::TileOp::Multiply, ir::ScalarOp::Mul},
          std::pair{cpu::TileOp::Divide, ir::ScalarOp::Div}, std::pair{cpu::TileOp::DivideInto, ir::ScalarOp::Div},
          std::pair{cpu::TileOp::Larger, ir::ScalarOp::Max}, std::pair{cpu::TileOp::Smaller, ir::ScalarOp::Min}}) {
      const bool turned = step_op == cpu::TileOp::SubtractFrom || step_op == cpu::TileOp::DivideInto;
      for (const int reach : {0, 1, 2}) {  // of b: every place, the same for all, one number
        std::vector<float> other = b, want(a.size()), got(a.size(), 99.0F);
        for (size_t i = 0; i < b.size(); ++i) {
          if (reach == 1) other[i] = b[i % kColumns];
          if (reach == 2) other[i] = b[24];
        }
        table.loop[static_cast<size_t>(op)][static_cast<size_t>(DType::F32)](
            want.data(), turned ? other.data() : a.data(), turned ? a.data() : other.data(), nullptr,
            kPlaces * kColumns);
        const cpu::TileStep step{step_op, reach == 2, reach == 2 ? &b[24] : b.data(), reach == 0 ? kColumns : 0};
        table.tiles.finish({a.data(), kColumns, kPlaces, kColumns, &step, 1, got.data(), kColumns});
        for (size_t i = 0; i < a.size(); ++i) {
          if (std::isnan(want[i])) {
            EXPECT_TRUE(std::isnan(got[i])) << i;
          } else {
            EXPECT_EQ(std::bit_cast<uint32_t>(got[i]), std::bit_cast<uint32_t>(want[i])) << a[i] << ' ' << other[i];
          }
        }
      }
    }
  }
}

// Negation, exponentials, roundings and what is kept, likewise.
TEST(TileProgram, StepsWithoutOperandsAreTheLoopsOfTheirOps) {
  std::vector<float> a{0.0F,  -0.0F,   std::nanf(""), INFINITY, -INFINITY, 1e-45F,
                       3e38F, -104.5F, -103.9F,       -87.4F,   88.8F,     89.5F};
  for (int i = 0; i < 20000; ++i) a.push_back(static_cast<float>(i - 10000) * 0.0113F);
  const auto n = static_cast<int64_t>(a.size());
  constexpr auto kF32 = static_cast<size_t>(DType::F32), kF16 = static_cast<size_t>(DType::F16);
  for (int level : {2, 3, 4}) {
    if (cpu::best_level() < level) continue;
    const cpu::LevelTable& table = cpu::level_table(level);
    const auto loop = [&](ir::ScalarOp op, const std::vector<float>& x, const std::vector<float>& y = {}) {
      std::vector<float> out(x.size());
      table.loop[static_cast<size_t>(op)][kF32](out.data(), x.data(), y.data(), nullptr, n);
      return out;
    };
    const auto steps = [&](const std::vector<cpu::TileStep>& list) {
      std::vector<float> out(a.size());
      // In rows of 37, so that there are parts of vectors, then what is left.
      const int64_t rows = n / 37;
      table.tiles.finish({a.data(), 37, rows, 37, list.data(), static_cast<int>(list.size()), out.data(), 37});
      table.tiles.finish({a.data() + rows * 37, 0, 1, n - rows * 37, list.data(), static_cast<int>(list.size()),
                          out.data() + rows * 37, 0});
      return out;
    };
    const auto alone = [](cpu::TileOp op) { return cpu::TileStep{op, false, nullptr, 0}; };
    EXPECT_TRUE(same_numbers(steps({alone(cpu::TileOp::Negate)}), loop(ir::ScalarOp::Neg, a))) << level;
    EXPECT_TRUE(same_numbers(steps({alone(cpu::TileOp::Exp)}), loop(ir::ScalarOp::Exp, a))) << level;
    std::vector<uint16_t> halves(a.size());
    std::vector<float> rounded(a.size());
    table.cast[kF32][kF16](halves.data(), a.data(), nullptr, nullptr, n);
    table.cast[kF16][kF32](rounded.data(), halves.data(), nullptr, nullptr, n);
    EXPECT_TRUE(same_numbers(steps({alone(cpu::TileOp::Half)}), rounded)) << level;
    EXPECT_TRUE(same_numbers(steps({alone(cpu::TileOp::Keep), alone(cpu::TileOp::Exp), alone(cpu::TileOp::Subtract)}),
                             loop(ir::ScalarOp::Sub, loop(ir::ScalarOp::Exp, a), a)))
        << level;
  }
}

// Inverses are those of a division: of every fraction there is, and of numbers of every size.
TEST(TileProgram, InversesAreRoundedAsByDivision) {
  std::vector<float> x, got;
  const auto check = [&](const cpu::LevelTable& table) {
    const float one = 1;
    const cpu::TileStep step{cpu::TileOp::DivideInto, true, &one, 0};
    got.assign(x.size(), 0);
    table.tiles.finish({x.data(), 64, static_cast<int64_t>(x.size()) / 64, 64, &step, 1, got.data(), 64});
    int64_t wrong = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      const float want = 1.0F / x[i];
      wrong += std::bit_cast<uint32_t>(got[i]) != std::bit_cast<uint32_t>(want) && !std::isnan(want) ? 1 : 0;
      wrong += std::isnan(got[i]) != std::isnan(want) ? 1 : 0;
    }
    EXPECT_EQ(wrong, 0) << table.name;
  };
  for (int level : {2, 3, 4}) {
    if (cpu::best_level() < level) continue;
    x.clear();
    for (uint32_t i = 0; i < 1U << 23; ++i) x.push_back(std::bit_cast<float>(0x3f800000U | i));
    check(cpu::level_table(level));
    x.clear();  // tiles of one exponent each: some are computed in one way, some in the other
    for (uint32_t exponent = 0; exponent < 512; ++exponent) {
      for (uint32_t i = 0; i < 64 * 16; ++i)
        x.push_back(std::bit_cast<float>((exponent << 23) | (i % 5 == 0 ? 0x7fffffU - i / 5 : i * 8179U % 0x7fffffU)));
    }
    check(cpu::level_table(level));
  }
}

TEST(TileProgram, RunsEveryInstructionAsTheDeviceDoes) {
  const DType f = DType::F32;
  const auto apply = [](ir::ScalarOp op, const ir::Scalar& x) { return ir::apply_op(op, std::array{x}); };
  const std::vector<ir::ScalarProgram> programs{
      program_of({f}, [&](auto x) { return x[0] / (1.0 + apply(ir::ScalarOp::Exp, -x[0])); }),
      program_of({f, f}, [](auto x) { return (x[0] * x[1] + x[0]) * (x[0] - x[1]); }),
      program_of({f, f},
                 [&](auto x) { return select(x[1] < x[0], x[0] * 2.0, apply(ir::ScalarOp::Tanh, x[1]) + x[0]); }),
  };
  ThreadPool pool(1);
  for (const auto& program : programs) {
    ASSERT_TRUE(cpu::TileProgram::accepts(program));
    Array a(f, {77}), b(f, {77}), want(f, {77});
    a.fill_random(1);
    b.fill_random(2);
    const std::vector<ConstView> in{a.in(), b.in()};
    const auto& level = cpu::level_table(cpu::best_level());
    cpu::elementwise(level, program, std::span(in).first(static_cast<size_t>(program.inputs)), want.out(), pool);
    const cpu::TileProgram tile(level, program);
    cpu::TileProgram::Room room(tile, 80);
    if (program.inputs > 1) std::copy_n(b.data<float>(), 77, room.input(1));
    const float* got = tile.run(room, a.data<float>(), 77);
    EXPECT_TRUE(same_bits({got, got + 77}, floats(want))) << to_string(program);
  }
  EXPECT_FALSE(cpu::TileProgram::accepts(program_of({f}, [](auto x) { return x[0]; })));
  EXPECT_FALSE(cpu::TileProgram::accepts(program_of({DType::F64}, [](auto x) { return x[0] + x[0]; })));
}

}  // namespace
}  // namespace tenon::test
