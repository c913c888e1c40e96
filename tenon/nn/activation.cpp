#include "tenon/nn/activation.h"

#include <fmt/format.h>

#include "tenon/base/error.h"
#include "tenon/nn/check.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/random.h"
#include "tenon/trace/layer_scope.h"

namespace tenon::nn {

Tensor GLU::operator()(const Tensor& x) const {
  require_rank("GLU", x, 1, 64, "[..., 2 n, ...]");
  const int64_t extent = x.shape(axis);
  if (extent % 2 != 0)
    throw ShapeError({"GLU", "the axis has no two halves", "an even extent", std::to_string(extent), {}});
  return narrow(x, axis, 0, extent / 2) * sigmoid(narrow(x, axis, extent / 2, extent / 2));
}

PReLU::PReLU(int64_t channels, double start, DType dtype) {
  require_at_least("PReLU", "channels", channels, 1);
  weight = Variable(full({channels}, start, dtype));
}
Tensor PReLU::operator()(const Tensor& x) const {
  const trace::LayerScope scope(weight);
  const int64_t channels = weight.shape()[0];
  if (channels == 1) return prelu(x, weight);
  require_extent(layer_label("PReLU", weight), x, 1, channels, fmt::format("[N, {}, ...]", channels));
  Shape shape(static_cast<size_t>(x.ndim()), 1);
  shape[1] = channels;
  return prelu(x, reshape(weight, shape));
}

RReLU::RReLU(double low, double high) : lower(low), upper(high) {
  if (!(lower <= upper))
    throw ValueError({"RReLU",
                      "the slopes' bounds are in the wrong order",
                      "lower <= upper",
                      fmt::format("{} and {}", lower, upper),
                      {}});
}
Tensor RReLU::operator()(const Tensor& x) const {
  if (!mode.training()) return leaky_relu(x, (lower + upper) / 2);
  return where(greater_equal(x, 0), x, x * uniform(x.shape(), lower, upper, x.dtype()));
}

Tensor Unflatten::operator()(const Tensor& x) const {
  require_rank("Unflatten", x, 1, 64, "[..., n, ...]");
  const int64_t at = axis < 0 ? axis + x.ndim() : axis;
  if (at < 0 || at >= x.ndim())
    throw IndexError(
        {"Unflatten", "there is no such axis", fmt::format("below {}", x.ndim()), std::to_string(axis), {}});
  int64_t known = 1;
  for (const int64_t e : extents) known *= e < 0 ? 1 : e;
  Shape shape(x.shape().begin(), x.shape().begin() + at);
  for (const int64_t e : extents) shape.push_back(e < 0 && known > 0 ? x.shape(at) / known : e);
  for (int64_t i = at + 1; i < x.ndim(); ++i) shape.push_back(x.shape(i));
  if (numel(shape) != x.size())
    throw ShapeError(
        {"Unflatten", "the extents do not multiply to the axis", std::to_string(x.shape(at)), to_string(extents), {}});
  return reshape(x, shape);
}

}  // namespace tenon::nn
