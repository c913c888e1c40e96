// Calls on f16 and bf16 in f32: exact copies of the inputs, the f32 kernel, one rounding of each result.
#pragma once

#include "tenon/device/device.h"

namespace tenon::cpu {

constexpr bool is_half(DType dtype) { return dtype == DType::F16 || dtype == DType::BF16; }
// `run` with f32 in place of every f16 and bf16.
void run_widened(const KernelArgs& args, void (*run)(const KernelArgs& args));

}  // namespace tenon::cpu
