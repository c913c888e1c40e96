// Scans: each element combined with all before it along an axis.
//
// `reverse` goes from the end; `exclusive` leaves the element itself out, so that the first result is 0 (or 1). Shapes
// stay; integers and bool become i64 (u64) in cumsum and cumprod, as in sum and as in NumPy. Errors: IndexError for an
// axis that does not exist.
#pragma once

#include "tenon/ops/opdef.h"

namespace tenon {

Tensor cumsum(Tensor x, int64_t axis = -1, bool exclusive = false, bool reverse = false);
Tensor cumprod(Tensor x, int64_t axis = -1, bool exclusive = false, bool reverse = false);
// The largest / smallest so far (NaN wins, from there on), and where it stands: the last of equal ones.
struct CumulativeExtreme {
  Tensor values, indices;  // indices: i64
};
CumulativeExtreme cummax(Tensor x, int64_t axis = -1);
CumulativeExtreme cummin(Tensor x, int64_t axis = -1);
// log(cumsum(exp(x))) without overflow.
Tensor logcumsumexp(Tensor x, int64_t axis = -1);
// y[t] = a[t] * y[t - 1] + b[t], with y = 0 before the first: a first-order linear recurrence along the axis. The
// gradients of products and of logcumsumexp are recurrences of this kind.
Tensor linear_recurrence(Tensor a, Tensor b, int64_t axis = -1, bool reverse = false);

namespace ops {
// cumsum and cumprod as ops keep the dtype.
// attrs of cumsum and cumprod: axis, exclusive, reverse; of linear_recurrence: axis, reverse; else axis.
const OpDef& cumsum_op();
const OpDef& cumprod_op();
const OpDef& linear_recurrence_op();
const OpDef& logcumsumexp_op();
const OpDef& cummax_op();
const OpDef& cummin_op();
std::vector<const OpDef*> cumulative_ops();
}  // namespace ops

}  // namespace tenon
