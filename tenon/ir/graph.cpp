#include "tenon/ir/graph.h"

#include "tenon/base/error.h"
#include "tenon/ir/varying.h"

namespace tenon::ir {

Sizes examples(const Graph& graph) {
  Sizes sizes;
  for (const Size& size : graph.sizes) sizes[size.name] = size.example;
  return sizes;
}

ValueId Graph::add_value(TensorType type, std::string value_name) {
  values.push_back({std::move(type), std::move(value_name)});
  return static_cast<ValueId>(values.size() - 1);
}

ValueId Graph::add_input(TensorType type, std::string value_name) {
  inputs.push_back(add_value(std::move(type), std::move(value_name)));
  return inputs.back();
}

ValueId Graph::add_constant(Tensor value) {
  if (!value.defined() || !value.is_concrete()) {
    throw InternalError("add_constant: a constant of a graph needs elements");
  }
  if (value.impl()->weak) value = strengthen(value);
  Node node;
  node.outputs.push_back(add_value(value.type()));
  node.constant = std::move(value);
  nodes.push_back(std::move(node));
  return nodes.back().outputs.front();
}

std::vector<ValueId> Graph::add_node(const ops::OpDef& op, std::vector<ValueId> operands, Attrs attrs,
                                     const std::vector<TensorType>& results) {
  Node node;
  node.op = &op;
  node.attrs = std::move(attrs);
  node.inputs = std::move(operands);
  for (const TensorType& result : results) node.outputs.push_back(add_value(result));
  nodes.push_back(std::move(node));
  return nodes.back().outputs;
}

}  // namespace tenon::ir
