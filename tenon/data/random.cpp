#include "tenon/data/random.h"

#include <bit>

namespace tenon::data {
namespace {
constexpr std::uint64_t kGamma = 0x9e3779b97f4a7c15;  // 2^64 divided by the golden ratio
}

std::uint64_t mix(std::uint64_t x) {
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9;
  x = (x ^ (x >> 27)) * 0x94d049bb133111eb;
  return x ^ (x >> 31);
}

std::uint64_t stream_key(std::uint64_t seed, std::uint64_t a, std::uint64_t b) {
  return mix(mix(mix(seed + kGamma) ^ mix(a + 2 * kGamma)) ^ mix(b + 3 * kGamma));
}

std::uint64_t Random::next() { return mix(key_ + ++counter_ * kGamma); }

std::int64_t Random::below(std::int64_t bound) {
  __extension__ using Wide = unsigned __int128;
  const auto n = static_cast<std::uint64_t>(bound);
  Wide product = static_cast<Wide>(next()) * n;
  if (static_cast<std::uint64_t>(product) < n) {
    const std::uint64_t threshold = -n % n;
    while (static_cast<std::uint64_t>(product) < threshold) product = static_cast<Wide>(next()) * n;
  }
  return static_cast<std::int64_t>(product >> 64);
}

double Random::uniform() { return static_cast<double>(next() >> 11) * 0x1p-53; }

Permutation::Permutation(std::int64_t n, std::uint64_t key) : n_(static_cast<std::uint64_t>(n)) {
  for (std::uint64_t r = 0; r < kRounds; ++r) round_keys_[r] = mix(key + r * kGamma);
  while (half_bits_ < 32 && std::uint64_t{1} << (2 * half_bits_) < n_) ++half_bits_;
}

std::int64_t Permutation::operator()(std::int64_t i) const {
  const std::uint64_t mask = (std::uint64_t{1} << half_bits_) - 1;
  auto x = static_cast<std::uint64_t>(i);
  do {
    std::uint64_t left = x >> half_bits_;
    std::uint64_t right = x & mask;
    for (const std::uint64_t key : round_keys_) {
      const std::uint64_t next = left ^ (mix(right + key) >> (64 - half_bits_));
      left = right;
      right = next;
    }
    x = left << half_bits_ | right;
  } while (x >= n_);
  return static_cast<std::int64_t>(x);
}

}  // namespace tenon::data
