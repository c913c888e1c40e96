// Reductions: combine the elements along axes.
//
// `axes` may be negative; empty means all. `keepdims` keeps each reduced axis with extent 1. The order of
// combination depends on the shape alone, so a result never depends on the number of threads.
// Integer sums and products are i64 (signed, bool) or u64 (unsigned), as in NumPy.
// Errors: IndexError for an axis that does not exist or is named twice; ShapeError for the maximum of nothing.
#pragma once

#include "tenon/ops/opdef.h"

namespace tenon {

Tensor sum(Tensor x, const Ints& axes = {}, bool keepdims = false);
Tensor prod(Tensor x, const Ints& axes = {}, bool keepdims = false);
Tensor max(Tensor x, const Ints& axes = {}, bool keepdims = false);  // NaN wins; ties share the gradient equally
Tensor min(Tensor x, const Ints& axes = {}, bool keepdims = false);
Tensor any(Tensor x, const Ints& axes = {}, bool keepdims = false);  // of x != 0; false of nothing
Tensor all(Tensor x, const Ints& axes = {}, bool keepdims = false);
// Position (i64) of the first largest / smallest element along one axis.
Tensor argmax(Tensor x, int64_t axis = -1, bool keepdims = false);
Tensor argmin(Tensor x, int64_t axis = -1, bool keepdims = false);
Tensor mean(Tensor x, const Ints& axes = {}, bool keepdims = false);  // integers give f32; NaN of nothing
// Variance; `correction` is subtracted from the count (1: the unbiased estimate).
Tensor var(Tensor x, const Ints& axes = {}, bool keepdims = false, int64_t correction = 1);
// The square root of var. After `using namespace tenon`, std(x) could also mean the namespace std and does not compile:
// write stddev(x), which is the same, or tenon::std(x).
Tensor std(Tensor x, const Ints& axes = {}, bool keepdims = false, int64_t correction = 1);
Tensor stddev(Tensor x, const Ints& axes = {}, bool keepdims = false, int64_t correction = 1);
Tensor logsumexp(Tensor x, const Ints& axes = {}, bool keepdims = false);  // -inf of nothing
// (sum |x|^p)^(1/p); p may be infinity (largest magnitude) or 0 (number of non-zeros). Where it is 0, its gradient is
// 0.
Tensor norm(Tensor x, double p = 2, const Ints& axes = {}, bool keepdims = false);

// Sums x down to a shape that broadcasts to x's: the transpose of broadcasting.
Tensor sum_to(Tensor x, const Shape& shape);

namespace ops {
std::vector<const OpDef*> reduce_ops();
}  // namespace ops

}  // namespace tenon
