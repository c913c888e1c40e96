// Pooling layers. The maths is in ops/pooling.h.
#pragma once

#include "tenon/nn/size.h"
#include "tenon/ops/pooling.h"

namespace tenon::nn {

// [N, C, H, W] -> [N, C, H', W']; the stride is the window unless given.
struct MaxPool2d {
  Size<2> window = 2;
  Ints stride = {};
  Ints padding{0};
  Tensor operator()(const Tensor& x) const {
    return max_pool2d(x, window.ints(), {.stride = stride, .padding = padding});
  }
};
struct AvgPool2d {
  Size<2> window = 2;
  Ints stride = {};
  Ints padding{0};
  Tensor operator()(const Tensor& x) const {
    return avg_pool2d(x, window.ints(), {.stride = stride, .padding = padding});
  }
};
// Windows chosen so that the result has these extents.
struct AdaptiveAvgPool2d {
  Size<2> extents = 1;
  Tensor operator()(const Tensor& x) const { return adaptive_avg_pool2d(x, extents.ints()); }
};
// The mean (or maximum) over all spatial axes, which stay with extent 1.
struct GlobalAvgPool {
  Tensor operator()(const Tensor& x) const { return global_avg_pool(x); }
};
struct GlobalMaxPool {
  Tensor operator()(const Tensor& x) const { return global_max_pool(x); }
};

}  // namespace tenon::nn
