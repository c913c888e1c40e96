// ONNX models as programs: the results of a run node by node, made once for each kind of inputs, and the reasons of
// what has no program.
#include "tenon/formats/onnx/prepared_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "tenon/base/error.h"
#include "tenon/exec/evaluate.h"
#include "tenon/exec/session.h"
#include "tenon/formats/onnx/proto_write.h"
#include "tenon/tenon.h"
#include "tests/support/error_text.h"

namespace tenon::formats::onnx {
namespace {

using testing::HasSubstr;
using testing::StartsWith;
using testing_support::error_text;

// ---- small models ----
ValueInfo info(const std::string& name, DataType type, const std::vector<std::string>& dims) {
  ValueInfo value;
  value.name = name;
  value.type.kind = TypeData::Kind::Tensor;
  value.type.element = type;
  value.type.has_shape = true;
  value.type.dims = dims;
  return value;
}
NodeData op_node(const std::string& op, const std::vector<std::string>& in, const std::vector<std::string>& out,
                 const std::vector<Attribute>& attributes = {}) {
  NodeData n;
  n.op_type = op;
  n.name = "the_" + op;
  n.inputs = in;
  n.outputs = out;
  n.attributes = attributes;
  return n;
}
Attribute integer(const std::string& name, int64_t value) {
  Attribute a;
  a.name = name;
  a.type = 2;
  a.i = value;
  return a;
}
Attribute text(const std::string& name, const std::string& value) {
  Attribute a;
  a.name = name;
  a.type = 3;
  a.s = value;
  return a;
}
Attribute graph(const std::string& name, const GraphData& value) {
  Attribute a;
  a.name = name;
  a.type = 5;
  a.graph = std::make_shared<const GraphData>(value);
  return a;
}
// The tensor keeps the bytes that the file's part has a view of.
TensorData weight(const std::string& name, const Tensor& x) {
  TensorData data;
  data.name = name;
  data.type = data_type_of(x.dtype());
  data.dims.assign(x.shape().begin(), x.shape().end());
  const auto bytes = x.data<std::byte>();
  data.raw = {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
  data.has_raw = true;
  return data;
}
Attribute tensor_attribute(const std::string& name, const Tensor& x) {
  Attribute a;
  a.name = name;
  a.type = 4;
  a.tensor = std::make_shared<const TensorData>(weight("", x));
  return a;
}

struct Parts {
  std::vector<NodeData> nodes;
  std::vector<ValueInfo> inputs, outputs;
  std::vector<TensorData> weights = {};
};
Model model_of(const Parts& parts) {
  ModelData data;
  data.ir_version = 8;
  data.opsets[""] = 17;
  data.graph.name = "g";
  data.graph.nodes = parts.nodes;
  data.graph.inputs = parts.inputs;
  data.graph.outputs = parts.outputs;
  data.graph.initializers = parts.weights;
  const auto bytes = std::make_shared<const std::string>(serialize(data));
  return Model::parse(*bytes, bytes, "test.onnx");
}

// Two convolutions with a relu each and a product, at any batch.
Model network(bool weights_in_nodes = false) {
  static const std::vector<std::pair<std::string, Tensor>> weights{
      {"filters", uniform({24, 3, 3, 3}, -1, 1, f32, random_key(1))},
      {"bias", uniform({24}, -1, 1, f32, random_key(2))},
      {"more_filters", uniform({20, 24, 3, 3}, -1, 1, f32, random_key(3))},
      {"product", uniform({20, 40}, -1, 1, f32, random_key(4))}};
  Parts parts{.nodes = {op_node("Conv", {"x", "filters", "bias"}, {"a"}), op_node("Relu", {"a"}, {"b"}),
                        op_node("Conv", {"b", "more_filters"}, {"c"}), op_node("Relu", {"c"}, {"d"}),
                        op_node("GlobalAveragePool", {"d"}, {"e"}), op_node("Flatten", {"e"}, {"f"}),
                        op_node("MatMul", {"f", "product"}, {"g"}), op_node("Softmax", {"g"}, {"y"})},
              .inputs = {info("x", DataType::Float, {"batch", "3", "h", "w"})},
              .outputs = {info("y", DataType::Float, {"batch", "40"})}};
  for (const auto& [name, x] : weights) {
    if (weights_in_nodes)
      parts.nodes.insert(parts.nodes.begin(), op_node("Constant", {}, {name}, {tensor_attribute("value", x)}));
    else
      parts.weights.push_back(weight(name, x));
  }
  return model_of(parts);
}
Tensor image(int64_t batch, int64_t side = 12) { return uniform({batch, 3, side, side}, -1, 1, f32, random_key(7)); }

void expect_same(const Tensors& got, const Tensors& want) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_EQ(got[i].type(), want[i].type());
    const Tensor a = contiguous(got[i]), b = contiguous(want[i]);
    EXPECT_TRUE(std::ranges::equal(a.data<std::byte>(), b.data<std::byte>())) << "output " << i;
  }
}

TEST(PreparedModel, HasTheBitsOfTheModelAndIsMadeOnce) {
  const NoGrad no_grad;
  const Model model = network();
  const PreparedModel prepared(model);
  EXPECT_EQ(prepared.execution(), "as a program, made with the first inputs");
  for (int round = 0; round < 3; ++round) {
    for (const int64_t batch : {1, 2, 5}) expect_same(prepared({image(batch)}), model({image(batch)}));
  }
  const Tensor by_name = *prepared.run({{"x", image(2)}})[0].tensor();
  expect_same({by_name}, model({image(2)}));
  const auto report = prepared.report();
  EXPECT_EQ(report.programs_made, 3);
  EXPECT_EQ(report.programs_kept, 3);
  EXPECT_EQ(report.program_runs, 10);
  EXPECT_EQ(report.node_runs, 0);
  EXPECT_EQ(report.reason, "");
  EXPECT_EQ(prepared.execution(), "as a program");
}

TEST(PreparedModel, SeveralProgramsHaveTheWeightsOnce) {
  const NoGrad no_grad;
  for (const bool in_nodes : {false, true}) {
    const Model model = network(in_nodes);
    const PreparedModel prepared(model);
    (void)prepared({image(1)});
    const int64_t bytes = prepared.report().weight_bytes;
    EXPECT_GE(bytes, (24 * 27 + 20 * 24 * 9 + 20 * 40) * 4);
    for (const int64_t batch : {2, 3, 4}) expect_same(prepared({image(batch)}), model({image(batch)}));
    EXPECT_EQ(prepared.report().weight_bytes, bytes) << in_nodes;
  }
}

TEST(PreparedModel, TheLeastRecentlyUsedProgramGoes) {
  const NoGrad no_grad;
  const Model model = network();
  const PreparedModel prepared(model, {.most_programs = 2});
  const auto run = [&](int64_t batch) {
    expect_same(prepared({image(batch)}), model({image(batch)}));
    return prepared.report().programs_made;
  };
  EXPECT_EQ(run(1), 1);
  EXPECT_EQ(run(2), 2);
  EXPECT_EQ(run(1), 2);
  EXPECT_EQ(run(3), 3) << "2 was not used for longest";
  EXPECT_EQ(run(1), 3);
  EXPECT_EQ(run(2), 4);
  EXPECT_EQ(prepared.report().programs_kept, 2);
  EXPECT_EQ(prepared.report().node_runs, 0);
}

TEST(PreparedModel, ProgramsTakeNoMoreMemoryThanAllowed) {
  const NoGrad no_grad;
  const PreparedModel prepared(network(), {.most_bytes = 1});
  for (const int64_t batch : {1, 2, 3}) (void)prepared({image(batch)});
  EXPECT_EQ(prepared.report().programs_kept, 1);
  (void)prepared({image(3)});
  EXPECT_EQ(prepared.report().programs_made, 3) << "the last one stays";
}

TEST(PreparedModel, AModelThatSaysItsShapesIsPreparedBeforeItsFirstRun) {
  Parts parts{.nodes = {op_node("Exp", {"x"}, {"y"})},
              .inputs = {info("x", DataType::Float, {"2", "3"})},
              .outputs = {info("y", DataType::Float, {"2", "3"})}};
  const PreparedModel fixed(model_of(parts));
  fixed.prepare();
  EXPECT_EQ(fixed.report().programs_made, 1);
  EXPECT_EQ(fixed.execution(), "as a program");
  const NoGrad no_grad;
  expect_same(fixed({ones({2, 3})}), {exp(ones({2, 3}))});
  EXPECT_EQ(fixed.report().programs_made, 1);
  const PreparedModel open(network());
  open.prepare();
  EXPECT_EQ(open.report().programs_made, 0);
  parts.nodes = {op_node("RandomUniformLike", {"x"}, {"y"})};
  const PreparedModel random(model_of(parts));
  random.prepare();
  EXPECT_EQ(random.execution(), "node by node (RandomUniformLike: draws other numbers each time)");
}

// As pyramids of features do: one map is brought to the extents of another, whatever they are.
TEST(PreparedModel, ResizesInEveryModeAsAProgram) {
  const NoGrad no_grad;
  const std::vector<NodeData> extents{op_node("Shape", {"x"}, {"whole"}), op_node("Shape", {"other"}, {"other_whole"}),
                                      op_node("Slice", {"whole", "zero", "two"}, {"front"}),
                                      op_node("Slice", {"other_whole", "two", "four"}, {"back"}),
                                      op_node("Concat", {"front", "back"}, {"sizes"}, {integer("axis", 0)})};
  const Tensor zero = from_vector<int64_t>({0}, {1}), two = from_vector<int64_t>({2}, {1}),
               four = from_vector<int64_t>({4}, {1}), scales = from_vector<float>({1, 1, 0.7F, 2}, {4});
  const Tensors in{uniform({2, 5, 7, 6}, -1, 1, f32, random_key(1)), zeros({1, 1, 11, 9})};
  for (const char* mode : {"nearest", "linear", "cubic"}) {
    for (const char* where :
         {"half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric"}) {
      for (const bool by_sizes : {true, false}) {
        std::vector<NodeData> nodes;
        if (by_sizes) nodes = extents;
        nodes.push_back(op_node(
            "Resize",
            by_sizes ? std::vector<std::string>{"x", "", "", "sizes"} : std::vector<std::string>{"x", "", "scales"},
            {"y"}, {text("mode", mode), text("coordinate_transformation_mode", where)}));
        const Model model = model_of(
            {.nodes = nodes,
             .inputs = {info("x", DataType::Float, {"n", "c", "h", "w"}),
                        info("other", DataType::Float, {"a", "b", "p", "q"})},
             .outputs = {info("y", DataType::Float, {"n", "c", "p", "q"})},
             .weights = {weight("zero", zero), weight("two", two), weight("four", four), weight("scales", scales)}});
        const PreparedModel prepared(model);
        expect_same(prepared(in), model(in));
        EXPECT_EQ(prepared.report().program_runs, 1) << mode << " " << where << ": " << prepared.execution();
      }
    }
  }
}

TEST(PreparedModel, ResizesByScalesThatAreInputs) {
  const NoGrad no_grad;
  const Model model =
      model_of({.nodes = {op_node("Resize", {"x", "", "scales"}, {"y"}, {text("mode", "linear")})},
                .inputs = {info("x", DataType::Float, {"1", "2", "5", "6"}), info("scales", DataType::Float, {"4"})},
                .outputs = {info("y", DataType::Float, {"n", "c", "p", "q"})}});
  const PreparedModel prepared(model);
  prepared.prepare();
  EXPECT_EQ(prepared.report().programs_made, 0) << "not for scales of zero";
  const Tensor x = uniform({1, 2, 5, 6}, -1, 1, f32, random_key(1));
  for (int round = 0; round < 3; ++round) {
    for (const float scale : {2.0F, 1.5F, 0.5F}) {
      const Tensor scales = from_vector<float>({1, 1, scale, scale}, {4});
      expect_same(prepared({x, scales}), model({x, scales}));
    }
  }
  EXPECT_EQ(prepared.report().programs_made, 3);
  EXPECT_EQ(prepared.report().program_runs, 9);
  EXPECT_EQ(prepared.execution(), "as a program");
  // Scales that never come back are not worth it.
  for (int i = 1; i < 60; ++i) {
    const Tensor scales = from_vector<float>({1, 1, 1 + static_cast<float>(i) / 64, 1}, {4});
    expect_same(prepared({x, scales}), model({x, scales}));
  }
  EXPECT_LT(prepared.report().programs_made, 60);
}

// ---- what has no program ----
TEST(PreparedModel, ShapesThatFollowFromValuesGoNodeByNodeAndItSaysWhy) {
  const NoGrad no_grad;
  const Model model = model_of({.nodes = {op_node("Relu", {"x"}, {"r"}), op_node("NonZero", {"r"}, {"y"})},
                                .inputs = {info("x", DataType::Float, {"n"})},
                                .outputs = {info("y", DataType::Int64, {"1", "k"})}});
  const PreparedModel prepared(model);
  expect_same(prepared({tensor({1.0F, -1.0F, 2.0F})}), {from_vector<int64_t>({0, 2}, {1, 2})});
  expect_same(prepared({tensor({-1.0F, -1.0F, 2.0F})}), {from_vector<int64_t>({2}, {1, 1})});
  EXPECT_THAT(prepared.report().reason, StartsWith("NonZero: "));
  EXPECT_THAT(prepared.execution(), StartsWith("node by node (NonZero: "));
  EXPECT_EQ(prepared.report().node_runs, 2);
  // At last it is not tried any more.
  for (int64_t n = 1; n < 20; ++n) expect_same(prepared({ones({n})}), model({ones({n})}));
  EXPECT_EQ(prepared.report().programs_made, 0);
  EXPECT_THAT(prepared.report().reason, StartsWith("NonZero: "));
}

TEST(PreparedModel, AnOperatorWithoutAFormInAGraphGoesNodeByNode) {
  const NoGrad no_grad;
  const PreparedModel prepared(model_of({.nodes = {op_node("BitCast", {"x"}, {"y"}, {integer("to", 6)})},
                                         .inputs = {info("x", DataType::Float, {"1"})},
                                         .outputs = {info("y", DataType::Int32, {"1"})}}));
  expect_same(prepared({ones({1})}), {from_vector<int32_t>({0x3f800000}, {1})});
  EXPECT_EQ(prepared.execution(), "node by node (BitCast: has no form in a graph)");
}

TEST(PreparedModel, OneKindOfInputsWithoutAProgramDoesNotTakeItFromTheOthers) {
  // One row: Compress keeps all of it. More rows: the mask decides, which is computed from the input.
  const NoGrad no_grad;
  GraphData few, many;
  few.name = "few";
  few.nodes = {op_node("Identity", {"x"}, {"few_y"})};
  few.outputs = {info("few_y", DataType::Float, {"n"})};
  many.name = "many";
  many.nodes = {op_node("Greater", {"x", "zero"}, {"mask"}), op_node("Compress", {"x", "mask"}, {"many_y"})};
  many.outputs = {info("many_y", DataType::Float, {"k"})};
  const Tensor zero = from_vector<float>({0}, {1}), two = from_vector<int64_t>({2}, {1});
  const Model model =
      model_of({.nodes = {op_node("Shape", {"x"}, {"s"}), op_node("Less", {"s", "two"}, {"small"}),
                          op_node("If", {"small"}, {"y"}, {graph("then_branch", few), graph("else_branch", many)})},
                .inputs = {info("x", DataType::Float, {"n"})},
                .outputs = {info("y", DataType::Float, {"k"})},
                .weights = {weight("zero", zero), weight("two", two)}});
  const PreparedModel prepared(model);
  for (int round = 0; round < 2; ++round) {
    expect_same(prepared({tensor({1.0F, -1.0F, 2.0F})}), {tensor({1.0F, 2.0F})});
    expect_same(prepared({tensor({-3.0F})}), {tensor({-3.0F})});
  }
  const auto report = prepared.report();
  EXPECT_EQ(report.programs_made, 1);
  EXPECT_EQ(report.program_runs, 2);
  EXPECT_EQ(report.node_runs, 2);
  EXPECT_THAT(report.reason, StartsWith("Compress: "));
  EXPECT_THAT(prepared.execution(), StartsWith("as a program, some inputs node by node (Compress: "));
}

TEST(PreparedModel, NumbersThatAreDrawnAreOthersEachTime) {
  const NoGrad no_grad;
  const Tensor ratio = from_vector<float>({0.5F}, {}), training = from_vector<bool>({true}, {});
  const std::vector<NodeData> list{op_node("RandomNormalLike", {"x"}, {"y"}),
                                   op_node("Dropout", {"x", "ratio", "training"}, {"y"})};
  for (const NodeData& random : list) {
    const PreparedModel prepared(model_of({.nodes = {random},
                                           .inputs = {info("x", DataType::Float, {"1000"})},
                                           .outputs = {info("y", DataType::Float, {"1000"})},
                                           .weights = {weight("ratio", ratio), weight("training", training)}}));
    const auto first = prepared({ones({1000})})[0].to_vector<float>();
    EXPECT_NE(prepared({ones({1000})})[0].to_vector<float>(), first);
    EXPECT_EQ(prepared.report().reason, random.op_type + ": draws other numbers each time");
  }
  // Dropout that is none has a program.
  const PreparedModel still(model_of({.nodes = {op_node("Dropout", {"x"}, {"y"})},
                                      .inputs = {info("x", DataType::Float, {"3"})},
                                      .outputs = {info("y", DataType::Float, {"3"})}}));
  expect_same(still({ones({3})}), {ones({3})});
  EXPECT_EQ(still.report().program_runs, 1);
}

TEST(PreparedModel, SequencesAndTextsGoNodeByNode) {
  const NoGrad no_grad;
  ValueInfo sequence = info("y", DataType::Float, {});
  sequence.type.kind = TypeData::Kind::Sequence;
  sequence.type.inner = std::make_shared<TypeData>(info("", DataType::Float, {"n"}).type);
  const PreparedModel split(model_of({.nodes = {op_node("SplitToSequence", {"x"}, {"y"})},
                                      .inputs = {info("x", DataType::Float, {"2"})},
                                      .outputs = {sequence}}));
  EXPECT_EQ(split.run({{"x", ones({2})}})[0].sequence()->items.size(), 2U);
  EXPECT_EQ(split.execution(), "node by node (output 'y' is a sequence of 2)");
  const PreparedModel texts(model_of({.nodes = {op_node("StringConcat", {"x", "x"}, {"y"})},
                                      .inputs = {info("x", DataType::String, {"1"})},
                                      .outputs = {info("y", DataType::String, {"1"})}}));
  EXPECT_EQ(texts.run({{"x", Texts{{1}, {"a"}}}})[0].texts()->values[0], "aa");
  EXPECT_EQ(texts.execution(), "node by node (input 'x' is no tensor of numbers)");
}

TEST(PreparedModel, ALoopThatWouldBeAHugeGraphGoesNodeByNode) {
  const NoGrad no_grad;
  GraphData body;
  body.name = "body";
  body.inputs = {info("i", DataType::Int64, {}), info("go", DataType::Bool, {}),
                 info("in", DataType::Float, {"a", "b"})};
  body.nodes = {op_node("Identity", {"go"}, {"go_on"}), op_node("Transpose", {"in"}, {"out"})};
  body.outputs = {info("go_on", DataType::Bool, {}), info("out", DataType::Float, {"b", "a"})};
  const Tensor steps = from_vector<int64_t>({30001}, {});
  const Model model = model_of({.nodes = {op_node("Loop", {"steps", "", "x"}, {"y"}, {graph("body", body)})},
                                .inputs = {info("x", DataType::Float, {"2", "3"})},
                                .outputs = {info("y", DataType::Float, {"3", "2"})},
                                .weights = {weight("steps", steps)}});
  const PreparedModel prepared(model);
  const Tensor x = uniform({2, 3}, -1, 1, f32, random_key(5));
  expect_same(prepared({x}), {transpose(x, 0, 1)});
  EXPECT_THAT(prepared.report().reason, HasSubstr("loops are unrolled, and that would be too many nodes"));
  EXPECT_EQ(prepared.report().node_runs, 1);
}

TEST(PreparedModel, ProgramsCanBeSwitchedOff) {
  const NoGrad no_grad;
  const Model model = network();
  const PreparedModel prepared(model, {.programs = false});
  expect_same(prepared({image(2)}), model({image(2)}));
  EXPECT_EQ(prepared.execution(), "node by node (programs are switched off)");
}

// ---- values that decide ----
Model reshaping() {
  return model_of({.nodes = {op_node("Reshape", {"x", "shape"}, {"r"}), op_node("Exp", {"r"}, {"y"})},
                   .inputs = {info("x", DataType::Float, {"n"}), info("shape", DataType::Int64, {"2"})},
                   .outputs = {info("y", DataType::Float, {"a", "b"})}});
}

TEST(PreparedModel, AProgramMayBeForTheValuesOfAShortList) {
  const NoGrad no_grad;
  const Model model = reshaping();
  const PreparedModel prepared(model);
  const Tensor x = uniform({12}, -1, 1, f32, random_key(4));
  for (int round = 0; round < 3; ++round) {
    for (const auto& shape : std::vector<std::vector<int64_t>>{{3, 4}, {4, 3}, {2, -1}}) {
      const Tensors in{x, from_vector(shape, {2})};
      expect_same(prepared(in), model(in));
    }
  }
  EXPECT_EQ(prepared.report().programs_made, 3);
  EXPECT_EQ(prepared.report().program_runs, 9);
  EXPECT_EQ(prepared.report().reason, "");
  const Tensors wrong{x, from_vector<int64_t>({5, 5}, {2})};
  EXPECT_EQ(error_text([&] { (void)prepared(wrong); }), error_text([&] { (void)model(wrong); }));
}

TEST(PreparedModel, ValuesThatAreOthersEachTimeGoNodeByNode) {
  const NoGrad no_grad;
  const Model model = model_of({.nodes = {op_node("Expand", {"x", "shape"}, {"y"})},
                                .inputs = {info("x", DataType::Float, {"1"}), info("shape", DataType::Int64, {"1"})},
                                .outputs = {info("y", DataType::Float, {"a"})}});
  const PreparedModel prepared(model);
  for (int64_t n = 1; n < 100; ++n) {
    const Tensors in{ones({1}), from_vector<int64_t>({n}, {1})};
    expect_same(prepared(in), {ones({n})});
  }
  EXPECT_LT(prepared.report().programs_made, 60);
  EXPECT_GT(prepared.report().node_runs, 40);
  EXPECT_THAT(prepared.report().reason, HasSubstr("others each time"));
}

// ---- errors ----
TEST(PreparedModel, WrongInputsGiveTheErrorsOfTheModel) {
  const Model model = network();
  const PreparedModel prepared(model, {.most_programs = 2});
  (void)prepared({image(1)});
  const std::vector<std::map<std::string, Value>> wrong{
      {},
      {{"z", image(1)}},
      {{"x", image(1)}, {"z", image(1)}},
      {{"x", ones({1, 4, 12, 12})}},
      {{"x", ones({1, 3, 2, 2})}},
      {{"x", cast(image(1), f64)}},
      {{"x", Texts{{1}, {"a"}}}},
      {{"x", Value()}},
  };
  for (int round = 0; round < 3; ++round) {
    for (const auto& inputs : wrong) {
      const std::string text = error_text([&] { (void)model.run(inputs); });
      EXPECT_NE(text, "");
      EXPECT_EQ(error_text([&] { (void)prepared.run(inputs); }), text);
    }
  }
  EXPECT_EQ(error_text([&] { (void)prepared({}); }), error_text([&] { (void)model({}); }));
  (void)prepared({image(1)});
  EXPECT_EQ(prepared.report().programs_made, 1) << "wrong inputs take no program's place";
  EXPECT_EQ(prepared.report().reason, "");
}

TEST(PreparedModel, AValueThatIsWrongIsAnErrorThatNamesTheNode) {
  const NoGrad no_grad;
  const Tensor table = uniform({5, 4}, -1, 1, f32, random_key(8));
  const Model model = model_of({.nodes = {op_node("Gather", {"table", "at"}, {"y"})},
                                .inputs = {info("at", DataType::Int64, {"n", "m"})},
                                .outputs = {info("y", DataType::Float, {"n", "m", "4"})},
                                .weights = {weight("table", table)}});
  const PreparedModel prepared(model);
  const auto at = [](int64_t i) { return Tensors{from_vector<int64_t>({0, i, 4, 1}, {2, 2})}; };
  expect_same(prepared(at(3)), model(at(3)));
  const std::string text = error_text([&] { (void)prepared(at(7)); });
  EXPECT_EQ(text, error_text([&] { (void)model(at(7)); }));
  EXPECT_THAT(text, HasSubstr("the_Gather"));
  expect_same(prepared(at(2)), model(at(2)));
  EXPECT_EQ(prepared.report().program_runs, 2);
  EXPECT_EQ(prepared.report().programs_made, 1);
}

// ---- around a run ----
TEST(PreparedModel, GradientsCapturesAndBatchesSeeTheNodes) {
  Model model = network();
  const PreparedModel prepared(model);
  const Tensor x = image(1);
  const auto loss = [](const auto& of) { return [&of](const Tensors& in) { return sum(square(of(in)[0])); }; };
  expect_same({grad(loss(prepared))({x})}, {grad(loss(model))({x})});
  const ir::Graph captured = capture([&](const Tensors& in) { return prepared(in); }, {{"x", x.type()}});
  {
    const NoGrad no_grad;
    expect_same(exec::run(captured, {x}), model({x}));
    {
      const Autocast scope(bf16);
      expect_same(prepared({x}), model({x}));
    }
    EXPECT_EQ(prepared.report().program_runs, 0);
    expect_same(prepared({x}), model({x}));
    EXPECT_EQ(prepared.report().program_runs, 1);
  }
  // A Variable's value in a weight's place.
  const Variable mine(*model.parameters().at("product").tensor());
  model.set_parameter("product", mine.value());
  const PreparedModel trained(model);
  sum(square(trained({x})[0])).backward();
  EXPECT_EQ(mine.grad().shape(), (Shape{20, 40}));
  const NoGrad no_grad;
  expect_same(trained({x}), prepared({x}));
  EXPECT_EQ(trained.report().program_runs, 1);
}

TEST(PreparedModel, AWeightMayBeGivenAsAnInput) {
  const NoGrad no_grad;
  const Tensor w = tensor({2.0F, 3.0F});
  const Model model = model_of({.nodes = {op_node("Mul", {"x", "w"}, {"y"})},
                                .inputs = {info("x", DataType::Float, {"2"}), info("w", DataType::Float, {"2"})},
                                .outputs = {info("y", DataType::Float, {"2"})},
                                .weights = {weight("w", w)}});
  const PreparedModel prepared(model);
  for (int i = 0; i < 2; ++i) {
    expect_same({*prepared.run({{"x", ones({2})}})[0].tensor()}, {w});
    expect_same({*prepared.run({{"x", ones({2})}, {"w", ones({2})}})[0].tensor()}, {ones({2})});
  }
}

TEST(PreparedModel, OtherSessionsRunTheSamePrograms) {
  const NoGrad no_grad;
  const Model model = network();
  const PreparedModel prepared(model);
  const Tensors want = model({image(3)});
  for (const exec::SessionOptions& options :
       {exec::SessionOptions{.threads = 1}, exec::SessionOptions{.threads = 4}, exec::SessionOptions{.poison = true},
        exec::SessionOptions{.threads = 1, .reuse = false}}) {
    exec::Session session(options);
    const exec::SessionScope scope(session);
    expect_same(prepared({image(3)}), want);
  }
  EXPECT_EQ(prepared.report().programs_made, 1);
}

TEST(PreparedModel, SeveralThreadsRunAtOnce) {
  const Model model = network(), values = reshaping();
  const PreparedModel prepared(model, {.most_programs = 3}), for_values(values);
  std::vector<Tensors> want;
  {
    const NoGrad no_grad;
    for (int64_t batch = 1; batch <= 4; ++batch) want.push_back(model({image(batch)}));
  }
  const Tensor x = uniform({12}, -1, 1, f32, random_key(4));
  std::vector<std::thread> threads;
  for (int64_t t = 0; t < 4; ++t) {
    threads.emplace_back([&, t] {
      const NoGrad no_grad;
      exec::Session session({.threads = 1});
      const exec::SessionScope scope(session);
      for (int64_t i = 0; i < 24; ++i) {
        const int64_t batch = i < 12 ? 1 + (i + t) % 3 : 1 + (i + t) % 4;
        expect_same(prepared({image(batch)}), want[static_cast<size_t>(batch) - 1]);
        const int64_t rows = std::vector<int64_t>{1, 2, 3, 4}[static_cast<size_t>((i + t) % 4)];
        expect_same(for_values({x, from_vector<int64_t>({rows, 12 / rows}, {2})}),
                    {reshape(exp(x), {rows, 12 / rows})});
      }
    });
  }
  for (auto& thread : threads) thread.join();
  const auto report = prepared.report();
  EXPECT_EQ(report.program_runs, 4 * 24);
  EXPECT_EQ(report.node_runs, 0);
  EXPECT_LE(report.programs_kept, 3);
  EXPECT_EQ(for_values.report().programs_made, 4);
}

}  // namespace
}  // namespace tenon::formats::onnx
