// Sampling at positions of one's own: x read between its elements (Jaderberg et al., "Spatial transformer networks",
// arXiv 1506.02025).
//
// Positions run from -1 to 1 along each axis, the last axis of x first: (-1, -1) is the upper left corner of an image.
#pragma once

#include "tenon/ops/opdef.h"

namespace tenon {

enum class GridMode : uint8_t { Linear, Nearest, Cubic };
// What stands beyond the ends: zeros, the last element, or the elements mirrored.
enum class GridPadding : uint8_t { Zeros, Border, Reflection };
struct GridSampleOptions {
  GridMode mode = GridMode::Linear;  // Cubic: Keys' convolution with a = -0.75
  GridPadding padding = GridPadding::Zeros;
  bool align_corners = false;  // -1 and 1 are the middles of the corner elements instead of their outer edges
};
// x [N, C, spatial…] with one to three spatial axes, grid [N, out…, axes] -> [N, C, out…]. Both have gradients.
// Errors: ShapeError if the grid does not fit x, or x has nothing to read.
Tensor grid_sample(Tensor x, Tensor grid, const GridSampleOptions& options = {});

// The positions where a picture of `size` [N, C, spatial…] reads after an affine map: theta [N, k, k + 1] has the
// map's matrix and, as its last column, the shift. -> [N, spatial…, k], for grid_sample.
// Errors: ShapeError if theta does not fit the size.
Tensor affine_grid(Tensor theta, const Shape& size, bool align_corners = false);

namespace ops {
const OpDef& grid_sample_op();
const OpDef& affine_grid_op();
std::vector<const OpDef*> grid_sample_ops();
}  // namespace ops

}  // namespace tenon
