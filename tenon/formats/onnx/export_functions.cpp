// Composites as ONNX functions: the nodes that the body of one op became are taken out of the graph and called there by
// the op's name, in the domain "tenon". Equal bodies are one function.
#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <unordered_map>

#include "tenon/formats/onnx/export_writer.h"
#include "tenon/formats/onnx/proto_write.h"

namespace tenon::formats::onnx {
namespace {

constexpr std::string_view kDomain = "tenon";
constexpr size_t kSmall = 64;  // bytes of a constant that goes into the body instead of being an operand

using Renaming = std::unordered_map<std::string, std::string>;

// What these nodes make, also in graphs among their attributes: names there are unique in the whole model.
void collect_made(const std::vector<NodeData>& nodes, std::set<std::string>& made) {
  for (const NodeData& node : nodes) {
    made.insert(node.outputs.begin(), node.outputs.end());
    for (const Attribute& a : node.attributes) {
      if (!a.graph) continue;
      for (const ValueInfo& input : a.graph->inputs) made.insert(input.name);
      for (const TensorData& data : a.graph->initializers) made.insert(data.name);
      collect_made(a.graph->nodes, made);
    }
  }
}

// Every name that they read, in order.
void collect_read(const std::vector<NodeData>& nodes, Names& names) {
  for (const NodeData& node : nodes) {
    names.insert(names.end(), node.inputs.begin(), node.inputs.end());
    for (const Attribute& a : node.attributes) {
      if (!a.graph) continue;
      collect_read(a.graph->nodes, names);
      for (const ValueInfo& output : a.graph->outputs) names.push_back(output.name);
    }
  }
}

std::string renamed(const std::string& name, const Renaming& to) {
  const auto found = to.find(name);
  return found == to.end() ? name : found->second;
}

void rename_all(std::vector<NodeData>& nodes, const Renaming& to) {
  for (NodeData& node : nodes) {
    for (std::string& name : node.inputs) name = renamed(name, to);
    for (std::string& name : node.outputs) name = renamed(name, to);
    for (Attribute& a : node.attributes) {
      if (!a.graph) continue;
      auto graph = std::make_shared<GraphData>(*a.graph);
      rename_all(graph->nodes, to);
      for (ValueInfo& output : graph->outputs) output.name = renamed(output.name, to);
      a.graph = std::move(graph);
    }
  }
}

class Outliner {
 public:
  Outliner(ModelData& model, const StateDict& weights, int64_t opset) : model_(model), opset_(opset) {
    for (const TensorData& data : model.graph.initializers) {
      if (data.raw.size() <= kSmall && !weights.contains(data.name)) constants_[data.name] = &data;
    }
    // Who reads a name: outputs of the model are read from outside.
    for (const ValueInfo& output : model.graph.outputs) ++readers_[output.name];
    count_readers(model.graph.nodes, 1);
  }

  void run(const Origins& origins) {
    std::vector<NodeData> nodes = std::move(model_.graph.nodes), left;
    for (size_t begin = 0; begin < nodes.size();) {
      const std::string& origin = origins[begin].function;
      size_t end = begin + 1;
      std::vector<NodeData> group, sizes;
      // Numbers that follow from sizes depend on the inputs alone: they may be computed before the call.
      for (end = begin; end < nodes.size() && (origins[end].sizes || origins[end].function == origin); ++end)
        (origins[end].sizes ? sizes : group).push_back(std::move(nodes[end]));
      left.insert(left.end(), std::make_move_iterator(sizes.begin()), std::make_move_iterator(sizes.end()));
      if (origin.empty() || group.size() < 2) {
        left.insert(left.end(), std::make_move_iterator(group.begin()), std::make_move_iterator(group.end()));
      } else {
        left.push_back(call(origin.substr(kBodyOf.size(), origin.find('#') - kBodyOf.size()), std::move(group)));
      }
      begin = end;
    }
    model_.graph.nodes = std::move(left);
    if (model_.functions.empty()) return;
    model_.opsets[std::string(kDomain)] = 1;
    model_.ir_version = std::max<int64_t>(model_.ir_version, 8);  // the first with functions
    remove_unread_constants();
  }

 private:
  void count_readers(const std::vector<NodeData>& nodes, int by) {
    Names names;
    collect_read(nodes, names);
    for (const std::string& name : names) readers_[name] += by;
  }

  // A function of these nodes, which may be one that is there already, and the node that calls it.
  NodeData call(const std::string& op, std::vector<NodeData> body) {
    count_readers(body, -1);
    std::set<std::string> made;
    collect_made(body, made);
    Names read;
    collect_read(body, read);
    FunctionData function;
    NodeData node;
    std::vector<NodeData> constants;
    Renaming to;
    for (const std::string& name : read) {
      if (name.empty() || made.contains(name) || to.contains(name)) continue;
      if (const auto found = constants_.find(name); found != constants_.end()) {
        to[name] = fmt::format("constant_{}", constants.size());
        constants.push_back(constant_node(*found->second, to[name]));
        continue;
      }
      to[name] = fmt::format("operand_{}", node.inputs.size());
      function.inputs.push_back(to[name]);
      node.inputs.push_back(name);
    }
    size_t inner = 0;
    for (const NodeData& one : body) {
      for (const std::string& name : one.outputs) {
        if (name.empty()) continue;
        const bool leaves = readers_[name] > 0;
        to[name] = leaves ? fmt::format("result_{}", node.outputs.size()) : fmt::format("value_{}", inner++);
        if (!leaves) continue;
        function.outputs.push_back(to[name]);
        node.outputs.push_back(name);
      }
    }
    rename_all(body, to);
    for (size_t i = 0; i < body.size(); ++i) body[i].name = fmt::format("{}_{}", body[i].op_type, i);
    function.nodes = std::move(constants);
    function.nodes.insert(function.nodes.end(), std::make_move_iterator(body.begin()),
                          std::make_move_iterator(body.end()));
    function.domain = kDomain;
    function.opsets = {{"", opset_}};
    count_readers_of_call(node);
    node.op_type = name_of_function(op, std::move(function));
    node.domain = kDomain;
    node.name = fmt::format("{}_{}", node.op_type, calls_++);
    return node;
  }

  void count_readers_of_call(const NodeData& node) {
    for (const std::string& name : node.inputs) ++readers_[name];
  }

  static NodeData constant_node(const TensorData& data, const std::string& name) {
    auto tensor = std::make_shared<TensorData>(data);
    tensor->name.clear();
    NodeData node;
    node.op_type = "Constant";
    node.name = name;
    node.outputs = {name};
    Attribute value;
    value.name = "value";
    value.type = 4;
    value.tensor = std::move(tensor);
    node.attributes = {std::move(value)};
    return node;
  }

  std::string name_of_function(const std::string& op, FunctionData function) {
    function.name = op;
    const std::string text = serialize(function);
    const auto [known, is_new] = by_text_.try_emplace(text, op);
    if (!is_new) return known->second;
    if (const size_t others = count_[op]++; others > 0) function.name = fmt::format("{}_{}", op, others + 1);
    known->second = function.name;
    model_.functions.push_back(std::move(function));
    return known->second;
  }

  void remove_unread_constants() {
    std::erase_if(model_.graph.initializers, [&](const TensorData& data) {
      const auto found = readers_.find(data.name);
      return constants_.contains(data.name) && (found == readers_.end() || found->second == 0);
    });
  }

  ModelData& model_;
  int64_t opset_;
  std::unordered_map<std::string, const TensorData*> constants_;
  std::unordered_map<std::string, int> readers_;
  std::unordered_map<std::string, std::string> by_text_;  // a function's bytes -> its name
  std::unordered_map<std::string, size_t> count_;         // functions of an op
  size_t calls_ = 0;
};

}  // namespace

void outline_functions(ModelData& model, const Origins& origins, const StateDict& weights, int64_t opset) {
  Outliner(model, weights, opset).run(origins);
}

}  // namespace tenon::formats::onnx
