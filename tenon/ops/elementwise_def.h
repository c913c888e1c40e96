// For writing definitions of elementwise ops.
#pragma once

#include "tenon/ops/call.h"
#include "tenon/ops/elementwise.h"

namespace tenon::ops {

using ir::apply_op;
using ir::Scalar;
using ir::ScalarOp;

struct ElementwiseSpec {
  std::string_view name;
  std::string_view doc;
  AutocastRule autocast = AutocastRule::Keep;
  Scalar (*expression)(Scalars x, const ir::Attrs& attrs);
  Gradient gradient;
  DTypeSet dtypes = kNumbers;
  Promote promote = kPromoteAll;
  bool gives_bool = false;
  double low = -2, high = 2;  // sample range of every input
  std::vector<AttrSpec> attrs = {};
  std::vector<ir::Attrs> attr_samples = {};
  std::vector<Arg> inputs = {};  // empty: named x, or a and b
  Tolerance tolerance = {};
  std::vector<Sample> (*samples)() = nullptr;  // null: the usual shapes within [low, high]
  std::vector<InvalidSample> (*invalid_samples)() = nullptr;
};

OpDef unary_def(const ElementwiseSpec& spec);
OpDef binary_def(const ElementwiseSpec& spec);

// The derivative rule of a unary op whose factor comes from x or from the result y.
template <auto Factor>  // (const Tensor& x, const ir::Attrs& attrs) -> Tensor
Vjp times_of_input() {
  return {[](const VjpArgs& a) { return Tensors{a.ct[0] * Factor(a.in[0], a.attrs)}; }, bit(0), 0};
}
template <auto Factor>  // (const Tensor& y) -> Tensor
Vjp times_of_output() {
  return {[](const VjpArgs& a) { return Tensors{a.ct[0] * Factor(a.out[0])}; }, 0, bit(0)};
}

inline constexpr std::string_view kPiecewiseConstant = "piecewise constant: the derivative is zero wherever it exists";
inline constexpr std::string_view kBoolResult = "the result is a truth value";
inline constexpr std::string_view kIntegersOnly = "defined on integers";

}  // namespace tenon::ops
