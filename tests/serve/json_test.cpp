// Bodies: the JSON parser, TensorFlow Serving's forms, base64, compression.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>

#include "tenon/base/file.h"
#include "tenon/serve/base64.h"
#include "tenon/serve/http.h"
#include "tenon/serve/json_reader.h"
#include "tenon/serve/tensor_json.h"
#include "tenon/serve/tfs_json.h"
#include "tests/serve/support.h"
#include "tests/support/error_text.h"

namespace tenon::serve {
namespace {

using namespace testing_support;
using tenon::testing_support::error_text;
using testing::HasSubstr;

// Inputs of several types.
class TypedModel final : public Model {
 public:
  explicit TypedModel(std::vector<TensorSpec> inputs, std::vector<TensorSpec> outputs = {}) {
    inputs_ = std::move(inputs);
    outputs_ = std::move(outputs);
  }
  std::vector<Value> run(std::vector<Value> inputs) const override { return inputs; }
};
const TypedModel& floats() {
  static const TypedModel model({{"x", {DType::F32}, false, {}}});
  return model;
}

Tensor tensor_of(const std::string& json, DType dtype = DType::F32) {
  JsonReader reader(json);
  TensorBuilder builder({dtype});
  builder.read(reader);
  return std::get<Tensor>(builder.take_one());
}

TEST(ServeJson, ReadsTensorsOfEveryRank) {
  EXPECT_EQ(tensor_of("1.5").shape(), Shape{});
  EXPECT_EQ(tensor_of("[[1,2],[3,4],[5,6]]").shape(), (Shape{3, 2}));
  EXPECT_EQ(tensor_of("[[1,2],[3,4],[5,6]]").to_vector<float>(), (std::vector<float>{1, 2, 3, 4, 5, 6}));
  EXPECT_EQ(tensor_of("[ ]").shape(), (Shape{0}));
  EXPECT_EQ(tensor_of("[[],[]]").shape(), (Shape{2, 0}));
  EXPECT_EQ(tensor_of("[[[1],[2]],[[3],[4]]]", DType::I64).shape(), (Shape{2, 2, 1}));
  EXPECT_EQ(tensor_of("[true,false]", DType::Bool).to_vector<int64_t>(), (std::vector<int64_t>{1, 0}));
  const auto special = tensor_of("[NaN, Infinity, -Infinity, 1e-50, -0.0, 1435774380]").to_vector<float>();
  EXPECT_TRUE(std::isnan(special[0]));
  EXPECT_EQ(special[1], std::numeric_limits<float>::infinity());
  EXPECT_EQ(special[2], -std::numeric_limits<float>::infinity());
  EXPECT_EQ(special[3], 0);
  EXPECT_TRUE(std::signbit(special[4]));
  EXPECT_EQ(special[5], 1435774336);  // as the original's page says
}

TEST(ServeJson, RefusesWhatIsNoTensor) {
  EXPECT_THAT(error_text<RequestError>([] { tensor_of("[[1,2],[3]]"); }),
              HasSubstr("Encountered list at unexpected size: 1 at level: 1 expected size: 2"));
  EXPECT_THAT(error_text<RequestError>([] { tensor_of("[1,[2]]"); }),
              HasSubstr("Encountered list at unexpected level: 1 expected < 1"));
  EXPECT_THAT(error_text<RequestError>([] { tensor_of("[[1],2]"); }),
              HasSubstr("JSON Value: 2 found at incorrect level: 2"));
  EXPECT_THAT(error_text<RequestError>([] { tensor_of("[\"a\"]"); }),
              HasSubstr("JSON Value: \"a\" Type: String is not of expected type: float"));
  EXPECT_THAT(error_text<RequestError>([] { tensor_of("[1.5]", DType::I32); }),
              HasSubstr("is not of expected type: int32"));
  EXPECT_THAT(error_text<RequestError>([] { tensor_of("[300]", DType::U8); }),
              HasSubstr("is not of expected type: uint8"));
  EXPECT_THAT(error_text<RequestError>([] { tensor_of("[-1]", DType::U8); }),
              HasSubstr("is not of expected type: uint8"));
  EXPECT_THAT(error_text<RequestError>([] { tensor_of("[1]", DType::Bool); }),
              HasSubstr("is not of expected type: bool"));
  EXPECT_THAT(error_text<RequestError>([] { tensor_of("[1e39]"); }), HasSubstr("without loss of precision"));
  EXPECT_THAT(error_text<RequestError>([] { tensor_of("[1,]"); }), HasSubstr("JSON Parse error"));
  EXPECT_THAT(error_text<RequestError>([] { tensor_of("[1"); }), HasSubstr("the text ends too early at offset: 2"));
  EXPECT_THAT(error_text<RequestError>([] { tensor_of("[01]"); }), HasSubstr("Missing a comma"));
  EXPECT_THAT(error_text<RequestError>([] { tensor_of(std::string(5000, '[')); }), HasSubstr("nested too deeply"));
}

TEST(ServeJson, PredictBodiesInRowAndColumnForm) {
  const auto row = parse_predict(R"({"instances": [1.0, 2.0, 5.0]} trailing bytes are not looked at)", floats());
  EXPECT_TRUE(row.rows);
  EXPECT_EQ(std::get<Tensor>(row.inputs[0].value).to_vector<float>(), (std::vector<float>{1, 2, 5}));
  const auto column = parse_predict(R"({"signature_name": "serving_default", "inputs": {"x": [[1],[2]]}})", floats());
  EXPECT_FALSE(column.rows);
  EXPECT_EQ(shape_of(column.inputs[0].value), (Shape{2, 1}));

  const TypedModel three(
      {{"tag", kStrings, false, {}}, {"signal", {DType::I32}, false, {}}, {"sensor", {DType::F64}, false, {}}});
  const auto named = parse_predict(R"({"instances": [
      {"tag": "foo", "signal": [1, 2, 3], "sensor": [[1, 2], [3, 4]]},
      {"sensor": [[4, 5], [6, 8]], "signal": [3, 4, 1], "tag": {"b64": "YmFy"}}]})",
                                   three);
  EXPECT_EQ(std::get<Strings>(named.inputs[0].value).values, (std::vector<std::string>{"foo", "bar"}));
  EXPECT_EQ(shape_of(named.inputs[1].value), (Shape{2, 3}));
  EXPECT_EQ(std::get<Tensor>(named.inputs[2].value).to_vector<double>(), (std::vector<double>{1, 2, 3, 4, 4, 5, 6, 8}));
  const auto predict = [&](const char* body, const Model& model) {
    return error_text<RequestError>([&] { parse_predict(body, model); });
  };
  EXPECT_THAT(predict("{}", floats()), HasSubstr("Missing 'inputs' or 'instances' key"));
  EXPECT_THAT(predict("", floats()), HasSubstr("The document is empty"));
  EXPECT_THAT(predict("[1]", floats()), HasSubstr("must be an object"));
  EXPECT_THAT(predict(R"({"instances": []})", floats()), HasSubstr("empty list"));
  EXPECT_THAT(predict(R"({"instances": 1})", floats()), HasSubstr("list/array"));
  EXPECT_THAT(predict(R"({"instances": [1], "inputs": [1]})", floats()), HasSubstr("both"));
  EXPECT_THAT(predict(R"({"signature_name": 1, "instances": [1]})", floats()), HasSubstr("must be a string value"));
  EXPECT_THAT(predict(R"({"signature_name": "nope", "instances": [1]})", floats()),
              HasSubstr("Serving signature name: \"nope\" not found"));
  EXPECT_THAT(predict(R"({"instances": [1]})", three), HasSubstr("the model has 3 inputs"));
  EXPECT_THAT(predict(R"({"instances": [{"tag": "a", "signal": 1}]})", three), HasSubstr("has 2 of the model's 3"));
  EXPECT_THAT(predict(R"({"instances": [{"y": 1}]})", floats()), HasSubstr("does not have named input: y"));
  EXPECT_THAT(predict(R"({"instances": [{"x": 1}, 2]})", floats()), HasSubstr("or none of them"));
}

TEST(ServeJson, AnswersInTheDocumentedForm) {
  const NamedValue y{"y", from_vector(std::vector<float>{3.5F, 4, 5.5F}, {3})};
  EXPECT_EQ(predict_answer({y}, true), "{\n    \"predictions\": [3.5, 4.0, 5.5]\n}");
  EXPECT_EQ(predict_answer({y}, false), "{\n    \"outputs\": [3.5, 4.0, 5.5]\n}");
  EXPECT_EQ(regress_answer({3.5F, 4}), "{\n    \"results\": [3.5, 4.0]\n}");
  EXPECT_EQ(error_answer("Servable not found for request: Latest(half)"),
            "{ \"error\": \"Servable not found for request: Latest(half)\" }");
  const float inf = std::numeric_limits<float>::infinity();
  const NamedValue odd{"y", from_vector(std::vector<float>{std::nanf(""), inf, -inf, 0.2F, 9000000, 1e-7F}, {6})};
  EXPECT_EQ(predict_answer({odd}, false), "{\n    \"outputs\": [NaN, Infinity, -Infinity, 0.2, 9e+06, 1e-07]\n}");
  const NamedValue image{"image_bytes", Strings{{2}, {"a", "b"}}}, text{"text", Strings{{2}, {"a\"", "b\n"}}};
  const auto parsed = nlohmann::json::parse(predict_answer({image, text}, true));
  EXPECT_EQ(parsed["predictions"][1]["image_bytes"]["b64"], "Yg==");
  EXPECT_EQ(parsed["predictions"][0]["text"], "a\"");
  EXPECT_THAT(error_text<RequestError>([&] { predict_answer({y, image}, true); }),
              HasSubstr("inconsistent batch size: 2 expecting: 3"));
  EXPECT_EQ(classify_answer({{{"cat", 0.5F}, {"", 1}}, {}}),
            "{\n    \"results\": [[[\"cat\", 0.5], [\"\", 1.0]], []]\n}");
  EXPECT_EQ(
      status_answer({{123, VersionState::Available, {}}}),
      "{\n \"model_version_status\": [\n  {\n   \"version\": \"123\",\n   \"state\": \"AVAILABLE\",\n   \"status\": "
      "{\n    \"error_code\": \"OK\",\n    \"error_message\": \"\"\n   }\n  }\n ]\n}\n");
}

// TensorFlow Serving's own file, its serving_default signature.
TEST(ServeJson, MetadataIsTheOriginals) {
  const std::string path =
      std::string(TENON_SHARED_DATA) +
      "/tf_serving/tensorflow_serving/servables/tensorflow/testdata/half_plus_two_model_metadata.json";
  if (!fs::exists(path)) GTEST_SKIP() << "TensorFlow Serving's test data are not at " << path;
  auto original = nlohmann::ordered_json::parse(read_text_file(path));
  auto& signatures = original["metadata"]["signature_def"]["signature_def"];
  signatures = nlohmann::ordered_json{{"serving_default", signatures["serving_default"]}};
  const TypedModel model({{"x", {DType::F32}, true, {-1, 1}}}, {{"y", {DType::F32}, true, {-1, 1}}});
  EXPECT_EQ(metadata_answer(model, "default", 123), original.dump(1) + "\n");
}

TEST(ServeJson, ExamplesBecomeInputs) {
  const TypedModel model(
      {{"x", {DType::F32}, true, {-1}}, {"w", {DType::I64}, true, {-1, 2}}, {"s", kStrings, true, {-1, 1}}});
  const auto body =
      parse_examples(R"({"context": {"s": "c"}, "examples": [{"x": 1, "w": [1, 2]}, {"x": [2.5], "w": [true, 4]}]})");
  const auto inputs = inputs_of(model, body.examples);
  EXPECT_EQ(std::get<Tensor>(inputs[0].value).to_vector<float>(), (std::vector<float>{1, 2.5}));
  EXPECT_EQ(std::get<Tensor>(inputs[1].value).to_vector<int64_t>(), (std::vector<int64_t>{1, 2, 1, 4}));
  EXPECT_EQ(shape_of(inputs[2].value), (Shape{2, 1}));
  EXPECT_THAT(
      error_text<RequestError>([&] { inputs_of(model, parse_examples(R"({"examples": [{"x": 1}]})").examples); }),
      HasSubstr("Feature: w is required"));
  EXPECT_THAT(error_text<RequestError>([&] { parse_examples(R"({"examples": []})"); }), HasSubstr("non-empty list"));
  EXPECT_THAT(error_text<RequestError>([&] { parse_examples(R"({"context": {"x": 1}, "examples": [{"x": 1}]})"); }),
              HasSubstr("both in 'context' and in 'examples'"));
}

TEST(ServeJson, Base64RoundTrips) {
  for (const std::string& text :
       {std::string(), std::string("a"), std::string("ab"), std::string("abc"), std::string("\0\xff\x80 zz", 6)})
    EXPECT_EQ(from_base64(base64(text)), text);
  EXPECT_EQ(base64("image bytes"), "aW1hZ2UgYnl0ZXM=");
  EXPECT_EQ(from_base64("aW1hZ2UgYnl0ZXM"), "image bytes");
  EXPECT_THAT(error_text<RequestError>([] { from_base64("a*b"); }), HasSubstr("Unable to base64 decode"));
}

TEST(ServeJson, CompressedBodies) {
  const std::string text(100000, 'x');
  for (const char* encoding : {"gzip", "deflate"}) {
    const std::string packed = encoded_body(text, encoding);
    EXPECT_LT(packed.size(), 2000U);
    EXPECT_EQ(decoded_body(packed, encoding, 1 << 20), text);
    EXPECT_THAT(error_text<RequestError>([&] { decoded_body(packed, encoding, 1000); }),
                HasSubstr("more than the 1000 bytes"));
    EXPECT_NE(error_text<RequestError>([&] { decoded_body(packed.substr(0, packed.size() / 2), encoding, 1 << 20); }),
              "no error");
  }
  EXPECT_THAT(error_text<RequestError>([] { decoded_body("x", "br", 10); }), HasSubstr("'br' is not known"));
  EXPECT_EQ(accepted_encoding("br, deflate;q=0.5, gzip"), "deflate");
  EXPECT_EQ(accepted_encoding("gzip;q=0"), "");
}

// The standard's own cases: what must be accepted is, and what must be refused is, but for the stated tolerances.
TEST(ServeJson, JsonTestSuite) {
  const fs::path folder = fs::path(TENON_SHARED_DATA) / "json_test_suite";
  if (!fs::exists(folder)) GTEST_SKIP() << "JSONTestSuite is not at " << folder;
  int checked = 0;
  for (const auto& entry : fs::recursive_directory_iterator(folder)) {
    const std::string name = entry.path().filename().string();
    if (entry.path().extension() != ".json" || entry.path().parent_path().filename() != "test_parsing") continue;
    const std::string text = read_text_file(entry.path());
    bool accepted = true;
    size_t end = 0;
    try {
      JsonReader reader(text);
      reader.skip_value();
      end = reader.offset();
    } catch (const RequestError&) {
      accepted = false;
    }
    ++checked;
    EXPECT_TRUE(accepted || name[0] != 'y') << name;
    if (name[0] != 'n' || !accepted) continue;
    // Accepted all the same: bytes after the first value are ignored; NaN and Infinity are numbers; UTF-8 in texts is
    // not checked, as in the original's parser.
    const bool trailing = text.find_first_not_of(" \t\r\n", end) != std::string::npos;
    const bool special = text.find("NaN") != std::string::npos || text.find("Infinity") != std::string::npos;
    EXPECT_TRUE(trailing || special || name.find("utf8") != std::string::npos ||
                name.find("utf-8") != std::string::npos)
        << name << ": " << text.substr(0, 80);
  }
  EXPECT_GT(checked, 180);
}

}  // namespace
}  // namespace tenon::serve
