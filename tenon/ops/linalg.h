// Linear algebra on matrices [..., m, n]; leading axes are a batch.
//
// f32 and f64 (computed in f64). Decompositions that leave signs open choose them: R has no negative diagonal, and in
// each singular vector of U and each eigenvector the component of largest magnitude is positive, so that results are
// reproducible and differentiable. Gradients: Giles, "Collected matrix derivative results" (2008), Murray,
// arXiv 1602.07527 (Cholesky), Walter and Lehmann (QR, 2010), Townsend (SVD, 2016); they are infinite where eigenvalues
// or singular values coincide. Errors: ShapeError for matrices that are not square or do not fit; NumericError naming
// the op and the matrix of the batch that is singular, not positive definite, or does not converge.
#pragma once

#include "tenon/ops/opdef.h"

namespace tenon {

// Lower triangular L with L L^T = a, for symmetric positive definite a (the mean of a and its transpose is taken).
Tensor cholesky(const Tensor& a);

struct TriangularOptions {
  bool upper = false;          // which triangle of a is read
  bool transpose = false;      // solve a^T x = b
  bool unit_diagonal = false;  // the diagonal is not read but taken as 1
};
// x with a x = b: a is [..., n, n], b is [..., n, k]; batches broadcast.
Tensor triangular_solve(const Tensor& a, const Tensor& b, const TriangularOptions& options = {});
// x with a x = b for any invertible a.
Tensor solve(const Tensor& a, const Tensor& b);
Tensor inverse(const Tensor& a);

// a = q r: q [..., m, k] has orthonormal columns, r [..., k, n] is upper triangular, k = min(m, n). Complete: q is
// square and r has rows of zeros below; the columns that complete q are a choice, through which no gradient flows.
enum class QRMode : uint8_t { Reduced, Complete };
struct QR {
  Tensor q, r;
};
QR qr(const Tensor& a, QRMode mode = QRMode::Reduced);

// a = u diag(s) vh: u [..., m, k], s [..., k] falling, vh [..., k, n], k = min(m, n).
struct SVD {
  Tensor u, s, vh;
};
SVD svd(const Tensor& a);
Tensor singular_values(const Tensor& a);

// Eigenvalues (rising) and eigenvectors (columns) of a symmetric matrix (the mean of a and its transpose is taken).
struct Eigh {
  Tensor values, vectors;
};
Eigh eigh(const Tensor& a);

// Sign and logarithm of the magnitude of the determinant; of a singular matrix 0 and -inf.
struct LogDeterminant {
  Tensor sign, log_magnitude;
};
LogDeterminant slogdet(const Tensor& a);
Tensor det(const Tensor& a);

// The Moore-Penrose inverse: singular values up to `tolerance` times the largest count as zero.
Tensor pinv(const Tensor& a, double tolerance = 1e-6);
// x of least |a x - b|, and among those the shortest; by pinv.
Tensor lstsq(const Tensor& a, const Tensor& b, double tolerance = 1e-6);
Tensor matrix_trace(const Tensor& a);  // the sum of the diagonal
// Sums over the last `axes` axes of a and the first of b (numpy.tensordot).
Tensor tensordot(const Tensor& a, const Tensor& b, int64_t axes = 2);
Tensor kron(const Tensor& a, const Tensor& b);  // the Kronecker product of two matrices

namespace ops {
const OpDef& cholesky_op();
const OpDef& triangular_solve_op();  // attributes upper, transpose, unit_diagonal
const OpDef& solve_op();
const OpDef& qr_op();
const OpDef& svd_op();
const OpDef& eigh_op();
std::vector<const OpDef*> linalg_ops();
}  // namespace ops

}  // namespace tenon
