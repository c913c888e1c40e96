// The functions that claims.cpp names: kernels of single ops, called with KernelArgs. What each computes is said by the
// op's definition; inputs may have any strides, outputs are contiguous.
#pragma once

#include <algorithm>
#include <cstdint>
#include <span>

#include "tenon/device/device.h"

namespace tenon::cpu {

using Types = std::span<const TensorType>;

// rows.cpp: softmax family along the last axis, cross-entropy (f32, f64)
bool accepts_last_axis(Types in, const ir::Attrs& attrs);
void run_softmax(const KernelArgs& a);
void run_softmax_grad(const KernelArgs& a);
void run_log_softmax(const KernelArgs& a);
void run_log_softmax_grad(const KernelArgs& a);
bool accepts_cross_entropy(Types in, const ir::Attrs& attrs);
void run_cross_entropy(const KernelArgs& a);
bool accepts_cross_entropy_grad(Types in, const ir::Attrs& attrs);
void run_cross_entropy_grad(const KernelArgs& a);

// normalize.cpp: over the last axes, or over all but the channels (f32, f64)
bool accepts_normalize(Types in, const ir::Attrs& attrs);
void run_normalize(const KernelArgs& a);
bool accepts_normalize_grad(Types in, const ir::Attrs& attrs);
void run_normalize_grad(const KernelArgs& a);

// attention.cpp: f32, f16, bf16
bool accepts_attention(Types in, const ir::Attrs& attrs);
void run_attention(const KernelArgs& a);
void run_attention_grad(const KernelArgs& a);

// moves.cpp: every dtype of whole bytes
bool accepts_whole_bytes(Types in, const ir::Attrs& attrs);
bool accepts_full(Types in, const ir::Attrs& attrs);
void run_full(const KernelArgs& a);
bool accepts_iota(Types in, const ir::Attrs& attrs);
void run_iota(const KernelArgs& a);
void run_pad(const KernelArgs& a);
void run_concat(const KernelArgs& a);
// In the order in which most of its inputs lie: row-major, or the channels last.
std::unique_ptr<PreparedKernel> prepare_concat(const PrepareArgs& args);

// take.cpp: elements and slices at given positions
void run_take(const KernelArgs& a);
bool accepts_index_add(Types in, const ir::Attrs& attrs);
void run_index_add(const KernelArgs& a);
void run_embedding(const KernelArgs& a);
// Method nearest; prepared in the order in which the input lies.
bool accepts_interpolate(Types in, const ir::Attrs& attrs);
void run_interpolate(const KernelArgs& a);
std::unique_ptr<PreparedKernel> prepare_interpolate(const PrepareArgs& args);
// blend.cpp: the linear and cubic methods, f32 and f64; prepared likewise
bool accepts_blend(Types in, const ir::Attrs& attrs);
void run_blend(const KernelArgs& a);
std::unique_ptr<PreparedKernel> prepare_blend(const PrepareArgs& args);
void run_take_along_axis(const KernelArgs& a);
bool accepts_scatter(Types in, const ir::Attrs& attrs);
void run_scatter(const KernelArgs& a);

// pool.cpp: f32, f64, f16, bf16
void run_max_pool(const KernelArgs& a);
// With the channels last, not f64; only the values.
std::unique_ptr<PreparedKernel> prepare_max_pool(const PrepareArgs& args);
std::optional<Ints> ready_max_pool(std::span<const ConstView> inputs);
void run_average_pool(const KernelArgs& a);
void run_average_pool_gradient(const KernelArgs& a);

// random.cpp
void run_random_bits(const KernelArgs& a);

// sort.cpp: every dtype of whole bytes but the 8-bit floats
bool accepts_sort(Types in, const ir::Attrs& attrs);
void run_sort(const KernelArgs& a);

// scan.cpp: f32 and f64; sums, products and extremes also of integers of 32 and 64 bits
bool accepts_accumulate(Types in, const ir::Attrs& attrs);
void run_cumsum(const KernelArgs& a);
void run_cumprod(const KernelArgs& a);
bool accepts_float_scan(Types in, const ir::Attrs& attrs);
void run_linear_recurrence(const KernelArgs& a);
void run_logcumsumexp(const KernelArgs& a);
bool accepts_extreme(Types in, const ir::Attrs& attrs);
void run_cummax(const KernelArgs& a);
void run_cummin(const KernelArgs& a);

// Calls body(i) for i < units, in parts of about 32768 elements by units of `unit_size`.
template <class F>
void for_units(ThreadPool& pool, int64_t units, int64_t unit_size, const F& body) {
  constexpr int64_t kPart = 32768, kLightPart = 8192;
  const int64_t each = std::max<int64_t>(1, unit_size);
  const bool light = units * each <= kPart && units * each >= 2 * kLightPart;
  const int64_t group = std::max<int64_t>(1, (light ? kLightPart : kPart) / each);
  if (units <= group) {
    for (int64_t i = 0; i < units; ++i) body(i);
    return;
  }
  pool.run((units + group - 1) / group,
           [&](int64_t part) {
             for (int64_t i = part * group; i < std::min(units, (part + 1) * group); ++i) body(i);
           },
           light ? ThreadPool::Load::Light : ThreadPool::Load::Heavy);
}

// lapack.cpp
void run_cholesky(const KernelArgs& args);
void run_solve(const KernelArgs& args);
void run_triangular_solve(const KernelArgs& args);
void run_qr(const KernelArgs& args);
void run_eigh(const KernelArgs& args);
void run_svd(const KernelArgs& args);

}  // namespace tenon::cpu
