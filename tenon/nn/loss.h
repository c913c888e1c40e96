// Losses as callable structs: options inside, called with (prediction, target). The maths is in ops/loss.h.
#pragma once

#include "tenon/ops/loss.h"

namespace tenon::nn {

// clang-format off
// Logits [N, C, ...] and class numbers [N, ...].
struct CrossEntropyLoss {
  double label_smoothing = 0;
  int64_t ignore_index = -100;
  LossReduction reduction = LossReduction::Mean;
  Tensor weight = {};  // of each class
  Tensor operator()(const Tensor& logits, const Tensor& target) const {
    return cross_entropy(logits, target, {.label_smoothing = label_smoothing, .ignore_index = ignore_index, .reduction = reduction, .weight = weight});
  }
};
struct NLLLoss {
  int64_t ignore_index = -100;
  LossReduction reduction = LossReduction::Mean;
  Tensor weight = {};
  Tensor operator()(const Tensor& log_probabilities, const Tensor& target) const { return nll_loss(log_probabilities, target, ignore_index, reduction, weight); }
};
struct MSELoss {
  LossReduction reduction = LossReduction::Mean;
  Tensor operator()(const Tensor& input, const Tensor& target) const { return mse_loss(input, target, reduction); }
};
struct L1Loss {
  LossReduction reduction = LossReduction::Mean;
  Tensor operator()(const Tensor& input, const Tensor& target) const { return l1_loss(input, target, reduction); }
};
struct HuberLoss {
  double delta = 1;
  LossReduction reduction = LossReduction::Mean;
  Tensor operator()(const Tensor& input, const Tensor& target) const { return huber_loss(input, target, delta, reduction); }
};
struct SmoothL1Loss {
  double beta = 1;
  LossReduction reduction = LossReduction::Mean;
  Tensor operator()(const Tensor& input, const Tensor& target) const { return smooth_l1_loss(input, target, beta, reduction); }
};
struct BCEWithLogitsLoss {
  LossReduction reduction = LossReduction::Mean;
  Tensor positive_weight = {}, weight = {};
  Tensor operator()(const Tensor& logits, const Tensor& target) const { return bce_with_logits(logits, target, reduction, positive_weight, weight); }
};
struct BCELoss {
  LossReduction reduction = LossReduction::Mean;
  Tensor weight = {};
  Tensor operator()(const Tensor& probabilities, const Tensor& target) const { return binary_cross_entropy(probabilities, target, reduction, weight); }
};
struct KLDivLoss {
  bool log_target = false;
  LossReduction reduction = LossReduction::Mean;
  Tensor operator()(const Tensor& input, const Tensor& target) const { return kl_div(input, target, log_target, reduction); }
};
struct SoftMarginLoss {
  LossReduction reduction = LossReduction::Mean;
  Tensor operator()(const Tensor& input, const Tensor& target) const { return soft_margin_loss(input, target, reduction); }
};
struct HingeEmbeddingLoss {
  double margin = 1;
  LossReduction reduction = LossReduction::Mean;
  Tensor operator()(const Tensor& input, const Tensor& target) const { return hinge_embedding_loss(input, target, margin, reduction); }
};
struct MarginRankingLoss {
  double margin = 0;
  LossReduction reduction = LossReduction::Mean;
  Tensor operator()(const Tensor& x1, const Tensor& x2, const Tensor& target) const { return margin_ranking_loss(x1, x2, target, margin, reduction); }
};
struct PoissonNLLLoss {
  PoissonNLLOptions options = {};
  Tensor operator()(const Tensor& input, const Tensor& target) const { return poisson_nll_loss(input, target, options); }
};
struct GaussianNLLLoss {
  GaussianNLLOptions options = {};
  Tensor operator()(const Tensor& input, const Tensor& target, const Tensor& variance) const { return gaussian_nll_loss(input, target, variance, options); }
};
struct FocalLoss {
  double alpha = 0.25, gamma = 2;
  LossReduction reduction = LossReduction::Mean;
  Tensor operator()(const Tensor& logits, const Tensor& target) const { return focal_loss(logits, target, alpha, gamma, reduction); }
};
struct CosineEmbeddingLoss {
  double margin = 0;
  LossReduction reduction = LossReduction::Mean;
  Tensor operator()(const Tensor& a, const Tensor& b, const Tensor& label) const { return cosine_embedding_loss(a, b, label, margin, reduction); }
};
struct TripletMarginLoss {
  double margin = 1, p = 2;
  bool swap = false;
  LossReduction reduction = LossReduction::Mean;
  Tensor operator()(const Tensor& anchor, const Tensor& positive, const Tensor& negative) const { return triplet_margin_loss(anchor, positive, negative, margin, p, reduction, swap); }
};
struct MultiMarginLoss {
  int64_t p = 1;
  double margin = 1;
  Tensor weight = {};
  LossReduction reduction = LossReduction::Mean;
  Tensor operator()(const Tensor& input, const Tensor& target) const { return multi_margin_loss(input, target, p, margin, weight, reduction); }
};
struct MultiLabelMarginLoss {
  LossReduction reduction = LossReduction::Mean;
  Tensor operator()(const Tensor& input, const Tensor& target) const { return multilabel_margin_loss(input, target, reduction); }
};
struct MultiLabelSoftMarginLoss {
  Tensor weight = {};
  LossReduction reduction = LossReduction::Mean;
  Tensor operator()(const Tensor& input, const Tensor& target) const { return multilabel_soft_margin_loss(input, target, weight, reduction); }
};
struct CTCLoss {
  CTCOptions options = {};
  Tensor operator()(const Tensor& log_probabilities, const Tensor& targets, const Tensor& input_lengths, const Tensor& target_lengths) const { return ctc_loss(log_probabilities, targets, input_lengths, target_lengths, options); }
};
// clang-format on

}  // namespace tenon::nn
