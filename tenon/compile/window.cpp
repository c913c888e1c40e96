#include <algorithm>

#include "tenon/compile/core.h"

namespace tenon::compiler {

bool is_flat(const ops::Window& w, int64_t storage_size) {
  if (w.offset != 0 || numel(w.shape) != storage_size) return false;
  int64_t expected = 1;
  for (size_t i = w.shape.size(); i-- > 0;) {
    if (w.shape[i] != 1 && w.strides[i] != expected) return false;
    expected *= w.shape[i];
  }
  return true;
}

bool is_row_broadcast(const ops::Window& w, int64_t outer, int64_t n) {
  Shape strides;
  if (w.offset != 0 || numel(w.shape) != outer * n || !project(w, {outer, n}, strides)) return false;
  return (outer == 1 || strides[0] == 1) && (n == 1 || strides[1] == 0);
}

bool project(const ops::Window& w, const Shape& axes, Shape& strides) {
  // Neighbours that are one run are one axis.
  Shape extents, steps;
  for (size_t d = 0; d < w.shape.size(); ++d) {
    if (w.shape[d] == 1) continue;
    if (!extents.empty() && steps.back() == w.strides[d] * w.shape[d]) {
      extents.back() *= w.shape[d];
      steps.back() = w.strides[d];
    } else {
      extents.push_back(w.shape[d]);
      steps.push_back(w.strides[d]);
    }
  }
  strides = Shape(axes.size(), 0);
  int64_t left = 1, step = 0;
  for (size_t a = axes.size(); a-- > 0;) {
    if (axes[a] == 1) continue;
    if (left == 1) {
      if (extents.empty()) return false;
      left = extents.back();
      step = steps.back();
      extents.pop_back();
      steps.pop_back();
    }
    if (left % axes[a] != 0) return false;
    strides[a] = step;
    step *= axes[a];
    left /= axes[a];
  }
  return left == 1 && extents.empty();
}

bool refine(const Shape& a, const Shape& b, Shape& result) {
  Shape reversed;
  size_t i = a.size(), j = b.size();
  int64_t x = 1, y = 1;
  while (true) {
    while (x == 1 && i > 0) x = a[--i];
    while (y == 1 && j > 0) y = b[--j];
    if (x == 1 || y == 1) break;
    const int64_t small = std::min(x, y);
    if (std::max(x, y) % small != 0) return false;
    reversed.push_back(small);
    x /= small;
    y /= small;
  }
  if (x != 1 || y != 1) return false;
  std::reverse(reversed.begin(), reversed.end());
  result = reversed.empty() ? Shape{1} : reversed;
  return true;
}

}  // namespace tenon::compiler
