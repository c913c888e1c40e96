// Products of bf16 matrices on AMX (amx.h). Each element is summed up in f32 over all of k and rounded once.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "tenon/base/thread_pool.h"
#include "tenon/device/cpu/tile_program.h"
#include "tenon/tensor/buffer.h"

namespace tenon::cpu {

// A left-hand side that is no matrix in memory: it packs itself (amx::pack_left).
class Bf16Rows {
 public:
  virtual ~Bf16Rows() = default;
  // Rows [first, first + count), count at most amx::kSide, in the packed order; what lacks to amx::kSide is zero.
  virtual void pack(int64_t first, int64_t count, uint16_t* to) const = 0;
};

// c[m, n] = a[m, k] b[k, n]. Steps are in elements, and any step is allowed for a and b.
struct Bf16Product {
  int64_t m = 0, n = 0, k = 0;
  const uint16_t* a = nullptr;
  int64_t a_row = 0, a_k = 0;
  const Bf16Rows* rows = nullptr;  // instead of a
  const uint16_t* b = nullptr;
  int64_t b_k = 0, b_column = 0;
  const uint16_t* packed = nullptr;  // what pack_right_bf16 gave of b: instead of b
  const float* bias = nullptr;       // n numbers that are added to each row before it is rounded, or null
  uint16_t* c = nullptr;
  int64_t c_row = 0;
};

// What happens to each element while it is in the cache. Its result goes to `out`, and nothing to c.
struct Bf16Follow {
  struct Operand {
    const std::byte* data;  // of the program's input
    int64_t row, column;    // steps in elements
  };
  const TileProgram& program;  // input 0 is the element
  std::span<const Operand> operands;
  std::byte* out;
  int64_t out_row;  // in elements
};

// Blocks of the result on the threads of the pool. Only where amx::available(). `follow` may be null.
void product(const Bf16Product& p, ThreadPool& pool, const Bf16Follow* follow = nullptr);
// On the calling thread.
void product(const Bf16Product& p);

Ref<Buffer> pack_right_bf16(const uint16_t* b, int64_t b_k, int64_t b_column, int64_t k, int64_t n, ThreadPool& pool);

}  // namespace tenon::cpu
