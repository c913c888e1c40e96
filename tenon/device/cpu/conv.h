// Convolution over one to three spatial axes: forward, and the gradients for x (which is also the transposed
// convolution) and for the weight.
//
// x is [n, channels, in…], weight [filters, channels / groups, window…], y [n, filters, out…], all row-major.
// In f32 all three run on tiles (direct_conv.h, conv_gradients.h), in f64 as products of matrices (im2col.h). No bits
// depend on the number of threads.
#pragma once

#include <array>
#include <cstdint>

#include "tenon/base/thread_pool.h"
#include "tenon/ir/scalar.h"
#include "tenon/tensor/view.h"

namespace tenon::cpu {

struct ConvShape {
  using Extents = std::array<int64_t, 3>;
  int axes = 2;  // spatial ones; those in use come first, the others have extent 1
  int64_t n = 0, channels = 0, filters = 0, groups = 1;
  Extents in{1, 1, 1}, out{1, 1, 1}, window{1, 1, 1}, stride{1, 1, 1}, dilation{1, 1, 1}, low{0, 0, 0}, high{0, 0, 0};

  static int64_t volume(const Extents& e) { return e[0] * e[1] * e[2]; }
  [[nodiscard]] int64_t x_size() const { return channels * volume(in); }  // of one example
  [[nodiscard]] int64_t y_size() const { return filters * volume(out); }  // of one example
  [[nodiscard]] int64_t weight_size() const { return filters * (channels / groups) * volume(window); }
};

// The places of a result one after the other, in the order n, spatial…, of a shape whose spatial axes stand at the end.
struct PlaceCursor {
  PlaceCursor(const ConvShape& s, int64_t first)
      : out(s.out),
        n(first / ConvShape::volume(s.out)),
        at{first / (s.out[2] * s.out[1]) % s.out[0], first / s.out[2] % s.out[1], first % s.out[2]} {}
  void next() {
    for (size_t axis = 3; axis-- > 0;) {
      if (++at[axis] < out[axis]) return;
      at[axis] = 0;
    }
    ++n;
  }
  ConvShape::Extents out;
  int64_t n;
  ConvShape::Extents at;
};

// The spatial axes at the end, in front of them axes of extent 1.
ConvShape moved_to_the_end(ConvShape s);

// `bias` [filters] may be null; x and y may lie in any way.
void conv_forward(const ConvShape& s, const ConstView& x, const float* weight, const float* bias, const View& y,
                  ThreadPool& pool);
// The axes [n, spatial…, channels] from the outermost to the innermost: channels last, wherever there are several.
Ints channels_last_order(size_t rank);
// The strides of a dense tensor [n, channels, spatial…] that lies so.
Shape channels_last_strides(const Shape& shape);
// Whether elements lie in this order of axes, one after the other, and not row-major as well.
bool lies_in(const ConstView& x, const Ints& order);
// What a bias is: the second input added to the first, and the bias as an operand with the result's shape `y`.
ir::ScalarProgram add_bias();
ConstView bias_view(const float* bias, const Shape& y);
void conv_forward(const ConvShape& s, const float* x, const float* weight, const float* bias, float* y,
                  ThreadPool& pool);
void conv_forward(const ConvShape& s, const double* x, const double* weight, const double* bias, double* y,
                  ThreadPool& pool);
void conv_backward_data(const ConvShape& s, const ConstView& dy, const float* weight, const View& dx, ThreadPool& pool);
void conv_backward_data(const ConvShape& s, const float* dy, const float* weight, float* dx, ThreadPool& pool);
void conv_backward_data(const ConvShape& s, const double* dy, const double* weight, double* dx, ThreadPool& pool);
void conv_backward_weight(const ConvShape& s, const ConstView& x, const ConstView& dy, float* dw, ThreadPool& pool);
void conv_backward_weight(const ConvShape& s, const float* x, const float* dy, float* dw, ThreadPool& pool);
void conv_backward_weight(const ConvShape& s, const double* x, const double* dy, double* dw, ThreadPool& pool);

}  // namespace tenon::cpu
