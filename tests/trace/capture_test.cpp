// Capture with named extents: one graph for every size.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tenon/base/error.h"
#include "tenon/exec/evaluate.h"
#include "tenon/ir/specialize.h"
#include "tenon/ir/text.h"
#include "tenon/ir/verify.h"
#include "tenon/ops/catalog.h"
#include "tenon/tenon.h"
#include "tests/support/error_text.h"

namespace tenon {
namespace {

using testing::HasSubstr;
using testing_support::error_text;

void expect_same(const ir::Graph& graph, const trace::Function& fn, const Tensors& in) {
  const NoGrad no_grad;
  const Tensors want = fn(in), got = exec::run(graph, in);
  ASSERT_EQ(want.size(), got.size());
  for (size_t i = 0; i < want.size(); ++i) {
    ASSERT_EQ(want[i].type(), got[i].type());
    EXPECT_EQ(want[i].to_vector<double>(), got[i].to_vector<double>());
  }
}

TEST(Capture, ManyShapeOpsAreTheSameAtEverySize) {
  const auto fn = [](const Tensors& in) {
    const Tensor& x = in[0];
    const int64_t b = x.shape(0), s = x.shape(1);
    Tensor flat = reshape(x, {b * s, 4});
    Tensor positions = cast(arange(s), f32);
    Tensor mask = where(unsqueeze(arange(s), {1}) >= unsqueeze(arange(s), {0}), 0.0, -1e9);
    Tensor y = reshape(flat, {b, s, 2, 2}) + reshape(positions, {1, s, 1, 1});
    Tensor scores = matmul(reshape(x, {b, s, 4}), transpose(x)) + mask;
    return Tensors{y, softmax(scores, -1), slice(x, {1}, {s - 1}, {s}), x / static_cast<double>(s), mean(x, {1})};
  };
  const ir::Graph graph = capture(fn, {{"x", f32, {"batch", "seq", 4}}});
  EXPECT_EQ(ir::find_defect(graph, ops::catalog(), ops::type_rule()), "");
  const std::string text = ir::to_text(graph, ops::catalog());
  EXPECT_THAT(text, HasSubstr("\"x\": f32[batch, seq, 4]"));
  EXPECT_THAT(text, HasSubstr("shape = [batch*seq, 4]"));
  EXPECT_EQ(ir::to_text(ir::parse(text, ops::catalog()), ops::catalog()), text);
  for (const Shape& shape : {Shape{1, 1, 4}, Shape{2, 9, 4}, Shape{6, 2, 4}})
    expect_same(graph, fn, {uniform(shape, -1, 1, f32, random_key(1))});
}

TEST(Capture, StridedConvolutionOnAnySize) {
  const Tensor weight = uniform({2, 1, 3, 3}, -1, 1, f32, random_key(3));
  const auto fn = [&](const Tensors& in) {
    const Tensor y = conv2d(in[0], weight, {}, {.stride = {2}, .padding = {1}});
    return Tensors{reshape(y, {y.shape(0), y.shape(1), y.shape(2) * y.shape(3)}), y};
  };
  const ir::Graph graph = capture(fn, {{"x", f32, {"batch", 1, "height", 8}}});
  EXPECT_THAT(ir::to_text(graph, ops::catalog(), {.shorten = true}), HasSubstr("f32[batch, 2, (height + 1)/2, 4]"));
  expect_same(graph, fn, {uniform({2, 1, 21, 8}, -1, 1, f32, random_key(1))});
}

TEST(Capture, ControlFlowOnAnySize) {
  const auto fn = [](const Tensors& in) {
    const auto step = [](const Tensors& carry, const Tensors& x) {
      return ScanStep{{carry[0] * 0.5 + x[0]}, {carry[0]}};
    };
    const ScanStep out = scan(step, {zeros({in[0].shape(1)})}, in);
    return Tensors{out.carry[0], out.rows[0]};
  };
  const ir::Graph graph = capture(fn, {{"x", f32, {"steps", "width"}}}, {.outputs = {"last", "all"}});
  EXPECT_EQ(graph.values[static_cast<size_t>(graph.outputs[1])].name, "all");
  expect_same(graph, fn, {uniform({8, 3}, -1, 1, f32, random_key(1))});
  expect_same(graph, fn, {uniform({1, 9}, -1, 1, f32, random_key(1))});
}

TEST(Capture, AGptAtAnyBatchAndLength) {
  manual_seed(1);
  models::GPT gpt({.vocabulary = 11, .context = 16, .layers = 2, .heads = 2, .width = 8});
  nn::eval(gpt);
  const auto fn = [&](const Tensors& in) { return Tensors{gpt(in[0])}; };
  const ir::Graph graph = capture(fn, {{"tokens", i64, {"batch", Dim("seq", 1, 16)}}}, {.outputs = {"logits"}});
  for (const Shape& shape : {Shape{1, 1}, Shape{3, 16}, Shape{2, 7}})
    expect_same(graph, fn, {cast(uniform(shape, 0, 11, f32, random_key(1)), i64)});
  EXPECT_THAT(error_text([&] { (void)exec::run(graph, {zeros({1, 17}, i64)}); }),
              HasSubstr("the size 'seq' is out of its range; expected 1 to 16, got 17"));
}

TEST(Capture, AnExtentMayBeASumOfSizes) {
  const auto fn = [](const Tensors& in) { return Tensors{concat({in[0], in[1]}, 0) * in[2]}; };
  const ir::Graph graph =
      capture(fn, {{"past", f32, {Dim("past", 0), 2}}, {"now", f32, {"seq", 2}}, {"mask", f32, {"past + seq + 0", 1}}});
  EXPECT_THAT(ir::to_text(graph, ops::catalog()), HasSubstr("\"mask\": f32[past + seq, 1]"));
  expect_same(graph, fn, {ones({0, 2}), ones({3, 2}), ones({3, 1})});
  EXPECT_THAT(error_text([&] { (void)exec::run(graph, {ones({1, 2}), ones({3, 2}), ones({3, 1})}); }),
              HasSubstr("expected f32[past + seq, 1] with past = 1, seq = 3"));
}

TEST(Capture, WhatCannotBeGeneralisedIsAnError) {
  const auto branch = [](const Tensors& in) { return Tensors{in[0].shape(0) > 5 ? exp(in[0]) : sin(in[0])}; };
  const std::string other = error_text([&] { (void)capture(branch, {{"x", f32, {"n"}}}); });
  EXPECT_THAT(other, HasSubstr("the function makes another graph at other sizes: node 0 with n = 9"));
  EXPECT_THAT(other, HasSubstr("sin"));
  const auto root = [](const Tensors& in) { return Tensors{in[0] * std::sqrt(static_cast<double>(in[0].shape(0)))}; };
  EXPECT_THAT(error_text([&] { (void)capture(root, {{"x", f32, {"n"}}}); }),
              HasSubstr("a constant depends on the sizes"));
  const auto looked = [](const Tensors& in) { return Tensors{in[0] * in[0].item<float>()}; };
  EXPECT_THAT(error_text([&] { (void)capture(looked, {{"x", f32, {}}}); }), HasSubstr("item"));
  int calls = 0;
  const auto fickle = [&](const Tensors& in) { return Tensors{in[0] * (++calls > 8 ? 2.0 : 1.0)}; };
  EXPECT_THAT(error_text([&] { (void)capture(fickle, {{"x", f32, {"n"}}}); }),
              HasSubstr("the captured graph gives another result 0 than the function"));
  EXPECT_THAT(error_text([&] { (void)capture(branch, {{"x", f32, {"two words"}}}); }),
              HasSubstr("not a name for a size"));
}

TEST(Capture, KnownValuesCanBeReadInside) {
  const auto fn = [](const Tensors& in) {
    const Tensor shape = cast(full({2}, 2.0, f32) + 1.0, i64);
    EXPECT_EQ(trace::known_value(in[0]).has_value(), in[0].is_concrete());
    const auto extents = trace::known_value(shape)->to_vector<int64_t>();
    return Tensors{expand(in[0], {extents[0], extents[1]})};
  };
  const ir::Graph graph = capture(fn, {{"x", f32, {3}}});
  EXPECT_EQ(graph.nodes.size(), 1U);  // what computed the shape is gone
  expect_same(graph, fn, {tensor({1.0F, 2.0F, 3.0F})});
}

}  // namespace
}  // namespace tenon
