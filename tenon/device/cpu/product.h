// Products of matrices in f32 from the tiles of level_tile.h.
//
// Each element is one chain of fused multiply-adds over k = 0, 1, …, from zero or, where it accumulates, from what was
// there. Blocks in k go on from the sums that they find in the result, which is the same chain. So the bits depend on
// no block, tile, thread, stride or CPU level, and one matrix of a batch, or one row, gives the same as all together.
//
// Panels of the right-hand side (columns of one tile, k after k) and rows of the left one are copied next to each other
// where they are read often enough, by large products on several threads once for all of them; a right-hand side that
// does not change is packed once.
#pragma once

#include <cstdint>
#include <span>

#include "tenon/base/thread_pool.h"
#include "tenon/device/cpu/level.h"
#include "tenon/device/cpu/tile_program.h"
#include "tenon/tensor/buffer.h"

namespace tenon::cpu {

// c[m, n] = a[m, k] b[k, n] (+ c). Steps are in elements, and any step is allowed for a and b.
struct Product {
  int64_t m = 0, n = 0, k = 0;
  const float* a = nullptr;
  int64_t a_row = 0, a_k = 0;
  const float* b = nullptr;
  int64_t b_k = 0, b_column = 0;
  const float* packed = nullptr;  // what pack_right gave of b: instead of b
  float* c = nullptr;
  int64_t c_row = 0;
  bool accumulate = false;
};

// What happens to each element of the result while it is in the cache.
struct ProductFollow {
  struct Operand {
    const float* data;
    int64_t row, column;  // steps
  };
  const TileProgram& program;  // input 0 is the element
  std::span<const Operand> operands;
};

// On the calling thread. `follow` may be null.
void product(const Product& p, const TileLoops& loops, const ProductFollow* follow = nullptr);
// Blocks of the result on the threads of the pool.
void product(const Product& p, const TileLoops& loops, ThreadPool& pool, const ProductFollow* follow = nullptr);

// The right-hand side b[k, n] in the order in which tiles read it.
Ref<Buffer> pack_right(const float* b, int64_t b_k, int64_t b_column, int64_t k, int64_t n, const TileLoops& loops);
// One panel: to[k][columns] from columns (at most that many) of b; what lacks to whole vectors is zero.
void pack_panel(const float* b, int64_t b_k, int64_t b_column, int64_t k, int64_t columns, float* to, int64_t to_step,
                const TileLoops& loops);

}  // namespace tenon::cpu
