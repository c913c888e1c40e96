// The recipes of claimed kernels that go row by row (device/recipe.h), for the compiler.
#pragma once

#include "tenon/device/device.h"
#include "tenon/device/recipe.h"

namespace tenon::cpu {

// A recipe with n == 0: this call has none.
using RecipeFn = RowRecipe (*)(std::span<const TensorType> in, const ir::Attrs& attrs);
// Null if the claim's kernel has no recipe.
RecipeFn recipe_of(const Claim& claim);

// How each element of a call's first result is made of inputs (as -1 - number) and of the call's other results, all
// broadcast. A kernel that has one leaves the first result out if that has no memory. Without operands: it has none.
struct ElementRecipe {
  std::vector<int> operands;
  ir::ScalarProgram program;
};
ElementRecipe elements_of(const Claim& claim, std::span<const TensorType> in, const ir::Attrs& attrs);

}  // namespace tenon::cpu
