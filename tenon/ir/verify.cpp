#include "tenon/ir/verify.h"

#include <fmt/format.h>

#include <memory>
#include <optional>
#include <unordered_set>

#include "tenon/base/error.h"
#include "tenon/ir/quote.h"
#include "tenon/ir/text.h"
#include "tenon/ir/varying.h"
#include "tenon/tensor/element.h"
#include "tenon/tensor/tensor_view.h"

namespace tenon::ir {
namespace {

// Each check returns what is wrong, or "".
class Verifier {
 public:
  Verifier(const Graph& graph, const OpCatalog& ops, const TypeRule& rule, Sizes sizes)
      : graph_(graph), ops_(ops), rule_(rule), sizes_(std::move(sizes)), defined_(graph.values.size(), false) {}

  std::string run() {
    if (std::string defect = check_sizes(); !defect.empty()) return defect;
    for (size_t i = 0; i < graph_.inputs.size(); ++i) {
      if (std::string defect = define(graph_.inputs[i]); !defect.empty()) return fmt::format("input {}: {}", i, defect);
    }
    for (const Node& node : graph_.nodes) {
      std::string defect = check(node);
      if (!defect.empty()) return fmt::format("{}\n  in node: {}", defect, node_to_text(graph_, node, ops_));
    }
    for (size_t i = 0; i < graph_.outputs.size(); ++i) {
      if (std::string defect = use(graph_.outputs[i]); !defect.empty()) return fmt::format("output {}: {}", i, defect);
    }
    for (size_t i = 0; i < defined_.size(); ++i) {
      if (!defined_[i]) return fmt::format("value %{} is defined by no node", i);
    }
    return {};
  }

 private:
  [[nodiscard]] bool exists(ValueId id) const { return id >= 0 && static_cast<size_t>(id) < graph_.values.size(); }

  std::string check_sizes() {
    for (const Size& size : graph_.sizes) {
      if (!is_size_name(size.name)) return fmt::format("{} is no name for a size", quote(size.name));
      if (size.low < 0 || size.example < size.low || size.example > size.high)
        return fmt::format("the example of the size {} is not within its range", size.name);
    }
    for (const Varying& v : graph_.varying) {
      const std::optional<double> number = number_at(v);
      if (!number) return "a varying number is nowhere in the graph";
      if (!v.expr) {
        if (v.kind != Varying::Kind::Extent) return "a varying attribute or element has no expression";
        continue;
      }
      try {
        const int64_t value = evaluate(*v.expr, sizes_);
        if (static_cast<double>(value) != *number)
          return fmt::format("{} is {} at the examples, not {}", to_string(*v.expr), value, *number);
      } catch (const Error& error) {
        return error.what();
      }
    }
    return {};
  }

  [[nodiscard]] std::optional<double> number_at(const Varying& v) const {
    const auto at = static_cast<size_t>(v.index), element = static_cast<size_t>(v.element);
    if (v.kind == Varying::Kind::Extent) {
      if (!exists(v.index) || element >= graph_.type(v.index).shape.size()) return {};
      return static_cast<double>(graph_.type(v.index).shape[element]);
    }
    if (at >= graph_.nodes.size()) return {};
    const Node& node = graph_.nodes[at];
    if (v.kind == Varying::Kind::Element) {
      if (!node.constant.defined() || !node.constant.is_concrete()) return {};
      if (v.element < 0 || v.element >= node.constant.size()) return {};
      ElementCursor cursor(view(node.constant));
      for (int32_t k = 0; k < v.element; ++k) cursor.next();
      return load_real(view(node.constant), cursor.element());
    }
    if (static_cast<size_t>(v.attribute) >= node.attrs.size()) return {};
    const AttrValue& value = node.attrs[static_cast<size_t>(v.attribute)];
    if (const auto* list = std::get_if<Ints>(&value))
      return element < list->size() ? std::optional(static_cast<double>((*list)[element])) : std::nullopt;
    if (const auto* integer = std::get_if<int64_t>(&value)) return static_cast<double>(*integer);
    if (const auto* real = std::get_if<double>(&value)) return *real;
    return {};
  }

  std::string define(ValueId id) {
    if (!exists(id)) return fmt::format("%{} does not exist; the graph has {} values", id, graph_.values.size());
    if (defined_[static_cast<size_t>(id)]) return fmt::format("%{} is defined twice", id);
    defined_[static_cast<size_t>(id)] = true;
    const Value& value = graph_.values[static_cast<size_t>(id)];
    for (const int64_t extent : value.type.shape) {
      if (extent < 0) return fmt::format("%{} has a negative extent: {}", id, to_string(value.type));
    }
    if (!value.name.empty() && !names_.insert(value.name).second) {
      return fmt::format("two values have the name {}", quote(value.name));
    }
    return {};
  }

  [[nodiscard]] std::string use(ValueId id) const {
    if (!exists(id)) return fmt::format("%{} does not exist; the graph has {} values", id, graph_.values.size());
    if (!defined_[static_cast<size_t>(id)]) return fmt::format("%{} is used before it is defined", id);
    return {};
  }

  std::string check(const Node& node) {
    for (const ValueId id : node.inputs) {
      if (id == kAbsent) continue;
      if (std::string defect = use(id); !defect.empty()) return defect;
    }
    if (node.outputs.empty()) return "the node defines no value";
    for (const ValueId id : node.outputs) {
      if (std::string defect = define(id); !defect.empty()) return defect;
    }
    if (!node.op) return check_constant(node);
    std::string defect = check_attrs(node);
    return defect.empty() ? check_types(node) : defect;
  }

  [[nodiscard]] std::string check_constant(const Node& node) const {
    if (!node.inputs.empty() || !node.attrs.empty()) return "a constant has operands or attributes";
    if (node.outputs.size() != 1) return "a constant defines one value";
    if (!node.constant.defined() || !node.constant.is_concrete()) return "the constant has no elements";
    if (node.constant.impl()->weak) return "the constant is weak";
    const TensorType& declared = graph_.type(node.outputs.front());
    if (node.constant.type() != declared) {
      return fmt::format("the constant is {}, its value {}", to_string(node.constant.type()), to_string(declared));
    }
    return {};
  }

  [[nodiscard]] std::string check_attrs(const Node& node) const {
    const OpSchema& schema = ops_.schema(*node.op);
    if (node.constant.defined()) return "a call holds a constant";
    if (node.attrs.size() != schema.attrs.size()) {
      return fmt::format("{} declares {} attributes, the node has {}", schema.name, schema.attrs.size(),
                         node.attrs.size());
    }
    for (size_t i = 0; i < node.attrs.size(); ++i) {
      const AttrField& field = schema.attrs[i];
      if (type_of(node.attrs[i]) != field.type) {
        return fmt::format("attribute {} of {} is a {}, not a {}", field.name, schema.name, name(field.type),
                           name(type_of(node.attrs[i])));
      }
      const auto* sub = std::get_if<GraphPtr>(&node.attrs[i]);
      if (!sub || !*sub) continue;
      std::string defect = Verifier(**sub, ops_, rule_, sizes_).run();
      if (!defect.empty()) return fmt::format("in the graph {} of {}: {}", field.name, schema.name, defect);
    }
    return {};
  }

  [[nodiscard]] std::string check_types(const Node& node) const {
    if (!rule_) return {};
    std::vector<TensorType> in;
    const auto present = std::make_unique<bool[]>(node.inputs.size());
    for (size_t i = 0; i < node.inputs.size(); ++i) {
      present[i] = node.inputs[i] != kAbsent;
      in.push_back(present[i] ? graph_.type(node.inputs[i]) : TensorType());
    }
    std::vector<TensorType> expected;
    try {
      expected = rule_(*node.op, in, std::span<const bool>(present.get(), in.size()), node.attrs);
    } catch (const Error& error) {
      return fmt::format("the op refuses its operands: {}", error.what());
    }
    if (expected.size() != node.outputs.size()) {
      return fmt::format("the op gives {} results, the node defines {}", expected.size(), node.outputs.size());
    }
    for (size_t i = 0; i < expected.size(); ++i) {
      const TensorType& declared = graph_.type(node.outputs[i]);
      if (declared == expected[i]) continue;
      return fmt::format("result {} is declared {}, the op gives {}", i, to_string(declared), to_string(expected[i]));
    }
    return {};
  }

  const Graph& graph_;
  const OpCatalog& ops_;
  const TypeRule& rule_;
  Sizes sizes_;  // the examples
  std::vector<bool> defined_;
  std::unordered_set<std::string> names_;
};

}  // namespace

std::string find_defect(const Graph& graph, const OpCatalog& ops, const TypeRule& rule) {
  return Verifier(graph, ops, rule, examples(graph)).run();
}

void verify(std::string_view where, const Graph& graph, const OpCatalog& ops, const TypeRule& rule) {
  const std::string defect = find_defect(graph, ops, rule);
  if (!defect.empty()) throw InternalError(fmt::format("{}: the graph is not well-formed: {}", where, defect));
}

}  // namespace tenon::ir
