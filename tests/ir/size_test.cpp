// Named sizes: expressions, their fit to samples, and graphs that hold them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tenon/base/error.h"
#include "tenon/ir/hash.h"
#include "tenon/ir/specialize.h"
#include "tenon/ir/text.h"
#include "tenon/ir/verify.h"
#include "tests/ir/sample_ops.h"

namespace tenon::ir {
namespace {

using testing::HasSubstr;

const std::vector<std::string> kNames{"batch", "seq"};

std::vector<Sizes> samples() { return probe_sizes({{"batch", 3}, {"seq", 5}}); }

template <class F>
std::string fitted(const F& f) {
  const auto at = samples();
  std::vector<int64_t> values;
  for (const Sizes& s : at) values.push_back(f(s.at("batch"), s.at("seq")));
  const auto expr = fit(at, values, kNames);
  return expr ? to_string(*expr) : "nothing";
}

TEST(Size, FitFindsTheSimplestExpression) {
  EXPECT_EQ(fitted([](int64_t, int64_t) { return 7; }), "7");
  EXPECT_EQ(fitted([](int64_t b, int64_t) { return b; }), "batch");
  EXPECT_EQ(fitted([](int64_t, int64_t s) { return 3 * s - 4; }), "3*seq - 4");
  EXPECT_EQ(fitted([](int64_t, int64_t s) { return 1 - s; }), "-1*seq + 1");
  EXPECT_EQ(fitted([](int64_t b, int64_t s) { return b * s; }), "batch*seq");
  EXPECT_EQ(fitted([](int64_t b, int64_t s) { return 12 * b * s * s; }), "12*batch*seq*seq");
  EXPECT_EQ(fitted([](int64_t b, int64_t s) { return b + s; }), "batch + seq");
  EXPECT_EQ(fitted([](int64_t b, int64_t s) { return b * s - 2 * b + 1; }), "-2*batch + batch*seq + 1");
  EXPECT_EQ(fitted([](int64_t, int64_t s) { return (s - 1) / 2 + 1; }), "(seq + 1)/2");
  EXPECT_EQ(fitted([](int64_t, int64_t s) { return s / 4; }), "(seq)/4");
  EXPECT_EQ(fitted([](int64_t, int64_t s) { return (s - 1) / 2 * 6 - 2; }), "6*((seq - 3)/2) + 4");
  EXPECT_EQ(fitted([](int64_t b, int64_t s) { return b ^ s; }), "nothing");
}

TEST(Size, EvaluationRoundsDownAndRefusesOverflow) {
  EXPECT_EQ(evaluate({-1, {{1, {"n"}}}, 2}, {{"n", 0}}), -1);
  EXPECT_THROW((void)evaluate({0, {{INT64_MAX, {"n"}}}, 1}, {{"n", 2}}), ValueError);
  EXPECT_THROW((void)evaluate(size_named("n"), {{"m", 2}}), ValueError);
  EXPECT_EQ(to_string(SizeExpr{INT64_MIN, {}, 1}), "-9223372036854775808");
}

constexpr const char* kText =
    "graph \"any\" [batch = 3 from 1, seq = 5 from 1 to 64] (%0 \"x\": f32[batch, 2*seq + 1]) -> (%2) {\n"
    "  %1: f32[] = const {seq}\n"
    "  %2: f32[batch*seq, ~4] = topk(%0) {k = (seq + 1)/2}\n"
    "  %3: f32[batch] = sum(%0) {axes = [seq - 4, 6*((seq - 3)/2) - 5], keepdims = false}\n"
    "  %4: f32[] = dropout(%1) {rate = (2*seq - 1)}\n"
    "}\n";

TEST(Size, TextRoundTrips) {
  const SampleOps ops;
  const OpCatalog catalog = ops.catalog();
  const Graph graph = parse(kText, catalog);
  EXPECT_EQ(to_text(graph, catalog), kText);
  EXPECT_EQ(find_defect(graph, catalog), "");
  EXPECT_EQ(graph.type(0).shape, (Shape{3, 11}));
  EXPECT_EQ(graph.nodes[1].attrs.integer(0), 3);
  EXPECT_EQ(graph.nodes[2].attrs.ints(0), (Ints{1, 1}));
  EXPECT_EQ(graph.nodes[3].attrs.real(0), 9);
  EXPECT_EQ(graph.nodes[0].constant.item<float>(), 5);
  Graph fixed = graph;
  fixed.varying.clear();
  EXPECT_NE(structural_hash(fixed, catalog), structural_hash(graph, catalog));
}

std::string parse_error(const std::string& text) {
  const SampleOps ops;
  const OpCatalog catalog = ops.catalog();
  try {
    (void)parse(text, catalog);
  } catch (const FormatError& error) {
    return error.what();
  }
  return "no error";
}

TEST(Size, TextErrorsSayWhatIsWrong) {
  EXPECT_THAT(parse_error("graph [n = 3 from 1] (%0: f32[m]) -> () {}"), HasSubstr("there is no size of this name"));
  EXPECT_THAT(parse_error("graph [n = 3 from 4] (%0: f32[n]) -> () {}"), HasSubstr("not within the size's range"));
  EXPECT_THAT(parse_error("graph [n = 3 from 1, n = 3 from 1] (%0: f32[n]) -> () {}"), HasSubstr("named twice"));
  EXPECT_THAT(parse_error("graph [inf = 3 from 1] (%0: f32[inf]) -> () {}"), HasSubstr("not a name for a size"));
  EXPECT_THAT(parse_error("graph [n = 3 from 1] (%0: f32[(n)/0]) -> () {}"), HasSubstr("a divisor below 1"));
  EXPECT_THAT(parse_error("graph [n = 9000000000 from 1] (%0: f32[n*n*n]) -> () {}"), HasSubstr("64 bits"));
  EXPECT_THAT(parse_error("graph [n = 3 from 1] (%0: f32[n - 4]) -> () {}"), HasSubstr("negative extent"));
}

TEST(Size, InputsGiveTheSizes) {
  const SampleOps ops;
  const Graph graph = parse(
      "graph [past = 3 from 0, seq = 5 from 1 to 9] (%0 \"x\": f32[seq], %1: f32[past + seq], %2: i64[past]) -> () {}",
      ops.catalog());
  const auto bound = [&](int64_t seq, int64_t all, int64_t past, DType dtype = f32) {
    const std::vector<TensorType> types{{dtype, {seq}}, {f32, {all}}, {i64, {past}}};
    try {
      const Sizes sizes = bind_sizes(graph, types);
      return std::to_string(sizes.at("past")) + " " + std::to_string(sizes.at("seq"));
    } catch (const Error& error) {
      return std::string(error.what());
    }
  };
  EXPECT_EQ(bound(2, 6, 4), "4 2");
  EXPECT_EQ(bound(2, 2, 0), "0 2");
  EXPECT_THAT(bound(2, 7, 4),
              HasSubstr("input 1 has another shape; expected f32[past + seq] with past = 4, seq = 2, got f32[7]"));
  EXPECT_THAT(bound(10, 14, 4), HasSubstr("the size 'seq' is out of its range; expected 1 to 9, got 10"));
  EXPECT_THAT(bound(2, 6, 4, f64), HasSubstr("input \"x\" has another type; expected f32[seq], got f64[2]"));
}

TEST(Size, VerifierFindsLies) {
  const SampleOps ops;
  const OpCatalog catalog = ops.catalog();
  const Graph good = parse(kText, catalog);
  Graph graph = good;
  graph.varying[0].expr = size_named("seq");
  EXPECT_THAT(find_defect(graph, catalog), HasSubstr("seq is 5 at the examples, not 3"));
  graph = good;
  graph.varying[0].index = 99;
  EXPECT_THAT(find_defect(graph, catalog), HasSubstr("nowhere in the graph"));
  graph = good;
  graph.sizes.pop_back();
  EXPECT_THAT(find_defect(graph, catalog), HasSubstr("the size 'seq' is not known"));
}

}  // namespace
}  // namespace tenon::ir
