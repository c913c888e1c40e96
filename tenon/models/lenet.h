// LeNet-5 (LeCun, Bottou, Bengio and Haffner, "Gradient-based learning applied to document recognition", 1998) in
// today's form: rectified units and maximum pooling.
#pragma once

#include "tenon/nn/conv.h"
#include "tenon/nn/linear.h"

namespace tenon::models {

struct LeNetConfig {
  int64_t channels = 1;
  int64_t height = 28, width = 28;
  int64_t classes = 10;
};

// [N, channels, height, width] -> logits [N, classes]. Errors: ValueError for images under 12 pixels a side.
class LeNet {
 public:
  explicit LeNet(LeNetConfig config = {});
  [[nodiscard]] Tensor operator()(const Tensor& x) const;

  nn::Conv2d conv1, conv2;
  nn::Linear fc1, fc2, fc3;
  using Members = nn::Members<&LeNet::conv1, &LeNet::conv2, &LeNet::fc1, &LeNet::fc2, &LeNet::fc3>;
};

}  // namespace tenon::models
