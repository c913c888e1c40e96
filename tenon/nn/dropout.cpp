#include "tenon/nn/dropout.h"

#include "tenon/nn/check.h"
#include "tenon/ops/random.h"

namespace tenon::nn {

Dropout::Dropout(double probability) : p(probability) { require_probability("Dropout", p); }

Tensor Dropout::operator()(Tensor x) const {
  if (!mode.training() || p == 0) return x;
  return dropout(std::move(x), p);
}

}  // namespace tenon::nn
