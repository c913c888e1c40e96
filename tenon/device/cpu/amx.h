// The tile registers of Intel AMX, for products of bf16 (bf16_blocks.h) and of 8-bit integers (level_i8_amx.cpp).
// level_*amx.cpp are built for such CPUs and must be called on them only.
#pragma once

#include "tenon/device/cpu/bf16_blocks.h"

namespace tenon::cpu::amx {

// Whether the CPU has them with products of bf16, the system lets this process use them, and TENON_CPU_LEVEL names no
// level.
bool available();
// … and products of 8-bit integers.
bool has_int8();

// The registers belong to this thread's products while it lives.
class Tiles {
 public:
  Tiles();
  ~Tiles();
  Tiles(const Tiles&) = delete;
  Tiles& operator=(const Tiles&) = delete;
};

const bf16_blocks::Products& bf16_products();

}  // namespace tenon::cpu::amx
