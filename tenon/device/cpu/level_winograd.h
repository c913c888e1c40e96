// The transforms of winograd.h. Included by level_*.cpp only.
//
// Sums and differences of two numbers, each rounded by itself, in the order written here: the bits depend neither on
// the level nor on how many channels go together.
#pragma once

#include "tenon/device/cpu/level.h"
#include "tenon/device/cpu/level_tile.h"

namespace tenon::cpu::TENON_CPU_LEVEL {

// B' d of a column of four: what each transform of an input does in both directions.
inline void input_column(Lanes::V a, Lanes::V b, Lanes::V c, Lanes::V d, Lanes::V (&to)[4]) {
  to[0] = Lanes::subtract(a, c);
  to[1] = Lanes::add(b, c);
  to[2] = Lanes::subtract(c, b);
  to[3] = Lanes::subtract(b, d);
}
template <bool Whole>
void winograd_input_vector(const float* const* d, int64_t channel, Lanes::Part part, float* v, int64_t position) {
  Lanes::V row[4][4], column[4];
#pragma GCC unroll 4
  for (int i = 0; i < 4; ++i)
    input_column(load_columns<Whole>(d[4 * i] + channel, part), load_columns<Whole>(d[4 * i + 1] + channel, part),
                 load_columns<Whole>(d[4 * i + 2] + channel, part), load_columns<Whole>(d[4 * i + 3] + channel, part),
                 row[i]);
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    input_column(row[0][j], row[1][j], row[2][j], row[3][j], column);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) Lanes::store(v + (4 * i + j) * position, column[i]);
  }
}
inline void winograd_input(const float* const* d, int64_t channels, float* v, int64_t position) {
  int64_t c = 0;
  for (; c + Lanes::kCount <= channels; c += Lanes::kCount)
    winograd_input_vector<true>(d, c, Lanes::part(Lanes::kCount), v + c, position);
  if (c < channels) winograd_input_vector<false>(d, c, Lanes::part(static_cast<int>(channels - c)), v + c, position);
}

// G g of a column of three.
inline void weight_column(Lanes::V a, Lanes::V b, Lanes::V c, Lanes::V half, Lanes::V (&to)[4]) {
  const Lanes::V outer = Lanes::add(a, c);
  to[0] = a;
  to[1] = Lanes::multiply(Lanes::add(outer, b), half);
  to[2] = Lanes::multiply(Lanes::subtract(outer, b), half);
  to[3] = c;
}
inline void winograd_weight(const float* g, int64_t columns, float* u, int64_t position) {
  static constexpr float kHalf = 0.5F;
  const Lanes::V half = Lanes::splat(&kHalf);
  for (int64_t c = 0; c < columns; c += Lanes::kCount) {
    Lanes::V row[3][4], column[4];
#pragma GCC unroll 3
    for (int i = 0; i < 3; ++i) {
      const float* at = g + 3 * i * columns + c;
      weight_column(Lanes::load(at), Lanes::load(at + columns), Lanes::load(at + 2 * columns), half, row[i]);
    }
#pragma GCC unroll 4
    for (int j = 0; j < 4; ++j) {
      weight_column(row[0][j], row[1][j], row[2][j], half, column);
#pragma GCC unroll 4
      for (int i = 0; i < 4; ++i) Lanes::store(u + (4 * i + j) * position + c, column[i]);
    }
  }
}

// A' m of a column of four.
inline void output_column(Lanes::V a, Lanes::V b, Lanes::V c, Lanes::V d, Lanes::V (&to)[2]) {
  to[0] = Lanes::add(Lanes::add(a, b), c);
  to[1] = Lanes::subtract(Lanes::subtract(b, c), d);
}
inline void winograd_output(const float* m, int64_t position, int64_t columns, float* const* y) {
  for (int64_t c = 0; c < columns; c += Lanes::kCount) {
    Lanes::V row[4][2], column[2];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const float* at = m + 4 * i * position + c;
      output_column(Lanes::load(at), Lanes::load(at + position), Lanes::load(at + 2 * position),
                    Lanes::load(at + 3 * position), row[i]);
    }
#pragma GCC unroll 2
    for (int j = 0; j < 2; ++j) {
      output_column(row[0][j], row[1][j], row[2][j], row[3][j], column);
      Lanes::store(y[j] + c, column[0]);
      Lanes::store(y[2 + j] + c, column[1]);
    }
  }
}

// A d of a column of two.
inline void cotangent_column(Lanes::V a, Lanes::V b, Lanes::V (&to)[4]) {
  to[0] = a;
  to[1] = Lanes::add(a, b);
  to[2] = Lanes::subtract(a, b);
  to[3] = Lanes::subtract(Lanes::zero(), b);
}
template <bool Whole>
void winograd_cotangent_vector(const float* const* dy, int64_t channel, Lanes::Part part, float* z, int64_t position) {
  Lanes::V row[2][4], column[4];
#pragma GCC unroll 2
  for (int i = 0; i < 2; ++i)
    cotangent_column(load_columns<Whole>(dy[2 * i] + channel, part), load_columns<Whole>(dy[2 * i + 1] + channel, part),
                     row[i]);
#pragma GCC unroll 4
  for (int j = 0; j < 4; ++j) {
    cotangent_column(row[0][j], row[1][j], column);
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) Lanes::store(z + (4 * i + j) * position, column[i]);
  }
}
inline void winograd_cotangent(const float* const* dy, int64_t channels, float* z, int64_t position) {
  int64_t c = 0;
  for (; c + Lanes::kCount <= channels; c += Lanes::kCount)
    winograd_cotangent_vector<true>(dy, c, Lanes::part(Lanes::kCount), z + c, position);
  if (c < channels)
    winograd_cotangent_vector<false>(dy, c, Lanes::part(static_cast<int>(channels - c)), z + c, position);
}

// G' u of a column of four.
inline void gradient_column(Lanes::V a, Lanes::V b, Lanes::V c, Lanes::V d, Lanes::V half, Lanes::V (&to)[3]) {
  const Lanes::V sum = Lanes::multiply(Lanes::add(b, c), half);
  to[0] = Lanes::add(a, sum);
  to[1] = Lanes::multiply(Lanes::subtract(b, c), half);
  to[2] = Lanes::add(sum, d);
}
inline void winograd_weight_gradient(const float* u, int64_t position, int64_t columns, float* g) {
  static constexpr float kHalf = 0.5F;
  const Lanes::V half = Lanes::splat(&kHalf);
  for (int64_t c = 0; c < columns; c += Lanes::kCount) {
    Lanes::V row[4][3], column[3];
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
      const float* at = u + 4 * i * position + c;
      gradient_column(Lanes::load(at), Lanes::load(at + position), Lanes::load(at + 2 * position),
                      Lanes::load(at + 3 * position), half, row[i]);
    }
#pragma GCC unroll 3
    for (int j = 0; j < 3; ++j) {
      gradient_column(row[0][j], row[1][j], row[2][j], row[3][j], half, column);
#pragma GCC unroll 3
      for (int i = 0; i < 3; ++i) Lanes::store(g + (3 * i + j) * columns + c, column[i]);
    }
  }
}

constexpr WinogradLoops winograd_loops() {
  return {winograd_input, winograd_weight, winograd_output, winograd_cotangent, winograd_weight_gradient};
}

}  // namespace tenon::cpu::TENON_CPU_LEVEL
