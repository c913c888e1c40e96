#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <unordered_map>

#include "tenon/ir/quote.h"
#include "tenon/ir/text.h"
#include "tenon/ir/varying.h"
#include "tenon/tensor/element.h"
#include "tenon/tensor/tensor_view.h"

namespace tenon::ir {
namespace {

std::string element_text(const ConstView& view, int64_t element) {
  switch (info(view.dtype).kind) {
    case DTypeKind::Bool:
      return load_integer(view, element) ? "true" : "false";
    case DTypeKind::Signed:
      return std::to_string(load_integer(view, element));
    case DTypeKind::Unsigned:
      return std::to_string(static_cast<uint64_t>(load_integer(view, element)));
    case DTypeKind::Float:
      break;
  }
  if (view.dtype == DType::F64) return shortest(view.as<double>()[element - view.offset]);
  if (view.dtype == DType::F32) return shortest(view.as<float>()[element - view.offset]);
  // Every narrower float is an f32 exactly.
  return shortest(static_cast<float>(load_real(view, element)));
}

// A number among integers: an expression of sizes, or "~14" where none gives it.
std::string number_text(const Varying* varying, int64_t number) {
  if (!varying) return std::to_string(number);
  return varying->expr ? to_string(*varying->expr) : fmt::format("~{}", number);
}
// The same among reals and elements, where only a name may stand without brackets.
std::string bracketed(const SizeExpr& expr) {
  const std::string text = to_string(expr);
  return expr.name() || expr.divisor != 1 ? text : "(" + text + ")";
}

template <class Find>
std::string list_text(const Ints& list, const Find& varying) {
  std::string text = "[";
  for (size_t i = 0; i < list.size(); ++i) text += (i > 0 ? ", " : "") + number_text(varying(i), list[i]);
  return text + "]";
}

class Printer {
 public:
  // `numbered`: values are renumbered in the order of definition; otherwise they keep the numbers they have.
  Printer(const OpCatalog& ops, const TextOptions& options, bool numbered)
      : ops_(ops), options_(options), numbered_(numbered) {}

  std::string graph(const Graph& g, const std::string& indent) {
    std::vector<ValueId> outer(static_cast<size_t>(std::max<size_t>(g.values.size(), 1)), -1);
    outer.swap(numbers_);
    int next = 0;
    std::swap(next, next_);
    VaryingTable varying(g);
    std::swap(varying, varying_);
    std::string text = "graph " + (g.name.empty() ? "" : quote(g.name) + " ") + sizes(g) + "(";
    for (size_t i = 0; i < g.inputs.size(); ++i) text += (i > 0 ? ", " : "") + definition(g, g.inputs[i]);
    std::string body;
    for (size_t i = 0; i < g.nodes.size(); ++i) body += indent + "  " + node(g, g.nodes[i], indent + "  ", i) + "\n";
    text += ") -> (";
    for (size_t i = 0; i < g.outputs.size(); ++i) text += (i > 0 ? ", " : "") + use(g.outputs[i]);
    text += ") {\n" + body + indent + "}";
    outer.swap(numbers_);
    std::swap(next, next_);
    std::swap(varying, varying_);
    return text;
  }

  std::string node(const Graph& g, const Node& n, const std::string& indent, size_t place) {
    std::string call = n.op ? this->call(n, indent, place) : constant(n.constant, place);
    std::string text;
    for (size_t i = 0; i < n.outputs.size(); ++i) text += (i > 0 ? ", " : "") + definition(g, n.outputs[i]);
    text += " = " + call;
    if (!n.path.empty()) text += " in " + quote(n.path);
    if (!n.location.empty()) text += " from " + quote(n.location);
    return text;
  }

 private:
  static std::string sizes(const Graph& g) {
    std::string text;
    for (const Size& size : g.sizes) {
      text += fmt::format("{}{} = {} from {}", text.empty() ? "[" : ", ", size.name, size.example, size.low);
      if (size.high != std::numeric_limits<int64_t>::max()) text += fmt::format(" to {}", size.high);
    }
    return text.empty() ? text : text + "] ";
  }

  std::string definition(const Graph& g, ValueId id) {
    if (id < 0 || static_cast<size_t>(id) >= g.values.size()) return fmt::format("%{}: (no such value)", id);
    if (numbered_) numbers_[static_cast<size_t>(id)] = next_++;
    const Value& value = g.values[static_cast<size_t>(id)];
    return use(id) + (value.name.empty() ? "" : " " + quote(value.name)) + ": " + std::string(name(value.type.dtype)) +
           list_text(value.type.shape, [&](size_t axis) { return varying_.extent(id, axis); });
  }

  [[nodiscard]] std::string use(ValueId id) const {
    if (id == kAbsent) return "_";
    const bool known = numbered_ && id >= 0 && static_cast<size_t>(id) < numbers_.size();
    return fmt::format("%{}", known ? numbers_[static_cast<size_t>(id)] : id);
  }

  std::string call(const Node& n, const std::string& indent, size_t place) {
    const OpSchema& schema = ops_.schema(*n.op);
    std::string text = std::string(schema.name) + "(";
    for (size_t i = 0; i < n.inputs.size(); ++i) text += (i > 0 ? ", " : "") + use(n.inputs[i]);
    text += ")";
    if (n.attrs.empty()) return text;
    text += " {";
    for (size_t i = 0; i < n.attrs.size(); ++i) {
      const std::string key =
          i < schema.attrs.size() ? std::string(schema.attrs[i].name) : fmt::format("attribute{}", i);
      const auto* sub = std::get_if<GraphPtr>(&n.attrs[i]);
      text += (i > 0 ? ", " : "") + key + " = ";
      text += sub && *sub ? graph(**sub, indent) : attribute(n.attrs[i], place, i);
    }
    return text + "}";
  }

  [[nodiscard]] std::string attribute(const AttrValue& value, size_t place, size_t i) const {
    if (varying_.empty()) return to_string(value);
    if (const auto* list = std::get_if<Ints>(&value))
      return list_text(*list, [&](size_t k) { return varying_.attribute(place, i, k); });
    const Varying* v = varying_.attribute(place, i, 0);
    if (!v || !v->expr) return to_string(value);
    return std::holds_alternative<int64_t>(value) ? to_string(*v->expr) : bracketed(*v->expr);
  }

  [[nodiscard]] std::string elements_text(const Tensor& constant, size_t place) const {
    const ConstView x = view(constant);
    std::string text = "{";
    ElementCursor cursor(x);
    for (int64_t i = 0; i < constant.size(); ++i, cursor.next()) {
      if (i > 0) text += ", ";
      const Varying* v = varying_.element(place, static_cast<size_t>(i));
      text += v && v->expr ? bracketed(*v->expr) : element_text(x, cursor.element());
    }
    return text + "}";
  }

  std::string constant(const Tensor& value, size_t place) {
    if (!value.defined() || !value.is_concrete()) return "const (no elements)";
    const bool named = options_.table && options_.in_table && options_.in_table(value);
    if ((value.size() <= options_.inline_elements && !named) || (!options_.table && !options_.shorten)) {
      return "const " + elements_text(value, place);
    }
    if (!options_.table) return "const {…}";
    const auto [found, added] = places_.try_emplace(value.impl(), options_.table->size());
    if (added) options_.table->push_back(value);
    return fmt::format("const @{}", found->second);
  }

  const OpCatalog& ops_;
  const TextOptions& options_;
  bool numbered_;
  std::vector<ValueId> numbers_;  // printed number of each value; -1: not defined yet
  int next_ = 0;
  VaryingTable varying_;
  std::unordered_map<const TensorImpl*, size_t> places_;  // in the table
};

}  // namespace

std::string to_text(const Graph& graph, const OpCatalog& ops, const TextOptions& options) {
  return Printer(ops, options, true).graph(graph, "") + "\n";
}

std::string node_to_text(const Graph& graph, const Node& node, const OpCatalog& ops) {
  const TextOptions options{.shorten = true};
  return Printer(ops, options, false).node(graph, node, "", 0);
}

}  // namespace tenon::ir
