// The gradients of a convolution in f32, from the tiles that compute the convolution itself. x, dy and dx may lie in
// any way; weight and dw are row-major.
//
// Of the input: convolutions of dy with a step of one (conv_plan.h), each element one chain of fused multiply-adds over
// (window, filter). Of the weight: each element is a chain over the places of an example, example after example, for
// each of some parts of the batch, and the parts are added in order. The shape alone says what the parts are, so the
// bits depend on no layout, thread or CPU level.
#pragma once

#include "tenon/base/thread_pool.h"
#include "tenon/device/cpu/conv.h"
#include "tenon/device/cpu/level.h"
#include "tenon/tensor/view.h"

namespace tenon::cpu {

void conv_input_gradient(const ConvShape& shape, const ConstView& dy, const float* weight, const View& dx,
                         const LevelTable& level, ThreadPool& pool);
void conv_weight_gradient(const ConvShape& shape, const ConstView& x, const ConstView& dy, float* dw,
                          const LevelTable& level, ThreadPool& pool);

}  // namespace tenon::cpu
