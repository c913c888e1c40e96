// Integers from C++ beside tensors of a dtype that may not hold them: an error, as in NumPy 2, never a wrapped value.
#pragma once

#include <cstdint>
#include <string_view>

#include "tenon/tensor/tensor.h"

namespace tenon {

// Whether the dtype, of integers or bool, can hold the number.
bool holds_integer(DType dtype, int64_t value);
// ValueError that names `where` if an integer dtype cannot hold the number.
void expect_integer_fits(std::string_view where, int64_t value, DType dtype);
// The same for a number that became a weak tensor. Everything else passes: other tensors, fractions, other dtypes.
void expect_number_fits(std::string_view where, const Tensor& number, DType dtype);
// The same for a value to fill tensors of that dtype with; a fraction is cut towards zero.
void expect_real_fits(std::string_view where, double value, DType dtype);

}  // namespace tenon
