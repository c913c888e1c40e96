// What broadcasting can reach.
#pragma once

#include "tenon/tensor/shape.h"

namespace tenon {

// Whether broadcasting makes `to` of `from`: aligned at the right, extents are equal or 1.
inline bool broadcasts_to(const Shape& from, const Shape& to) {
  if (from.size() > to.size()) return false;
  for (size_t i = 1; i <= from.size(); ++i) {
    const int64_t extent = from[from.size() - i];
    if (extent != 1 && extent != to[to.size() - i]) return false;
  }
  return true;
}

}  // namespace tenon
