// Padding layers: [..., spatial...] -> the same, longer. `padding` has one number for every side, or two for each of
// the last N axes, the last axis first, as in PyTorch: {left, right, top, bottom}. Negative numbers cut.
// Errors: ValueError for another number of entries; those of tenon::pad.
#pragma once

#include "tenon/ops/movement.h"

namespace tenon::nn {

namespace detail {
struct Sides {
  Ints before, after;
};
// For each axis of x.
Sides sides(const char* layer, const Tensor& x, const Ints& padding, size_t axes);
}  // namespace detail

template <int N>
struct ConstantPad {
  Ints padding{0};
  double value = 0;
  Tensor operator()(const Tensor& x) const {
    const auto s = detail::sides("ConstantPad", x, padding, N);
    return pad(x, s.before, s.after, value);
  }
};
using ConstantPad1d = ConstantPad<1>;
using ConstantPad2d = ConstantPad<2>;
using ConstantPad3d = ConstantPad<3>;
using ZeroPad1d = ConstantPad<1>;
using ZeroPad2d = ConstantPad<2>;
using ZeroPad3d = ConstantPad<3>;

template <int N, PadMode mode>
struct EdgePad {
  Ints padding{0};
  Tensor operator()(const Tensor& x) const {
    const auto s = detail::sides("Pad", x, padding, N);
    return pad(x, s.before, s.after, mode);
  }
};
using ReflectionPad1d = EdgePad<1, PadMode::Reflect>;
using ReflectionPad2d = EdgePad<2, PadMode::Reflect>;
using ReflectionPad3d = EdgePad<3, PadMode::Reflect>;
using ReplicationPad1d = EdgePad<1, PadMode::Replicate>;
using ReplicationPad2d = EdgePad<2, PadMode::Replicate>;
using ReplicationPad3d = EdgePad<3, PadMode::Replicate>;
using CircularPad1d = EdgePad<1, PadMode::Circular>;
using CircularPad2d = EdgePad<2, PadMode::Circular>;
using CircularPad3d = EdgePad<3, PadMode::Circular>;

}  // namespace tenon::nn
