// I8Loops::rescale. No templates of the standard library here (level.h).
#pragma once

#include "tenon/device/cpu/level_i8.h"

#if defined(__AVX512BW__)
#include <immintrin.h>
#endif

namespace tenon::cpu::TENON_CPU_LEVEL {
namespace {

#if defined(__AVX512BW__)

// With a mask of all lanes: g++ 12 warns of its own other forms.
constexpr __mmask8 kAll = 0xff;

__m512i rescale_sums(const I8Rescale& p, int64_t r, int64_t c, __mmask16 there) {
  __m512i v = _mm512_maskz_loadu_epi32(there, p.sums + r * p.from + c);
  if (p.less != nullptr) v = _mm512_sub_epi32(v, _mm512_set1_epi32(static_cast<int32_t>(p.less[r])));
  for (int i = 0; i < p.sum_steps; ++i) {
    const I8Rescale::Step& step = p.of_sums[i];
    const auto* data = static_cast<const int32_t*>(step.data) + r * step.row;
    const __m512i other = step.along ? _mm512_maskz_loadu_epi32(there, data + c) : _mm512_set1_epi32(*data);
    v = step.inverse ? _mm512_sub_epi32(v, other) : _mm512_add_epi32(v, other);
  }
  return v;
}

// v / by, rounded as a division is: a quotient that is off by a few units, put right by what remains, twice, by the
// rounded inverse (Markstein, IBM Journal of Research and Development 34, 1990). Nothing here is subnormal.
__m512d quotient(__m512d v, __m512d by, double one) {
  const __m512d inverse = _mm512_set1_pd(1.0 / one);
  __m512d q = _mm512_mul_pd(v, inverse);
  q = _mm512_fmadd_pd(_mm512_fnmadd_pd(q, by, v), inverse, q);
  return _mm512_fmadd_pd(_mm512_fnmadd_pd(q, by, v), inverse, q);
}

__m256i rescale_reals(const I8Rescale& p, int64_t r, int64_t c, __mmask8 there, __m256i sums) {
  __m512d v = _mm512_maskz_cvtepi32_pd(kAll, sums);
  for (int i = 0; i < p.real_steps; ++i) {
    const I8Rescale::Step& step = p.of_reals[i];
    const auto* data = static_cast<const double*>(step.data) + r * step.row;
    const __m512d other = step.along ? _mm512_maskz_loadu_pd(there, data + c) : _mm512_set1_pd(*data);
    if (!step.inverse)
      v = _mm512_mul_pd(v, other);
    else
      v = step.along ? _mm512_div_pd(v, other) : quotient(v, other, *data);
  }
  v = _mm512_maskz_max_pd(kAll, v, _mm512_set1_pd(p.low));
  v = _mm512_maskz_min_pd(kAll, v, _mm512_set1_pd(p.high));
  return _mm512_maskz_cvt_roundpd_epi32(kAll, v, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
}

// In f32, sixteen at a time: what is not close to a half is rounded to the same number as in f64. Five roundings of
// numbers up to 512 are less than a 2^-12 off.
constexpr float kSure = 0.5F - 0x1p-12F;
constexpr int64_t kRowsTogether = 32;

// The product of the rows' factors, and of the columns'.
void row_factors(const I8Rescale& p, int64_t first, int64_t rows, float* to) {
  for (int64_t r = 0; r < rows; ++r) {
    double factor = 1;
    for (int i = 0; i < p.real_steps; ++i) {
      const I8Rescale::Step& step = p.of_reals[i];
      if (step.along) continue;
      const double one = static_cast<const double*>(step.data)[(first + r) * step.row];
      factor = step.inverse ? factor / one : factor * one;
    }
    to[r] = static_cast<float>(factor);
  }
}
__m512 column_factors(const I8Rescale& p, int64_t c, __mmask16 there) {
  const __m512d ones = _mm512_set1_pd(1);
  __m512d low = ones, high = ones;
  for (int i = 0; i < p.real_steps; ++i) {
    const I8Rescale::Step& step = p.of_reals[i];
    if (!step.along) continue;
    const auto* data = static_cast<const double*>(step.data) + c;
    const __m512d a = _mm512_mask_loadu_pd(ones, static_cast<__mmask8>(there), data);
    const __m512d b = _mm512_mask_loadu_pd(ones, static_cast<__mmask8>(there >> 8U), data + 8);
    low = step.inverse ? _mm512_div_pd(low, a) : _mm512_mul_pd(low, a);
    high = step.inverse ? _mm512_div_pd(high, b) : _mm512_mul_pd(high, b);
  }
  const __m512 first = _mm512_maskz_broadcast_f32x8(0xffff, _mm512_maskz_cvtpd_ps(kAll, low));
  return _mm512_mask_broadcast_f32x8(first, 0xff00, _mm512_maskz_cvtpd_ps(kAll, high));
}

// Sixteen columns of some rows.
void rescale_strip(const I8Rescale& p, int64_t first, int64_t rows, int64_t c, const float* by_row) {
  const int64_t count = p.columns - c < 16 ? p.columns - c : 16;
  const auto there = static_cast<__mmask16>((1U << count) - 1);
  const __m512 by_column = p.single ? column_factors(p, c, there) : _mm512_setzero_ps();
  const __m512 lowest = _mm512_set1_ps(static_cast<float>(p.low)), highest = _mm512_set1_ps(static_cast<float>(p.high));
  const __m512i zero = _mm512_set1_epi32(p.zero);
  for (int64_t r = 0; r < rows; ++r) {
    const __m512i sums = rescale_sums(p, first + r, c, there);
    __m512i v = _mm512_setzero_si512();
    bool sure = false;
    if (p.single) {
      const __m512 factor = _mm512_mul_ps(by_column, _mm512_set1_ps(by_row[r]));
      __m512 x = _mm512_mul_ps(_mm512_maskz_cvtepi32_ps(0xffff, sums), factor);
      x = _mm512_maskz_min_ps(0xffff, _mm512_maskz_max_ps(0xffff, x, lowest), highest);
      v = _mm512_maskz_cvt_roundps_epi32(0xffff, x, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
      const __m512 off = _mm512_abs_ps(_mm512_sub_ps(x, _mm512_maskz_cvtepi32_ps(0xffff, v)));
      sure = _mm512_cmp_ps_mask(off, _mm512_set1_ps(kSure), _CMP_GE_OQ) == 0;
    }
    if (!sure) {
      const __m256i low =
          rescale_reals(p, first + r, c, static_cast<__mmask8>(there), _mm512_maskz_extracti64x4_epi64(kAll, sums, 0));
      const __m256i high = rescale_reals(p, first + r, c + 8, static_cast<__mmask8>(there >> 8U),
                                         _mm512_maskz_extracti64x4_epi64(kAll, sums, 1));
      const __m512i half = _mm512_maskz_inserti64x4(kAll, _mm512_setzero_si512(), low, 0);
      v = _mm512_maskz_inserti64x4(kAll, half, high, 1);
    }
    v = _mm512_add_epi32(v, zero);
    uint8_t* to = p.to + (first + r) * p.row + c;
    if (count == 16)
      _mm_storeu_si128(reinterpret_cast<__m128i*>(to), _mm512_maskz_cvtepi32_epi8(0xffff, v));
    else
      _mm512_mask_cvtepi32_storeu_epi8(to, there, v);
  }
}

void rescale(const I8Rescale& p) {
  float by_row[kRowsTogether];
  for (int64_t first = 0; first < p.rows; first += kRowsTogether) {
    const int64_t rows = p.rows - first < kRowsTogether ? p.rows - first : kRowsTogether;
    if (p.single) row_factors(p, first, rows, by_row);
    for (int64_t c = 0; c < p.columns; c += 16) rescale_strip(p, first, rows, c, by_row);
  }
}

#else

// Some columns at a time, a step after the other: loops that compilers make vectors of.
void rescale(const I8Rescale& p) {
  constexpr int64_t kTogether = 64;
  alignas(64) int32_t sums[kTogether];
  alignas(64) double reals[kTogether];
  const auto each = [](auto* v, int64_t n, const auto* other, bool along, auto f) {
    if (along) {
      for (int64_t i = 0; i < n; ++i) v[i] = f(v[i], other[i]);
    } else {
      const auto one = *other;
      for (int64_t i = 0; i < n; ++i) v[i] = f(v[i], one);
    }
  };
  const auto wrapped = [](uint32_t v) { return static_cast<int32_t>(v); };
  for (int64_t r = 0; r < p.rows; ++r) {
    for (int64_t c = 0; c < p.columns; c += kTogether) {
      const int64_t n = p.columns - c < kTogether ? p.columns - c : kTogether;
      const int32_t* from = p.sums + r * p.from + c;
      const uint32_t less = p.less == nullptr ? 0 : p.less[r];
      for (int64_t i = 0; i < n; ++i) sums[i] = wrapped(static_cast<uint32_t>(from[i]) - less);
      for (int i = 0; i < p.sum_steps; ++i) {
        const I8Rescale::Step& step = p.of_sums[i];
        const auto* data = static_cast<const int32_t*>(step.data) + r * step.row + (step.along ? c : 0);
        if (step.inverse)
          each(sums, n, data, step.along,
               [&](int32_t a, int32_t b) { return wrapped(static_cast<uint32_t>(a) - static_cast<uint32_t>(b)); });
        else
          each(sums, n, data, step.along,
               [&](int32_t a, int32_t b) { return wrapped(static_cast<uint32_t>(a) + static_cast<uint32_t>(b)); });
      }
      for (int64_t i = 0; i < n; ++i) reals[i] = sums[i];
      for (int i = 0; i < p.real_steps; ++i) {
        const I8Rescale::Step& step = p.of_reals[i];
        const auto* data = static_cast<const double*>(step.data) + r * step.row + (step.along ? c : 0);
        if (step.inverse)
          each(reals, n, data, step.along, [](double a, double b) { return a / b; });
        else
          each(reals, n, data, step.along, [](double a, double b) { return a * b; });
      }
      for (int64_t i = 0; i < n; ++i) {
        const double v = reals[i] > p.low ? reals[i] : p.low;
        sums[i] = static_cast<int32_t>(__builtin_rint(v < p.high ? v : p.high)) + p.zero;
      }
      uint8_t* to = p.to + r * p.row + c;
      for (int64_t i = 0; i < n; ++i) to[i] = static_cast<uint8_t>(sums[i]);
    }
  }
}

#endif

}  // namespace
}  // namespace tenon::cpu::TENON_CPU_LEVEL
