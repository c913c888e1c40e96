// Interpolation: x resampled to other spatial extents.
//
// Separable: one axis after another, each new element a weighted sum of a few old ones. Formats that know more of an
// axis than PyTorch does (ONNX Resize) call interpolate_axis.
#pragma once

#include <optional>
#include <vector>

#include "tenon/ops/opdef.h"

namespace tenon {

enum class InterpolateMode : uint8_t {
  Nearest,       // element floor(o * in / out): PyTorch's "nearest", which leans to the low end
  NearestExact,  // the element whose middle is nearest
  Linear,        // (bi-, tri-)linear
  Cubic,         // Keys' cubic convolution with a = -0.75, as in PyTorch; -0.5 with `antialias`, as in Pillow
  Area,          // the mean of the elements from floor(o * in / out) to ceil((o + 1) * in / out): adaptive pooling
};
struct InterpolateOptions {
  Ints size{};                  // extents of the result's spatial axes, or
  std::vector<double> scale{};  // what they are multiplied by (rounded down). One number for all axes, or one for each
  InterpolateMode mode = InterpolateMode::Nearest;
  bool align_corners = false;  // linear and cubic: the middles of the corner elements fall together, not their edges
  bool antialias = false;      // linear and cubic: where the result is smaller, the filter covers what an element
                               // of it stands for
};
// x [N, C, spatial…] -> [N, C, size…]. Positions are computed with `scale` where it is given, with the ratio of the
// extents otherwise. Integers are rounded to nearest.
// Errors: ShapeError without a spatial axis, or from an empty one; ValueError for sizes and options that do not fit.
Tensor interpolate(Tensor x, const InterpolateOptions& options);

// One axis of it. New element o stands at position o * step + start of the old ones.
struct AxisInterpolation {
  enum class Method : uint8_t { Nearest, Linear, Cubic, Area };
  enum class Rounding : uint8_t { Floor, Ceil, HalfDown, HalfUp };  // HalfDown: to nearest, 0.5 to 0
  int64_t extent = 1;
  Method method = Method::Linear;
  double step = 1, start = 0;
  Rounding rounding = Rounding::Floor;  // of positions, for Nearest
  double cubic_coefficient = -0.75;
  double stretch = 1;            // of the filter: 1 / scale against aliases
  bool exclude_outside = false;  // beyond the ends there is nothing; otherwise the end is repeated
};
Tensor interpolate_axis(Tensor x, int64_t axis, const AxisInterpolation& how);

namespace ops {
const OpDef& interpolate_op();
// Which elements along the axis the result of a call of interpolate_op() consists of, for method nearest; else nothing.
std::optional<std::vector<int64_t>> interpolate_positions(int64_t extent, const ir::Attrs& attrs);
// What they are made of where few elements are weighted (linear, cubic): element o is, added up in this order, that at
// positions[k * out + o] times weights[k * out + o], k below `count`.
struct InterpolationTerms {
  size_t count = 0;  // at most 4
  std::vector<int64_t> positions;
  std::vector<double> weights;
};
std::optional<InterpolationTerms> interpolate_terms(int64_t extent, const ir::Attrs& attrs);
// Whether interpolate_terms() answers, whatever the extent.
bool interpolates_by_few_terms(const ir::Attrs& attrs);
std::vector<const OpDef*> interpolate_ops();
}  // namespace ops

}  // namespace tenon
