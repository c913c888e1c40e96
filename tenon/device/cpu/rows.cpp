#include <bit>
#include <cmath>
#include <string>
#include <type_traits>

#include "tenon/base/error.h"
#include "tenon/device/cpu/built.h"
#include "tenon/device/cpu/copy.h"
#include "tenon/device/cpu/kernels.h"
#include "tenon/device/cpu/level.h"

namespace tenon::cpu {
namespace {

bool full_float(DType dtype) { return dtype == DType::F32 || dtype == DType::F64; }

const RowLoops& loops_for(DType dtype) { return level_table(best_level()).rows(dtype); }

// The exponentials of rows of f32, by kernels that were made when Tenon was built: the same bits as the loops in C++,
// which take what is not there (other dtypes, builds without kernels).
class BuiltExp {
 public:
  static const BuiltExp& of_this_cpu() {
    static const BuiltExp built;
    return built;
  }
  [[nodiscard]] bool there(DType dtype) const {
    return dtype == DType::F32 && shift_.by_layout[1] != nullptr && affine_.by_layout[1] != nullptr &&
           twice_.by_layout[1] != nullptr;
  }
  // y = exp(x - shift)
  void shift(float* y, const float* x, const float* shift, int64_t n) const {
    for (int64_t i = 0; i < n; i += kPiece) {
      const std::byte* in[] = {reinterpret_cast<const std::byte*>(x + i), reinterpret_cast<const std::byte*>(shift)};
      run_built_flat(shift_, shift_.constants, in, 1, reinterpret_cast<std::byte*>(y + i), std::min(kPiece, n - i));
    }
  }
  // y = exp((x - p[0]) - p[1]) * p[2] + p[3]
  void affine(float* y, const float* x, const float* p, int64_t n) const { with_numbers(affine_, y, x, p, n); }
  // y = (x - p[0]) - p[1]
  void shift_twice(float* y, const float* x, const float* p, int64_t n) const { with_numbers(twice_, y, x, p, n); }

 private:
  static constexpr int64_t kPiece = 16384;  // elements of one call
  static void with_numbers(const BuiltProgram& program, float* y, const float* x, const float* p, int64_t n) {
    int64_t numbers[kMostBuiltConstants];
    const std::span constants = std::span(numbers).first(program.constants.size());
    for (size_t k = 0; k < constants.size(); ++k) constants[k] = std::bit_cast<int64_t>(static_cast<double>(p[k]));
    for (int64_t i = 0; i < n; i += kPiece) {
      const std::byte* in[] = {reinterpret_cast<const std::byte*>(x + i)};
      run_built_flat(program, constants, in, 1, reinterpret_cast<std::byte*>(y + i), std::min(kPiece, n - i));
    }
  }
  BuiltExp()
      : shift_(find_built(exp_shift_program(), best_level())),
        affine_(find_built(exp_affine_program(), best_level())),
        twice_(find_built(shift_twice_program(), best_level())) {}
  BuiltProgram shift_, affine_, twice_;
};

// Rows of one dtype.
class Rows {
 public:
  explicit Rows(DType dtype)
      : loops(loops_for(dtype)),
        exp_sums_(level_table(best_level()).exp_sums),
        log_(level_table(best_level()).loop[static_cast<size_t>(ir::ScalarOp::Log)][static_cast<size_t>(DType::F32)]),
        exp_(BuiltExp::of_this_cpu()),
        built_(exp_.there(dtype)) {}
  // For `rows` rows of n elements: the maximum, and the logarithm of sum(exp(x - maximum)).
  template <class T>
  void log_sum_exp(T* most, T* log_sum, const T* x, int64_t rows, int64_t n) const {
    if constexpr (std::is_same_v<T, float>) {
      if (exp_sums_ != nullptr) {
        exp_sums_(most, log_sum, x, rows, n);
        log_(log_sum, log_sum, nullptr, nullptr, rows);
        return;
      }
      if (built_ && n <= kLongest) {
        alignas(64) float e[kLongest];
        for (int64_t r = 0; r < rows; ++r) {
          loops.max(most + r, x + r * n, n);
          exp_.shift(e, x + r * n, most + r, n);
          loops.sum(log_sum + r, e, nullptr, n);
        }
        log_(log_sum, log_sum, nullptr, nullptr, rows);
        return;
      }
    }
    for (int64_t r = 0; r < rows; ++r) {
      T m[2];
      loops.log_sum_exp(m, x + r * n, n);
      most[r] = m[0];
      log_sum[r] = m[1];
    }
  }
  template <class T>
  void exp_affine(T* y, const T* x, const T* p, int64_t n) const {
    if constexpr (std::is_same_v<T, float>) {
      if (built_) return exp_.affine(y, x, p, n);
    }
    loops.exp_affine(y, x, nullptr, p, n);
  }
  void softmax(std::byte* to, const std::byte* from, int64_t n) const {
    if (!built_) return loops.softmax(to, from, n);
    auto* y = reinterpret_cast<float*>(to);
    float most = 0, total = 0;
    loops.max(&most, from, n);
    exp_.shift(y, reinterpret_cast<const float*>(from), &most, n);
    loops.sum(&total, y, nullptr, n);
    const float factor = 1 / total;
    loops.scale(y, &factor, n);
  }
  void log_softmax(std::byte* to, const std::byte* from, int64_t n) const {
    if (!built_) return loops.log_softmax(to, from, n);
    const auto* x = reinterpret_cast<const float*>(from);
    float m[2];
    log_sum_exp(&m[0], &m[1], x, 1, n);
    exp_.shift_twice(reinterpret_cast<float*>(to), x, m, n);
  }
  const RowLoops& loops;

 private:
  static constexpr int64_t kLongest = 8192;  // elements of a row that waits on the stack
  decltype(LevelTable::exp_sums) exp_sums_;
  LoopFn log_;
  const BuiltExp& exp_;
  bool built_;
};

// How many rows of n elements go together: more of long ones only if there are so many that all threads stay busy.
constexpr int64_t kMostTogether = 64;
int64_t rows_together(int64_t rows, int64_t n) {
  return std::clamp<int64_t>(std::max(4096 / n, rows / 64), 1, kMostTogether);
}
// body(first row, count) for all rows.
template <class F>
void for_row_groups(ThreadPool& pool, int64_t rows, int64_t n, const F& body) {
  const int64_t group = rows_together(rows, n);
  for_units(pool, (rows + group - 1) / group, group * n,
            [&](int64_t g) { body(g * group, std::min(group, rows - g * group)); });
}

// out = (rows.*f)(x) for each row.
void each_row(const KernelArgs& a, void (Rows::*f)(std::byte* y, const std::byte* x, int64_t n) const) {
  const View& out = a.outputs[0];
  const Contiguous x(a.inputs[0], a.pool);
  const int64_t n = out.shape.back();
  const int64_t pitch = byte_size(out.dtype, n);
  std::byte* y = out.data + byte_size(out.dtype, out.offset);
  const Rows rows(out.dtype);
  for_units(a.pool, numel(out.shape) / n, n, [&](int64_t r) { (rows.*f)(y + r * pitch, x.data() + r * pitch, n); });
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
  if (t >= 0 && t < classes) return t;
  if (!strict) return -1;
  throw IndexError({.where = "cross_entropy",
                    .problem = "target " + std::to_string(i) + " is out of range",
                    .expected = "0 to " + std::to_string(classes - 1),
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
  const Rows f(a.inputs[0].dtype);
  const T smoothing = static_cast<T>(a.attrs.real(1));
  for_row_groups(a.pool, rows, classes, [&](int64_t first, int64_t count) {
    T most[kMostTogether], log_sum[kMostTogether];
    f.log_sum_exp(most, log_sum, x + first * classes, count, classes);
    for (int64_t i = 0; i < count; ++i) {
      const int64_t r = first + i;
      const T* row = x + r * classes;
      const int64_t t = target_class(a.inputs[1], target, r, classes, a.attrs.integer(0), true);
      if (t < 0) {
        loss[r] = 0;
        continue;
      }
      loss[r] = (smoothing - 1) * ((row[t] - most[i]) - log_sum[i]);
      if (smoothing != 0) {
        T sum = 0;
        f.loops.sum(&sum, row, nullptr, classes);
        loss[r] -= smoothing * ((sum / static_cast<T>(classes) - most[i]) - log_sum[i]);
      }
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
  const Rows f(logits_view.dtype);
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
    f.log_sum_exp(&p[0], &p[1], row, 1, classes);
    p[2] = factor;
    p[3] = -smoothing / static_cast<T>(classes) * factor;
    f.exp_affine(to, row, p, classes);
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
void run_softmax(const KernelArgs& a) { each_row(a, &Rows::softmax); }
void run_log_softmax(const KernelArgs& a) { each_row(a, &Rows::log_softmax); }
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
