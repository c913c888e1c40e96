// Matrices of a batch one by one as plain row-major f64: what the reference and the LAPACK kernels share.
#pragma once

#include <algorithm>
#include <cmath>
#include <functional>

#include "tenon/ops/opdef.h"

namespace tenon::ops {

struct Matrix {
  int64_t rows = 0, columns = 0;
  std::vector<double> data;
  Matrix() = default;
  Matrix(int64_t m, int64_t n) : rows(m), columns(n), data(static_cast<size_t>(m * n), 0) {}
  double& at(int64_t i, int64_t j) { return data[static_cast<size_t>(i * columns + j)]; }
  [[nodiscard]] double at(int64_t i, int64_t j) const { return data[static_cast<size_t>(i * columns + j)]; }
};

// Calls fn(number in the batch, matrices of the inputs) for each matrix of the batch; what it gives is stored. Vectors
// (eigenvalues) are matrices of one row.
void for_each_matrix(const ReferenceArgs& args,
                     const std::function<std::vector<Matrix>(int64_t batch, std::vector<Matrix>& in)>& fn);
// NumericError naming the op and the matrix.
[[noreturn]] void fail_matrix(std::string_view op, int64_t batch, std::string problem, std::string hint = {});

// The signs that linalg.h promises.
void fix_qr_signs(Matrix& q, Matrix& r);
void fix_vector_signs(Matrix& columns, Matrix* rows = nullptr);

}  // namespace tenon::ops
