#include "tenon/device/cpu/product.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <limits>

#include "tenon/device/cpu/copy.h"
#include "tenon/device/cpu/gemm.h"
#include "tests/device/support.h"

namespace tenon::test {
namespace {

using cpu::Product;

struct Sizes {
  int64_t m, n, k;
};

std::vector<float> draw(int64_t n, uint64_t seed) {
  Array a(DType::F32, {n});
  a.fill_random(seed, -1, 1);
  return {a.data<float>(), a.data<float>() + n};
}

// The chain of fused multiply-adds, which std::fma computes exactly, and the same sum in f64.
struct Want {
  std::vector<float> chain;
  std::vector<double> sum;
};
Want want_of(const Product& p) {
  Want want;
  for (int64_t i = 0; i < p.m; ++i) {
    for (int64_t j = 0; j < p.n; ++j) {
      float chain = p.accumulate ? p.c[i * p.c_row + j] : 0.0F;
      double sum = chain;
      for (int64_t k = 0; k < p.k; ++k) {
        const float a = p.a[i * p.a_row + k * p.a_k], b = p.b[k * p.b_k + j * p.b_column];
        chain = std::fma(a, b, chain);
        sum += static_cast<double>(a) * b;
      }
      want.chain.push_back(chain);
      want.sum.push_back(sum);
    }
  }
  return want;
}

std::vector<int> levels() {
  std::vector<int> list;
  for (int level = 2; level <= cpu::best_level(); ++level) list.push_back(level);
  return list;
}

// Sizes around tiles, vectors and blocks: nothing, one, primes, a block and one more.
std::vector<Sizes> sizes() {
  return {{1, 1, 1},    {1, 7, 5},     {7, 1, 5},     {13, 17, 3},    {9, 48, 513}, {10, 49, 512},
          {3, 130, 67}, {29, 31, 350}, {131, 97, 65}, {200, 250, 20}, {1, 333, 40}, {301, 1, 129}};
}

TEST(Product, IsOneChainOfFusedMultiplyAddsWhateverTheLayout) {
  for (const auto& [m, n, k] : sizes()) {
    const std::vector<float> a = draw(m * k, 1), b = draw(k * n, 2), before = draw(m * (n + 3), 3);
    for (const bool a_transposed : {false, true}) {
      for (const bool b_transposed : {false, true}) {
        for (const bool accumulate : {false, true}) {
          std::vector<float> c = before;
          Product p{.m = m, .n = n, .k = k, .a = a.data(), .b = b.data(), .c = c.data(), .c_row = n + 3};
          p.a_row = a_transposed ? 1 : k;
          p.a_k = a_transposed ? m : 1;
          p.b_k = b_transposed ? 1 : n;
          p.b_column = b_transposed ? k : 1;
          p.accumulate = accumulate;
          const Want want = want_of(p);
          for (const int level : levels()) {
            const cpu::TileLoops& loops = cpu::level_table(level).tiles;
            const Ref<Buffer> packed = cpu::pack_right(p.b, p.b_k, p.b_column, k, n, loops);
            for (const int way : {0, 1, 2, 3, 4}) {  // alone, packed, with 2 and 3 threads, packed with 2
              ThreadPool pool(way == 3 ? 3 : 2);
              c = before;
              Product q = p;
              if (way == 1 || way == 4) q.packed = reinterpret_cast<const float*>(packed->data());
              way < 2 ? cpu::product(q, loops) : cpu::product(q, loops, pool);
              for (int64_t i = 0; i < m; ++i) {
                for (int64_t j = 0; j < n + 3; ++j) {
                  const float got = c[static_cast<size_t>(i * (n + 3) + j)];
                  const auto at = static_cast<size_t>(i * n + j);
                  const float expected = j < n ? want.chain[at] : before[static_cast<size_t>(i * (n + 3) + j)];
                  ASSERT_EQ(got, expected) << m << " x " << n << " x " << k << " " << a_transposed << b_transposed
                                           << accumulate << " v" << level << " way " << way << " at " << i << ", " << j;
                  if (j < n) {
                    ASSERT_NEAR(got, want.sum[at], 1e-6 * static_cast<double>(k + 1));
                  }
                }
              }
            }
          }
        }
      }
    }
  }
}

// Blocks of rows, of columns and of the depth, on more threads than cores; each side packed once for all of them.
TEST(Product, LargeOnesHaveTheSameBitsOnAnyNumberOfThreads) {
  for (const auto& [m, n, k] : {Sizes{700, 500, 800}, {190, 420, 530}, {300, 2500, 40}, {5, 3000, 900}}) {
    const std::vector<float> a = draw(m * k, 4), b = draw(k * n, 5);
    for (const bool transposed : {false, true}) {
      std::vector<float> first;
      for (const int level : levels()) {
        if (level == 2 && m == 700) continue;  // exact, and slow
        for (const int threads : {1, 2, 3, 7}) {
          ThreadPool pool(threads);
          std::vector<float> c(static_cast<size_t>(m * n), 7.0F);
          Product p{.m = m, .n = n, .k = k, .a = a.data(), .b = b.data(), .c = c.data(), .c_row = n};
          p.a_row = transposed ? 1 : k;
          p.a_k = transposed ? m : 1;
          p.b_k = transposed ? 1 : n;
          p.b_column = transposed ? k : 1;
          cpu::product(p, cpu::level_table(level).tiles, pool);
          if (first.empty()) {
            first = c;
            for (int64_t i = 0; i < m; i += 97) {
              for (int64_t j = 0; j < n; j += 83) {
                float chain = 0;
                for (int64_t at = 0; at < k; ++at)
                  chain = std::fma(a[static_cast<size_t>(i * p.a_row + at * p.a_k)],
                                   b[static_cast<size_t>(at * p.b_k + j * p.b_column)], chain);
                ASSERT_EQ(c[static_cast<size_t>(i * n + j)], chain);
              }
            }
          }
          ASSERT_EQ(std::memcmp(first.data(), c.data(), c.size() * sizeof(float)), 0) << level << " " << threads;
        }
      }
    }
  }
}

TEST(Product, NanAndInfinityReachWhatTheyBelongToAndNothingElse) {
  constexpr int64_t m = 23, n = 53, k = 11;
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  for (const int level : levels()) {
    std::vector<float> a = draw(m * k, 6), b = draw(k * n, 7), c(m * n);
    a[4 * k + 2] = nan;
    a[7 * k + 3] = inf;
    b[5 * n + 52] = nan;
    Product p{.m = m, .n = n, .k = k, .a = a.data(), .a_row = k, .a_k = 1, .b = b.data(), .b_k = n, .b_column = 1};
    p.c = c.data();
    p.c_row = n;
    cpu::product(p, cpu::level_table(level).tiles);
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t j = 0; j < n; ++j) {
        const float got = c[static_cast<size_t>(i * n + j)];
        if (i == 4 || j == 52)
          EXPECT_TRUE(std::isnan(got)) << i << ", " << j;
        else if (i == 7)
          EXPECT_EQ(got, b[static_cast<size_t>(3 * n + j)] > 0 ? inf : -inf) << j;
        else
          EXPECT_TRUE(std::isfinite(got)) << i << ", " << j;
      }
    }
  }
}

// Rows with any step: reversed, all the same one, every third element.
TEST(Product, StridesOfViewsNeedNoCopies) {
  constexpr int64_t m = 19, n = 21, k = 30;
  const std::vector<float> a = draw(m * k * 3, 8), b = draw(k * n * 3, 9);
  for (const auto& [a_row, a_k, b_k, b_column] :
       {std::array<int64_t, 4>{-k, 1, n, 1}, {0, 1, 0, 1}, {k, 1, n, 0}, {3 * k, 3, 3 * n, 3}, {1, m, 3, 3 * k}}) {
    std::vector<float> c(m * n);
    Product p{.m = m, .n = n, .k = k, .a = a.data() + (a_row < 0 ? (m - 1) * k : 0), .a_row = a_row, .a_k = a_k};
    p.b = b.data();
    p.b_k = b_k;
    p.b_column = b_column;
    p.c = c.data();
    p.c_row = n;
    const Want want = want_of(p);
    for (const int level : levels()) {
      cpu::product(p, cpu::level_table(level).tiles);
      ASSERT_EQ(std::memcmp(c.data(), want.chain.data(), c.size() * sizeof(float)), 0) << level << " " << a_row;
    }
  }
}

// Bias, a residual, a factor for each row and one for all, before the sums leave the cache.
TEST(Product, WhatFollowsIsWhatTheOpsWouldGive) {
  const DType f = DType::F32;
  const auto program = program_of({f, f, f, f, f}, [](auto x) {
    const ir::Scalar y = x[0] + x[1] + x[2];
    return ir::apply_op(ir::ScalarOp::Tanh, std::array{y}) * x[3] + x[4];
  });
  for (const auto& [m, n, k] : {Sizes{1, 5, 3}, {14, 900, 400}, {150, 70, 30}}) {
    const std::vector<float> a = draw(m * k, 10), b = draw(k * n, 11), bias = draw(n, 12), residual = draw(m * n, 13),
                             factors = draw(m, 14), one = draw(1, 15);
    for (const int level : levels()) {
      const cpu::LevelTable& table = cpu::level_table(level);
      const cpu::TileProgram follow(table, program);
      std::vector<float> plain(static_cast<size_t>(m * n)), fused(plain.size()), want(plain.size());
      Product p{.m = m, .n = n, .k = k, .a = a.data(), .a_row = k, .a_k = 1, .b = b.data(), .b_k = n, .b_column = 1};
      p.c = plain.data();
      p.c_row = n;
      cpu::product(p, table.tiles);
      for (int64_t i = 0; i < m; ++i) {
        cpu::TileProgram::Room room(follow, n);
        std::copy_n(bias.data(), n, room.input(1));
        std::copy_n(residual.data() + i * n, n, room.input(2));
        std::fill_n(room.input(3), n, factors[static_cast<size_t>(i)]);
        std::fill_n(room.input(4), n, one[0]);
        std::vector<float> row(plain.begin() + i * n, plain.begin() + (i + 1) * n);
        std::copy_n(follow.run(room, row.data(), n), n, want.begin() + i * n);
      }
      p.c = fused.data();
      const cpu::ProductFollow::Operand operands[] = {
          {bias.data(), 0, 1}, {residual.data(), n, 1}, {factors.data(), 1, 0}, {one.data(), 0, 0}};
      const cpu::ProductFollow what{follow, operands};
      for (const int threads : {1, 3}) {
        ThreadPool pool(threads);
        cpu::product(p, table.tiles, pool, &what);
        ASSERT_EQ(std::memcmp(fused.data(), want.data(), want.size() * sizeof(float)), 0) << m << " v" << level;
      }
    }
  }
}

// (a b)' = b' a': the compiler takes the one that its readers would rather have.
TEST(Matmul, TheOtherWayRoundHasTheSameBits) {
  ThreadPool pool(2);
  struct Sizes {
    int64_t m, n, k;
  };
  for (const DType dtype : {DType::F32, DType::BF16, DType::F16}) {
    for (const auto& [m, n, k] : {Sizes{2, 2, 1}, {2, 100, 64}, {33, 31, 65}, {128, 40, 700}, {300, 513, 129}}) {
      Array a(dtype, {m, k}), b(dtype, {k, n}), c(dtype, {m, n}), across(dtype, {n, m}), back(dtype, {m, n});
      a.fill_random(1);
      b.fill_random(2);
      cpu::matmul(a.in(), b.in(), c.out(), pool);
      cpu::matmul({b.memory.data(), dtype, {n, k}, {1, n}, 0}, {a.memory.data(), dtype, {k, m}, {1, k}, 0},
                  across.out(), pool);
      cpu::copy({across.memory.data(), dtype, {m, n}, {1, m}, 0}, back.out(), pool);
      EXPECT_EQ(back.memory, c.memory) << name(dtype) << " " << m << " " << n << " " << k;
    }
  }
}

TEST(Matmul, OneMatrixForABatchIsTheSameAsEachByItself) {
  ThreadPool pool(2);
  Array a(DType::F32, {4, 3, 10, 20}), b(DType::F32, {1, 1, 20, 33}), c(DType::F32, {4, 3, 10, 33});
  a.fill_random(1);
  b.fill_random(2);
  cpu::matmul(a.in(), b.in(), c.out(), pool);
  for (int64_t i = 0; i < 12; ++i) {
    Array one(DType::F32, {10, 33});
    cpu::matmul({a.memory.data(), DType::F32, {10, 20}, {20, 1}, i * 200},
                {b.memory.data(), DType::F32, {20, 33}, {33, 1}, 0}, one.out(), pool);
    EXPECT_EQ(std::memcmp(one.memory.data(), c.memory.data() + i * 1320, 1320), 0);
  }
  // Heads that lie inside rows: no matrix of all of them.
  const ConstView heads{a.memory.data(), DType::F32, {3, 4, 10, 20}, {200, 600, 20, 1}, 0};
  Array d(DType::F32, {3, 4, 10, 33});
  cpu::matmul(heads, b.in(), d.out(), pool);
  for (int64_t i = 0; i < 3; ++i) {
    for (int64_t j = 0; j < 4; ++j)
      EXPECT_EQ(std::memcmp(d.memory.data() + (i * 4 + j) * 1320, c.memory.data() + (j * 3 + i) * 1320, 1320), 0);
  }
}

}  // namespace
}  // namespace tenon::test
