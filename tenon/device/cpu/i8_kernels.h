// The products of 8-bit integers behind ops::matmul_integer_op (product_i8.h) and ops::convolution_integer_op
// (conv_i8.h).
#pragma once

#include "tenon/device/device.h"

namespace tenon::cpu {

void claim_matmul_integer(const KernelArgs& args);
// With a right-hand side, one matrix, that does not change: it is packed once.
std::unique_ptr<PreparedKernel> prepare_matmul_integer(const PrepareArgs& args);
std::optional<Ints> ready_matmul_integer(std::span<const ConstView> inputs);

void claim_convolution_integer(const KernelArgs& args);
// With weights, and their zero points, that do not change.
std::unique_ptr<PreparedKernel> prepare_convolution_integer(const PrepareArgs& args);
std::optional<Ints> ready_convolution_integer(std::span<const ConstView> inputs);

}  // namespace tenon::cpu
