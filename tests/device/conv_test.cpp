#include "tenon/device/cpu/conv.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

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

}  // namespace
}  // namespace tenon::test
