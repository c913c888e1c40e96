#include "tenon/device/cpu/conv.h"

#include <optional>

#include "tenon/device/cpu/conv_gradients.h"
#include "tenon/device/cpu/direct_conv.h"
#include "tenon/device/cpu/im2col.h"
#include "tenon/device/cpu/planes.h"
#include "tenon/device/cpu/pointwise.h"
#include "tenon/tensor/axis_order.h"

namespace tenon::cpu {
namespace {

ConstView row_major(const float* data, const ConvShape& s, int64_t channels, const ConvShape::Extents& extents) {
  ConstView v{reinterpret_cast<const std::byte*>(data), DType::F32, {s.n, channels}, {}, 0};
  for (int d = 0; d < s.axes; ++d) v.shape.push_back(extents[static_cast<size_t>(d)]);
  v.strides = contiguous_strides(v.shape);
  return v;
}
View row_major(float* data, const ConvShape& s, int64_t channels, const ConvShape::Extents& extents) {
  const ConstView v = row_major(static_cast<const float*>(data), s, channels, extents);
  return {reinterpret_cast<std::byte*>(data), v.dtype, v.shape, v.strides, 0};
}

}  // namespace

ConvShape moved_to_the_end(ConvShape s) {
  const auto shift = static_cast<size_t>(3 - s.axes);
  const auto move = [&](ConvShape::Extents& e, int64_t rest) {
    ConvShape::Extents to{rest, rest, rest};
    for (size_t d = shift; d < 3; ++d) to[d] = e[d - shift];
    e = to;
  };
  for (auto* e : {&s.in, &s.out, &s.window, &s.stride, &s.dilation}) move(*e, 1);
  for (auto* e : {&s.low, &s.high}) move(*e, 0);
  return s;
}

Ints channels_last_order(size_t rank) {
  Ints axes{0};
  for (size_t d = 2; d < rank; ++d) axes.push_back(static_cast<int64_t>(d));
  axes.push_back(1);
  return axes;
}

Shape channels_last_strides(const Shape& shape) { return strides_in_order(shape, channels_last_order(shape.size())); }

bool lies_in(const ConstView& x, const Ints& order) {
  if (x.shape.size() != order.size() || x.contiguous()) return false;
  int64_t expected = 1;
  for (size_t i = order.size(); i-- > 0;) {
    const auto axis = static_cast<size_t>(order[i]);
    if (x.shape[axis] != 1 && x.strides[axis] != expected) return false;
    expected *= x.shape[axis];
  }
  return true;
}

ir::ScalarProgram add_bias() {
  ir::ScalarBuilder builder;
  const ir::Scalar sum = builder.input(DType::F32), bias = builder.input(DType::F32);
  return builder.finish(sum + bias, DType::F32);
}

ConstView bias_view(const float* bias, const Shape& y) {
  ConstView v{reinterpret_cast<const std::byte*>(bias), DType::F32, y, Shape(y.size(), 0), 0};
  v.strides[1] = 1;
  return v;
}

void conv_forward(const ConvShape& s, const ConstView& x, const float* weight, const float* bias, const View& y,
                  ThreadPool& pool) {
  if (numel(y.shape) == 0) return;
  const auto& level = level_table(best_level());
  if (is_pointwise(s, x, y)) {
    pointwise(s, x, weight, bias, y, level, pool);
    return;
  }
  if (is_by_planes(s, x, y)) {
    planes(s, x, weight, bias, y, level, pool);
    return;
  }
  DirectConv conv(s, level, bias == nullptr ? std::nullopt : std::optional(add_bias()));
  conv.use(conv.pack(weight));
  const ConstView shift = bias_view(bias, y.shape);
  conv.run(x, {&shift, bias == nullptr ? 0U : 1U}, y, pool);
}

void conv_forward(const ConvShape& s, const float* x, const float* weight, const float* bias, float* y,
                  ThreadPool& pool) {
  conv_forward(s, row_major(x, s, s.channels, s.in), weight, bias, row_major(y, s, s.filters, s.out), pool);
}

void conv_backward_data(const ConvShape& s, const ConstView& dy, const float* weight, const View& dx,
                        ThreadPool& pool) {
  conv_input_gradient(s, dy, weight, dx, level_table(best_level()), pool);
}
void conv_backward_data(const ConvShape& s, const float* dy, const float* weight, float* dx, ThreadPool& pool) {
  conv_backward_data(s, row_major(dy, s, s.filters, s.out), weight, row_major(dx, s, s.channels, s.in), pool);
}

void conv_backward_weight(const ConvShape& s, const ConstView& x, const ConstView& dy, float* dw, ThreadPool& pool) {
  conv_weight_gradient(s, x, dy, dw, level_table(best_level()), pool);
}
void conv_backward_weight(const ConvShape& s, const float* x, const float* dy, float* dw, ThreadPool& pool) {
  conv_backward_weight(s, row_major(x, s, s.channels, s.in), row_major(dy, s, s.filters, s.out), dw, pool);
}

void conv_forward(const ConvShape& s, const double* x, const double* weight, const double* bias, double* y,
                  ThreadPool& pool) {
  if (s.y_size() != 0) im2col_forward(s, x, weight, bias, y, pool);
}
void conv_backward_data(const ConvShape& s, const double* dy, const double* weight, double* dx, ThreadPool& pool) {
  if (s.x_size() != 0) im2col_backward_data(s, dy, weight, dx, pool);
}
void conv_backward_weight(const ConvShape& s, const double* x, const double* dy, double* dw, ThreadPool& pool) {
  if (s.weight_size() != 0) im2col_backward_weight(s, x, dy, dw, pool);
}

}  // namespace tenon::cpu
