// Every model of the zoo in files: as a package the same bits, as ONNX the same numbers, at sizes that were not those
// of the capture. TENON_EXPORT_FOLDER keeps the ONNX models for ONNX Runtime (tools/check_onnx_export.py).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "tenon/formats/onnx/export.h"
#include "tenon/formats/onnx/model.h"
#include "tenon/models/lora.h"
#include "tenon/models/pretrained.h"
#include "tenon/models/pretrained_function.h"
#include "tenon/package.h"
#include "tenon/tenon.h"
#include "tests/models/support.h"
#include "tests/support/exported_case.h"
#include "tests/support/same_bits.h"
#include "tests/support/temp_folder.h"

namespace tenon::models {
namespace {

namespace fs = std::filesystem;
using testing_support::same_bits;

double relatively_apart(const Tensor& got, const Tensor& want) {
  EXPECT_EQ(got.type(), want.type());
  const auto a = got.to_vector<double>(), b = want.to_vector<double>();
  double most = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double d = testing_support::apart(a[i], b[i]);
    most = std::max(most, std::isfinite(d) ? d / (1 + std::abs(b[i])) : d);
  }
  return most;
}

// Inputs of these extents: tokens from 2 on, masks that begin with 1, images.
Tensors example(const std::vector<InputSpec>& specs, std::int64_t batch, std::int64_t length) {
  Tensors list;
  for (std::size_t i = 0; i < specs.size(); ++i) {
    Shape shape;
    for (const Dim& dim : specs[i].dims) {
      if (dim.size >= 0) shape.push_back(dim.size);
      if (dim.size < 0) shape.push_back(dim.name == "batch" ? batch : dim.name == "seq" ? length : length - 1);
    }
    const Tensor draw = uniform(shape, 0, 1, f32, random_key(10 * i + static_cast<std::uint64_t>(length)));
    if (specs[i].type.dtype != DType::I64) {
      list.push_back(draw * 2.0 - 1.0);
    } else if (specs[i].name == "attention_mask") {
      list.push_back(cast(logical_or(draw > 0.4, unsqueeze(arange(shape[1]) < 1, {0})), i64));
    } else if (specs[i].name == "token_type_ids") {
      list.push_back(zeros(shape, i64));
    } else {
      list.push_back(cast(draw * 5.0, i64) + (specs[i].name == "ids" ? 0 : 2));
    }
  }
  return list;
}

void expect_round_trips(const std::string& name, const PretrainedFunction& f) {
  SCOPED_TRACE(name);
  const NoGrad no_grad;
  const ir::Graph graph = capture(f.fn, f.inputs, {.outputs = f.outputs, .weights = f.weights});
  const std::string path = testing_support::temp_folder() + "/" + name + ".tenon";
  save(path, graph, {.weights = f.weights, .labels = f.labels});
  const Package package = load(path);
  for (const std::int64_t opset : {formats::onnx::kNewestExportOpset, formats::onnx::kOldestExportOpset}) {
    const std::string bytes = formats::onnx::export_bytes(graph, {.opset = opset, .weights = f.weights});
    const auto model = formats::onnx::Model::parse(bytes, nullptr, name + ".onnx");
    for (const std::int64_t length : {9, 5}) {
      const Tensors in = example(f.inputs, length == 9 ? 1 : 3, length);
      const Tensors want = f.fn(in), packaged = package(in), exported = model(in);
      ASSERT_EQ(want.size(), exported.size());
      for (std::size_t i = 0; i < want.size(); ++i) {
        EXPECT_TRUE(same_bits(want[i], packaged[i]))
            << "result " << i << " differs by " << relatively_apart(packaged[i], want[i]);
        EXPECT_LE(relatively_apart(exported[i], want[i]), 1e-5) << "result " << i << " of opset " << opset;
      }
      testing_support::keep_exported(name + "_" + std::to_string(length) + "_opset" + std::to_string(opset), bytes, in,
                                     want);
    }
  }
}

std::vector<std::string> folders() {
  std::vector<std::string> names;
  for (const auto& entry : fs::directory_iterator(kGoldens)) {
    if (fs::exists(entry.path() / "config.json")) names.push_back(entry.path().filename().string());
  }
  std::sort(names.begin(), names.end());
  return names;
}

class Published : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Zoo, Published, ::testing::ValuesIn(folders()), [](const auto& info) { return info.param; });
TEST_P(Published, RoundTrips) {
  PretrainedFunction f = load_pretrained_function(kGoldens / GetParam());
  for (InputSpec& spec : f.inputs) {  // images of a size that these tiny networks are fast on
    if (spec.name == "pixel_values" && spec.dims.back().size == 224) spec = {spec.name, f32, {"batch", 3, 32, 32}};
  }
  expect_round_trips(GetParam(), f);
}

template <class Model>
PretrainedFunction plain(const Model& model, std::vector<InputSpec> inputs) {
  nn::eval(model);
  return {.type = {},
          .architecture = {},
          .fn = [model](const Tensors& in) { return Tensors{model(in[0])}; },
          .inputs = std::move(inputs),
          .outputs = {"y"},
          .weights = nn::state_dict(model),
          .labels = {}};
}

TEST(Zoo, OwnModelsRoundTrip) {
  manual_seed(1);
  expect_round_trips("lenet", plain(LeNet(), {{"x", f32, {"batch", 1, 28, 28}}}));
  expect_round_trips("mlp", plain(MLP({.inputs = 12, .hidden = 16, .outputs = 3}), {{"x", f32, {"batch", 12}}}));
  expect_round_trips("gpt", plain(GPT({.vocabulary = 31, .context = 24, .layers = 2, .heads = 2, .width = 16}),
                                  {{"tokens", i64, {"batch", Dim("seq", 1, 24)}}}));
}

TEST(Zoo, ResNet18RoundTrips) {
  manual_seed(1);
  expect_round_trips("resnet18", plain(ResNet18({.classes = 10}), {{"x", f32, {"batch", 3, 32, 32}}}));
}

// An adapter merged into its model, as a plain function of the tokens.
template <class Model>
PretrainedFunction merged(const Model& model, const char* adapter) {
  merge(load_lora(kGoldens / adapter), model);
  return {.type = {},
          .architecture = {},
          .fn = [model](const Tensors& in) { return Tensors{model(in[0], nullptr)}; },
          .inputs = {{"input_ids", i64, {"batch", "seq"}}},
          .outputs = {"logits"},
          .weights = nn::state_dict(model),
          .labels = {}};
}

TEST(Zoo, MergedAdaptersRoundTrip) {
  expect_round_trips("lora_llama", merged(load_llama(kGoldens / "llama"), "lora_llama"));
  expect_round_trips("lora_gpt2", merged(load_gpt2(kGoldens / "gpt2"), "lora_gpt2"));
}

// Layers whose steps become a Scan in the file, at lengths that the capture did not see.
TEST(Zoo, RecurrentLayersRoundTrip) {
  manual_seed(3);
  const nn::RecurrentLayerOptions options{.num_layers = 2, .batch_first = true, .bidirectional = true};
  const nn::LSTM lstm(5, 6, options);
  const nn::GRU gru(5, 4, {.batch_first = true});
  const nn::RNN rnn(5, 4, {.batch_first = true});
  const auto function = [](const auto& layer) {
    nn::eval(layer);
    return PretrainedFunction{.type = {},
                              .architecture = {},
                              .fn = [layer](const Tensors& in) { return Tensors{layer(in[0]).y}; },
                              .inputs = {{"x", f32, {"batch", "seq", 5}}},
                              .outputs = {"y"},
                              .weights = nn::state_dict(layer),
                              .labels = {}};
  };
  expect_round_trips("lstm", function(lstm));
  expect_round_trips("gru", function(gru));
  expect_round_trips("rnn", function(rnn));
}

TEST(Zoo, KerasModelsRoundTrip) {
  for (const char* name : {"sequential", "functional", "tokens", "more_layers", "recurrent"})
    expect_round_trips("keras_" + std::string(name),
                       load_keras_function(kGoldens / "keras" / (std::string(name) + ".keras")));
}

}  // namespace
}  // namespace tenon::models
