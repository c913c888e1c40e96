#include "tenon/ops/linalg_reference.h"

#include <fmt/format.h>

#include <numeric>

#include "tenon/base/error.h"
#include "tenon/tensor/element.h"

namespace tenon::ops {

void fail_matrix(std::string_view op, int64_t batch, std::string problem, std::string hint) {
  throw NumericError(
      {std::string(op), fmt::format("{} (matrix {} of the batch)", problem, batch), {}, {}, std::move(hint)});
}

namespace {

// The window of matrix number `batch`: the last two axes, or the last one as one row.
struct Window2 {
  int64_t offset, rows, columns, row_stride, column_stride;
};
template <class V>
Window2 window_of(const V& v, size_t batch_rank, int64_t batch, const Shape& extents) {
  Window2 w{v.offset, 1, 1, 0, 0};
  for (size_t k = batch_rank; k-- > 0;) {
    w.offset += (batch % extents[k]) * v.strides[k];
    batch /= extents[k];
  }
  if (v.shape.size() >= batch_rank + 1) {
    w.columns = v.shape.back();
    w.column_stride = v.strides.back();
  }
  if (v.shape.size() == batch_rank + 2) {
    w.rows = v.shape[batch_rank];
    w.row_stride = v.strides[batch_rank];
  }
  return w;
}

}  // namespace

void for_each_matrix(const ReferenceArgs& args,
                     const std::function<std::vector<Matrix>(int64_t, std::vector<Matrix>&)>& fn) {
  const size_t batch_rank = args.inputs[0].shape.size() - 2;
  const Shape extents(args.inputs[0].shape.begin(),
                      args.inputs[0].shape.begin() + static_cast<std::ptrdiff_t>(batch_rank));
  for (int64_t b = 0; b < numel(extents); ++b) {
    std::vector<Matrix> in;
    for (const ConstView& v : args.inputs) {
      const Window2 w = window_of(v, batch_rank, b, extents);
      Matrix m(w.rows, w.columns);
      for (int64_t i = 0; i < w.rows; ++i) {
        for (int64_t j = 0; j < w.columns; ++j)
          m.at(i, j) = load_real(v, w.offset + i * w.row_stride + j * w.column_stride);
      }
      in.push_back(std::move(m));
    }
    const std::vector<Matrix> out = fn(b, in);
    for (size_t k = 0; k < out.size(); ++k) {
      const View& v = args.outputs[k];
      const Window2 w = window_of(v, batch_rank, b, extents);
      for (int64_t i = 0; i < w.rows; ++i) {
        for (int64_t j = 0; j < w.columns; ++j)
          store_real(v, w.offset + i * w.row_stride + j * w.column_stride, out[k].at(i, j));
      }
    }
  }
}

void fix_qr_signs(Matrix& q, Matrix& r) {
  for (int64_t k = 0; k < r.rows; ++k) {
    if (k >= r.columns || r.at(k, k) >= 0) continue;
    for (int64_t j = 0; j < r.columns; ++j) r.at(k, j) = -r.at(k, j);
    for (int64_t i = 0; i < q.rows; ++i) q.at(i, k) = -q.at(i, k);
  }
}

void fix_vector_signs(Matrix& columns, Matrix* rows) {
  for (int64_t k = 0; k < columns.columns; ++k) {
    int64_t largest = 0;
    for (int64_t i = 1; i < columns.rows; ++i) {
      // Near ties are decided by the first, so that rounding does not decide.
      if (std::abs(columns.at(i, k)) > std::abs(columns.at(largest, k)) * (1 + 1e-6)) largest = i;
    }
    if (columns.rows == 0 || columns.at(largest, k) >= 0) continue;
    for (int64_t i = 0; i < columns.rows; ++i) columns.at(i, k) = -columns.at(i, k);
    for (int64_t j = 0; rows && j < rows->columns; ++j) rows->at(k, j) = -rows->at(k, j);
  }
}

void cholesky_reference(const ReferenceArgs& args) {
  for_each_matrix(args, [](int64_t batch, std::vector<Matrix>& in) {
    const Matrix& a = in[0];
    Matrix l(a.rows, a.rows);
    for (int64_t j = 0; j < a.rows; ++j) {
      for (int64_t i = j; i < a.rows; ++i) {
        double v = a.at(i, j);
        for (int64_t k = 0; k < j; ++k) v -= l.at(i, k) * l.at(j, k);
        if (i == j && !(v > 0))
          fail_matrix("cholesky", batch, "not positive definite", "add a small multiple of eye(n)");
        l.at(i, j) = i == j ? std::sqrt(v) : v / l.at(j, j);
      }
    }
    return std::vector<Matrix>{l};
  });
}

void triangular_solve_reference(const ReferenceArgs& args) {
  const bool upper = args.attrs.flag(0), transposed = args.attrs.flag(1), unit = args.attrs.flag(2);
  for_each_matrix(args, [&](int64_t batch, std::vector<Matrix>& in) {
    const Matrix& a = in[0];
    Matrix& x = in[1];
    const int64_t n = a.rows;
    const auto entry = [&](int64_t i, int64_t j) { return transposed ? a.at(j, i) : a.at(i, j); };
    const bool from_end = upper != transposed;
    for (int64_t step = 0; step < n; ++step) {
      const int64_t i = from_end ? n - 1 - step : step;
      if (!unit && entry(i, i) == 0) fail_matrix("triangular_solve", batch, "singular: a zero on the diagonal");
      for (int64_t c = 0; c < x.columns; ++c) {
        double v = x.at(i, c);
        for (int64_t j = from_end ? i + 1 : 0; j < (from_end ? n : i); ++j) v -= entry(i, j) * x.at(j, c);
        x.at(i, c) = unit ? v : v / entry(i, i);
      }
    }
    return std::vector<Matrix>{x};
  });
}

namespace {

// Gauss with the largest pivot of each column; gives the sign of the permutation, 0 if singular. `b` goes along.
int eliminate(Matrix& a, Matrix* b) {
  int sign = 1;
  for (int64_t k = 0; k < a.rows; ++k) {
    int64_t pivot = k;
    for (int64_t i = k + 1; i < a.rows; ++i) {
      if (std::abs(a.at(i, k)) > std::abs(a.at(pivot, k))) pivot = i;
    }
    if (a.at(pivot, k) == 0 || std::isnan(a.at(pivot, k))) return 0;
    if (pivot != k) {
      sign = -sign;
      for (int64_t j = 0; j < a.columns; ++j) std::swap(a.at(k, j), a.at(pivot, j));
      for (int64_t j = 0; b && j < b->columns; ++j) std::swap(b->at(k, j), b->at(pivot, j));
    }
    for (int64_t i = k + 1; i < a.rows; ++i) {
      const double f = a.at(i, k) / a.at(k, k);
      if (f == 0) continue;
      for (int64_t j = k; j < a.columns; ++j) a.at(i, j) -= f * a.at(k, j);
      for (int64_t j = 0; b && j < b->columns; ++j) b->at(i, j) -= f * b->at(k, j);
    }
  }
  return sign;
}

}  // namespace

void solve_reference(const ReferenceArgs& args) {
  for_each_matrix(args, [](int64_t batch, std::vector<Matrix>& in) {
    Matrix &a = in[0], &x = in[1];
    if (eliminate(a, &x) == 0) fail_matrix("solve", batch, "the matrix is singular", "lstsq(a, b), or pinv(a)");
    for (int64_t i = a.rows; i-- > 0;) {
      for (int64_t c = 0; c < x.columns; ++c) {
        double v = x.at(i, c);
        for (int64_t j = i + 1; j < a.rows; ++j) v -= a.at(i, j) * x.at(j, c);
        x.at(i, c) = v / a.at(i, i);
      }
    }
    return std::vector<Matrix>{x};
  });
}

void slogdet_reference(const ReferenceArgs& args) {
  for_each_matrix(args, [](int64_t, std::vector<Matrix>& in) {
    Matrix& a = in[0];
    Matrix sign(1, 1), magnitude(1, 1);
    int s = eliminate(a, nullptr);
    double total = 0;
    for (int64_t k = 0; s != 0 && k < a.rows; ++k) {
      if (a.at(k, k) < 0) s = -s;
      total += std::log(std::abs(a.at(k, k)));
    }
    sign.at(0, 0) = s;
    magnitude.at(0, 0) = s == 0 ? -INFINITY : total;
    return std::vector<Matrix>{sign, magnitude};
  });
}

// Modified Gram-Schmidt, twice over each column.
void qr_reference(const ReferenceArgs& args) {
  for_each_matrix(args, [](int64_t, std::vector<Matrix>& in) {
    const Matrix& a = in[0];
    const int64_t m = a.rows, n = a.columns, k = std::min(m, n);
    Matrix q(m, k), r(k, n);
    for (int64_t j = 0; j < n; ++j) {
      std::vector<double> v(static_cast<size_t>(m));
      for (int64_t i = 0; i < m; ++i) v[static_cast<size_t>(i)] = a.at(i, j);
      for (int pass = 0; pass < 2; ++pass) {
        for (int64_t p = 0; p < std::min(j, k); ++p) {
          double dot = 0;
          for (int64_t i = 0; i < m; ++i) dot += q.at(i, p) * v[static_cast<size_t>(i)];
          for (int64_t i = 0; i < m; ++i) v[static_cast<size_t>(i)] -= dot * q.at(i, p);
          r.at(p, j) += dot;
        }
      }
      if (j >= k) continue;
      double length = 0;
      for (double e : v) length += e * e;
      length = std::sqrt(length);
      r.at(j, j) = length;
      for (int64_t i = 0; i < m; ++i) q.at(i, j) = length == 0 ? 0 : v[static_cast<size_t>(i)] / length;
    }
    return std::vector<Matrix>{q, r};
  });
}

// Each time the unit vector that is farthest from what is spanned already, made orthogonal to it, twice.
void complement_reference(const ReferenceArgs& args) {
  for_each_matrix(args, [](int64_t, std::vector<Matrix>& in) {
    const Matrix& q = in[0];
    const int64_t m = q.rows, k = std::min(q.columns, m);
    Matrix all(m, m), rest(m, m - k);
    for (int64_t i = 0; i < m; ++i) {
      for (int64_t j = 0; j < k; ++j) all.at(i, j) = q.at(i, j);
    }
    for (int64_t c = k; c < m; ++c) {
      int64_t farthest = 0;
      double least = 2;
      for (int64_t i = 0; i < m; ++i) {
        double within = 0;
        for (int64_t j = 0; j < c; ++j) within += all.at(i, j) * all.at(i, j);
        if (within < least - 1e-9) {  // near ties go to the first, so that rounding does not decide
          least = within;
          farthest = i;
        }
      }
      std::vector<double> v(static_cast<size_t>(m), 0.0);
      v[static_cast<size_t>(farthest)] = 1;
      for (int pass = 0; pass < 2; ++pass) {
        for (int64_t j = 0; j < c; ++j) {
          double dot = 0;
          for (int64_t i = 0; i < m; ++i) dot += all.at(i, j) * v[static_cast<size_t>(i)];
          for (int64_t i = 0; i < m; ++i) v[static_cast<size_t>(i)] -= dot * all.at(i, j);
        }
      }
      double length = 0;
      for (const double e : v) length += e * e;
      length = std::sqrt(length);
      for (int64_t i = 0; i < m; ++i) {
        all.at(i, c) = v[static_cast<size_t>(i)] / length;
        rest.at(i, c - k) = all.at(i, c);
      }
    }
    return std::vector<Matrix>{rest};
  });
}

namespace {

// Columns of `vectors` and entries of `values` in the order of `order`.
void reorder(Matrix& vectors, std::vector<double>& values, const std::vector<size_t>& order) {
  Matrix sorted(vectors.rows, vectors.columns);
  std::vector<double> v;
  for (size_t k = 0; k < order.size(); ++k) {
    v.push_back(values[order[k]]);
    for (int64_t i = 0; i < vectors.rows; ++i)
      sorted.at(i, static_cast<int64_t>(k)) = vectors.at(i, static_cast<int64_t>(order[k]));
  }
  vectors = std::move(sorted);
  values = std::move(v);
}

}  // namespace

// Jacobi's rotations until nothing is left beside the diagonal.
void eigh_reference(const ReferenceArgs& args) {
  for_each_matrix(args, [](int64_t batch, std::vector<Matrix>& in) {
    Matrix& a = in[0];
    const int64_t n = a.rows;
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = i + 1; j < n; ++j) a.at(i, j) = a.at(j, i);  // the lower triangle counts
    }
    Matrix v(n, n);
    for (int64_t i = 0; i < n; ++i) v.at(i, i) = 1;
    bool done = false;
    for (int sweep = 0; sweep < 100 && !done; ++sweep) {
      double off = 0, all = 0;
      for (int64_t i = 0; i < n; ++i) {
        for (int64_t j = 0; j < n; ++j) {
          all += a.at(i, j) * a.at(i, j);
          if (i != j) off += a.at(i, j) * a.at(i, j);
        }
      }
      done = off <= 1e-29 * all;  // squares: rounding alone leaves 1e-31
      for (int64_t p = 0; p < n && !done; ++p) {
        for (int64_t q = p + 1; q < n; ++q) {
          if (a.at(p, q) == 0) continue;
          const double theta = (a.at(q, q) - a.at(p, p)) / (2 * a.at(p, q));
          const double t = (theta >= 0 ? 1 : -1) / (std::abs(theta) + std::sqrt(theta * theta + 1));
          const double c = 1 / std::sqrt(t * t + 1), s = t * c;
          for (int64_t k = 0; k < n; ++k) {
            const double x = a.at(k, p), y = a.at(k, q);
            a.at(k, p) = c * x - s * y;
            a.at(k, q) = s * x + c * y;
          }
          for (int64_t k = 0; k < n; ++k) {
            const double x = a.at(p, k), y = a.at(q, k);
            a.at(p, k) = c * x - s * y;
            a.at(q, k) = s * x + c * y;
            const double u = v.at(k, p), w = v.at(k, q);
            v.at(k, p) = c * u - s * w;
            v.at(k, q) = s * u + c * w;
          }
        }
      }
    }
    if (!done) fail_matrix("eigh", batch, "the iteration does not converge", "look for NaN or infinity in the matrix");
    std::vector<double> w;
    for (int64_t i = 0; i < n; ++i) w.push_back(a.at(i, i));
    std::vector<size_t> order(w.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](size_t i, size_t j) { return w[i] < w[j]; });
    reorder(v, w, order);
    fix_vector_signs(v);
    Matrix values(1, n);
    values.data = w;
    return std::vector<Matrix>{values, v};
  });
}

namespace {

Matrix transposed(const Matrix& a) {
  Matrix t(a.columns, a.rows);
  for (int64_t i = 0; i < a.rows; ++i) {
    for (int64_t j = 0; j < a.columns; ++j) t.at(j, i) = a.at(i, j);
  }
  return t;
}

// One-sided Jacobi: rotations from the right make the columns of a (m >= n) orthogonal; a becomes U diag(s).
bool orthogonalise(Matrix& a, Matrix& v) {
  for (int sweep = 0; sweep < 100; ++sweep) {
    bool turned = false;
    for (int64_t p = 0; p < a.columns; ++p) {
      for (int64_t q = p + 1; q < a.columns; ++q) {
        double alpha = 0, beta = 0, gamma = 0;
        for (int64_t i = 0; i < a.rows; ++i) {
          alpha += a.at(i, p) * a.at(i, p);
          beta += a.at(i, q) * a.at(i, q);
          gamma += a.at(i, p) * a.at(i, q);
        }
        if (!(std::abs(gamma) > 1e-15 * std::sqrt(alpha * beta))) continue;
        turned = true;
        const double zeta = (beta - alpha) / (2 * gamma);
        const double t = (zeta >= 0 ? 1 : -1) / (std::abs(zeta) + std::sqrt(1 + zeta * zeta));
        const double c = 1 / std::sqrt(1 + t * t), s = c * t;
        for (Matrix* m : {&a, &v}) {
          for (int64_t i = 0; i < m->rows; ++i) {
            const double x = m->at(i, p), y = m->at(i, q);
            m->at(i, p) = c * x - s * y;
            m->at(i, q) = s * x + c * y;
          }
        }
      }
    }
    if (!turned) return true;
  }
  return false;
}

}  // namespace

void svd_reference(const ReferenceArgs& args) {
  for_each_matrix(args, [](int64_t batch, std::vector<Matrix>& in) {
    const bool wide = in[0].rows < in[0].columns;
    Matrix a = wide ? transposed(in[0]) : in[0];
    for (double e : a.data) {
      if (!std::isfinite(e)) fail_matrix("svd", batch, "NaN or infinity in the matrix");
    }
    const int64_t n = a.columns;
    Matrix v(n, n);
    for (int64_t i = 0; i < n; ++i) v.at(i, i) = 1;
    if (!orthogonalise(a, v)) fail_matrix("svd", batch, "the iteration does not converge");
    std::vector<double> s;
    for (int64_t j = 0; j < n; ++j) {
      double length = 0;
      for (int64_t i = 0; i < a.rows; ++i) length += a.at(i, j) * a.at(i, j);
      s.push_back(std::sqrt(length));
      for (int64_t i = 0; i < a.rows && s.back() > 0; ++i) a.at(i, j) /= s.back();
    }
    std::vector<size_t> order(s.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](size_t i, size_t j) { return s[i] > s[j]; });
    std::vector<double> copy = s;
    reorder(v, copy, order);
    reorder(a, s, order);
    Matrix u = wide ? v : a, vh = transposed(wide ? a : v), values(1, n);
    values.data = s;
    fix_vector_signs(u, &vh);
    return std::vector<Matrix>{u, values, vh};
  });
}

}  // namespace tenon::ops
