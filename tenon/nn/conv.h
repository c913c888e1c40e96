// Convolution layers over one to three spatial axes. The maths is in ops/convolution.h.
#pragma once

#include "tenon/nn/members.h"
#include "tenon/nn/size.h"
#include "tenon/tensor/variable.h"

namespace tenon::nn {

template <int N>
struct ConvLayerOptions {
  Size<N> stride = 1;
  Size<N> padding = 0;
  Size<N> dilation = 1;
  int64_t groups = 1;
  bool bias = true;
  DType dtype = DType::F32;
};

// weight [out, in / groups, kernel...], bias [out]; [N, in, spatial...] -> [N, out, spatial...]. Both start uniform in
// ±1/sqrt(in / groups * kernel elements), as in PyTorch.
// Errors: ValueError for channels that do not divide into the groups; ShapeError if x does not fit.
template <int N>
class Conv {
 public:
  Conv(int64_t in_channels, int64_t out_channels, Size<N> kernel, ConvLayerOptions<N> options = {});
  [[nodiscard]] Tensor operator()(const Tensor& x) const;

  ConvLayerOptions<N> options;
  Variable weight, bias;
  using Members = nn::Members<&Conv::weight, &Conv::bias>;
};
template <int N>
struct ConvTransposeLayerOptions {
  Size<N> stride = 1;
  Size<N> padding = 0;
  Size<N> output_padding = 0;
  int64_t groups = 1;
  bool bias = true;
  Size<N> dilation = 1;
  DType dtype = DType::F32;
};
// The transpose of a convolution: weight [in, out / groups, kernel...], bias [out]; [N, in, spatial...] -> [N, out,
// spatial...], an axis grows to (extent - 1) * stride - 2 * padding + dilation * (kernel - 1) + 1 + output_padding.
// Both start uniform in ±1/sqrt(out / groups * kernel elements), as in PyTorch. Errors: as Conv.
template <int N>
class ConvTranspose {
 public:
  ConvTranspose(int64_t in_channels, int64_t out_channels, Size<N> kernel, ConvTransposeLayerOptions<N> options = {});
  [[nodiscard]] Tensor operator()(const Tensor& x) const;

  ConvTransposeLayerOptions<N> options;
  Variable weight, bias;
  using Members = nn::Members<&ConvTranspose::weight, &ConvTranspose::bias>;
};
using ConvTranspose1d = ConvTranspose<1>;
using ConvTranspose2d = ConvTranspose<2>;
using ConvTranspose3d = ConvTranspose<3>;
extern template class ConvTranspose<1>;
extern template class ConvTranspose<2>;
extern template class ConvTranspose<3>;

using Conv1d = Conv<1>;
using Conv2d = Conv<2>;
using Conv3d = Conv<3>;

extern template class Conv<1>;
extern template class Conv<2>;
extern template class Conv<3>;

}  // namespace tenon::nn
