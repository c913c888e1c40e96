#include "tenon/optim/rows.h"

#include "tenon/ops/gather.h"
#include "tenon/ops/indexing.h"
#include "tenon/ops/movement.h"

namespace tenon::optim {

Tensor take_rows(const Tensor& x, const Tensor& indices) { return take(x, indices, 0); }

Tensor set_rows(Tensor x, const Tensor& indices, Tensor rows) {
  Shape column(static_cast<size_t>(x.ndim()), 1);
  column[0] = indices.size();
  const Tensor positions = expand(reshape(indices, column), rows.shape());
  return scatter_along_axis(std::move(x), positions, std::move(rows), 0);
}

}  // namespace tenon::optim
