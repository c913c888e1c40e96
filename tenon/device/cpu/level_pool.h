// The largest of some taps (pool.cpp). Included by level_*.cpp only.
#pragma once

#include "tenon/device/cpu/level.h"
#include "tenon/device/cpu/level_lanes.h"

namespace tenon::cpu::TENON_CPU_LEVEL {

inline constexpr float kLeast = -__builtin_inff();

template <int Vectors>
void largest_taps(const LargestTaps& t, int64_t i) {
  constexpr int kCount = Lanes::kCount;
  Lanes::V best[Vectors];
#pragma GCC unroll 4
  for (int v = 0; v < Vectors; ++v) best[v] = t.more ? Lanes::load(t.y + i + v * kCount) : Lanes::splat(&kLeast);
  for (int64_t k = 0; k < t.tap_count; ++k) {
    const float* x = t.x + t.taps[k] + i;
#pragma GCC unroll 4
    for (int v = 0; v < Vectors; ++v) best[v] = Lanes::larger(Lanes::load(x + v * kCount), best[v]);
  }
#pragma GCC unroll 4
  for (int v = 0; v < Vectors; ++v) Lanes::store(t.y + i + v * kCount, best[v]);
}

inline void largest(const LargestTaps& t) {
  constexpr int kCount = Lanes::kCount, kVectors = 4;
  int64_t i = 0;
  for (; i + kVectors * kCount <= t.n; i += kVectors * kCount) largest_taps<kVectors>(t, i);
  for (; i + kCount <= t.n; i += kCount) largest_taps<1>(t, i);
  if (i == t.n) return;
  const auto part = Lanes::part(static_cast<int>(t.n - i));
  Lanes::V best = t.more ? Lanes::load(t.y + i, part) : Lanes::splat(&kLeast);
  for (int64_t k = 0; k < t.tap_count; ++k) best = Lanes::larger(Lanes::load(t.x + t.taps[k] + i, part), best);
  Lanes::store(t.y + i, best, part);
}

}  // namespace tenon::cpu::TENON_CPU_LEVEL
