// What only programs of users write, beside the operators of ops/elementwise.h: == and != element by element, & | ^ ~
// of masks and integers as NumPy has them, and arange of any kinds of numbers.
#pragma once

#include <concepts>

#include "tenon/ops/creation.h"
#include "tenon/ops/elementwise.h"

namespace tenon {

// (Two Variables are compared as cells: Variable has an operator== of its own.)
inline Tensor operator==(Tensor a, Tensor b) { return equal(std::move(a), std::move(b)); }
inline Tensor operator!=(Tensor a, Tensor b) { return not_equal(std::move(a), std::move(b)); }
inline Tensor operator&(Tensor a, Tensor b) { return bitwise_and(std::move(a), std::move(b)); }
inline Tensor operator|(Tensor a, Tensor b) { return bitwise_or(std::move(a), std::move(b)); }
inline Tensor operator^(Tensor a, Tensor b) { return bitwise_xor(std::move(a), std::move(b)); }
inline Tensor operator~(Tensor x) { return bitwise_not(std::move(x)); }

// arange(0, 10, 2) is i64, arange(0.5, 3.0) and arange(2.5) are f32. As declared in creation.h, for ints as well as
// int64_t.
template <std::integral Start, std::integral Stop, std::integral Step = int64_t>
Tensor arange(Start start, Stop stop, Step step = 1, DType dtype = DType::I64) {
  return arange(static_cast<int64_t>(start), static_cast<int64_t>(stop), static_cast<int64_t>(step), dtype);
}
template <std::floating_point Start, std::floating_point Stop>
Tensor arange(Start start, Stop stop) {
  return arange(static_cast<double>(start), static_cast<double>(stop), 1.0);
}
template <std::floating_point Stop>
Tensor arange(Stop stop) {
  return arange(0.0, static_cast<double>(stop), 1.0);
}

}  // namespace tenon
