// The recipes of claimed kernels that go row by row (device/recipe.h), for the compiler.
#pragma once

#include "tenon/device/device.h"
#include "tenon/device/recipe.h"

namespace tenon::cpu {

// A recipe with n == 0: this call has none.
using RecipeFn = RowRecipe (*)(std::span<const TensorType> in, const ir::Attrs& attrs);
// Null if the claim's kernel has no recipe.
RecipeFn recipe_of(const Claim& claim);

}  // namespace tenon::cpu
