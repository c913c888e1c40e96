// Special functions beside those that are scalar instructions (ops/elementwise.h).
#pragma once

#include "tenon/ops/opdef.h"

namespace tenon {

// The n-th derivative of digamma: polygamma(0, x) is digamma(x), polygamma(1, x) trigamma. Infinite or NaN at 0, -1, …
// Errors: ValueError for a negative n.
Tensor polygamma(int64_t n, Tensor x);
inline Tensor trigamma(Tensor x) { return polygamma(1, std::move(x)); }

namespace ops {
// Input x; attribute n, at least 1.
const OpDef& polygamma_op();
std::vector<const OpDef*> special_ops();
}  // namespace ops

}  // namespace tenon
