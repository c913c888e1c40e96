#include <cmath>
#include <string>

#include "tenon/base/error.h"
#include "tenon/device/cpu/copy.h"
#include "tenon/device/cpu/kernels.h"
#include "tenon/device/cpu/level.h"

namespace tenon::cpu {
namespace {

bool full_float(DType dtype) { return dtype == DType::F32 || dtype == DType::F64; }

const RowLoops& loops_for(DType dtype) { return level_table(best_level()).rows(dtype); }

// out = loop(x) for each row.
void each_row(const KernelArgs& a, FoldFn RowLoops::* loop) {
  const View& out = a.outputs[0];
  const Contiguous x(a.inputs[0], a.pool);
  const int64_t n = out.shape.back();
  const int64_t pitch = byte_size(out.dtype, n);
  std::byte* y = out.data + byte_size(out.dtype, out.offset);
  const FoldFn run = loops_for(out.dtype).*loop;
  for_units(a.pool, numel(out.shape) / n, n, [&](int64_t r) { run(y + r * pitch, x.data() + r * pitch, n); });
}
// out = loop(ct, y) for each row.
void each_row_of_two(const KernelArgs& a, LoopFn RowLoops::* loop) {
  const View& out = a.outputs[0];
  const Contiguous ct(a.inputs[0], a.pool);
  const Contiguous y(a.inputs[1], a.pool);
  const int64_t n = out.shape.back();
  const int64_t pitch = byte_size(out.dtype, n);
  std::byte* dx = out.data + byte_size(out.dtype, out.offset);
  const LoopFn run = loops_for(out.dtype).*loop;
  for_units(a.pool, numel(out.shape) / n, n,
            [&](int64_t r) { run(dx + r * pitch, ct.data() + r * pitch, y.data() + r * pitch, nullptr, n); });
}

// Target i, or -1 if it is ignored or (unless `strict`) no class.
int64_t target_class(const ConstView& target, const Contiguous& data, int64_t i, int64_t classes, int64_t ignored,
                     bool strict) {
  const int64_t t = target.dtype == DType::I64 ? data.as<int64_t>()[i] : data.as<int32_t>()[i];
  if (t == ignored) return -1;
  if (t >= -classes && t < classes) return t < 0 ? t + classes : t;
  if (!strict) return -1;
  throw IndexError({.where = "cross_entropy",
                    .problem = "target " + std::to_string(i) + " is out of range",
                    .expected = std::to_string(-classes) + " to " + std::to_string(classes - 1),
                    .got = std::to_string(t),
                    .hint = {}});
}

template <class T>
void cross_entropy(const KernelArgs& a) {
  const int64_t rows = a.inputs[0].shape[0];
  const int64_t classes = a.inputs[0].shape[1];
  const Contiguous logits(a.inputs[0], a.pool);
  const Contiguous target(a.inputs[1], a.pool);
  const T* x = logits.as<T>();
  T* loss = a.outputs[0].as<T>();
  const RowLoops& loops = loops_for(a.inputs[0].dtype);
  const T smoothing = static_cast<T>(a.attrs.real(1));
  for_units(a.pool, rows, classes, [&](int64_t r) {
    const int64_t t = target_class(a.inputs[1], target, r, classes, a.attrs.integer(0), true);
    if (t < 0) {
      loss[r] = 0;
      return;
    }
    const T* row = x + r * classes;
    T m[2];
    loops.log_sum_exp(m, row, classes);
    loss[r] = (smoothing - 1) * ((row[t] - m[0]) - m[1]);
    if (smoothing != 0) {
      T sum = 0;
      loops.sum(&sum, row, nullptr, classes);
      loss[r] -= smoothing * ((sum / static_cast<T>(classes) - m[0]) - m[1]);
    }
  });
}

template <class T>
void cross_entropy_grad(const KernelArgs& a) {
  const ConstView& logits_view = a.inputs[1];
  const int64_t rows = logits_view.shape[0];
  const int64_t classes = logits_view.shape[1];
  const Contiguous ct(a.inputs[0], a.pool);
  const Contiguous logits(logits_view, a.pool);
  const Contiguous target(a.inputs[2], a.pool);
  T* dx = a.outputs[0].as<T>();
  const RowLoops& loops = loops_for(logits_view.dtype);
  const T smoothing = static_cast<T>(a.attrs.real(1));
  for_units(a.pool, rows, classes, [&](int64_t r) {
    T* to = dx + r * classes;
    const T* row = logits.as<T>() + r * classes;
    const T factor = ct.as<T>()[r];
    const int64_t t = target_class(a.inputs[2], target, r, classes, a.attrs.integer(0), false);
    if (t < 0) {
      std::fill(to, to + classes, T{0});
      return;
    }
    T p[4];
    loops.log_sum_exp(p, row, classes);
    p[2] = factor;
    p[3] = -smoothing / static_cast<T>(classes) * factor;
    loops.exp_affine(to, row, nullptr, p, classes);
    to[t] -= (1 - smoothing) * factor;
  });
}

}  // namespace

bool accepts_last_axis(Types in, const ir::Attrs& attrs) {
  const auto rank = static_cast<int64_t>(in[0].shape.size());
  const int64_t axis = attrs.integer(0);
  for (const TensorType& t : in) {
    if (t.dtype != in[0].dtype) return false;
  }
  return full_float(in[0].dtype) && rank > 0 && (axis == -1 || axis == rank - 1) && in[0].shape.back() > 0;
}
void run_softmax(const KernelArgs& a) { each_row(a, &RowLoops::softmax); }
void run_log_softmax(const KernelArgs& a) { each_row(a, &RowLoops::log_softmax); }
void run_softmax_grad(const KernelArgs& a) { each_row_of_two(a, &RowLoops::softmax_grad); }
void run_log_softmax_grad(const KernelArgs& a) { each_row_of_two(a, &RowLoops::log_softmax_grad); }

bool accepts_cross_entropy(Types in, const ir::Attrs& /*attrs*/) {
  return full_float(in[0].dtype) && in[0].shape[1] > 0;
}
void run_cross_entropy(const KernelArgs& a) {
  a.inputs[0].dtype == DType::F64 ? cross_entropy<double>(a) : cross_entropy<float>(a);
}
bool accepts_cross_entropy_grad(Types in, const ir::Attrs& /*attrs*/) {
  return full_float(in[1].dtype) && in[0].dtype == in[1].dtype && in[1].shape[1] > 0;
}
void run_cross_entropy_grad(const KernelArgs& a) {
  a.inputs[1].dtype == DType::F64 ? cross_entropy_grad<double>(a) : cross_entropy_grad<float>(a);
}

}  // namespace tenon::cpu
