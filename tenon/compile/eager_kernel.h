// The kernels that eager calls use, from the same emitter: tools/make_kernels.cpp runs this when Tenon is built.
#pragma once

#include <cstdint>

#include "tenon/compile/loop_ir.h"

namespace tenon::compiler {

// The kernel for a scalar program and a layout, with the buffers and numbers that device/cpu/built.h describes.
Kernel eager_kernel(const ir::ScalarProgram& program, uint32_t layout);

}  // namespace tenon::compiler
