// Rows of channels by themselves where places lie side by side (planes.h). Included by level_*.cpp only.
//
// As everywhere, each element is one chain of fused multiply-adds from zero, in the order of the taps, and those that
// lie outside are left out of it.
#pragma once

#include "tenon/device/cpu/level.h"
#include "tenon/device/cpu/level_lanes.h"

namespace tenon::cpu::TENON_CPU_LEVEL {

// Some rows of one vector of columns.
template <bool Whole, int Rows>
void plane_block(const PlaneRows& t, int64_t row, int64_t block) {
  const int64_t column = block * Lanes::kCount, left = t.columns - column;
  const float* base = t.x + row * t.x_step + column;
  const uint32_t* there = t.there + block * t.tap_count;
  Lanes::V sum[Rows];
#pragma GCC unroll 8
  for (int m = 0; m < Rows; ++m) sum[m] = Lanes::zero();
  for (int64_t r = 0; r < t.row_count; ++r) {
    const float* x = base + t.rows[r].x;
    const float* weight = t.weight + t.rows[r].weight;
    for (int64_t k = 0; k < t.tap_count; ++k) {
      const Lanes::V w = Lanes::splat(weight + k);
      const float* at = x + t.taps[k];
      if constexpr (Whole) {
#pragma GCC unroll 8
        for (int m = 0; m < Rows; ++m) sum[m] = Lanes::fma(Lanes::load(at + m * t.x_step), w, sum[m]);
      } else {
        const Lanes::Some some = Lanes::some(there[k]);
#pragma GCC unroll 8
        for (int m = 0; m < Rows; ++m) sum[m] = Lanes::fma_where(some, at + m * t.x_step, w, sum[m]);
      }
    }
  }
  float* y = t.y + row * t.y_step + column;
  const Lanes::V bias = t.bias == nullptr ? Lanes::zero() : Lanes::splat(t.bias);
  const auto part = Lanes::part(static_cast<int>(left < Lanes::kCount ? left : Lanes::kCount));
#pragma GCC unroll 8
  for (int m = 0; m < Rows; ++m) {
    if (t.bias != nullptr) sum[m] = Lanes::add(sum[m], bias);
    if (Whole || left >= Lanes::kCount)
      Lanes::store(y + m * t.y_step, sum[m]);
    else
      Lanes::store(y + m * t.y_step, sum[m], part);
  }
}
template <int Rows>
void plane_some_rows(const PlaneRows& t, int64_t row) {
  const int64_t blocks = (t.columns + Lanes::kCount - 1) / Lanes::kCount;
  int64_t block = 0;
  for (; block < t.whole_from; ++block) plane_block<false, Rows>(t, row, block);
  for (; block < t.whole_end; ++block) plane_block<true, Rows>(t, row, block);
  for (; block < blocks; ++block) plane_block<false, Rows>(t, row, block);
}
template <int Rows>
void plane_rest(const PlaneRows& t, int64_t row) {
  if constexpr (Rows > 0) {
    if (t.count - row == Rows) {
      plane_some_rows<Rows>(t, row);
    } else {
      plane_rest<Rows - 1>(t, row);
    }
  }
}
inline void plane_rows(const PlaneRows& t) {
  constexpr int kRows = 6;
  int64_t row = 0;
  for (; row + kRows <= t.count; row += kRows) plane_some_rows<kRows>(t, row);
  plane_rest<kRows - 1>(t, row);
}

inline void deal(const float* from, const PlaneParts& p, float* to) {
  for (int64_t r = 0; r < p.rows; ++r, from += p.row, to += p.part_row) {
    int64_t i = 0;
    if (p.step == 2) {
      for (; i < p.columns / 2; ++i) {
        to[i] = from[2 * i];
        to[p.part + i] = from[2 * i + 1];
      }
    }
    for (i *= p.step; i < p.columns; ++i) to[i % p.step * p.part + i / p.step] = from[i];
  }
}
inline void merge(const float* from, const PlaneParts& p, float* to) {
  for (int64_t r = 0; r < p.rows; ++r, from += p.part_row, to += p.row) {
    int64_t i = 0;
    if (p.step == 2) {
      for (; i < p.columns / 2; ++i) {
        to[2 * i] = from[i];
        to[2 * i + 1] = from[p.part + i];
      }
    }
    for (i *= p.step; i < p.columns; ++i) to[i] = from[i % p.step * p.part + i / p.step];
  }
}

constexpr PlaneLoops plane_loops() { return {plane_rows, deal, merge}; }

}  // namespace tenon::cpu::TENON_CPU_LEVEL
