// The softmax family, along one axis.
#pragma once

#include "tenon/ops/opdef.h"

namespace tenon {

// exp(x) / sum(exp(x)) along the axis, computed without overflow. Integers give f32.
Tensor softmax(Tensor x, int64_t axis = -1);
// log(softmax(x)), accurate where softmax is tiny.
Tensor log_softmax(Tensor x, int64_t axis = -1);

namespace ops {
const OpDef& softmax_op();
const OpDef& softmax_grad_op();
const OpDef& log_softmax_op();
const OpDef& log_softmax_grad_op();
std::vector<const OpDef*> softmax_ops();
}  // namespace ops

}  // namespace tenon
