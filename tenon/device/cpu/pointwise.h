// Convolutions of row-major tensors with windows of one place: the places of an example are the columns of a matrix, so
// they are products of matrices (product.h) that lie there already. Nothing is transposed, as direct_conv.h would; the
// chains, and so the bits, are the same.
#pragma once

#include "tenon/base/thread_pool.h"
#include "tenon/device/cpu/conv.h"
#include "tenon/device/cpu/level.h"
#include "tenon/tensor/view.h"

namespace tenon::cpu {

// Whether the result and both gradients of this convolution go so, where x and y (or dy and dx) lie like these.
bool is_pointwise(const ConvShape& s, const ConstView& x, const ConstView& y);

// `bias` may be null.
void pointwise(const ConvShape& s, const ConstView& x, const float* weight, const float* bias, const View& y,
               const LevelTable& level, ThreadPool& pool);
void pointwise_input_gradient(const ConvShape& s, const ConstView& dy, const float* weight, const View& dx,
                              const LevelTable& level, ThreadPool& pool);
void pointwise_weight_gradient(const ConvShape& s, const ConstView& x, const ConstView& dy, float* dw,
                               const LevelTable& level, ThreadPool& pool);

}  // namespace tenon::cpu
