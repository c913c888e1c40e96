#include "tenon/ir/verify.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tenon/base/error.h"
#include "tenon/ir/text.h"
#include "tests/ir/sample_ops.h"

namespace tenon::ir {
namespace {

using testing::AllOf;
using testing::HasSubstr;
using testing::ThrowsMessage;

class Verify : public testing::Test {
 protected:
  Verify() {
    x_ = graph_.add_input({f32, {2}}, "x");
    y_ = graph_.add_node(ops_.add, {x_, x_}, {}, {{f32, {2}}})[0];
    z_ = graph_.add_node(ops_.sum, {y_}, {Ints{0}, false}, {{f32, {}}})[0];
    graph_.outputs = {z_};
  }
  [[nodiscard]] std::string defect(const TypeRule& rule = {}) const { return find_defect(graph_, catalog_, rule); }

  SampleOps ops_;
  OpCatalog catalog_ = ops_.catalog();
  Graph graph_;
  ValueId x_, y_, z_;
};

TEST_F(Verify, AcceptsAWellFormedGraph) {
  EXPECT_EQ(defect(), "");
  EXPECT_NO_THROW(verify("test", graph_, catalog_));
}

TEST_F(Verify, NamesTheOffendingNode) {
  graph_.nodes[0].inputs[1] = z_;
  EXPECT_THAT(
      [&] { verify("fuse", graph_, catalog_); },
      ThrowsMessage<InternalError>(HasSubstr("fuse: the graph is not well-formed: %2 is used before it is defined\n"
                                             "  in node: %1: f32[2] = add(%0, %2)")));
}

TEST_F(Verify, FindsDanglingAndDoubleDefinitions) {
  graph_.nodes[1].inputs[0] = 17;
  EXPECT_THAT(defect(), HasSubstr("%17 does not exist; the graph has 3 values"));
  graph_.nodes[1].inputs[0] = y_;
  graph_.nodes[1].outputs[0] = y_;
  EXPECT_THAT(defect(), HasSubstr("%1 is defined twice"));
  graph_.nodes[1].outputs[0] = z_;
  graph_.outputs = {kAbsent};
  EXPECT_THAT(defect(), HasSubstr("output 0: %-1 does not exist"));
  graph_.outputs = {z_};
  graph_.add_value({f32, {}});
  EXPECT_EQ(defect(), "value %3 is defined by no node");
}

TEST_F(Verify, ChecksAttributesAgainstTheDeclaration) {
  graph_.nodes[1].attrs = {Ints{0}};
  EXPECT_THAT(defect(), HasSubstr("sum declares 2 attributes, the node has 1"));
  graph_.nodes[1].attrs = {Ints{0}, int64_t{1}};
  EXPECT_THAT(defect(), HasSubstr("attribute keepdims of sum is a flag, not a integer"));
}

TEST_F(Verify, ChecksNamesAndConstants) {
  graph_.values[static_cast<size_t>(y_)].name = "x";
  EXPECT_THAT(defect(), HasSubstr("two values have the name \"x\""));
  graph_.values[static_cast<size_t>(y_)].name = "";
  graph_.add_constant(from_vector<float>({1, 2}, {2}));
  EXPECT_EQ(defect(), "");
  graph_.values.back().type.shape = {3};
  EXPECT_THAT(defect(), AllOf(HasSubstr("the constant is f32[2], its value f32[3]"), HasSubstr("const {1.0, 2.0}")));
}

TEST_F(Verify, ChecksSubgraphs) {
  auto inner = std::make_shared<Graph>();
  inner->outputs = {0};
  graph_.add_node(ops_.cond, {}, {GraphPtr(inner), GraphPtr()}, {{f32, {}}});
  EXPECT_THAT(defect(), HasSubstr("in the graph then of cond: output 0: %0 does not exist"));
}

TEST_F(Verify, ComparesTypesWithTheRule) {
  const TypeRule halves = [](const ops::OpDef& op, std::span<const TensorType> in, std::span<const bool>,
                             const Attrs&) {
    if (op.name == "sum") throw ShapeError({.where = "sum", .problem = "no"});
    return std::vector<TensorType>{in[0]};
  };
  EXPECT_THAT(defect(halves), HasSubstr("the op refuses its operands: sum: no"));
  const TypeRule rule = [](const ops::OpDef&, std::span<const TensorType> in, std::span<const bool>, const Attrs&) {
    return std::vector<TensorType>{in[0]};
  };
  EXPECT_THAT(defect(rule), HasSubstr("result 0 is declared f32[], the op gives f32[2]"));
}

}  // namespace
}  // namespace tenon::ir
