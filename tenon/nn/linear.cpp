#include "tenon/nn/linear.h"

#include <fmt/format.h>

#include <cmath>

#include "tenon/nn/check.h"
#include "tenon/nn/init.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/matmul.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/reduce.h"
#include "tenon/trace/layer_scope.h"

namespace tenon::nn {

Linear::Linear(int64_t in_features, int64_t out_features, LinearOptions options) {
  require_at_least("Linear", "in_features", in_features, 1);
  require_at_least("Linear", "out_features", out_features, 1);
  const double bound = 1.0 / std::sqrt(static_cast<double>(in_features));
  weight = Variable(init::uniform({out_features, in_features}, -bound, bound, options.dtype));
  if (options.bias) bias = Variable(init::uniform({out_features}, -bound, bound, options.dtype));
}

Tensor Linear::operator()(const Tensor& x) const {
  const trace::LayerScope scope(weight);
  const int64_t in = weight.shape()[1];
  // The texts of the message are made only for a message: this is a hot call of small models.
  if (x.ndim() == 0 || x.shape().back() != in)
    require_extent(layer_label("Linear", weight), x, -1, in, fmt::format("[..., {}]", in));
  Tensor y = matmul(x, transpose(weight));
  // In an Autocast scope the product is short: the sum is of the product's dtype, as in a product with bias.
  if (!bias.defined()) return y;
  const Tensor shift = cast(bias, y.dtype());
  return std::move(y) + shift;
}

Bilinear::Bilinear(int64_t in1_features, int64_t in2_features, int64_t out_features, LinearOptions options) {
  require_at_least("Bilinear", "in1_features", in1_features, 1);
  require_at_least("Bilinear", "in2_features", in2_features, 1);
  require_at_least("Bilinear", "out_features", out_features, 1);
  const double bound = 1.0 / std::sqrt(static_cast<double>(in1_features));
  weight = Variable(init::uniform({out_features, in1_features, in2_features}, -bound, bound, options.dtype));
  if (options.bias) bias = Variable(init::uniform({out_features}, -bound, bound, options.dtype));
}

Tensor Bilinear::operator()(const Tensor& x1, const Tensor& x2) const {
  const trace::LayerScope scope(weight);
  const std::string label = layer_label("Bilinear", weight);
  const int64_t out = weight.shape()[0], in1 = weight.shape()[1], in2 = weight.shape()[2];
  require_extent(label, x1, -1, in1, fmt::format("[..., {}]", in1));
  require_extent(label, x2, -1, in2, fmt::format("[..., {}]", in2));
  Shape shape = x1.shape();
  shape.back() = out;
  const Tensor rows = reshape(x1, {-1, in1});                                             // [n, in1]
  const Tensor mixed = matmul(unsqueeze(rows, {0}), weight);                              // [out, n, in2]
  Tensor y = transpose(sum(mixed * unsqueeze(reshape(x2, {-1, in2}), {0}), {-1}), 0, 1);  // [n, out]
  if (bias.defined()) y = std::move(y) + bias;
  return reshape(std::move(y), shape);
}

}  // namespace tenon::nn
