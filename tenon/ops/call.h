// The call of an op: the one door through which every op goes.
//
// Declared here because bodies and gradients of ops call other ops; defined in trace/call.cpp, which
// decides whether the call is evaluated at once, recorded in a graph, batched, or kept for a gradient.
#pragma once

#include "tenon/ops/opdef.h"

namespace tenon::ops {

// Errors: DTypeError, ShapeError, ValueError … naming the op; GradientError if a gradient is wanted that
// the op has no rule for. `attrs` has one value for each of op.attrs, in order.
Tensors call(const OpDef& op, Tensors in, const ir::Attrs& attrs = {});
// The same for an op with one result.
Tensor call1(const OpDef& op, Tensors in, const ir::Attrs& attrs = {});

}  // namespace tenon::ops
