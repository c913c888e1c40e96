// What a rule of the ONNX export writes with.
//
// A NodeWriter is one node of a graph that is being exported: its operands and results as ONNX names, its attributes,
// and functions that add ONNX nodes. Numbers that depend on sizes are expressions; `list` makes them a tensor, computed
// at run time if need be, and `fixed` insists on plain numbers.
#pragma once

#include <deque>
#include <functional>
#include <map>
#include <set>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "tenon/formats/onnx/export.h"
#include "tenon/formats/onnx/proto.h"
#include "tenon/ir/varying.h"
#include "tenon/ops/opdef.h"

namespace tenon::formats::onnx {

using Names = std::vector<std::string>;
using Exprs = std::vector<ir::SizeExpr>;

Attribute attribute(std::string name, int64_t value);
Attribute attribute(std::string name, double value);
Attribute attribute(std::string name, std::string value);
Attribute attribute(std::string name, std::vector<int64_t> values);
inline Attribute attribute(std::string name, int value) { return attribute(std::move(name), int64_t{value}); }
inline Attribute attribute(std::string name, bool value) { return attribute(std::move(name), int64_t{value ? 1 : 0}); }

ir::SizeExpr number(int64_t value);
ir::SizeExpr plus(const ir::SizeExpr& a, const ir::SizeExpr& b);
ir::SizeExpr times(const ir::SizeExpr& a, int64_t factor);

// Where a node of the main graph comes from: the op, with a number, whose body it was part of; or numbers of sizes.
inline constexpr std::string_view kBodyOf = "body of ";  // how the path of a node in a body begins
struct Origin {
  std::string function;
  bool sizes = false;
};
using Origins = std::vector<Origin>;
// Makes functions of nodes that stand in a row and come from the same op.
void outline_functions(ModelData& model, const Origins& origins, const StateDict& weights, int64_t opset);

// The model under construction.
class ModelWriter {
 public:
  ModelWriter(const ir::Graph& graph, const ExportOptions& options);
  // Everything; errors as export_model's.
  ModelData write();

  // ---- for NodeWriter ----
  [[nodiscard]] int64_t opset() const { return options_.opset; }
  std::string fresh(std::string_view hint);
  // Adds a node to the graph that is being written, of `results` results.
  Names add(std::string_view type, Names inputs, std::vector<Attribute> attributes, size_t results);
  void add_named(std::string_view type, Names inputs, std::vector<Attribute> attributes, Names results);
  std::string constant(const Tensor& value, std::string_view hint = "constant");
  std::string list(const Exprs& numbers);
  // Writes a sub-graph's nodes here, on these operands; gives the names of its outputs.
  Names inlined(const ir::Graph& graph, const Names& operands);
  // A graph for an attribute: nodes that `fill` adds go there. It sees the names of the graph around.
  Attribute subgraph(std::string attribute_name, const std::function<void(GraphData&)>& fill);
  static ValueInfo value_info(std::string name, DType dtype);

 private:
  void write_nodes(const ir::Graph& graph, std::unordered_map<ir::ValueId, std::string>& names);
  void write_node(const ir::Graph& graph, const ir::VaryingTable& varying, size_t index, const std::vector<bool>& used,
                  std::unordered_map<ir::ValueId, std::string>& names);
  std::string written_constant(const ir::Node& node, const ir::VaryingTable& varying, size_t index);
  std::string size(const std::string& name);
  std::string expression(const ir::SizeExpr& expr);
  void rename(const std::string& from, const std::string& to);

  const ExportOptions& options_;
  ir::Graph graph_;  // expanded
  ModelData model_;
  GraphData* target_;  // where nodes go
  std::set<std::string> taken_;
  std::map<std::string, std::string, std::less<>> sizes_;  // names of computed sizes, in the main graph
  std::vector<std::pair<Tensor, std::string>> weights_;    // initialisers that were written
  std::map<std::string, std::string> small_;               // constants, lists and expressions by their text
  std::deque<std::string> blobs_;                          // bytes that TensorData views
  std::vector<std::string> problems_;
  Origins origins_;  // of the main graph's nodes
  Origin origin_;    // of what is written now
};

class NodeWriter {
 public:
  NodeWriter(ModelWriter& model, const ir::Graph& graph, const ir::VaryingTable& varying, size_t index,
             const std::vector<bool>& used, std::unordered_map<ir::ValueId, std::string>& names)
      : model_(model), graph_(graph), varying_(varying), index_(index), used_(used), names_(names) {}

  [[nodiscard]] const ir::Node& node() const { return graph_.nodes[index_]; }
  [[nodiscard]] const ir::Attrs& attrs() const { return node().attrs; }
  [[nodiscard]] int64_t opset() const { return model_.opset(); }
  ModelWriter& model() { return model_; }

  // ---- operands ----
  [[nodiscard]] size_t operands() const { return node().inputs.size(); }
  [[nodiscard]] bool has(size_t i) const { return i < operands() && node().inputs[i] != ir::kAbsent; }
  [[nodiscard]] std::string in(size_t i) const { return has(i) ? names_.at(node().inputs[i]) : std::string(); }
  [[nodiscard]] Names ins() const;
  [[nodiscard]] const TensorType& type(size_t i = 0) const { return graph_.type(node().inputs[i]); }
  [[nodiscard]] int64_t rank(size_t i = 0) const { return static_cast<int64_t>(type(i).shape.size()); }
  [[nodiscard]] const TensorType& result_type(size_t i = 0) const { return graph_.type(node().outputs[i]); }
  [[nodiscard]] bool used(size_t result) const { return used_[static_cast<size_t>(node().outputs[result])]; }
  // Extents as expressions; `unsupported` if one depends on the sizes in no way that can be written down.
  [[nodiscard]] Exprs extents(size_t operand = 0) const;
  [[nodiscard]] Exprs result_extents(size_t result = 0) const;

  // ---- attributes ----
  [[nodiscard]] Exprs numbers(size_t attribute) const;  // of an integer or a list
  [[nodiscard]] std::vector<int64_t> fixed(size_t attribute) const;
  [[nodiscard]] double real(size_t attribute) const;

  // ---- writing ----
  std::string op(std::string_view type, Names inputs, std::vector<Attribute> attributes = {}) {
    return model_.add(type, std::move(inputs), std::move(attributes), 1)[0];
  }
  Names op_many(std::string_view type, Names inputs, std::vector<Attribute> attributes, size_t results) {
    return model_.add(type, std::move(inputs), std::move(attributes), results);
  }
  std::string list(const Exprs& values) { return model_.list(values); }
  std::string list(const std::vector<int64_t>& values);
  // A 0-d constant.
  std::string scalar(double value, DType dtype);
  std::string cast(const std::string& x, DType from, DType to);
  std::string reshape(const std::string& x, const Exprs& shape);
  std::string transpose(const std::string& x, std::vector<int64_t> order);
  // Reduce… with axes where this opset has them.
  std::string reduce(std::string_view type, const std::string& x, const std::vector<int64_t>& axes, bool keepdims);
  // Says what a result is called.
  void result(size_t i, std::string name);
  [[noreturn]] void unsupported(std::string reason) const;

 private:
  ModelWriter& model_;
  const ir::Graph& graph_;
  const ir::VaryingTable& varying_;
  size_t index_;
  const std::vector<bool>& used_;
  std::unordered_map<ir::ValueId, std::string>& names_;
};

// ---- the table -----------------------------------------------------------------------------
// What is known of a node before it is written: whether its rule is for it.
struct NodeFacts {
  const ir::Node& node;
  const std::vector<TensorType>& in;  // absent ones: a default TensorType
  const std::vector<TensorType>& out;
  int64_t opset;
};
struct ExportRule {
  std::string_view op;    // Tenon's
  std::string_view onnx;  // the operator, if it is one; for docs the operators
  void (*write)(NodeWriter&);
  int64_t since = kOldestExportOpset;        // of this form
  bool (*fits)(const NodeFacts&) = nullptr;  // null: always
  std::string_view reason = {};              // no form at all: why
};
std::span<const ExportRule> elementwise_export_rules();
std::span<const ExportRule> shape_export_rules();
std::span<const ExportRule> network_export_rules();
// Null: none; the node is expanded if it can be.
const ExportRule* find_export_rule(std::string_view op);

// The graph with every node that has no rule for it expanded into nodes that have, as far as that goes.
ir::Graph expand_for_export(const ir::Graph& graph, int64_t opset);
NodeFacts facts_of(const ir::Graph& graph, const ir::Node& node, int64_t opset, std::vector<TensorType>& in,
                   std::vector<TensorType>& out);
bool rule_applies(const ExportRule& rule, const NodeFacts& facts);

}  // namespace tenon::formats::onnx
