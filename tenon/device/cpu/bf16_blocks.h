// Products of bf16 matrices in blocks, added up in f32: by the tile registers of Intel AMX or, where a CPU has none, by
// AVX-512's dot products of pairs. level_bf16*.cpp are built for such CPUs and must be called on them only.
//
// A block of the result is 32 x 32 sums. Each is a chain over pairs of k in their order, by TDPBF16PS (level_amx.cpp)
// or VDPBF16PS (level_bf16.cpp), which multiply exactly, take subnormal numbers for zero and give no others, and differ
// in which of a pair is added first (Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2). So the
// bits depend on which of the two the CPU has, and on nothing else: no block, thread or stride.
#pragma once

#include <cstdint>

#include "tenon/device/cpu/level.h"

namespace tenon::cpu::bf16_blocks {

// Whether the CPU has one of them and TENON_CPU_LEVEL names no level (plain loops of a level are compared with each
// other).
bool available();

inline constexpr int64_t kSide = 32;                  // rows and columns of a block
inline constexpr int64_t kDepth = 32;                 // k of one step
inline constexpr int64_t kStepSize = kSide * kDepth;  // elements of a packed step, of either side
inline constexpr int64_t kBlockSize = kSide * kSide;  // sums of a block

// The steps of k elements: the last is filled up with zeros.
constexpr int64_t steps(int64_t k) { return (k + kDepth - 1) / kDepth; }
// Elements of kSide packed rows or columns of k each.
constexpr int64_t packed_size(int64_t k) { return steps(k) * kStepSize; }

// Tile registers, if the CPU has them, belong to this thread's products while it lives.
class Tiles {
 public:
  Tiles();
  ~Tiles();
  Tiles(const Tiles&) = delete;
  Tiles& operator=(const Tiles&) = delete;
};

// Packed sides, step after step of kStepSize elements. Rows and columns up to kSide; what lacks is zero.
void pack_left(const uint16_t* a, int64_t a_row, int64_t a_k, int64_t rows, int64_t k, uint16_t* to);
// The same of 32 rows of n elements that lie anywhere, filled up with zeros to `whole`, a multiple of kDepth. Null:
// zeros.
void spread(const uint16_t* const* rows, int64_t n, int64_t whole, uint16_t* to);
void pack_right(const uint16_t* b, int64_t b_k, int64_t b_column, int64_t k, int64_t columns, uint16_t* to);

// Without tile registers the rows of a block go in groups, as even as they can be.
inline constexpr int64_t kGroup = 8;                               // rows of one, at most
inline constexpr int64_t kSevens = kSide / kGroup * (kGroup - 1);  // rows of a block of smaller ones
constexpr int64_t groups(int64_t rows) { return (rows + kGroup - 1) / kGroup; }
constexpr int64_t group_begin(int64_t group, int64_t rows) { return rows * group / groups(rows); }
// A row of a group that a step leaves out, because all that it would add is zero.
enum class Omit : uint8_t { None, First, Last };
struct StepRange {
  int64_t begin = 0, end = 0;
  const Omit* omits = nullptr;  // of all steps; null: none does
};

// The left side of a block where tile registers find it: 32 rows, `row` elements apart, and in a row a step's elements
// side by side, from steps[s] or s * step on.
struct Left {
  const uint16_t* at = nullptr;
  int64_t row = kDepth;
  const int64_t* steps = nullptr;
  int64_t step = kStepSize;    // these are of a packed side
  int64_t rows = kSide;        // whose sums are wanted; those of others may be anything
  int64_t pairs = kDepth / 2;  // of a step's; what follows them in it is zero
  // Where rows_anywhere(): not null where a step of a row lies at at + places[r] + steps[s].
  const int64_t* places = nullptr;
  // Then, if not null, for each group of rows the steps in which any of them is not zero. What they leave out need not
  // be there.
  const StepRange* ranges = nullptr;
};
bool rows_anywhere();
// Packed columns, of this many steps.
struct Right {
  const uint16_t* at = nullptr;
  int64_t steps = 0;
  // As many that are read after these, or null: memory may be asked for them meanwhile.
  const uint16_t* next = nullptr;
};
// A block's sums, or `more` of those that are there; rows are `row` numbers apart.
void block(const Left& left, const Right& right, float* sums, int64_t row = kSide, bool more = false);

// What becomes of sums while they are in registers: plus `bias` (by columns; may be null) and rounded to bf16, unless
// steps follow and want them as they are; then step by step, each in f32.
struct Step {
  TileOp op;
  bool one, narrow;  // one number for all; of bf16, else of f32
  const void* data;  // the operand of the first row and column
  int64_t row;       // from row to row, in elements; 0: the same for all
};
struct Finish {
  const float* bias = nullptr;
  const Step* steps = nullptr;
  int step_count = 0;
  bool narrow = true;  // the result is of bf16, and so is what the last step gives; else of f32
  bool rounds_first = true;
};
// Whether steps of this kind can be done so.
constexpr bool finishes(TileOp op) {
  return op != TileOp::Keep && op != TileOp::Exp && op != TileOp::Half && op <= TileOp::Below;
}
// The first `rows` and `columns` of a block, with steps that can be done so; rows of y are y_row elements apart.
void finish(const float* sums, const Finish& f, int64_t rows, int64_t columns, void* y, int64_t y_row);
// Both of all wanted rows of a block: sums need not go through memory.
void finished_block(const Left& left, const Right& right, const Finish& f, int64_t columns, void* y, int64_t y_row);

// What each of the two instructions has of its own. The two for few queries: bf16_attention.h.
struct Products {
  bool rows_anywhere;
  void (*open)();  // the tile registers of this thread; null where there are none
  void (*close)();
  void (*block)(const Left& left, const Right& right, float* sums, int64_t row, bool more);
  // As finished_block; null where sums come out of their registers by memory only.
  void (*finished)(const Left& left, const Right& right, const Finish& f, int64_t columns, void* y, int64_t y_row);
  void (*few_scores)(const uint16_t* rows, int64_t row, int64_t count, const uint16_t* queries, int64_t steps,
                     float* s);
  void (*few_sums)(const uint16_t* tiles, int64_t steps, const uint16_t* packed, int64_t blocks, float* out, bool more);
};
const Products& pair_products();  // AVX-512's

}  // namespace tenon::cpu::bf16_blocks
