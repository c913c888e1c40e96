// One element of a strided window, whatever its dtype: what the reference evaluator, printing and tests read
// and write with. Slow and exact; kernels do not use it.
//
// Conversions are those of the cast op: rounding to nearest even, once; float to integer cuts towards zero and
// saturates, NaN gives 0; integer to integer keeps the low bits; anything to bool is `!= 0`. Integers travel as
// int64_t, u64 by its bits. Dtypes below 8 bits share bytes: storing is not atomic for neighbours.
#pragma once

#include <cstdint>

#include "tenon/tensor/view.h"

namespace tenon {

// `element` is an element number of the window's memory, its offset included.
double load_real(const ConstView& from, int64_t element);
int64_t load_integer(const ConstView& from, int64_t element);
void store_real(const View& to, int64_t element, double value);
// `value` is a signed number, except where `to` is u64.
void store_integer(const View& to, int64_t element, int64_t value);
// to[j] = cast(from[i])
void convert_element(const ConstView& from, int64_t i, const View& to, int64_t j);

// A float after rounding to a narrower dtype; itself for f64.
double round_to(DType dtype, double value);
// An integer (u64: by its bits) as a float dtype holds it, rounded once.
double integer_to_real(DType dtype, int64_t value, bool is_unsigned);
// As the cast: cut towards zero, saturated to the range of an integer dtype; u64 by its bits.
int64_t real_to_integer(DType dtype, double value);
// The low bits of `value` as a number of an integer dtype; bool: != 0.
int64_t wrap_integer(DType dtype, int64_t value);

// Visits the elements of a window in row-major order.
class ElementCursor {
 public:
  ElementCursor(const Shape& shape, const Shape& strides, int64_t offset)
      : shape_(shape), strides_(strides), index_(shape.size(), 0), element_(offset) {}
  template <class Byte>
  explicit ElementCursor(const BasicView<Byte>& view) : ElementCursor(view.shape, view.strides, view.offset) {}
  [[nodiscard]] int64_t element() const { return element_; }
  [[nodiscard]] const Shape& index() const { return index_; }
  void next() {
    for (size_t axis = shape_.size(); axis-- > 0;) {
      element_ += strides_[axis];
      if (++index_[axis] < shape_[axis]) return;
      element_ -= strides_[axis] * shape_[axis];
      index_[axis] = 0;
    }
  }

 private:
  Shape shape_;
  Shape strides_;
  Shape index_;
  int64_t element_;
};

}  // namespace tenon
