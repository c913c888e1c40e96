// Control flow on concrete values: branches and loops over graphs.
#pragma once

#include "tenon/ops/opdef.h"

namespace tenon::exec {

// Inputs and attributes are those of the kind's op (ops/control.h), already checked by its type rule.
Tensors run_control_flow(ops::ControlKind kind, Tensors in, const ir::Attrs& attrs);

}  // namespace tenon::exec
