// Loops over rows for the fused kernels: softmax, normalisation, cross-entropy, attention. Included by level_*.cpp
// only.
//
// Folds over a row run in 32 virtual lanes combined as a tree, so that all levels give the same bits.
#pragma once

#include "tenon/device/cpu/level.h"
#include "tenon/device/cpu/level_elementwise.h"

namespace tenon::cpu::TENON_CPU_LEVEL {

inline float exp_of(float x) { return exp_f32(x); }
inline double exp_of(double x) { return ::exp(x); }
inline float log_of(float x) { return log_f32(x); }
inline double log_of(double x) { return ::log(x); }
inline float sqrt_of(float x) { return __builtin_sqrtf(x); }
inline double sqrt_of(double x) { return __builtin_sqrt(x); }

inline constexpr int kRowLanes = 32;

// value(0) ∘ … ∘ value(n-1); `empty` is the neutral element.
template <class Op, class T, class F>
inline T fold_over(int64_t n, T empty, const F& value) {
  alignas(64) T lane[kRowLanes];
  for (T& one : lane) one = empty;
  int64_t i = 0;
  for (; i + kRowLanes <= n; i += kRowLanes) {
    TENON_INDEPENDENT
    for (int j = 0; j < kRowLanes; ++j) lane[j] = Op::f(lane[j], value(i + j));
  }
  for (int j = 0; i + j < n; ++j) lane[j] = Op::f(lane[j], value(i + j));
  for (int width = kRowLanes / 2; width > 0; width /= 2) {
    for (int j = 0; j < width; ++j) lane[j] = Op::f(lane[j], lane[j + width]);
  }
  return lane[0];
}
template <class T>
inline T row_max(const T* x, int64_t n) {
  return fold_over<MaxOp, T>(n, static_cast<T>(-__builtin_inf()), [x](int64_t i) { return x[i]; });
}

// y = exp(x - shift), returns the sum.
template <class T>
inline T exp_and_sum(T* y, const T* x, T shift, int64_t n) {
  return fold_over<AddOp, T>(n, T{0}, [=](int64_t i) { return y[i] = exp_of(x[i] - shift); });
}

template <class T>
struct Rows {
  static void softmax(void* out, const void* in, int64_t n) {
    T* y = static_cast<T*>(out);
    const T* x = static_cast<const T*>(in);
    const T scale = T{1} / exp_and_sum(y, x, row_max(x, n), n);
    TENON_INDEPENDENT
    for (int64_t i = 0; i < n; ++i) y[i] *= scale;
  }
  // out: the maximum and the logarithm of sum(exp(x - maximum)).
  static void log_sum_exp(void* out, const void* in, int64_t n) {
    T* result = static_cast<T*>(out);
    const T* x = static_cast<const T*>(in);
    const T most = row_max(x, n);
    result[0] = most;
    result[1] = log_of(fold_over<AddOp, T>(n, T{0}, [=](int64_t i) { return exp_of(x[i] - most); }));
  }
  static void log_softmax(void* out, const void* in, int64_t n) {
    T* y = static_cast<T*>(out);
    const T* x = static_cast<const T*>(in);
    T m[2];
    log_sum_exp(m, x, n);
    TENON_INDEPENDENT
    for (int64_t i = 0; i < n; ++i) y[i] = (x[i] - m[0]) - m[1];
  }
  static void softmax_grad(void* out, const void* a, const void* b, const void* /*c*/, int64_t n) {
    T* dx = static_cast<T*>(out);
    const T* ct = static_cast<const T*>(a);
    const T* y = static_cast<const T*>(b);
    const T total = fold_over<AddOp, T>(n, T{0}, [=](int64_t i) { return ct[i] * y[i]; });
    TENON_INDEPENDENT
    for (int64_t i = 0; i < n; ++i) dx[i] = y[i] * (ct[i] - total);
  }
  static void log_softmax_grad(void* out, const void* a, const void* b, const void* /*c*/, int64_t n) {
    T* dx = static_cast<T*>(out);
    const T* ct = static_cast<const T*>(a);
    const T* y = static_cast<const T*>(b);
    const T total = fold_over<AddOp, T>(n, T{0}, [=](int64_t i) { return ct[i]; });
    TENON_INDEPENDENT
    for (int64_t i = 0; i < n; ++i) dx[i] = ct[i] - exp_of(y[i]) * total;
  }
  // out = exp((x - c[0]) - c[1]) * c[2] + c[3]
  static void exp_affine(void* out, const void* in, const void* /*b*/, const void* c, int64_t n) {
    T* y = static_cast<T*>(out);
    const T* x = static_cast<const T*>(in);
    const T* p = static_cast<const T*>(c);
    const T p0 = p[0], p1 = p[1], p2 = p[2], p3 = p[3];
    TENON_INDEPENDENT
    for (int64_t i = 0; i < n; ++i) y[i] = exp_of((x[i] - p0) - p1) * p2 + p3;
  }

  // One step of the running softmax of attention. s: n scores, which become exp(s - maximum). state: the maximum and
  // the sum so far, then the factor for what was added up before.
  static void online_softmax(void* state, void* scores, int64_t n) {
    T* m = static_cast<T*>(state);
    T* s = static_cast<T*>(scores);
    const T block = row_max(s, n);
    const T most = MaxOp::f(m[0], block);
    if (most == static_cast<T>(-__builtin_inf())) {  // nothing may be seen
      for (int64_t i = 0; i < n; ++i) s[i] = T{0};
      m[2] = T{1};
      return;
    }
    const T factor = exp_of(m[0] - most);
    m[0] = most;
    m[1] = m[1] * factor + exp_and_sum(s, s, most, n);
    m[2] = factor;
  }
  // x *= *factor
  static void scale(void* out, const void* factor, int64_t n) {
    T* x = static_cast<T*>(out);
    const T f = *static_cast<const T*>(factor);
    TENON_INDEPENDENT
    for (int64_t i = 0; i < n; ++i) x[i] *= f;
  }

  static void normalize(const NormalizeRow& r) {
    const T* x = static_cast<const T*>(r.x);
    const T* w = static_cast<const T*>(r.weight);
    const T* b = static_cast<const T*>(r.bias);
    T* y = static_cast<T*>(r.y);
    const T count = static_cast<T>(r.n);
    const T mean = r.center ? fold_over<AddOp, T>(r.n, T{0}, [x](int64_t i) { return x[i]; }) / count : T{0};
    const T squares = fold_over<AddOp, T>(r.n, T{0}, [=](int64_t i) { return (x[i] - mean) * (x[i] - mean); });
    const T rstd = T{1} / sqrt_of(squares / count + static_cast<T>(r.epsilon));
    *static_cast<T*>(r.mean) = mean;
    *static_cast<T*>(r.rstd) = rstd;
    apply(y, x, w, b, mean, rstd, r.n);
  }
  static void apply(T* y, const T* x, const T* w, const T* b, T mean, T rstd, int64_t n) {
    if (w != nullptr && b != nullptr) {
      TENON_INDEPENDENT
      for (int64_t i = 0; i < n; ++i) y[i] = (x[i] - mean) * rstd * w[i] + b[i];
      return;
    }
    TENON_INDEPENDENT
    for (int64_t i = 0; i < n; ++i) y[i] = (x[i] - mean) * rstd;
    if (w != nullptr) {
      TENON_INDEPENDENT
      for (int64_t i = 0; i < n; ++i) y[i] *= w[i];
    }
    if (b != nullptr) {
      TENON_INDEPENDENT
      for (int64_t i = 0; i < n; ++i) y[i] += b[i];
    }
  }
  static void normalize_grad(const NormalizeGradRow& r) {
    const T* ct = static_cast<const T*>(r.ct);
    const T* x = static_cast<const T*>(r.x);
    const T* w = static_cast<const T*>(r.weight);
    T* dx = static_cast<T*>(r.dx);
    T* dw = static_cast<T*>(r.weight_sum);
    T* db = static_cast<T*>(r.bias_sum);
    const T mean = r.center ? *static_cast<const T*>(r.mean) : T{0};
    const T rstd = *static_cast<const T*>(r.rstd);
    const T count = static_cast<T>(r.n);
    const auto g = [=](int64_t i) { return w != nullptr ? ct[i] * w[i] : ct[i]; };
    const auto normal = [=](int64_t i) { return (x[i] - mean) * rstd; };
    const T k2 = fold_over<AddOp, T>(r.n, T{0}, [&](int64_t i) { return g(i) * normal(i); }) / count;
    const T k1 = r.center ? fold_over<AddOp, T>(r.n, T{0}, g) / count : T{0};
    if (dw != nullptr) {
      TENON_INDEPENDENT
      for (int64_t i = 0; i < r.n; ++i) {
        dw[i] += ct[i] * normal(i);
        db[i] += ct[i];
      }
    }
    TENON_INDEPENDENT
    for (int64_t i = 0; i < r.n; ++i) dx[i] = ((g(i) - normal(i) * k2) - k1) * rstd;
  }

  // For statistics over several rows (batch normalisation); p holds the parameters.
  static void sum_of_squares(void* out, const void* in, const void* p, int64_t n) {
    const T* x = static_cast<const T*>(in);
    const T mean = *static_cast<const T*>(p);
    *static_cast<T*>(out) = fold_over<AddOp, T>(n, T{0}, [=](int64_t i) { return (x[i] - mean) * (x[i] - mean); });
  }
  static void max(void* out, const void* in, int64_t n) {
    *static_cast<T*>(out) = row_max(static_cast<const T*>(in), n);
  }
  static void sum(void* out, const void* in, const void* /*p*/, int64_t n) {
    const T* x = static_cast<const T*>(in);
    *static_cast<T*>(out) = fold_over<AddOp, T>(n, T{0}, [=](int64_t i) { return x[i]; });
  }
  // y = (x - p[0]) * p[1] * p[2] + p[3]
  static void standardize(void* out, const void* in, const void* /*b*/, const void* c, int64_t n) {
    T* y = static_cast<T*>(out);
    const T* x = static_cast<const T*>(in);
    const T* p = static_cast<const T*>(c);
    const T p0 = p[0], p1 = p[1], p2 = p[2], p3 = p[3];
    TENON_INDEPENDENT
    for (int64_t i = 0; i < n; ++i) y[i] = (x[i] - p0) * p1 * p2 + p3;
  }
  // out: sum(ct), sum(ct * (x - p[0]) * p[1])
  static void gradient_sums(void* out, const void* a, const void* b, const void* c, int64_t n) {
    const T* ct = static_cast<const T*>(a);
    const T* x = static_cast<const T*>(b);
    const T* p = static_cast<const T*>(c);
    const T p0 = p[0], p1 = p[1];
    T* sums = static_cast<T*>(out);
    sums[0] = fold_over<AddOp, T>(n, T{0}, [=](int64_t i) { return ct[i]; });
    sums[1] = fold_over<AddOp, T>(n, T{0}, [=](int64_t i) { return ct[i] * ((x[i] - p0) * p1); });
  }
  // dx = ((ct - p[2]) - (x - p[0]) * p[1] * p[3]) * p[4]
  static void standardize_grad(void* out, const void* a, const void* b, const void* c, int64_t n) {
    T* dx = static_cast<T*>(out);
    const T* ct = static_cast<const T*>(a);
    const T* x = static_cast<const T*>(b);
    const T* p = static_cast<const T*>(c);
    const T p0 = p[0], p1 = p[1], p2 = p[2], p3 = p[3], p4 = p[4];
    TENON_INDEPENDENT
    for (int64_t i = 0; i < n; ++i) dx[i] = ((ct[i] - p2) - (x[i] - p0) * p1 * p3) * p4;
  }

  // out = rows[0] * weights[0] + rows[1] * weights[1] + …, from the left; 1 to 4 rows.
  template <size_t N>
  static void blend_of(void* out, const void* const* rows, const void* weights, int64_t n) {
    T* y = static_cast<T*>(out);
    const T* x[N];
    T w[N];
    for (size_t k = 0; k < N; ++k) {
      x[k] = static_cast<const T*>(rows[k]);
      w[k] = static_cast<const T*>(weights)[k];
    }
    TENON_INDEPENDENT
    for (int64_t i = 0; i < n; ++i) {
      T sum = x[0][i] * w[0];
      for (size_t k = 1; k < N; ++k) sum += x[k][i] * w[k];
      y[i] = sum;
    }
  }
  static void blend(void* out, const void* const* rows, const void* weights, size_t count, int64_t n) {
    if (count == 1) return blend_of<1>(out, rows, weights, n);
    if (count == 2) return blend_of<2>(out, rows, weights, n);
    if (count == 3) return blend_of<3>(out, rows, weights, n);
    blend_of<4>(out, rows, weights, n);
  }

  static constexpr RowLoops loops() {
    return {softmax,
            log_sum_exp,
            log_softmax,
            softmax_grad,
            log_softmax_grad,
            exp_affine,
            online_softmax,
            scale,
            normalize,
            normalize_grad,
            max,
            sum,
            sum_of_squares,
            standardize,
            gradient_sums,
            standardize_grad,
            blend};
  }
};

}  // namespace tenon::cpu::TENON_CPU_LEVEL
