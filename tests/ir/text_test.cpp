#include "tenon/ir/text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <random>

#include "tenon/base/error.h"
#include "tenon/ir/hash.h"
#include "tenon/ir/quote.h"
#include "tenon/tensor/element.h"
#include "tenon/tensor/tensor_view.h"
#include "tests/ir/sample_ops.h"

namespace tenon::ir {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::ThrowsMessage;

constexpr std::string_view kEverything =
    R"(graph "every \"thing\"\n" (%0 "x": f32[2, 3], %1: bool[], %2 "é": f8e4m3[0]) -> (%7, %4, %0) {
  %3: f32[2] = const {0.1, -inf}
  %4: f32[2, 3] = add(%0, %3) in "blocks.0" from "model.cpp:12"
  %5: f32[1, 1] = sum(%4) {axes = [0, -1], keepdims = true}
  %6: f32[2, 3], %7 "indices": i64[2] = topk(%4, _) {k = -3}
  %8: f32[2, 3] = dropout(%6) {rate = 0.1} from "x"
  %9: f16[2, 3] = pad(%8) {mode = "same\x01", dtype = f16} in "p"
  %10: f32[] = cond(%1, %5) {then = graph "then" (%0: f32[1, 1]) -> (%1) {
    %1: f32[] = sum(%0) {axes = [], keepdims = false}
    %2: f32[] = cond() {then = none, otherwise = graph () -> () {
    }}
  }, otherwise = none}
}
)";

class GraphText : public testing::Test {
 protected:
  SampleOps ops_;
  OpCatalog catalog_ = ops_.catalog();
};

TEST_F(GraphText, RoundTripsEveryKindOfThing) {
  const Graph g = parse(kEverything, catalog_);
  EXPECT_EQ(to_text(g, catalog_), kEverything);
  EXPECT_EQ(g.name, "every \"thing\"\n");
  EXPECT_EQ(g.inputs.size(), 3u);
  EXPECT_EQ(g.nodes.size(), 7u);
  EXPECT_EQ(g.outputs, (std::vector<ValueId>{7, 4, 0}));
  EXPECT_EQ(g.values[7].name, "indices");
  EXPECT_EQ(g.nodes[1].path, "blocks.0");
  EXPECT_EQ(g.nodes[1].location, "model.cpp:12");
  EXPECT_EQ(g.nodes[2].attrs.ints(0), (Ints{0, -1}));
  EXPECT_EQ(g.nodes[3].inputs, (std::vector<ValueId>{4, kAbsent}));
  EXPECT_EQ(g.nodes[4].attrs.real(0), 0.1);
  EXPECT_EQ(g.nodes[5].attrs.text(0), "same\x01");
  EXPECT_EQ(g.nodes[6].attrs.graph(0)->nodes.size(), 2u);
  EXPECT_EQ(g.nodes[6].attrs.graph(1), nullptr);
}

TEST_F(GraphText, BlanksAndCommentsMeanNothing) {
  const Graph g =
      parse("graph(%0:f32[2])->(%1){%1:f32[]=sum(%0){keepdims=false,axes=[0]}# the end\n}  # really", catalog_);
  EXPECT_EQ(to_text(g, catalog_),
            "graph (%0: f32[2]) -> (%1) {\n  %1: f32[] = sum(%0) {axes = [0], keepdims = false}\n}\n");
}

TEST_F(GraphText, NumbersValuesInTheOrderOfDefinition) {
  Graph g;
  const ValueId unused = g.add_value({f32, {}});
  const ValueId x = g.add_input({f32, {2}}, "x");
  g.outputs = g.add_node(ops_.add, {x, x}, {}, {{f32, {2}}});
  EXPECT_EQ(unused, 0);
  EXPECT_EQ(to_text(g, catalog_), "graph (%0 \"x\": f32[2]) -> (%1) {\n  %1: f32[2] = add(%0, %0)\n}\n");
}

TEST_F(GraphText, ConstantsOfEveryDTypeKeepEveryBit) {
  std::mt19937_64 random(5);
  for (const DTypeInfo& row : all_dtypes()) {
    Tensor x = empty({300}, row.dtype);
    std::byte* data = mutable_data(x);
    for (int64_t i = 0; i < byte_size(row.dtype, 300); ++i) data[i] = static_cast<std::byte>(random());
    if (row.dtype == DType::Bool) {
      for (int64_t i = 0; i < 300; ++i) data[i] &= std::byte{1};
    }
    const bool narrow_float = row.kind == DTypeKind::Float && row.bits < 32;
    if (narrow_float) {  // NaNs of narrow floats are kept as NaNs, not by their bits
      for (int64_t i = 0; i < 300; ++i) {
        if (std::isnan(load_real(view(x), i))) store_real(mutable_view(x), i, i % 2 ? INFINITY : -0.0);
      }
    }
    Graph g;
    g.outputs = {g.add_constant(x)};
    const Graph again = parse(to_text(g, catalog_), catalog_);
    EXPECT_EQ(content_hash(again.nodes[0].constant), content_hash(x)) << row.name;
  }
}

TEST_F(GraphText, SpecialNumbers) {
  for (const double x :
       std::initializer_list<double>{0.0, -0.0, 1.0, 0.1, 1e300, 5e-324, INFINITY, -INFINITY, NAN, 1e16, -2.5}) {
    Graph g;
    g.outputs = g.add_node(ops_.dropout, {}, {AttrValue(x)}, {{f32, {}}});
    const double got = parse(to_text(g, catalog_), catalog_).nodes[0].attrs.real(0);
    EXPECT_EQ(std::bit_cast<uint64_t>(got), std::bit_cast<uint64_t>(x)) << shortest(x);
  }
  EXPECT_EQ(shortest(1.0), "1.0");
  EXPECT_EQ(shortest(0.1f), "0.1");
  EXPECT_EQ(shortest(-0.0), "-0.0");
  EXPECT_EQ(shortest(std::bit_cast<double>(uint64_t{0x7ff8000000000001})), "nan(7ff8000000000001)");
}

TEST_F(GraphText, LongConstantsGoToTheTableOnce) {
  Graph g;
  const Tensor large = empty({100}, f32), small = from_vector<float>({1, 2}, {2});
  const ValueId a = g.add_constant(large), b = g.add_constant(small), c = g.add_constant(large);
  g.outputs = {a, b, c};
  Tensors table;
  const std::string text = to_text(g, catalog_, {.table = &table});
  EXPECT_EQ(text,
            "graph () -> (%0, %1, %2) {\n  %0: f32[100] = const @0\n  %1: f32[2] = const {1.0, 2.0}\n"
            "  %2: f32[100] = const @0\n}\n");
  ASSERT_EQ(table.size(), 1u);
  const Graph again = parse(text, catalog_, table);
  EXPECT_EQ(again.nodes[2].constant.impl(), large.impl());
  EXPECT_THAT(to_text(g, catalog_, {.shorten = true}), HasSubstr("%0: f32[100] = const {…}\n"));
}

TEST(AttrText, EachType) {
  EXPECT_EQ(to_string(AttrValue(true)), "true");
  EXPECT_EQ(to_string(AttrValue(int64_t{3})), "3");
  EXPECT_EQ(to_string(AttrValue(0.1)), "0.1");
  EXPECT_EQ(to_string(AttrValue(std::string("same"))), "\"same\"");
  EXPECT_EQ(to_string(AttrValue(f32)), "f32");
  EXPECT_EQ(to_string(AttrValue(Ints{1, 2})), "[1, 2]");
  EXPECT_EQ(to_string(AttrValue(GraphPtr())), "none");
  EXPECT_EQ(to_string(AttrValue(GraphPtr(std::make_shared<Graph>()))), "graph (0 inputs) -> (0 outputs) { 0 nodes }");
}

struct BadText {
  std::string_view text, message;
};

TEST_F(GraphText, ErrorsNameLineColumnAndWhatWasExpected) {
  const BadText cases[] = {
      {"", "line 1, column 1: unexpected text; expected 'graph', got the end of the text"},
      {"graf () -> () {}", "expected 'graph', got \"graf\""},
      {"graph () -> () {\n  %0: f32[2] = ad()\n}",
       "line 2, column 16: there is no op of this name; got \"ad\"\n  try: add"},
      {"graph (%0: f23[]) -> () {}", "line 1, column 12: there is no dtype of this name; got \"f23\"\n  try: f32"},
      {"graph (%1: f32[]) -> () {}", "numbered in the order of definition; expected %0, got %1"},
      {"graph () -> (%0) {}",
       "line 1, column 14: %0 is used but not defined; expected no value, because none is defined"},
      {"graph (%0: f32[]) -> (%9) {}", "%9 is used but not defined; expected %0 to %0"},
      {"graph () -> () { %0: f32[] = add(%0) }", "line 1, column 34: %0 is used before it is defined"},
      {"graph () -> () { %0: f32[] = dropout() {rat = 1} }",
       "dropout has no attribute of this name; got \"rat\"\n  try: rate"},
      {"graph () -> () { %0: f32[] = dropout() }", "dropout needs the attribute rate, a real"},
      {"graph () -> () { %0: f32[] = dropout() {rate = 1, rate = 2} }", "the attribute rate is given twice"},
      {"graph () -> () { %0: f32[] = dropout() {rate = \"a\"} }", "unexpected text; expected a number, got \"\"a\"}\""},
      {"graph () -> () { %0: f32[] = dropout() {rate = 1x} }", "not a number; got \"1x\""},
      {"graph () -> () { %0: f32[] = topk() {k = 1.5} }",
       "not an integer of 64 bits; expected an integer, got \"1.5\""},
      {"graph () -> () { %0: f32[] = topk() {k = 9223372036854775808} }", "not an integer of 64 bits"},
      {"graph () -> () { %0: f32[] = sum() {axes = [1, 2, keepdims = true} }", "expected an integer"},
      {"graph () -> () { %0: f32[] = sum() {axes = [], keepdims = 1} }", "expected true or false, got \"1}\""},
      {"graph () -> () { %0: f32[-1] = const {} }", "negative extent; got f32[-1]"},
      {"graph (%0: f32[4611686018427387904, 8]) -> () {}", "more elements than fit in any memory"},
      {"graph () -> () { %0: f32[2] = const {1} }",
       "the number of elements is not the type's; expected 2 for f32[2], got 1"},
      {"graph () -> () { %0: u8[] = const {256} }", "the number does not fit in u8; got \"256\""},
      {"graph () -> () { %0: i4[] = const {-9} }", "the number does not fit in i4"},
      {"graph () -> () { %0: u64[] = const {-1} }", "not a u64"},
      {"graph () -> () { %0: bool[] = const {1} }", "expected true or false"},
      {"graph () -> () { %0: f32[] = const {1e999} }", "not a number; got \"1e999\""},
      {"graph () -> () { %0: f32[] = const {nan(1)} }", "not the bits of a NaN"},
      {"graph () -> () { %0: f32[] = const @0 }",
       "the table of constants has no such entry; expected fewer than 0, got 0"},
      {"graph () -> () { %0: f32[20] = const {…} }", "this text was shortened for reading"},
      {"graph () -> () { %0: f32[], %1: f32[] = const {1} }", "a constant is one value"},
      {"graph \"a", "line 1, column 7: a quotation mark is not closed"},
      {"graph \"\\q\" () -> () {}", "unknown escape; expected one of \\\" \\\\ \\n \\t \\xHH, got \"\\q\""},
      {"graph () -> () {} more", "text after the end of the graph; got \"more\""},
      {"graph () -> () {", "expected '%', got the end of the text"},
  };
  for (const BadText& bad : cases) {
    EXPECT_THAT([&] { (void)parse(bad.text, catalog_); },
                ThrowsMessage<FormatError>(AllOf(HasSubstr("graph text: line "), HasSubstr(std::string(bad.message)))))
        << bad.text;
  }
  const Tensors table{from_vector<float>({1, 2}, {2})};
  EXPECT_THAT([&] { (void)parse("graph () -> () { %0: f32[3] = const @0 }", catalog_, table); },
              ThrowsMessage<FormatError>(HasSubstr("constant @0 is of another type; expected f32[3], got f32[2]")));
}

TEST_F(GraphText, NestingHasALimit) {
  std::string open, close;
  for (int i = 0; i < 100000; ++i) {
    open += "graph () -> () { %0: f32[] = cond() {then = ";
    close += ", otherwise = none} }";
  }
  EXPECT_THAT([&] { (void)parse(open + "none" + close, catalog_); },
              ThrowsMessage<FormatError>(HasSubstr("nested more than 64 deep")));
}

// Damaged texts parse or are refused with a FormatError; nothing else happens.
TEST_F(GraphText, DamagedTextsAreReadOrRefused) {
  std::mt19937 random(11);
  const std::string base(kEverything);
  int parsed = 0, refused = 0;
  for (int round = 0; round < 20000; ++round) {
    std::string text = base;
    for (unsigned edits = 1 + random() % 4; edits > 0; --edits) {
      const size_t at = random() % text.size(), other = random() % text.size(), length = 1 + random() % 12;
      switch (random() % 5) {
        case 0:
          text[at] = static_cast<char>(random());
          break;
        case 1:
          text.erase(at, length);
          break;
        case 2:
          text.insert(at, text.substr(other, length));
          break;
        case 3:
          text.resize(at + 1);
          break;
        default:
          text[at] = "%{}[]()=,:\"-_@0918#"[random() % 19];
      }
      if (text.empty()) text = " ";
    }
    try {
      const Graph g = parse(text, catalog_);
      const std::string printed = to_text(g, catalog_);
      ASSERT_EQ(to_text(parse(printed, catalog_), catalog_), printed) << text;
      ++parsed;
    } catch (const FormatError&) {
      ++refused;
    }
  }
  EXPECT_GT(parsed, 100);
  EXPECT_GT(refused, 10000);
}

}  // namespace
}  // namespace tenon::ir
