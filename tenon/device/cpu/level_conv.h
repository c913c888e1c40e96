// Tiles of convolutions and products in f32. Included by level_*.cpp only.
//
// A tile is `rows` places times `vectors` vectors of columns (filters), kept in registers over the whole sum. Each
// element is one chain of fused multiply-adds from zero, in the order of the weights, so its bits depend neither on the
// tile nor on the level (level_math.h has what a CPU without such an instruction does).
#pragma once

#if defined(__AVX512F__) || (defined(__AVX2__) && defined(__FMA__))
#include <immintrin.h>
#endif

#include "tenon/device/cpu/level.h"
#include "tenon/device/cpu/level_math.h"

namespace tenon::cpu::TENON_CPU_LEVEL {

#if defined(__AVX512F__)
struct Lanes {
  using V = __m512;
  static constexpr int kCount = 16;
  static constexpr int kMostRows[kTileVectors + 1] = {0, 14, 14, 9, 6};
  static V zero() { return _mm512_setzero_ps(); }
  static V load(const float* p) { return _mm512_loadu_ps(p); }
  static V splat(const float* p) { return _mm512_set1_ps(*p); }
  static void store(float* p, V v) { _mm512_storeu_ps(p, v); }
  static V fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
};
#elif defined(__AVX2__) && defined(__FMA__)
struct Lanes {
  using V = __m256;
  static constexpr int kCount = 8;
  static constexpr int kMostRows[kTileVectors + 1] = {0, 8, 6, 4, 0};
  static V zero() { return _mm256_setzero_ps(); }
  static V load(const float* p) { return _mm256_loadu_ps(p); }
  static V splat(const float* p) { return _mm256_set1_ps(*p); }
  static void store(float* p, V v) { _mm256_storeu_ps(p, v); }
  static V fma(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
};
#else
struct Lanes {
  struct V {
    float at[4];
  };
  static constexpr int kCount = 4;
  static constexpr int kMostRows[kTileVectors + 1] = {0, 8, 4, 0, 0};
  static V zero() { return {}; }
  static V load(const float* p) { return {{p[0], p[1], p[2], p[3]}}; }
  static V splat(const float* p) { return {{*p, *p, *p, *p}}; }
  static void store(float* p, V v) {
    for (int i = 0; i < kCount; ++i) p[i] = v.at[i];
  }
  static V fma(V a, V b, V c) {
    V r;
    for (int i = 0; i < kCount; ++i) r.at[i] = fma_f32(a.at[i], b.at[i], c.at[i]);
    return r;
  }
};
#endif

// Pointers are kept for every third place of a segment: a CPU adds up to twice the step in an address for nothing.
inline constexpr int pointers_of(int rows) { return rows <= 0 ? 0 : (rows + 2) / 3; }

template <int Rows, int Vectors>
void conv_tile(const ConvTile& t) {
  constexpr int kFirst = Rows < kTileSegment ? Rows : kTileSegment;
  constexpr int kFirstPointers = pointers_of(kFirst);
  constexpr int kPointers = kFirstPointers + pointers_of(Rows - kTileSegment);
  using V = Lanes::V;
  V sum[Rows][Vectors];
#pragma GCC unroll 16
  for (int m = 0; m < Rows; ++m) {
#pragma GCC unroll 4
    for (int n = 0; n < Vectors; ++n) sum[m][n] = Lanes::zero();
  }
  const float* weight = t.weight;
  const int64_t step = t.step;
  for (int64_t tap = 0; tap < t.tap_count; ++tap) {
    const float* x[kPointers];
#pragma GCC unroll 8
    for (int p = 0; p < kPointers; ++p) {
      const int place = p < kFirstPointers ? 3 * p : 3 * (p - kFirstPointers);
      x[p] = t.x + t.taps[tap] + place * step + (p < kFirstPointers ? 0 : t.jump);
    }
    for (int64_t k = t.run; k > 0; --k) {
      V w[Vectors];
#pragma GCC unroll 4
      for (int n = 0; n < Vectors; ++n) w[n] = Lanes::load(weight + n * Lanes::kCount);
#pragma GCC unroll 16
      for (int m = 0; m < Rows; ++m) {
        const int in = m < kTileSegment ? m : m - kTileSegment;
        const int p = in / 3 + (m < kTileSegment ? 0 : kFirstPointers);
        const V value = Lanes::splat(x[p] + (in % 3) * step);
#pragma GCC unroll 4
        for (int n = 0; n < Vectors; ++n) sum[m][n] = Lanes::fma(value, w[n], sum[m][n]);
      }
      weight += Vectors * Lanes::kCount;
#pragma GCC unroll 8
      for (int p = 0; p < kPointers; ++p) {
        ++x[p];
        __asm__("" : "+r"(x[p]));  // else compilers add everything up anew for each place, and run out of registers
      }
    }
  }
#pragma GCC unroll 16
  for (int m = 0; m < Rows; ++m) {
#pragma GCC unroll 4
    for (int n = 0; n < Vectors; ++n) Lanes::store(t.y + m * t.y_step + n * Lanes::kCount, sum[m][n]);
  }
}

// As a tile of one column of weights for each channel: channels are the vectors.
template <int Rows>
void depthwise_places(const DepthwiseRow& t, const float* x, float* y, int64_t channel) {
  using V = Lanes::V;
  V sum[Rows];
#pragma GCC unroll 8
  for (int m = 0; m < Rows; ++m) sum[m] = Lanes::zero();
  const float* weight = t.weight + channel;
  for (int64_t tap = 0; tap < t.tap_count; ++tap, weight += t.channels) {
    const V w = Lanes::load(weight);
    const float* at = x + t.taps[tap] + channel;
#pragma GCC unroll 8
    for (int m = 0; m < Rows; ++m) sum[m] = Lanes::fma(Lanes::load(at + m * t.step), w, sum[m]);
  }
#pragma GCC unroll 8
  for (int m = 0; m < Rows; ++m) Lanes::store(y + m * t.y_step + channel, sum[m]);
}
inline void depthwise_row(const DepthwiseRow& t) {
  constexpr int kRows = 7;
  for (int64_t channel = 0; channel < t.channels; channel += Lanes::kCount) {
    int64_t place = 0;
    for (; place + kRows <= t.places; place += kRows)
      depthwise_places<kRows>(t, t.x + place * t.step, t.y + place * t.y_step, channel);
    for (; place + 2 <= t.places; place += 2)
      depthwise_places<2>(t, t.x + place * t.step, t.y + place * t.y_step, channel);
    if (place < t.places) depthwise_places<1>(t, t.x + place * t.step, t.y + place * t.y_step, channel);
  }
}

template <int Vectors, int Rows>
constexpr void put_tiles(ConvLoops& loops) {
  if constexpr (Rows > 0) {
    loops.tile[Vectors][Rows] = conv_tile<Rows, Vectors>;
    put_tiles<Vectors, Rows - 1>(loops);
  }
}
constexpr ConvLoops conv_loops() {
  ConvLoops loops{};
  loops.lanes = Lanes::kCount;
  for (int n = 1; n <= kTileVectors; ++n) loops.most_rows[n] = Lanes::kMostRows[n];
  put_tiles<1, Lanes::kMostRows[1]>(loops);
  put_tiles<2, Lanes::kMostRows[2]>(loops);
  put_tiles<3, Lanes::kMostRows[3]>(loops);
  put_tiles<4, Lanes::kMostRows[4]>(loops);
  loops.depthwise = depthwise_row;
  return loops;
}

}  // namespace tenon::cpu::TENON_CPU_LEVEL
