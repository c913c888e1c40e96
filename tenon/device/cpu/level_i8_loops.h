// The loops of level_i8.h on vector registers: rows times two vectors of sums, a unit of four bytes of each side at a
// time.
#pragma once

#include "tenon/device/cpu/level_i8_pack.h"
#include "tenon/device/cpu/level_i8_rescale.h"
#include "tenon/device/cpu/level_i8_taps.h"

namespace tenon::cpu::TENON_CPU_LEVEL {
namespace {

// acc += the products of a unit's elements; `all` puts a unit into all lanes.
#if defined(__AVX512BW__)
using Sums = __m512i;
constexpr int64_t kRows = 12;
Sums load(const void* p) { return _mm512_loadu_si512(p); }
Sums all(int32_t unit) { return _mm512_set1_epi32(unit); }
#if defined(__AVX512VNNI__)
Sums dot(Sums acc, Sums a, Sums b) { return _mm512_dpbusd_epi32(acc, a, b); }
#else
Sums dot(Sums acc, Sums a, Sums b) { return _mm512_add_epi32(acc, _mm512_madd_epi16(a, b)); }
#endif
void store(int32_t* p, Sums v) { _mm512_storeu_si512(p, v); }
#elif defined(__AVX2__)
using Sums = __m256i;
constexpr int64_t kRows = 6;
Sums load(const void* p) { return _mm256_loadu_si256(static_cast<const __m256i*>(p)); }
Sums all(int32_t unit) { return _mm256_set1_epi32(unit); }
Sums dot(Sums acc, Sums a, Sums b) { return _mm256_add_epi32(acc, _mm256_madd_epi16(a, b)); }
void store(int32_t* p, Sums v) { _mm256_storeu_si256(reinterpret_cast<__m256i*>(p), v); }
#elif defined(__SSE2__)
using Sums = __m128i;
constexpr int64_t kRows = 6;
Sums load(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
Sums all(int32_t unit) { return _mm_set1_epi32(unit); }
Sums dot(Sums acc, Sums a, Sums b) { return _mm_add_epi32(acc, _mm_madd_epi16(a, b)); }
void store(int32_t* p, Sums v) { _mm_storeu_si128(reinterpret_cast<__m128i*>(p), v); }
#else
struct Sums {
  uint32_t at[4];  // wraps
};
constexpr int64_t kRows = 4;
Sums load(const void* p) {
  Sums v;
  __builtin_memcpy(&v, p, sizeof v);
  return v;
}
Sums all(int32_t unit) {
  const auto bits = static_cast<uint32_t>(unit);
  return {{bits, bits, bits, bits}};
}
Sums dot(Sums acc, Sums a, Sums b) {
  for (int i = 0; i < 4; ++i) {
    int16_t x[2], y[2];
    __builtin_memcpy(x, &a.at[i], sizeof x);
    __builtin_memcpy(y, &b.at[i], sizeof y);
    acc.at[i] += static_cast<uint32_t>(x[0] * y[0]) + static_cast<uint32_t>(x[1] * y[1]);
  }
  return acc;
}
void store(int32_t* p, Sums v) { __builtin_memcpy(p, &v, sizeof v); }
#endif

#if defined(__AVX512VNNI__)
constexpr bool kBytes = true;
#else
constexpr bool kBytes = false;
#endif
constexpr int64_t kUnit = kBytes ? 4 : 2;  // elements
constexpr int64_t kLanes = sizeof(Sums) / 4, kColumns = 2 * kLanes;

// Turned, VPDPBUSD takes the left elements as signed and the right ones as unsigned.
template <bool Turned>
void block(const std::byte* left, const std::byte* right, int64_t steps, int32_t* sums, int64_t row) {
  Sums low[kRows], high[kRows];  // in registers, if compilers write out every loop over them
#pragma GCC unroll 12
  for (int64_t r = 0; r < kRows; ++r) low[r] = high[r] = all(0);
  for (int64_t s = 0; s < steps; ++s, left += 4 * kRows, right += 4 * kColumns) {
    const Sums b_low = load(right), b_high = load(right + sizeof(Sums));
#pragma GCC unroll 12
    for (int64_t r = 0; r < kRows; ++r) {
      int32_t unit;
      __builtin_memcpy(&unit, left + 4 * r, sizeof unit);
      const Sums a = all(unit);
      low[r] = Turned ? dot(low[r], b_low, a) : dot(low[r], a, b_low);
      high[r] = Turned ? dot(high[r], b_high, a) : dot(high[r], a, b_high);
    }
  }
#pragma GCC unroll 12
  for (int64_t r = 0; r < kRows; ++r) {
    store(sums + r * row, low[r]);
    store(sums + r * row + kLanes, high[r]);
  }
}

void pack(const I8Side& side, int64_t lines, int64_t whole, int64_t k, bool flip, std::byte* to) {
  const int64_t units = (k + kUnit - 1) / kUnit;
  if constexpr (kBytes)
    pack_bytes(side, lines, whole, k, units, flip ? 0x80 : 0, reinterpret_cast<uint8_t*>(to));
  else
    pack_wide(side, lines, whole, k, units, to);
}
void pack_left(const I8Side& side, int64_t lines, int64_t k, std::byte* to) {
  pack(side, lines, kRows, k, side.is_signed, to);
}
void pack_right(const I8Side& side, int64_t lines, int64_t k, std::byte* to) {
  pack(side, lines, kColumns, k, !side.is_signed, to);
}
void pack_unit(const I8Side& side, int64_t lines, int64_t k, std::byte* to) {
  pack(side, lines, lines, k < kUnit ? k : kUnit, !side.is_signed, to);
}

}  // namespace

constexpr I8Loops make_i8_loops(const char* name) {
  return {.name = name,
          .rows = kRows,
          .columns = kColumns,
          .depth = kUnit,
          .element = kBytes ? 1 : 2,
          .piece = kColumns,
          .shifted = kBytes,
          .tiles = false,
          .pack_left = pack_left,
          .pack_right = pack_right,
          .pack_unit = pack_unit,
          .block = {{block<false>, block<false>}, {block<false>, block<false>}},
          .turned = kBytes ? block<kBytes> : nullptr,
          .move = move,
          .gather = gather,
          .rescale = rescale,
          .taps = taps,
          .add_products = {add_products<uint8_t>, add_products<int8_t>}};
}

}  // namespace tenon::cpu::TENON_CPU_LEVEL
