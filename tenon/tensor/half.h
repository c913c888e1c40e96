// The two floating-point dtypes of 16 bits.
#pragma once

#include "tenon/tensor/dtype.h"

namespace tenon {

constexpr bool is_half(DType dtype) { return dtype == DType::F16 || dtype == DType::BF16; }

}  // namespace tenon
