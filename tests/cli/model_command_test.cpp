// convert, run, diff and info of files, as separate processes.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "process.h"
#include "tenon/base/file.h"
#include "tenon/data/npy.h"
#include "tenon/data/to_tensor.h"
#include "tenon/formats/onnx/proto_write.h"
#include "tenon/formats/onnx/value.h"
#include "tenon/formats/safetensors.h"
#include "tenon/package.h"
#include "tenon/tenon.h"
#include "tests/support/temp_folder.h"

namespace tenon::cli {
namespace {

using testing::HasSubstr;
namespace fs = std::filesystem;

class ModelCommand : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = testing_support::temp_folder() + "/" + testing::UnitTest::GetInstance()->current_test_info()->name();
    fs::create_directories(folder_);
    weight_ = uniform({4, 3}, -1, 1, f32, random_key(1));
    save(path("model.tenon"), function(1), {{"x", f32, {"batch", 4}}},
         {.weights = {{"fc.weight", weight_}},
          .labels = {"a", "b", "c"},
          .preprocessing = R"({"scale": 2})",
          .doc = "a test",
          .licence = "MIT",
          .metadata = {{"note", "kept"}},
          .outputs = {"scores", "best"}});
    x_ = uniform({2, 4}, -1, 1, f32, random_key(2));
    data::write_npy(path("x.npy"), data::to_host(x_));
  }

  [[nodiscard]] trace::Function function(double factor) const {
    return [this, factor](const Tensors& in) {
      const Tensor y = relu(matmul(in[0], weight_) * factor);
      return Tensors{softmax(y, -1), argmax(y, 1)};
    };
  }
  [[nodiscard]] std::string path(const std::string& name) const { return folder_ + "/" + name; }
  [[nodiscard]] Finished tenon(const std::vector<std::string>& words) const {
    return run_process(words, folder_ + "/io");
  }
  // Ends as it should and says so.
  void expect(const std::vector<std::string>& words, int code, const std::string& text) const {
    const Finished f = tenon(words);
    EXPECT_EQ(f.code, code) << testing::PrintToString(words) << "\n" << f.out << f.err;
    EXPECT_THAT(code == 2 || (code == 1 && f.out.empty()) ? f.err : f.out, HasSubstr(text))
        << testing::PrintToString(words);
  }

  std::string folder_;
  Tensor weight_, x_;
};

TEST_F(ModelCommand, ConvertThereAndBackGivesTheSameResults) {
  expect({"convert", path("model.tenon"), path("model.onnx")}, 0, "model.onnx: ");
  expect({"convert", path("model.onnx"), path("again.tenon")}, 0, "again.tenon: ");
  expect({"convert", path("model.tenon"), path("old.onnx"), "--opset", "13"}, 0, "old.onnx: ");
  for (const char* file : {"model.tenon", "model.onnx", "again.tenon", "old.onnx"}) {
    const std::string out = path(std::string(file) + ".out");
    expect({"run", path(file), "--input", "x=" + path("x.npy"), "--output", out}, 0, "scores: f32[2, 3]");
    const Tensor scores = data::to_tensor(data::read_npy(fs::path(out + "/scores.npy")));
    const auto want = function(1)({x_})[0].to_vector<double>(), got = scores.to_vector<double>();
    for (size_t i = 0; i < want.size(); ++i) EXPECT_NEAR(got[i], want[i], 1e-6);
    EXPECT_TRUE(fs::exists(out + "/best.npy"));
  }
  const Package again = load(path("again.tenon"));
  EXPECT_EQ(again.metadata().at("note"), "kept");
  EXPECT_EQ(again.metadata().at("tenon.licence"), "MIT");
  EXPECT_EQ(again.metadata().at("tenon.doc"), "a test");
  EXPECT_EQ(again.labels(), (std::vector<std::string>{"a", "b", "c"}));
  EXPECT_EQ(nlohmann::json::parse(again.preprocessing()), nlohmann::json::parse(R"({"scale": 2})"));
  expect({"info", path("model.onnx")}, 0, "model_license");
}

TEST_F(ModelCommand, ConvertTakesWeightsOut) {
  expect({"convert", path("model.tenon"), path("w.safetensors")}, 0, "w.safetensors: 1 tensors");
  EXPECT_EQ(formats::load_safetensors(path("w.safetensors")).tensors.at("fc.weight").to_vector<float>(),
            weight_.to_vector<float>());
  expect({"convert", path("w.safetensors"), path("w.npz")}, 0, "w.npz: 1 tensors");
  expect({"convert", path("w.npz"), path("w.npy")}, 0, "w.npy: 1 tensors");
  EXPECT_EQ(data::to_tensor(data::read_npy(fs::path(path("w.npy")))).to_vector<float>(), weight_.to_vector<float>());
  expect({"convert", path("w.npy"), path("back.npz")}, 0, "back.npz: 1 tensors");
}

TEST_F(ModelCommand, InfoKnowsFilesByTheirContent) {
  expect({"convert", path("model.tenon"), path("model.onnx")}, 0, "");
  expect({"convert", path("model.tenon"), path("w.npz")}, 0, "");
  fs::rename(path("model.onnx"), path("called.anything"));
  const std::string package = tenon({"info", path("model.tenon")}).out;
  for (const char* text : {"a Tenon package", "made by tenon", "licence: MIT", "f32[batch, 4]", "scores", "i64[batch]",
                           "batch is at least 1", "matmul", "12 elements", "labels: 3", "note"})
    EXPECT_THAT(package, HasSubstr(text));
  const std::string model = tenon({"info", path("called.anything")}).out;
  for (const char* text : {"an ONNX model", "opset ai.onnx 26", "float[batch, 4]", "MatMul", "13 elements"})
    EXPECT_THAT(model, HasSubstr(text));
  expect({"info", path("x.npy")}, 0, "an NPY array");
  expect({"info", path("x.npy")}, 0, "f32[2, 4]");
  expect({"info", path("w.npz")}, 0, "fc.weight");
}

// Files and folders of other software: known by their content, shown, run and converted.
TEST_F(ModelCommand, ModelsOfOtherSoftwareAreReadAsTheyAre) {
  const std::string models = TENON_SOURCE_DIR "/tests/models/goldens/";
  const auto tokens = [&](const std::string& name, const Tensor& x) {
    data::write_npy(path(name), data::to_host(x));
    return path(name);
  };
  const std::string ids = "input_ids=" + tokens("ids.npy", cast(arange(2, 8), i64) + zeros({2, 1}, i64));
  const std::string mask = "attention_mask=" + tokens("mask.npy", ones({2, 6}, i64));
  const std::string kinds = "token_type_ids=" + tokens("kinds.npy", zeros({2, 6}, i64));
  const std::string bert = models + "bert_sequenceclassification";
  expect({"info", bert}, 0, "bert, BertForSequenceClassification");
  expect({"info", bert}, 0, "i64[batch, seq]");
  expect({"info", bert}, 0, "bad, fair, good");
  expect({"convert", bert, path("bert.tenon")}, 0, "3 inputs, 1 outputs");
  expect({"convert", bert, path("bert.onnx")}, 0, "3 inputs, 1 outputs");
  expect({"convert", bert, path("bert.safetensors")}, 0, "tensors");
  EXPECT_EQ(load(path("bert.tenon")).labels(), (std::vector<std::string>{"bad", "fair", "good"}));
  std::vector<std::string> results;
  for (const std::string& model : {bert, path("bert.tenon"), path("bert.onnx")}) {
    expect({"run", model, "--input", ids, "--input", mask, "--input", kinds, "--output", path("out")}, 0,
           "logits: f32[2, 3]");
    results.push_back(read_text_file(path("out/logits.npy")));
  }
  EXPECT_EQ(results[0], results[1]);
  const std::string keras = models + "keras/sequential.keras", h5 = models + "keras/functional.h5";
  expect({"info", keras}, 0, "a Keras model");
  expect({"info", keras}, 0, "DepthwiseConv2D");
  expect({"info", keras}, 0, "f32[batch, 8, 8, 2]");
  expect({"info", h5}, 0, "an HDF5 file");
  expect({"info", h5}, 0, "numbers");
  const std::string image = tokens("image.npy", uniform({2, 8, 8, 2}, 0, 1, f32, random_key(3)));
  expect({"convert", keras, path("keras.onnx")}, 0, "1 inputs, 1 outputs");
  expect({"diff", keras, path("keras.onnx"), "--input", "input_layer=" + image}, 0, "largest difference");
  expect({"info", TENON_SOURCE_DIR "/tests/formats/goldens/plain.pt"}, 0, "PyTorch weights");
  const std::string quantised = TENON_SOURCE_DIR "/tests/formats/goldens/types.gguf";
  expect({"convert", quantised, path("copy.gguf")}, 0, "tensors");
  for (const std::string& file : {quantised, path("copy.gguf")})
    for (const char* text : {"a GGUF file", "as Q4_K", "as F16", "größe"}) expect({"info", file}, 0, text);
  expect({"convert", TENON_SOURCE_DIR "/tests/formats/goldens/nested.pt", path("nested.npz")}, 0, "tensors");
  expect({"convert", path("model.tenon"), path("w.gguf")}, 0, "w.gguf: 1 tensors");
  expect({"convert", path("w.gguf"), path("w2.safetensors")}, 0, "1 tensors");
  EXPECT_EQ(formats::load_safetensors(path("w2.safetensors")).tensors.at("fc.weight").to_vector<float>(),
            weight_.to_vector<float>());
  expect({"convert", path("w.gguf"), path("never.onnx")}, 1, "a GGUF file holds weights and no model");
}

TEST_F(ModelCommand, AProfileNamesTheOps) {
  const Finished f =
      tenon({"run", path("model.tenon"), "--input", "x=" + path("x.npy"), "--profile", "--output", path("out")});
  EXPECT_EQ(f.code, 0) << f.err;
  for (const char* op : {"matmul", "softmax", "argmax"}) EXPECT_THAT(f.out, HasSubstr(op));
  const auto trace = nlohmann::json::parse(read_text_file(path("out/profile.json")));
  bool found = false;
  // What follows the product is a part of its call, and of the call's name.
  for (const auto& event : trace["traceEvents"]) found |= event["name"].get<std::string>().starts_with("matmul");
  EXPECT_TRUE(found);
}

TEST_F(ModelCommand, CompiledItGivesTheSameBytes) {
  expect({"convert", path("model.tenon"), path("model.onnx")}, 0, "");
  for (const char* model : {"model.tenon", "model.onnx"}) {
    expect({"run", path(model), "--input", "x=" + path("x.npy"), "--output", path("plain")}, 0, "scores");
    const Finished f = tenon(
        {"run", path(model), "--input", "x=" + path("x.npy"), "--output", path("fused"), "--compile", "--profile"});
    if (f.code != 0 && f.err.find("without the compiler") != std::string::npos) GTEST_SKIP() << f.err;
    EXPECT_EQ(f.code, 0) << f.err;
    EXPECT_THAT(read_text_file(path("fused/profile.json")), HasSubstr("\"kernel\""));  // it ran as kernels
    for (const char* name : {"scores.npy", "best.npy"})
      EXPECT_EQ(read_text_file(path("plain/" + std::string(name))), read_text_file(path("fused/" + std::string(name))));
  }
}

// Factors of filters go into the weights: nearly the same numbers, not the same bits.
TEST_F(ModelCommand, FastItGivesNearlyTheSameNumbers) {
  const Tensor filters = normal({8, 3, 3, 3}), scale = uniform({8, 1, 1}, 0.5, 2), image = normal({1, 3, 12, 12});
  save(path("conv.tenon"), [&](const Tensors& in) { return Tensors{conv2d(in[0], filters) * scale}; },
       {{"image", f32, {1, 3, 12, 12}}}, {.outputs = {"y"}});
  data::write_npy(path("image.npy"), data::to_host(image));
  expect({"convert", path("conv.tenon"), path("conv.onnx")}, 0, "");
  for (const char* model : {"conv.tenon", "conv.onnx"}) {
    expect({"run", path(model), "--input", "image=" + path("image.npy"), "--output", path("strict")}, 0, "y");
    expect({"run", path(model), "--input", "image=" + path("image.npy"), "--output", path("fast"), "--fast"}, 0, "y");
    const Tensor strict = data::to_tensor(data::read_npy(path("strict/y.npy"))),
                 fast = data::to_tensor(data::read_npy(path("fast/y.npy")));
    EXPECT_LT(max(abs(strict - fast)).item<float>(), 1e-4F) << model;
    EXPECT_GT(max(abs(strict - fast)).item<float>(), 0) << model;
  }
}

TEST_F(ModelCommand, DiffFindsTheFirstLayerWhereTheyPart) {
  save(path("other.tenon"), function(1.5), {{"x", f32, {"batch", 4}}}, {.outputs = {"scores", "best"}});
  expect({"convert", path("model.tenon"), path("model.onnx")}, 0, "");
  expect({"diff", path("model.tenon"), path("model.onnx")}, 0, "scores: f32[3, 3] largest difference");
  expect({"diff", path("model.tenon"), path("model.tenon"), "--input", "x=" + path("x.npy")}, 0,
         "scores: f32[2, 3] largest difference 0, relative 0");
  const Finished f = tenon({"diff", path("model.tenon"), path("other.tenon")});
  EXPECT_EQ(f.code, 1);
  EXPECT_THAT(f.out, HasSubstr("first layer where they part: multiply f32[3, 3]"));
  EXPECT_THAT(f.out, HasSubstr("best: i64[3] largest difference 0"));
}

// Folders in the layout of the ONNX backend: one that passes, one whose output is another, one of an unknown operator.
TEST_F(ModelCommand, ConformancePrintsALineForEachCase) {
  namespace onnx = formats::onnx;
  expect({"convert", path("model.tenon"), path("model.onnx")}, 0, "");
  const auto proto = [](const Tensor& x) {
    onnx::TensorData data;
    data.dims.assign(x.shape().begin(), x.shape().end());
    data.type = onnx::data_type_of(x.dtype());
    const auto bytes = x.data<std::byte>();
    data.raw = {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
    data.has_raw = true;
    return onnx::serialize(data);
  };
  const Tensors want = function(1)({x_});
  const auto make = [&](const std::string& name, const Tensor& scores) {
    const std::string set = path("cases/" + name + "/test_data_set_0");
    fs::create_directories(set);
    fs::copy_file(path("model.onnx"), path("cases/" + name + "/model.onnx"));
    write_file_atomic(set + "/input_0.pb", proto(x_));
    write_file_atomic(set + "/output_0.pb", proto(scores));
    write_file_atomic(set + "/output_1.pb", proto(contiguous(want[1])));
  };
  make("b_right", contiguous(want[0]));
  make("a_wrong", contiguous(want[0] + 0.5));
  make("c_unknown", contiguous(want[0]));
  std::string model = read_text_file(path("cases/c_unknown/model.onnx"));
  model.replace(model.find("MatMul", model.find("\x22\x06MatMul")), 6, "MatMux");
  write_file_atomic(path("cases/c_unknown/model.onnx"), model);
  const Finished f = tenon({"conformance", "onnx", path("cases"), "--json", path("results.json")});
  EXPECT_EQ(f.code, 1) << f.err;
  std::vector<std::string> lines;
  for (size_t at = 0; at < f.out.size();) {
    const size_t end = f.out.find('\n', at);
    lines.push_back(f.out.substr(at, end - at));
    at = end + 1;
  }
  ASSERT_GE(lines.size(), 4U) << f.out;
  EXPECT_THAT(lines[0], testing::StartsWith("failed  a_wrong: output 0 ('scores'): 6 of 6 elements differ"));
  EXPECT_EQ(lines[1], "passed  b_right");
  EXPECT_THAT(lines[2], testing::StartsWith("skipped c_unknown: "));
  EXPECT_THAT(f.out, HasSubstr("the nearest is ai.onnx.MatMul"));
  EXPECT_EQ(lines.back(), "1 passed, 1 failed, 1 skipped");
  const auto json = nlohmann::json::parse(read_text_file(path("results.json")));
  EXPECT_EQ(json["passed"], 1);
  EXPECT_EQ(json["failed"], 1);
  EXPECT_EQ(json["skipped"], 1);
  EXPECT_EQ(json["programs"], 1);
  ASSERT_EQ(json["cases"].size(), 3U);
  EXPECT_EQ(json["cases"][1]["name"], "b_right");
  EXPECT_EQ(json["cases"][1]["outcome"], "passed");
  EXPECT_THAT(json["cases"][2]["reason"].get<std::string>(), HasSubstr("MatMux"));
  EXPECT_EQ(tenon({"conformance", "onnx", path("cases/b_right")}).code, 0);
  expect({"conformance", "tflite", path("cases")}, 2, "no such set of cases");
}

TEST_F(ModelCommand, WrongUseIsNamed) {
  std::ofstream(path("nonsense")) << "nonsense";
  std::ofstream(path("broken.onnx")) << "\x08\x09\x3a\xff";
  const std::string model = path("model.tenon"), x = "x=" + path("x.npy");
  expect({"info", path("nonsense")}, 1, "a file of no known format");
  expect({"info", path("none")}, 1, path("none"));
  expect({"run", path("x.npy")}, 1, "an NPY array holds no model to run");
  expect({"run", path("broken.onnx")}, 1, "broken.onnx");
  expect({"run", model}, 1, "the input 'x' is missing; expected f32[batch, 4]");
  expect({"run", model, "--input", "x"}, 2, "--input is not NAME=FILE");
  expect({"run", model, "--input", x, "--input", x}, 2, "the input x is given twice");
  expect({"run", model, "--input", "y=" + path("x.npy")}, 1, "there is no input 'y'");
  expect({"run", model, "--input", "x=" + path("none.npy")}, 1, "none.npy");
  expect({"run", model, "--input", x, "--function", "encode"}, 1, "no function of this name");
  expect({"convert", model, path("model.xyz")}, 2, "says no format that can be written");
  expect({"convert", model, path("model.onnx"), "--opset", "7"}, 2, "--opset: out of range");
  expect({"convert", model, path("m.npz"), "--opset", "17"}, 2, "--opset is for ONNX models");
  expect({"convert", path("x.npy"), path("m.onnx")}, 1, "an NPY array holds weights and no model");
  expect({"convert", model, path("m.onnx"), "--sizes", "batch"}, 2, "--sizes is not a list of sizes");
  expect({"diff", model, path("x.npy")}, 1, "holds no model");
  save(path("three.tenon"), [](const Tensors& in) { return Tensors{in[0]}; }, {{"x", f32, {2}}});
  expect({"diff", model, path("three.tenon")}, 1, "another number of inputs or outputs");
  save(path("gamma.tenon"), [](const Tensors& in) { return Tensors{lgamma(in[0])}; }, {{"x", f32, {2}}});
  expect({"convert", path("gamma.tenon"), path("gamma.onnx")}, 1, "ONNX has no gamma function");
  EXPECT_FALSE(fs::exists(path("gamma.onnx")));
}

}  // namespace
}  // namespace tenon::cli
