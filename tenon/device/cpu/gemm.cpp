#include "tenon/device/cpu/gemm.h"

#include <cblas.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string>

#include "tenon/base/error.h"
#include "tenon/device/cpu/bf16_blocks.h"
#include "tenon/device/cpu/copy.h"
#include "tenon/device/cpu/level.h"
#include "tenon/device/cpu/one_thread.h"
#include "tenon/device/cpu/product.h"
#include "tenon/device/cpu/product_bf16.h"
#include "tenon/device/cpu/product_i8.h"
#include "tenon/device/cpu/widen.h"

namespace tenon::cpu {
namespace {

constexpr int64_t kPart = 4 * 1024 * 1024;  // multiply-adds of one part of a parallel product, at least

const TileLoops& tiles() {
  static const TileLoops& loops = level_table(best_level()).tiles;
  return loops;
}

Product product_of(const Gemm<float>& g) {
  Product p{.m = g.m, .n = g.n, .k = g.k, .a = g.a, .b = g.b, .c = g.c, .c_row = g.ldc, .accumulate = g.accumulate};
  p.a_row = g.a_transposed ? 1 : g.lda;
  p.a_k = g.a_transposed ? g.lda : 1;
  p.b_k = g.b_transposed ? 1 : g.ldb;
  p.b_column = g.b_transposed ? g.ldb : 1;
  return p;
}

template <class T>
void scale_or_clear(const Gemm<T>& g) {
  if (g.accumulate) return;
  for (int64_t i = 0; i < g.m; ++i) std::fill(g.c + i * g.ldc, g.c + i * g.ldc + g.n, T{0});
}

CBLAS_TRANSPOSE cblas_flag(bool transposed) { return transposed ? CblasTrans : CblasNoTrans; }
blasint narrow(int64_t value) {
  if (value > INT32_MAX) {
    throw UnsupportedError({.where = "matmul",
                            .problem = "an extent is too large for the BLAS",
                            .expected = "at most 2147483647",
                            .got = std::to_string(value),
                            .hint = "split the product"});
  }
  return static_cast<blasint>(value);
}

template <class T>
Gemm<T> block_of(const Gemm<T>& g, int64_t i, int64_t rows, int64_t j, int64_t columns) {
  Gemm<T> part = g;
  part.m = rows;
  part.n = columns;
  part.a += g.a_transposed ? i : i * g.lda;
  part.b += g.b_transposed ? j * g.ldb : j;
  part.c += i * g.ldc + j;
  return part;
}

// Panels of the longer side of the result.
template <class T>
void gemm_in_parts(const Gemm<T>& g, ThreadPool& pool) {
  const int64_t work = g.m * g.n * std::max<int64_t>(1, g.k);
  const bool by_rows = g.m >= g.n;
  const int64_t side = by_rows ? g.m : g.n;
  // Thin panels would pack the other matrix too often.
  const int64_t least = side >= 256 ? 128 : 64;
  const int64_t wanted = std::clamp<int64_t>(work / kPart, 1, std::max<int64_t>(1, side / least));
  const int64_t panel = ((side + wanted - 1) / wanted + 15) / 16 * 16;
  const int64_t parts = (side + panel - 1) / panel;
  if (parts <= 1) {
    gemm(g);
    return;
  }
  pool.run(parts, [&](int64_t p) {
    const int64_t at = p * panel;
    const int64_t width = std::min(panel, side - at);
    gemm(by_rows ? block_of(g, at, width, 0, g.n) : block_of(g, 0, g.m, at, width));
  });
}

// Wrapping products of integers: rows of b are scaled and added into rows of c.
template <class T>
void integer_gemm(const Gemm<T>& g) {
  // Unsigned and not shorter than int: only such products may wrap.
  using U = std::conditional_t<sizeof(T) == 8, uint64_t, uint32_t>;
  scale_or_clear(g);
  for (int64_t i = 0; i < g.m; ++i) {
    T* row = g.c + i * g.ldc;
    for (int64_t p = 0; p < g.k; ++p) {
      const auto factor = static_cast<U>(g.a_transposed ? g.a[p * g.lda + i] : g.a[i * g.lda + p]);
      if (g.b_transposed) {
        for (int64_t j = 0; j < g.n; ++j)
          row[j] = static_cast<T>(static_cast<U>(row[j]) + factor * static_cast<U>(g.b[j * g.ldb + p]));
      } else {
        const T* from = g.b + p * g.ldb;
        for (int64_t j = 0; j < g.n; ++j)
          row[j] = static_cast<T>(static_cast<U>(row[j]) + factor * static_cast<U>(from[j]));
      }
    }
  }
}
template <class T>
void gemm_of(const Gemm<T>& g) {
  if constexpr (std::is_floating_point_v<T>) {
    gemm(g);
  } else {
    integer_gemm(g);
  }
}

// How the last two axes of a view go into a product without a copy.
struct Matrix {
  bool fits = false;
  bool transposed = false;
  int64_t ld = 0;
};
Matrix matrix_of(const ConstView& v) {
  const size_t r = v.shape.size();
  const int64_t rows = v.shape[r - 2];
  const int64_t columns = v.shape[r - 1];
  const int64_t row = v.strides[r - 2];
  const int64_t column = v.strides[r - 1];
  if ((column == 1 || columns == 1) && (row >= std::max<int64_t>(1, columns) || rows == 1)) {
    return {true, false, rows == 1 ? std::max<int64_t>(1, columns) : row};
  }
  if ((row == 1 || rows == 1) && (column >= std::max<int64_t>(1, rows) || columns == 1)) {
    return {true, true, columns == 1 ? std::max<int64_t>(1, rows) : column};
  }
  return {};
}

// The offset of the i-th matrix of the result's batch.
int64_t matrix_at(const ConstView& view, const Shape& batch, int64_t i) {
  int64_t offset = view.offset;
  const size_t missing = batch.size() - (view.shape.size() - 2);
  for (size_t d = batch.size(); d-- > missing; i /= batch[d]) {
    if (view.shape[d - missing] != 1) offset += i % batch[d] * view.strides[d - missing];
  }
  return offset;
}

// A view whose matrices can be handed over: itself or a contiguous copy.
struct Operand {
  Operand(const ConstView& v, ThreadPool& pool) : view(v), matrix(matrix_of(v)) {
    if (matrix.fits) return;
    copy_ = Buffer::allocate(static_cast<size_t>(byte_size(v.dtype, numel(v.shape))));
    view = {copy_->data(), v.dtype, v.shape, contiguous_strides(v.shape), 0};
    copy(v, View{copy_->data(), v.dtype, v.shape, view.strides, 0}, pool);
    matrix = matrix_of(view);
  }
  ConstView view;
  Matrix matrix;

 private:
  Ref<Buffer> copy_;
};

// f(i) for each of `count` products of so many multiply-adds.
template <class F>
void each_product(int64_t count, int64_t work, ThreadPool& pool, const F& f) {
  const int64_t group = std::max<int64_t>(1, kPart / std::max<int64_t>(1, work));
  pool.run((count + group - 1) / group, [&](int64_t p) {
    for (int64_t i = p * group; i < std::min(count, (p + 1) * group); ++i) f(i);
  });
}

// A batch of products as few as possible: run(p) for all at once where the right side is one and rows lie evenly, else
// alone(p) for each. P is Product, Bf16Product or I8Product.
template <class P, class T, class Sum, class Run, class Alone>
void each_matrix(P p, const T* a_data, const T* b_data, Sum* c_data, const ConstView& a, const ConstView& b,
                 const View& out, ThreadPool& pool, const Run& run, const Alone& alone) {
  const size_t lead = out.shape.size() - 2;
  const size_t ar = a.shape.size(), br = b.shape.size();
  p.m = out.shape[lead];
  p.n = out.shape[lead + 1];
  p.k = a.shape.back();
  p.a_row = a.strides[ar - 2];
  p.a_k = a.strides[ar - 1];
  p.b_k = b.strides[br - 2];
  p.b_column = b.strides[br - 1];
  if (p.k == 1) p.a_k = 1;
  if (p.n == 1) p.b_column = 1;
  p.c_row = p.n;
  const Shape batch(out.shape.begin(), out.shape.end() - 2);
  const int64_t count = numel(batch);
  const bool one_b = std::all_of(b.shape.begin(), b.shape.end() - 2, [](int64_t e) { return e == 1; });
  const auto step = lead == 0 ? std::nullopt : row_step(a);
  const bool together = one_b && step && numel(a.shape) == count * p.m * p.k;
  if (lead == 0 || together) {
    if (together) {
      p.m *= count;
      p.a_row = *step;
    }
    p.a = a_data + a.offset;
    p.b = b_data + b.offset;
    p.c = c_data;
    run(p);
    return;
  }
  const auto matrix = [&](int64_t i) {
    P one = p;
    one.a = a_data + matrix_at(a, batch, i);
    one.b = b_data + matrix_at(b, batch, i);
    one.c = c_data + i * p.m * p.n;
    return one;
  };
  if (count == 1) {
    run(matrix(0));
  } else {
    each_product(count, p.m * p.n * p.k, pool, [&](int64_t i) { alone(matrix(i)); });
  }
}

void matmul_f32(const ConstView& a, const ConstView& b, const View& out, ThreadPool& pool) {
  const TileLoops& loops = tiles();
  each_matrix(
      Product{}, reinterpret_cast<const float*>(a.data), reinterpret_cast<const float*>(b.data), out.as<float>(), a, b,
      out, pool, [&](const Product& p) { product(p, loops, pool); }, [&](const Product& p) { product(p, loops); });
}

void matmul_bf16(const ConstView& a, const ConstView& b, const View& out, ThreadPool& pool) {
  each_matrix(
      Bf16Product{}, reinterpret_cast<const uint16_t*>(a.data), reinterpret_cast<const uint16_t*>(b.data),
      out.as<uint16_t>(), a, b, out, pool, [&](const Bf16Product& p) { product(p, pool); },
      [](const Bf16Product& p) { product(p); });
}

template <class T>
void matmul_as(const ConstView& a_view, const ConstView& b_view, const View& out, ThreadPool& pool) {
  const Operand a(a_view, pool);
  const Operand b(b_view, pool);
  const Shape batch(out.shape.begin(), out.shape.end() - 2);
  const int64_t m = out.shape[batch.size()];
  const int64_t n = out.shape[batch.size() + 1];
  const int64_t k = a_view.shape.back();
  const int64_t count = numel(batch);
  T* c = out.as<T>();
  const auto product = [&](int64_t i) {
    return Gemm<T>{m,
                   n,
                   k,
                   reinterpret_cast<const T*>(a.view.data) + matrix_at(a.view, batch, i),
                   a.matrix.ld,
                   a.matrix.transposed,
                   reinterpret_cast<const T*>(b.view.data) + matrix_at(b.view, batch, i),
                   b.matrix.ld,
                   b.matrix.transposed,
                   c + i * m * n,
                   n};
  };
  if (count == 1) {
    if constexpr (std::is_floating_point_v<T>) {
      gemm_in_parts(product(0), pool);
      return;
    }
  }
  each_product(count, m * n * k, pool, [&](int64_t i) { gemm_of(product(i)); });
}

// Without elements, or all sums of nothing: then out is zero.
bool is_of_nothing(const ConstView& a, const View& out) {
  if (numel(out.shape) == 0) return true;
  if (a.shape.back() != 0) return false;
  std::memset(out.data + byte_size(out.dtype, out.offset), 0,
              static_cast<size_t>(byte_size(out.dtype, numel(out.shape))));
  return true;
}

}  // namespace

void gemm(const Gemm<float>& g) {
  if (g.m == 0 || g.n == 0) return;
  if (g.k == 0) {
    scale_or_clear(g);
    return;
  }
  product(product_of(g), tiles());
}

void gemm(const Gemm<double>& g) {
  if (g.m == 0 || g.n == 0) return;
  if (g.k == 0) {
    scale_or_clear(g);
    return;
  }
  const OneThread one;
  cblas_dgemm(CblasRowMajor, cblas_flag(g.a_transposed), cblas_flag(g.b_transposed), narrow(g.m), narrow(g.n),
              narrow(g.k), 1.0, g.a, narrow(g.lda), g.b, narrow(g.ldb), g.accumulate ? 1.0 : 0.0, g.c, narrow(g.ldc));
}

void gemm(const Gemm<float>& g, ThreadPool& pool) {
  if (g.m == 0 || g.n == 0 || g.k == 0) {
    gemm(g);
  } else {
    product(product_of(g), tiles(), pool);
  }
}
void gemm(const Gemm<double>& g, ThreadPool& pool) { gemm_in_parts(g, pool); }

std::optional<int64_t> row_step(const ConstView& v) {
  int64_t step = 0, next = 0;
  bool first = true;
  for (size_t d = v.shape.size() - 1; d-- > 0;) {
    if (v.shape[d] == 1) continue;
    if (!first && v.strides[d] != next) return std::nullopt;
    if (first) step = v.strides[d];
    first = false;
    next = v.strides[d] * v.shape[d];
  }
  return step;
}

EvenRows::EvenRows(const ConstView& v, ThreadPool& pool) {
  if (const auto step = row_step(v)) {
    data_ = v.first();
    row_ = *step;
    column_ = v.strides.back();
  } else {
    data_ = copied_.emplace(v, pool).data();
    row_ = v.shape.back();
  }
}

void matmul_integer(const ConstView& a, const ConstView& b, const View& out, ThreadPool& pool) {
  if (is_of_nothing(a, out)) return;
  const I8Loops& loops = i8_loops();
  I8Product p;
  p.a_signed = a.dtype == DType::I8;
  p.b_signed = b.dtype == DType::I8;
  each_matrix(
      p, reinterpret_cast<const uint8_t*>(a.data), reinterpret_cast<const uint8_t*>(b.data), out.as<int32_t>(), a, b,
      out, pool, [&](const I8Product& one) { product(one, loops, pool); },
      [&](const I8Product& one) { product(one, loops); });
}

void matmul(const ConstView& a, const ConstView& b, const View& out, ThreadPool& pool) {
  if (is_of_nothing(a, out)) return;
  switch (out.dtype) {
    case DType::F32:
      return matmul_f32(a, b, out, pool);
    case DType::F64:
      return matmul_as<double>(a, b, out, pool);
    case DType::BF16:
      if (bf16_blocks::available()) return matmul_bf16(a, b, out, pool);
      break;
    default:
      break;
  }
  if (is_half(out.dtype)) {
    const std::array inputs{a, b};
    const ir::Attrs none;
    run_widened({inputs, {&out, 1}, none, pool},
                [](const KernelArgs& args) { matmul(args.inputs[0], args.inputs[1], args.outputs[0], args.pool); });
    return;
  }
  // Products modulo 2^width need no sign.
  switch (info(out.dtype).bits) {
    case 8:
      return matmul_as<uint8_t>(a, b, out, pool);
    case 16:
      return matmul_as<uint16_t>(a, b, out, pool);
    case 32:
      return matmul_as<uint32_t>(a, b, out, pool);
    default:
      return matmul_as<uint64_t>(a, b, out, pool);
  }
}

}  // namespace tenon::cpu
