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
  Tensor operator()(const Tensor& logits, const Tensor& target) const {
    return cross_entropy(logits, target, {.label_smoothing = label_smoothing, .ignore_index = ignore_index, .reduction = reduction});
  }
};
struct NLLLoss {
  int64_t ignore_index = -100;
  LossReduction reduction = LossReduction::Mean;
  Tensor operator()(const Tensor& log_probabilities, const Tensor& target) const { return nll_loss(log_probabilities, target, ignore_index, reduction); }
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
  Tensor operator()(const Tensor& logits, const Tensor& target) const { return bce_with_logits(logits, target, reduction); }
};
struct KLDivLoss {
  bool log_target = false;
  LossReduction reduction = LossReduction::Mean;
  Tensor operator()(const Tensor& input, const Tensor& target) const { return kl_div(input, target, log_target, reduction); }
};
// clang-format on

}  // namespace tenon::nn
