// Values and gradients of the ops against PyTorch's (tools/goldens/torch_ops.py). A case that the script gains fails
// here until it has a line.
#include <gtest/gtest.h>

#include <cmath>

#include "tenon/ops/attention.h"
#include "tenon/ops/convolution.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/cumulative.h"
#include "tenon/ops/einsum.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/gather.h"
#include "tenon/ops/linalg.h"
#include "tenon/ops/loss.h"
#include "tenon/ops/matmul.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/normalization.h"
#include "tenon/ops/ordering.h"
#include "tenon/ops/pooling.h"
#include "tenon/ops/reduce.h"
#include "tenon/ops/softmax.h"
#include "tests/support/goldens.h"

using namespace tenon;
using test::Goldens;

namespace {

TEST(Torch, OpsAndTheirGradients) {
  Goldens g(TENON_SOURCE_DIR "/tests/ops/goldens/torch_elementwise.safetensors");
  const auto unary = [&](const char* name, Tensor (*fn)(Tensor)) {
    g.check(name, [fn](const Tensors& x) -> Tensors { return {fn(x[0])}; });
  };
  const auto binary = [&](const char* name, Tensor (*fn)(Tensor, Tensor)) {
    g.check(name, [fn](const Tensors& x) -> Tensors { return {fn(x[0], x[1])}; });
  };
  // One result.
  const auto check = [&](const char* name, const std::function<Tensor(const Tensors&)>& fn, double tolerance = 2e-5) {
    g.check(name, [&fn](const Tensors& x) -> Tensors { return {fn(x)}; }, tolerance);
  };

  unary("abs", abs), unary("square", square), unary("sqrt", sqrt), unary("rsqrt", rsqrt);
  unary("reciprocal", reciprocal), unary("exp", exp), unary("exp2", exp2), unary("expm1", expm1);
  unary("log", log), unary("log2", log2), unary("log10", log10), unary("log1p", log1p);
  unary("sin", sin), unary("cos", cos), unary("tan", tan), unary("asin", asin), unary("acos", acos);
  unary("atan", atan), unary("sinh", sinh), unary("cosh", cosh), unary("tanh", tanh), unary("asinh", asinh);
  unary("acosh", acosh), unary("atanh", atanh), unary("erf", erf), unary("erfc", erfc), unary("erfinv", erfinv);
  unary("lgamma", lgamma), unary("sign", sign), unary("floor", floor), unary("ceil", ceil), unary("round", round);
  unary("trunc", trunc), unary("relu", relu), unary("selu", selu), unary("sigmoid", sigmoid);
  unary("log_sigmoid", log_sigmoid), unary("hard_sigmoid", hard_sigmoid), unary("hard_swish", hard_swish);
  unary("relu6", relu6), unary("silu", silu), unary("mish", mish), unary("softsign", softsign);
  check("leaky_relu", [](const Tensors& x) { return leaky_relu(x[0], 0.1); });
  check("elu", [](const Tensors& x) { return elu(x[0], 0.7); });
  check("celu", [](const Tensors& x) { return celu(x[0], 1.5); });
  check("hard_tanh", [](const Tensors& x) { return hard_tanh(x[0]); });
  check("softplus", [](const Tensors& x) { return softplus(x[0], 2); });
  check("gelu", [](const Tensors& x) { return gelu(x[0]); });
  check("gelu_tanh", [](const Tensors& x) { return gelu(x[0], true); });

  binary("add", add), binary("subtract", subtract), binary("multiply", multiply), binary("divide", divide);
  binary("floor_divide", floor_divide), binary("remainder", remainder), binary("fmod", fmod);
  binary("power", power), binary("maximum", maximum), binary("minimum", minimum), binary("atan2", atan2);
  binary("logaddexp", logaddexp), binary("hypot", hypot), binary("copysign", copysign);
  binary("remainder_integers", remainder), binary("fmod_integers", fmod);
  binary("floor_divide_integers", floor_divide);
  check("lerp", [](const Tensors& x) { return lerp(x[0], x[1], x[2]); });
  check("clamp", [](const Tensors& x) { return clamp(x[0], x[1], x[2]); });
  check("where", [](const Tensors& x) { return where(x[0], x[1], x[2]); });
  check("prelu", [](const Tensors& x) { return prelu(x[0], reshape(x[1], {3, 1})); });
  g.expect_all_checked();
}

TEST(Torch, ReductionsScansAndOrder) {
  Goldens g(TENON_SOURCE_DIR "/tests/ops/goldens/torch_reduce.safetensors");
  const auto check = [&](const char* name, const std::function<Tensor(const Tensor&)>& fn) {
    g.check(name, [&fn](const Tensors& x) -> Tensors { return {fn(x[0])}; });
  };
  check("sum", [](const Tensor& x) { return sum(x, {0, 2}); });
  check("mean", [](const Tensor& x) { return mean(x, {1}, true); });
  check("prod", [](const Tensor& x) { return prod(x, {1}); });
  check("amax", [](const Tensor& x) { return max(x, {1, 2}); });
  check("amin", [](const Tensor& x) { return min(x, {0}); });
  check("var", [](const Tensor& x) { return var(x, {0, 1}); });
  check("std0", [](const Tensor& x) { return tenon::std(x, {2}, true, 0); });
  check("logsumexp", [](const Tensor& x) { return logsumexp(x, {0, 2}); });
  check("norm2", [](const Tensor& x) { return norm(x, 2, {0, 1}); });
  check("norm1", [](const Tensor& x) { return norm(x, 1, {2}); });
  check("norm3", [](const Tensor& x) { return norm(x, 3, {1}); });
  check("norm_inf", [](const Tensor& x) { return norm(x, INFINITY, {2}); });
  check("cumsum", [](const Tensor& x) { return cumsum(x, 1); });
  check("cumprod", [](const Tensor& x) { return cumprod(x, 2); });
  check("cummax", [](const Tensor& x) { return cummax(x, 2).values; });
  check("cummin", [](const Tensor& x) { return cummin(x, 0).values; });
  check("logcumsumexp", [](const Tensor& x) { return logcumsumexp(x, 1); });
  check("argmax", [](const Tensor& x) { return argmax(x, 1); });
  check("argmin", [](const Tensor& x) { return argmin(x, 2, true); });
  check("softmax", [](const Tensor& x) { return softmax(x, 1); });
  check("log_softmax", [](const Tensor& x) { return log_softmax(x, 2); });
  check("median", [](const Tensor& x) { return median(x, 2).values; });
  check("kthlast", [](const Tensor& x) { return select(sort(x, 1).values, 1, -1); });
  g.check("sort", [](const Tensors& x) -> Tensors {
    const auto r = sort(x[0], 2, true);
    return {r.values, r.indices};
  });
  g.check("topk", [](const Tensors& x) -> Tensors {
    const auto r = topk(x[0], 2, 2);
    return {r.values, r.indices};
  });
  g.expect_all_checked();
}

TEST(Torch, MovementAndGathering) {
  Goldens g(TENON_SOURCE_DIR "/tests/ops/goldens/torch_move.safetensors");
  const auto check = [&](const char* name, const std::function<Tensor(const Tensors&)>& fn) {
    g.check(name, [&fn](const Tensors& x) -> Tensors { return {fn(x)}; });
  };
  check("tril", [](const Tensors& x) { return tril(x[0], -1); });
  check("triu", [](const Tensors& x) { return triu(x[0], 1); });
  check("roll", [](const Tensors& x) { return roll(x[0], {1, -2}, {0, 1}); });
  check("flip", [](const Tensors& x) { return flip(x[0], {0, 2}); });
  check("diagonal", [](const Tensors& x) { return diagonal(x[0], 1); });
  check("tile", [](const Tensors& x) { return tile(x[0], {2, 1, 3}); });
  check("repeat_interleave", [](const Tensors& x) { return repeat_interleave(x[0], 3, 1); });
  check("pad_constant", [](const Tensors& x) { return pad(x[0], {0, 0, 0, 1}, {0, 0, 1, 2}, 0.5); });
  const auto padded = [&](const char* name, PadMode mode) {
    check(name, [mode](const Tensors& x) { return pad(x[0], {0, 0, 2, 1}, {0, 0, 1, 2}, mode); });
  };
  padded("pad_reflect", PadMode::Reflect);
  padded("pad_replicate", PadMode::Replicate);
  padded("pad_circular", PadMode::Circular);
  check("take_along_axis", [](const Tensors& x) { return take_along_axis(x[0], x[1], 1); });
  const auto scattered = [&](const char* name, ScatterMode mode) {
    check(name, [mode](const Tensors& x) { return scatter_along_axis(x[0], x[1], x[2], 1, mode); });
  };
  scattered("scatter_set", ScatterMode::Set);
  scattered("scatter_add", ScatterMode::Add);
  scattered("scatter_max", ScatterMode::Max);
  scattered("scatter_min", ScatterMode::Min);
  check("embedding", [](const Tensors& x) { return embedding(x[0], x[1]); });
  check("searchsorted", [](const Tensors& x) { return searchsorted(x[0], x[1]); });
  check("bincount", [](const Tensors& x) { return bincount(x[0], {}, 6); });
  g.expect_all_checked();
}

TEST(Torch, LinearAlgebra) {
  Goldens g(TENON_SOURCE_DIR "/tests/ops/goldens/torch_linalg.safetensors");
  const auto check = [&](const char* name, const std::function<Tensor(const Tensors&)>& fn, double tolerance = 1e-9) {
    g.check(name, [&fn](const Tensors& x) -> Tensors { return {fn(x)}; }, tolerance);
  };
  const auto symmetric = [](const Tensor& a) { return (a + transpose(a)) * 0.5; };
  check("matmul", [](const Tensors& x) { return matmul(x[0], x[1]); }, 2e-5);
  check("matmul_vector", [](const Tensors& x) { return matmul(x[0], x[1]); }, 2e-5);
  check("einsum", [](const Tensors& x) { return einsum("bij,bjk,k->ib", x); }, 2e-5);
  check("einsum_ellipsis", [](const Tensors& x) { return einsum("...ij,...kj->...ik", x); }, 2e-5);
  check("cholesky", [&](const Tensors& x) { return cholesky(symmetric(x[0])); });
  check("solve", [](const Tensors& x) { return solve(x[0], x[1]); });
  check("triangular_solve", [](const Tensors& x) { return triangular_solve(x[0], x[1]); });
  check("inverse", [](const Tensors& x) { return inverse(x[0]); });
  check("det", [](const Tensors& x) { return det(x[0]); });
  g.check("slogdet", [](const Tensors& x) -> Tensors {
    const auto r = slogdet(x[0]);
    return {r.sign, r.log_magnitude};
  });
  check("singular_values", [](const Tensors& x) { return singular_values(x[0]); });
  check("eigenvalues", [&](const Tensors& x) { return eigh(symmetric(x[0])).values; });
  check("pinv", [](const Tensors& x) { return pinv(x[0]); });
  check("kron", [](const Tensors& x) { return kron(x[0], x[1]); }, 2e-5);
  check("outer", [](const Tensors& x) { return outer(x[0], x[1]); }, 2e-5);
  g.expect_all_checked();
}

TEST(Torch, ConvolutionAndPooling) {
  Goldens g(TENON_SOURCE_DIR "/tests/ops/goldens/torch_conv.safetensors");
  const auto check = [&](const char* name, const std::function<Tensor(const Tensors&)>& fn) {
    g.check(name, [&fn](const Tensors& x) -> Tensors { return {fn(x)}; });
  };
  check("conv1d", [](const Tensors& x) { return conv1d(x[0], x[1], x[2], {.stride = {2}, .padding = {1}}); });
  check("conv2d", [](const Tensors& x) {
    return conv2d(x[0], x[1], x[2], {.stride = {2, 1}, .padding = {1, 2}, .dilation = {1, 2}, .groups = 2});
  });
  check("conv2d_depthwise", [](const Tensors& x) { return conv2d(x[0], x[1], {}, {.groups = 3, .same = true}); });
  check("conv3d", [](const Tensors& x) { return conv3d(x[0], x[1], x[2], {.padding = {1}}); });
  check("conv_transpose1d", [](const Tensors& x) {
    return conv_transpose1d(x[0], x[1], x[2], {.stride = {2}, .padding = {1}, .output_padding = {1}});
  });
  check("conv_transpose2d", [](const Tensors& x) {
    return conv_transpose2d(x[0], x[1], x[2], {.stride = {2}, .padding = {1}, .dilation = {1, 2}, .groups = 2});
  });
  check("conv_transpose3d", [](const Tensors& x) { return conv_transpose3d(x[0], x[1], {}, {.stride = {1, 2, 1}}); });
  check("max_pool2d", [](const Tensors& x) { return max_pool2d(x[0], {3}, {.stride = {2}, .padding = {1}}); });
  check("max_pool1d_ceil", [](const Tensors& x) { return max_pool1d(x[0], {3}, {.stride = {2}, .ceil_mode = true}); });
  check("max_pool3d", [](const Tensors& x) { return max_pool3d(x[0], {2}); });
  check("avg_pool2d", [](const Tensors& x) { return avg_pool2d(x[0], {3, 2}, {.stride = {2}, .padding = {1, 0}}); });
  check("avg_pool2d_exclude", [](const Tensors& x) {
    return avg_pool2d(x[0], {3}, {.stride = {2}, .padding = {1}, .ceil_mode = true, .count_include_pad = false});
  });
  check("avg_pool1d", [](const Tensors& x) { return avg_pool1d(x[0], {3}, {.stride = {2}}); });
  check("lp_pool2d", [](const Tensors& x) { return lp_pool2d(x[0], 2, {2}); });
  check("adaptive_avg_pool2d", [](const Tensors& x) { return adaptive_avg_pool2d(x[0], {3, 2}); });
  check("adaptive_max_pool2d", [](const Tensors& x) { return adaptive_max_pool2d(x[0], {3, 2}); });
  g.expect_all_checked();
}

TEST(Torch, NormalisationAttentionAndLosses) {
  Goldens g(TENON_SOURCE_DIR "/tests/ops/goldens/torch_network.safetensors");
  const auto check = [&](const char* name, const std::function<Tensor(const Tensors&)>& fn) {
    g.check(name, [&fn](const Tensors& x) -> Tensors { return {fn(x)}; });
  };
  check("layer_norm", [](const Tensors& x) { return layer_norm(x[0], x[1], x[2]); });
  check("rms_norm", [](const Tensors& x) { return rms_norm(x[0], x[1], 1e-6); });
  check("group_norm", [](const Tensors& x) { return group_norm(x[0], 2, x[1], x[2]); });
  check("instance_norm", [](const Tensors& x) { return instance_norm(x[0], x[1], x[2]); });
  check("batch_norm_train", [](const Tensors& x) { return batch_norm_train(x[0], x[1], x[2]).y; });
  check("batch_norm_infer", [](const Tensors& x) { return batch_norm_infer(x[0], x[1], x[2], x[3], x[4]); });
  const auto attend = [](const Tensors& x) { return scaled_dot_product_attention(x[0], x[1], x[2]); };
  check("attention", attend);
  check("attention_groups", attend);
  check("attention_causal",
        [](const Tensors& x) { return scaled_dot_product_attention(x[0], x[1], x[2], {}, {.causal = true}); });
  check("attention_mask",
        [](const Tensors& x) { return scaled_dot_product_attention(x[0], x[1], x[2], x[3], {.scale = 0.4}); });
  check("cross_entropy", [](const Tensors& x) { return cross_entropy(x[0], x[1], {.label_smoothing = 0.1}); });
  check("cross_entropy_none",
        [](const Tensors& x) { return cross_entropy(x[0], x[1], {.reduction = LossReduction::None}); });
  check("cross_entropy_probabilities", [](const Tensors& x) { return cross_entropy_probabilities(x[0], x[1]); });
  check("nll_loss", [](const Tensors& x) { return nll_loss(x[0], x[1]); });
  check("mse_loss", [](const Tensors& x) { return mse_loss(x[0], x[1]); });
  check("l1_loss", [](const Tensors& x) { return l1_loss(x[0], x[1]); });
  check("huber_loss", [](const Tensors& x) { return huber_loss(x[0], x[1], 0.7); });
  check("smooth_l1_loss", [](const Tensors& x) { return smooth_l1_loss(x[0], x[1], 0.5); });
  check("bce_with_logits", [](const Tensors& x) { return bce_with_logits(x[0], x[1], LossReduction::Mean, x[2]); });
  check("kl_div", [](const Tensors& x) { return kl_div(x[0], x[1], false, LossReduction::Sum); });
  check("cosine_embedding_loss", [](const Tensors& x) { return cosine_embedding_loss(x[0], x[1], x[2], 0.1); });
  check("cosine_similarity", [](const Tensors& x) { return cosine_similarity(x[0], x[1]); });
  check("triplet_margin_loss", [](const Tensors& x) { return triplet_margin_loss(x[0], x[1], x[2]); });
  g.expect_all_checked();
}

}  // namespace
