// Pooling layers over one to three spatial axes: [N, C, spatial...] -> the same with fewer positions. The maths is in
// ops/pooling.h; the stride is the window unless given.
#pragma once

#include "tenon/nn/size.h"
#include "tenon/ops/pooling.h"

namespace tenon::nn {

template <int N>
struct MaxPool {
  Size<N> window = 2;
  Ints stride = {};
  Ints padding{0};
  Ints dilation{1};
  bool ceil_mode = false;
  [[nodiscard]] MaxPoolOptions options() const {
    return {.stride = stride, .padding = padding, .dilation = dilation, .ceil_mode = ceil_mode};
  }
  Tensor operator()(const Tensor& x) const {
    if constexpr (N == 1) return max_pool1d(x, window.ints(), options());
    if constexpr (N == 2) return max_pool2d(x, window.ints(), options());
    if constexpr (N == 3) return max_pool3d(x, window.ints(), options());
  }
  // Also where each maximum stands, for MaxUnpool.
  [[nodiscard]] MaxPoolResult with_indices(const Tensor& x) const {
    return max_pool_with_indices(x, window.ints(), options());
  }
};
using MaxPool1d = MaxPool<1>;
using MaxPool2d = MaxPool<2>;
using MaxPool3d = MaxPool<3>;

template <int N>
struct AvgPool {
  Size<N> window = 2;
  Ints stride = {};
  Ints padding{0};
  bool ceil_mode = false;
  bool count_include_pad = true;
  Tensor operator()(const Tensor& x) const {
    const AveragePoolOptions options{
        .stride = stride, .padding = padding, .ceil_mode = ceil_mode, .count_include_pad = count_include_pad};
    if constexpr (N == 1) return avg_pool1d(x, window.ints(), options);
    if constexpr (N == 2) return avg_pool2d(x, window.ints(), options);
    if constexpr (N == 3) return avg_pool3d(x, window.ints(), options);
  }
};
using AvgPool1d = AvgPool<1>;
using AvgPool2d = AvgPool<2>;
using AvgPool3d = AvgPool<3>;

// (sum of x^p)^(1/p) over each window.
template <int N>
struct LPPool {
  double p = 2;
  Size<N> window = 2;
  Ints stride = {};
  bool ceil_mode = false;
  Tensor operator()(const Tensor& x) const {
    const LpPoolOptions options{.stride = stride, .ceil_mode = ceil_mode};
    if constexpr (N == 1) return lp_pool1d(x, p, window.ints(), options);
    if constexpr (N == 2) return lp_pool2d(x, p, window.ints(), options);
    if constexpr (N == 3) return lp_pool3d(x, p, window.ints(), options);
  }
};
using LPPool1d = LPPool<1>;
using LPPool2d = LPPool<2>;
using LPPool3d = LPPool<3>;

// Windows chosen so that the result has these extents (-1 keeps one).
template <int N>
struct AdaptiveAvgPool {
  Size<N> extents = 1;
  Tensor operator()(const Tensor& x) const {
    if constexpr (N == 1) return adaptive_avg_pool1d(x, extents.ints());
    if constexpr (N == 2) return adaptive_avg_pool2d(x, extents.ints());
    if constexpr (N == 3) return adaptive_avg_pool3d(x, extents.ints());
  }
};
using AdaptiveAvgPool1d = AdaptiveAvgPool<1>;
using AdaptiveAvgPool2d = AdaptiveAvgPool<2>;
using AdaptiveAvgPool3d = AdaptiveAvgPool<3>;

template <int N>
struct AdaptiveMaxPool {
  Size<N> extents = 1;
  Tensor operator()(const Tensor& x) const {
    if constexpr (N == 1) return adaptive_max_pool1d(x, extents.ints());
    if constexpr (N == 2) return adaptive_max_pool2d(x, extents.ints());
    if constexpr (N == 3) return adaptive_max_pool3d(x, extents.ints());
  }
};
using AdaptiveMaxPool1d = AdaptiveMaxPool<1>;
using AdaptiveMaxPool2d = AdaptiveMaxPool<2>;
using AdaptiveMaxPool3d = AdaptiveMaxPool<3>;

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

// The mean (or maximum) over all spatial axes, which stay with extent 1.
struct GlobalAvgPool {
  Tensor operator()(const Tensor& x) const { return global_avg_pool(x); }
};
struct GlobalMaxPool {
  Tensor operator()(const Tensor& x) const { return global_max_pool(x); }
};

}  // namespace tenon::nn
