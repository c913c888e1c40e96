#include "tenon/ops/loss_reduce.h"

#include "tenon/base/error.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/reduce.h"

namespace tenon::ops {

Tensor reduced(Tensor losses, LossReduction reduction) {
  switch (reduction) {
    case LossReduction::Mean:
      return mean(std::move(losses));
    case LossReduction::Sum:
      return sum(std::move(losses));
    case LossReduction::None:
      return losses;
    case LossReduction::BatchMean: {
      if (losses.ndim() == 0) return losses;
      const auto examples = static_cast<double>(losses.shape(0));
      return sum(std::move(losses)) / examples;
    }
  }
  throw InternalError("unknown reduction");
}

Tensor weighted(Tensor losses, const Tensor& weight) { return weight.defined() ? std::move(losses) * weight : losses; }

void expect_same_shape(const char* where, const Tensor& input, const Tensor& target) {
  if (input.shape() != target.shape())
    throw ShapeError(
        {where, "input and target differ in shape", to_string(input.shape()), to_string(target.shape()), {}});
}

}  // namespace tenon::ops
