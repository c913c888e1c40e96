// Reductions, ordering, products of tensors.
#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "tenon/formats/onnx/call.h"
#include "tenon/ops/call.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/cumulative.h"
#include "tenon/ops/einsum.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/gather.h"
#include "tenon/ops/indexing.h"
#include "tenon/ops/linalg.h"
#include "tenon/ops/matmul.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/ordering.h"
#include "tenon/ops/reduce.h"

namespace tenon::formats::onnx {
namespace {

// The axes of a reduction; nothing: the input goes through as it is.
std::optional<Ints> axes_of(Call& c) {
  const auto axes = c.integers_of(1, "axes");
  if (axes && !axes->empty()) return ints_of(*axes);
  if (c.integer_attribute("noop_with_empty_axes", 0) != 0) return std::nullopt;
  return Ints{};
}

// `elementwise` is what the operator does to single elements where nothing is combined.
template <class Reduce, class Each>
Values reduce(Call& c, const Reduce& combine, const Each& each) {
  const Tensor x = c.tensor(0);
  const bool keep = c.integer_attribute("keepdims", 1) != 0;
  const auto axes = axes_of(c);
  return {cast(axes ? combine(x, *axes, keep) : each(x), x.dtype())};
}
Tensor same(const Tensor& x) { return x; }

// The largest of nothing is the smallest number there is.
Tensor extreme(const Tensor& x, const Ints& axes, bool keep, bool largest) {
  const Ints all = normalize_axes("ReduceMax", axes, x.ndim());
  bool nothing = false;
  for (int64_t k = 0; k < x.ndim(); ++k) {
    const bool reduced = all.empty() || std::find(all.begin(), all.end(), k) != all.end();
    nothing = nothing || (reduced && x.shape(k) == 0);
  }
  const auto pick = [&](const Tensor& v) { return largest ? max(v, axes, keep) : min(v, axes, keep); };
  if (x.dtype() == DType::Bool)
    return largest ? any(x, axes, keep) : all.empty() ? tenon::all(x, {}, keep) : tenon::all(x, axes, keep);
  if (!nothing) return pick(x);
  const double infinity = std::numeric_limits<double>::infinity();
  return full_like(sum(x, axes, keep), largest ? -infinity : infinity);
}

Values reduce_max(Call& c) {
  return reduce(c, [](const Tensor& x, const Ints& axes, bool keep) { return extreme(x, axes, keep, true); }, same);
}
Values reduce_min(Call& c) {
  return reduce(c, [](const Tensor& x, const Ints& axes, bool keep) { return extreme(x, axes, keep, false); }, same);
}
Values reduce_sum(Call& c) {
  return reduce(c, [](const Tensor& x, const Ints& axes, bool keep) { return sum(x, axes, keep); }, same);
}
Values reduce_mean(Call& c) {
  return reduce(c, [](const Tensor& x, const Ints& axes, bool keep) { return mean(x, axes, keep); }, same);
}
Values reduce_prod(Call& c) {
  return reduce(c, [](const Tensor& x, const Ints& axes, bool keep) { return prod(x, axes, keep); }, same);
}
Values reduce_l1(Call& c) {
  const auto each = [](const Tensor& x) { return abs(x); };
  return reduce(c, [](const Tensor& x, const Ints& axes, bool keep) { return sum(abs(x), axes, keep); }, each);
}
Values reduce_l2(Call& c) {
  const auto each = [](const Tensor& x) { return abs(x); };
  return reduce(c, [](const Tensor& x, const Ints& axes, bool keep) { return sqrt(sum(square(x), axes, keep)); }, each);
}
Values reduce_sum_square(Call& c) {
  const auto each = [](const Tensor& x) { return square(x); };
  return reduce(c, [](const Tensor& x, const Ints& axes, bool keep) { return sum(square(x), axes, keep); }, each);
}
Values reduce_log_sum(Call& c) {
  const auto each = [](const Tensor& x) { return log(x); };
  return reduce(c, [](const Tensor& x, const Ints& axes, bool keep) { return log(sum(x, axes, keep)); }, each);
}
Values reduce_log_sum_exp(Call& c) {
  return reduce(
      c,
      [](const Tensor& x, const Ints& axes, bool keep) {
        const Tensor y = sum(x, axes, keep);
        // Of nothing: log 0.
        if (x.size() == 0) return full_like(y, -std::numeric_limits<double>::infinity());
        return logsumexp(x, axes, keep);
      },
      same);
}

Values arg(Call& c, bool largest) {
  Tensor x = c.tensor(0);
  const int64_t axis = normalize_axis(c.where, c.integer_attribute("axis", 0), x.ndim());
  const bool keep = c.integer_attribute("keepdims", 1) != 0, last = c.integer_attribute("select_last_index", 0) != 0;
  if (last) x = flip(x, {axis});
  const Tensor place = largest ? argmax(x, axis, keep) : argmin(x, axis, keep);
  return {last ? (x.shape(axis) - 1) - place : place};
}
Values arg_max(Call& c) { return arg(c, true); }
Values arg_min(Call& c) { return arg(c, false); }

template <const ops::OpDef& (*Op)()>
Values cumulative(Call& c) {
  // Not the functions cumsum() and cumprod(): these give integers another dtype, ONNX does not.
  return {ops::call1(
      Op(), {c.tensor(0)},
      {c.value(1).item<int64_t>(), c.integer_attribute("exclusive", 0) != 0, c.integer_attribute("reverse", 0) != 0})};
}

Values matmul_rule(Call& c) { return {matmul(c.tensor(0), c.tensor(1))}; }

Values einsum_rule(Call& c) {
  Tensors operands;
  for (size_t i = 0; i < c.in.size(); ++i) operands.push_back(c.tensor(i));
  return {einsum(c.text_attribute("equation", ""), operands)};
}

Values gemm(Call& c) {
  Tensor a = c.tensor(0), b = c.tensor(1);
  if (c.integer_attribute("transA", 0) != 0) a = transpose(a);
  if (c.integer_attribute("transB", 0) != 0) b = transpose(b);
  const double alpha = c.real_attribute("alpha", 1), beta = c.real_attribute("beta", 1);
  Tensor y = matmul(a, b);
  if (alpha != 1) y = y * alpha;
  if (c.has(2) && beta != 0) {
    Tensor bias = c.tensor(2);
    y = y + (beta == 1 ? bias : bias * beta);
  }
  return {cast(y, a.dtype())};
}

Values det_rule(Call& c) { return {det(c.tensor(0))}; }

Values top_k(Call& c) {
  const Tensor x = c.tensor(0);
  const int64_t axis = normalize_axis(c.where, c.integer_attribute("axis", -1), x.ndim());
  const int64_t k = c.has(1) ? c.value(1).item<int64_t>() : c.integer_attribute("k", 1);
  if (k < 0 || k > x.shape(axis))
    c.fail("k is out of range", "0 to " + std::to_string(x.shape(axis)), std::to_string(k));
  const Sorted best = topk(x, k, axis, c.integer_attribute("largest", 1) != 0);
  return {best.values, best.indices};
}

Values unique_rule(Call& c) {
  const Tensor x = c.tensor(0);
  const bool by_row = c.attribute("axis") != nullptr, sorted = c.integer_attribute("sorted", 1) != 0;
  const int64_t axis = by_row ? normalize_axis(c.where, c.integer_attribute("axis", 0), x.ndim()) : 0;
  Unique u = by_row ? unique(x, axis) : unique(x);
  if (!sorted) {
    // In order of first appearance.
    const Tensor order = argsort(u.indices), rank = argsort(order);
    u = {take(u.values, order, axis), take(u.indices, order, 0), take(rank, u.inverse, 0), take(u.counts, order, 0)};
  }
  return {u.values, u.indices, reshape(u.inverse, {-1}), u.counts};
}

constexpr std::array kRules{
    Rule{"ReduceMax", reduce_max},
    Rule{"ReduceMin", reduce_min},
    Rule{"ReduceSum", reduce_sum},
    Rule{"ReduceMean", reduce_mean},
    Rule{"ReduceProd", reduce_prod},
    Rule{"ReduceL1", reduce_l1},
    Rule{"ReduceL2", reduce_l2},
    Rule{"ReduceSumSquare", reduce_sum_square},
    Rule{"ReduceLogSum", reduce_log_sum},
    Rule{"ReduceLogSumExp", reduce_log_sum_exp},
    Rule{"ArgMax", arg_max},
    Rule{"ArgMin", arg_min},
    Rule{"CumSum", cumulative<ops::cumsum_op>},
    Rule{"CumProd", cumulative<ops::cumprod_op>},
    Rule{"MatMul", matmul_rule},
    Rule{"Einsum", einsum_rule},
    Rule{"Gemm", gemm},
    Rule{"Det", det_rule},
    Rule{"TopK", top_k},
    Rule{"Unique", unique_rule},
};

}  // namespace

std::span<const Rule> reduce_rules() { return kRules; }

}  // namespace tenon::formats::onnx
