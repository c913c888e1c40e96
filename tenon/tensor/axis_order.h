// Dense layouts, told as their axes from the outermost to the innermost.
#pragma once

#include "tenon/tensor/shape.h"

namespace tenon {

// The strides, in elements, of a dense tensor whose axes lie in this order; none: row-major.
Shape strides_in_order(const Shape& shape, const Ints& order);

}  // namespace tenon
