#include "tenon/nn/dropout.h"

#include <fmt/format.h>

#include <cmath>

#include "tenon/nn/check.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/random.h"

namespace tenon::nn {
namespace {

// x's shape with the extents from `axis` on replaced by 1.
Shape up_to(const Tensor& x, int64_t axis) {
  Shape shape = x.shape();
  for (auto i = static_cast<size_t>(axis); i < shape.size(); ++i) shape[i] = 1;
  return shape;
}

Tensor alpha_dropout(const Tensor& x, const Shape& mask_shape, double p) {
  if (p == 1) return x * 0;
  constexpr double kLimit = -1.7580993408473766;  // of SELU at minus infinity
  const double scale = 1 / std::sqrt((1 - p) * (1 + p * kLimit * kLimit)), shift = -scale * kLimit * p;
  return where(bernoulli(1 - p, mask_shape), x, kLimit) * scale + shift;
}

}  // namespace

Dropout::Dropout(double probability) : p(probability) { require_probability("Dropout", p); }

Tensor Dropout::operator()(Tensor x) const {
  if (!mode.training() || p == 0) return x;
  return dropout(std::move(x), p);
}

template <int N>
ChannelDropout<N>::ChannelDropout(double probability) : p(probability) {
  require_probability(fmt::format("Dropout{}d", N), p);
}

template <int N>
Tensor ChannelDropout<N>::operator()(const Tensor& x) const {
  require_rank(fmt::format("Dropout{}d", N), x, N + 1, N + 2, "[N, C, spatial...]");
  if (!mode.training() || p == 0) return x;
  return x * dropout(ones(up_to(x, x.ndim() - N), x.dtype()), p);
}

template class ChannelDropout<1>;
template class ChannelDropout<2>;
template class ChannelDropout<3>;

AlphaDropout::AlphaDropout(double probability) : p(probability) { require_probability("AlphaDropout", p); }
Tensor AlphaDropout::operator()(const Tensor& x) const {
  if (!mode.training() || p == 0) return x;
  return alpha_dropout(x, x.shape(), p);
}

FeatureAlphaDropout::FeatureAlphaDropout(double probability) : p(probability) {
  require_probability("FeatureAlphaDropout", p);
}
Tensor FeatureAlphaDropout::operator()(const Tensor& x) const {
  require_rank("FeatureAlphaDropout", x, 2, 64, "[N, C, ...]");
  if (!mode.training() || p == 0) return x;
  return alpha_dropout(x, up_to(x, 2), p);
}

}  // namespace tenon::nn
