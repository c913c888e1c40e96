// Composites as their bodies and elementwise ops as chains of basic ones, where ONNX has no operator for them.
#include <fmt/format.h>

#include <algorithm>

#include "tenon/formats/onnx/export_writer.h"
#include "tenon/ir/specialize.h"
#include "tenon/ir/text.h"
#include "tenon/ops/call.h"
#include "tenon/ops/catalog.h"
#include "tenon/ops/infer.h"
#include "tenon/ops/replay.h"
#include "tenon/trace/capture.h"
#include "tenon/trace/state.h"

namespace tenon::formats::onnx {
namespace {

using ops::OpDef;

bool expandable(const OpDef& op) {
  return std::holds_alternative<ops::Composite>(op.meaning) || std::holds_alternative<ops::Elementwise>(op.meaning);
}

Tensors expansion(const OpDef& op, const Tensors& in, const ir::Attrs& attrs, const TensorType& result) {
  if (const auto* composite = std::get_if<ops::Composite>(&op.meaning)) return composite->body(in, attrs);
  InlineVector<DType, 8> dtypes;
  for (const auto& x : in) dtypes.push_back(x.dtype());
  const ir::ScalarProgram program = ops::build_program(op, dtypes, attrs, result.dtype);
  Tensor y = ops::replay(program, in);
  if (y.impl()->weak) y = strengthen(y);
  return {y};
}

// Says of each node which op's body it is part of: its path is "body of OP#NUMBER", the outermost op.
class Bodies {
 public:
  // The values up to the largest of these come from this node, or from its body.
  void add(const Tensors& out, std::string path) {
    for (const Tensor& x : out) {
      const auto* value = trace::traced(x);
      if (value) last_ = std::max(last_, value->id);
    }
    steps_.emplace_back(last_, std::move(path));
  }
  void mark(ir::Graph& graph) const {
    for (ir::Node& node : graph.nodes) {
      if (!node.op || node.outputs.empty()) continue;
      const auto step =
          std::ranges::lower_bound(steps_, node.outputs[0], {}, &std::pair<ir::ValueId, std::string>::first);
      if (step != steps_.end()) node.path = step->second;
    }
  }

 private:
  ir::ValueId last_ = -1;
  std::vector<std::pair<ir::ValueId, std::string>> steps_;
};

// One pass: nodes that need it are replaced once. `changed` says whether there were any.
ir::Graph expand_once(const ir::Graph& graph, int64_t opset, bool& changed) {
  const NoGrad no_grad;
  trace::Recorder recorder(trace::Recorder::Outside::Constants);
  Tensors values(graph.values.size());
  Bodies bodies;
  size_t number = 0;
  for (const ir::ValueId id : graph.inputs)
    values[static_cast<size_t>(id)] = recorder.input(graph.type(id), graph.values[static_cast<size_t>(id)].name);
  for (const ir::Node& node : graph.nodes) {
    if (!node.op) {
      values[static_cast<size_t>(node.outputs[0])] = node.constant;
      continue;
    }
    std::vector<TensorType> in_types, out_types;
    const NodeFacts facts = facts_of(graph, node, opset, in_types, out_types);
    Tensors in;
    for (const ir::ValueId id : node.inputs)
      in.push_back(id == ir::kAbsent ? Tensor() : values[static_cast<size_t>(id)]);
    ir::Attrs attrs = node.attrs;
    // NOLINTNEXTLINE(modernize-loop-convert): a range over attributes is a range of constants
    for (size_t i = 0; i < attrs.size(); ++i) {
      const auto* sub = std::get_if<ir::GraphPtr>(&attrs[i]);
      if (sub && *sub) attrs[i] = ir::GraphPtr(std::make_shared<const ir::Graph>(expand_once(**sub, opset, changed)));
    }
    const ExportRule* rule = find_export_rule(node.op->name);
    const bool stays = !expandable(*node.op) || (rule && rule_applies(*rule, facts));
    Tensors out;
    ++number;
    if (!stays) out = expansion(*node.op, in, attrs, out_types[0]);
    // An op whose body is itself has no body.
    if (stays) {
      out = recorder.add(*node.op, in, attrs, out_types);
    } else {
      changed = true;
    }
    bodies.add(out, stays || node.path.starts_with(kBodyOf) ? node.path
                                                            : fmt::format("{}{}#{}", kBodyOf, node.op->name, number));
    for (size_t i = 0; i < node.outputs.size(); ++i) values[static_cast<size_t>(node.outputs[i])] = out[i];
  }
  Tensors outputs;
  for (const ir::ValueId id : graph.outputs) outputs.push_back(values[static_cast<size_t>(id)]);
  ir::Graph result = recorder.finish(outputs);
  result.name = graph.name;
  bodies.mark(result);
  for (size_t i = 0; i < graph.outputs.size(); ++i) {
    auto& value = result.values[static_cast<size_t>(result.outputs[i])];
    if (value.name.empty()) value.name = graph.values[static_cast<size_t>(graph.outputs[i])].name;
  }
  return ir::prune(result);
}

}  // namespace

NodeFacts facts_of(const ir::Graph& graph, const ir::Node& node, int64_t opset, std::vector<TensorType>& in,
                   std::vector<TensorType>& out) {
  for (const ir::ValueId id : node.inputs) in.push_back(id == ir::kAbsent ? TensorType() : graph.type(id));
  for (const ir::ValueId id : node.outputs) out.push_back(graph.type(id));
  return {node, in, out, opset};
}

bool rule_applies(const ExportRule& rule, const NodeFacts& facts) {
  return rule.write && facts.opset >= rule.since && (!rule.fits || rule.fits(facts));
}

ir::Graph expand_for_export(const ir::Graph& graph, int64_t opset) {
  const auto pass = [&](const ir::Graph& one) {
    ir::Graph result = ir::prune(one);
    constexpr int kDeepest = 12;  // bodies within bodies
    for (int depth = 0; depth < kDeepest; ++depth) {
      bool changed = false;
      ir::Graph next = expand_once(result, opset, changed);
      if (!changed) break;
      // A chain that is the op itself does not get shorter: what is left is reported as unsupported.
      const bool same =
          next.nodes.size() == result.nodes.size() && ir::to_text(next, ops::catalog(), {.shorten = true}) ==
                                                          ir::to_text(result, ops::catalog(), {.shorten = true});
      result = std::move(next);
      if (same) break;
    }
    return result;
  };
  return ir::lift(graph, pass, ops::catalog(), ops::type_rule());
}

}  // namespace tenon::formats::onnx
