// Kernels behind the claims: from the arguments of a call to the raw kernels in this folder.
#pragma once

#include "tenon/device/cpu/conv.h"
#include "tenon/device/device.h"

namespace tenon::cpu {

void claim_matmul(const KernelArgs& args);
// f32, f16 and bf16 with a right-hand side that does not change.
std::unique_ptr<PreparedKernel> prepare_matmul(const PrepareArgs& args);
std::optional<Ints> ready_matmul(std::span<const ConstView> inputs);
// The geometry of a call of conv and its like.
ConvShape conv_shape(const Shape& x, const Shape& weight, const Shape& y, const ir::Attrs& attrs);
void claim_conv(const KernelArgs& args);
// f32, f16 and bf16 with weights that do not change.
std::unique_ptr<PreparedKernel> prepare_conv(const PrepareArgs& args);
std::optional<Ints> ready_conv(std::span<const ConstView> inputs);
void claim_conv_input_gradient(const KernelArgs& args);
void claim_conv_weight_gradient(const KernelArgs& args);

// All inputs f32, or all f64.
bool full_floats(std::span<const TensorType> inputs, const ir::Attrs& attrs);
// … or f16 or bf16.
bool floats(std::span<const TensorType> inputs, const ir::Attrs& attrs);

}  // namespace tenon::cpu
