// A perceptron with two hidden layers of rectified units, for images or vectors.
#pragma once

#include "tenon/nn/activation.h"
#include "tenon/nn/linear.h"

namespace tenon::models {

struct MLPConfig {
  int64_t inputs = 784;
  int64_t hidden = 256;
  int64_t outputs = 10;
};

// [N, ...] (inputs elements in all) -> logits [N, outputs].
class MLP {
 public:
  explicit MLP(MLPConfig config = {})
      : fc1(config.inputs, config.hidden), fc2(config.hidden, config.hidden), fc3(config.hidden, config.outputs) {}
  [[nodiscard]] Tensor operator()(const Tensor& x) const { return fc3(relu(fc2(relu(fc1(flatten(x, 1)))))); }

  nn::Linear fc1, fc2, fc3;
  using Members = nn::Members<&MLP::fc1, &MLP::fc2, &MLP::fc3>;
};

}  // namespace tenon::models
