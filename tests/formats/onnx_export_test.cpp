// ONNX export: whole models, sizes that stay open, weights beside the file, and what has no form.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>

#include "tenon/base/error.h"
#include "tenon/base/file.h"
#include "tenon/exec/evaluate.h"
#include "tenon/formats/onnx/export.h"
#include "tenon/formats/onnx/model.h"
#include "tenon/tenon.h"
#include "tests/support/difference.h"
#include "tests/support/error_text.h"
#include "tests/support/exported_case.h"
#include "tests/support/temp_folder.h"

namespace tenon::formats::onnx {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing_support::error_text;

Tensor numbers(const Shape& shape, uint64_t seed) { return uniform(shape, -1, 1, f32, random_key(seed)); }
Tensor tokens(const Shape& shape, int64_t below) {
  return cast(uniform(shape, 0, static_cast<double>(below), f32, random_key(5)), i64);
}

// Exports, imports and compares at each of the inputs; in the newest and an older opset.
void expect_round_trip(const std::string& name, const trace::Function& fn, const std::vector<InputSpec>& specs,
                       const std::vector<Tensors>& inputs, const StateDict& weights = {}) {
  const NoGrad no_grad;
  const ir::Graph graph = capture(fn, specs, {.weights = weights});
  for (const int64_t opset : {kNewestExportOpset, int64_t{17}, int64_t{13}}) {
    const std::string bytes = export_bytes(graph, {.opset = opset, .weights = weights});
    const Model model = Model::parse(bytes, nullptr, name + ".onnx");
    for (size_t k = 0; k < inputs.size(); ++k) {
      const Tensors want = fn(inputs[k]), got = model(inputs[k]);
      testing_support::keep_exported(name + "_" + std::to_string(k) + "_opset" + std::to_string(opset), bytes,
                                     inputs[k], want);
      ASSERT_EQ(want.size(), got.size());
      for (size_t i = 0; i < want.size(); ++i) {
        EXPECT_EQ(want[i].type(), got[i].type());
        EXPECT_LE(testing_support::largest_difference(want[i], got[i]), 1e-5)
            << name << " at input " << k << ", opset " << opset;
      }
    }
    for (const auto& [weight, tensor] : weights) EXPECT_TRUE(model.parameters().contains(weight)) << weight;
  }
}

TEST(OnnxExport, LeNet) {
  manual_seed(1);
  const models::LeNet model;
  expect_round_trip(
      "lenet", [&](const Tensors& in) { return Tensors{model(in[0])}; }, {{"image", f32, {"batch", 1, 28, 28}}},
      {{numbers({2, 1, 28, 28}, 1)}, {numbers({5, 1, 28, 28}, 2)}}, state_dict(model));
}

TEST(OnnxExport, Mlp) {
  manual_seed(1);
  const models::MLP model({.inputs = 12, .hidden = 16, .outputs = 3});
  expect_round_trip(
      "mlp", [&](const Tensors& in) { return Tensors{softmax(model(in[0]), -1)}; }, {{"x", f32, {"batch", 12}}},
      {{numbers({1, 12}, 1)}, {numbers({7, 12}, 2)}}, state_dict(model));
}

TEST(OnnxExport, ResNet18) {
  manual_seed(1);
  models::ResNet18 model({.classes = 10});
  nn::eval(model);
  expect_round_trip("resnet18", [&](const Tensors& in) { return Tensors{model(in[0])}; },
                    {{"image", f32, {"batch", 3, 64, 64}}}, {{numbers({2, 3, 64, 64}, 1)}}, {});
}

TEST(OnnxExport, GptAtAnyLength) {
  manual_seed(1);
  models::GPT model({.vocabulary = 31, .context = 24, .layers = 2, .heads = 2, .width = 16});
  nn::eval(model);
  expect_round_trip("gpt", [&](const Tensors& in) { return Tensors{model(in[0])}; },
                    {{"tokens", i64, {"batch", Dim("seq", 1, 24)}}},
                    {{tokens({1, 1}, 31)}, {tokens({3, 24}, 31)}, {tokens({2, 9}, 31)}});
}

// What has no operator is a function with its body: one for equal bodies, called by the op's name.
TEST(OnnxExport, CompositesAreFunctionsWithTheirBodies) {
  const Tensor factor = tensor({2.0F});  // small, but a weight: it stays a parameter
  const auto fn = [&](const Tensors& in) {
    const auto branch = [](const Tensors& x) { return Tensors{log_sigmoid(x[0])}; };
    const Tensor y = log_sigmoid(log_sigmoid(in[0]) * factor);
    return Tensors{y, var(y, {1}), var(y, {0, 1}), cond(sum(y) > 0.0, branch, branch, {y})[0]};
  };
  const ir::Graph graph = capture(fn, {{"x", f32, {"batch", "width"}}}, {.weights = {{"factor", factor}}});
  const Model model = Model::parse(export_bytes(graph, {.weights = {{"factor", factor}}}), nullptr, "functions.onnx");
  std::vector<std::string> functions, calls;
  for (const auto& f : model.data().functions) {
    EXPECT_EQ(f.domain, "tenon");
    EXPECT_GE(f.nodes.size(), 2U) << f.name;
    EXPECT_EQ(f.opsets.at(""), kNewestExportOpset);
    functions.push_back(f.name);
  }
  for (const auto& node : model.data().graph.nodes)
    if (node.domain == "tenon") calls.push_back(node.op_type);
  EXPECT_THAT(functions, testing::UnorderedElementsAre("log_sigmoid", "var", "var_2"));
  EXPECT_THAT(calls, ElementsAre("log_sigmoid", "log_sigmoid", "var", "var_2"));
  EXPECT_EQ(model.data().opsets.at("tenon"), 1);
  EXPECT_TRUE(model.parameters().contains("factor"));
  expect_round_trip("functions", fn, {{"x", f32, {"batch", "width"}}},
                    {{numbers({2, 3}, 1)}, {numbers({1, 7}, 2)}, {numbers({5, 2}, 3) + 9.0}}, {{"factor", factor}});
}

TEST(OnnxExport, ATrainStepOfAnMlp) {
  manual_seed(1);
  const models::MLP model({.inputs = 4, .hidden = 5, .outputs = 3});
  const auto gradients = [&](const Tensors& in) {
    const auto loss = [&](const Tensors& w) { return cross_entropy(matmul(tanh(matmul(in[0], w[0])), w[1]), in[1]); };
    return grad(loss)({in[2], in[3]});
  };
  expect_round_trip("gradient", gradients,
                    {{"x", f32, {6, 4}}, {"target", i64, {6}}, {"w1", f32, {4, 5}}, {"w2", f32, {5, 3}}},
                    {{numbers({6, 4}, 1), tokens({6}, 3), numbers({4, 5}, 2), numbers({5, 3}, 3)}});
}

TEST(OnnxExport, ControlFlowAtAnySize) {
  const auto fn = [](const Tensors& in) {
    const Tensor gain = mean(in[0], {0});
    const auto step = [&](const Tensors& carry, const Tensors& x) {
      return ScanStep{{carry[0] * gain + x[0]}, {carry[0]}};
    };
    const ScanStep forward = scan(step, {zeros({in[0].shape(1)})}, {in[0]});
    const ScanStep back = scan(step, {zeros({in[0].shape(1)})}, {in[0]}, {.reverse = true});
    const Tensors doubled = while_loop([](const Tensors& x) { return sum(x[0]) < 100.0; },
                                       [](const Tensors& x) { return Tensors{x[0] * 2.0}; }, {exp(in[0])});
    const Tensors chosen = cond(
        sum(in[0]) > 0.0, [](const Tensors& x) { return Tensors{x[0] + 1.0}; },
        [](const Tensors& x) { return Tensors{x[0]}; }, {doubled[0]});
    return Tensors{forward.carry[0], forward.rows[0], back.rows[0], chosen[0]};
  };
  expect_round_trip("control", fn, {{"x", f32, {"steps", "width"}}},
                    {{numbers({4, 3}, 1)}, {numbers({9, 2}, 2)}, {-abs(numbers({2, 2}, 3))}});
}

TEST(OnnxExport, NumbersThatFollowTheSizesAreComputed) {
  const auto fn = [](const Tensors& in) {
    const Tensor& x = in[0];
    const int64_t b = x.shape(0), s = x.shape(1), h = x.shape(2);
    const Tensor pooled = max_pool2d(unsqueeze(x, {1}), {2, 1});
    return Tensors{reshape(x, {b * s, h}),          x / static_cast<double>(s), slice(x, {1}, {s - 1}, {s}),
                   reshape(pooled, {b, s / 2 * h}), expand(arange(s), {b, s}),  var(x, {0, 1})};
  };
  const ir::Graph graph = capture(fn, {{"x", f32, {"batch", "seq", 4}}},
                                  {.outputs = {"flat", "scaled", "last", "pooled", "places", "var"}});
  const Model model = Model::parse(export_bytes(graph), nullptr, "sizes.onnx");
  EXPECT_THAT(model.inputs()[0].type.dims, ElementsAre("batch", "seq", "4"));
  EXPECT_EQ(model.outputs()[0].name, "flat");
  EXPECT_THAT(model.outputs()[0].type.dims, ElementsAre("batch*seq", "4"));
  EXPECT_THAT(model.outputs()[3].type.dims, ElementsAre("batch", "4*((seq)/2)"));
  expect_round_trip("sizes", fn, {{"x", f32, {"batch", "seq", 4}}},
                    {{numbers({1, 2, 4}, 1)}, {numbers({6, 11, 4}, 2)}});
}

TEST(OnnxExport, ResultsThatAreInputsConstantsOrTwice) {
  const Tensor c = numbers({3}, 9);
  const auto fn = [&](const Tensors& in) {
    const Tensor y = in[0] * 2.0;
    return Tensors{in[0], c, y, y};
  };
  expect_round_trip("twice", fn, {{"x", f32, {3}}}, {{numbers({3}, 1)}});
}

TEST(OnnxExport, LargeWeightsLieBesideTheFile) {
  const Tensor w = numbers({64, 64}, 1), small = numbers({64}, 2);
  const auto fn = [&](const Tensors& in) { return Tensors{matmul(in[0], w) + small}; };
  const ir::Graph graph = capture(fn, {{"x", f32, {"n", 64}}}, {.weights = {{"w", w}, {"small", small}}});
  const std::string path = testing_support::temp_folder() + "/external.onnx";
  export_model(path, graph, {.weights = {{"w", w}, {"small", small}}, .external_above = 4096});
  EXPECT_EQ(std::filesystem::file_size(path + ".data"), 64 * 64 * 4U);
  EXPECT_LT(std::filesystem::file_size(path), 2000U);
  const Model model = Model::load(path);
  const Tensor x = numbers({3, 64}, 3);
  EXPECT_EQ(model({x})[0].to_vector<float>(), fn({x})[0].to_vector<float>());
  EXPECT_TRUE(model.parameters().contains("w"));
}

TEST(OnnxExport, WhatHasNoFormIsNamedAllAtOnceBeforeAnythingIsWritten) {
  const auto fn = [](const Tensors& in) { return Tensors{lgamma(in[0]) + digamma(in[0]), erfinv(in[0])}; };
  const ir::Graph graph = capture(fn, {{"x", f32, {2}}});
  const std::string path = testing_support::temp_folder() + "/never.onnx";
  const std::string text = error_text([&] { export_model(path, graph); });
  EXPECT_THAT(text, HasSubstr("3 nodes have no form in opset 26"));
  EXPECT_THAT(text, HasSubstr("lgamma(f32[2]): ONNX has no gamma function"));
  EXPECT_THAT(text, HasSubstr("digamma(f32[2])"));
  EXPECT_THAT(text, HasSubstr("erfinv(f32[2])"));
  EXPECT_FALSE(std::filesystem::exists(path));
  EXPECT_THAT(error_text([&] { export_model(path, graph, {.opset = 7}); }), HasSubstr("expected 13 to 26, got 7"));
}

}  // namespace
}  // namespace tenon::formats::onnx
