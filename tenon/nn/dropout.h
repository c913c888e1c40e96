// Dropout: zeroes elements with probability p while training, and divides the others by 1 - p.
//
// Keys come from the default generator (tenon::manual_seed). Errors: ValueError unless 0 <= p <= 1.
#pragma once

#include "tenon/nn/members.h"
#include "tenon/nn/mode.h"
#include "tenon/tensor/tensor.h"

namespace tenon::nn {

// Srivastava et al., JMLR 15, 2014.
class Dropout {
 public:
  explicit Dropout(double p = 0.5);
  [[nodiscard]] Tensor operator()(Tensor x) const;

  double p;
  Mode mode;
  using Members = nn::Members<&Dropout::mode>;
};

// Whole channels: x is [N, C, spatial...] with N spatial axes, or one example without the batch axis.
template <int N>
class ChannelDropout {
 public:
  explicit ChannelDropout(double p = 0.5);
  [[nodiscard]] Tensor operator()(const Tensor& x) const;

  double p;
  Mode mode;
  using Members = nn::Members<&ChannelDropout::mode>;
};
using Dropout1d = ChannelDropout<1>;
using Dropout2d = ChannelDropout<2>;
using Dropout3d = ChannelDropout<3>;
extern template class ChannelDropout<1>;
extern template class ChannelDropout<2>;
extern template class ChannelDropout<3>;

// Keeps mean and variance of what SELU gives (Klambauer et al., arXiv 1706.02515): dropped elements take SELU's lower
// limit, then all are scaled and shifted.
class AlphaDropout {
 public:
  explicit AlphaDropout(double p = 0.5);
  [[nodiscard]] Tensor operator()(const Tensor& x) const;

  double p;
  Mode mode;
  using Members = nn::Members<&AlphaDropout::mode>;
};
// The same for whole channels of [N, C, ...].
class FeatureAlphaDropout {
 public:
  explicit FeatureAlphaDropout(double p = 0.5);
  [[nodiscard]] Tensor operator()(const Tensor& x) const;

  double p;
  Mode mode;
  using Members = nn::Members<&FeatureAlphaDropout::mode>;
};

}  // namespace tenon::nn
