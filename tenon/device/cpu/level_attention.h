// The inner loops of attention in f32. Included by level_*.cpp only.
//
// Scores lie with the queries side by side, kAttentionQueries to a row of keys: maxima and sums over keys then run down
// the rows and never across a vector. Each element of a product is one chain of fused multiply-adds in the order of
// `run`, so its bits depend neither on the tile nor on the level.
#pragma once

#include "tenon/device/cpu/level_exp.h"
#include "tenon/device/cpu/level_tile.h"

namespace tenon::cpu::TENON_CPU_LEVEL {

template <int Rows, int Vectors>
inline void product_tile(const AttentionProduct& p, const float* x, const float* weight, float* y) {
  using V = Lanes::V;
  V sum[Rows][Vectors];
#pragma GCC unroll 8
  for (int m = 0; m < Rows; ++m) {
#pragma GCC unroll 4
    for (int n = 0; n < Vectors; ++n)
      sum[m][n] = p.accumulate ? Lanes::load(y + m * p.y_step + n * Lanes::kCount) : Lanes::zero();
  }
  const float* row[Rows];
#pragma GCC unroll 8
  for (int m = 0; m < Rows; ++m) row[m] = x + m * p.x_step;
  for (int64_t k = 0; k < p.run; ++k, weight += p.weight_step) {
    V w[Vectors];
#pragma GCC unroll 4
    for (int n = 0; n < Vectors; ++n) w[n] = Lanes::load(weight + n * Lanes::kCount);
#pragma GCC unroll 8
    for (int m = 0; m < Rows; ++m) {
      const V value = Lanes::splat(row[m] + k);
#pragma GCC unroll 4
      for (int n = 0; n < Vectors; ++n) sum[m][n] = Lanes::fma(value, w[n], sum[m][n]);
    }
  }
#pragma GCC unroll 8
  for (int m = 0; m < Rows; ++m) {
#pragma GCC unroll 4
    for (int n = 0; n < Vectors; ++n) Lanes::store(y + m * p.y_step + n * Lanes::kCount, sum[m][n]);
  }
}

inline constexpr int kProductRows = Lanes::kCount == 4 ? 4 : 6;
inline constexpr int kProductVectors = Lanes::kCount == 16 ? 4 : Lanes::kCount == 8 ? 2 : 1;

template <int Vectors, int Rows>
inline void product_rest(const AttentionProduct& p, const float* x, const float* weight, float* y, int64_t rows) {
  if constexpr (Rows > 0) {
    if (rows == Rows) return product_tile<Rows, Vectors>(p, x, weight, y);
    product_rest<Vectors, Rows - 1>(p, x, weight, y, rows);
  }
}
template <int Vectors>
inline void product_columns(const AttentionProduct& p, int64_t column) {
  int64_t m = 0;
  for (; m + kProductRows <= p.rows; m += kProductRows)
    product_tile<kProductRows, Vectors>(p, p.x + m * p.x_step, p.weight + column, p.y + m * p.y_step + column);
  product_rest<Vectors, kProductRows - 1>(p, p.x + m * p.x_step, p.weight + column, p.y + m * p.y_step + column,
                                          p.rows - m);
}
template <int Vectors>
inline void product_from(const AttentionProduct& p, int64_t column) {
  constexpr int64_t kWidth = Vectors * Lanes::kCount;
  for (; column + kWidth <= p.columns; column += kWidth) product_columns<Vectors>(p, column);
  if constexpr (Vectors > 1) product_from<Vectors - 1>(p, column);
}
inline void attention_product(const AttentionProduct& p) { product_from<kProductVectors>(p, 0); }

// e[i] = exp(e[i]) of a row; no argument is far above zero.
inline void exp_row(float* e) {
#ifdef TENON_EXP_SUMS
  using L = ExpLanes;
  for (int c = 0; c < kAttentionQueries; c += kExpStep) {
    ExpVector v[kExpSide];
    each_vector([&](int i) { v[i] = L::load(e + c + i * L::kCount); });
    exp_vectors(v);
    each_vector([&](int i) { L::store(e + c + i * L::kCount, v[i]); });
  }
#else
  TENON_INDEPENDENT
  for (int c = 0; c < kAttentionQueries; ++c) e[c] = exp_f32(e[c]);
#endif
}

inline void attention_softmax(const AttentionSoftmax& a) {
  constexpr int n = kAttentionQueries;
  alignas(64) float most[n], shift[n], sum[n], factor[n];
  for (int c = 0; c < n; ++c) most[c] = a.most[c];
  for (int64_t r = 0; r < a.rows; ++r) {
    const float* s = a.scores + r * n;
    TENON_INDEPENDENT
    for (int c = 0; c < n; ++c) most[c] = s[c] > most[c] ? s[c] : most[c];
  }
  for (int c = 0; c < n; ++c) {
    shift[c] = most[c] == -__builtin_inff() ? 0.0F : most[c];  // nothing may be seen so far
    factor[c] = a.most[c] - shift[c];
    a.most[c] = most[c];
    sum[c] = 0;
  }
  exp_row(factor);
  for (int64_t r = 0; r < a.rows; ++r) {
    float* s = a.scores + r * n;
    TENON_INDEPENDENT
    for (int c = 0; c < n; ++c) s[c] -= shift[c];
    exp_row(s);
    TENON_INDEPENDENT
    for (int c = 0; c < n; ++c) sum[c] += s[c];
  }
  for (int c = 0; c < n; ++c) a.sum[c] = a.sum[c] * factor[c] + sum[c];
  for (int64_t r = 0; r < a.out_rows; ++r) {
    float* out = a.out + r * n;
    TENON_INDEPENDENT
    for (int c = 0; c < n; ++c) out[c] *= factor[c];
  }
}

inline void attention_gradient(const AttentionGradient& a) {
  constexpr int n = kAttentionQueries;
  for (int64_t r = 0; r < a.rows; ++r) {
    float* p = a.scores + r * n;
    float* d = a.gradient + r * n;
    TENON_INDEPENDENT
    for (int c = 0; c < n; ++c) p[c] -= a.shift[c];
    exp_row(p);
    TENON_INDEPENDENT
    for (int c = 0; c < n; ++c) d[c] = p[c] * (d[c] - a.inner[c]) * a.scale;
  }
}

}  // namespace tenon::cpu::TENON_CPU_LEVEL
