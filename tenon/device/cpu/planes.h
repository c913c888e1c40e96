// Convolutions of channels by themselves (depthwise) whose places lie side by side, as in row-major tensors: a row of a
// channel is a vector, so nothing is transposed. Strict bits are those of direct_conv.h, with which the choice is by
// extents alone: rows of few places would leave too much of a vector empty.
#pragma once

#include <vector>

#include "tenon/base/thread_pool.h"
#include "tenon/device/cpu/conv.h"
#include "tenon/device/cpu/conv_plan.h"
#include "tenon/device/cpu/level.h"
#include "tenon/tensor/view.h"

namespace tenon::cpu {

// Whether they take a convolution of x to y; for the gradient of x those are dx and dy.
bool is_by_planes(const ConvShape& s, const ConstView& x, const ConstView& y);

// y[n, c, place] = bias[c] + the sum over taps of x[n, c, …] weight[c, tap]; `bias` may be null.
void planes(const ConvShape& s, const ConstView& x, const float* weight, const float* bias, const View& y,
            const LevelTable& level, ThreadPool& pool);
// The spatial axes of `s` are at the end; `phases` are its own.
void planes_input_gradient(const ConvShape& s, const std::vector<InputPhase>& phases, const ConstView& dy,
                           const float* weight, const View& dx, const LevelTable& level, ThreadPool& pool);

}  // namespace tenon::cpu
