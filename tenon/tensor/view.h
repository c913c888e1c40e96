// View: a strided window on raw memory, what kernels see of a tensor.
#pragma once

#include <cstddef>

#include "tenon/tensor/type.h"

namespace tenon {

// Element (i, j, …) lies at element number offset + i*strides[0] + j*strides[1] + … of `data`. Strides
// may be zero (broadcast) or negative (flip). Dtypes below 8 bits are addressed by element, low bits first.
template <class Byte>
struct BasicView {
  Byte* data = nullptr;
  DType dtype = DType::F32;
  Shape shape;
  Shape strides;
  int64_t offset = 0;

  template <class T>
  [[nodiscard]] auto* as() const {
    using Element = std::conditional_t<std::is_const_v<Byte>, const T, T>;
    return reinterpret_cast<Element*>(data) + offset;
  }
  // The first element, of a dtype of whole bytes.
  [[nodiscard]] Byte* first() const { return data + offset * element_size(dtype); }
  // A window for writing can be read through.
  operator BasicView<const std::byte>() const  // NOLINT(google-explicit-constructor): as T* converts to const T*
    requires(!std::is_const_v<Byte>)
  {
    return {data, dtype, shape, strides, offset};
  }
  [[nodiscard]] bool contiguous() const {
    int64_t expected = 1;
    for (size_t i = shape.size(); i-- > 0;) {
      if (shape[i] != 1 && strides[i] != expected) return false;
      expected *= shape[i];
    }
    return true;
  }
};
using View = BasicView<std::byte>;
using ConstView = BasicView<const std::byte>;

}  // namespace tenon
