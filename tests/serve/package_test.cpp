// Packages that the project itself writes are served like any other model.
#include "tenon/formats/package.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tenon/formats/onnx/export.h"
#include "tenon/models/mlp.h"
#include "tenon/nn/module.h"
#include "tenon/ops/convolution.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/random.h"
#include "tenon/ops/reduce.h"
#include "tenon/ops/softmax.h"
#include "tenon/serve/metrics.h"
#include "tenon/serve/model.h"
#include "tenon/serve/v2_json.h"
#include "tenon/serve/v2_wire.h"
#include "tests/serve/support.h"

namespace tenon::serve {
namespace {

using namespace testing_support;

TEST(ServedPackage, GivesWhatTheFunctionGives) {
  const models::MLP net({.inputs = 8, .hidden = 16, .outputs = 3});
  const auto predict = [&](const Tensors& in) { return Tensors{softmax(net(in[0]))}; };
  const fs::path folder = fresh_folder("package");
  fs::create_directories(folder);
  tenon::save(folder / "model.tenon", predict, {{"measures", f32, {"batch", 8}}},
              {.weights = nn::state_dict(net),
               .labels = {"a", "b", "c"},
               .preprocessing = R"({"scale": 0.5})",
               .outputs = {"probabilities"}});

  const ModelPtr model = load_model(folder);
  ASSERT_EQ(model->inputs().size(), 1U);
  EXPECT_EQ(model->inputs()[0].name, "measures");
  EXPECT_EQ(model->inputs()[0].dims, (std::vector<int64_t>{-1, 8}));
  EXPECT_EQ(model->outputs()[0].name, "probabilities");
  EXPECT_EQ(model->platform(), "tenon_package");
  EXPECT_EQ(model->metadata().at("labels"), "a\nb\nc");
  EXPECT_EQ(model->metadata().at("preprocessing"), R"({"scale": 0.5})");
  EXPECT_EQ(model->why_not_batchable(), "");
  // What the package says of itself is for clients to read, over both protocols.
  Metrics metrics;
  const Lane lane("m", 1, model, {}, metrics);
  EXPECT_THAT(v2_model_config(lane, {}, nullptr),
              testing::HasSubstr(R"("preprocessing":{"string_value":"{\"scale\": 0.5}"})"));
  EXPECT_THAT(
      write_v2_config(lane, {}, nullptr).to_string(),
      testing::HasSubstr(bytes_field(14, bytes_field(1, "labels") + bytes_field(2, bytes_field(1, "a\nb\nc")))));
  for (const int64_t batch : {1, 5}) {
    const Tensor x = ones({batch, 8});
    const auto out = model->run({x});
    EXPECT_EQ(std::get<Tensor>(out[0]).to_vector(), predict({x})[0].to_vector());
  }
}

// Factors of filters go into the weights: nearly the numbers of the function, not its bits, and clients can read why.
TEST(ServedPackage, FastItGivesNearlyTheSameNumbers) {
  const Tensor filters = normal({8, 3, 3, 3}), scale = uniform({8, 1, 1}, 0.5, 2), image = normal({1, 3, 12, 12});
  const auto function = [&](const Tensors& in) { return Tensors{conv2d(in[0], filters) * scale}; };
  const fs::path packages = fresh_folder("package"), onnx = fresh_folder("onnx");
  tenon::save(packages / "model.tenon", function, {{"image", f32, {1, 3, 12, 12}}}, {.outputs = {"y"}});
  formats::onnx::export_model(onnx / "model.onnx", load(packages / "model.tenon").graph());
  const Tensor expected = function({image})[0];
  for (const fs::path& folder : {packages, onnx}) {
    const auto answer = [&](const Model& model) { return std::get<Tensor>(model.run({image})[0]); };
    const ModelPtr strict = load_model(folder), fast = load_model(folder, Precision::Fast);
    EXPECT_EQ(answer(*strict).to_vector(), expected.to_vector()) << folder;
    EXPECT_LT(max(abs(answer(*fast) - expected)).item<float>(), 1e-4F) << folder;
    EXPECT_GT(max(abs(answer(*fast) - expected)).item<float>(), 0) << folder;
    EXPECT_EQ(strict->execution(), "");
    EXPECT_EQ(fast->execution(), "as a program, fast");
    Metrics metrics;
    const Lane lane("m", 1, fast, {}, metrics);
    EXPECT_THAT(v2_model_config(lane, {}, nullptr),
                testing::HasSubstr(R"("execution":{"string_value":"as a program, fast"})"));
  }
}

// A package may carry what stands before and behind its model.
TEST(ServedPackage, RunsItsOwnPreAndPostprocessing) {
  const auto graph = [](const trace::Function& fn, const char* in, const char* out, DType type) {
    return capture(fn, {{in, type, {"batch", 2}}}, {.outputs = {out}});
  };
  const fs::path folder = fresh_folder("package");
  fs::create_directories(folder);
  tenon::save(
      folder / "model.tenon",
      std::map<std::string, ir::Graph>{
          {"preprocess",
           graph([](const Tensors& t) { return Tensors{cast(t[0], f32) / 255.0}; }, "pixels", "scaled", u8)},
          {"main", graph([](const Tensors& t) { return Tensors{t[0] * 10.0 + 1.0}; }, "scaled", "score", f32)},
          {"postprocess", graph([](const Tensors& t) { return Tensors{t[0] - 1.0}; }, "score", "answer", f32)}});
  const ModelPtr model = load_model(folder);
  ASSERT_EQ(model->inputs().size(), 1U);
  EXPECT_EQ(model->inputs()[0].name, "pixels");
  EXPECT_EQ(model->inputs()[0].type, ElementType{DType::U8});
  ASSERT_EQ(model->outputs().size(), 1U);
  EXPECT_EQ(model->outputs()[0].name, "answer");
  EXPECT_EQ(model->why_not_batchable(), "");
  const auto out = model->run({from_vector(std::vector<uint8_t>{0, 255}, {1, 2})});
  EXPECT_EQ(std::get<Tensor>(out[0]).to_vector<float>(), (std::vector<float>{0, 10}));
}

}  // namespace
}  // namespace tenon::serve
