// An elementwise op as a chain of the basic ones.
#pragma once

#include "tenon/ops/opdef.h"

namespace tenon::ops {

// Computes the program with one op call for each instruction. This is how an elementwise op whose gradient
// is "of its body" is differentiated: the basic ops have rules of their own.
Tensor replay(const ir::ScalarProgram& program, std::span<const Tensor> in);

}  // namespace tenon::ops
