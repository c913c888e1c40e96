// Real pretrained models: node by node, prepared, compiled, as a package, and after export to ONNX again, each against
// the outputs that ONNX Runtime or the model's authors gave. Prepared, compiled and packaged they give the bits of the
// first.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <numeric>

#include "tenon/base/file.h"
#include "tenon/data/npy.h"
#include "tenon/data/to_tensor.h"
#include "tenon/exec/evaluate.h"
#include "tenon/formats/onnx/capture.h"
#include "tenon/formats/onnx/export.h"
#include "tenon/formats/onnx/prepared_model.h"
#include "tenon/formats/onnx/proto.h"
#include "tenon/package.h"
#include "tenon/tenon.h"
#include "tests/support/compiled.h"
#include "tests/support/difference.h"
#include "tests/support/exported_case.h"
#include "tests/support/same_bits.h"
#include "tests/support/temp_folder.h"

namespace tenon::formats::onnx {
namespace {

namespace fs = std::filesystem;
using testing_support::same_bits;
const fs::path kData = TENON_SHARED_DATA;

Tensor npy(const fs::path& path) { return data::to_tensor(data::read_npy(path)); }
// A TensorProto file.
Tensor pb(const fs::path& path) {
  const std::string bytes = read_text_file(path);
  return *read_tensor(parse_tensor(bytes, path.string()), nullptr, {}, path.string()).tensor();
}

double apart(const Tensor& got, const Tensor& want) {
  EXPECT_EQ(got.shape(), want.shape());
  return testing_support::largest_difference(got, want);
}

// The model in its forms.
struct Forms {
  Model eager;
  PreparedModel prepared;
  testing_support::TensorFunction compiled;
  Package package;
  Model again;

  Forms(const std::string& name, const fs::path& path, const ModelCaptureOptions& options = {})
      : Forms(name, Model::load(path), options) {}
  Forms(const std::string& name, Model model, const ModelCaptureOptions& options)
      : Forms(name, model, capture_model(model, options)) {}
  Forms(const std::string& name, Model model, const ir::Graph& graph)
      : eager(std::move(model)),
        prepared(eager),
        compiled(testing_support::compiled([run = eager](const Tensors& in) { return run(in); })) {
    const std::string stem = testing_support::temp_folder() + "/" + name;
    save(stem + ".tenon", graph, {.weights = parameters_of(eager)});
    package = load(stem + ".tenon");
    export_model(stem + ".onnx", graph, {.weights = parameters_of(eager)});
    again = Model::load(stem + ".onnx");
  }
};

// All forms on these inputs, each within `allowed` of the reference.
void expect_reference(const std::string& name, const Forms& forms, const Tensors& in, const Tensors& want,
                      double allowed) {
  const NoGrad no_grad;
  const Tensors eager = forms.eager(in), compiled = forms.compiled(in), packaged = forms.package(in),
                exported = forms.again(in);
  ASSERT_EQ(eager.size(), want.size());
  for (int run = 0; run < 2; ++run) {
    const Tensors prepared = forms.prepared(in);
    for (size_t i = 0; i < want.size(); ++i)
      EXPECT_TRUE(same_bits(eager[i], prepared[i]))
          << name << ": output " << i << " of the prepared model differs by " << apart(eager[i], prepared[i]);
  }
  EXPECT_EQ(forms.prepared.execution(), "as a program") << name;
  for (size_t i = 0; i < want.size(); ++i) {
    EXPECT_LE(apart(eager[i], want[i]), allowed) << name << ", output " << i;
    EXPECT_LE(apart(exported[i], want[i]), allowed) << name << " exported, output " << i;
    EXPECT_TRUE(same_bits(eager[i], packaged[i]))
        << name << ": output " << i << " of the package differs by " << apart(eager[i], packaged[i]);
    EXPECT_TRUE(same_bits(eager[i], compiled[i]))
        << name << ": output " << i << " of the compiled model differs by " << apart(eager[i], compiled[i]);
  }
  testing_support::keep_exported(name, read_text_file(testing_support::temp_folder() + "/" + name + ".onnx"), in, want);
}

Tensors files(const fs::path& folder, const std::string& what) {
  Tensors list;
  const auto path = [&] { return folder / (what + "_" + std::to_string(list.size()) + ".npy"); };
  while (fs::exists(path())) list.push_back(npy(path()));
  return list;
}

// Empty if all are there.
std::string missing(const std::vector<fs::path>& paths) {
  for (const auto& path : paths) {
    if (!fs::exists(path)) return "not there: " + path.string();
  }
  return {};
}

TEST(RealModels, Mnist) {
  const fs::path folder = kData / "libonnx_models/tests/model/mnist_8";
  if (const auto text = missing({folder}); !text.empty()) GTEST_SKIP() << text;
  const Forms forms("mnist", folder / "model.onnx");
  for (int set = 0; set < 3; ++set) {
    const fs::path data = folder / ("test_data_set_" + std::to_string(set));
    expect_reference("mnist", forms, {pb(data / "input_0.pb")}, {pb(data / "output_0.pb")},
                     2e-2);  // scores of thousands
  }
}

TEST(RealModels, SuperResolutionAtAnyBatch) {
  const fs::path folder = kData / "libonnx_models/tests/model/super_resolution_10";
  if (const auto text = missing({folder}); !text.empty()) GTEST_SKIP() << text;
  const Forms forms("super_resolution", folder / "model.onnx");
  const Tensor in = pb(folder / "test_data_set_0/input_0.pb"), want = pb(folder / "test_data_set_0/output_0.pb");
  expect_reference("super_resolution", forms, {in}, {want}, 1e-4);
  EXPECT_EQ(to_string(forms.package.signature().inputs[0]), "f32[batch_size, 1, 224, 224]");
  const Tensor two = forms.package({concat({in, in})})[0];
  EXPECT_LE(apart(narrow(two, 0, 1, 1), want), 1e-4);
}

TEST(RealModels, SqueezeNetInHalfPrecision) {
  const fs::path model = kData / "winml_models/SharedContent/models/SqueezeNet_fp16.onnx";
  const fs::path data = kData / "onnxruntime_testdata/onnxruntime/test/testdata/squeezenet/test_data_set_0";
  if (const auto text = missing({model, data}); !text.empty()) GTEST_SKIP() << text;
  const Forms forms("squeezenet", model);
  const Tensor in = cast(pb(data / "test_data_0_input.pb"), f16);
  const Tensor want = reshape(cast(pb(data / "test_data_0_output.pb"), f16), {1, 1000, 1, 1});
  expect_reference("squeezenet", forms, {in}, {want}, 2e-3);
  const auto scores = forms.eager({in})[0].to_vector<double>();
  std::vector<int> order(1000);
  std::iota(order.begin(), order.end(), 0);
  std::stable_sort(order.begin(), order.end(),
                   [&](int a, int b) { return scores[static_cast<size_t>(a)] > scores[static_cast<size_t>(b)]; });
  EXPECT_THAT(std::vector<int>(order.begin(), order.begin() + 5), testing::ElementsAre(111, 591, 700, 669, 549));
}

TEST(RealModels, DtlnTheNoiseSuppressor) {
  for (const std::string part : {"1", "2"}) {
    const fs::path model = kData / ("dtln/pretrained_model/model_" + part + ".onnx");
    const fs::path data = kData / ("ref_outputs_ort130/dtln_model_" + part);
    if (const auto text = missing({model, data}); !text.empty()) GTEST_SKIP() << text;
    const Forms forms("dtln_" + part, model);
    expect_reference("dtln_" + part, forms, files(data, "input"), files(data, "output"), 1e-4);
  }
}

TEST(RealModels, YoloxNano) {
  const fs::path model = kData / "yolox_nano/model/yolox_nano.onnx", data = kData / "ref_outputs_ort130/yolox_nano";
  if (const auto text = missing({model, data}); !text.empty()) GTEST_SKIP() << text;
  expect_reference("yolox_nano", Forms("yolox_nano", model), files(data, "input"), files(data, "output"), 2e-3);
}

// A stream of 300 chunks: state and the last samples go round. The sampling rate chooses a branch, so it is fixed.
TEST(RealModels, SileroVoiceDetectorAsAStream) {
  const fs::path path = kData / "silero_vad/src/silero_vad/data/silero_vad.onnx",
                 data = kData / "ref_outputs_ort130/silero_vad_stream";
  if (const auto text = missing({path, data}); !text.empty()) GTEST_SKIP() << text;
  const NoGrad no_grad;
  const Model model = Model::load(path);
  const Tensor rate = from_vector<int64_t>({16000}, {});
  const auto step = [&](const Tensors& in) { return model({in[0], in[1], rate}); };
  const std::string stem = testing_support::temp_folder() + "/silero";
  const ir::Graph graph = capture(step, {{"input", f32, {"batch", 576}}, {"state", f32, {2, "batch", 128}}},
                                  {.outputs = {"probability", "next"}, .weights = parameters_of(model)});
  save(stem + ".tenon", graph, {.weights = parameters_of(model)});
  const Package package = load(stem + ".tenon");
  export_model(stem + ".onnx", graph);
  const Model again = Model::load(stem + ".onnx");
  const auto compiled = testing_support::compiled(step);
  const PreparedModel prepared(model);  // a program for this rate
  const Tensor pcm = npy(data / "pcm_300x512.npy");
  const auto want = npy(data / "prob_300.npy").to_vector<double>();
  Tensor context = zeros({1, 64});
  Tensors states(5, zeros({2, 1, 128}));
  for (int64_t t = 0; t < 300; ++t) {
    const Tensor chunk = narrow(pcm, 0, t, 1), input = concat({context, chunk}, 1);
    const Tensors eager = step({input, states[0]}), packaged = package({input, states[1]}),
                  exported = again({input, states[2]}), fused = compiled({input, states[3]}),
                  ready = prepared({input, states[4], rate});
    ASSERT_NEAR(eager[0].item<double>(), want[static_cast<size_t>(t)], 1e-4) << "step " << t;
    ASSERT_NEAR(exported[0].item<double>(), want[static_cast<size_t>(t)], 1e-4) << "step " << t;
    ASSERT_TRUE(same_bits(packaged[0], eager[0]) && same_bits(packaged[1], eager[1])) << "step " << t;
    ASSERT_TRUE(same_bits(fused[0], eager[0]) && same_bits(fused[1], eager[1])) << "step " << t;
    ASSERT_TRUE(same_bits(ready[0], eager[0]) && same_bits(ready[1], eager[1])) << "step " << t;
    states = {eager[1], packaged[1], exported[1], fused[1], ready[1]};
    context = narrow(chunk, 1, 448, 64);
  }
  EXPECT_EQ(prepared.report().programs_made, 1);
  EXPECT_EQ(prepared.report().program_runs, 300);
}

// With past keys and values: prefill against the reference, then the generation loop to length 10.
TEST(RealModels, TinyGpt2Generates) {
  const fs::path path = kData / "onnxruntime_genai/test/models/hf-internal-testing/tiny-random-gpt2-fp32/past.onnx";
  const fs::path data = kData / "ref_outputs_ort130/tiny_random_gpt2_prefill";
  if (const auto text = missing({path, data}); !text.empty()) GTEST_SKIP() << text;
  const Forms forms("tiny_gpt2", path, {.sizes = {{"total_seq_len", Dim("past_seq_len + seq_len", 0)}}});
  const Tensors prefill = files(data, "input");
  expect_reference("tiny_gpt2", forms, prefill, files(data, "output"), 1e-4);
  const NoGrad no_grad;
  const auto generate = [&](const auto& model) {
    Tensors in = prefill;
    std::vector<std::vector<int64_t>> rows(2);
    for (int64_t b = 0; b < 2; ++b) {
      for (int64_t k = 0; k < 4; ++k) rows[static_cast<size_t>(b)].push_back(in[0][b][k].template item<int64_t>());
    }
    for (int64_t length = 4; length < 10; ++length) {
      const Tensors out = model(in);
      const Tensor next = argmax(select(out[0], 1, out[0].shape(1) - 1), 1);
      for (int64_t b = 0; b < 2; ++b) rows[static_cast<size_t>(b)].push_back(next[b].template item<int64_t>());
      in[0] = cast(reshape(next, {2, 1}), i32);
      in[1] = full({2, 1}, static_cast<double>(length), i32);
      in[2] = ones({2, length + 1}, i32);
      for (size_t layer = 0; layer < 5; ++layer) in[3 + layer] = out[1 + layer];
    }
    return rows;
  };
  const std::vector<std::vector<int64_t>> want{{0, 0, 0, 52, 204, 204, 204, 204, 204, 204},
                                               {0, 0, 195, 731, 731, 114, 114, 114, 114, 114}};
  EXPECT_EQ(generate(forms.eager), want);
  EXPECT_EQ(generate(forms.prepared), want);
  EXPECT_EQ(generate(forms.compiled), want);
  EXPECT_EQ(generate(forms.package), want);
  EXPECT_EQ(generate(forms.again), want);
}

}  // namespace
}  // namespace tenon::formats::onnx
