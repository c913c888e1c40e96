// Sums of products by index letters, in NumPy's notation.
#pragma once

#include <string>

#include "tenon/ops/opdef.h"

namespace tenon {

// einsum("bij,bjk->bik", {a, b}): each letter is an axis; letters that the result does not name are summed over; a
// letter twice in one operand is its diagonal; "..." stands for axes that broadcast. Without "->" the result has the
// letters that occur once, in alphabetical order. Operands are contracted two at a time, the cheapest pair first, as
// matrix products. Errors: ValueError for a text that is no equation, or one for another number of operands; ShapeError
// if a letter has two extents.
Tensor einsum(const std::string& equation, const Tensors& operands);

namespace ops {
const OpDef& einsum_op();
std::vector<const OpDef*> einsum_ops();
}  // namespace ops

}  // namespace tenon
