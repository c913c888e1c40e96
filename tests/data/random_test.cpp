// The counter-based generator and the permutation: known values, permutation property, uniformity.
#include "tenon/data/random.h"

#include <map>
#include <numeric>

#include "tests/data/support.h"

namespace tenon::data::testing {
namespace {

using ::testing::ElementsAre;

TEST(Random, IsSplitMix64) {
  // The first outputs of SplitMix64 seeded with 1234567, as published with the reference implementation.
  Random random(1234567);
  EXPECT_EQ(random.next(), 6457827717110365317U);
  EXPECT_EQ(random.next(), 3203168211198807973U);
  EXPECT_EQ(random.next(), 9817491932198370423U);
}

TEST(Random, BelowAndUniformCoverTheirRangeEvenly) {
  Random random(stream_key(1, 2, 3));
  std::vector<int> counts(10);
  for (int i = 0; i < 100000; ++i) ++counts[static_cast<std::size_t>(random.below(10))];
  for (const int count : counts) EXPECT_NEAR(count, 10000, 400);
  double sum = 0;
  for (int i = 0; i < 100000; ++i) {
    const double x = random.uniform(2, 4);
    ASSERT_TRUE(x >= 2 && x < 4);
    sum += x;
  }
  EXPECT_NEAR(sum / 100000, 3, 0.01);
}

TEST(Permutation, IsAPermutationOfEverySize) {
  for (const std::int64_t n : {1, 2, 3, 5, 16, 17, 255, 256, 257, 1000, 60000}) {
    const Permutation order(n, stream_key(42, static_cast<std::uint64_t>(n), 0));
    std::vector<bool> seen(static_cast<std::size_t>(n));
    for (std::int64_t i = 0; i < n; ++i) {
      const std::int64_t p = order(i);
      ASSERT_TRUE(p >= 0 && p < n);
      ASSERT_FALSE(seen[static_cast<std::size_t>(p)]);
      seen[static_cast<std::size_t>(p)] = true;
    }
  }
  const Permutation huge(std::int64_t{1} << 62, 1);
  EXPECT_NE(huge(0), huge(1));
}

TEST(Permutation, OrdersAreEquallyFrequent) {
  // All 24 orders of 4 from 24,000 keys: chi-squared with 23 degrees of freedom is below 49.7 with p = 0.999.
  std::map<std::vector<std::int64_t>, int> counts;
  for (std::uint64_t key = 0; key < 24000; ++key) {
    const Permutation order(4, stream_key(7, key, 0));
    ++counts[{order(0), order(1), order(2), order(3)}];
  }
  EXPECT_EQ(counts.size(), 24U);
  double chi = 0;
  for (const auto& [order, count] : counts) chi += (count - 1000.0) * (count - 1000.0) / 1000.0;
  EXPECT_LT(chi, 49.7);
}

TEST(Permutation, NeighboursAreFarApart) {
  // Neighbouring positions of a random order of n are n/3 apart on average.
  const Permutation order(60000, stream_key(1, 0, 0));
  double distance = 0;
  for (std::int64_t i = 0; i + 1 < 60000; ++i) distance += std::abs(static_cast<double>(order(i) - order(i + 1)));
  EXPECT_NEAR(distance / 59999, 20000, 300);
}

TEST(Permutation, TheOrderIsFixedForAllTime) {
  // A saved run must go on in the same order after an update: these values may never change. They were computed
  // with a Python program written from the description in random.h.
  const Permutation order(10, stream_key(0, 0, 0));
  std::vector<std::int64_t> values;
  for (std::int64_t i = 0; i < 10; ++i) values.push_back(order(i));
  EXPECT_THAT(values, ElementsAre(6, 0, 5, 7, 8, 9, 4, 2, 1, 3));
}

}  // namespace
}  // namespace tenon::data::testing
