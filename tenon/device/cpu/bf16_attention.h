// What attention in blocks of bf16 (attention_bf16.cpp) does between products. Like bf16_blocks.h: only on such CPUs.
//
// Scores lie in panels, as in level_attention.h: a row for each key, kPanel queries side by side. Numbers of rows are
// multiples of kSide. Exponentials are of the base 2, from a polynomial with a relative error below 2^-22; what is
// below 2^-126 is zero. Sums run down the rows, so no order depends on a thread.
#pragma once

#include <cstdint>

#include "tenon/device/cpu/bf16_blocks.h"

namespace tenon::cpu::bf16_blocks {

inline constexpr int64_t kPanel = 2 * kSide;  // queries
inline constexpr int64_t kFew = kSide / 2;    // of a panel where there are few

// s = s * scale + mask; rows of `panel` queries. `mask` has such rows, or, by_row, a number for each row.
struct Scaling {
  float* s;
  int64_t rows, panel;
  float scale;
  const float* mask;
  bool by_row;
};
void scale_scores(const Scaling& a);
// -inf in the first `hidden` columns of row 0, one more in each row.
void hide_scores(float* s, int64_t rows, int64_t panel, int64_t hidden);

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

// Few queries, in panels of kFew, and keys and values where they lie. What is made of scores is a left side in tiles
// [query][key] of kFew x kDepth for the products with rows of keys or values, packed as right sides.

// s[row][query] = the products of rows of `steps` * kDepth elements, `row` apart, and of queries: the half of a packed
// right side that begins here. The number of rows is a multiple of kFew.
void few_scores(const uint16_t* rows, int64_t row, int64_t count, const uint16_t* queries, int64_t steps, float* s);
// out[query][column] (+)= tiles times `blocks` blocks of kSide columns of a packed right side, each of as many steps.
void few_sums(const uint16_t* tiles, int64_t steps, const uint16_t* packed, int64_t blocks, float* out, bool more);
// As softmax(); `out` has kFew rows of this many columns, or none yet.
struct FewSoftmax {
  const float* s;
  int64_t rows;
  float factor;
  float *most, *sum;
  float* out;
  int64_t out_columns;
  uint16_t* tiles;
};
void softmax(const FewSoftmax& a);
// As slopes(); probabilities and slopes go to rows of kSide.
struct FewSlopes {
  const float *s, *into;
  int64_t rows;
  float factor, scale;
  const float *shift, *inner;
  uint16_t *probabilities, *slopes, *tiles;
};
void slopes(const FewSlopes& a);
// y[i] = from[i] * factor[i], rounded; rows of n numbers, those of `from` from_row apart.
void scale_and_round(const float* from, int64_t from_row, int64_t rows, int64_t n, const float* factor, uint16_t* y);

// to[i] = the sum of a[i][..] * b[i][..], of n elements each.
void row_products(const uint16_t* a, int64_t a_row, const uint16_t* b, int64_t b_row, int64_t rows, int64_t n,
                  float* to);
// to[column] = the sum over rows of factor[row] * a[row][column], of n columns, in the order of the rows.
void sum_of_rows(const float* factor, const uint16_t* a, int64_t a_row, int64_t rows, int64_t n, float* to);
// y[column][row] = from[row][column] * factor[column], rounded; `from` has rows of kPanel, at least `rows` of them
// filled up to a multiple of sixteen.
void turn_and_round(const float* from, int64_t rows, int64_t columns, const float* factor, uint16_t* y, int64_t y_row);

}  // namespace tenon::cpu::bf16_blocks
