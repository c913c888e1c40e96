// From the op table to calls: every sample of every op as tensors.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "tenon/ops/opdef.h"

namespace tenon::conformance {

struct Case {
  const ops::OpDef* op = nullptr;
  ops::Sample sample;
  size_t number = 0;
  DType dtype = DType::F32;
  // "softmax, sample 2, f32"
  [[nodiscard]] std::string name() const;
};

// The op's samples, or the usual ones of its family: matrices, a scalar, nothing, what broadcasts.
std::vector<ops::Sample> samples_of(const ops::OpDef& op);
// Calls `fn` for each op, sample and dtype of `dtypes` that the op takes. What throws is a failure that names the case.
void for_each_case(const std::vector<DType>& dtypes, const std::function<void(const Case&)>& fn);
// The sample's inputs, contiguous; another `variant` has other numbers (given values stay).
Tensors inputs_of(const Case& c, uint64_t variant = 0);
// Which inputs a gradient is asked for.
std::vector<bool> differentiable_inputs(const Case& c, const Tensors& in);

// The same values in another arrangement of memory.
enum class Layout { Contiguous, Transposed, Reversed, Strided };
Tensor arranged(const Tensor& x, Layout layout);

Tensors call(const Case& c, Tensors in);
// True if the elements are the same bits, NaN as NaN. `what` gets the first difference.
bool same_bits(const Tensors& a, const Tensors& b, std::string& what);
// Within `epsilons` units of the dtype's rounding, of the largest magnitude in the result.
bool near(const Tensors& a, const Tensors& b, double epsilons, std::string& what);

}  // namespace tenon::conformance
