// Sums of exponentials of rows that are read once, and the loops of attention: against plain ones, and the same bits on
// every CPU level.
#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>
#include <random>
#include <vector>

#include "tenon/device/cpu/level.h"

namespace tenon::test {
namespace {

std::vector<float> random_rows(int64_t count, float scale, unsigned seed) {
  std::mt19937 generator(seed);
  std::normal_distribution<float> normal(0, scale);
  std::vector<float> x(static_cast<size_t>(count));
  for (float& one : x) one = normal(generator);
  return x;
}

TEST(ExpSums, EqualThePlainLoopsInBits) {
  int levels = 0;
  for (int level : {2, 3, 4}) {
    if (cpu::best_level(level) != level) continue;
    const cpu::LevelTable& loops = cpu::level_table(level);
    if (loops.exp_sums == nullptr) continue;
    ++levels;
    for (int64_t n : {1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 64, 65, 100, 127, 128, 512, 1000, 4096, 5000}) {
      for (int64_t rows : {1, 2, 5}) {
        for (float scale : {1.0F, 60.0F}) {
          const std::vector<float> x = random_rows(rows * n, scale, static_cast<unsigned>(n));
          std::vector<float> most(static_cast<size_t>(rows)), sum(most);
          loops.exp_sums(most.data(), sum.data(), x.data(), rows, n);
          for (int64_t r = 0; r < rows; ++r) {
            float want[2];  // the maximum and the logarithm of the sum
            cpu::level_table(2).rows_f32.log_sum_exp(want, x.data() + r * n, n);
            const auto row = static_cast<size_t>(r);
            float log_sum = 0;
            cpu::level_table(level).loop[static_cast<size_t>(ir::ScalarOp::Log)][static_cast<size_t>(DType::F32)](
                &log_sum, &sum[row], nullptr, nullptr, 1);
            EXPECT_EQ(std::bit_cast<uint32_t>(most[row]), std::bit_cast<uint32_t>(want[0])) << level << " " << n;
            EXPECT_EQ(std::bit_cast<uint32_t>(log_sum), std::bit_cast<uint32_t>(want[1])) << level << " " << n;
            double exact = 0;
            for (int64_t i = 0; i < n; ++i)
              exact += std::exp(static_cast<double>(x[static_cast<size_t>(r * n + i)]) - most[row]);
            EXPECT_NEAR(sum[row] / exact, 1, 1e-6) << n;
          }
        }
      }
    }
  }
  if (levels == 0) GTEST_SKIP() << "no CPU level of this machine has fused multiply-adds";
}

TEST(ExpSums, OddValuesGiveWhatTheyMean) {
  const float inf = std::numeric_limits<float>::infinity();
  for (int level : {3, 4}) {
    if (cpu::best_level(level) != level) continue;
    const cpu::LevelTable& loops = cpu::level_table(level);
    if (loops.exp_sums == nullptr) continue;
    for (size_t n : {size_t{3}, size_t{70}}) {
      float most = 0, sum = 0;
      std::vector<float> x(n, 1.0F);
      x[1] = -inf;
      loops.exp_sums(&most, &sum, x.data(), 1, static_cast<int64_t>(n));
      EXPECT_EQ(most, 1.0F);
      EXPECT_EQ(sum, static_cast<float>(n - 1));
      x[2] = std::nanf("");
      loops.exp_sums(&most, &sum, x.data(), 1, static_cast<int64_t>(n));
      EXPECT_TRUE(std::isnan(sum));
      x.assign(n, -inf);
      loops.exp_sums(&most, &sum, x.data(), 1, static_cast<int64_t>(n));
      EXPECT_TRUE(std::isnan(sum));
      x.assign(n, -300.0F);
      x[0] = 0;
      loops.exp_sums(&most, &sum, x.data(), 1, static_cast<int64_t>(n));
      EXPECT_EQ(sum, 1.0F);
    }
  }
}

TEST(AttentionLoops, ProductsAreChainsOfFusedMultiplyAdds) {
  for (int level : {2, 3, 4}) {
    if (cpu::best_level(level) != level) continue;
    for (int64_t rows : {1, 4, 5, 6, 7, 13}) {
      for (int64_t columns : {16, 48, 64, 80}) {
        for (int64_t run : {1, 7, 64}) {
          const int64_t x_step = run + 3, weight_step = columns + 5, y_step = columns + 1;
          const auto x = random_rows(rows * x_step, 1, 1), weight = random_rows(run * weight_step, 1, 2);
          const auto before = random_rows(rows * y_step, 1, 3);
          for (bool accumulate : {false, true}) {
            std::vector<float> y = before, want = before;
            for (int64_t m = 0; m < rows; ++m) {
              for (int64_t c = 0; c < columns; ++c) {
                float& sum = want[static_cast<size_t>(m * y_step + c)];
                if (!accumulate) sum = 0;
                for (int64_t k = 0; k < run; ++k)
                  sum = std::fma(x[static_cast<size_t>(m * x_step + k)],
                                 weight[static_cast<size_t>(k * weight_step + c)], sum);
              }
            }
            cpu::level_table(level).attention.product(
                {rows, columns, run, x.data(), x_step, weight.data(), weight_step, y.data(), y_step, accumulate});
            EXPECT_EQ(y, want) << level << " " << rows << " " << columns << " " << run;
          }
        }
      }
    }
  }
}

TEST(AttentionLoops, GiveTheSameBitsOnEveryLevel) {
  constexpr int64_t n = cpu::kAttentionQueries, rows = 37;
  const float inf = std::numeric_limits<float>::infinity();
  std::vector<std::vector<float>> results;
  for (int level : {2, 3, 4}) {
    if (cpu::best_level(level) != level) continue;
    const cpu::AttentionLoops& loops = cpu::level_table(level).attention;
    std::vector<float> scores = random_rows(rows * n, 20, 1), gradient = random_rows(rows * n, 1, 2);
    std::vector<float> most(n, -inf), sum(n, 0), out = random_rows(3 * n, 1, 3);
    for (int64_t r = 0; r < rows; ++r) scores[static_cast<size_t>(r * n)] = -inf;  // a query that sees nothing
    const std::vector<float> given = scores;
    loops.softmax({scores.data(), 10, most.data(), sum.data(), out.data(), 0});
    loops.softmax({scores.data() + 10 * n, rows - 10, most.data(), sum.data(), out.data(), 3});
    EXPECT_EQ(sum[0], 0.0F);
    for (size_t c = 1; c < n; ++c) {
      double top = -inf, total = 0;
      for (size_t r = 0; r < rows; ++r) top = std::max<double>(top, given[r * n + c]);
      for (size_t r = 0; r < rows; ++r) total += std::exp(given[r * n + c] - top);
      EXPECT_EQ(most[c], top);
      EXPECT_NEAR(sum[c] / total, 1, 1e-5);
    }
    const std::vector<float> shift(n, 30.0F), inner = random_rows(n, 1, 4);
    std::vector<float> probabilities = given;
    loops.gradient({probabilities.data(), gradient.data(), rows, shift.data(), inner.data(), 0.125F});
    EXPECT_EQ(probabilities[0], 0.0F);
    results.push_back(scores);
    for (const auto* part : {&sum, &out, &probabilities, &gradient})
      results.back().insert(results.back().end(), part->begin(), part->end());
    EXPECT_EQ(results.back(), results.front()) << level;
  }
}

}  // namespace
}  // namespace tenon::test
