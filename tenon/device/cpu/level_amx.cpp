// The loops of amx.h. The compiler flags of this file are set in tenon/CMakeLists.txt.
#include "tenon/device/cpu/amx.h"

#if defined(__AMX_BF16__)
#include <immintrin.h>

#define TENON_CPU_LEVEL amx
#include "tenon/device/cpu/level_tile.h"

namespace tenon::cpu::amx {
namespace {

constexpr int kRow = 64;  // bytes of a row of a tile register
constexpr int kHalf = 16;

__mmask32 first(int64_t n) { return n >= 32 ? ~0U : (1U << n) - 1; }

// Two rows of up to 16 elements each, woven: the pairs that the instruction multiplies.
__m512i woven(const uint16_t* even, const uint16_t* odd, __mmask16 part) {
  // Masked forms: the plain ones start from a variable that g++ 12 calls uninitialised.
  const __m512i low = _mm512_maskz_cvtepu16_epi32(0xffff, _mm256_maskz_loadu_epi16(part, even));
  if (odd == nullptr) return low;
  return _mm512_or_si512(
      low,
      _mm512_maskz_slli_epi32(0xffff, _mm512_maskz_cvtepu16_epi32(0xffff, _mm256_maskz_loadu_epi16(part, odd)), 16));
}

// Pairs of one step, as 16 vectors of up to 16 columns, where columns lie next to each other.
void load_pairs(const uint16_t* b, int64_t b_k, int64_t k, int64_t columns, __m512i (&pairs)[kHalf]) {
  const auto part = static_cast<__mmask16>(first(columns < 0 ? 0 : columns));
  for (int64_t p = 0; p < kHalf; ++p) {
    const uint16_t* even = b + 2 * p * b_k;
    pairs[p] =
        2 * p < k && columns > 0 ? woven(even, 2 * p + 1 < k ? even + b_k : nullptr, part) : _mm512_setzero_si512();
  }
}
// … where a column's k lie next to each other: squares of pairs, turned.
void load_turned(const uint16_t* b, int64_t b_column, int64_t k, int64_t columns, __m512i (&pairs)[kHalf]) {
  __m512 v[kHalf];
  const __mmask32 part = first(k);
  for (int64_t c = 0; c < kHalf; ++c)
    v[c] = c < columns ? _mm512_castsi512_ps(_mm512_maskz_loadu_epi16(part, b + c * b_column)) : _mm512_setzero_ps();
  Lanes::transpose(v);
  for (int64_t p = 0; p < kHalf; ++p) pairs[p] = _mm512_castps_si512(v[p]);
}

}  // namespace

namespace {
struct alignas(64) Configuration {
  uint8_t palette = 1, start = 0, reserved[14] = {};
  uint16_t bytes[16] = {};
  uint8_t rows[16] = {};
};
// All eight registers at their full size. In static memory, because compilers do not know how much of it
// _tile_loadconfig reads, and leave out writes to a local one.
constexpr Configuration kFullTiles = [] {
  Configuration c;
  for (int i = 0; i < 8; ++i) {
    c.bytes[i] = kRow;
    c.rows[i] = kHalf;
  }
  return c;
}();
}  // namespace

Tiles::Tiles() { _tile_loadconfig(&kFullTiles); }
Tiles::~Tiles() { _tile_release(); }

void spread(const uint16_t* from, int64_t n, int64_t whole, uint16_t* to) {
  for (int64_t step = 0; step < whole; step += kDepth, to += kStepSize) {
    const int64_t left = n - step;
    _mm512_store_si512(to, left <= 0 ? _mm512_setzero_si512() : _mm512_maskz_loadu_epi16(first(left), from + step));
  }
}

void pack_left(const uint16_t* a, int64_t a_row, int64_t a_k, int64_t rows, int64_t k, uint16_t* to) {
  if (a_k == 1) {
    for (int64_t r = 0; r < kSide; ++r) spread(a + r * a_row, r < rows ? k : 0, steps(k) * kDepth, to + r * kDepth);
    return;
  }
  if (a_row != 1) {
    for (int64_t step = 0; step < k; step += kDepth, to += kStepSize) {
      for (int64_t r = 0; r < kSide; ++r) {
        for (int64_t d = 0; d < kDepth; ++d)
          to[r * kDepth + d] = r < rows && step + d < k ? a[r * a_row + (step + d) * a_k] : uint16_t{0};
      }
    }
    return;
  }
  for (int64_t step = 0; step < k; step += kDepth, to += kStepSize) {
    for (int64_t r = 0; r < kSide; r += kHalf) {
      __m512i pairs[kHalf];
      load_pairs(a + r + step * a_k, a_k, k - step, rows - r, pairs);
      __m512 v[kHalf];
      for (int p = 0; p < kHalf; ++p) v[p] = _mm512_castsi512_ps(pairs[p]);
      Lanes::transpose(v);
      for (int64_t i = 0; i < kHalf; ++i) _mm512_store_ps(reinterpret_cast<float*>(to + (r + i) * kDepth), v[i]);
    }
  }
}

void pack_right(const uint16_t* b, int64_t b_k, int64_t b_column, int64_t k, int64_t columns, uint16_t* to) {
  for (int64_t step = 0; step < k; step += kDepth) {
    for (int64_t c = 0; c < kSide; c += kHalf, to += kStepSize / 2) {
      const uint16_t* from = b + step * b_k + c * b_column;
      __m512i pairs[kHalf];
      if (b_column == 1) {
        load_pairs(from, b_k, k - step, columns - c, pairs);
      } else if (b_k == 1) {
        load_turned(from, b_column, k - step, columns - c, pairs);
      } else {
        for (int64_t d = 0; d < kDepth; ++d) {
          for (int64_t i = 0; i < kHalf; ++i)
            to[d / 2 * kDepth + 2 * i + d % 2] =
                step + d < k && c + i < columns ? from[d * b_k + i * b_column] : uint16_t{0};
        }
        continue;
      }
      for (int64_t p = 0; p < kHalf; ++p) _mm512_store_si512(to + p * kDepth, pairs[p]);
    }
  }
}

void block(const uint16_t* left, const uint16_t* right, int64_t steps, float* sums) {
  constexpr int64_t kStride = kSide * sizeof(float);
  _tile_zero(0);
  _tile_zero(1);
  _tile_zero(2);
  _tile_zero(3);
  // Meanwhile the memory is asked for the next step.
  const auto soon = [](const uint16_t* at) {
    for (int row = 0; row < kHalf; ++row) _mm_prefetch(reinterpret_cast<const char*>(at) + row * kRow, _MM_HINT_T0);
  };
  for (; steps > 0; --steps, left += kStepSize, right += kStepSize) {
    const uint16_t *next_left = left + kStepSize, *next_right = right + kStepSize;
    _tile_loadd(4, left, kRow);
    _tile_loadd(6, right, kRow);
    soon(next_left);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, right + kStepSize / 2, kRow);
    soon(next_left + kStepSize / 2);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(5, left + kStepSize / 2, kRow);
    soon(next_right);
    _tile_dpbf16ps(2, 5, 6);
    soon(next_right + kStepSize / 2);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, sums, kStride);
  _tile_stored(1, sums + kHalf, kStride);
  _tile_stored(2, sums + kHalf * kSide, kStride);
  _tile_stored(3, sums + kHalf * kSide + kHalf, kStride);
}

void store_rounded(const float* sums, const float* bias, int64_t rows, int64_t columns, uint16_t* y, int64_t y_row) {
  const __mmask32 part = first(columns);
  __m512 low = _mm512_set1_ps(-0.0F), high = low;  // x + -0 is x
  if (bias != nullptr) {
    low = _mm512_mask_loadu_ps(low, static_cast<__mmask16>(part), bias);
    high = _mm512_mask_loadu_ps(high, static_cast<__mmask16>(part >> kHalf), bias + kHalf);
  }
  for (int64_t r = 0; r < rows; ++r, sums += kSide, y += y_row) {
    const __m512bh v = _mm512_cvtne2ps_pbh(_mm512_add_ps(_mm512_load_ps(sums + kHalf), high),
                                           _mm512_add_ps(_mm512_load_ps(sums), low));
    _mm512_mask_storeu_epi16(y, part, reinterpret_cast<const __m512i&>(v));
  }
}

}  // namespace tenon::cpu::amx
#else
// A compiler or a CPU family without it: available() says so, and nobody calls these.
namespace tenon::cpu::amx {
Tiles::Tiles() = default;
Tiles::~Tiles() = default;
void spread(const uint16_t*, int64_t, int64_t, uint16_t*) {}
void pack_left(const uint16_t*, int64_t, int64_t, int64_t, int64_t, uint16_t*) {}
void pack_right(const uint16_t*, int64_t, int64_t, int64_t, int64_t, uint16_t*) {}
void block(const uint16_t*, const uint16_t*, int64_t, float*) {}
void store_rounded(const float*, const float*, int64_t, int64_t, uint16_t*, int64_t) {}
}  // namespace tenon::cpu::amx
#endif
