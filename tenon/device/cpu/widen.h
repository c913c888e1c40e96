// Calls on f16 and bf16 in f32: exact copies of the inputs, the f32 kernel, one rounding of each result.
#pragma once

#include "tenon/device/device.h"
#include "tenon/tensor/half.h"

namespace tenon::cpu {

// The elements of an f16, bf16 or f32, row-major.
void widen(const ConstView& x, float* to, ThreadPool& pool);
// `run` with f32 in place of every f16 and bf16.
void run_widened(const KernelArgs& args, void (*run)(const KernelArgs& args));

// The same for a call that is made ready. `prepare` sees f32 in place of every f16 and bf16, but for constants, which
// it takes as they are: what is kept of them goes by their addresses. Null where `prepare` gives null.
std::unique_ptr<PreparedKernel> prepare_widened(const PrepareArgs& args,
                                                std::unique_ptr<PreparedKernel> (*prepare)(const PrepareArgs& args));
// A program over elements of `half` as one over f32: the first input is rounded first, the result is not, because it is
// rounded when it is written. What is exact already is not rounded again; with Precision::Fast nothing is.
ir::ScalarProgram widened_program(const ir::ScalarProgram& program, Precision precision);

}  // namespace tenon::cpu
