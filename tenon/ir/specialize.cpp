#include "tenon/ir/specialize.h"

#include <fmt/format.h>

#include <algorithm>

#include "tenon/base/error.h"
#include "tenon/ir/quote.h"
#include "tenon/ir/varying.h"
#include "tenon/tensor/element.h"
#include "tenon/tensor/tensor_view.h"

namespace tenon::ir {
namespace {

std::string name_of(const Graph& graph) { return graph.name.empty() ? "graph" : graph.name; }

std::string input_name(const Graph& graph, size_t i) {
  const std::string& name = graph.values[static_cast<size_t>(graph.inputs[i])].name;
  return name.empty() ? fmt::format("input {}", i) : fmt::format("input {}", quote(name));
}

// "f32[batch, 3]"
std::string type_text(const Graph& graph, const VaryingTable& varying, ValueId id) {
  const TensorType& type = graph.type(id);
  std::string text = std::string(name(type.dtype)) + "[";
  for (size_t axis = 0; axis < type.shape.size(); ++axis) {
    const Varying* v = varying.extent(id, axis);
    text += (axis > 0 ? ", " : "") + (v && v->expr ? to_string(*v->expr) : std::to_string(type.shape[axis]));
  }
  return text + "]";
}

void check_ranges(const Graph& graph, const Sizes& sizes) {
  for (const Size& size : graph.sizes) {
    const auto found = sizes.find(size.name);
    if (found == sizes.end())
      throw ValueError({name_of(graph), fmt::format("the size '{}' is not given", size.name), {}, {}, {}});
    if (found->second < size.low || found->second > size.high)
      throw ShapeError(
          {name_of(graph),
           fmt::format("the size '{}' is out of its range", size.name),
           size.high == INT64_MAX ? fmt::format("at least {}", size.low) : fmt::format("{} to {}", size.low, size.high),
           std::to_string(found->second),
           {}});
  }
}

Tensor with_element(const Tensor& constant, int32_t element, int64_t value) {
  Tensor copy = empty(constant.shape(), constant.dtype());
  const ConstView from = view(constant);
  const View to = mutable_view(copy);
  ElementCursor cursor(from);
  for (int64_t i = 0; i < constant.size(); ++i, cursor.next()) convert_element(from, cursor.element(), to, i);
  if (is_float(constant.dtype())) {
    store_real(to, element, integer_to_real(constant.dtype(), value, false));
  } else {
    store_integer(to, element, value);
  }
  return copy;
}

Graph specialize_in(const Graph& graph, const Sizes& sizes, const TypeRule& rule) {
  Graph result = graph;
  result.sizes.clear();
  result.varying.clear();
  const auto is_input = [&](int32_t id) {
    return std::find(graph.inputs.begin(), graph.inputs.end(), id) != graph.inputs.end();
  };
  for (const Varying& v : graph.varying) {
    if (v.kind == Varying::Kind::Extent) {
      if (!is_input(v.index)) continue;  // inferred below
      if (!v.expr) throw ValueError({name_of(graph), "an input's extent has no expression", {}, {}, {}});
      const int64_t extent = evaluate(*v.expr, sizes);
      if (extent < 0) throw ValueError({name_of(graph), "an input's extent would be negative", {}, {}, {}});
      result.values[static_cast<size_t>(v.index)].type.shape[static_cast<size_t>(v.element)] = extent;
      continue;
    }
    Node& node = result.nodes[static_cast<size_t>(v.index)];
    const int64_t number = evaluate(*v.expr, sizes);
    if (v.kind == Varying::Kind::Element) {
      node.constant = with_element(node.constant, v.element, number);
      continue;
    }
    AttrValue& value = node.attrs[static_cast<size_t>(v.attribute)];
    if (auto* list = std::get_if<Ints>(&value)) {
      (*list)[static_cast<size_t>(v.element)] = number;
    } else if (std::holds_alternative<double>(value)) {
      value = static_cast<double>(number);
    } else {
      value = number;
    }
  }
  for (Node& node : result.nodes) {
    if (!node.op) continue;
    // NOLINTNEXTLINE(modernize-loop-convert): a range over attributes is a range of constants
    for (size_t i = 0; i < node.attrs.size(); ++i) {
      const auto* sub = std::get_if<GraphPtr>(&node.attrs[i]);
      if (sub && *sub) node.attrs[i] = GraphPtr(std::make_shared<const Graph>(specialize_in(**sub, sizes, rule)));
    }
    std::vector<TensorType> in;
    std::vector<char> flags;
    for (const ValueId id : node.inputs) {
      flags.push_back(id != kAbsent);
      in.push_back(id == kAbsent ? TensorType() : result.type(id));
    }
    static_assert(sizeof(char) == sizeof(bool));
    const auto types = rule(
        *node.op, in, std::span<const bool>(reinterpret_cast<const bool*>(flags.data()), flags.size()), node.attrs);
    if (types.size() != node.outputs.size()) throw InternalError("specialize: another number of results");
    for (size_t i = 0; i < types.size(); ++i) result.values[static_cast<size_t>(node.outputs[i])].type = types[i];
  }
  return result;
}

// A value for the name that stands alone in an extent, or in one that is a multiple of it plus a number.
std::optional<int64_t> solve(const SizeExpr& expr, int64_t extent) {
  if (expr.divisor != 1 || expr.terms.size() != 1 || expr.terms[0].names.size() != 1) return {};
  const int64_t rest = extent - expr.constant, factor = expr.terms[0].factor;
  if (factor == 0 || rest % factor != 0) return {};
  return rest / factor;
}

}  // namespace

Sizes bind_sizes(const Graph& graph, std::span<const TensorType> inputs) {
  if (inputs.size() != graph.inputs.size())
    throw ValueError({name_of(graph),
                      "wrong number of inputs",
                      std::to_string(graph.inputs.size()),
                      std::to_string(inputs.size()),
                      {}});
  const VaryingTable varying(graph);
  Sizes sizes;
  // Names that stand alone first, so that "past + seq" finds both known.
  for (const bool alone : {true, false}) {
    for (size_t i = 0; i < inputs.size(); ++i) {
      const Shape& shape = inputs[i].shape;
      if (shape.size() != graph.type(graph.inputs[i]).shape.size()) continue;
      for (size_t axis = 0; axis < shape.size(); ++axis) {
        const Varying* v = varying.extent(graph.inputs[i], axis);
        if (!v || !v->expr || (v->expr->name() != nullptr) != alone) continue;
        if (const auto value = solve(*v->expr, shape[axis])) sizes.emplace(v->expr->terms[0].names[0], *value);
      }
    }
  }
  for (size_t i = 0; i < inputs.size(); ++i) {
    const ValueId id = graph.inputs[i];
    const TensorType& want = graph.type(id);
    const auto fail = [&](const std::string& problem, const std::string& expected) {
      const ErrorParts parts{
          name_of(graph), fmt::format("{} {}", input_name(graph, i), problem), expected, to_string(inputs[i]), {}};
      if (inputs[i].dtype != want.dtype) throw DTypeError(parts);
      throw ShapeError(parts);
    };
    if (inputs[i].dtype != want.dtype || inputs[i].shape.size() != want.shape.size())
      fail("has another type", type_text(graph, varying, id));
    for (size_t axis = 0; axis < want.shape.size(); ++axis) {
      const Varying* v = varying.extent(id, axis);
      const bool known =
          v && v->expr && std::all_of(v->expr->terms.begin(), v->expr->terms.end(), [&](const auto& t) {
            return std::all_of(t.names.begin(), t.names.end(), [&](const auto& n) { return sizes.contains(n); });
          });
      if (v && !known) fail("has a shape that no sizes give", type_text(graph, varying, id));
      const int64_t extent = v ? evaluate(*v->expr, sizes) : want.shape[axis];
      if (extent == inputs[i].shape[axis]) continue;
      std::string at;
      for (const auto& [name, value] : sizes) at += fmt::format("{}{} = {}", at.empty() ? " with " : ", ", name, value);
      fail("has another shape", type_text(graph, varying, id) + at);
    }
  }
  check_ranges(graph, sizes);
  return sizes;
}

Graph specialize(const Graph& graph, const Sizes& sizes, const TypeRule& rule) {
  check_ranges(graph, sizes);
  return specialize_in(graph, sizes, rule);
}

Graph prune(const Graph& graph) {
  std::vector<bool> needed(graph.values.size(), false);
  const auto need = [&](ValueId id) {
    if (id != kAbsent) needed[static_cast<size_t>(id)] = true;
  };
  for (const ValueId id : graph.outputs) need(id);
  for (const ValueId id : graph.inputs) need(id);
  std::vector<bool> stays(graph.nodes.size(), false);
  for (size_t n = graph.nodes.size(); n-- > 0;) {
    const Node& node = graph.nodes[n];
    for (const ValueId id : node.outputs) stays[n] = stays[n] || needed[static_cast<size_t>(id)];
    if (!stays[n]) continue;
    for (const ValueId id : node.outputs) need(id);
    for (const ValueId id : node.inputs) need(id);
  }
  Graph result;
  result.name = graph.name;
  result.sizes = graph.sizes;
  std::vector<ValueId> moved(graph.values.size(), kAbsent);
  std::vector<int32_t> moved_nodes(graph.nodes.size(), -1);
  const auto define = [&](ValueId& id) {
    const auto at = static_cast<size_t>(id);
    if (moved[at] == kAbsent) moved[at] = result.add_value(graph.values[at].type, graph.values[at].name);
    id = moved[at];
  };
  for (ValueId id : graph.inputs) {
    define(id);
    result.inputs.push_back(id);
  }
  for (size_t n = 0; n < graph.nodes.size(); ++n) {
    if (!stays[n]) continue;
    Node node = graph.nodes[n];
    for (ValueId& id : node.inputs) {
      if (id != kAbsent) id = moved[static_cast<size_t>(id)];
    }
    for (ValueId& id : node.outputs) define(id);
    moved_nodes[n] = static_cast<int32_t>(result.nodes.size());
    result.nodes.push_back(std::move(node));
  }
  for (const ValueId id : graph.outputs) result.outputs.push_back(moved[static_cast<size_t>(id)]);
  for (Varying v : graph.varying) {
    v.index = v.kind == Varying::Kind::Extent ? moved[static_cast<size_t>(v.index)]
                                              : moved_nodes[static_cast<size_t>(v.index)];
    if (v.index >= 0) result.varying.push_back(std::move(v));
  }
  return result;
}

}  // namespace tenon::ir
