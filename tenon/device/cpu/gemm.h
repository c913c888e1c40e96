// Matrix products.
//
// f32 runs on tiles of our own (product.h), f64 on OpenBLAS, bf16 in blocks where the CPU has them (product_bf16.h),
// else as f16: in f32 with one rounding. Integers run in plain loops that wrap, products of 8-bit ones added up in i32
// in loops of their own (product_i8.h). Large products in f64 are cut into blocks of the result by shape alone: the
// bits do not depend on the number of threads.
#pragma once

#include <cstdint>
#include <optional>

#include "tenon/base/thread_pool.h"
#include "tenon/device/cpu/copy.h"
#include "tenon/tensor/view.h"

namespace tenon::cpu {

// c[m, n] = op(a)[m, k] op(b)[k, n] (+ c), row-major with these distances between rows; op transposes on demand: a is
// then stored [k, m], b [n, k].
template <class T>
struct Gemm {
  int64_t m = 0, n = 0, k = 0;
  const T* a = nullptr;
  int64_t lda = 0;
  bool a_transposed = false;
  const T* b = nullptr;
  int64_t ldb = 0;
  bool b_transposed = false;
  T* c = nullptr;
  int64_t ldc = 0;
  bool accumulate = false;
};

// On the calling thread.
void gemm(const Gemm<float>& g);
void gemm(const Gemm<double>& g);
// Split over the pool.
void gemm(const Gemm<float>& g, ThreadPool& pool);
void gemm(const Gemm<double>& g, ThreadPool& pool);

// The step from row to row where all matrices of a batch lie one under the other as one matrix does.
std::optional<int64_t> row_step(const ConstView& v);
// Such rows: the view's own, or where these are no matrix those of a row-major copy.
class EvenRows {
 public:
  EvenRows(const ConstView& v, ThreadPool& pool);
  template <class T>
  [[nodiscard]] const T* as() const {
    return reinterpret_cast<const T*>(data_);
  }
  // Elements from row to row, and from column to column.
  [[nodiscard]] int64_t row() const { return row_; }
  [[nodiscard]] int64_t column() const { return column_; }

 private:
  std::optional<Contiguous> copied_;
  const std::byte* data_ = nullptr;
  int64_t row_ = 0, column_ = 1;
};

// out[…, m, n] = a[…, m, k] b[…, k, n]: any strides, leading axes broadcast, one dtype (numbers), out contiguous.
void matmul(const ConstView& a, const ConstView& b, const View& out, ThreadPool& pool);
// The same of i8 or u8 each, added up in i32 modulo 2^32 (product_i8.h).
void matmul_integer(const ConstView& a, const ConstView& b, const View& out, ThreadPool& pool);

}  // namespace tenon::cpu
