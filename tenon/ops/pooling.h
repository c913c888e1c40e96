// Pooling: one number for each window of x [N, C, spatial…] (or of one example [C, spatial…]).
//
// An option list has one number for all spatial axes or one for each. With `ceil_mode` a last window may hang over the
// end. Errors: ShapeError if no window fits, ValueError if a window would lie wholly in the padding.
#pragma once

#include "tenon/ops/opdef.h"

namespace tenon {

struct MaxPoolOptions {
  Ints stride{};  // empty: the window, so that windows do not overlap
  Ints padding{0};
  Ints padding_high{};  // where the high end differs
  Ints dilation{1};
  bool ceil_mode = false;
};
// The largest element of each window; NaN wins. The gradient goes to the first of several equal ones.
Tensor max_pool1d(Tensor x, const Ints& window, const MaxPoolOptions& options = {});
Tensor max_pool2d(Tensor x, const Ints& window, const MaxPoolOptions& options = {});
Tensor max_pool3d(Tensor x, const Ints& window, const MaxPoolOptions& options = {});
// Also where it stands: its row-major position (i32) in the spatial extents of its channel. `window` names every axis.
struct MaxPoolResult {
  Tensor values, indices;
};
MaxPoolResult max_pool_with_indices(Tensor x, const Ints& window, const MaxPoolOptions& options = {});

// The way back: each element of x [N, C, spatial…] at its position in a map of zeros, as max_pool_with_indices gave it;
// of several elements at one place the last. `window` names every axis; N may be left out. Errors: IndexError for a
// position outside of the map.
struct MaxUnpoolOptions {
  Ints stride{};  // empty: the window
  Ints padding{0};
  Ints extents{};  // of the map; empty: (extent - 1) * stride - 2 * padding + window
};
Tensor max_unpool(Tensor x, Tensor indices, const Ints& window, const MaxUnpoolOptions& options = {});

struct AveragePoolOptions {
  Ints stride{};
  Ints padding{0};
  Ints padding_high{};
  bool ceil_mode = false;
  bool count_include_pad = true;  // zeros of the padding count as elements
};
Tensor avg_pool1d(Tensor x, const Ints& window, const AveragePoolOptions& options = {});
Tensor avg_pool2d(Tensor x, const Ints& window, const AveragePoolOptions& options = {});
Tensor avg_pool3d(Tensor x, const Ints& window, const AveragePoolOptions& options = {});

// (sum over the window of |x|^p)^(1/p)
struct LpPoolOptions {
  Ints stride{};
  bool ceil_mode = false;
};
Tensor lp_pool1d(Tensor x, double p, const Ints& window, const LpPoolOptions& options = {});
Tensor lp_pool2d(Tensor x, double p, const Ints& window, const LpPoolOptions& options = {});
Tensor lp_pool3d(Tensor x, double p, const Ints& window, const LpPoolOptions& options = {});

// Windows chosen so that the result has these extents (-1 keeps one): window i of an axis is floor(i * in / out) to
// ceil((i + 1) * in / out).
Tensor adaptive_avg_pool1d(Tensor x, const Ints& extents);
Tensor adaptive_avg_pool2d(Tensor x, const Ints& extents);
Tensor adaptive_avg_pool3d(Tensor x, const Ints& extents);
Tensor adaptive_max_pool1d(Tensor x, const Ints& extents);
Tensor adaptive_max_pool2d(Tensor x, const Ints& extents);
Tensor adaptive_max_pool3d(Tensor x, const Ints& extents);

// Over all spatial axes of x [N, C, spatial…]; they stay with extent 1.
Tensor global_avg_pool(Tensor x);
Tensor global_max_pool(Tensor x);

namespace ops {
// x; attributes window, strides, padding_low, padding_high, dilations, ceil_mode. Results: values and indices (i32).
const OpDef& max_pool_op();
// x, indices; attribute 0: the spatial extents of the result.
const OpDef& max_unpool_op();
// x; attributes window, strides, padding_low, padding_high, ceil_mode, count_include_pad.
const OpDef& average_pool_op();
// ct; the same and attribute 6: the spatial extents of x.
const OpDef& average_pool_gradient_op();
std::vector<const OpDef*> pooling_ops();
}  // namespace ops

}  // namespace tenon
