// What attention on AMX (attention_bf16.cpp) does between products. Like amx.h: only on such CPUs.
//
// Scores lie in panels, as in level_attention.h: a row for each key, kPanel queries side by side. Numbers of rows are
// multiples of kSide. Exponentials are of the base 2, from a polynomial with a relative error below 2^-22; what is
// below 2^-126 is zero. Sums run down the rows, so no order depends on a thread.
#pragma once

#include <cstdint>

#include "tenon/device/cpu/amx.h"

namespace tenon::cpu::amx {

inline constexpr int64_t kPanel = 2 * kSide;  // queries

// s = s * scale + mask; `mask` has rows of kPanel, or, by_row, a number for each row.
struct Scaling {
  float* s;
  int64_t rows;
  float scale;
  const float* mask;
  bool by_row;
};
void scale_scores(const Scaling& a);
// -inf in the first `hidden` columns of row 0, one more in each row.
void hide_scores(float* s, int64_t rows, int64_t hidden);

// A step of the running softmax: scores become 2^(score * factor - most), rounded and packed as the right side whose k
// are the rows; `most` and `sum` become what they are with these rows, and what was added up before, `out`, is made to
// fit.
struct Softmax {
  const float* s;
  int64_t rows;
  float factor;  // above zero
  float *most, *sum;
  float* out;
  int64_t out_rows;
  uint16_t* packed;
};
void softmax(const Softmax& a);

// Scores become probabilities 2^(score * factor - shift), and the gradient of probabilities, `into`, that of the
// scores: probability * (into - inner) * scale. Both rounded, in rows of kPanel; the latter also packed as above.
struct Slopes {
  const float *s, *into;
  int64_t rows;
  float factor, scale;
  const float *shift, *inner;
  uint16_t *probabilities, *slopes, *packed;
};
void slopes(const Slopes& a);

// to[i] = the sum of a[i][..] * b[i][..], of n elements each.
void row_products(const uint16_t* a, int64_t a_row, const uint16_t* b, int64_t b_row, int64_t rows, int64_t n,
                  float* to);
// to[column] = the sum over rows of factor[row] * a[row][column], of n columns, in the order of the rows.
void sum_of_rows(const float* factor, const uint16_t* a, int64_t a_row, int64_t rows, int64_t n, float* to);
// y[column][row] = from[row][column] * factor[column], rounded; `from` has rows of kPanel, at least `rows` of them
// filled up to a multiple of sixteen.
void turn_and_round(const float* from, int64_t rows, int64_t columns, const float* factor, uint16_t* y, int64_t y_row);

}  // namespace tenon::cpu::amx
