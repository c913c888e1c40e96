// Evaluation of one op on concrete tensors, and of a whole graph by doing so node after node.
#pragma once

#include "tenon/ir/graph.h"
#include "tenon/ops/opdef.h"

namespace tenon::exec {

// Inputs are promoted and checked. `results` are the inferred types, empty where the op has no rule (a
// composite, a data-dependent op). Handles moved in may be reused for results.
Tensors evaluate(const ops::OpDef& op, Tensors in, const ir::Attrs& attrs, std::span<const TensorType> results);

// One elementwise op, when nobody observes: evaluate without its lists.
Tensor evaluate_elementwise(const ops::OpDef& op, std::span<Tensor> in, const ir::Attrs& attrs,
                            const TensorType& result);

// Most eager calls of small models, start to end: an elementwise op on inputs, not yet promoted or checked, of which
// all are concrete tensors of one type that lie in one piece, tensors of one element and of the same dtype, or numbers.
// Undefined, and nothing is done, if the call is not so simple, or if `gradients` are recorded and one flows. What is
// computed is the same either way. Nobody observes or records lazily.
Tensor evaluate_plain(const ops::OpDef& op, std::span<const Tensor> in, const ir::Attrs& attrs, bool gradients);

// Runs the graph's nodes in order; each value is dropped after its last use. A graph with named sizes is specialised to
// those of the inputs first.
// Errors: ShapeError or DTypeError if the inputs do not have the graph's input types.
Tensors run(const ir::Graph& graph, Tensors inputs);

// Inside compile(fn), inputs and what the bodies of composites give are lazy: here they get their elements. Errors: of
// a traced tensor, which never has any.
void with_elements(const Tensors& list);

// Errors: those of run() for inputs that do not fit; the graph has no named sizes.
void check_inputs(const ir::Graph& graph, const Tensors& inputs);

// `x` row-major in fresh memory, or x itself if it lies so already.
Tensor contiguous(const Tensor& x);

}  // namespace tenon::exec
