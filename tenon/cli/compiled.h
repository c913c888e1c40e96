// The compiler, if this program has it.
#pragma once

#include <functional>

#include "tenon/ir/precision.h"
#include "tenon/tensor/tensor.h"

namespace tenon::cli {

// The same function, whose calls run as compiled programs. Errors: UnsupportedError if the program was built without
// LLVM, which the compiler needs.
[[nodiscard]] std::function<Tensors()> compiled(std::function<Tensors()> run, Precision precision);

}  // namespace tenon::cli
