// Nest: the loop nest over several strided operands of one shape, with as few and as long loops as their layouts
// allow. What elementwise and copy run over.
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "tenon/tensor/shape.h"

namespace tenon::cpu {

struct Nest {
  Shape shape;                 // never empty; the last loop is the innermost
  std::vector<Shape> strides;  // of each operand, in elements

  [[nodiscard]] int64_t inner() const { return shape.back(); }
  [[nodiscard]] int64_t rows() const { return numel(shape) / inner(); }
};

// Loops of extent 1 vanish, the order follows the strides of operand 0 (the output), and neighbours that are one
// run in every operand become one loop. The order of visits may differ from row-major.
Nest make_nest(const Shape& shape, std::span<const Shape* const> strides);

// Walks the rows (all loops but the innermost) of one operand.
class RowCursor {
 public:
  RowCursor(const Shape& shape, const Shape& strides, int64_t row) : shape_(shape), strides_(strides) {
    index_.resize(shape.size(), 0);
    for (size_t d = shape.size() - 1; d-- > 0;) {
      index_[d] = row % shape[d];
      row /= shape[d];
      offset_ += index_[d] * strides[d];
    }
  }
  // In elements, from the operand's first.
  [[nodiscard]] int64_t offset() const { return offset_; }
  void next() {
    for (size_t d = shape_.size() - 1; d-- > 0;) {
      offset_ += strides_[d];
      if (++index_[d] < shape_[d]) return;
      offset_ -= strides_[d] * shape_[d];
      index_[d] = 0;
    }
  }

 private:
  const Shape& shape_;
  const Shape& strides_;
  Shape index_;
  int64_t offset_ = 0;
};

}  // namespace tenon::cpu
