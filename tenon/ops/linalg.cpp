#include "tenon/ops/linalg.h"

#include <fmt/format.h>

#include "tenon/base/error.h"
#include "tenon/ops/call.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/infer.h"
#include "tenon/ops/linalg_reference.h"
#include "tenon/ops/matmul.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/reduce.h"

namespace tenon {
namespace ops {
namespace {

const Shape& square(const InferArgs& a) {
  expect_rank(a, 0, 2);
  const Shape& s = a.in[0].shape;
  if (s.back() != s[s.size() - 2]) fail_shape(a, "the matrix is not square", "[…, n, n]", to_string(s));
  return s;
}

Shape batch_of(const Shape& s) { return {s.begin(), s.end() - 2}; }
Shape with(Shape s, std::initializer_list<int64_t> last) {
  for (int64_t d : last) s.push_back(d);
  return s;
}

std::vector<TensorType> infer_solve(const InferArgs& a) {
  const Shape &m = square(a), &b = a.in[1].shape;
  expect_rank(a, 1, 2);
  if (batch_of(m) != batch_of(b) || b[b.size() - 2] != m.back())
    fail_shape(a, "the right side does not fit the matrix",
               to_string(with(batch_of(m), {m.back()})) + " and any columns", to_string(b));
  return {a.in[1]};
}

// What flows to a symmetric matrix of which only the lower triangle is read.
Tensor to_lower(const Tensor& g) { return tril(g) + tril(transpose(g), -1); }
// The lower triangle with half of the diagonal.
Tensor half_lower(const Tensor& x) { return (tril(x) + tril(x, -1)) * 0.5; }

const SampleInput kDefinite{.shape = {3, 3}, .values = {4, 1, 0.5, 1, 3, 0.2, 0.5, 0.2, 2}};
const SampleInput kTwoDefinite{.shape = {2, 2, 2}, .values = {2, 0.5, 0.5, 1, 3, -1, -1, 2}};
const SampleInput kTriangle{.shape = {3, 3}, .values = {2, 0.3, -0.4, 0.5, 1.5, 0.7, -0.6, 0.8, 2.5}};

OpDef matrix_def(std::string_view name, std::string_view doc, Primitive meaning) {
  OpDef def;
  def.name = name;
  def.doc = doc;
  def.inputs = {{"a", kFullFloats}};
  def.promote = kPromoteToFloat;
  def.meaning = meaning;
  def.batching = LeadingAxes{};
  def.tolerance = {2000, 1e-4};
  return def;
}

// S = L^-T phi(L^T ct) L^-1, with phi the lower triangle with half of the diagonal.
Tensors cholesky_vjp(const VjpArgs& a) {
  const Tensor& l = a.out[0];
  const TriangularOptions back{.transpose = true};
  const Tensor middle = half_lower(matmul(transpose(l), tril(a.ct[0])));
  const Tensor left = triangular_solve(l, middle, back);                   // L^-T phi
  const Tensor s = transpose(triangular_solve(l, transpose(left), back));  // … L^-1
  const Tensor both = (s + transpose(s)) * 0.5;
  return {to_lower(both)};
}

}  // namespace

const OpDef& cholesky_op() {
  static const OpDef def = [] {
    OpDef d =
        matrix_def("cholesky",
                   "Lower triangular L with L L^T = a for a symmetric positive definite matrix of which the lower "
                   "triangle is read.",
                   Primitive{cholesky_reference});
    d.infer = [](const InferArgs& a) { return std::vector<TensorType>{{a.in[0].dtype, square(a)}}; };
    d.gradient = Vjp{cholesky_vjp, 0, bit(0)};
    d.samples = [] { return std::vector<Sample>{{{kDefinite}}, {{kTwoDefinite}}}; };
    d.invalid_samples = [] {
      return std::vector<InvalidSample>{{{{{2, 3}}}, {}, "not square"},
                                        {{{.shape = {2, 2}, .values = {1, 2, 2, 1}}}, {}, "not positive definite"}};
    };
    return d;
  }();
  return def;
}

const OpDef& triangular_solve_op() {
  static const OpDef def = [] {
    OpDef d = matrix_def("triangular_solve",
                         "x with a x = b (or a^T x = b) for a triangular matrix; the other triangle "
                         "is not read.",
                         Primitive{triangular_solve_reference});
    d.inputs = {{"a", kFullFloats}, {"b", kFullFloats}};
    d.attrs = {{"upper", 1, ir::AttrType::Flag, "the upper triangle is read"},
               {"transpose", 2, ir::AttrType::Flag, "solve with a^T"},
               {"unit_diagonal", 3, ir::AttrType::Flag, "the diagonal is 1"}};
    d.infer = infer_solve;
    d.gradient = Vjp{[](const VjpArgs& a) {
                       const bool upper = a.attrs.flag(0), transposed = a.attrs.flag(1), unit = a.attrs.flag(2);
                       const Tensor& x = a.out[0];
                       const Tensor g = triangular_solve(
                           a.in[0], a.ct[0], {.upper = upper, .transpose = !transposed, .unit_diagonal = unit});
                       Tensor da = transposed ? matmul(x, transpose(g)) : matmul(g, transpose(x));
                       da = upper ? triu(da, unit ? 1 : 0) : tril(da, unit ? -1 : 0);
                       return Tensors{-da, g};
                     },
                     bit(0), bit(0)};
    d.samples = [] {
      std::vector<Sample> list;
      for (const auto& [upper, transposed, unit] :
           {std::array{false, false, false}, {true, false, false}, {false, true, false}, {true, true, true}})
        list.push_back({{kTriangle, {{3, 2}}}, {upper, transposed, unit}});
      list.push_back({{kTwoDefinite, {{2, 2, 1}}}, {false, false, false}});
      return list;
    };
    d.invalid_samples = [] {
      return std::vector<InvalidSample>{
          {{{{3, 3}}, {{2, 1}}}, {false, false, false}, "does not fit the matrix"},
          {{{.shape = {2, 2}, .values = {1, 0, 1, 0}}, {{2, 1}}}, {false, false, false}, "singular"}};
    };
    return d;
  }();
  return def;
}

const OpDef& solve_op() {
  static const OpDef def = [] {
    OpDef d = matrix_def("solve", "x with a x = b.", Primitive{solve_reference});
    d.inputs = {{"a", kFullFloats}, {"b", kFullFloats}};
    d.infer = infer_solve;
    d.gradient = Vjp{[](const VjpArgs& a) {
                       const Tensor g = call1(solve_op(), {transpose(a.in[0]), a.ct[0]});
                       return Tensors{-matmul(g, transpose(a.out[0])), g};
                     },
                     bit(0), bit(0)};
    d.samples = [] { return std::vector<Sample>{{{kTriangle, {{3, 2}}}}, {{kTwoDefinite, {{2, 2, 3}}}}}; };
    d.invalid_samples = [] {
      return std::vector<InvalidSample>{{{{{3, 2}}, {{3, 1}}}, {}, "not square"},
                                        {{{.shape = {2, 2}, .values = {1, 2, 2, 4}}, {{2, 1}}}, {}, "singular"}};
    };
    return d;
  }();
  return def;
}

namespace {

const OpDef& slogdet_op() {
  static const OpDef def = [] {
    OpDef d = matrix_def("slogdet", "The sign of the determinant and the logarithm of its magnitude.",
                         Primitive{slogdet_reference});
    d.results = 2;
    d.infer = [](const InferArgs& a) {
      const TensorType one{a.in[0].dtype, batch_of(square(a))};
      return std::vector<TensorType>{one, one};
    };
    d.gradient = Vjp{[](const VjpArgs& a) {
                       if (!a.ct[1].defined()) return Tensors{Tensor()};
                       return Tensors{transpose(inverse(a.in[0])) * unsqueeze(a.ct[1], {-2, -1})};
                     },
                     bit(0), 0};
    d.differentiable_results = bit(1);  // the sign is piecewise constant
    d.samples = [] { return std::vector<Sample>{{{kTriangle}}, {{kTwoDefinite}}}; };
    d.invalid_samples = [] { return std::vector<InvalidSample>{{{{{2, 3}}}, {}, "not square"}}; };
    return d;
  }();
  return def;
}

// With M = R ct_R^T - ct_Q^T Q: (ct_Q + Q copyltu(M)) R^-T, where copyltu mirrors the lower triangle.
Tensors qr_vjp(const VjpArgs& a) {
  const Tensor &q = a.out[0], &r = a.out[1];
  if (q.shape(-1) < r.shape(-1))
    throw GradientError(
        {"qr", "no gradient for a matrix with more columns than rows", {}, to_string(a.in_types[0].shape), {}});
  const Tensor gq = a.ct[0].defined() ? a.ct[0] : zeros_like(q.detach()),
               gr = a.ct[1].defined() ? a.ct[1] : zeros_like(r.detach());
  const Tensor m = matmul(r, transpose(gr)) - matmul(transpose(gq), q);
  const Tensor mirrored = tril(m) + transpose(tril(m, -1));
  const Tensor left = gq + matmul(q, mirrored);
  return {transpose(triangular_solve(r, transpose(left), {.upper = true}))};
}

}  // namespace

const OpDef& qr_op() {
  static const OpDef def = [] {
    OpDef d =
        matrix_def("qr", "a = q r with orthonormal columns in q and an upper triangular r without negative diagonal.",
                   Primitive{qr_reference});
    d.results = 2;
    d.infer = [](const InferArgs& a) {
      expect_rank(a, 0, 2);
      const Shape& s = a.in[0].shape;
      const int64_t m = s[s.size() - 2], n = s.back(), k = std::min(m, n);
      return std::vector<TensorType>{{a.in[0].dtype, with(batch_of(s), {m, k})},
                                     {a.in[0].dtype, with(batch_of(s), {k, n})}};
    };
    d.gradient = Vjp{qr_vjp, 0, bit(0) | bit(1)};
    d.samples = [] {
      return std::vector<Sample>{{{{{4, 3}}}}, {{{{2, 3, 3}}}}, {{{.shape = {2, 3}, .differentiable = false}}}};
    };
    d.invalid_samples = [] { return std::vector<InvalidSample>{{{{{3}}}, {}, "axes"}}; };
    return d;
  }();
  return def;
}

namespace {

const OpDef& orthogonal_complement_op() {
  static const OpDef def = [] {
    OpDef d =
        matrix_def("orthogonal_complement",
                   "Orthonormal columns [m, m - k] orthogonal to the k orthonormal columns of q: unit vectors, the "
                   "one farthest from what is spanned first, made orthogonal.",
                   Primitive{complement_reference});
    d.inputs = {{"q", kFullFloats}};
    d.infer = [](const InferArgs& a) {
      expect_rank(a, 0, 2);
      const Shape& s = a.in[0].shape;
      const int64_t m = s[s.size() - 2], k = s.back();
      if (k > m) fail_shape(a, "more columns than rows cannot be orthonormal", "k <= m", to_string(s));
      return std::vector<TensorType>{{a.in[0].dtype, with(batch_of(s), {m, m - k})}};
    };
    d.gradient = NotDifferentiable{"the columns that complete a basis are a choice: only the space they span is given"};
    d.samples = [] {
      return std::vector<Sample>{{{{{3, 1}, 0, 0, {0.6, 0, 0.8}}}},
                                 {{{{2, 3, 2}, 0, 0, {1, 0, 0, 0.6, 0, 0.8, 0, 0, 1, 0, 0, 1}}}}};
    };
    d.invalid_samples = [] { return std::vector<InvalidSample>{{{{{2, 3}}}, {}, "cannot be orthonormal"}}; };
    return d;
  }();
  return def;
}

// 1 / (v_j - v_i) beside the diagonal, 0 on it.
Tensor inverse_gaps(const Tensor& v) {
  const Tensor gap = unsqueeze(v, {-2}) - unsqueeze(v, {-1});
  const Tensor diagonal = eye(v.shape(-1), v.shape(-1), v.dtype());
  return (1 - diagonal) / (gap + diagonal);
}

Tensors eigh_vjp(const VjpArgs& a) {
  const Tensor &w = a.out[0], &v = a.out[1];
  Tensor middle = zeros(v.shape(), v.dtype());
  if (a.ct[1].defined()) middle = inverse_gaps(w) * matmul(transpose(v), a.ct[1]);
  if (a.ct[0].defined()) middle = middle + unsqueeze(a.ct[0], {-1}) * eye(w.shape(-1), w.shape(-1), w.dtype());
  const Tensor g = matmul(matmul(v, middle), transpose(v));
  return {to_lower((g + transpose(g)) * 0.5)};
}

Tensors svd_vjp(const VjpArgs& a) {
  const Tensor &u = a.out[0], &s = a.out[1], &vh = a.out[2];
  const Tensor v = transpose(vh), row = unsqueeze(s, {-2}), column = unsqueeze(s, {-1});
  Tensor g;
  const auto add = [&](const Tensor& part) { g = g.defined() ? g + part : part; };
  const Tensor gaps = inverse_gaps(s * s);
  if (a.ct[1].defined()) add(matmul(u * unsqueeze(a.ct[1], {-2}), vh));
  if (a.ct[0].defined()) {
    const Tensor m = matmul(transpose(u), a.ct[0]);
    Tensor inner = matmul(u, gaps * (m - transpose(m))) * row;
    if (u.shape(-2) > u.shape(-1)) inner = inner + (a.ct[0] - matmul(u, m)) / row;
    add(matmul(inner, vh));
  }
  if (a.ct[2].defined()) {
    const Tensor gv = transpose(a.ct[2]), m = matmul(vh, gv);
    Tensor inner = column * matmul(gaps * (m - transpose(m)), vh);
    if (v.shape(-2) > v.shape(-1)) inner = inner + transpose(gv - matmul(v, m)) / column;
    add(matmul(u, inner));
  }
  return {g};
}

}  // namespace

const OpDef& eigh_op() {
  static const OpDef def = [] {
    OpDef d = matrix_def(
        "eigh", "Eigenvalues, rising, and eigenvectors of a symmetric matrix of which the lower triangle is read.",
        Primitive{eigh_reference});
    d.results = 2;
    d.infer = [](const InferArgs& a) {
      const Shape& s = square(a);
      return std::vector<TensorType>{{a.in[0].dtype, with(batch_of(s), {s.back()})}, {a.in[0].dtype, s}};
    };
    d.gradient = Vjp{eigh_vjp, 0, bit(0) | bit(1)};
    d.samples = [] { return std::vector<Sample>{{{kDefinite}}, {{kTwoDefinite}}}; };
    d.invalid_samples = [] { return std::vector<InvalidSample>{{{{{2, 3}}}, {}, "not square"}}; };
    return d;
  }();
  return def;
}

const OpDef& svd_op() {
  static const OpDef def = [] {
    OpDef d = matrix_def("svd", "a = u diag(s) vh with orthonormal columns in u and rows in vh, and s falling.",
                         Primitive{svd_reference});
    d.results = 3;
    d.infer = [](const InferArgs& a) {
      expect_rank(a, 0, 2);
      const Shape& s = a.in[0].shape;
      const Shape batch = batch_of(s);
      const int64_t m = s[s.size() - 2], n = s.back(), k = std::min(m, n);
      const DType t = a.in[0].dtype;
      return std::vector<TensorType>{{t, with(batch, {m, k})}, {t, with(batch, {k})}, {t, with(batch, {k, n})}};
    };
    d.gradient = Vjp{svd_vjp, 0, bit(0) | bit(1) | bit(2)};
    d.samples = [] {
      const SampleInput tall{.shape = {3, 2}, .values = {2, 0.5, -1, 1.5, 0.3, 0.8}};
      SampleInput wide = tall;
      wide.shape = {2, 3};
      return std::vector<Sample>{{{tall}}, {{wide}}, {{kTriangle}}};
    };
    d.invalid_samples = [] { return std::vector<InvalidSample>{{{{{3}}}, {}, "axes"}}; };
    return d;
  }();
  return def;
}

std::vector<const OpDef*> linalg_ops() {
  return {&cholesky_op(), &triangular_solve_op(),      &solve_op(), &slogdet_op(),
          &qr_op(),       &orthogonal_complement_op(), &eigh_op(),  &svd_op()};
}

}  // namespace ops

namespace {

Tensor symmetric(const Tensor& a) {
  if (a.ndim() < 2 || a.shape(-1) != a.shape(-2))
    throw ShapeError({"cholesky or eigh", "the matrix is not square", "[…, n, n]", to_string(a.shape()), {}});
  return (a + transpose(a)) * 0.5;
}

// Both with the batch that they broadcast to.
std::pair<Tensor, Tensor> with_common_batch(const char* where, const Tensor& a, const Tensor& b) {
  if (a.ndim() < 2 || b.ndim() < 2)
    throw ShapeError({where, "not matrices", "[…, n, n] and […, n, k]",
                      to_string(a.shape()) + " and " + to_string(b.shape()), "unsqueeze(b, {-1}) for one right side"});
  const auto batch = [](const Tensor& x) { return Shape(x.shape().begin(), x.shape().end() - 2); };
  const Shape common = broadcast_shapes(where, batch(a), batch(b));
  const auto grown = [&](const Tensor& x) {
    Shape s = common;
    s.push_back(x.shape(-2));
    s.push_back(x.shape(-1));
    return expand(x, s);
  };
  return {grown(a), grown(b)};
}

}  // namespace

Tensor cholesky(const Tensor& a) { return ops::call1(ops::cholesky_op(), {symmetric(a)}); }
Tensor triangular_solve(const Tensor& a, const Tensor& b, const TriangularOptions& options) {
  const auto [m, right] = with_common_batch("triangular_solve", a, b);
  return ops::call1(ops::triangular_solve_op(), {m, right}, {options.upper, options.transpose, options.unit_diagonal});
}
Tensor solve(const Tensor& a, const Tensor& b) {
  const auto [m, right] = with_common_batch("solve", a, b);
  return ops::call1(ops::solve_op(), {m, right});
}
Tensor inverse(const Tensor& a) {
  if (a.ndim() < 2 || a.shape(-1) != a.shape(-2))
    throw ShapeError({"inverse", "the matrix is not square", "[…, n, n]", to_string(a.shape()),
                      "pinv(a), the Moore-Penrose inverse, is for any matrix"});
  return solve(a, eye(a.shape(-1), a.shape(-1), a.dtype()));
}
QR qr(const Tensor& a, QRMode mode) {
  if (a.ndim() >= 2 && a.shape(-1) > a.shape(-2) && a.requires_grad()) {
    // The square part decides q; r of the other columns is a product. So the gradient is that of a square matrix.
    const int64_t m = a.shape(-2);
    const QR left = qr(narrow(a, -1, 0, m));
    return {left.q, concat({left.r, matmul(transpose(left.q), narrow(a, -1, m, a.shape(-1) - m))}, -1)};
  }
  Tensors r = ops::call(ops::qr_op(), {a});
  const int64_t more = a.shape(-2) - r[0].shape(-1);
  if (mode == QRMode::Reduced || more <= 0) return {r[0], r[1]};
  Shape below = r[1].shape();
  below[below.size() - 2] = more;
  return {concat({r[0], ops::call1(ops::orthogonal_complement_op(), {r[0]})}, -1),
          concat({r[1], zeros(below, r[1].dtype())}, -2)};
}
SVD svd(const Tensor& a) {
  Tensors r = ops::call(ops::svd_op(), {a});
  return {r[0], r[1], r[2]};
}
Tensor singular_values(const Tensor& a) { return svd(a).s; }
Eigh eigh(const Tensor& a) {
  Tensors r = ops::call(ops::eigh_op(), {symmetric(a)});
  return {r[0], r[1]};
}
LogDeterminant slogdet(const Tensor& a) {
  Tensors r = ops::call(ops::slogdet_op(), {a});
  return {r[0], r[1]};
}
Tensor det(const Tensor& a) {
  const LogDeterminant d = slogdet(a);
  return d.sign * exp(d.log_magnitude);
}
Tensor pinv(const Tensor& a, double tolerance) {
  const SVD d = svd(a);
  const Tensor limit = max(d.s, {-1}, true) * tolerance;
  const Tensor keep = d.s > limit;
  const Tensor inverse_s = where(keep, 1 / where(keep, d.s, ones_like(d.s)), zeros_like(d.s));
  return matmul(transpose(d.vh) * unsqueeze(inverse_s, {-2}), transpose(d.u));
}
Tensor lstsq(const Tensor& a, const Tensor& b, double tolerance) { return matmul(pinv(a, tolerance), b); }
Tensor matrix_trace(const Tensor& a) { return sum(diagonal(a), {-1}); }

Tensor tensordot(const Tensor& a, const Tensor& b, int64_t axes) {
  if (axes < 0 || axes > a.ndim() || axes > b.ndim())
    throw ValueError({"tensordot", "the number of axes does not fit", {}, std::to_string(axes), {}});
  const Shape kept(a.shape().begin(), a.shape().end() - axes), inner(a.shape().end() - axes, a.shape().end());
  const Shape other(b.shape().begin(), b.shape().begin() + axes), rest(b.shape().begin() + axes, b.shape().end());
  if (inner != other)
    throw ShapeError({"tensordot", "the axes to sum over differ", to_string(inner), to_string(other), {}});
  Shape shape = kept;
  for (int64_t d : rest) shape.push_back(d);
  return reshape(matmul(reshape(a, {numel(kept), numel(inner)}), reshape(b, {numel(inner), numel(rest)})), shape);
}

Tensor kron(const Tensor& a, const Tensor& b) {
  if (a.ndim() != 2 || b.ndim() != 2)
    throw ShapeError(
        {"kron", "not two matrices", "[m, n] and [p, q]", to_string(a.shape()) + " and " + to_string(b.shape()), {}});
  const Tensor blocks = unsqueeze(a, {1, 3}) * unsqueeze(b, {0, 2});
  return reshape(blocks, {a.shape(0) * b.shape(0), a.shape(1) * b.shape(1)});
}

}  // namespace tenon
