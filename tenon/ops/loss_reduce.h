// What the families of losses share: checks, weights, and what becomes of the losses of single examples.
#pragma once

#include "tenon/ops/loss.h"

namespace tenon::ops {

// One number, or the losses as they are. BatchMean divides the sum by the first extent.
Tensor reduced(Tensor losses, LossReduction reduction);
// losses * weight, if there is one.
Tensor weighted(Tensor losses, const Tensor& weight);
// ShapeError naming the loss unless both have one shape.
void expect_same_shape(const char* where, const Tensor& input, const Tensor& target);

}  // namespace tenon::ops
