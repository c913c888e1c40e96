// The reference evaluator: what scalar programs and reductions mean, said as plainly as possible.
//
// One element at a time, real numbers in double precision through the C++ library and rounded to the instruction's
// dtype after each instruction, integers exactly. Slow; every kernel is compared with it.
#pragma once

#include <span>

#include "tenon/ir/scalar.h"
#include "tenon/ops/opdef.h"
#include "tenon/tensor/view.h"

namespace tenon::exec {

// out[i] = program(in0[i], …); the inputs have out's shape (broadcast by zero strides).
void reference_elementwise(const ir::ScalarProgram& program, std::span<const ConstView> in, const View& out);

// Combines over `axes` (sorted) of `in`; out has the remaining axes. Float sums and products accumulate in
// long double. Max and Min: NaN wins. ArgMax and ArgMin: the first of the best, NaN counts as best.
void reference_reduce(ops::ReduceKind kind, const ConstView& in, const Ints& axes, const View& out);

// out[i] = in[i]
void reference_copy(const ConstView& in, const View& out);

}  // namespace tenon::exec
