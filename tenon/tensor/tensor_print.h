// std::cout << x: the text of to_string(x).
#pragma once

#include <iosfwd>

namespace tenon {

class Tensor;
std::ostream& operator<<(std::ostream& stream, const Tensor& x);

}  // namespace tenon
