// TensorType: what is known of a tensor without its values.
#pragma once

#include <string>

#include "tenon/tensor/dtype.h"
#include "tenon/tensor/shape.h"

namespace tenon {

struct TensorType {
  DType dtype = DType::F32;
  Shape shape;
  bool operator==(const TensorType&) const = default;
};

// "f32[2, 3]"
std::string to_string(const TensorType& type);

}  // namespace tenon
