// Decompositions by LAPACK, in f64 for both full floats: the matrices of a batch one after another.
#include <lapacke.h>

#include "tenon/device/cpu/kernels.h"
#include "tenon/device/cpu/one_thread.h"
#include "tenon/ops/linalg_matrix.h"

namespace tenon::cpu {
namespace {

using ops::Matrix;

void for_each(const KernelArgs& args, const std::function<std::vector<Matrix>(int64_t, std::vector<Matrix>&)>& fn) {
  const OneThread one;
  ops::for_each_matrix({args.inputs, args.outputs, args.attrs}, fn);
}
lapack_int as_int(int64_t n) { return static_cast<lapack_int>(n); }
// LAPACK wants a leading dimension of at least 1 also of nothing.
lapack_int leading(int64_t n) { return as_int(std::max<int64_t>(n, 1)); }

}  // namespace

void run_cholesky(const KernelArgs& args) {
  for_each(args, [](int64_t batch, std::vector<Matrix>& in) {
    Matrix& a = in[0];
    if (LAPACKE_dpotrf(LAPACK_ROW_MAJOR, 'L', as_int(a.rows), a.data.data(), leading(a.rows)) != 0)
      ops::fail_matrix("cholesky", batch, "not positive definite", "add a small multiple of eye(n)");
    for (int64_t i = 0; i < a.rows; ++i) {
      for (int64_t j = i + 1; j < a.rows; ++j) a.at(i, j) = 0;
    }
    return std::vector<Matrix>{a};
  });
}

void run_solve(const KernelArgs& args) {
  for_each(args, [](int64_t batch, std::vector<Matrix>& in) {
    Matrix &a = in[0], &b = in[1];
    std::vector<lapack_int> pivots(static_cast<size_t>(a.rows) + 1);
    if (LAPACKE_dgesv(LAPACK_ROW_MAJOR, as_int(a.rows), as_int(b.columns), a.data.data(), leading(a.rows),
                      pivots.data(), b.data.data(), leading(b.columns)) != 0)
      ops::fail_matrix("solve", batch, "the matrix is singular", "lstsq(a, b), or pinv(a)");
    return std::vector<Matrix>{b};
  });
}

void run_triangular_solve(const KernelArgs& args) {
  const char triangle = args.attrs.flag(0) ? 'U' : 'L', side = args.attrs.flag(1) ? 'T' : 'N',
             diagonal = args.attrs.flag(2) ? 'U' : 'N';
  for_each(args, [&](int64_t batch, std::vector<Matrix>& in) {
    Matrix &a = in[0], &b = in[1];
    if (LAPACKE_dtrtrs(LAPACK_ROW_MAJOR, triangle, side, diagonal, as_int(a.rows), as_int(b.columns), a.data.data(),
                       leading(a.rows), b.data.data(), leading(b.columns)) != 0)
      ops::fail_matrix("triangular_solve", batch, "singular: a zero on the diagonal");
    return std::vector<Matrix>{b};
  });
}

void run_qr(const KernelArgs& args) {
  for_each(args, [](int64_t batch, std::vector<Matrix>& in) {
    Matrix& a = in[0];
    const int64_t m = a.rows, n = a.columns, k = std::min(m, n);
    std::vector<double> tau(static_cast<size_t>(k) + 1);
    if (LAPACKE_dgeqrf(LAPACK_ROW_MAJOR, as_int(m), as_int(n), a.data.data(), leading(n), tau.data()) != 0)
      ops::fail_matrix("qr", batch, "NaN or infinity in the matrix");
    Matrix q(m, k), r(k, n);
    for (int64_t i = 0; i < k; ++i) {
      for (int64_t j = i; j < n; ++j) r.at(i, j) = a.at(i, j);
    }
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t j = 0; j < k; ++j) q.at(i, j) = a.at(i, j);
    }
    LAPACKE_dorgqr(LAPACK_ROW_MAJOR, as_int(m), as_int(k), as_int(k), q.data.data(), leading(k), tau.data());
    ops::fix_qr_signs(q, r);
    return std::vector<Matrix>{q, r};
  });
}

void run_eigh(const KernelArgs& args) {
  for_each(args, [](int64_t batch, std::vector<Matrix>& in) {
    Matrix& a = in[0];
    Matrix values(1, a.rows);
    if (LAPACKE_dsyevd(LAPACK_ROW_MAJOR, 'V', 'L', as_int(a.rows), a.data.data(), leading(a.rows),
                       values.data.data()) != 0)
      ops::fail_matrix("eigh", batch, "the iteration does not converge", "look for NaN or infinity in the matrix");
    ops::fix_vector_signs(a);
    return std::vector<Matrix>{values, a};
  });
}

void run_svd(const KernelArgs& args) {
  for_each(args, [](int64_t batch, std::vector<Matrix>& in) {
    Matrix& a = in[0];
    for (double e : a.data) {
      if (!std::isfinite(e)) ops::fail_matrix("svd", batch, "NaN or infinity in the matrix");
    }
    const int64_t m = a.rows, n = a.columns, k = std::min(m, n);
    Matrix u(m, k), values(1, k), vh(k, n);
    if (k > 0 && LAPACKE_dgesdd(LAPACK_ROW_MAJOR, 'S', as_int(m), as_int(n), a.data.data(), leading(n),
                                values.data.data(), u.data.data(), leading(k), vh.data.data(), leading(n)) != 0)
      ops::fail_matrix("svd", batch, "the iteration does not converge");
    ops::fix_vector_signs(u, &vh);
    return std::vector<Matrix>{u, values, vh};
  });
}

}  // namespace tenon::cpu
