// A function compiled, where there is a compiler; the function itself where there is none.
#pragma once

#include <functional>
#include <utility>

#ifdef TENON_HAS_COMPILER
#include "tenon/compile.h"
#else
#include "tenon/tensor/tensor.h"
#endif

namespace tenon::testing_support {

using TensorFunction = std::function<Tensors(const Tensors&)>;
#ifdef TENON_HAS_COMPILER
inline TensorFunction compiled(TensorFunction fn) { return compile(std::move(fn)); }
#else
inline TensorFunction compiled(TensorFunction fn) { return fn; }
#endif

}  // namespace tenon::testing_support
