// Losses. `reduction` says what becomes of the losses of single examples.
#pragma once

#include "tenon/ops/opdef.h"

namespace tenon {

enum class LossReduction : uint8_t { Mean, Sum, None };

struct CrossEntropyOptions {
  double label_smoothing = 0;   // share of the target spread evenly over all classes (Szegedy et al., arXiv 1512.00567)
  int64_t ignore_index = -100;  // targets that count for nothing, also not in the mean
  LossReduction reduction = LossReduction::Mean;
};
// -log softmax(logits)[target]: logits [N, C] or [N, C, …] with integer targets [N] or [N, …].
// Errors: IndexError for a target that is no class; ShapeError if the shapes do not fit.
Tensor cross_entropy(Tensor logits, Tensor target, CrossEntropyOptions options = {});
// The same for target probabilities of the logits' shape.
Tensor cross_entropy_probabilities(Tensor logits, Tensor target, double label_smoothing = 0,
                                   LossReduction reduction = LossReduction::Mean);
// -log_probabilities[target].
Tensor nll_loss(Tensor log_probabilities, Tensor target, int64_t ignore_index = -100,
                LossReduction reduction = LossReduction::Mean);

Tensor mse_loss(Tensor input, Tensor target, LossReduction reduction = LossReduction::Mean);
Tensor l1_loss(Tensor input, Tensor target, LossReduction reduction = LossReduction::Mean);
// d^2/2 where |d| <= delta, delta (|d| - delta/2) beyond (Huber 1964).
Tensor huber_loss(Tensor input, Tensor target, double delta = 1, LossReduction reduction = LossReduction::Mean);
// huber_loss / beta: 0.5 d^2 / beta where |d| < beta.
Tensor smooth_l1_loss(Tensor input, Tensor target, double beta = 1, LossReduction reduction = LossReduction::Mean);
// -(p y log sigmoid(x) + (1 - y) log(1 - sigmoid(x))), without overflow; p is `positive_weight` (undefined: 1).
Tensor bce_with_logits(Tensor logits, Tensor target, LossReduction reduction = LossReduction::Mean,
                       Tensor positive_weight = {});
// sum target * (log target - input), input being log probabilities; with `log_target` the target is too. The mean is
// over elements; kl_div(…, None) summed and divided by the batch is the divergence's mean.
Tensor kl_div(Tensor input, Tensor target, bool log_target = false, LossReduction reduction = LossReduction::Mean);
// 1 - cos(a, b) for label 1, max(0, cos(a, b) - margin) for label -1; along the last axis.
Tensor cosine_embedding_loss(Tensor a, Tensor b, Tensor label, double margin = 0,
                             LossReduction reduction = LossReduction::Mean);
Tensor cosine_similarity(Tensor a, Tensor b, int64_t axis = -1, double epsilon = 1e-8);
// max(0, |anchor - positive| - |anchor - negative| + margin) along the last axis.
Tensor triplet_margin_loss(Tensor anchor, Tensor positive, Tensor negative, double margin = 1, double p = 2,
                           LossReduction reduction = LossReduction::Mean);

namespace ops {
// Inputs logits [N, C], target [N]; attributes ignore_index, label_smoothing. Result: losses [N].
const OpDef& cross_entropy_op();
// Inputs ct [N], logits, target. Result: cotangent of the logits.
const OpDef& cross_entropy_grad_op();
std::vector<const OpDef*> loss_ops();
}  // namespace ops

}  // namespace tenon
