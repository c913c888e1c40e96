// Numbers drawn by position, so that a seed says which requests are sampled whatever thread asks.
#pragma once

#include <cstdint>

namespace tenon::serve {

// SplitMix64's n-th number.
inline uint64_t random_bits(uint64_t seed, uint64_t n) {
  uint64_t x = seed + (n + 1) * 0x9e3779b97f4a7c15ULL;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ULL;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebULL;
  return x ^ (x >> 31);
}
// The same in [0, 1).
inline double unit_random(uint64_t seed, uint64_t n) {
  return static_cast<double>(random_bits(seed, n) >> 11) * 0x1.0p-53;
}

}  // namespace tenon::serve
