// Losses. `reduction` says what becomes of the losses of single examples.
//
// Each is an op that gives the losses one by one and a function that reduces them. Definitions: loss.cpp (classes),
// loss_elementwise.cpp, loss_rows.cpp (distances and margins), ctc.cpp. Errors: ShapeError if input and target do not
// fit; ValueError for options out of range; IndexError for a target that is no class.
#pragma once

#include "tenon/ops/opdef.h"

namespace tenon {

// BatchMean: the sum divided by the first extent.
enum class LossReduction : uint8_t { Mean, Sum, None, BatchMean };

// ---- classes ----
struct CrossEntropyOptions {
  double label_smoothing = 0;   // share of the target spread evenly over all classes (Szegedy et al., arXiv 1512.00567)
  int64_t ignore_index = -100;  // targets that count for nothing, also not in the mean
  LossReduction reduction = LossReduction::Mean;
  Tensor weight = {};  // [C]: of each class; the mean divides by the weights of the targets
};
// -log softmax(logits)[target]: logits [N, C] or [N, C, …] with integer targets [N] or [N, …].
// Errors: IndexError for a target that is no class; ShapeError if the shapes do not fit.
Tensor cross_entropy(Tensor logits, Tensor target, CrossEntropyOptions options = {});
// The same for target probabilities of the logits' shape.
Tensor cross_entropy_probabilities(Tensor logits, Tensor target, double label_smoothing = 0,
                                   LossReduction reduction = LossReduction::Mean);
// -log_probabilities[target], shapes as for cross_entropy.
Tensor nll_loss(Tensor log_probabilities, Tensor target, int64_t ignore_index = -100,
                LossReduction reduction = LossReduction::Mean, const Tensor& weight = {});

// ---- element by element: input and target have one shape ----
Tensor mse_loss(Tensor input, Tensor target, LossReduction reduction = LossReduction::Mean);
Tensor l1_loss(Tensor input, Tensor target, LossReduction reduction = LossReduction::Mean);
// d^2/2 where |d| <= delta, delta (|d| - delta/2) beyond (Huber 1964).
Tensor huber_loss(Tensor input, Tensor target, double delta = 1, LossReduction reduction = LossReduction::Mean);
// huber_loss / beta: 0.5 d^2 / beta where |d| < beta.
Tensor smooth_l1_loss(Tensor input, Tensor target, double beta = 1, LossReduction reduction = LossReduction::Mean);
// -(y log x + (1 - y) log(1 - x)) of a probability x; logarithms count as at least -100.
Tensor binary_cross_entropy(Tensor input, Tensor target, LossReduction reduction = LossReduction::Mean,
                            const Tensor& weight = {});
// -(p y log sigmoid(x) + (1 - y) log(1 - sigmoid(x))), without overflow; p is `positive_weight` (undefined: 1).
Tensor bce_with_logits(Tensor logits, Tensor target, LossReduction reduction = LossReduction::Mean,
                       Tensor positive_weight = {}, const Tensor& weight = {});
// target * (log target - input), input being log probabilities; with `log_target` the target is too. The mean is over
// elements; BatchMean is the divergence's mean over the batch.
Tensor kl_div(Tensor input, Tensor target, bool log_target = false, LossReduction reduction = LossReduction::Mean);
// log(1 + exp(-y x)) for targets y of 1 and -1.
Tensor soft_margin_loss(Tensor input, Tensor target, LossReduction reduction = LossReduction::Mean);
// x for target 1, max(0, margin - x) for target -1.
Tensor hinge_embedding_loss(Tensor input, Tensor target, double margin = 1,
                            LossReduction reduction = LossReduction::Mean);
// max(0, margin - y (x1 - x2)): target 1 if x1 should be the larger one, -1 if x2.
Tensor margin_ranking_loss(Tensor x1, Tensor x2, Tensor target, double margin = 0,
                           LossReduction reduction = LossReduction::Mean);
struct PoissonNLLOptions {
  bool log_input = true;  // the input is the logarithm of the rate
  bool full = false;      // add Stirling's approximation of log(target!)
  double epsilon = 1e-8;  // keeps the logarithm of a rate finite
  LossReduction reduction = LossReduction::Mean;
};
Tensor poisson_nll_loss(Tensor input, Tensor target, const PoissonNLLOptions& options = {});
struct GaussianNLLOptions {
  bool full = false;      // add log(2 pi) / 2
  double epsilon = 1e-6;  // least variance
  LossReduction reduction = LossReduction::Mean;
};
// (log v + (x - y)^2 / v) / 2; the variance broadcasts.
Tensor gaussian_nll_loss(Tensor input, Tensor target, Tensor variance, const GaussianNLLOptions& options = {});
// bce_with_logits * (1 - p)^gamma, weighted alpha for positive and 1 - alpha for negative targets, not at all for a
// negative alpha (Lin et al., arXiv 1708.02002).
Tensor focal_loss(Tensor logits, Tensor target, double alpha = 0.25, double gamma = 2,
                  LossReduction reduction = LossReduction::Mean);

// ---- rows ----
// The cosine of the angle between vectors along an axis; lengths count as at least epsilon.
Tensor cosine_similarity(Tensor a, Tensor b, int64_t axis = -1, double epsilon = 1e-8);
// |a - b + epsilon| along the last axis.
Tensor pairwise_distance(Tensor a, Tensor b, double p = 2, double epsilon = 1e-6, bool keepdims = false);
// 1 - cos(a, b) for label 1, max(0, cos(a, b) - margin) for label -1; along the last axis.
Tensor cosine_embedding_loss(Tensor a, Tensor b, Tensor label, double margin = 0,
                             LossReduction reduction = LossReduction::Mean);
// max(0, |anchor - positive| - |anchor - negative| + margin) along the last axis. With `swap` the negative is measured
// from the positive if that is nearer (Balntas et al., 2016).
Tensor triplet_margin_loss(Tensor anchor, Tensor positive, Tensor negative, double margin = 1, double p = 2,
                           LossReduction reduction = LossReduction::Mean, bool swap = false);
// sum over the other classes of max(0, margin - x[target] + x[i])^p / C: input [N, C] or [C], p 1 or 2.
Tensor multi_margin_loss(Tensor input, Tensor target, int64_t p = 1, double margin = 1, const Tensor& weight = {},
                         LossReduction reduction = LossReduction::Mean);
// The same for several classes: each row of targets lists classes, then -1. Pairs of a target and another class.
Tensor multilabel_margin_loss(Tensor input, Tensor target, LossReduction reduction = LossReduction::Mean);
// The mean of bce_with_logits over the classes (last axis).
Tensor multilabel_soft_margin_loss(Tensor input, Tensor target, const Tensor& weight = {},
                                   LossReduction reduction = LossReduction::Mean);

// ---- sequences ----
struct CTCOptions {
  int64_t blank = 0;                              // the class that stands for no label
  bool zero_infinity = false;                     // a target that is too long for its input costs 0 instead of infinity
  LossReduction reduction = LossReduction::Mean;  // Mean divides each loss by its target's length first
};
// Connectionist temporal classification (Graves et al., 2006): -log of the probability that a path through
// log_probabilities [T, N, C] (log-softmax over classes; or [T, C]) spells the target when repeats and then blanks are
// dropped. targets [N, S], or all of them one after another; lengths are integers [N].
Tensor ctc_loss(const Tensor& log_probabilities, const Tensor& targets, const Tensor& input_lengths,
                const Tensor& target_lengths, const CTCOptions& options = {});

namespace ops {
// Inputs logits [N, C], target [N]; attributes ignore_index, label_smoothing. Result: losses [N].
const OpDef& cross_entropy_op();
// Inputs ct [N], logits, target. Result: cotangent of the logits.
const OpDef& cross_entropy_grad_op();
// Inputs log_probabilities [N, C], target [N], weight [C] (optional); attribute ignore_index. Result: losses [N].
const OpDef& nll_loss_op();
// Inputs log_probabilities [T, N, C], targets [N, S], input_lengths [N], target_lengths [N]; attributes blank,
// zero_infinity. Result: losses [N].
const OpDef& ctc_loss_op();
std::vector<const OpDef*> elementwise_loss_ops();
std::vector<const OpDef*> row_loss_ops();
std::vector<const OpDef*> loss_ops();  // all of them
}  // namespace ops

}  // namespace tenon
