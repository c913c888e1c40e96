// The tile registers of Intel AMX: products of bf16 matrices, added up in f32. level_amx.cpp is built for such CPUs and
// must be called on them only.
//
// A block of the result is 32 x 32 sums. Each is a chain over pairs of k in their order: the instruction TDPBF16PS
// multiplies exactly, adds the two products of a pair one after the other, takes subnormal numbers for zero and gives
// no others (Intel 64 and IA-32 Architectures Software Developer's Manual, volume 2). So the bits depend on the CPU
// having AMX, and on nothing else: no block, thread or stride.
#pragma once

#include <cstdint>

namespace tenon::cpu::amx {

// Whether the CPU has it, the system lets this process use it, and TENON_CPU_LEVEL names no level (plain loops of a
// level are compared with each other).
bool available();

inline constexpr int64_t kSide = 32;                  // rows and columns of a block
inline constexpr int64_t kDepth = 32;                 // k of one step
inline constexpr int64_t kStepSize = kSide * kDepth;  // elements of a packed step, of either side
inline constexpr int64_t kBlockSize = kSide * kSide;  // sums of a block

// The steps of k elements: the last is filled up with zeros.
constexpr int64_t steps(int64_t k) { return (k + kDepth - 1) / kDepth; }

// The tile registers belong to this thread's products while it lives.
class Tiles {
 public:
  Tiles();
  ~Tiles();
  Tiles(const Tiles&) = delete;
  Tiles& operator=(const Tiles&) = delete;
};

// Packed sides, step after step of kStepSize elements. Rows and columns up to kSide; what lacks is zero.
void pack_left(const uint16_t* a, int64_t a_row, int64_t a_k, int64_t rows, int64_t k, uint16_t* to);
// One row of pack_left: n elements that lie next to each other, filled up with zeros to `whole`, a multiple of kDepth.
void spread(const uint16_t* from, int64_t n, int64_t whole, uint16_t* to);
void pack_right(const uint16_t* b, int64_t b_k, int64_t b_column, int64_t k, int64_t columns, uint16_t* to);
// A block's sums, row after row, from this many packed steps.
void block(const uint16_t* left, const uint16_t* right, int64_t steps, float* sums);
// The first `rows` and `columns` of a block plus `bias` (by columns; may be null), rounded to bf16.
void store_rounded(const float* sums, const float* bias, int64_t rows, int64_t columns, uint16_t* y, int64_t y_row);

}  // namespace tenon::cpu::amx
