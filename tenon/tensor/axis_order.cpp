#include "tenon/tensor/axis_order.h"

namespace tenon {

Shape strides_in_order(const Shape& shape, const Ints& order) {
  if (order.empty()) return contiguous_strides(shape);
  Shape strides(shape.size(), 0);
  int64_t next = 1;
  for (size_t i = order.size(); i-- > 0;) {
    const auto axis = static_cast<size_t>(order[i]);
    strides[axis] = next;
    next *= shape[axis];
  }
  return strides;
}

}  // namespace tenon
