#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "tenon/base/error.h"
#include "tenon/ir/hash.h"
#include "tenon/ir/specialize.h"
#include "tenon/ir/text.h"
#include "tenon/ir/varying.h"
#include "tenon/tensor/element.h"
#include "tenon/tensor/tensor_view.h"

namespace tenon::ir {
namespace {

std::string to_text(const Sizes& sizes) {
  std::string text;
  for (const auto& [name, value] : sizes) text += fmt::format("{}{} = {}", text.empty() ? "" : ", ", name, value);
  return text;
}

// Compares graphs node by node and collects what varies.
class Generalizer {
 public:
  Generalizer(std::span<const Sizes> at, const std::vector<Size>& sizes, const OpCatalog& ops) : at_(at), ops_(ops) {
    for (const Size& size : sizes) names_.push_back(size.name);
  }

  Graph run(const std::vector<const Graph*>& graphs) {
    const Graph& first = *graphs[0];
    Graph result = first;
    result.varying.clear();
    for (size_t k = 1; k < graphs.size(); ++k) {
      if (graphs[k]->inputs != first.inputs || graphs[k]->outputs != first.outputs ||
          graphs[k]->nodes.size() != first.nodes.size() || graphs[k]->values.size() != first.values.size()) {
        differ(graphs, k);
      }
    }
    for (const ValueId id : first.inputs) extents(graphs, id, result, true);
    for (size_t n = 0; n < first.nodes.size(); ++n) node(graphs, n, result);
    return result;
  }

 private:
  // The first node at which graph k is another one than graph 0.
  [[noreturn]] void differ(const std::vector<const Graph*>& graphs, size_t k) const {
    const Graph &a = *graphs[0], &b = *graphs[k];
    size_t n = 0;
    while (n < a.nodes.size() && n < b.nodes.size() && same_call(a.nodes[n], b.nodes[n])) ++n;
    const auto shown = [&](const Graph& g) {
      return n < g.nodes.size() ? node_to_text(g, g.nodes[n], ops_) : std::string("the end");
    };
    throw UnsupportedError(
        {"capture", fmt::format("the function makes another graph at other sizes: node {} with {}", n, to_text(at_[k])),
         fmt::format("{} (as with {})", shown(a), to_text(at_[0])), shown(b),
         "make the choice with where or cond, or give the size as a number"});
  }

  static bool same_call(const Node& a, const Node& b) {
    return a.op == b.op && a.inputs == b.inputs && a.outputs == b.outputs && a.attrs.size() == b.attrs.size();
  }

  // The expression of a number that was seen with these values; nothing if it does not vary.
  std::optional<Varying> number(const std::vector<int64_t>& values, Varying::Kind kind, size_t index, size_t attribute,
                                size_t element, bool expression_needed, const std::function<std::string()>& what) {
    if (std::adjacent_find(values.begin(), values.end(), std::not_equal_to<>()) == values.end()) return {};
    Varying v{kind, static_cast<int32_t>(index), static_cast<int32_t>(attribute), static_cast<int32_t>(element), {}};
    v.expr = fit(at_, values, names_);
    if (!v.expr && expression_needed) {
      std::string seen;
      for (size_t k = 0; k < std::min<size_t>(values.size(), 4); ++k)
        seen += fmt::format("{}{} with {}", k == 0 ? "" : ", ", values[k], to_text(at_[k]));
      throw UnsupportedError(
          {"capture",
           fmt::format("{} follows the sizes in a way that cannot be written down: {}", what(), seen),
           {},
           {},
           "compute it with ops, or give the size as a number"});
    }
    return v;
  }

  void extents(const std::vector<const Graph*>& graphs, ValueId id, Graph& result, bool needed) {
    const size_t rank = graphs[0]->type(id).shape.size();
    for (const Graph* g : graphs) {
      if (g->type(id).shape.size() != rank || g->type(id).dtype != graphs[0]->type(id).dtype)
        throw UnsupportedError({"capture", "the rank or dtype of a value depends on the sizes", {}, {}, {}});
    }
    std::vector<int64_t> values(graphs.size());
    for (size_t axis = 0; axis < rank; ++axis) {
      for (size_t k = 0; k < graphs.size(); ++k) values[k] = graphs[k]->type(id).shape[axis];
      auto v = number(values, Varying::Kind::Extent, static_cast<size_t>(id), 0, axis, needed,
                      [&] { return fmt::format("extent {} of %{}", axis, id); });
      if (v) result.varying.push_back(std::move(*v));
    }
  }

  void node(const std::vector<const Graph*>& graphs, size_t n, Graph& result) {
    const Node& first = graphs[0]->nodes[n];
    std::vector<const Node*> nodes;
    for (size_t k = 0; k < graphs.size(); ++k) {
      nodes.push_back(&graphs[k]->nodes[n]);
      if (!same_call(first, *nodes[k])) differ(graphs, k);
    }
    const auto what = [&] { return node_to_text(*graphs[0], first, ops_); };
    if (!first.op) {
      constant(nodes, n, result, what);
      return;
    }
    for (const ValueId id : first.outputs) extents(graphs, id, result, false);
    for (size_t i = 0; i < first.attrs.size(); ++i) attribute(graphs, nodes, n, i, result, what);
  }

  void attribute(const std::vector<const Graph*>& graphs, const std::vector<const Node*>& nodes, size_t n, size_t i,
                 Graph& result, const std::function<std::string()>& what) {
    const AttrValue& value = nodes[0]->attrs[i];
    std::vector<int64_t> values(nodes.size());
    const auto add = [&](size_t element) {
      auto v = number(values, Varying::Kind::Attribute, n, i, element, true,
                      [&] { return fmt::format("attribute {} of {}", i, what()); });
      if (v) result.varying.push_back(std::move(*v));
    };
    if (const auto* list = std::get_if<Ints>(&value)) {
      for (size_t k = 0; k < nodes.size(); ++k) {
        if (nodes[k]->attrs.ints(i).size() != list->size()) differ(graphs, k);
      }
      for (size_t element = 0; element < list->size(); ++element) {
        for (size_t k = 0; k < nodes.size(); ++k) values[k] = nodes[k]->attrs.ints(i)[element];
        add(element);
      }
    } else if (std::holds_alternative<int64_t>(value)) {
      for (size_t k = 0; k < nodes.size(); ++k) values[k] = nodes[k]->attrs.integer(i);
      add(0);
    } else if (std::holds_alternative<GraphPtr>(value)) {
      std::vector<const Graph*> subs;
      for (const Node* node : nodes) subs.push_back(node->attrs.graph(i).get());
      if (!subs[0]) return;
      result.nodes[n].attrs[i] = GraphPtr(std::make_shared<const Graph>(run(subs)));
    } else {
      for (size_t k = 0; k < nodes.size(); ++k) {
        if (nodes[k]->attrs[i] == value) continue;
        const auto* real = std::get_if<double>(&nodes[k]->attrs[i]);
        if (!real || !whole_reals(nodes, i, values)) differ(graphs, k);
        add(0);
        return;
      }
    }
  }

  static bool whole_reals(const std::vector<const Node*>& nodes, size_t i, std::vector<int64_t>& values) {
    for (size_t k = 0; k < nodes.size(); ++k) {
      const double real = nodes[k]->attrs.real(i);
      if (!(std::abs(real) < 9e15) || real != static_cast<double>(static_cast<int64_t>(real))) return false;
      values[k] = static_cast<int64_t>(real);
    }
    return true;
  }

  void constant(const std::vector<const Node*>& nodes, size_t n, Graph& result,
                const std::function<std::string()>& what) {
    const Tensor& first = nodes[0]->constant;
    bool same = true;
    for (const Node* node : nodes) {
      const Tensor& x = node->constant;
      if (x.impl() == first.impl()) continue;
      const bool shared = x.type() == first.type() && x.impl()->buffer.get() == first.impl()->buffer.get() &&
                          x.impl()->strides == first.impl()->strides && x.impl()->offset == first.impl()->offset;
      same = same && (shared || (x.type() == first.type() && content_hash(x) == content_hash(first)));
    }
    if (same) return;
    constexpr int64_t kFew = 16;  // more would print as a table entry, which holds no expressions
    for (const Node* node : nodes) {
      if (node->constant.type() == first.type() && first.size() <= kFew && first.dtype() != DType::Bool) continue;
      throw UnsupportedError({"capture",
                              fmt::format("a constant depends on the sizes: {}", what()),
                              {},
                              {},
                              "make it with ops inside the captured function: arange, full, where"});
    }
    std::vector<int64_t> values(nodes.size());
    for (int64_t element = 0; element < first.size(); ++element) {
      for (size_t k = 0; k < nodes.size(); ++k) {
        const double real = element_of(nodes[k]->constant, element);
        values[k] = static_cast<int64_t>(real);
        if (!(std::abs(real) < 9e15) || real != static_cast<double>(values[k]))
          throw UnsupportedError({"capture",
                                  fmt::format("a constant depends on the sizes: {}", what()),
                                  {},
                                  {},
                                  "compute it with ops inside the captured function: mean instead of a division"});
      }
      auto v = number(values, Varying::Kind::Element, n, 0, static_cast<size_t>(element), true, what);
      if (v) result.varying.push_back(std::move(*v));
    }
  }

  static double element_of(const Tensor& x, int64_t element) {
    ElementCursor cursor(view(x));
    while (element-- > 0) cursor.next();
    return load_real(view(x), cursor.element());
  }

  std::span<const Sizes> at_;
  const OpCatalog& ops_;
  std::vector<std::string> names_;
};

}  // namespace

std::vector<Sizes> probe_sizes(const std::vector<Size>& sizes) {
  // Numbers without common factors, so that a product or a quotient has one reading. 1 is left out: it broadcasts.
  constexpr int64_t kNumbers[] = {5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43};
  const auto within = [&](size_t i, int64_t number) {
    const int64_t low = std::max<int64_t>(sizes[i].low, std::min<int64_t>(2, sizes[i].high));
    const int64_t span = sizes[i].high == INT64_MAX ? INT64_MAX : sizes[i].high - low + 1;
    return number < low || number > sizes[i].high ? low + number % span : number;
  };
  std::vector<Sizes> probes;
  const auto add = [&](const std::function<int64_t(size_t)>& number) {
    Sizes probe;
    for (size_t i = 0; i < sizes.size(); ++i) probe[sizes[i].name] = within(i, number(i));
    if (std::find(probes.begin(), probes.end(), probe) == probes.end()) probes.push_back(std::move(probe));
  };
  const size_t count = std::size(kNumbers);
  add([&](size_t i) { return sizes[i].example; });
  for (size_t one = 0; one < sizes.size(); ++one) {
    for (const int64_t other : {6, 9, 16, 3}) {
      add([&](size_t i) { return i == one ? sizes[i].example + other : sizes[i].example; });
    }
  }
  for (const size_t shift : {3U, 5U, 8U}) add([&](size_t i) { return kNumbers[(i * 2 + shift) % count]; });
  // Joint changes of each pair tell products from sums.
  for (size_t a = 0; a < sizes.size(); ++a) {
    for (size_t b = a + 1; b < sizes.size(); ++b) {
      add([&](size_t i) { return sizes[i].example + (i == a ? 8 : i == b ? 4 : 0); });
    }
  }
  return probes;
}

Graph generalize(std::span<const Graph> graphs, std::span<const Sizes> at, std::vector<Size> sizes,
                 const OpCatalog& ops) {
  std::vector<const Graph*> pointers;
  for (const Graph& g : graphs) pointers.push_back(&g);
  Graph result = Generalizer(at, sizes, ops).run(pointers);
  result.sizes = std::move(sizes);
  for (Size& size : result.sizes) size.example = at[0].at(size.name);
  return result;
}

Graph lift(const Graph& graph, const std::function<Graph(const Graph&)>& pass, const OpCatalog& ops,
           const TypeRule& rule) {
  if (graph.sizes.empty()) return pass(graph);
  const std::vector<Sizes> at = probe_sizes(graph.sizes);
  std::vector<Graph> graphs;
  graphs.reserve(at.size());
  for (const Sizes& sizes : at) graphs.push_back(pass(specialize(graph, sizes, rule)));
  return generalize(graphs, at, graph.sizes, ops);
}

}  // namespace tenon::ir
