// Normalisation: subtract the mean, divide by the standard deviation, scale and shift.
//
// All of these are one op, `normalize`, over different axes.
#pragma once

#include "tenon/ops/opdef.h"

namespace tenon {

// Over the last axes, those of `weight`'s shape, or the last one (Ba et al., arXiv 1607.06450).
Tensor layer_norm(Tensor x, Tensor weight = {}, Tensor bias = {}, double epsilon = 1e-5);
// x / sqrt(mean(x^2)) over the last axis (Zhang and Sennrich, arXiv 1910.07467).
Tensor rms_norm(Tensor x, Tensor weight = {}, double epsilon = 1e-6);
// x is [N, C, …]: over each of `groups` groups of channels of each example (Wu and He, arXiv 1803.08494); weight and
// bias are [C].
Tensor group_norm(Tensor x, int64_t groups, Tensor weight = {}, Tensor bias = {}, double epsilon = 1e-5);
Tensor instance_norm(Tensor x, Tensor weight = {}, Tensor bias = {}, double epsilon = 1e-5);

// Batch normalisation of x [N, C, …] over everything but the channels, by the statistics of this batch (Ioffe and
// Szegedy, arXiv 1502.03167). mean and variance (biased, [C]) carry no gradient: they feed running averages. Of an x of
// bf16 or f16, y is too, whatever the parameters and statistics are: they are applied in f32 and rounded once.
struct BatchNormResult {
  Tensor y, mean, variance;
};
BatchNormResult batch_norm_train(Tensor x, Tensor weight, Tensor bias, double epsilon = 1e-5);
// By given statistics.
Tensor batch_norm_infer(Tensor x, Tensor mean, Tensor variance, Tensor weight, Tensor bias, double epsilon = 1e-5);

namespace ops {
// Inputs x, weight, bias (optional, broadcastable to x); attributes axes, epsilon, center. Results y, mean, rstd
// (reduced axes with extent 1).
const OpDef& normalize_op();
// Inputs ct, x, mean, rstd, weight (optional). Results: cotangents of x, weight and bias.
const OpDef& normalize_grad_op();
std::vector<const OpDef*> normalization_ops();
}  // namespace ops

}  // namespace tenon
