// Decompositions by LAPACK, in f64 for both full floats: the matrices of a batch one after another.
//
// The Fortran routines are those inside OpenBLAS, called directly: liblapacke would bring the system's chosen liblapack
// and libblas along, which may belong to another build of OpenBLAS than the one that is linked here.
//
// Fortran reads a row-major matrix as its transpose. Symmetric matrices, triangular factors and the SVD are written so
// that this costs nothing; elsewhere a matrix is transposed first.
#include <algorithm>
#include <cmath>
#include <cstddef>

#include "tenon/device/cpu/kernels.h"
#include "tenon/device/cpu/one_thread.h"
#include "tenon/ops/linalg_matrix.h"

// The lengths of the texts come last, as gfortran passes them.
extern "C" {
void dpotrf_(const char* uplo, const int* n, double* a, const int* lda, int* info, std::size_t);
void dgesv_(const int* n, const int* nrhs, double* a, const int* lda, int* pivots, double* b, const int* ldb,
            int* info);
void dtrtrs_(const char* uplo, const char* trans, const char* diag, const int* n, const int* nrhs, const double* a,
             const int* lda, double* b, const int* ldb, int* info, std::size_t, std::size_t, std::size_t);
void dgeqrf_(const int* m, const int* n, double* a, const int* lda, double* tau, double* work, const int* lwork,
             int* info);
void dorgqr_(const int* m, const int* n, const int* k, double* a, const int* lda, const double* tau, double* work,
             const int* lwork, int* info);
void dsyevd_(const char* jobz, const char* uplo, const int* n, double* a, const int* lda, double* w, double* work,
             const int* lwork, int* iwork, const int* liwork, int* info, std::size_t, std::size_t);
void dgesdd_(const char* jobz, const int* m, const int* n, double* a, const int* lda, double* s, double* u,
             const int* ldu, double* vt, const int* ldvt, double* work, const int* lwork, int* iwork, int* info,
             std::size_t);
}

namespace tenon::cpu {
namespace {

using ops::Matrix;

void for_each(const KernelArgs& args, const std::function<std::vector<Matrix>(int64_t, std::vector<Matrix>&)>& fn) {
  const OneThread one;
  ops::for_each_matrix({args.inputs, args.outputs, args.attrs}, fn);
}
int as_int(int64_t n) { return static_cast<int>(n); }
// LAPACK wants a leading dimension of at least 1 also of nothing.
int leading(int64_t n) { return as_int(std::max<int64_t>(n, 1)); }

Matrix transposed(const Matrix& x) {
  Matrix y(x.columns, x.rows);
  for (int64_t i = 0; i < x.rows; ++i) {
    for (int64_t j = 0; j < x.columns; ++j) y.at(j, i) = x.at(i, j);
  }
  return y;
}

// Calls a routine twice: for the size of the scratch memory that it wants, and with it. `call(work, lwork)` gives info.
template <class F>
int with_work(const F& call) {
  double wanted = 0;
  if (const int info = call(&wanted, -1); info != 0) return info;
  std::vector<double> work(static_cast<std::size_t>(std::max(wanted, 1.0)));
  return call(work.data(), as_int(static_cast<int64_t>(work.size())));
}

}  // namespace

void run_cholesky(const KernelArgs& args) {
  for_each(args, [](int64_t batch, std::vector<Matrix>& in) {
    Matrix& a = in[0];
    const int n = as_int(a.rows), ld = leading(n);
    int info = 0;
    // Fortran's upper triangle is our lower one, and its U^T U our L L^T.
    dpotrf_("U", &n, a.data.data(), &ld, &info, 1);
    if (info != 0) ops::fail_matrix("cholesky", batch, "not positive definite", "add a small multiple of eye(n)");
    for (int64_t i = 0; i < a.rows; ++i) {
      for (int64_t j = i + 1; j < a.rows; ++j) a.at(i, j) = 0;
    }
    return std::vector<Matrix>{a};
  });
}

void run_solve(const KernelArgs& args) {
  for_each(args, [](int64_t batch, std::vector<Matrix>& in) {
    Matrix a = transposed(in[0]), b = transposed(in[1]);
    const int n = as_int(a.rows), right = as_int(b.rows), ld = leading(n);
    std::vector<int> pivots(static_cast<size_t>(n) + 1);
    int info = 0;
    dgesv_(&n, &right, a.data.data(), &ld, pivots.data(), b.data.data(), &ld, &info);
    if (info != 0) ops::fail_matrix("solve", batch, "the matrix is singular", "lstsq(a, b), or pinv(a)");
    return std::vector<Matrix>{transposed(b)};
  });
}

void run_triangular_solve(const KernelArgs& args) {
  // The other triangle and the other side, because Fortran sees the transpose.
  const char triangle = args.attrs.flag(0) ? 'L' : 'U', side = args.attrs.flag(1) ? 'N' : 'T',
             diagonal = args.attrs.flag(2) ? 'U' : 'N';
  for_each(args, [&](int64_t batch, std::vector<Matrix>& in) {
    const Matrix& a = in[0];
    Matrix b = transposed(in[1]);
    const int n = as_int(a.rows), right = as_int(b.rows), ld = leading(n);
    int info = 0;
    dtrtrs_(&triangle, &side, &diagonal, &n, &right, a.data.data(), &ld, b.data.data(), &ld, &info, 1, 1, 1);
    if (info != 0) ops::fail_matrix("triangular_solve", batch, "singular: a zero on the diagonal");
    return std::vector<Matrix>{transposed(b)};
  });
}

void run_qr(const KernelArgs& args) {
  for_each(args, [](int64_t batch, std::vector<Matrix>& in) {
    for (double e : in[0].data) {
      if (!std::isfinite(e)) ops::fail_matrix("qr", batch, "NaN or infinity in the matrix");
    }
    Matrix a = transposed(in[0]);
    const int m = as_int(in[0].rows), n = as_int(in[0].columns), k = std::min(m, n), ld = leading(m);
    std::vector<double> tau(static_cast<size_t>(k) + 1);
    with_work([&](double* work, int size) {
      int info = 0;
      dgeqrf_(&m, &n, a.data.data(), &ld, tau.data(), work, &size, &info);
      return info;
    });
    Matrix r(k, n), q(k, m);
    for (int64_t i = 0; i < k; ++i) {
      for (int64_t j = i; j < n; ++j) r.at(i, j) = a.at(j, i);
      for (int64_t j = 0; j < m; ++j) q.at(i, j) = a.at(i, j);
    }
    with_work([&](double* work, int size) {
      int info = 0;
      dorgqr_(&m, &k, &k, q.data.data(), &ld, tau.data(), work, &size, &info);
      return info;
    });
    q = transposed(q);
    ops::fix_qr_signs(q, r);
    return std::vector<Matrix>{q, r};
  });
}

void run_eigh(const KernelArgs& args) {
  for_each(args, [](int64_t batch, std::vector<Matrix>& in) {
    Matrix& a = in[0];
    Matrix values(1, a.rows);
    const int n = as_int(a.rows), ld = leading(n);
    int wanted_integers = 1;
    std::vector<int> integers(1);
    const int info = with_work([&](double* work, int size) {
      const int count = size < 0 ? -1 : wanted_integers;
      if (count > 0) integers.resize(static_cast<size_t>(count));
      int result = 0;
      dsyevd_("V", "U", &n, a.data.data(), &ld, values.data.data(), work, &size, integers.data(), &count, &result, 1,
              1);
      if (size < 0) wanted_integers = std::max(1, integers[0]);
      return result;
    });
    if (info != 0)
      ops::fail_matrix("eigh", batch, "the iteration does not converge", "look for NaN or infinity in the matrix");
    Matrix vectors = transposed(a);
    ops::fix_vector_signs(vectors);
    return std::vector<Matrix>{values, vectors};
  });
}

void run_svd(const KernelArgs& args) {
  for_each(args, [](int64_t batch, std::vector<Matrix>& in) {
    Matrix& a = in[0];
    for (double e : a.data) {
      if (!std::isfinite(e)) ops::fail_matrix("svd", batch, "NaN or infinity in the matrix");
    }
    const int m = as_int(a.rows), n = as_int(a.columns), k = std::min(m, n);
    Matrix u(m, k), values(1, k), vh(k, n);
    // Fortran is given a^T = V S U^T: its V and U^T are our vh and u as they lie in memory.
    const int ld_n = leading(n), ld_k = leading(k);
    std::vector<int> integers(static_cast<size_t>(8 * k) + 1);
    const int info = k == 0 ? 0 : with_work([&](double* work, int size) {
      int result = 0;
      dgesdd_("S", &n, &m, a.data.data(), &ld_n, values.data.data(), vh.data.data(), &ld_n, u.data.data(), &ld_k, work,
              &size, integers.data(), &result, 1);
      return result;
    });
    if (info != 0) ops::fail_matrix("svd", batch, "the iteration does not converge");
    ops::fix_vector_signs(u, &vh);
    return std::vector<Matrix>{u, values, vh};
  });
}

}  // namespace tenon::cpu
