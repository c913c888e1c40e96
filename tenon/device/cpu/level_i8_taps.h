// I8Loops::taps. No templates of the standard library here (level.h).
#pragma once

#include "tenon/device/cpu/level_i8.h"

#if defined(__AVX512BW__)
#include <immintrin.h>
#endif

namespace tenon::cpu::TENON_CPU_LEVEL {
namespace {

#if defined(__AVX512BW__)

// 32 columns at a time, two taps in one instruction: their elements side by side in i16.
struct TapOrder {
  int32_t at[2][16];
};
constexpr TapOrder kTapOrder = [] {
  // Of 32 columns the even fours are in one vector, the odd ones in the other; those have numbers from 16 on.
  TapOrder o{};
  for (int i = 0; i < 32; ++i) o.at[i / 16][i % 16] = i / 4 % 2 * 16 + i / 8 * 4 + i % 4;
  return o;
}();

template <bool Signed>
void taps_of(const I8Taps& p) {
  const auto wide = [](const uint8_t* x) {
    const __m256i bytes = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(x));
    return Signed ? _mm512_maskz_cvtepi8_epi16(~0U, bytes) : _mm512_maskz_cvtepu8_epi16(~0U, bytes);
  };
  const __m512i first = _mm512_loadu_si512(kTapOrder.at[0]), second = _mm512_loadu_si512(kTapOrder.at[1]);
  const __m512i less = _mm512_set1_epi32(static_cast<int32_t>(p.less));
  for (int64_t i = 0; i < p.n; i += 32) {
    __m512i even = _mm512_setzero_si512(), odd = even;
    for (int64_t t = 0; t < p.count; t += 2) {
      const bool both = t + 1 < p.count;
      const __m512i a = wide(p.x[t] + i), b = both ? wide(p.x[t + 1] + i) : _mm512_setzero_si512();
      const uint32_t weights = static_cast<uint16_t>(p.weight[t]) |
                               (both ? static_cast<uint32_t>(static_cast<uint16_t>(p.weight[t + 1])) << 16U : 0U);
      const __m512i w = _mm512_set1_epi32(static_cast<int32_t>(weights));
      even = _mm512_add_epi32(even, _mm512_madd_epi16(_mm512_unpacklo_epi16(a, b), w));
      odd = _mm512_add_epi32(odd, _mm512_madd_epi16(_mm512_unpackhi_epi16(a, b), w));
    }
    const auto put = [&](int64_t at, __m512i order) {
      const __m512i v = _mm512_sub_epi32(_mm512_permutex2var_epi32(even, order, odd), less);
      const int64_t left = p.n - at;
      _mm512_mask_storeu_epi32(p.sums + at, static_cast<__mmask16>(left >= 16 ? 0xffffU : (1U << left) - 1), v);
    };
    put(i, first);
    if (i + 16 < p.n) put(i + 16, second);
  }
}

#else

template <bool Signed>
void taps_of(const I8Taps& p) {
  constexpr int64_t kTogether = 64;
  for (int64_t i = 0; i < p.n; i += kTogether) {
    const int64_t n = p.n - i < kTogether ? p.n - i : kTogether;
    uint32_t sums[kTogether];
    for (int64_t c = 0; c < n; ++c) sums[c] = 0U - p.less;
    for (int64_t t = 0; t < p.count; ++t) {
      const uint8_t* x = p.x[t] + i;
      const int16_t weight = p.weight[t];
      for (int64_t c = 0; c < n; ++c) {
        const int16_t value = Signed ? static_cast<int16_t>(static_cast<int8_t>(x[c])) : static_cast<int16_t>(x[c]);
        sums[c] += static_cast<uint32_t>(static_cast<int32_t>(value) * weight);
      }
    }
    for (int64_t c = 0; c < n; ++c) p.sums[i + c] = static_cast<int32_t>(sums[c]);
  }
}

#endif

void taps(const I8Taps& p) { p.x_signed ? taps_of<true>(p) : taps_of<false>(p); }

}  // namespace
}  // namespace tenon::cpu::TENON_CPU_LEVEL
