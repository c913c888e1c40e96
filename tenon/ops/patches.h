// Patches of feature maps: windows laid out as columns and added up again, and elements moved between channels and
// space. With PyTorch's orders of channels.
#pragma once

#include "tenon/ops/opdef.h"

namespace tenon {

// An option has one number for all spatial axes or one for each.
struct UnfoldOptions {
  Ints stride{1};
  Ints padding{0};      // zeros at the low end of each axis, and at the high end
  Ints padding_high{};  // the high end, where it differs
  Ints dilation{1};
};
// Every window of x [N, C, spatial…] as a column (im2col): [N, C * elements of the window, windows]. `window` names
// every spatial axis; N may be left out. Errors: ShapeError if no window fits; ValueError for options.
Tensor unfold(Tensor x, const Ints& window, const UnfoldOptions& options = {});
// The transpose (col2im): columns [N, C * elements of the window, windows] added up into [N, C, extents…]; where
// windows overlap, elements add up. Errors: ShapeError if the columns do not fit the windows.
Tensor fold(Tensor x, const Ints& extents, const Ints& window, const UnfoldOptions& options = {});

// Windows of one axis: element j of window i, x[…, i * step + j, …], stands at […, i, …, j]. Shares x's buffer.
// Errors: ShapeError if the axis is shorter than a window; ValueError for a size or step below 1.
Tensor sliding_window(Tensor x, int64_t axis, int64_t size, int64_t step = 1);

// [..., C * factor * factor, H, W] -> [..., C, H * factor, W * factor] (Shi et al., arXiv 1609.05158), and back.
// Errors: ShapeError if the channels, or the extents, do not divide.
Tensor pixel_shuffle(Tensor x, int64_t factor);
Tensor pixel_unshuffle(Tensor x, int64_t factor);
// x [N, C, …] with channel i of group g in place of channel g of group i (Zhang et al., arXiv 1707.01083).
// Errors: ShapeError if the channels do not divide into the groups.
Tensor channel_shuffle(Tensor x, int64_t groups);

namespace ops {
const OpDef& sliding_window_op();
const OpDef& unfold_op();
const OpDef& fold_op();
std::vector<const OpDef*> patch_ops();
}  // namespace ops

}  // namespace tenon
