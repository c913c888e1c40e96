// Vectors of f32 as each CPU level has them, for the loops that are written by hand. Included by level_*.h only.
#pragma once

#if defined(__AVX512F__) || (defined(__AVX2__) && defined(__FMA__) && defined(__F16C__))
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
  static constexpr int kProductVectors = 3;
  static V zero() { return _mm512_setzero_ps(); }
  static V load(const float* p) { return _mm512_loadu_ps(p); }
  static V splat(const float* p) { return _mm512_set1_ps(*p); }
  static void store(float* p, V v) { _mm512_storeu_ps(p, v); }
  static V fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
  static V add(V a, V b) { return _mm512_add_ps(a, b); }
  static V subtract(V a, V b) { return _mm512_sub_ps(a, b); }
  static V multiply(V a, V b) { return _mm512_mul_ps(a, b); }
  static V divide(V a, V b) { return _mm512_div_ps(a, b); }
  static V negate(V a) {
    return _mm512_castsi512_ps(_mm512_xor_si512(_mm512_castps_si512(a), _mm512_set1_epi32(INT32_MIN)));
  }
  static V number(float x) { return _mm512_set1_ps(x); }
  // A NaN stays.
  static V between(V x, float low, float high) {
    return _mm512_mask_max_ps(x, 0xffff, number(low), _mm512_mask_min_ps(x, 0xffff, number(high), x));
  }
  // Where elements are different, and zero where they are not.
  using Some = __mmask16;
  static Some differ(V a, V b) { return _mm512_cmp_ps_mask(a, b, _CMP_NEQ_UQ); }
  static V only(Some some, V v) { return _mm512_maskz_mov_ps(some, v); }
  // y * 2^n, rounded once, as the two multiplications of exp_f32 do.
  static V scaled(V y, V /*shifted*/, V n) { return _mm512_mask_scalef_ps(y, 0xffff, y, n); }
  // 1 / x, rounded as by a division, in a third of its time: two steps of Newton's. The last gives the nearest number
  // if x is of middling size and its fraction is not all ones (P. Markstein, IBM J. Res. Dev. 34, 1990); where one is
  // not so, nothing is done.
  template <int Rows>
  static bool inverse(V (&x)[Rows]) {
    const __m512i low = _mm512_set1_epi32(0x10000000), width = _mm512_set1_epi32(0x60000000);
    const __m512i fraction = _mm512_set1_epi32(0x007fffff);
    __mmask16 apart = 0;
#pragma GCC unroll 8
    for (int m = 0; m < Rows; ++m) {
      const __m512i bits = _mm512_castps_si512(x[m]);
      apart |= _mm512_cmpgt_epu32_mask(_mm512_sub_epi32(bits, low), width);
      apart |= _mm512_cmpeq_epi32_mask(_mm512_and_si512(bits, fraction), fraction);
    }
    if (apart != 0) return false;
    const V one = number(1.0F);
    V y[Rows];
#pragma GCC unroll 8
    for (int m = 0; m < Rows; ++m) y[m] = _mm512_maskz_rcp14_ps(0xffff, x[m]);
    for (int step = 0; step < 2; ++step) {
      V rest[Rows];
#pragma GCC unroll 8
      for (int m = 0; m < Rows; ++m) rest[m] = _mm512_fnmadd_ps(x[m], y[m], one);
#pragma GCC unroll 8
      for (int m = 0; m < Rows; ++m) y[m] = fma(y[m], rest[m], y[m]);
    }
#pragma GCC unroll 8
    for (int m = 0; m < Rows; ++m) x[m] = y[m];
    return true;
  }
  // a > b or a is NaN ? a : b. (With a mask of all, because g++ 12 calls what the plain function leaves out
  // uninitialised.)
  static V larger(V a, V b) {
    return _mm512_mask_mov_ps(_mm512_mask_max_ps(a, 0xffff, a, b), _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q), a);
  }
  static V smaller(V a, V b) {
    return _mm512_mask_mov_ps(_mm512_mask_min_ps(a, 0xffff, a, b), _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q), a);
  }
  static V half(V a) {
    const __m256i bits = _mm512_maskz_cvtps_ph(0xffff, a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    return _mm512_maskz_cvtph_ps(0xffff, bits);
  }
  // As float_to_brain. (What is masked by all is so for g++ 12, as above.)
  static V shortened(V a) {
    const __m512i bits = _mm512_castps_si512(a);
    const __m512i odd = _mm512_and_si512(_mm512_maskz_srli_epi32(0xffff, bits, 16), _mm512_set1_epi32(1));
    const __m512i up = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
    const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
    const __m512i all = _mm512_mask_mov_epi32(up, _mm512_cmp_ps_mask(a, a, _CMP_UNORD_Q), quiet);
    return _mm512_castsi512_ps(_mm512_and_si512(all, _mm512_set1_epi32(INT32_MIN >> 15)));
  }
  // larger(v, +0) and smaller(v, most).
  static V above_zero(V v) { return add(_mm512_mask_max_ps(v, 0xffff, zero(), v), zero()); }
  static V below(V v, V most) { return _mm512_mask_min_ps(v, 0xffff, most, v); }
  // The first n.
  using Part = __mmask16;
  static Part part(int n) { return static_cast<Part>((1U << n) - 1); }
  static V load(const float* p, Part part) { return _mm512_maskz_loadu_ps(part, p); }
  // Those of which the bit is set: p * b + c there, c elsewhere; others are not read.
  static Some some(uint32_t bits) { return static_cast<__mmask16>(bits); }
  static V fma_where(Some some, const float* p, V b, V c) {
    return _mm512_mask3_fmadd_ps(_mm512_maskz_loadu_ps(some, p), b, c, some);
  }
  static void store(float* p, V v, Part part) { _mm512_mask_storeu_ps(p, part, v); }

  // Swaps the two halves across the diagonal of each square of 2 D: D is 1, 2, 4, 8.
  template <int D>
  static void swap(V& a, V& b) {
    struct Pick {
      int32_t low[kCount], high[kCount];
    };
    static constexpr Pick kPick = [] {
      Pick p{};
      for (int c = 0; c < kCount; ++c) {
        p.low[c] = (c & D) == 0 ? c : kCount + c - D;
        p.high[c] = (c & D) == 0 ? c + D : kCount + c;
      }
      return p;
    }();
    const V low = _mm512_permutex2var_ps(a, _mm512_loadu_si512(kPick.low), b);
    b = _mm512_permutex2var_ps(a, _mm512_loadu_si512(kPick.high), b);
    a = low;
  }
  template <int D>
  static void swap_all(V (&v)[kCount]) {
#pragma GCC unroll 16
    for (int i = 0; i < kCount; ++i) {
      if ((i & D) == 0) swap<D>(v[i], v[i + D]);
    }
  }
  static void transpose(V (&v)[kCount]) {
    swap_all<1>(v);
    swap_all<2>(v);
    swap_all<4>(v);
    swap_all<8>(v);
  }
};
#elif defined(__AVX2__) && defined(__FMA__) && defined(__F16C__)
struct Lanes {
  using V = __m256;
  static constexpr int kCount = 8;
  static constexpr int kMostRows[kTileVectors + 1] = {0, 8, 6, 4, 0};
  static constexpr int kProductVectors = 2;
  static V zero() { return _mm256_setzero_ps(); }
  static V load(const float* p) { return _mm256_loadu_ps(p); }
  static V splat(const float* p) { return _mm256_set1_ps(*p); }
  static void store(float* p, V v) { _mm256_storeu_ps(p, v); }
  static V fma(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
  static V add(V a, V b) { return _mm256_add_ps(a, b); }
  static V subtract(V a, V b) { return _mm256_sub_ps(a, b); }
  static V multiply(V a, V b) { return _mm256_mul_ps(a, b); }
  static V divide(V a, V b) { return _mm256_div_ps(a, b); }
  static V negate(V a) { return _mm256_xor_ps(a, _mm256_set1_ps(-0.0F)); }
  static V number(float x) { return _mm256_set1_ps(x); }
  // A NaN stays.
  static V between(V x, float low, float high) { return _mm256_max_ps(number(low), _mm256_min_ps(number(high), x)); }
  // y * 2^n as exp_f32 does; n is in the low bits of `shifted`.
  using Some = __m256;
  static Some differ(V a, V b) { return _mm256_cmp_ps(a, b, _CMP_NEQ_UQ); }
  static V only(Some some, V v) { return _mm256_and_ps(some, v); }
  static V scaled(V y, V shifted, V /*n*/) {
    const __m256i k = _mm256_sub_epi32(_mm256_castps_si256(shifted), _mm256_set1_epi32(0x4b400000));
    const __m256i half = _mm256_srai_epi32(k, 1), bias = _mm256_set1_epi32(127);
    const __m256i s1 = _mm256_slli_epi32(_mm256_add_epi32(half, bias), 23);
    const __m256i s2 = _mm256_slli_epi32(_mm256_add_epi32(_mm256_sub_epi32(k, half), bias), 23);
    return multiply(multiply(y, _mm256_castsi256_ps(s1)), _mm256_castsi256_ps(s2));
  }
  template <int Rows>
  static bool inverse(V (&)[Rows]) {
    return false;
  }
  // a > b or a is NaN ? a : b.
  static V larger(V a, V b) { return _mm256_blendv_ps(_mm256_max_ps(a, b), a, _mm256_cmp_ps(a, a, _CMP_UNORD_Q)); }
  static V smaller(V a, V b) { return _mm256_blendv_ps(_mm256_min_ps(a, b), a, _mm256_cmp_ps(a, a, _CMP_UNORD_Q)); }
  static V half(V a) { return _mm256_cvtph_ps(_mm256_cvtps_ph(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC)); }
  // As float_to_brain.
  static V shortened(V a) {
    const __m256i bits = _mm256_castps_si256(a);
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i up = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
    const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    const __m256 all =
        _mm256_blendv_ps(_mm256_castsi256_ps(up), _mm256_castsi256_ps(quiet), _mm256_cmp_ps(a, a, _CMP_UNORD_Q));
    return _mm256_and_ps(all, _mm256_castsi256_ps(_mm256_set1_epi32(INT32_MIN >> 15)));
  }
  static V above_zero(V v) { return add(_mm256_max_ps(zero(), v), zero()); }
  static V below(V v, V most) { return _mm256_min_ps(most, v); }
  using Part = __m256i;
  static Part part(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  static V load(const float* p, Part part) { return _mm256_maskload_ps(p, part); }
  static Some some(uint32_t bits) {
    const __m256i each = _mm256_setr_epi32(1, 2, 4, 8, 16, 32, 64, 128);
    return _mm256_castsi256_ps(
        _mm256_cmpeq_epi32(_mm256_and_si256(_mm256_set1_epi32(static_cast<int32_t>(bits)), each), each));
  }
  static V fma_where(Some some, const float* p, V b, V c) {
    return _mm256_blendv_ps(c, fma(_mm256_maskload_ps(p, _mm256_castps_si256(some)), b, c), some);
  }
  static void store(float* p, V v, Part part) { _mm256_maskstore_ps(p, part, v); }

  static void transpose(V (&v)[kCount]) {
    V pairs[kCount];
#pragma GCC unroll 4
    for (int i = 0; i < kCount; i += 4) {
      const V a = _mm256_unpacklo_ps(v[i], v[i + 1]), b = _mm256_unpackhi_ps(v[i], v[i + 1]);
      const V c = _mm256_unpacklo_ps(v[i + 2], v[i + 3]), d = _mm256_unpackhi_ps(v[i + 2], v[i + 3]);
      pairs[i] = _mm256_shuffle_ps(a, c, 0x44);
      pairs[i + 1] = _mm256_shuffle_ps(a, c, 0xee);
      pairs[i + 2] = _mm256_shuffle_ps(b, d, 0x44);
      pairs[i + 3] = _mm256_shuffle_ps(b, d, 0xee);
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      v[i] = _mm256_permute2f128_ps(pairs[i], pairs[i + 4], 0x20);
      v[i + 4] = _mm256_permute2f128_ps(pairs[i], pairs[i + 4], 0x31);
    }
  }
};
#else
struct Lanes {
  struct V {
    float at[4];
  };
  static constexpr int kCount = 4;
  static constexpr int kMostRows[kTileVectors + 1] = {0, 8, 4, 0, 0};
  static constexpr int kProductVectors = 2;
  static V zero() { return {}; }
  static V load(const float* p) { return {{p[0], p[1], p[2], p[3]}}; }
  static V splat(const float* p) { return {{*p, *p, *p, *p}}; }
  static void store(float* p, V v) { store(p, v, kCount); }
  static V fma(V a, V b, V c) {
    V r{};
    for (int i = 0; i < kCount; ++i) r.at[i] = fma_f32(a.at[i], b.at[i], c.at[i]);
    return r;
  }
  template <class F>
  static V each(V a, V b, const F& f) {
    for (int i = 0; i < kCount; ++i) a.at[i] = f(a.at[i], b.at[i]);
    return a;
  }
  static V add(V a, V b) {
    return each(a, b, [](float x, float y) { return x + y; });
  }
  static V subtract(V a, V b) {
    return each(a, b, [](float x, float y) { return x - y; });
  }
  static V multiply(V a, V b) {
    return each(a, b, [](float x, float y) { return x * y; });
  }
  static V divide(V a, V b) {
    return each(a, b, [](float x, float y) { return x / y; });
  }
  static V negate(V a) {
    return each(a, a, [](float x, float) { return -x; });
  }
  template <int Rows>
  static bool inverse(V (&)[Rows]) {
    return false;
  }
  static V exp(V a) {
    return each(a, a, [](float x, float) { return exp_f32(x); });
  }
  static V larger(V a, V b) {
    return each(a, b, [](float x, float y) { return x > y || x != x ? x : y; });
  }
  static V smaller(V a, V b) {
    return each(a, b, [](float x, float y) { return x < y || x != x ? x : y; });
  }
  static V half(V a) {
    return each(a, a, [](float x, float) { return half_to_float(float_to_half(x)); });
  }
  static V shortened(V a) {
    return each(a, a, [](float x, float) { return brain_to_float(float_to_brain(x)); });
  }
  static V above_zero(V v) { return larger(v, zero()); }
  static V below(V v, V most) { return smaller(v, most); }
  using Part = int;
  static Part part(int n) { return n; }
  static V load(const float* p, Part part) {
    V v{};
    for (int i = 0; i < part; ++i) v.at[i] = p[i];
    return v;
  }
  using Some = uint32_t;
  static Some some(uint32_t bits) { return bits; }
  static V fma_where(Some some, const float* p, V b, V c) {
    for (int i = 0; i < kCount; ++i) {
      if ((some >> static_cast<uint32_t>(i) & 1U) != 0) c.at[i] = fma_f32(p[i], b.at[i], c.at[i]);
    }
    return c;
  }
  static void store(float* p, V v, Part part) {
    for (int i = 0; i < part; ++i) p[i] = v.at[i];
  }
  static void transpose(V (&v)[kCount]) {
    for (int i = 0; i < kCount; ++i) {
      for (int j = 0; j < i; ++j) {
        const float x = v[i].at[j];
        v[i].at[j] = v[j].at[i];
        v[j].at[i] = x;
      }
    }
  }
};
#endif

}  // namespace tenon::cpu::TENON_CPU_LEVEL
