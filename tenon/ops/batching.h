// Batching rules that several families share.
#pragma once

#include "tenon/ops/opdef.h"

namespace tenon::ops {

// For ops whose first axis, of every input and result, counts examples that do not meet: the batch joins it.
Tensors batch_joins_examples(const BatchArgs& a);

}  // namespace tenon::ops
