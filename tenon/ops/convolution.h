// Convolution (cross-correlation, as everywhere in deep learning) over one to three spatial axes.
//
// x is [N, C, spatial…] (or one example [C, spatial…]), weight [O, C / groups, window…], bias [O]. Sums accumulate in
// f32 for f16 and bf16. An option list has one number for all spatial axes or one for each.
// Errors: ShapeError if channels do not fit or the window is larger than the padded input; ValueError for options.
#pragma once

#include "tenon/ops/opdef.h"

namespace tenon {

struct ConvOptions {
  Ints stride{1};
  Ints padding{0};      // zeros at the low end of each axis, and at the high end
  Ints padding_high{};  // the high end, where it differs
  Ints dilation{1};
  int64_t groups = 1;  // input and output channels fall into so many groups that do not meet
  bool same = false;   // instead of padding: what gives ceil(extent / stride) positions, an odd one at the high end
};
Tensor conv1d(Tensor x, Tensor weight, Tensor bias = {}, const ConvOptions& options = {});
Tensor conv2d(Tensor x, Tensor weight, Tensor bias = {}, const ConvOptions& options = {});
Tensor conv3d(Tensor x, Tensor weight, Tensor bias = {}, const ConvOptions& options = {});

// The convolution of i8 or u8, each of the two with or without a sign, over as many spatial axes as the weight has:
// the sums of (x - x_zero) (weight - weight_zero) in i32 modulo 2^32, so the padding adds nothing (ONNX's ConvInteger).
// Zero points may be absent and have the dtype of what they are taken from: x_zero is one number, weight_zero one or
// one for each output channel. No gradient. Errors: DTypeError for other dtypes, else as conv2d.
struct ZeroPoints {
  Tensor x{}, weight{};
};
Tensor convolution_integer(Tensor x, Tensor weight, const ZeroPoints& zeros = {}, const ConvOptions& options = {});

// The transpose (gradient) of a convolution with these options: weight is [C, O / groups, window…], an axis grows to
// (extent - 1) * stride - 2 * padding + dilation * (window - 1) + 1 + output_padding.
struct ConvTransposeOptions {
  Ints stride{1};
  Ints padding{0};
  Ints padding_high{};
  Ints output_padding{0};  // less than the stride: which of the sizes that a convolution would bring to x's
  Ints dilation{1};
  int64_t groups = 1;
};
Tensor conv_transpose1d(Tensor x, Tensor weight, Tensor bias = {}, const ConvTransposeOptions& options = {});
Tensor conv_transpose2d(Tensor x, Tensor weight, Tensor bias = {}, const ConvTransposeOptions& options = {});
Tensor conv_transpose3d(Tensor x, Tensor weight, Tensor bias = {}, const ConvTransposeOptions& options = {});

namespace ops {
// Attributes of all: strides, padding_low, padding_high, dilations, groups.
const OpDef& conv_op();                  // x, weight, bias (optional)
const OpDef& conv_input_gradient_op();   // ct [N, O, …], weight; attribute 5: the spatial extents of x
const OpDef& conv_weight_gradient_op();  // x, ct; attribute 5: the window's extents
const OpDef& convolution_integer_op();   // x, weight, x_zero (optional), weight_zero (optional)
std::vector<const OpDef*> convolution_ops();
}  // namespace ops

}  // namespace tenon
