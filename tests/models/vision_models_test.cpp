// ResNet-50 and MobileNetV2 against PyTorch (tools/goldens/vision_models.py), and as programs.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "tenon/exec/evaluate.h"
#include "tenon/exec/program.h"
#include "tenon/models/mobilenet_v2.h"
#include "tenon/models/resnet50.h"
#include "tenon/nn/module.h"
#include "tenon/trace/capture.h"
#include "tenon/trace/state.h"
#include "tests/models/support.h"

namespace tenon::models {
namespace {

// The formula of vision_models.py: numbers in [-1, 1) by a hash of the element's number.
std::vector<double> hashed(int64_t count, uint32_t stream) {
  std::vector<double> values(static_cast<size_t>(count));
  for (size_t i = 0; i < values.size(); ++i) {
    auto x = static_cast<uint32_t>(i) * 2654435761U + stream * 2654404609U;
    x ^= x >> 15U;
    x *= 2246822519U;
    x ^= x >> 13U;
    values[i] = static_cast<double>(x) / 2147483648.0 - 1;
  }
  return values;
}

Tensor filled(const Shape& shape, const std::string& name, uint32_t stream) {
  std::vector<double> u = hashed(numel(shape), stream);
  const auto change = [&](double scale, double shift) {
    for (double& v : u) v = shift + scale * v;
  };
  if (name.ends_with("running_var")) {
    change(0.5, 1);
  } else if (shape.size() > 1) {
    change(std::sqrt(6.0 / static_cast<double>(numel(shape) / shape[0])), 0);
  } else if (name.ends_with("weight")) {
    change(0.2, 1);
  } else {
    change(0.1, 0);
  }
  return from_vector(std::vector<float>(u.begin(), u.end()), shape);
}

template <class Model>
void fill(Model& model) {
  StateDict weights;
  const StateDict now = nn::state_dict(model);
  std::vector<std::string> names;
  for (const auto& name : now.keys()) {
    if (!name.ends_with("num_batches_tracked")) names.push_back(name);
  }
  std::sort(names.begin(), names.end());
  uint32_t stream = 0;
  for (const auto& name : names) weights.set(name, filled(now.at(name).shape(), name, ++stream));
  nn::load_state_dict(model, weights, {.strict = false});
}

Tensor images(int64_t n) {
  const std::vector<double> u = hashed(2 * 3 * 64 * 64, 0);
  return from_vector(std::vector<float>(u.begin(), u.begin() + n * 3 * 64 * 64), {n, 3, 64, 64});
}

template <class Model>
void check(const char* name) {
  const auto expected = expected_of("vision")[name];
  const NoGrad no_grad;
  Model model;
  fill(model);
  nn::eval(model);
  const Tensor logits = model(images(2));
  const auto got = logits.template to_vector<double>();
  const double largest = expected["largest"];
  for (size_t row = 0; row < 2; ++row) {
    for (size_t k = 0; k < 8; ++k)
      EXPECT_NEAR(got[1000 * row + k], expected["logits"][row][k].template get<double>(), 2e-5 * largest);
  }
  // One image, as a program: the same bits as eagerly, and as among two.
  const auto graph = std::make_shared<const ir::Graph>(
      capture([&](const Tensors& in) { return Tensors{model(in[0])}; }, {{"image", f32, {1, 3, 64, 64}}}));
  const exec::Program program(graph);
  const Tensor packaged = program.run({images(1)})[0];
  EXPECT_EQ(
      std::memcmp(packaged.data<float>().data(), exec::run(*graph, {images(1)})[0].template data<float>().data(), 4000),
      0);
  EXPECT_EQ(std::memcmp(packaged.data<float>().data(), model(images(1)).template data<float>().data(), 4000), 0);
  // All convolutions are made ready, and what follows them is a part of them.
  EXPECT_GE(program.summary().prepared, 52) << name;
  EXPECT_GE(program.summary().fused, 2 * 52) << name;
  EXPECT_LE(program.summary().others, 6) << name;
}

TEST(VisionModels, ResNet50IsPyTorchs) { check<ResNet50>("resnet50"); }
TEST(VisionModels, MobileNetV2IsPyTorchs) { check<MobileNetV2>("mobilenet_v2"); }

TEST(VisionModels, HaveTorchvisionsNames) {
  const StateDict resnet = nn::state_dict(ResNet50()), mobilenet = nn::state_dict(MobileNetV2());
  for (const char* name : {"layer1.0.downsample.1.running_mean", "layer4.2.conv3.weight", "fc.bias"})
    EXPECT_TRUE(resnet.contains(name)) << name;
  for (const char* name :
       {"features.0.0.weight", "features.1.conv.0.1.running_var", "features.1.conv.1.weight",
        "features.3.conv.1.0.weight", "features.17.conv.3.bias", "features.18.1.weight", "classifier.1.bias"})
    EXPECT_TRUE(mobilenet.contains(name)) << name;
}

}  // namespace
}  // namespace tenon::models
