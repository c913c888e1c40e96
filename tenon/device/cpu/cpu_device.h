// The CPU behind the device interface.
//
//   auto cpu = make_cpu_device();
//   cpu->elementwise(program, inputs, output, pool);
//
// elementwise.h, reduce.h and copy.h hold the families; claims.h the ops that have kernels of their own.
#pragma once

#include <memory>

#include "tenon/device/device.h"

namespace tenon {

struct CpuOptions {
  // The highest instruction set to use: 2, 3 or 4 for x86-64-v2, -v3, -v4. What the CPU lacks is never used, and the
  // environment variable TENON_CPU_LEVEL (v2, v3, v4) can lower it further. Results are the same bits, but for bf16 in
  // blocks (bf16_blocks.h).
  int max_level = 4;
  bool built_kernels = true;  // false: elementwise programs run block by block; results are the same bits
};

std::unique_ptr<Device> make_cpu_device(const CpuOptions& options = {});

}  // namespace tenon
