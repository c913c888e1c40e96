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

void spread(const uint16_t* const* rows, int64_t n, int64_t whole, uint16_t* to) {
  for (int64_t step = 0; step < whole; step += kDepth) {
    const __mmask32 part = n <= step ? 0 : first(n - step);
    for (int64_t r = 0; r < kSide; ++r, to += kDepth)
      _mm512_store_si512(to,
                         rows[r] == nullptr ? _mm512_setzero_si512() : _mm512_maskz_loadu_epi16(part, rows[r] + step));
  }
}

void pack_left(const uint16_t* a, int64_t a_row, int64_t a_k, int64_t rows, int64_t k, uint16_t* to) {
  if (a_k == 1) {
    const uint16_t* from[kSide];
    for (int64_t r = 0; r < kSide; ++r) from[r] = r < rows ? a + r * a_row : nullptr;
    spread(from, k, steps(k) * kDepth, to);
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

void block(const Left& left, const uint16_t* right, int64_t steps, float* sums, int64_t row, bool more) {
  const auto left_stride = static_cast<size_t>(left.row) * sizeof(uint16_t);
  const auto stride = static_cast<size_t>(row) * sizeof(float);
  if (more) {
    _tile_loadd(0, sums, stride);
    _tile_loadd(1, sums + kHalf, stride);
    _tile_loadd(2, sums + kHalf * row, stride);
    _tile_loadd(3, sums + kHalf * row + kHalf, stride);
  } else {
    _tile_zero(0);
    _tile_zero(1);
    _tile_zero(2);
    _tile_zero(3);
  }
  // Meanwhile the memory is asked for the next step.
  const auto soon = [](const uint16_t* at) {
    for (int line = 0; line < kHalf; ++line) _mm_prefetch(reinterpret_cast<const char*>(at) + line * kRow, _MM_HINT_T0);
  };
  for (int64_t s = 0; s < steps; ++s, right += kStepSize) {
    const uint16_t* at = left.at + (left.steps != nullptr ? left.steps[s] : s * left.step);
    _tile_loadd(4, at, left_stride);
    _tile_loadd(6, right, kRow);
    _tile_dpbf16ps(0, 4, 6);
    _tile_loadd(7, right + kStepSize / 2, kRow);
    _tile_dpbf16ps(1, 4, 7);
    _tile_loadd(5, at + left.half, left_stride);
    soon(right + kStepSize);
    _tile_dpbf16ps(2, 5, 6);
    soon(right + kStepSize + kStepSize / 2);
    _tile_dpbf16ps(3, 5, 7);
  }
  _tile_stored(0, sums, stride);
  _tile_stored(1, sums + kHalf, stride);
  _tile_stored(2, sums + kHalf * row, stride);
  _tile_stored(3, sums + kHalf * row + kHalf, stride);
}

namespace {

using V = Lanes::V;

// 32 columns of a row, of which `part` are there.
struct Pair {
  V low, high;
};
[[gnu::always_inline]] inline Pair widened(__m512i bits) {
  const auto wide = [](__m256i half) {
    return _mm512_castsi512_ps(_mm512_maskz_slli_epi32(0xffff, _mm512_maskz_cvtepu16_epi32(0xffff, half), 16));
  };
  return {wide(reinterpret_cast<const __m256i&>(bits)), wide(_mm512_maskz_extracti64x4_epi64(0xf, bits, 1))};
}
[[gnu::always_inline]] inline Pair load_pair(const Step& step, int64_t at, __mmask32 part) {
  if (step.narrow) {
    const auto* from = static_cast<const uint16_t*>(step.data);
    if (step.one) return widened(_mm512_set1_epi16(static_cast<int16_t>(*from)));
    return widened(_mm512_maskz_loadu_epi16(part, from + at));
  }
  const auto* from = static_cast<const float*>(step.data);
  if (step.one) return {_mm512_set1_ps(*from), _mm512_set1_ps(*from)};
  return {_mm512_maskz_loadu_ps(static_cast<__mmask16>(part), from + at),
          _mm512_maskz_loadu_ps(static_cast<__mmask16>(part >> kHalf), from + at + kHalf)};
}
template <V (*F)(V, V), int Rows>
void each_pair(const Step& step, int64_t row, __mmask32 part, Pair (&v)[Rows]) {
  if (step.row == 0) {
    const Pair w = load_pair(step, 0, part);
#pragma GCC unroll 4
    for (Pair& x : v) x = {F(x.low, w.low), F(x.high, w.high)};
    return;
  }
#pragma GCC unroll 4
  for (int m = 0; m < Rows; ++m) {
    const Pair w = load_pair(step, (row + m) * step.row, part);
    v[m] = {F(v[m].low, w.low), F(v[m].high, w.high)};
  }
}
template <V (*F)(V), int Rows>
void each_pair(Pair (&v)[Rows]) {
#pragma GCC unroll 4
  for (Pair& x : v) x = {F(x.low), F(x.high)};
}
template <int Rows>
void do_step(const Step& step, int64_t row, __mmask32 part, Pair (&v)[Rows]) {
  switch (step.op) {
    case TileOp::Add:
      return each_pair<Lanes::add>(step, row, part, v);
    case TileOp::Subtract:
      return each_pair<Lanes::subtract>(step, row, part, v);
    case TileOp::SubtractFrom:
      return each_pair<subtract_from>(step, row, part, v);
    case TileOp::Multiply:
      return each_pair<Lanes::multiply>(step, row, part, v);
    case TileOp::Divide:
      return each_pair<Lanes::divide>(step, row, part, v);
    case TileOp::DivideInto:
      return each_pair<divide_into>(step, row, part, v);
    case TileOp::Larger:
      return each_pair<Lanes::larger>(step, row, part, v);
    case TileOp::Smaller:
      return each_pair<Lanes::smaller>(step, row, part, v);
    case TileOp::Below:
      return each_pair<Lanes::below>(step, row, part, v);
    case TileOp::AboveZero:
      return each_pair<Lanes::above_zero>(v);
    case TileOp::Negate:
      return each_pair<Lanes::negate>(v);
    case TileOp::Short:
      return each_pair<Lanes::shortened>(v);
    default:
      return;  // `finishes` says no
  }
}

struct Upper {
  int16_t at[kSide];
};
constexpr Upper kUpper = [] {
  Upper upper{};
  for (int i = 0; i < kSide; ++i) upper.at[i] = static_cast<int16_t>(2 * i + 1);
  return upper;
}();

struct Place {
  void* y;
  int64_t y_row, row;
  __mmask32 part;
};
[[gnu::always_inline]] inline __m512i rounded(const Pair& v) {
  const __m512bh bits = _mm512_cvtne2ps_pbh(v.high, v.low);
  return reinterpret_cast<const __m512i&>(bits);
}
template <int Rows>
void finish_rows(const float* sums, const Finish& f, const Place& to) {
  const auto low = static_cast<__mmask16>(to.part), high = static_cast<__mmask16>(to.part >> kHalf);
  Pair bias{_mm512_set1_ps(-0.0F), _mm512_set1_ps(-0.0F)};  // x + -0 is x
  if (f.bias != nullptr) bias = {_mm512_maskz_loadu_ps(low, f.bias), _mm512_maskz_loadu_ps(high, f.bias + kHalf)};
  Pair v[Rows];
#pragma GCC unroll 4
  for (int m = 0; m < Rows; ++m) {
    const float* from = sums + (to.row + m) * kSide;
    v[m] = {Lanes::add(_mm512_load_ps(from), bias.low), Lanes::add(_mm512_load_ps(from + kHalf), bias.high)};
  }
  auto* short_y = static_cast<uint16_t*>(to.y) + to.row * to.y_row;
  if (f.step_count == 0 && f.narrow) {
#pragma GCC unroll 4
    for (int m = 0; m < Rows; ++m) _mm512_mask_storeu_epi16(short_y + m * to.y_row, to.part, rounded(v[m]));
    return;
  }
  if (f.rounds_first || f.step_count == 0) {
#pragma GCC unroll 4
    for (int m = 0; m < Rows; ++m) v[m] = widened(rounded(v[m]));
  }
  for (int i = 0; i < f.step_count; ++i) do_step(f.steps[i], to.row, to.part, v);
  if (!f.narrow) {
#pragma GCC unroll 4
    for (int m = 0; m < Rows; ++m) {
      float* y = static_cast<float*>(to.y) + (to.row + m) * to.y_row;
      _mm512_mask_storeu_ps(y, low, v[m].low);
      _mm512_mask_storeu_ps(y + kHalf, high, v[m].high);
    }
    return;
  }
  const __m512i upper = _mm512_loadu_si512(kUpper.at);  // halves of two vectors
#pragma GCC unroll 4
  for (int m = 0; m < Rows; ++m)
    _mm512_mask_storeu_epi16(
        short_y + m * to.y_row, to.part,
        _mm512_permutex2var_epi16(_mm512_castps_si512(v[m].low), upper, _mm512_castps_si512(v[m].high)));
}

}  // namespace

void finish(const float* sums, const Finish& f, int64_t rows, int64_t columns, void* y, int64_t y_row) {
  constexpr int kTogether = 4;
  Place to{y, y_row, 0, first(columns)};
  for (; to.row + kTogether <= rows; to.row += kTogether) finish_rows<kTogether>(sums, f, to);
  for (; to.row < rows; ++to.row) finish_rows<1>(sums, f, to);
}

}  // namespace tenon::cpu::amx
#else
// A compiler or a CPU family without it: available() says so, and nobody calls these.
namespace tenon::cpu::amx {
Tiles::Tiles() = default;
Tiles::~Tiles() = default;
void spread(const uint16_t* const*, int64_t, int64_t, uint16_t*) {}
void pack_left(const uint16_t*, int64_t, int64_t, int64_t, int64_t, uint16_t*) {}
void pack_right(const uint16_t*, int64_t, int64_t, int64_t, int64_t, uint16_t*) {}
void block(const Left&, const uint16_t*, int64_t, float*, int64_t, bool) {}
void finish(const float*, const Finish&, int64_t, int64_t, void*, int64_t) {}
}  // namespace tenon::cpu::amx
#endif
