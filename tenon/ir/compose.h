// Scalar programs put one behind the other.
#pragma once

#include <span>

#include "tenon/ir/scalar.h"

namespace tenon::ir {

// `second` with the result of `first` for each of its inputs that `joined` names. The inputs are those of `first`, then
// the others of `second` in order. The dtypes must agree.
ScalarProgram compose(const ScalarProgram& first, const ScalarProgram& second, std::span<const int> joined);

// One input and nothing else: what a chain of programs starts from.
ScalarProgram identity(DType dtype);

}  // namespace tenon::ir
