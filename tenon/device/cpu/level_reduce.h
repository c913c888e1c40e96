// Folds: runs to one value, and rows into a row of accumulators. Included by level_*.cpp only.
//
// A run goes into 16 virtual lanes x 4 accumulators (element i into number i mod 64), which are then combined as a
// tree; the order depends on the length alone, whatever the vectors of this level are.
#pragma once

#include "tenon/device/cpu/level_elementwise.h"

namespace tenon::cpu::TENON_CPU_LEVEL {

inline constexpr int kLanes = 64;

// Widens integers modulo 2^64 for sums and products.
template <class Acc, class T>
inline Acc widen(T x) {
  if constexpr (kSame<Acc, T>)
    return x;
  else
    return static_cast<Acc>(x);
}

template <class Op, class Acc, class T>
void fold_run(void* out, const void* data, int64_t n) {
  const T* x = static_cast<const T*>(data);
  Acc result;
  if (n < kLanes) {
    result = widen<Acc>(x[0]);
    for (int64_t i = 1; i < n; ++i) result = Op::f(result, widen<Acc>(x[i]));
  } else {
    alignas(64) Acc lane[kLanes];
    for (int j = 0; j < kLanes; ++j) lane[j] = widen<Acc>(x[j]);
    int64_t i = kLanes;
    for (; i + kLanes <= n; i += kLanes) {
      for (int j = 0; j < kLanes; ++j) lane[j] = Op::f(lane[j], widen<Acc>(x[i + j]));
    }
    for (int j = 0; i + j < n; ++j) lane[j] = Op::f(lane[j], widen<Acc>(x[i + j]));
    for (int width = kLanes / 2; width > 0; width /= 2) {
      for (int j = 0; j < width; ++j) lane[j] = Op::f(lane[j], lane[j + width]);
    }
    result = lane[0];
  }
  *static_cast<Acc*>(out) = result;
}

template <class Op, class Acc, class T>
void fold_row(void* acc, const void* data, int64_t n) {
  Acc* a = static_cast<Acc*>(acc);
  const T* x = static_cast<const T*>(data);
  TENON_INDEPENDENT
  for (int64_t i = 0; i < n; ++i) a[i] = Op::f(a[i], widen<Acc>(x[i]));
}

}  // namespace tenon::cpu::TENON_CPU_LEVEL
