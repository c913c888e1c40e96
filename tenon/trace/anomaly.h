// Anomaly detection: where was a NaN born?
#pragma once

#include "tenon/ops/opdef.h"

namespace tenon::trace {

// NumericError if a concrete float result holds a NaN. `forward_site` is given in a backward pass: where
// the forward call stood.
void check_results(const ops::OpDef& op, const Tensors& out, const std::string& forward_site);

}  // namespace tenon::trace
