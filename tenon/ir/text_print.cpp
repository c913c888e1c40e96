#include <fmt/format.h>

#include <algorithm>
#include <unordered_map>

#include "tenon/ir/quote.h"
#include "tenon/ir/text.h"
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

std::string elements_text(const Tensor& constant) {
  const ConstView x = view(constant);
  std::string text = "{";
  ElementCursor cursor(x);
  for (int64_t i = 0; i < constant.size(); ++i, cursor.next()) {
    if (i > 0) text += ", ";
    text += element_text(x, cursor.element());
  }
  return text + "}";
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
    std::string text = "graph " + (g.name.empty() ? "" : quote(g.name) + " ") + "(";
    for (size_t i = 0; i < g.inputs.size(); ++i) text += (i > 0 ? ", " : "") + definition(g, g.inputs[i]);
    std::string body;
    for (const Node& n : g.nodes) body += indent + "  " + node(g, n, indent + "  ") + "\n";
    text += ") -> (";
    for (size_t i = 0; i < g.outputs.size(); ++i) text += (i > 0 ? ", " : "") + use(g.outputs[i]);
    text += ") {\n" + body + indent + "}";
    outer.swap(numbers_);
    std::swap(next, next_);
    return text;
  }

  std::string node(const Graph& g, const Node& n, const std::string& indent) {
    std::string call = n.op ? this->call(n, indent) : constant(n.constant);
    std::string text;
    for (size_t i = 0; i < n.outputs.size(); ++i) text += (i > 0 ? ", " : "") + definition(g, n.outputs[i]);
    text += " = " + call;
    if (!n.path.empty()) text += " in " + quote(n.path);
    if (!n.location.empty()) text += " from " + quote(n.location);
    return text;
  }

 private:
  std::string definition(const Graph& g, ValueId id) {
    if (id < 0 || static_cast<size_t>(id) >= g.values.size()) return fmt::format("%{}: (no such value)", id);
    if (numbered_) numbers_[static_cast<size_t>(id)] = next_++;
    const Value& value = g.values[static_cast<size_t>(id)];
    return use(id) + (value.name.empty() ? "" : " " + quote(value.name)) + ": " + to_string(value.type);
  }

  [[nodiscard]] std::string use(ValueId id) const {
    if (id == kAbsent) return "_";
    const bool known = numbered_ && id >= 0 && static_cast<size_t>(id) < numbers_.size();
    return fmt::format("%{}", known ? numbers_[static_cast<size_t>(id)] : id);
  }

  std::string call(const Node& n, const std::string& indent) {
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
      text += sub && *sub ? graph(**sub, indent) : to_string(n.attrs[i]);
    }
    return text + "}";
  }

  std::string constant(const Tensor& value) {
    if (!value.defined() || !value.is_concrete()) return "const (no elements)";
    if (value.size() <= options_.inline_elements || (!options_.table && !options_.shorten)) {
      return "const " + elements_text(value);
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
  std::unordered_map<const TensorImpl*, size_t> places_;  // in the table
};

}  // namespace

std::string to_text(const Graph& graph, const OpCatalog& ops, const TextOptions& options) {
  return Printer(ops, options, true).graph(graph, "") + "\n";
}

std::string node_to_text(const Graph& graph, const Node& node, const OpCatalog& ops) {
  const TextOptions options{.shorten = true};
  return Printer(ops, options, false).node(graph, node, "");
}

}  // namespace tenon::ir
