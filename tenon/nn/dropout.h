// Dropout: zeroes elements with probability p while training, and divides the others by 1 - p.
#pragma once

#include "tenon/nn/members.h"
#include "tenon/nn/mode.h"
#include "tenon/tensor/tensor.h"

namespace tenon::nn {

// Keys come from the default generator (tenon::manual_seed). Errors: ValueError unless 0 <= p <= 1.
class Dropout {
 public:
  explicit Dropout(double p = 0.5);
  [[nodiscard]] Tensor operator()(Tensor x) const;

  double p;
  Mode mode;
  using Members = nn::Members<&Dropout::mode>;
};

}  // namespace tenon::nn
