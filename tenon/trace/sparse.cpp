#include "tenon/trace/sparse.h"

#include <algorithm>
#include <map>

#include "tenon/ops/creation.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/indexing.h"
#include "tenon/ops/movement.h"

namespace tenon {

Tensor to_dense(const Tensor& x) {
  const SparseRows* rows = sparse_rows(x);
  if (!rows) return x;
  return index_add(zeros(x.shape(), x.dtype()), 0, rows->indices, rows->values);
}

Tensor add_gradients(Tensor a, Tensor b) {
  const SparseRows *ra = sparse_rows(a), *rb = sparse_rows(b);
  if (ra && rb) return make_sparse_rows(concat({ra->indices, rb->indices}), concat({ra->values, rb->values}), a.type());
  if (rb) return index_add(std::move(a), 0, rb->indices, rb->values);
  if (ra) return index_add(std::move(b), 0, ra->indices, ra->values);
  return add(std::move(a), std::move(b));
}

Tensor coalesce(const Tensor& sparse) {
  const SparseRows* rows = sparse_rows(sparse);
  std::map<int64_t, int64_t> place;
  const auto indices = rows->indices.to_vector<int64_t>();
  for (int64_t i : indices) place.emplace(i, 0);
  std::vector<int64_t> unique, target;
  for (auto& [row, position] : place) {
    position = static_cast<int64_t>(unique.size());
    unique.push_back(row);
  }
  for (int64_t i : indices) target.push_back(place[i]);
  Shape shape = sparse.shape();
  shape[0] = static_cast<int64_t>(unique.size());
  const Tensor values =
      index_add(zeros(shape, sparse.dtype()), 0, from_vector(target, {rows->indices.size()}), rows->values);
  return make_sparse_rows(from_vector(unique, {shape[0]}), values, sparse.type());
}

}  // namespace tenon
