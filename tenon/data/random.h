// Random numbers for input pipelines, counter-based: the i-th number of a stream is a function of the
// stream's key and i, so nothing depends on the order in which threads ask. The algorithms are fixed here, in
// full, because std::shuffle and the std distributions differ between standard libraries:
//
//   mix(x)      the finaliser of SplitMix64 (Steele, Lea, Flood 2014)
//   stream_key  mix(mix(mix(seed + G) ^ mix(a + 2G)) ^ mix(b + 3G)), G = 0x9e3779b97f4a7c15
//   Random      the i-th number is mix(key + (i + 1) G): SplitMix64
//   Permutation a Feistel network of 12 rounds over the smallest even number of bits (at least 8) that holds
//               n; round r's function is the high bits of mix(half + mix(key + r G)). A result of n or more is
//               put through again ("cycle walking", Black and Rogaway 2002) until it is below n.
#pragma once

#include <array>
#include <cstdint>

namespace tenon::data {

std::uint64_t mix(std::uint64_t x);
std::uint64_t stream_key(std::uint64_t seed, std::uint64_t a, std::uint64_t b);

// A stream of random numbers.
class Random {
 public:
  explicit Random(std::uint64_t key) : key_(key) {}

  std::uint64_t next();
  // 0 … bound-1, without bias (Lemire's method with rejection). bound > 0.
  std::int64_t below(std::int64_t bound);
  // [0, 1), a multiple of 2^-53.
  double uniform();
  double uniform(double low, double high) { return low + (high - low) * uniform(); }

 private:
  std::uint64_t key_;
  std::uint64_t counter_ = 0;
};

// A pseudo-random order of 0 … n-1 that needs no memory: p(i) is the i-th entry.
class Permutation {
 public:
  Permutation(std::int64_t n, std::uint64_t key);
  std::int64_t operator()(std::int64_t i) const;

 private:
  static constexpr int kRounds = 12;
  std::array<std::uint64_t, kRounds> round_keys_{};
  std::uint64_t n_;
  int half_bits_ = 4;  // small networks favour some orders
};

}  // namespace tenon::data
