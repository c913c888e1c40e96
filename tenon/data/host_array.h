// HostArray: what a file reader returns: elements in row-major order with their type and shape.
//
// Readers do not build Tensors themselves, so they can be used, tested and fuzzed alone;
// to_tensor (tenon/data/to_tensor.h) moves the bytes into a Tensor without a copy.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

#include "tenon/tensor/dtype.h"

namespace tenon::data {

struct HostArray {
  DType dtype = DType::U8;
  std::vector<int64_t> shape;    // {} is a scalar
  std::vector<std::byte> bytes;  // native byte order, row-major

  // Number of elements.
  [[nodiscard]] int64_t size() const;
  // The elements in place. Errors: DTypeError unless T is the dtype.
  template <class T>
  [[nodiscard]] std::span<const T> values() const {
    require_dtype(dtype_of<T>);
    return {reinterpret_cast<const T*>(bytes.data()), bytes.size() / sizeof(T)};
  }

 private:
  void require_dtype(DType wanted) const;
};

// Limits that a reader keeps before it allocates: a small file must not be able to ask for all memory.
struct ReadLimits {
  int64_t max_bytes = int64_t{1} << 36;   // of one array after decompression
  int64_t max_pixels = int64_t{1} << 28;  // of one image
};

}  // namespace tenon::data
