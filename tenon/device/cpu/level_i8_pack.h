// How the loops of level_i8.h pack their sides. No templates of the standard library here (level.h).
#pragma once

#include "tenon/device/cpu/level_i8.h"

#if defined(__SSE2__)
#include <immintrin.h>
#endif

namespace tenon::cpu::TENON_CPU_LEVEL {
namespace {

// to[unit][line] of `whole` lines: as many elements of one line as a unit of four bytes holds. Bytes, with `flip` in
// their highest bit.
[[maybe_unused]] void pack_bytes(const I8Side& side, int64_t lines, int64_t whole, int64_t k, int64_t units,
                                 uint8_t flip, uint8_t* to) {
  const uint32_t flips = flip * 0x01010101U;
  for (int64_t u = 0; u < units; ++u, to += 4 * whole) {
    const uint8_t* from = side.data + 4 * u * side.k;
    const int64_t left = k - 4 * u;  // elements of this unit and those behind it
    int64_t line = 0;
    if (left >= 4 && side.k == 1) {
      for (; line < lines; ++line) {
        uint32_t unit;
        __builtin_memcpy(&unit, from + line * side.line, sizeof unit);
        unit ^= flips;
        __builtin_memcpy(to + 4 * line, &unit, sizeof unit);
      }
#if defined(__SSE2__)
    } else if (left >= 4 && side.line == 1) {
      const __m128i turned = _mm_set1_epi8(static_cast<char>(flip));
      for (; line + 16 <= lines; line += 16) {
        const auto row = [&](int d) {
          return _mm_xor_si128(_mm_loadu_si128(reinterpret_cast<const __m128i*>(from + d * side.k + line)), turned);
        };
        const __m128i low = _mm_unpacklo_epi8(row(0), row(1)), high = _mm_unpackhi_epi8(row(0), row(1));
        const __m128i next_low = _mm_unpacklo_epi8(row(2), row(3)), next_high = _mm_unpackhi_epi8(row(2), row(3));
        auto* out = reinterpret_cast<__m128i*>(to + 4 * line);
        _mm_storeu_si128(out, _mm_unpacklo_epi16(low, next_low));
        _mm_storeu_si128(out + 1, _mm_unpackhi_epi16(low, next_low));
        _mm_storeu_si128(out + 2, _mm_unpacklo_epi16(high, next_high));
        _mm_storeu_si128(out + 3, _mm_unpackhi_epi16(high, next_high));
      }
#endif
    }
    for (; line < whole; ++line) {
      for (int64_t d = 0; d < 4; ++d) {
        const bool is_there = line < lines && d < left;
        to[4 * line + d] =
            is_there ? static_cast<uint8_t>(from[line * side.line + d * side.k] ^ flip) : static_cast<uint8_t>(0);
      }
    }
  }
}

// The same with units of two elements, widened to i16.
[[maybe_unused]] void pack_wide(const I8Side& side, int64_t lines, int64_t whole, int64_t k, int64_t units,
                                std::byte* to) {
  auto* wide = reinterpret_cast<int16_t*>(to);
  for (int64_t u = 0; u < units; ++u, wide += 2 * whole) {
    const uint8_t* even = side.data + 2 * u * side.k;
    const bool has_odd = 2 * u + 1 < k;
    const uint8_t* odd = has_odd ? even + side.k : even;
    const auto weave = [&](auto widened) {
      for (int64_t line = 0; line < lines; ++line) {
        wide[2 * line] = widened(even[line * side.line]);
        wide[2 * line + 1] = has_odd ? widened(odd[line * side.line]) : static_cast<int16_t>(0);
      }
    };
    if (side.is_signed)
      weave([](uint8_t v) { return static_cast<int16_t>(static_cast<int8_t>(v)); });
    else
      weave([](uint8_t v) { return static_cast<int16_t>(v); });
    for (int64_t i = 2 * lines; i < 2 * whole; ++i) wide[i] = 0;
  }
}

}  // namespace
}  // namespace tenon::cpu::TENON_CPU_LEVEL
