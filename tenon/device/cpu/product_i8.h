// Products of matrices of 8-bit integers, added up in i32 modulo 2^32 (level_i8.h).
#pragma once

#include <vector>

#include "tenon/base/thread_pool.h"
#include "tenon/device/cpu/i8_finish.h"
#include "tenon/device/cpu/level_i8.h"
#include "tenon/tensor/buffer.h"

namespace tenon::cpu {

// The fastest loops that this CPU has and TENON_CPU_LEVEL allows, and all that it has, the fastest first.
const I8Loops& i8_loops();
std::vector<const I8Loops*> all_i8_loops();

// c[m, n] = a[m, k] b[k, n]. Steps are in elements, and any step is allowed for a and b.
struct I8Product {
  int64_t m = 0, n = 0, k = 0;
  const uint8_t* a = nullptr;
  int64_t a_row = 0, a_k = 0;
  bool a_signed = false;
  const uint8_t* b = nullptr;
  int64_t b_k = 0, b_column = 0;
  bool b_signed = false;
  const std::byte* packed = nullptr;  // what pack_right_i8 gave of b: instead of b
  int32_t* c = nullptr;
  int64_t c_row = 0;
  const I8Follow* follow = nullptr;  // of one image of m rows: instead of c
};

// Blocks of rows or columns of the result on the threads of the pool.
void product(const I8Product& p, const I8Loops& loops, ThreadPool& pool);
// On the calling thread.
void product(const I8Product& p, const I8Loops& loops);

// The right side of a product, packed. It serves for left sides with or without a sign.
Ref<Buffer> pack_right_i8(const I8Product& p, const I8Loops& loops, ThreadPool& pool);

}  // namespace tenon::cpu
