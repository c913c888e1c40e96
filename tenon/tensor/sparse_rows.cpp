#include "tenon/tensor/sparse_rows.h"

namespace tenon {

Tensor make_sparse_rows(Tensor indices, Tensor values, const TensorType& type) {
  auto rows = make_ref<SparseRows>();
  rows->indices = std::move(indices);
  rows->values = std::move(values);
  auto impl = make_ref<TensorImpl>();
  impl->type = type;
  impl->stand_for(std::move(rows));
  return Tensor(std::move(impl));
}

const SparseRows* sparse_rows(const Tensor& x) {
  const Placeholder* held = x.defined() ? x.impl()->placeholder.get() : nullptr;
  // Each op of a compiled function asks; a lazy value says no for less than a cast costs.
  return held != nullptr && !held->lazy() ? dynamic_cast<const SparseRows*>(held) : nullptr;
}

}  // namespace tenon
