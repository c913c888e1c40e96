// Definitions of the movement primitives, for those who build on them inside ops/ and for devices that claim them.
#pragma once

#include "tenon/ops/opdef.h"

namespace tenon::ops {

const OpDef& reshape_op();
const OpDef& permute_op();
const OpDef& expand_op();
const OpDef& slice_op();
const OpDef& diagonal_op();
const OpDef& pad_op();
const OpDef& concat_op();

// pad with elements of `value` between the elements too.
Tensor pad_interior(Tensor x, Tensor value, const Ints& low, const Ints& high, const Ints& interior);

}  // namespace tenon::ops
