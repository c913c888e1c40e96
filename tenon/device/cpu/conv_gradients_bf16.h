// Gradients of bf16 convolutions with one group in blocks: sums in f32, rounded once. Only where
// bf16_blocks::available().
#pragma once

#include "tenon/base/thread_pool.h"
#include "tenon/device/cpu/conv.h"
#include "tenon/tensor/view.h"

namespace tenon::cpu {

// dx [n, channels, in…] from dy [n, filters, out…], in any layouts; weight [filters, channels, window…] is row-major.
void conv_input_gradient_bf16(const ConvShape& s, const ConstView& dy, const uint16_t* weight, const View& dx,
                              ThreadPool& pool);
// dw [filters, channels, window…], row-major. Each element is one chain over the places of all examples.
void conv_weight_gradient_bf16(const ConvShape& s, const ConstView& x, const ConstView& dy, uint16_t* dw,
                               ThreadPool& pool);

}  // namespace tenon::cpu
