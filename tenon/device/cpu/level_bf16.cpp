// The loops of bf16_blocks.h but for AMX (level_amx.cpp). The compiler flags of this file are set in
// tenon/CMakeLists.txt.
#include "tenon/device/cpu/bf16_blocks.h"

#if defined(__AVX512BF16__)
#include <immintrin.h>

#include <type_traits>

#define TENON_CPU_LEVEL bf16_blocks
#include "tenon/device/cpu/level_tile.h"

namespace tenon::cpu::bf16_blocks {
namespace {

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

namespace {

using V = Lanes::V;

// 32 columns of a row, of which `part` are there.
struct Pair {
  V low, high;
};
// Each element goes to the upper half of its number, above a half of zeros.
struct Widening {
  int16_t low[kSide], high[kSide];
};
constexpr Widening kWidening = [] {
  Widening to{};
  for (int i = 0; i < kSide; ++i) {
    to.low[i] = static_cast<int16_t>(i / 2);
    to.high[i] = static_cast<int16_t>(kHalf + i / 2);
  }
  return to;
}();
[[gnu::always_inline]] inline Pair widened(__m512i bits) {
  constexpr __mmask32 kUpperHalves = 0xaaaaaaaa;
  return {_mm512_castsi512_ps(_mm512_maskz_permutexvar_epi16(kUpperHalves, _mm512_loadu_si512(kWidening.low), bits)),
          _mm512_castsi512_ps(_mm512_maskz_permutexvar_epi16(kUpperHalves, _mm512_loadu_si512(kWidening.high), bits))};
}
[[gnu::always_inline]] inline __m512i rounded(const Pair& v) {
  const __m512bh bits = _mm512_cvtne2ps_pbh(v.high, v.low);
  return reinterpret_cast<const __m512i&>(bits);
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
[[gnu::always_inline]] inline void each_pair(const Step& step, int64_t row, __mmask32 part, Pair (&v)[Rows]) {
  if (step.row == 0) {
    const Pair w = load_pair(step, 0, part);
#pragma GCC unroll 8
    for (Pair& x : v) x = {F(x.low, w.low), F(x.high, w.high)};
    return;
  }
#pragma GCC unroll 8
  for (int m = 0; m < Rows; ++m) {
    const Pair w = load_pair(step, (row + m) * step.row, part);
    v[m] = {F(v[m].low, w.low), F(v[m].high, w.high)};
  }
}
template <V (*F)(V), int Rows>
[[gnu::always_inline]] inline void each_pair(Pair (&v)[Rows]) {
#pragma GCC unroll 8
  for (Pair& x : v) x = {F(x.low), F(x.high)};
}
// Rounds to bf16 as Lanes::shortened, if that is what the instruction does: it takes subnormal numbers for zero. Nor
// are NaNs rounded, whose sign says nothing to finish_packed().
template <int Rows>
[[gnu::always_inline]] inline bool round_all(const Pair (&v)[Rows], __mmask32 part, __m512i (&bits)[Rows]) {
  constexpr int kSubnormalOrNan = 0xa1;
  __mmask16 low = 0, high = 0;
#pragma GCC unroll 8
  for (int m = 0; m < Rows; ++m) {
    bits[m] = rounded(v[m]);
    low |= _mm512_fpclass_ps_mask(v[m].low, kSubnormalOrNan);
    high |= _mm512_fpclass_ps_mask(v[m].high, kSubnormalOrNan);
  }
  return ((low & part) | (high & part >> kHalf)) == 0;
}
template <int Rows>
[[gnu::always_inline]] inline void shorten(__mmask32 part, Pair (&v)[Rows]) {
  __m512i bits[Rows];
  if (!round_all(v, part, bits)) return each_pair<Lanes::shortened>(v);
#pragma GCC unroll 8
  for (int m = 0; m < Rows; ++m) v[m] = widened(bits[m]);
}
template <int Rows>
[[gnu::always_inline]] inline void do_step(const Step& step, int64_t row, __mmask32 part, Pair (&v)[Rows]) {
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
      return shorten(part, v);
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
// Steps that end with rounding, or with rounding and a bound of zero, end on what is stored. The two may stand in
// either order, because rounding keeps that of numbers.
enum class Ending : uint8_t { None, Short, ShortAboveZero };
[[gnu::always_inline]] inline Ending ending(const Finish& f) {
  if (!f.narrow || f.step_count == 0) return Ending::None;
  const TileOp last = f.steps[f.step_count - 1].op;
  const TileOp before = f.step_count > 1 ? f.steps[f.step_count - 2].op : TileOp::Keep;
  if ((last == TileOp::AboveZero && before == TileOp::Short) || (last == TileOp::Short && before == TileOp::AboveZero))
    return Ending::ShortAboveZero;
  return last == TileOp::Short ? Ending::Short : Ending::None;
}
// Whether that could be done.
template <int Rows>
[[gnu::always_inline]] inline bool finish_packed(const Pair (&v)[Rows], Ending end, const Place& to) {
  __m512i bits[Rows];
  if (!round_all(v, to.part, bits)) return false;
  auto* y = static_cast<uint16_t*>(to.y) + to.row * to.y_row;
  // Of numbers, those whose sign is set are below zero as integers are.
  const __m512i least = _mm512_set1_epi16(end == Ending::ShortAboveZero ? 0 : INT16_MIN);
#pragma GCC unroll 8
  for (int m = 0; m < Rows; ++m) _mm512_mask_storeu_epi16(y + m * to.y_row, to.part, _mm512_max_epi16(bits[m], least));
  return true;
}
// Rows of sums from row to.row on.
template <int Rows>
[[gnu::always_inline]] inline void finish_pairs(Pair (&v)[Rows], const Finish& f, const Place& to) {
  const auto low = static_cast<__mmask16>(to.part), high = static_cast<__mmask16>(to.part >> kHalf);
  if (f.bias != nullptr) {
    const Pair bias{_mm512_maskz_loadu_ps(low, f.bias), _mm512_maskz_loadu_ps(high, f.bias + kHalf)};
#pragma GCC unroll 8
    for (Pair& x : v) x = {Lanes::add(x.low, bias.low), Lanes::add(x.high, bias.high)};
  }
  auto* short_y = static_cast<uint16_t*>(to.y) + to.row * to.y_row;
  if (f.step_count == 0 && f.narrow) {
#pragma GCC unroll 8
    for (int m = 0; m < Rows; ++m) _mm512_mask_storeu_epi16(short_y + m * to.y_row, to.part, rounded(v[m]));
    return;
  }
  if (f.rounds_first || f.step_count == 0) {
#pragma GCC unroll 8
    for (Pair& x : v) x = widened(rounded(x));
  }
  const Ending end = ending(f);
  int i = 0;
  for (const int before = f.step_count - static_cast<int>(end); i < before; ++i)
    do_step(f.steps[i], to.row, to.part, v);
  if (end != Ending::None && finish_packed(v, end, to)) return;
  for (; i < f.step_count; ++i) do_step(f.steps[i], to.row, to.part, v);
  if (!f.narrow) {
#pragma GCC unroll 8
    for (int m = 0; m < Rows; ++m) {
      float* y = static_cast<float*>(to.y) + (to.row + m) * to.y_row;
      _mm512_mask_storeu_ps(y, low, v[m].low);
      _mm512_mask_storeu_ps(y + kHalf, high, v[m].high);
    }
    return;
  }
  const __m512i upper = _mm512_loadu_si512(kUpper.at);  // halves of two vectors
#pragma GCC unroll 8
  for (int m = 0; m < Rows; ++m)
    _mm512_mask_storeu_epi16(
        short_y + m * to.y_row, to.part,
        _mm512_permutex2var_epi16(_mm512_castps_si512(v[m].low), upper, _mm512_castps_si512(v[m].high)));
}
template <int Rows>
void finish_rows(const float* sums, const Finish& f, const Place& to) {
  Pair v[Rows];
#pragma GCC unroll 4
  for (int m = 0; m < Rows; ++m) {
    const float* from = sums + m * kSide;
    v[m] = {_mm512_load_ps(from), _mm512_load_ps(from + kHalf)};
  }
  finish_pairs(v, f, to);
}

// So many rows from to.row on, whose sums begin there.
[[gnu::noinline]] void finish_some(const float* sums, const Finish& f, int64_t rows, Place to) {
  constexpr int kTogether = 4;
  for (; rows >= kTogether; rows -= kTogether, to.row += kTogether, sums += kTogether * kSide)
    finish_rows<kTogether>(sums, f, to);
  for (; rows > 0; --rows, ++to.row, sums += kSide) finish_rows<1>(sums, f, to);
}

}  // namespace

void finish(const float* sums, const Finish& f, int64_t rows, int64_t columns, void* y, int64_t y_row) {
  finish_some(sums, f, rows, {y, y_row, 0, first(columns)});
}

namespace {

// Where sums go, from the first row on: to memory, or finished while they are in registers.
struct Sums {
  float* at;
  int64_t row;
  bool more;
  template <int>
  [[gnu::always_inline]] void ask(int64_t, int64_t) const {}
  template <int Rows, int Vectors>
  [[gnu::always_inline]] void begin(int64_t first, V (&sum)[Rows][Vectors]) const {
#pragma GCC unroll 8
    for (int m = 0; m < Rows; ++m) {
#pragma GCC unroll 2
      for (int n = 0; n < Vectors; ++n)
        sum[m][n] = more ? _mm512_loadu_ps(at + (first + m) * row + n * kHalf) : _mm512_setzero_ps();
    }
  }
  template <int Rows, int Vectors>
  [[gnu::always_inline]] void end(int64_t first, const V (&sum)[Rows][Vectors]) const {
#pragma GCC unroll 8
    for (int m = 0; m < Rows; ++m) {
#pragma GCC unroll 2
      for (int n = 0; n < Vectors; ++n) _mm512_storeu_ps(at + (first + m) * row + n * kHalf, sum[m][n]);
    }
  }
};
struct Finished {
  const Finish& how;
  void* y;
  int64_t y_row, size;  // in elements; bytes of one
  __mmask32 part;
  template <int Rows>
  [[gnu::always_inline]] void begin(int64_t, V (&sum)[Rows][2]) const {
#pragma GCC unroll 8
    for (int m = 0; m < Rows; ++m) sum[m][0] = sum[m][1] = _mm512_setzero_ps();
  }
  // Lines that results go to, of half the rows at each of the first two steps: a store waits for them, and what follows
  // for the store.
  template <int Rows>
  [[gnu::always_inline]] void ask(int64_t first, int64_t step) const {
    constexpr int kAtOnce = (Rows + 1) / 2;
    if (step > 1) return;
    const char* at = static_cast<const char*>(y) + (first + step * kAtOnce) * y_row * size;
#pragma GCC unroll 8
    for (int m = 0; m < kAtOnce; ++m, at += y_row * size) __builtin_prefetch(at, 1);
  }
  template <int Rows>
  [[gnu::always_inline]] void end(int64_t first, const V (&sum)[Rows][2]) const {
    if constexpr (Rows < kGroup - 1) {  // rare, and long code for each number of rows
      alignas(64) float sums[Rows * kSide];
      Sums{sums, kSide, false}.end(0, sum);
      finish_some(sums, how, Rows, {y, y_row, first, part});
      return;
    }
    Pair v[Rows];
#pragma GCC unroll 8
    for (int m = 0; m < Rows; ++m) v[m] = {sum[m][0], sum[m][1]};
    finish_pairs(v, how, {y, y_row, first, part});
  }
};

// Memory is asked for the columns that follow, a part of each step for each group of rows: it is too slow for the
// first group to get them itself.
constexpr int64_t kLine = 64, kLines = kStepSize * 2 / kLine;
struct Lines {
  int64_t begin, end;
};
[[gnu::always_inline]] inline void ask_for_next(const Right& right, int64_t step, const Lines& lines) {
  if (right.next == nullptr) return;
  const auto* at = reinterpret_cast<const char*>(right.next + step * kStepSize);
#pragma GCC unroll 8
  for (int64_t i = lines.begin; i < lines.end; ++i) _mm_prefetch(at + i * kLine, _MM_HINT_T1);
}

// A group of rows, which steps they need, and which lines of a step they ask for.
struct Group {
  int64_t first = 0;
  StepRange steps;
  Lines lines{};
};

// What rows [From, End) of a group add in one step, in which their elements lie from left[m] on.
template <int From, int End, int Rows, int Vectors>
[[gnu::always_inline]] inline void add_step(const uint16_t* const (&left)[Rows], const uint16_t* right, int64_t pairs,
                                            V (&sum)[Rows][Vectors]) {
  for (int64_t p = 0; p < pairs; ++p) {
    __m512i columns[Vectors];
#pragma GCC unroll 2
    for (int n = 0; n < Vectors; ++n) columns[n] = _mm512_loadu_si512(right + n * (kStepSize / 2) + p * kDepth);
#pragma GCC unroll 8
    for (int m = From; m < End; ++m) {
      int32_t pair;
      __builtin_memcpy(&pair, left[m] + 2 * p, sizeof(pair));
      const __m512i both = _mm512_set1_epi32(pair);
#pragma GCC unroll 2
      for (int n = 0; n < Vectors; ++n)
        sum[m][n] = _mm512_dpbf16_ps(sum[m][n], reinterpret_cast<const __m512bh&>(both),
                                     reinterpret_cast<const __m512bh&>(columns[n]));
    }
  }
}

// The products of pairs of the rows that lie there and of columns: `Vectors` halves of a block. `row_at` tells where a
// row lies from `left` on, `step_of` where a step's elements lie in a row. Only where `Omits` do steps leave out rows.
template <bool Omits, int Rows, int Vectors, class RowAt, class StepOf, class To>
[[gnu::always_inline]] inline void pair_rows(const Group& group, const uint16_t* left, const RowAt& row_at,
                                             const StepOf& step_of, const Right& right, int64_t pairs, const To& sums) {
  int64_t row[Rows];
  V sum[Rows][Vectors];
#pragma GCC unroll 8
  for (int m = 0; m < Rows; ++m) row[m] = row_at(group.first + m);
  sums.begin(group.first, sum);
  const uint16_t* step = right.at + group.steps.begin * kStepSize;
  for (int64_t s = group.steps.begin; s < group.steps.end; ++s, step += kStepSize) {
    const int64_t step_at = step_of(s);
    if constexpr (Vectors == 2) ask_for_next(right, s, group.lines);
    sums.template ask<Rows>(group.first, s - group.steps.begin);
    const uint16_t* at[Rows];
#pragma GCC unroll 8
    for (int m = 0; m < Rows; ++m) at[m] = left + (row[m] + step_at);
    if constexpr (Omits) {
      const Omit omit = group.steps.omits == nullptr ? Omit::None : group.steps.omits[s];
      if (omit == Omit::First) {
        add_step<1, Rows>(at, step, pairs, sum);
        continue;
      }
      if (omit == Omit::Last) {
        add_step<0, Rows - 1>(at, step, pairs, sum);
        continue;
      }
    }
    add_step<0, Rows>(at, step, pairs, sum);
  }
  sums.end(group.first, sum);
}

// As many rows as stay in registers with their columns at a time; `ranges` may be null.
template <bool Omits, int Vectors, class RowAt, class StepOf, class To>
void all_pair_rows(int64_t rows, const StepRange* ranges, const uint16_t* left, const RowAt& row_at,
                   const StepOf& step_of, const Right& right, int64_t pairs, const To& sums) {
  for (int64_t g = 0; g < groups(rows); ++g) {
    const Group group{group_begin(g, rows),
                      ranges == nullptr ? StepRange{0, right.steps} : ranges[g],
                      {kLines * g / groups(rows), kLines * (g + 1) / groups(rows)}};
    const auto go = [&]<int Rows>(std::integral_constant<int, Rows>) {
      pair_rows<Omits, Rows, Vectors>(group, left, row_at, step_of, right, pairs, sums);
    };
    switch (group_begin(g + 1, rows) - group.first) {
      case 8:
        go(std::integral_constant<int, 8>{});
        break;
      case 7:
        go(std::integral_constant<int, 7>{});
        break;
      case 6:
        go(std::integral_constant<int, 6>{});
        break;
      case 5:
        go(std::integral_constant<int, 5>{});
        break;
      case 4:
        go(std::integral_constant<int, 4>{});
        break;
      case 3:
        go(std::integral_constant<int, 3>{});
        break;
      case 2:
        go(std::integral_constant<int, 2>{});
        break;
      default:
        go(std::integral_constant<int, 1>{});
    }
  }
}

template <class To>
void pair_rows_of(const Left& left, const Right& columns, const To& to) {
  const auto at_step = [&](int64_t s) { return left.steps[s]; };
  const auto apart = [&](int64_t s) { return s * left.step; };
  const auto even = [&](int64_t m) { return m * left.row; };
  if (left.places != nullptr)
    all_pair_rows<true, 2>(
        left.rows, left.ranges, left.at, [&](int64_t m) { return left.places[m]; }, at_step, columns, left.pairs, to);
  else if (left.steps != nullptr)
    all_pair_rows<false, 2>(left.rows, nullptr, left.at, even, at_step, columns, left.pairs, to);
  else
    all_pair_rows<false, 2>(left.rows, nullptr, left.at, even, apart, columns, left.pairs, to);
}
void pair_block(const Left& left, const Right& right, float* sums, int64_t row, bool more) {
  pair_rows_of(left, right, Sums{sums, row, more});
}
void pair_finished(const Left& left, const Right& right, const Finish& f, int64_t columns, void* y, int64_t y_row) {
  pair_rows_of(left, right, Finished{f, y, y_row, f.narrow ? 2 : 4, first(columns)});
}

void pair_scores(const uint16_t* rows, int64_t row, int64_t count, const uint16_t* queries, int64_t steps, float* s) {
  const auto row_at = [&](int64_t m) { return m * row; };
  all_pair_rows<false, 1>(
      count, nullptr, rows, row_at, [](int64_t i) { return i * kDepth; }, {queries, steps}, kHalf,
      Sums{s, kHalf, false});
}

void pair_sums(const uint16_t* tiles, int64_t steps, const uint16_t* packed, int64_t blocks, float* out, bool more) {
  const auto row_at = [](int64_t m) { return m * kDepth; };
  const auto step_of = [](int64_t i) { return i * kHalf * kDepth; };
  for (int64_t b = 0; b < blocks; ++b, packed += steps * kStepSize)
    all_pair_rows<false, 2>(kHalf, nullptr, tiles, row_at, step_of, {packed, steps}, kHalf,
                            Sums{out + b * kSide, blocks * kSide, more});
}

}  // namespace

const Products& pair_products() {
  static constexpr Products kProducts{true, nullptr, nullptr, pair_block, pair_finished, pair_scores, pair_sums};
  return kProducts;
}

}  // namespace tenon::cpu::bf16_blocks
#else
// A compiler or a CPU family without it: available() says so, and nobody calls these.
namespace tenon::cpu::bf16_blocks {
void spread(const uint16_t* const*, int64_t, int64_t, uint16_t*) {}
void pack_left(const uint16_t*, int64_t, int64_t, int64_t, int64_t, uint16_t*) {}
void pack_right(const uint16_t*, int64_t, int64_t, int64_t, int64_t, uint16_t*) {}
const Products& pair_products() {
  static constexpr Products kProducts{};
  return kProducts;
}
void finish(const float*, const Finish&, int64_t, int64_t, void*, int64_t) {}
}  // namespace tenon::cpu::bf16_blocks
#endif
