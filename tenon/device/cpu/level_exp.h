// The maximum and the sum of exponentials of rows of f32, in one pass over the memory and without a place for the
// exponentials. Included by level_*.cpp only; levels without fused multiply-adds have none (the loops of level_rows.h
// give the same bits).
//
// While the exponentials of a row are added up, which waits for nothing, the next row is read for its maximum, and the
// memory is asked for what is read soon. Four vectors go side by side: one polynomial alone waits for itself.
#pragma once

#include "tenon/device/cpu/level_rows.h"
#include "tenon/device/cpu/level_tile.h"

#if defined(__AVX512F__) || (defined(__AVX2__) && defined(__FMA__) && defined(__F16C__))
#define TENON_EXP_SUMS 1

namespace tenon::cpu::TENON_CPU_LEVEL {

// What a tile's vectors can do, and what exponentials need besides.
struct ExpLanes : Lanes {
  static Part first(int64_t count) { return part(static_cast<int>(count >= kCount ? kCount : count <= 0 ? 0 : count)); }
#if defined(__AVX512F__)
  // The first `count` elements, behind them `other`.
  static V load_first(const float* p, int64_t count, V other) { return _mm512_mask_loadu_ps(other, first(count), p); }
  // Zero behind the first `count`.
  static V keep_first(V v, int64_t count) { return _mm512_maskz_mov_ps(first(count), v); }
  // a > b ? a : b. (With a mask of all, because g++ 12 calls what the plain function leaves out uninitialised.)
  static V max(V a, V b) { return _mm512_mask_max_ps(a, 0xffff, a, b); }
  template <int Half>
  static __m256 half_of(V v) {
    return _mm256_castpd_ps(_mm512_maskz_extractf64x4_pd(0xf, _mm512_castps_pd(v), Half));
  }
#else
  static V load_first(const float* p, int64_t count, V other) {
    const Part mask = first(count);
    return _mm256_blendv_ps(other, load(p, mask), _mm256_castsi256_ps(mask));
  }
  static V keep_first(V v, int64_t count) { return _mm256_and_ps(v, _mm256_castsi256_ps(first(count))); }
  static V max(V a, V b) { return _mm256_max_ps(a, b); }
#endif
  // All lanes folded, the second half into the first again and again.
  static float max_of(V v) {
    return folded(v, [](auto a, auto b) { return a > b ? a : b; });
  }
  static float sum_of(V v) {
    return folded(v, [](auto a, auto b) { return a + b; });
  }

 private:
  template <class F>
  [[gnu::always_inline]] static float folded(V v, const F& f) {
#if defined(__AVX512F__)
    const __m256 eight = f(half_of<0>(v), half_of<1>(v));
#else
    const __m256 eight = v;
#endif
    const __m128 four = f(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
    const __m128 two = f(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(f(two, _mm_movehdup_ps(two)));
  }
};

inline constexpr int kExpSide = 4;                              // vectors side by side
inline constexpr int kExpStep = kExpSide * ExpLanes::kCount;    // elements of a step
inline constexpr int kExpLanes = kRowLanes / ExpLanes::kCount;  // vectors of the sum's lanes
// Elements between what is read and what is asked of the second cache: the first is full of two rows.
inline constexpr int kExpAhead = 2048;
using ExpVector = ExpLanes::V;

// f(i) for each vector, so that a step of all stands side by side.
template <class F>
[[gnu::always_inline]] inline void each_vector(const F& f) {
  static_assert(kExpSide == 4);
  f(0);
  f(1);
  f(2);
  f(3);
}

// e[i] = exp(e[i]) for arguments that are not above zero, or NaN.
[[gnu::always_inline]] inline void exp_vectors(ExpVector (&e)[kExpSide]) {
  each_vector([&](int i) { e[i] = ExpLanes::max(ExpLanes::number(-104.0F), e[i]); });
  exp_of_clamped(e);
}

// The maximum of rows: any order of lanes gives the same, but for the sign of a zero, on which nothing depends, and for
// a NaN, which the sum has then.
struct RunningMax {
  ExpVector lane[kExpSide];
  RunningMax() {
    each_vector([&](int i) { lane[i] = ExpLanes::number(-__builtin_inff()); });
  }
  [[gnu::always_inline]] void take(const float* x) {
    each_vector([&](int i) { lane[i] = ExpLanes::max(ExpLanes::load(x + i * ExpLanes::kCount), lane[i]); });
  }
  // Of all, with the last `count` elements, less than a step.
  [[gnu::always_inline]] float finish(const float* x, int64_t count) {
    using L = ExpLanes;
    if (count > 0)
      each_vector(
          [&](int i) { lane[i] = L::max(L::load_first(x + i * L::kCount, count - i * L::kCount, lane[i]), lane[i]); });
    return L::max_of(L::max(L::max(lane[0], lane[1]), L::max(lane[2], lane[3])));
  }
};

// sum(exp(x - shift)), in the lanes of fold_over. If there is a next row, its maximum goes to *next_most.
template <bool HasNext>
inline float exp_sum_and_next(const float* x, float shift, const float* next, float* next_most, int64_t n) {
  using L = ExpLanes;
  ExpVector sum[kExpLanes], e[kExpSide];
  for (ExpVector& one : sum) one = L::number(0.0F);
  const ExpVector by = L::number(shift);
  RunningMax most;
  const auto exponentials = [&] {
    each_vector([&](int j) { e[j] = L::subtract(e[j], by); });
    exp_vectors(e);
  };
  const auto add = [&] { each_vector([&](int j) { sum[j % kExpLanes] = L::add(sum[j % kExpLanes], e[j]); }); };
  int64_t i = 0;
  for (; i + kExpStep <= n; i += kExpStep) {
    if constexpr (HasNext) {
      for (int line = 0; line < kExpStep; line += 16) __builtin_prefetch(next + i + kExpAhead + line, 0, 2);
      most.take(next + i);
    }
    each_vector([&](int j) { e[j] = L::load(x + i + j * L::kCount); });
    exponentials();
    add();
  }
  if constexpr (HasNext) *next_most = most.finish(next + i, n - i);
  if (i < n) {  // behind the row's end zeros are added, which change no sum of numbers that are not negative
    each_vector([&](int j) { e[j] = L::load_first(x + i + j * L::kCount, n - i - j * L::kCount, by); });
    exponentials();
    each_vector([&](int j) { e[j] = L::keep_first(e[j], n - i - j * L::kCount); });
    add();
  }
  for (int count = kExpLanes / 2; count > 0; count /= 2) {
    for (int j = 0; j < count; ++j) sum[j] = L::add(sum[j], sum[j + count]);
  }
  return L::sum_of(sum[0]);
}

// most[r] and sum[r] of `rows` rows of n elements.
inline void exp_sums(float* most, float* sum, const float* x, int64_t rows, int64_t n) {
  RunningMax first;
  int64_t i = 0;
  for (; i + kExpStep <= n; i += kExpStep) first.take(x + i);
  most[0] = first.finish(x + i, n - i);
  for (int64_t r = 0; r < rows; ++r) {
    const float* row = x + r * n;
    sum[r] = r + 1 < rows ? exp_sum_and_next<true>(row, most[r], row + n, most + r + 1, n)
                          : exp_sum_and_next<false>(row, most[r], nullptr, nullptr, n);
  }
}

}  // namespace tenon::cpu::TENON_CPU_LEVEL
#endif
