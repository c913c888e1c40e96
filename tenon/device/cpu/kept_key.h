// Under which keys kernels that are made ready keep constants in forms of their own (KeptConstants::get).
#pragma once

#include <vector>

#include "tenon/tensor/view.h"

namespace tenon::cpu {

// Whose form it is.
enum class KeptForm : int64_t { F32Product, F32Conv, Bf16Product, Bf16Conv, I8Product, I8Conv };

// The form and the elements that it is made of; callers add what else it depends on.
inline std::vector<int64_t> kept_key(KeptForm form, const ConstView& x) {
  std::vector<int64_t> key{static_cast<int64_t>(form), static_cast<int64_t>(reinterpret_cast<intptr_t>(x.first()))};
  for (const Shape& part : {x.shape, x.strides}) key.insert(key.end(), part.begin(), part.end());
  return key;
}

}  // namespace tenon::cpu
