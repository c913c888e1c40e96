// Tiles of convolutions and products in f32. Included by level_*.cpp only.
//
// A tile is `rows` places times `vectors` vectors of columns (filters), kept in registers over the whole sum. Each
// element is one chain of fused multiply-adds from zero, in the order of the weights, so its bits depend neither on the
// tile nor on the level (level_math.h has what a CPU without such an instruction does).
#pragma once

#include "tenon/device/cpu/level.h"
#include "tenon/device/cpu/level_elementwise.h"
#include "tenon/device/cpu/level_lanes.h"
#include "tenon/device/cpu/level_math.h"

namespace tenon::cpu::TENON_CPU_LEVEL {

// What follows the sums, in registers. (Always inlined, because sums passed by an address would lie in memory.)
struct Columns {
  int64_t place, column;  // of the first sum, from where the steps' data begin
  Lanes::Part part;       // of the last vector

  template <bool Last>
  [[nodiscard]] [[gnu::always_inline]] Lanes::V load(const TileStep& step, int64_t at) const {
    if (step.one) return Lanes::splat(step.data);
    if constexpr (Last)
      return Lanes::load(step.data + column + at, part);
    else
      return Lanes::load(step.data + column + at);
  }
};
// F takes a sum and one vector of each of `Operands` steps.
template <int Operands, int Rows, int N, int Vectors, class F>
[[gnu::always_inline]] inline void step_sums(const TileStep* step, const Columns& at, const F& f,
                                             Lanes::V (&sum)[Rows][Vectors]) {
  if constexpr (N < Vectors) {
    constexpr bool kLast = N + 1 == Vectors;
    Lanes::V w[2];
#pragma GCC unroll 2
    for (int i = 0; i < Operands; ++i) w[i] = at.load<kLast>(step[i], N * Lanes::kCount);
#pragma GCC unroll 16
    for (int m = 0; m < Rows; ++m) sum[m][N] = f(sum[m][N], w);
    step_sums<Operands, Rows, N + 1>(step, at, f, sum);
  }
}
template <int Rows, int Vectors>
[[gnu::always_inline]] inline void add_places(const TileStep& step, const Columns& columns,
                                              Lanes::V (&sum)[Rows][Vectors]) {
#pragma GCC unroll 16
  for (int m = 0; m < Rows; ++m) {
    const float* data = step.data + (columns.place + m) * step.place + columns.column;
#pragma GCC unroll 4
    for (int n = 0; n < Vectors; ++n) {
      const float* at = data + n * Lanes::kCount;
      sum[m][n] = Lanes::add(sum[m][n], n + 1 < Vectors ? Lanes::load(at) : Lanes::load(at, columns.part));
    }
  }
}
template <int Rows, int Vectors>
[[gnu::always_inline]] inline void finish_sums(const TileStep* steps, int count, const Columns& at,
                                               Lanes::V (&sum)[Rows][Vectors]) {
  using V = Lanes::V;
  for (const TileStep* step = steps; step < steps + count; ++step) {
    switch (step->op) {
      case TileOp::Add:
        if (step->place != 0)
          add_places(*step, at, sum);
        else
          step_sums<1, Rows, 0>(step, at, [](V a, const V* w) { return Lanes::add(a, w[0]); }, sum);
        break;
      case TileOp::Subtract:
        step_sums<1, Rows, 0>(step, at, [](V a, const V* w) { return Lanes::subtract(a, w[0]); }, sum);
        break;
      case TileOp::Multiply:
        step_sums<1, Rows, 0>(step, at, [](V a, const V* w) { return Lanes::multiply(a, w[0]); }, sum);
        break;
      case TileOp::MultiplyThenAdd:
        step_sums<2, Rows, 0>(
            step, at, [](V a, const V* w) { return Lanes::add(Lanes::multiply(a, w[0]), w[1]); }, sum);
        ++step;
        break;
      case TileOp::AboveZero:
        step_sums<0, Rows, 0>(step, at, [](V a, const V*) { return Lanes::above_zero(a); }, sum);
        break;
      case TileOp::Below:
        step_sums<1, Rows, 0>(step, at, [](V a, const V* w) { return Lanes::below(a, w[0]); }, sum);
        break;
      case TileOp::AboveZeroThenBelow:
        step_sums<1, Rows, 0>(
            step + 1, at, [](V a, const V* w) { return Lanes::below(Lanes::above_zero(a), w[0]); }, sum);
        ++step;
        break;
      default:
        break;  // does not fit tiles
    }
  }
}

template <int Rows, int Vectors>
void run_tile(const Tile& t) {
  using V = Lanes::V;
  constexpr int64_t kBytes = sizeof(float);
  const Lanes::Part part = Lanes::part(t.last);
  V sum[Rows][Vectors];
  if (t.from == nullptr) {
#pragma GCC unroll 16
    for (int m = 0; m < Rows; ++m) {
#pragma GCC unroll 4
      for (int n = 0; n < Vectors; ++n) sum[m][n] = Lanes::zero();
    }
  } else {
#pragma GCC unroll 16
    for (int m = 0; m < Rows; ++m) {
      const float* from = t.from + m * t.y_step;
#pragma GCC unroll 4
      for (int n = 0; n < Vectors; ++n)
        sum[m][n] =
            n + 1 < Vectors ? Lanes::load(from + n * Lanes::kCount) : Lanes::load(from + n * Lanes::kCount, part);
    }
  }
  if (t.soon != nullptr) {
    const float* soon = t.soon;
#pragma GCC unroll 1
    for (int m = 0; m < Rows; ++m, soon += t.y_step) {
#pragma GCC unroll 4
      for (int n = 0; n < Vectors; ++n) __builtin_prefetch(soon + n * Lanes::kCount, 1);
    }
  }
  const float* weight = t.weight;
  const int64_t weight_step = t.weight_step, x_step = t.x_step * kBytes;
  // One pointer for seven places: the addresses are sums of it and one of these, once, twice or four times.
  int64_t step = t.step * kBytes, step3 = 3 * step, step5 = 5 * step;
  __asm__("" : "+r"(step3), "+r"(step5));  // else compilers make them anew for each k
  const char* next = reinterpret_cast<const char*>(t.next);
  const int64_t next_step = t.next_step * kBytes;
  for (int64_t tap = 0; tap < t.tap_count; ++tap) {
    const char* x[2] = {reinterpret_cast<const char*>(t.x + t.taps[tap]), nullptr};
    if constexpr (Rows > kTileSegment) x[1] = x[0] + t.jump * kBytes;
    for (int64_t k = t.run; k > 0; --k) {
      V w[Vectors];
#pragma GCC unroll 4
      for (int n = 0; n < Vectors; ++n) w[n] = Lanes::load(weight + n * Lanes::kCount);
#pragma GCC unroll 16
      for (int m = 0; m < Rows; ++m) {
        const char* first = x[m / kTileSegment];
        constexpr auto kPlace = [](const char* at, int place, int64_t one, int64_t three, int64_t five) {
          switch (place) {
            case 3:
              return at + three;
            case 5:
              return at + five;
            case 6:
              return at + 2 * three;
            default:
              return at + place * one;
          }
        };
        const V value =
            Lanes::splat(reinterpret_cast<const float*>(kPlace(first, m % kTileSegment, step, step3, step5)));
#pragma GCC unroll 4
        for (int n = 0; n < Vectors; ++n) sum[m][n] = Lanes::fma(value, w[n], sum[m][n]);
      }
      weight += weight_step;
      __builtin_prefetch(next, 0, 2);
      next += next_step;
      x[0] += x_step;
      __asm__("" : "+r"(x[0]));  // else compilers add everything up anew for each place, and run out of registers
      if constexpr (Rows > kTileSegment) {
        x[1] += x_step;
        __asm__("" : "+r"(x[1]));
      }
    }
  }
  finish_sums(t.steps, t.step_count, {0, 0, part}, sum);
#pragma GCC unroll 16
  for (int m = 0; m < Rows; ++m) {
    float* to = t.y + m * t.y_step;
#pragma GCC unroll 4
    for (int n = 0; n < Vectors; ++n) {
      if (n + 1 < Vectors)
        Lanes::store(to + n * Lanes::kCount, sum[m][n]);
      else
        Lanes::store(to + n * Lanes::kCount, sum[m][n], part);
    }
  }
}

// As a tile of one column of weights for each channel: channels are the vectors.
template <int Rows>
void depthwise_places(const DepthwiseRow& t, int64_t place) {
  using V = Lanes::V;
  const float* x = t.x + place * t.step;
  float* y = t.y + place * t.y_step;
  for (int64_t channel = t.channel; channel < t.channel + t.channels; channel += Lanes::kCount) {
    V sum[Rows][1];
#pragma GCC unroll 8
    for (int m = 0; m < Rows; ++m) sum[m][0] = Lanes::zero();
    const float* weight = t.weight + channel;
    for (int64_t tap = 0; tap < t.tap_count; ++tap) {
      const V w = Lanes::load(weight + t.taps[tap].weight);
      const float* at = x + t.taps[tap].x + channel;
#pragma GCC unroll 8
      for (int m = 0; m < Rows; ++m) sum[m][0] = Lanes::fma(Lanes::load(at + m * t.step), w, sum[m][0]);
    }
    finish_sums(t.steps, t.step_count, {place, channel, Lanes::part(Lanes::kCount)}, sum);
#pragma GCC unroll 8
    for (int m = 0; m < Rows; ++m) Lanes::store(y + m * t.y_step + channel, sum[m][0]);
  }
}
template <int Rows>
void depthwise_rest(const DepthwiseRow& t, int64_t place) {
  if constexpr (Rows > 0) {
    if (t.places - place == Rows) {
      depthwise_places<Rows>(t, place);
    } else {
      depthwise_rest<Rows - 1>(t, place);
    }
  }
}
inline void depthwise_row(const DepthwiseRow& t) {
  constexpr int kRows = 7;
  int64_t place = 0;
  for (; place + kRows <= t.places; place += kRows) depthwise_places<kRows>(t, place);
  depthwise_rest<kRows - 1>(t, place);
}

// What follows a tile: a few places of one vector of columns stay in registers over all steps.
template <bool Whole>
Lanes::V load_columns(const float* p, Lanes::Part part) {
  if constexpr (Whole)
    return Lanes::load(p);
  else
    return Lanes::load(p, part);
}
// exp_f32 of vectors that are between -104 and 89, or NaN, side by side: one alone waits for itself.
#if defined(__AVX512F__) || (defined(__AVX2__) && defined(__FMA__) && defined(__F16C__))
template <int N>
[[gnu::always_inline]] inline void exp_of_clamped(Lanes::V (&v)[N]) {
  using V = Lanes::V;
  V shifted[N], n[N], p[N];
  Lanes::Some more[N];  // than the least, whose exponential is zero (exp_f32)
  const V magic = Lanes::number(12582912.0F);
  const auto each = [](const auto& f) {
#pragma GCC unroll 8
    for (int m = 0; m < N; ++m) f(m);
  };
  each([&](int m) { more[m] = Lanes::differ(v[m], Lanes::number(-104.0F)); });
  each([&](int m) { shifted[m] = Lanes::fma(v[m], Lanes::number(1.44269504088896341F), magic); });
  each([&](int m) { n[m] = Lanes::subtract(shifted[m], magic); });
  each([&](int m) { v[m] = Lanes::fma(n[m], Lanes::number(-0.693359375F), v[m]); });
  each([&](int m) { v[m] = Lanes::fma(n[m], Lanes::number(2.12194440e-4F), v[m]); });
  each([&](int m) { p[m] = Lanes::number(kExpFactors[0]); });
#pragma GCC unroll 4
  for (int i = 1; i < 5; ++i) each([&](int m) { p[m] = Lanes::fma(p[m], v[m], Lanes::number(kExpFactors[i])); });
  each([&](int m) { p[m] = Lanes::fma(p[m], Lanes::multiply(v[m], v[m]), v[m]); });
  each([&](int m) {
    v[m] = Lanes::scaled(Lanes::only(more[m], Lanes::add(p[m], Lanes::number(1.0F))), shifted[m], n[m]);
  });
}
template <int Rows>
void exp_step(Lanes::V (&v)[Rows]) {
#pragma GCC unroll 8
  for (int m = 0; m < Rows; ++m) v[m] = Lanes::between(v[m], -104.0F, 89.0F);
  exp_of_clamped(v);
}
#else
template <int Rows>
void exp_step(Lanes::V (&v)[Rows]) {
  for (int m = 0; m < Rows; ++m) v[m] = Lanes::exp(v[m]);
}
#endif
inline Lanes::V subtract_from(Lanes::V a, Lanes::V b) { return Lanes::subtract(b, a); }
inline Lanes::V divide_into(Lanes::V a, Lanes::V b) { return Lanes::divide(b, a); }
template <int Rows, bool Whole, Lanes::V (*F)(Lanes::V, Lanes::V)>
void finish_step(const TileStep& step, int64_t place, int64_t column, Lanes::Part part, const Lanes::V (&kept)[Rows],
                 Lanes::V (&v)[Rows]) {
  if (step.data == nullptr) {
#pragma GCC unroll 8
    for (int m = 0; m < Rows; ++m) v[m] = F(v[m], kept[m]);
    return;
  }
  if (step.place == 0) {
    const Lanes::V w = step.one ? Lanes::splat(step.data) : load_columns<Whole>(step.data + column, part);
#pragma GCC unroll 8
    for (int m = 0; m < Rows; ++m) v[m] = F(v[m], w);
    return;
  }
  const float* at = step.data + place * step.place + column;
#pragma GCC unroll 8
  for (int m = 0; m < Rows; ++m) v[m] = F(v[m], load_columns<Whole>(at + m * step.place, part));
}
template <int Rows, bool Whole>
void finish_places(const TileFinish& t, int64_t place, int64_t column, Lanes::Part part) {
  using V = Lanes::V;
  V v[Rows];
  const float* from = t.from + place * t.from_step + column;
#pragma GCC unroll 8
  for (int m = 0; m < Rows; ++m) v[m] = load_columns<Whole>(from + m * t.from_step, part);
  V kept[Rows] = {};
  for (int i = 0; i < t.step_count; ++i) {
    const TileStep& step = t.steps[i];
    switch (step.op) {
      case TileOp::Add:
        finish_step<Rows, Whole, Lanes::add>(step, place, column, part, kept, v);
        break;
      case TileOp::Subtract:
        finish_step<Rows, Whole, Lanes::subtract>(step, place, column, part, kept, v);
        break;
      case TileOp::SubtractFrom:
        finish_step<Rows, Whole, subtract_from>(step, place, column, part, kept, v);
        break;
      case TileOp::Multiply:
      case TileOp::MultiplyThenAdd:
        finish_step<Rows, Whole, Lanes::multiply>(step, place, column, part, kept, v);
        break;
      case TileOp::Divide:
        finish_step<Rows, Whole, Lanes::divide>(step, place, column, part, kept, v);
        break;
      case TileOp::DivideInto:
        if (step.one && step.data != nullptr && *step.data == 1.0F && Lanes::inverse(v)) break;
        finish_step<Rows, Whole, divide_into>(step, place, column, part, kept, v);
        break;
      case TileOp::Larger:
        finish_step<Rows, Whole, Lanes::larger>(step, place, column, part, kept, v);
        break;
      case TileOp::Smaller:
        finish_step<Rows, Whole, Lanes::smaller>(step, place, column, part, kept, v);
        break;
      case TileOp::Negate:
#pragma GCC unroll 8
        for (int m = 0; m < Rows; ++m) v[m] = Lanes::negate(v[m]);
        break;
      case TileOp::Exp:
        exp_step(v);
        break;
      case TileOp::Keep:
#pragma GCC unroll 8
        for (int m = 0; m < Rows; ++m) kept[m] = v[m];
        break;
      case TileOp::Half:
#pragma GCC unroll 8
        for (int m = 0; m < Rows; ++m) v[m] = Lanes::half(v[m]);
        break;
      case TileOp::Short:
#pragma GCC unroll 8
        for (int m = 0; m < Rows; ++m) v[m] = Lanes::shortened(v[m]);
        break;
      case TileOp::AboveZero:
      case TileOp::AboveZeroThenBelow:
#pragma GCC unroll 8
        for (int m = 0; m < Rows; ++m) v[m] = Lanes::above_zero(v[m]);
        break;
      case TileOp::Below:
        finish_step<Rows, Whole, Lanes::below>(step, place, column, part, kept, v);
        break;
    }
  }
  float* to = t.to + place * t.to_step + column;
#pragma GCC unroll 8
  for (int m = 0; m < Rows; ++m) {
    if constexpr (Whole)
      Lanes::store(to + m * t.to_step, v[m]);
    else
      Lanes::store(to + m * t.to_step, v[m], part);
  }
}
template <int Rows, bool Whole>
void finish_rest(const TileFinish& t, int64_t place, int64_t column, Lanes::Part part) {
  if constexpr (Rows > 0) {
    if (t.places - place == Rows) {
      finish_places<Rows, Whole>(t, place, column, part);
    } else {
      finish_rest<Rows - 1, Whole>(t, place, column, part);
    }
  }
}
template <bool Whole>
void finish_columns(const TileFinish& t, int64_t column, int columns) {
  constexpr int kRows = 7;
  const Lanes::Part part = Lanes::part(columns);
  int64_t place = 0;
  for (; place + kRows <= t.places; place += kRows) finish_places<kRows, Whole>(t, place, column, part);
  finish_rest<kRows - 1, Whole>(t, place, column, part);
}
inline void finish_tile(const TileFinish& t) {
  int64_t column = 0;
  for (; column + Lanes::kCount <= t.columns; column += Lanes::kCount) finish_columns<true>(t, column, Lanes::kCount);
  if (column < t.columns) finish_columns<false>(t, column, static_cast<int>(t.columns - column));
}

inline void copy_rows(const float* from, int64_t from_step, int64_t rows, int64_t columns, float* to, int64_t to_step) {
  const int64_t whole = columns / Lanes::kCount * Lanes::kCount;
  const Lanes::Part part = Lanes::part(static_cast<int>(columns - whole));
  for (; rows > 0; --rows, from += from_step, to += to_step) {
    for (int64_t c = 0; c < whole; c += Lanes::kCount) Lanes::store(to + c, Lanes::load(from + c));
    if (whole < columns) Lanes::store(to + whole, Lanes::load(from + whole, part), part);
  }
}

// One square, or what there is of one.
template <bool Whole>
void transpose_square(const float* from, int64_t from_step, int rows, int columns, float* to, int64_t to_step) {
  Lanes::V v[Lanes::kCount];
  const Lanes::Part row_part = Lanes::part(rows), column_part = Lanes::part(columns);
#pragma GCC unroll 16
  for (int i = 0; i < Lanes::kCount; ++i) {
    if constexpr (Whole)
      v[i] = Lanes::load(from + i * from_step);
    else
      v[i] = i < rows ? Lanes::load(from + i * from_step, column_part) : Lanes::zero();
  }
  Lanes::transpose(v);
#pragma GCC unroll 16
  for (int i = 0; i < Lanes::kCount; ++i) {
    if constexpr (Whole)
      Lanes::store(to + i * to_step, v[i]);
    else if (i < columns)
      Lanes::store(to + i * to_step, v[i], row_part);
  }
}
inline void transpose(const float* from, int64_t from_step, int64_t rows, int64_t columns, float* to, int64_t to_step) {
  constexpr int64_t kSide = Lanes::kCount;
  for (int64_t r = 0; r < rows; r += kSide) {
    for (int64_t c = 0; c < columns; c += kSide) {
      const float* at = from + r * from_step + c;
      float* place = to + c * to_step + r;
      if (rows - r >= kSide && columns - c >= kSide) {
        transpose_square<true>(at, from_step, kSide, kSide, place, to_step);
      } else {
        transpose_square<false>(at, from_step, static_cast<int>(rows - r < kSide ? rows - r : kSide),
                                static_cast<int>(columns - c < kSide ? columns - c : kSide), place, to_step);
      }
    }
  }
}

// Squares of b are transposed in registers, so that each is read once and written nowhere.
template <int Rows, bool Whole>
void add_square(const TurnedRows& t, int64_t k, int count, Lanes::V (&sum)[Rows]) {
  Lanes::V v[Lanes::kCount];
  const float* b = t.b + k;
#pragma GCC unroll 16
  for (int i = 0; i < Lanes::kCount; ++i) {
    if constexpr (Whole)
      v[i] = Lanes::load(b + i * t.b_column);
    else
      v[i] = i < t.columns ? Lanes::load(b + i * t.b_column, Lanes::part(count)) : Lanes::zero();
  }
  Lanes::transpose(v);
  const float* x = t.x + k * t.x_step;
#pragma GCC unroll 16
  for (int i = 0; i < Lanes::kCount; ++i) {
    if (!Whole && i >= count) break;
#pragma GCC unroll 4
    for (int m = 0; m < Rows; ++m) sum[m] = Lanes::fma(Lanes::splat(x + i * t.x_step + m * t.x_row), v[i], sum[m]);
  }
}
template <int Rows>
void turned_rows(const TurnedRows& t) {
  const Lanes::Part part = Lanes::part(t.columns);
  Lanes::V sum[Rows];
#pragma GCC unroll 4
  for (int m = 0; m < Rows; ++m) sum[m] = t.from == nullptr ? Lanes::zero() : Lanes::load(t.from + m * t.y_step, part);
  int64_t k = 0;
  if (t.columns == Lanes::kCount) {
    for (; k + Lanes::kCount <= t.k; k += Lanes::kCount) add_square<Rows, true>(t, k, Lanes::kCount, sum);
  }
  for (; k < t.k; k += Lanes::kCount) {
    const int64_t left = t.k - k;
    add_square<Rows, false>(t, k, static_cast<int>(left < Lanes::kCount ? left : Lanes::kCount), sum);
  }
#pragma GCC unroll 4
  for (int m = 0; m < Rows; ++m) Lanes::store(t.y + m * t.y_step, sum[m], part);
}

template <int Vectors, int Rows>
constexpr void put_tiles(TileLoops& loops) {
  if constexpr (Rows > 0) {
    loops.tile[Vectors][Rows] = run_tile<Rows, Vectors>;
    put_tiles<Vectors, Rows - 1>(loops);
  }
}
constexpr TileLoops tile_loops() {
  TileLoops loops{};
  loops.lanes = Lanes::kCount;
  loops.product_vectors = Lanes::kProductVectors;
  for (int n = 1; n <= kTileVectors; ++n) loops.most_rows[n] = Lanes::kMostRows[n];
  put_tiles<1, Lanes::kMostRows[1]>(loops);
  put_tiles<2, Lanes::kMostRows[2]>(loops);
  put_tiles<3, Lanes::kMostRows[3]>(loops);
  put_tiles<4, Lanes::kMostRows[4]>(loops);
  loops.depthwise = depthwise_row;
  loops.finish = finish_tile;
  loops.turned[1] = turned_rows<1>;
  loops.turned[2] = turned_rows<2>;
  loops.turned[3] = turned_rows<3>;
  loops.turned[4] = turned_rows<4>;
  loops.copy = copy_rows;
  loops.transpose = transpose;
  return loops;
}

}  // namespace tenon::cpu::TENON_CPU_LEVEL
