// Sliding windows over one to three spatial axes: the geometry that convolution and pooling share.
//
// Position o of the result and tap t of the window meet at o * stride + t * dilation - low of the input; a tap
// outside of the input lies in the padding.
#pragma once

#include <array>

#include "tenon/ops/opdef.h"

namespace tenon::ops {

struct Windows {
  using Extents = std::array<int64_t, 3>;  // axes that are not there have extent 1
  Extents in{1, 1, 1}, out{1, 1, 1}, window{1, 1, 1}, stride{1, 1, 1}, dilation{1, 1, 1}, low{0, 0, 0};
};
// `in` and `out` are spatial extents; `dilations` may be empty (1).
Windows make_windows(const Ints& in, const Ints& out, const Ints& window, const Ints& strides, const Ints& low,
                     const Ints& dilations);

// The extents after [N, C].
inline Ints spatial(const Shape& shape) { return {shape.begin() + 2, shape.end()}; }
inline Shape with_channels(int64_t n, int64_t c, const Ints& spatial) {
  Shape shape{n, c};
  for (int64_t d : spatial) shape.push_back(d);
  return shape;
}
// How many positions fit; less than 1 if none does. With `ceil_mode` a last window may hang over the end, if it
// starts inside the input or its low padding.
int64_t window_count(int64_t extent, int64_t window, int64_t stride, int64_t low, int64_t high, int64_t dilation,
                     bool ceil_mode = false);

// Attribute `which` has one number for each of `rank` spatial axes, none below `minimum`.
void check_window_attr(const InferArgs& a, size_t which, size_t rank, int64_t minimum);
// An option given once for all axes, or once for each. `rank` is the number of spatial axes.
Ints for_each_axis(std::string_view where, std::string_view option, const Ints& values, size_t rank);

// All elements in row-major order.
std::vector<double> to_reals(const ConstView& from);
void store_reals(const std::vector<double>& values, const View& to);

// f(position, tap, element of the input), all counted in row-major order over the spatial axes; for each position its
// taps in order, those in the padding left out.
template <class F>
void for_each_tap(const Windows& w, F&& f) {
  int64_t position = 0;
  const auto at = [&](size_t axis, int64_t o, int64_t t) {
    return o * w.stride[axis] + t * w.dilation[axis] - w.low[axis];
  };
  for (int64_t a = 0; a < w.out[0]; ++a) {
    for (int64_t b = 0; b < w.out[1]; ++b) {
      for (int64_t c = 0; c < w.out[2]; ++c, ++position) {
        for (int64_t i = 0; i < w.window[0]; ++i) {
          const int64_t x = at(0, a, i);
          if (x < 0 || x >= w.in[0]) continue;
          for (int64_t j = 0; j < w.window[1]; ++j) {
            const int64_t y = at(1, b, j);
            if (y < 0 || y >= w.in[1]) continue;
            for (int64_t k = 0; k < w.window[2]; ++k) {
              const int64_t z = at(2, c, k);
              if (z < 0 || z >= w.in[2]) continue;
              f(position, (i * w.window[1] + j) * w.window[2] + k, (x * w.in[1] + y) * w.in[2] + z);
            }
          }
        }
      }
    }
  }
}

}  // namespace tenon::ops
