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
// [N, C, spatial...] and the positions that max_pool_with_indices gave -> zeros [N, C, spatial'...] with the elements
// at their positions. The stride is the window unless given; `extents`, unless given, is what the pool's options undo.
template <int N>
struct MaxUnpool {
  Size<N> window = 2;
  Ints stride = {};
  Ints padding{0};
  Ints extents = {};
  Tensor operator()(const Tensor& x, const Tensor& indices) const {
    return max_unpool(x, indices, window.ints(), {.stride = stride, .padding = padding, .extents = extents});
  }
};
using MaxUnpool1d = MaxUnpool<1>;
using MaxUnpool2d = MaxUnpool<2>;
using MaxUnpool3d = MaxUnpool<3>;
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
