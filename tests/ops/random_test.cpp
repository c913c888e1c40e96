// Distributions: Kolmogorov and Smirnov's test or chi-squared at a significance of 0.001, each with a fixed seed; and
// that streams of split keys are independent.
#include "tenon/ops/random.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "tenon/base/error.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/movement.h"

namespace {

using namespace tenon;

constexpr int64_t kDraws = 40000;
constexpr double kKolmogorov = 1.9495;  // sqrt(n) D stays below with probability 0.999
constexpr double kNormal = 3.2905;      // |z| stays below with probability 0.999

double normal_cdf(double x) { return 0.5 * std::erfc(-x / std::sqrt(2.0)); }

// sqrt(n) times the largest distance of the empirical distribution function from `cdf`.
template <class F>
double kolmogorov_smirnov(std::vector<double> x, F cdf) {
  std::sort(x.begin(), x.end());
  const auto n = static_cast<double>(x.size());
  double d = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double f = cdf(x[i]);
    d = std::max({d, f - static_cast<double>(i) / n, static_cast<double>(i + 1) / n - f});
  }
  return d * std::sqrt(n);
}

// What chi-squared with `degrees` stays below with probability 0.999 (Wilson and Hilferty, 1931).
double chi_squared_limit(double degrees) {
  const double v = 2 / (9 * degrees);
  return degrees * std::pow(1 - v + 3.0902 * std::sqrt(v), 3);
}
double chi_squared(const std::vector<double>& counts, const std::vector<double>& expected) {
  double total = 0;
  for (size_t i = 0; i < counts.size(); ++i) total += std::pow(counts[i] - expected[i], 2) / expected[i];
  return total;
}
std::vector<double> counts_of(const Tensor& x, size_t kinds) {
  std::vector<double> counts(kinds, 0);
  for (const int64_t v : x.to_vector<int64_t>()) counts.at(static_cast<size_t>(v)) += 1;
  return counts;
}

class Distributions : public testing::TestWithParam<DType> {};

TEST_P(Distributions, Uniform) {
  const auto x = uniform({kDraws}, -1, 3, GetParam(), random_key(1)).to_vector<double>();
  for (const double v : x) ASSERT_TRUE(v >= -1 && v < 3) << v;
  EXPECT_LT(kolmogorov_smirnov(x, [](double v) { return (v + 1) / 4; }), kKolmogorov);
}
TEST_P(Distributions, Normal) {
  const auto x = normal({kDraws}, 1, 2, GetParam(), random_key(2)).to_vector<double>();
  EXPECT_LT(kolmogorov_smirnov(x, [](double v) { return normal_cdf((v - 1) / 2); }), kKolmogorov);
}
TEST_P(Distributions, NormalTails) {
  const auto x = normal({1 << 20}, 0, 1, GetParam(), random_key(3)).to_vector<double>();
  const auto beyond = static_cast<double>(std::count_if(x.begin(), x.end(), [](double v) { return std::abs(v) > 4; }));
  const double expected = (1 << 20) * 2 * normal_cdf(-4);
  EXPECT_LT(std::abs(beyond - expected), kNormal * std::sqrt(expected));
}
TEST_P(Distributions, TruncatedNormal) {
  const auto x = truncated_normal({kDraws}, 1, 2, -0.5, 1.5, GetParam(), random_key(4)).to_vector<double>();
  const double a = normal_cdf(-0.5), b = normal_cdf(1.5);
  for (const double v : x) ASSERT_TRUE(v >= 0 - 1e-6 && v <= 4 + 1e-6) << v;
  EXPECT_LT(kolmogorov_smirnov(x, [&](double v) { return (normal_cdf((v - 1) / 2) - a) / (b - a); }), kKolmogorov);
}
TEST_P(Distributions, Exponential) {
  const auto x = exponential({kDraws}, 2.5, GetParam(), random_key(5)).to_vector<double>();
  EXPECT_LT(kolmogorov_smirnov(x, [](double v) { return 1 - std::exp(-2.5 * v); }), kKolmogorov);
}
TEST_P(Distributions, Gumbel) {
  const auto x = gumbel({kDraws}, GetParam(), random_key(6)).to_vector<double>();
  EXPECT_LT(kolmogorov_smirnov(x, [](double v) { return std::exp(-std::exp(-v)); }), kKolmogorov);
}
INSTANTIATE_TEST_SUITE_P(Random, Distributions, testing::Values(DType::F32, DType::F64),
                         [](const auto& info) { return std::string(name(info.param)); });

TEST(Random, Bits) {
  // Bytes are equally frequent, and so is each bit.
  const auto words = random_bits({kDraws}, random_key(7)).to_vector<int64_t>();
  std::vector<double> bytes(256, 0), bits(32, 0);
  for (const int64_t w : words) {
    for (int b = 0; b < 4; ++b) bytes[static_cast<size_t>((w >> (8 * b)) & 255)] += 1;
    for (int b = 0; b < 32; ++b) bits[static_cast<size_t>(b)] += static_cast<double>((w >> b) & 1);
  }
  EXPECT_LT(chi_squared(bytes, std::vector<double>(256, 4.0 * kDraws / 256)), chi_squared_limit(255));
  for (const double ones : bits) EXPECT_LT(std::abs(ones - kDraws / 2.0), 4.2 * std::sqrt(kDraws / 4.0));
}

TEST(Random, Bernoulli) {
  for (const double p : {0.01, 0.3, 0.5, 0.95}) {
    const Tensor x = bernoulli(p, {kDraws}, random_key(8));
    const auto counts = counts_of(cast(x, i64), 2);
    EXPECT_LT(std::abs(counts[1] - kDraws * p), kNormal * std::sqrt(kDraws * p * (1 - p))) << p;
  }
}

TEST(Random, Randint) {
  const Tensor x = randint(-3, 10, {kDraws}, i64, random_key(9));
  EXPECT_LT(chi_squared(counts_of(x + 3, 13), std::vector<double>(13, kDraws / 13.0)), chi_squared_limit(12));
}

TEST(Random, PermutationsAreEquallyLikely) {
  std::map<std::vector<int64_t>, double> seen;
  const Tensor keys = split_key(random_key(10), 4800);
  for (int64_t i = 0; i < 4800; ++i) ++seen[permutation(4, keys[i]).to_vector<int64_t>()];
  ASSERT_EQ(seen.size(), 24U);
  std::vector<double> counts;
  for (const auto& [order, count] : seen) counts.push_back(count);
  EXPECT_LT(chi_squared(counts, std::vector<double>(24, 200)), chi_squared_limit(23));
  auto all = permutation(1000, random_key(11)).to_vector<int64_t>();
  std::sort(all.begin(), all.end());
  for (size_t i = 0; i < all.size(); ++i) ASSERT_EQ(all[i], static_cast<int64_t>(i));
}

TEST(Random, ShuffleMovesWholeSlices) {
  const Tensor x = reshape(arange(12), {4, 3});
  const auto y = shuffle(x, 0, random_key(12)).to_vector<int64_t>();
  std::set<int64_t> rows;
  for (size_t i = 0; i < 12; i += 3) {
    EXPECT_EQ(y[i + 1], y[i] + 1);
    rows.insert(y[i] / 3);
  }
  EXPECT_EQ(rows.size(), 4U);
}

const std::vector<double> kWeights{1, 2, 4, 0, 3};

std::vector<double> expected_counts() {
  std::vector<double> e;
  for (const double w : kWeights) e.push_back(w / 10 * kDraws);
  return e;
}
// Of the kinds that may come.
double categorical_chi_squared(const Tensor& draws) {
  auto counts = counts_of(draws, 5), expected = expected_counts();
  EXPECT_EQ(counts[3], 0);
  counts.erase(counts.begin() + 3);
  expected.erase(expected.begin() + 3);
  return chi_squared(counts, expected);
}

TEST(Random, Categorical) {
  const Tensor logits = expand(log(from_vector(kWeights, {5})), {kDraws, 5});
  EXPECT_LT(categorical_chi_squared(categorical(logits, random_key(13))), chi_squared_limit(3));
}

TEST(Random, MultinomialWithReplacement) {
  const Tensor x = multinomial(from_vector(kWeights, {5}), kDraws, true, random_key(14));
  EXPECT_EQ(x.shape(), Shape{kDraws});
  EXPECT_LT(categorical_chi_squared(x), chi_squared_limit(3));
}

TEST(Random, MultinomialWithoutReplacement) {
  // Ordered pairs: w_i / sum * w_j / (sum - w_i).
  const Tensor x = multinomial(expand(from_vector(kWeights, {5}), {kDraws, 5}), 2, false, random_key(15));
  const auto v = x.to_vector<int64_t>();
  std::vector<double> counts(25, 0), used, expected;
  for (size_t i = 0; i < v.size(); i += 2) counts[static_cast<size_t>(v[i] * 5 + v[i + 1])] += 1;
  for (size_t i = 0; i < 5; ++i) {
    for (size_t j = 0; j < 5; ++j) {
      const double p = i == j ? 0 : kWeights[i] / 10 * kWeights[j] / (10 - kWeights[i]);
      if (p == 0) {
        EXPECT_EQ(counts[i * 5 + j], 0) << i << ", " << j;
        continue;
      }
      used.push_back(counts[i * 5 + j]);
      expected.push_back(p * kDraws);
    }
  }
  EXPECT_LT(chi_squared(used, expected), chi_squared_limit(static_cast<double>(used.size()) - 1));
  EXPECT_THROW((void)multinomial(from_vector(kWeights, {5}), 6), ValueError);
}

TEST(Random, Dropout) {
  const auto y = dropout(ones({kDraws}), 0.3, random_key(16)).to_vector<double>();
  double kept = 0;
  for (const double v : y) {
    ASSERT_TRUE(v == 0 || std::abs(v - 1 / 0.7) < 1e-6) << v;
    kept += v != 0 ? 1 : 0;
  }
  EXPECT_LT(std::abs(kept - kDraws * 0.7), kNormal * std::sqrt(kDraws * 0.21));
}

double correlation(const std::vector<double>& a, const std::vector<double>& b) {
  double sum = 0;
  for (size_t i = 0; i < a.size(); ++i) sum += (a[i] - 0.5) * (b[i] - 0.5);
  return sum * 12 / static_cast<double>(a.size());
}

TEST(Random, SplitKeysGiveIndependentStreams) {
  const Tensor parent = random_key(17), children = split_key(parent, 24), grandchildren = split_key(children[0], 8);
  std::vector<std::vector<double>> streams{uniform({4000}, 0, 1, f64, parent).to_vector<double>()};
  for (int64_t i = 0; i < 24; ++i) streams.push_back(uniform({4000}, 0, 1, f64, children[i]).to_vector<double>());
  for (int64_t i = 0; i < 8; ++i) streams.push_back(uniform({4000}, 0, 1, f64, grandchildren[i]).to_vector<double>());
  for (uint64_t i = 0; i < 8; ++i)
    streams.push_back(uniform({4000}, 0, 1, f64, fold_in(parent, i)).to_vector<double>());
  // All together are uniform; no two are correlated (0.001 shared out over all pairs), also not one step apart.
  std::vector<double> all;
  for (const auto& s : streams) all.insert(all.end(), s.begin(), s.end());
  EXPECT_LT(kolmogorov_smirnov(all, [](double v) { return v; }), kKolmogorov);
  const double limit = 5.2 / std::sqrt(4000.0);
  for (size_t i = 0; i < streams.size(); ++i) {
    const std::vector<double> later(streams[i].begin() + 1, streams[i].end());
    for (size_t j = 0; j < streams.size(); ++j) {
      if (i < j) {
        EXPECT_LT(std::abs(correlation(streams[i], streams[j])), limit) << i << ", " << j;
      }
      const std::vector<double> start(streams[j].begin(), streams[j].end() - 1);
      EXPECT_LT(std::abs(correlation(later, start)), limit) << i << " against " << j << ", one step apart";
    }
  }
  // Pairs of neighbours in one key's children fill the square evenly.
  std::vector<double> cells(256, 0);
  for (size_t k = 1; k < 24; ++k) {
    for (size_t i = 0; i < 4000; ++i)
      cells[static_cast<size_t>(streams[k][i] * 16) * 16 + static_cast<size_t>(streams[k + 1][i] * 16)] += 1;
  }
  EXPECT_LT(chi_squared(cells, std::vector<double>(256, 23 * 4000 / 256.0)), chi_squared_limit(255));
}

TEST(Random, KeysAreDistinct) {
  std::set<std::vector<int64_t>> seen;
  const Tensor keys = split_key(random_key(18), 5000);
  for (int64_t i = 0; i < 5000; ++i) seen.insert(keys[i].to_vector<int64_t>());
  for (uint64_t i = 0; i < 5000; ++i) seen.insert(fold_in(random_key(18), i).to_vector<int64_t>());
  EXPECT_EQ(seen.size(), 10000U);
}

}  // namespace
