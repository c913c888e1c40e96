#include "tenon/models/lenet.h"

#include <fmt/format.h>

#include "tenon/base/error.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/pooling.h"

namespace tenon::models {
namespace {

// The first convolution keeps the size (padding 2), each pooling halves it, the second takes 4 off.
int64_t features(const LeNetConfig& c) {
  if (c.height < 12 || c.width < 12)
    throw ValueError(
        {"LeNet", "the images are too small", "at least 12 x 12", fmt::format("{} x {}", c.height, c.width), {}});
  return 16 * ((c.height / 2 - 4) / 2) * ((c.width / 2 - 4) / 2);
}

}  // namespace

LeNet::LeNet(LeNetConfig config)
    : conv1(config.channels, 6, 5, {.padding = 2}),
      conv2(6, 16, 5),
      fc1(features(config), 120),
      fc2(120, 84),
      fc3(84, config.classes) {}

Tensor LeNet::operator()(const Tensor& x) const {
  Tensor h = max_pool2d(relu(conv1(x)), {2});
  h = max_pool2d(relu(conv2(h)), {2});
  return fc3(relu(fc2(relu(fc1(flatten(std::move(h), 1))))));
}

}  // namespace tenon::models
