// The transforms of winograd.h. Included by level_*.cpp only.
//
// Sums and differences of two numbers, each rounded by itself, in the order written here: the bits depend neither on
// the level nor on how many channels go together.
#pragma once

#include <type_traits>

#include "tenon/device/cpu/level.h"
#include "tenon/device/cpu/level_tile.h"

namespace tenon::cpu::TENON_CPU_LEVEL {

// What each transform does to a column, first along the rows of a tile and then along its columns.
inline void input_column(const Lanes::V (&d)[4], Lanes::V (&to)[4]) {  // B' d
  to[0] = Lanes::subtract(d[0], d[2]);
  to[1] = Lanes::add(d[1], d[2]);
  to[2] = Lanes::subtract(d[2], d[1]);
  to[3] = Lanes::subtract(d[1], d[3]);
}
inline Lanes::V winograd_half() {
  static constexpr float kHalf = 0.5F;
  return Lanes::splat(&kHalf);
}
inline void weight_column(const Lanes::V (&g)[3], Lanes::V (&to)[4]) {  // G g
  const Lanes::V outer = Lanes::add(g[0], g[2]);
  to[0] = g[0];
  to[1] = Lanes::multiply(Lanes::add(outer, g[1]), winograd_half());
  to[2] = Lanes::multiply(Lanes::subtract(outer, g[1]), winograd_half());
  to[3] = g[2];
}
inline void output_column(const Lanes::V (&m)[4], Lanes::V (&to)[2]) {  // A' m
  to[0] = Lanes::add(Lanes::add(m[0], m[1]), m[2]);
  to[1] = Lanes::subtract(Lanes::subtract(m[1], m[2]), m[3]);
}
inline void cotangent_column(const Lanes::V (&dy)[2], Lanes::V (&to)[4]) {  // A dy
  to[0] = dy[0];
  to[1] = Lanes::add(dy[0], dy[1]);
  to[2] = Lanes::subtract(dy[0], dy[1]);
  to[3] = Lanes::subtract(Lanes::zero(), dy[1]);
}
inline void gradient_column(const Lanes::V (&u)[4], Lanes::V (&to)[3]) {  // G' u
  const Lanes::V sum = Lanes::multiply(Lanes::add(u[1], u[2]), winograd_half());
  to[0] = Lanes::add(u[0], sum);
  to[1] = Lanes::multiply(Lanes::subtract(u[1], u[2]), winograd_half());
  to[2] = Lanes::add(sum, u[3]);
}

// store(i, j, ...) of To x To places from load(i, j) of From x From, one vector of channels or filters.
template <int From, int To, void (*Column)(const Lanes::V (&)[From], Lanes::V (&)[To]), class Load, class Store>
[[gnu::always_inline]] inline void both_ways(const Load& load, const Store& store) {
  Lanes::V row[From][To], from[From], to[To];
#pragma GCC unroll 4
  for (int i = 0; i < From; ++i) {
#pragma GCC unroll 4
    for (int j = 0; j < From; ++j) from[j] = load(i, j);
    Column(from, row[i]);
  }
#pragma GCC unroll 4
  for (int j = 0; j < To; ++j) {
#pragma GCC unroll 4
    for (int i = 0; i < From; ++i) from[i] = row[i][j];
    Column(from, to);
#pragma GCC unroll 4
    for (int i = 0; i < To; ++i) store(i, j, to[i]);
  }
}

// Transforms to 4 x 4 positions of places whose channels need not be whole vectors; what is missing counts as zero.
template <int From, void (*Column)(const Lanes::V (&)[From], Lanes::V (&)[4])>
void winograd_places(const float* const* at, int64_t channels, float* to, int64_t position) {
  const auto vector = [&](auto whole, int64_t c) {
    const Lanes::Part part = Lanes::part(whole ? Lanes::kCount : static_cast<int>(channels - c));
    both_ways<From, 4, Column>([&](int i, int j) { return load_columns<whole.value>(at[From * i + j] + c, part); },
                               [&](int i, int j, auto v) { Lanes::store(to + (4 * i + j) * position + c, v); });
  };
  int64_t c = 0;
  for (; c + Lanes::kCount <= channels; c += Lanes::kCount) vector(std::true_type{}, c);
  if (c < channels) vector(std::false_type{}, c);
}

inline void winograd_weight(const float* g, int64_t columns, float* u, int64_t position) {
  for (int64_t c = 0; c < columns; c += Lanes::kCount) {
    both_ways<3, 4, weight_column>([&](int i, int j) { return Lanes::load(g + (3 * i + j) * columns + c); },
                                   [&](int i, int j, auto v) { Lanes::store(u + (4 * i + j) * position + c, v); });
  }
}
inline void winograd_output(const float* m, int64_t position, int64_t columns, float* const* y) {
  for (int64_t c = 0; c < columns; c += Lanes::kCount) {
    both_ways<4, 2, output_column>([&](int i, int j) { return Lanes::load(m + (4 * i + j) * position + c); },
                                   [&](int i, int j, auto v) { Lanes::store(y[2 * i + j] + c, v); });
  }
}
inline void winograd_weight_gradient(const float* u, int64_t position, int64_t columns, float* g) {
  for (int64_t c = 0; c < columns; c += Lanes::kCount) {
    both_ways<4, 3, gradient_column>([&](int i, int j) { return Lanes::load(u + (4 * i + j) * position + c); },
                                     [&](int i, int j, auto v) { Lanes::store(g + (3 * i + j) * columns + c, v); });
  }
}

constexpr WinogradLoops winograd_loops() {
  return {winograd_places<4, input_column>, winograd_weight, winograd_output, winograd_places<2, cotangent_column>,
          winograd_weight_gradient};
}

}  // namespace tenon::cpu::TENON_CPU_LEVEL
