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
    } else if (side.line == 1) {
      const __m128i turned = _mm_set1_epi8(static_cast<char>(flip));
      for (; line + 16 <= lines; line += 16) {
        const auto row = [&](int d) {
          if (d >= left) return _mm_setzero_si128();
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
      const auto four = [&](int64_t at) {
        const auto row = [&](int d) {
          if (d >= left) return _mm_setzero_si128();
          int32_t bytes;
          __builtin_memcpy(&bytes, from + d * side.k + at, sizeof bytes);
          return _mm_xor_si128(_mm_cvtsi32_si128(bytes), turned);
        };
        const __m128i low = _mm_unpacklo_epi8(row(0), row(1)), high = _mm_unpacklo_epi8(row(2), row(3));
        _mm_storeu_si128(reinterpret_cast<__m128i*>(to + 4 * at), _mm_unpacklo_epi16(low, high));
      };
      for (; line + 4 <= lines; line += 4) four(line);
      if (line < lines && lines >= 4) {  // some of them once more
        four(lines - 4);
        line = lines;
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
    const auto weave_by = [&](auto widened, int64_t step) {
      for (int64_t line = 0; line < lines; ++line) {
        wide[2 * line] = widened(even[line * step]);
        wide[2 * line + 1] = has_odd ? widened(odd[line * step]) : static_cast<int16_t>(0);
      }
    };
    const auto weave = [&](auto widened) { side.line == 1 ? weave_by(widened, 1) : weave_by(widened, side.line); };
    if (side.is_signed)
      weave([](uint8_t v) { return static_cast<int16_t>(static_cast<int8_t>(v)); });
    else
      weave([](uint8_t v) { return static_cast<int16_t>(v); });
    for (int64_t i = 2 * lines; i < 2 * whole; ++i) wide[i] = 0;
  }
}

// level_i8.h. What is written beyond a line is written again with the next one.
[[maybe_unused]] void gather(const I8Gather& g) {
  constexpr int64_t kTogether = kI8Ahead / 4;
  std::byte* line = g.to;
  for (int64_t u = 0; u < g.units; ++u, line += g.line_bytes) {
    std::byte* to = line;
    const uint32_t* unit = g.image + g.offsets[u];
    for (int64_t r = 0; r < g.run_count; to += 4 * g.runs[r].count, ++r) {
      const uint32_t* from = unit + g.runs[r].at;
      const int64_t count = g.runs[r].count;
      if (g.step == 1) {
        for (int64_t i = 0; i < count; i += kTogether) __builtin_memcpy(to + 4 * i, from + i, kI8Ahead);
      } else {
        for (int64_t i = 0; i < count; ++i) __builtin_memcpy(to + 4 * i, from + i * g.step, 4);
      }
    }
  }
}
[[maybe_unused]] void move(const int32_t* sums, int64_t from, int64_t rows, int64_t columns, const uint32_t* less,
                           int32_t* to, int64_t row) {
  for (int64_t r = 0; r < rows; ++r, sums += from, to += row) {
    const uint32_t here = less[r];
    for (int64_t c = 0; c < columns; ++c) to[c] = static_cast<int32_t>(static_cast<uint32_t>(sums[c]) - here);
  }
}
template <class T>
void add_products(const uint8_t* x, int64_t step, int64_t n, int32_t zero, int32_t weight, int32_t* sums) {
  const auto add = [&](int64_t i, uint8_t byte) {
    const auto value = static_cast<int16_t>(static_cast<T>(byte) - zero);
    const int32_t term = value * static_cast<int16_t>(weight);
    sums[i] = static_cast<int32_t>(static_cast<uint32_t>(sums[i]) + static_cast<uint32_t>(term));
  };
  if (step == 1) {
    for (int64_t i = 0; i < n; ++i) add(i, x[i]);
  } else {
    for (int64_t i = 0; i < n; ++i) add(i, x[i * step]);
  }
}

}  // namespace
}  // namespace tenon::cpu::TENON_CPU_LEVEL
