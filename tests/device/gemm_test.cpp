#include "tenon/device/cpu/gemm.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "tenon/exec/session.h"
#include "tenon/ops/attention.h"
#include "tenon/ops/random.h"
#include "tenon/trace/transforms.h"
#include "tests/device/support.h"

namespace tenon::test {
namespace {

// The obvious loop in f64 over batched [.., m, k] and [.., k, n] of equal batch.
std::vector<double> naive(const Array& a, const Array& b, int64_t batch, int64_t m, int64_t n, int64_t k, bool one_b) {
  const std::vector<double> x = a.reals();
  const std::vector<double> y = b.reals();
  std::vector<double> z(static_cast<size_t>(batch * m * n), 0);
  for (int64_t t = 0; t < batch; ++t) {
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t j = 0; j < n; ++j) {
        double sum = 0;
        for (int64_t p = 0; p < k; ++p) {
          sum +=
              x[static_cast<size_t>((t * m + i) * k + p)] * y[static_cast<size_t>(((one_b ? 0 : t) * k + p) * n + j)];
        }
        z[static_cast<size_t>((t * m + i) * n + j)] = sum;
      }
    }
  }
  return z;
}

TEST(Matmul, EveryDtypeAndLayoutIsExactOnSmallNumbers) {
  ThreadPool pool(2);
  for (DType dtype : {DType::F32, DType::F64, DType::F16, DType::BF16, DType::I8, DType::U8, DType::I32, DType::U64,
                      DType::I64, DType::I16, DType::U16, DType::U32}) {
    for (const auto& [m, n, k] :
         {std::array<int64_t, 3>{1, 1, 1}, {3, 5, 7}, {16, 64, 64}, {1, 30, 9}, {33, 1, 20}, {70, 90, 110}}) {
      for (int layout = 0; layout < 9; ++layout) {
        const auto make = [&](int how, int64_t rows, int64_t columns) {
          const Shape strides = how == 0 ? Shape{columns, 1} : how == 1 ? Shape{1, rows} : Shape{columns * 3, 2};
          Array x(dtype, {rows, columns}, strides, how == 2 ? 5 : 0, rows * columns * 3 + 10);
          x.fill([&](int64_t i) { return static_cast<double>((i * 7 + how) % 3); });
          return x;
        };
        const Array a = make(layout % 3, m, k);
        const Array b = make(layout / 3, k, n);
        Array c(dtype, {m, n});
        cpu::matmul(a.in(), b.in(), c.out(), pool);
        std::vector<double> want = naive(a, b, 1, m, n, k, true);
        if (info(dtype).bits == 8) {
          for (double& w : want) {
            w = std::fmod(w, 256);
            if (dtype == DType::I8 && w > 127) w -= 256;
          }
        }
        if (dtype == DType::BF16) {
          for (double& w : want) w = round_to(dtype, w);
        }
        ASSERT_EQ(c.reals(), want) << name(dtype) << " " << m << "x" << n << "x" << k << ", layout " << layout;
      }
    }
  }
}

TEST(Matmul, BatchesBroadcast) {
  ThreadPool pool(3);
  for (DType dtype : {DType::F32, DType::F64, DType::I32}) {
    Array a(dtype, {5, 12, 20});
    Array b(dtype, {20, 8});
    a.fill([](int64_t i) { return static_cast<double>(i % 5); });
    b.fill([](int64_t i) { return static_cast<double>(i % 7) - 3; });
    Array c(dtype, {5, 12, 8});
    cpu::matmul(a.in(), b.in(), c.out(), pool);
    EXPECT_EQ(c.reals(), naive(a, b, 5, 12, 8, 20, true));
    // Zero strides on a leading axis, and an axis of extent 1.
    Array d(dtype, {1, 20, 8});
    d.memory = b.memory;
    Array e(dtype, {5, 12, 8});
    cpu::matmul(a.in(), d.in(), e.out(), pool);
    EXPECT_EQ(e.reals(), c.reals());
    const ConstView expanded{b.memory.data(), dtype, {5, 20, 8}, {0, 8, 1}, 0};
    Array f(dtype, {5, 12, 8});
    cpu::matmul(a.in(), expanded, f.out(), pool);
    EXPECT_EQ(f.reals(), c.reals());
  }
}

TEST(Matmul, EmptyAndInnerZero) {
  ThreadPool pool(1);
  const Array a(DType::F32, {2, 0});
  const Array b(DType::F32, {0, 3});
  Array c(DType::F32, {2, 3});
  c.fill([](int64_t) { return 9; });
  cpu::matmul(a.in(), b.in(), c.out(), pool);
  EXPECT_EQ(c.reals(), std::vector<double>(6, 0.0));
  const Array d(DType::F32, {0, 4});
  const Array e(DType::F32, {4, 3});
  Array f(DType::F32, {0, 3});
  cpu::matmul(d.in(), e.in(), f.out(), pool);
}

TEST(Matmul, SameBitsForAnyNumberOfThreads) {
  for (const auto& [m, n, k] : {std::array<int64_t, 3>{300, 257, 511}, {64, 1000, 300}, {1000, 64, 128}}) {
    Array a(DType::F32, {m, k});
    Array b(DType::F32, {k, n});
    a.fill_random(1);
    b.fill_random(2);
    Array first(DType::F32, {m, n});
    ThreadPool one(1);
    cpu::matmul(a.in(), b.in(), first.out(), one);
    const std::vector<double> want = naive(a, b, 1, m, n, k, true);
    for (size_t i = 0; i < want.size(); ++i)
      ASSERT_NEAR(first.data<float>()[i], want[i], 2e-5 * std::sqrt(static_cast<double>(k)));
    for (int threads : {2, 3, 7}) {
      ThreadPool pool(threads);
      Array other(DType::F32, {m, n});
      cpu::matmul(a.in(), b.in(), other.out(), pool);
      ASSERT_EQ(std::memcmp(first.memory.data(), other.memory.data(), static_cast<size_t>(m * n) * 4), 0);
    }
  }
}

// Small products run on several threads at once, inside a library that has to bear it.
TEST(Attention, IsTheSameBitsOnTwoThreadsEveryTime) {
  const auto draw = [](uint64_t seed) { return normal({12, 4, 64, 32}, 0, 1, f32, random_key(seed)); };
  const Tensors inputs{draw(1), draw(2), draw(3)}, cotangent{draw(4)};
  const auto run = [&] {
    const auto result = vjp(
        [](const Tensors& x) { return Tensors{scaled_dot_product_attention(x[0], x[1], x[2], {}, {.causal = true})}; },
        inputs);
    std::vector<std::vector<float>> all{result.outputs[0].to_vector<float>()};
    for (const auto& gradient : result.pullback(cotangent)) all.push_back(gradient.to_vector<float>());
    return all;
  };
  exec::Session one({.threads = 1}), two({.threads = 2});
  const auto want = [&] {
    const exec::SessionScope scope(one);
    return run();
  }();
  const exec::SessionScope scope(two);
  for (int repeat = 0; repeat < 100; ++repeat) ASSERT_TRUE(run() == want) << "repetition " << repeat;
}

}  // namespace
}  // namespace tenon::test
