// The inner loops of the CPU device, built once for each CPU level from the same sources.
//
// level_v2.cpp, level_v3.cpp and level_v4.cpp compile level_*.h for x86-64-v2, -v3 (AVX2) and -v4 (AVX-512);
// other processors have the first only. Everything instantiated there lives in a namespace named after its level and
// uses no templates of the standard library, so that the linker can never pick code for a newer CPU into common
// code (tests/device/level_symbols checks it with nm). All levels give the same bits: a multiply-add is fused where the
// source says fma, and nowhere else.
// To add a loop: a member here, its row in level_table.h.
#pragma once

#include <cstdint>

#include "tenon/ir/scalar.h"
#include "tenon/tensor/dtype.h"

namespace tenon::cpu {

inline constexpr int kDTypes = static_cast<int>(DType::I2) + 1;

// out[i] = f(a[i], b[i], c[i]) for i < n; out may be the same as an operand. Null where the op is not defined.
using LoopFn = void (*)(void* out, const void* a, const void* b, const void* c, int64_t n);
// *out = x[0] ∘ … ∘ x[n-1] in a fixed tree; n >= 1.
using FoldFn = void (*)(void* out, const void* x, int64_t n);
// acc[i] = acc[i] ∘ x[i]
using FoldRowFn = void (*)(void* acc, const void* x, int64_t n);

enum class Fold : uint8_t { Sum, Prod, Max, Min };
inline constexpr int kFolds = 4;

// One row of a normalisation: y = (x - mean) * rstd * weight + bias; weight and bias may be null.
struct NormalizeRow {
  const void *x, *weight, *bias;
  void *y, *mean, *rstd;
  int64_t n;
  double epsilon;
  bool center;
};
// Its gradient; the sums for weight and bias are added to, and may be null together.
struct NormalizeGradRow {
  const void *ct, *x, *weight, *mean, *rstd;
  void *dx, *weight_sum, *bias_sum;
  int64_t n;
  bool center;
};
// Fused loops over one row of n elements of f32 or f64; what the parameters p mean stands in level_rows.h.
struct RowLoops {
  FoldFn softmax, log_sum_exp, log_softmax;
  LoopFn softmax_grad, log_softmax_grad, exp_affine;
  void (*online_softmax)(void* state, void* scores, int64_t n);
  void (*scale)(void* x, const void* factor, int64_t n);
  void (*normalize)(const NormalizeRow& row);
  void (*normalize_grad)(const NormalizeGradRow& row);
  FoldFn max;
  void (*sum)(void* out, const void* x, const void* p, int64_t n);
  void (*sum_of_squares)(void* out, const void* x, const void* p, int64_t n);
  LoopFn standardize, gradient_sums, standardize_grad;
  void (*blend)(void* out, const void* const* rows, const void* weights, size_t count, int64_t n);
};

// One tile of a convolution, or of a product of matrices: y[m][c] = from[m][c] + the sum over taps and k of
// x[place m, tap, k] times weight[tap][k][c], by the tile's columns c.
inline constexpr int kTileVectors = 4;  // columns of a tile, at most, in vectors
inline constexpr int kTileRows = 14;    // places of a tile, at most
inline constexpr int kTileSegment = 7;  // places that lie `step` apart; the others start at `jump`
// What follows the sums of a tile, element by element, each step rounded by itself: the element op an operand. Larger
// and Smaller give NaN for NaN.
enum class TileOp : uint8_t {
  Add,
  Subtract,
  SubtractFrom,  // operand - element
  Multiply,
  Divide,
  DivideInto,  // operand / element
  Larger,
  Smaller,
  // without an operand
  Negate,
  Exp,
  Half,   // rounds to f16
  Short,  // rounds to bf16
  Keep,   // the element becomes the operand of steps without data
  // The same in fewer instructions.
  AboveZero,          // Larger, +0
  Below,              // Smaller, a number that is neither zero nor NaN
  MultiplyThenAdd,    // Multiply, and an Add is the next step
  AboveZeroThenBelow  // likewise
};
struct TileStep {
  TileOp op;
  bool one;           // one number for all
  const float* data;  // of the first place and column; null: what was kept last
  int64_t place;      // from place to place; 0: the same for all
};
// Whether tiles do this step, unless its operand was kept, while the sums are in registers. (Others are rarer or
// longer, and there are many tiles.)
constexpr bool fits_tiles(const TileStep& step) {
  switch (step.op) {
    case TileOp::Add:
      return true;
    case TileOp::Subtract:
    case TileOp::Multiply:
    case TileOp::MultiplyThenAdd:
    case TileOp::AboveZero:
    case TileOp::Below:
    case TileOp::AboveZeroThenBelow:
      return step.place == 0;
    default:
      return false;
  }
}
struct Tile {
  const float* x;       // of the first place
  int64_t step, jump;   // in elements, as all steps here
  int64_t x_step;       // from k to k + 1
  const int64_t* taps;  // where the neighbours of each tap begin, from a place
  int64_t tap_count, run;
  const float* weight;
  int64_t weight_step;  // from k to k + 1; whole vectors are read
  const float* from;    // laid out as y, and may be y; null: zeros
  float* y;
  int64_t y_step;
  int last;           // columns of the last vector that are there
  const float* next;  // for each k the memory is asked for the line here, then `next_step` further; not null
  int64_t next_step;
  const float* soon;      // null, or a y that will be wanted next
  const TileStep* steps;  // of those that fit tiles
  int step_count;
};
// A row of places, each channel by itself: y[m][c] = sum over taps of x[m * step + tap.x + c] times weight[tap.weight +
// c], then the steps, for the channels from `channel` on. Their number is a multiple of the lanes, and x may be read
// and y written so far.
struct DepthwiseTap {
  int64_t x, weight;
};
struct DepthwiseRow {
  const float* x;
  int64_t step, places, channel, channels;
  const DepthwiseTap* taps;
  int64_t tap_count;
  const float* weight;
  float* y;
  int64_t y_step;
  const TileStep* steps;  // of those that fit tiles
  int step_count;
};
struct TileFinish {
  const float* from;
  int64_t from_step, places, columns;
  const TileStep* steps;
  int step_count;
  float* to;  // may be `from`
  int64_t to_step;
};
// Few rows times a matrix whose columns lie in memory as rows, by as many columns as a vector has, or the first of
// them: y[m][c] = from[m][c] + the sum over k of x[m][k] times b[c][k].
struct TurnedRows {
  const float* x;
  int64_t x_row, x_step;
  const float* b;
  int64_t b_column, k;
  int columns;
  const float* from;  // laid out as y, and may be y; null: zeros
  float* y;
  int64_t y_step;
};
inline constexpr int kTurnedRows = 4;  // at most
struct TileLoops {
  int lanes;
  int product_vectors;                                         // of the tile for products of matrices
  int most_rows[kTileVectors + 1];                             // by the number of vectors; 0: no such tile
  void (*tile[kTileVectors + 1][kTileRows + 1])(const Tile&);  // by vectors and places
  void (*depthwise)(const DepthwiseRow&);
  void (*finish)(const TileFinish&);
  void (*turned[kTurnedRows + 1])(const TurnedRows&);  // by rows
  // to[r][c] = from[r][c], and to[c][r] = from[r][c], with these distances between rows.
  void (*copy)(const float* from, int64_t from_step, int64_t rows, int64_t columns, float* to, int64_t to_step);
  void (*transpose)(const float* from, int64_t from_step, int64_t rows, int64_t columns, float* to, int64_t to_step);
};

// Rows of one channel by itself where places lie side by side, which see the same taps: y[m * y_step + c] = the sum
// over rows r of the input and taps k, in this order, of x[m * x_step + rows[r].x + taps[k] + c] times
// weight[rows[r].weight + k], then plus *bias unless that is null.
struct PlaneRows {
  struct Taps {
    int64_t x, weight;
  };
  const float* x;
  int64_t x_step, count;
  const Taps* rows;
  int64_t row_count;
  const int64_t* taps;
  // [vectors of columns][taps]: a bit for each column that has the tap; of others nothing is added, or read.
  const uint32_t* there;
  int64_t tap_count, columns;
  int64_t whole_from, whole_end;  // of the vectors that have all
  const float *weight, *bias;
  float* y;
  int64_t y_step;
};
// Rows whose elements are dealt to `step` rows, or the other way round: element i * step + p of a row is element i of
// its part p.
struct PlaneParts {
  int64_t step, columns, rows;
  int64_t row, part, part_row;  // from a row to the next, from a part to the next, from a row's parts to the next's
};
struct PlaneLoops {
  void (*rows)(const PlaneRows&);
  void (*deal)(const float* from, const PlaneParts& parts, float* to);
  void (*merge)(const float* from, const PlaneParts& parts, float* to);
};

// Transforms of F(2 x 2, 3 x 3) (winograd.h). Tensors of 16 positions lie `position` apart; whole vectors are written,
// and `columns` is a multiple of the lanes.
struct WinogradLoops {
  // v = B' d B of 4 x 4 places.
  void (*input)(const float* const* d, int64_t channels, float* v, int64_t position);
  // u = G g G' of 3 x 3 taps [9][columns].
  void (*weight)(const float* g, int64_t columns, float* u, int64_t position);
  // y = A' m A, 2 x 2 places.
  void (*output)(const float* m, int64_t position, int64_t columns, float* const* y);
  // z = A dy A' of 2 x 2 places.
  void (*cotangent)(const float* const* dy, int64_t channels, float* z, int64_t position);
  // g = G' u G, 3 x 3 taps [9][columns].
  void (*weight_gradient)(const float* u, int64_t position, int64_t columns, float* g);
};

// Attention (attention.cpp): rows of keys, with this many queries side by side.
inline constexpr int kAttentionQueries = 64;
inline constexpr int kAttentionLanes = 16;  // widths of heads are multiples of this
// y[rows, columns] (+)= x[rows, run] weight[run, columns]; `columns` is a multiple of kAttentionLanes.
struct AttentionProduct {
  int64_t rows, columns, run;
  const float* x;
  int64_t x_step;
  const float* weight;
  int64_t weight_step;
  float* y;
  int64_t y_step;
  bool accumulate;
};
// One step of the running softmax over keys: scores become exp(score - maximum), `most` and `sum` what they are with
// these keys, and what was added up before, `out`, is made to fit.
struct AttentionSoftmax {
  float* scores;
  int64_t rows;
  float *most, *sum;
  float* out;
  int64_t out_rows;
};
// Scores become probabilities exp(score - shift), and `gradient` (of the probabilities) that of the scores.
struct AttentionGradient {
  float *scores, *gradient;
  int64_t rows;
  const float *shift, *inner;
  float scale;
};
struct AttentionLoops {
  void (*product)(const AttentionProduct&);
  void (*softmax)(const AttentionSoftmax&);
  void (*gradient)(const AttentionGradient&);
};

// y[i] = the largest of x[tap + i], after y[i] if there are `more`, a NaN before all, of equal ones the first, of no
// taps minus infinity.
struct LargestTaps {
  const float* x;
  const int64_t* taps;
  int64_t tap_count;
  float* y;
  int64_t n;
  bool more;
};

// How many words random_words writes.
inline constexpr int kRandomWords = 64;

// Sums and products of integers run modulo 2^64, whatever the width: the low bits are right.
struct LevelTable {
  const char* name;
  // By the instruction and the dtype of its operands (Select: of the last two).
  LoopFn loop[ir::kScalarOpCount][kDTypes];
  // By source and target; 4- and 2-bit integers stand in whole bytes, sign-extended.
  LoopFn cast[kDTypes][kDTypes];
  // By fold and dtype. The accumulator is u64 for sums and products of integers and bool, otherwise the dtype itself.
  FoldFn fold[kFolds][kDTypes];
  FoldRowFn fold_row[kFolds][kDTypes];
  RowLoops rows_f32, rows_f64;
  TileLoops tiles;
  PlaneLoops planes;
  WinogradLoops winograd;
  void (*largest)(const LargestTaps&);
  // The random words of the kRandomWords / 4 blocks from `first` on, under the key {k0, k1} (ops/random.h).
  void (*random_words)(uint32_t* out, uint64_t first, uint32_t k0, uint32_t k1);
  // most[r] = max(x[r]), sum[r] = sum(exp(x[r] - most[r])) of rows of n elements that lie one after the other; null
  // where nothing is gained (level_exp.h).
  void (*exp_sums)(float* most, float* sum, const float* x, int64_t rows, int64_t n);
  AttentionLoops attention;

  [[nodiscard]] const RowLoops& rows(DType dtype) const { return dtype == DType::F64 ? rows_f64 : rows_f32; }
};

namespace v2 {
const LevelTable& table();
}
namespace v3 {
const LevelTable& table();
}
namespace v4 {
const LevelTable& table();
}

// The level for this CPU: 2, 3 or 4, at most `limit` and at most what the environment variable TENON_CPU_LEVEL says.
int best_level(int limit = 4);
const LevelTable& level_table(int level);

// Whether stores past the caches are worth it for results larger than these. AMD: on Zen 4 two threads write 43 GB/s so
// beside as much that is read, 32 through the caches. Elsewhere not: Intel's cores leave out the reading of whole
// lines themselves once the memory is busy, and one core has few such stores under way.
bool writes_past_caches();

}  // namespace tenon::cpu
