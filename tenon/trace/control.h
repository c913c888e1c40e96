// Control flow that can be captured.
//
// Outside of a capture these run as the C++ they replace: `cond` calls one of its functions, the loops loop, and
// gradients and vmap flow through whatever was called. In a capture, where the values are not known yet, the functions
// are captured as graphs and become one op (ops/control.h). Functions may use tensors from around them. A function is
// traced once, so random numbers that it draws without a key are the same in every step: carry a key and split it.
#pragma once

#include <functional>

#include "tenon/ops/control.h"
#include "tenon/trace/capture.h"

namespace tenon {

// then_branch(operands) if the truth value holds, else else_branch(operands). Under vmap with a predicate that
// differs between examples both are computed and the results are chosen one by one.
// Errors: ShapeError unless the predicate has one element; ValueError, ShapeError or DTypeError if the branches give
// results of different number or type (in a capture and under vmap, where both are looked at).
Tensors cond(const Tensor& predicate, const trace::Function& then_branch, const trace::Function& else_branch,
             const Tensors& operands = {});

// values = body(values) while condition(values) holds. `body` must keep number and types.
// Differentiable outside of a capture; inside one, use scan if a gradient is wanted.
Tensors while_loop(const std::function<Tensor(const Tensors&)>& condition, const trace::Function& body, Tensors values);

// scan: the loop with a known number of steps, differentiable also in a capture, is declared in ops/control.h.

namespace trace {
// What call() does with control flow: keep it for a gradient; under vmap (inputs unwrapped, batch first).
Tensors call_differentiable_control(const ops::OpDef& op, const Tensors& in, const ir::Attrs& attrs);
Tensors call_batched_control(const ops::OpDef& op, const Tensors& in, std::vector<bool> batched, int64_t size,
                             const ir::Attrs& attrs, int level);
}  // namespace trace

}  // namespace tenon
