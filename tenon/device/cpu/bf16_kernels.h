// Calls on bf16 that run in blocks (bf16_blocks.h). Only where bf16_blocks::available().
#pragma once

#include "tenon/device/cpu/conv.h"
#include "tenon/device/device.h"

namespace tenon::cpu {

// A product whose right-hand side, one matrix, is packed once.
std::unique_ptr<PreparedKernel> prepare_bf16_matmul(const PrepareArgs& args);
// Convolutions that Bf16Conv takes.
void bf16_conv(const ConvShape& shape, const KernelArgs& args);
// … whose weights and bias, if there is one, are packed once.
std::unique_ptr<PreparedKernel> prepare_bf16_conv(const ConvShape& shape, const PrepareArgs& args);

}  // namespace tenon::cpu
