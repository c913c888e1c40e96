// From a graph for any size to a graph for given ones, and back.
//
//   Graph one = specialize(graph, bind_sizes(graph, types_of(inputs)), type_rule);
//   Graph any = generalize(graphs_at_several_sizes, at, sizes, ops);
//
// Shape rules work on concrete extents. So a graph with sizes is found by making it at several sizes and comparing: the
// nodes must be the same, and numbers that differ must follow from the sizes. A pass over concrete graphs becomes
// one over graphs with sizes by `lift`.
#pragma once

#include <functional>
#include <span>
#include <vector>

#include "tenon/ir/schema.h"
#include "tenon/ir/verify.h"

namespace tenon::ir {

// The sizes that inputs of these types have. Errors: ValueError for another number of inputs; ShapeError or DTypeError
// naming the input for a type that no sizes give, for one that contradicts an earlier input, or a size out of range.
Sizes bind_sizes(const Graph& graph, std::span<const TensorType> inputs);

// The graph for these sizes: no number of it varies any more. Result types are what the rule says.
// Errors: those of the rule; ValueError for a size that is missing or out of range.
Graph specialize(const Graph& graph, const Sizes& sizes, const TypeRule& rule);

// The graph whose specialisations at `at` are `graphs`; its examples are those of graphs[0].
// Errors: UnsupportedError if the graphs differ in more than numbers, or if a number follows no expression.
Graph generalize(std::span<const Graph> graphs, std::span<const Sizes> at, std::vector<Size> sizes,
                 const OpCatalog& ops);
// Sizes that generalize() can tell expressions apart by; the first are the examples.
std::vector<Sizes> probe_sizes(const std::vector<Size>& sizes);

// The pass at each of the probe sizes, generalised. A graph without sizes goes through the pass as it is.
Graph lift(const Graph& graph, const std::function<Graph(const Graph&)>& pass, const OpCatalog& ops,
           const TypeRule& rule);

// Without the nodes that no output needs; inputs stay. Nodes have no effects, so nothing else changes.
Graph prune(const Graph& graph);

}  // namespace tenon::ir
