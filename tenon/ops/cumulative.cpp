#include "tenon/ops/cumulative.h"

#include <cmath>

#include "tenon/base/error.h"
#include "tenon/ops/call.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/gather.h"
#include "tenon/ops/infer.h"
#include "tenon/ops/movement.h"
#include "tenon/tensor/element.h"

namespace tenon {
namespace ops {
namespace {

int64_t axis_of(std::string_view op, const ir::Attrs& attrs, size_t rank) {
  return normalize_axis(op, attrs.integer(0), static_cast<int64_t>(rank));
}

std::vector<TensorType> infer_scan(const InferArgs& a) {
  axis_of(a.op.name, a.attrs, a.in[0].shape.size());
  if (a.in.size() > 1 && a.in[1].shape != a.in[0].shape)
    fail_shape(a, "the inputs differ in shape", to_string(a.in[0].shape), to_string(a.in[1].shape));
  return {a.in[0]};
}

// The batch comes in front, so the axis moves by one.
Tensors batch_scan(const BatchArgs& a) {
  Tensors in;
  for (size_t i = 0; i < a.in.size(); ++i) {
    Shape shape = a.in[i].shape();
    if (!a.batched[i]) shape.insert(shape.begin(), a.size);
    in.push_back(expand(a.in[i], shape));
  }
  ir::Attrs attrs = a.attrs;
  attrs[0] = axis_of(a.op.name, a.attrs, in[0].shape().size() - 1) + 1;
  return call(a.op, std::move(in), attrs);
}

// Walks every line along the axis: `line(first elements of each view, steps between neighbours)`.
struct Line {
  int64_t x, b, out, where;  // element numbers of the line's first element
  int64_t x_step, b_step, out_step, where_step;
  int64_t length;
};
template <class F>
void for_each_line(const ReferenceArgs& a, size_t axis, bool reverse, const F& line) {
  const auto outer = [&](Shape s) {
    s[axis] = 1;
    return s;
  };
  const Shape shape = outer(a.inputs[0].shape);
  const int64_t length = a.inputs[0].shape[axis];
  if (length == 0) return;
  const auto cursor = [&](const auto& v) { return ElementCursor(shape, v.strides, v.offset); };
  ElementCursor x = cursor(a.inputs[0]), b = cursor(a.inputs[a.inputs.size() > 1 ? 1 : 0]), out = cursor(a.outputs[0]),
                where = cursor(a.outputs[a.outputs.size() > 1 ? 1 : 0]);
  const int64_t sign = reverse ? -1 : 1;
  const auto begin = [&](int64_t element, int64_t stride) {
    return reverse ? element + (length - 1) * stride : element;
  };
  const int64_t xs = a.inputs[0].strides[axis], bs = a.inputs[a.inputs.size() > 1 ? 1 : 0].strides[axis],
                os = a.outputs[0].strides[axis], ws = a.outputs[a.outputs.size() > 1 ? 1 : 0].strides[axis];
  for (int64_t n = numel(shape); n > 0; --n, x.next(), b.next(), out.next(), where.next())
    line(Line{begin(x.element(), xs), begin(b.element(), bs), begin(out.element(), os), begin(where.element(), ws),
              sign * xs, sign * bs, sign * os, sign * ws, length});
}

// Sums and products of short floats are kept in f64 and rounded at each element.
template <bool Product>
void accumulate_reference(const ReferenceArgs& a) {
  const ConstView& x = a.inputs[0];
  const View& out = a.outputs[0];
  const size_t axis = static_cast<size_t>(axis_of("scan", a.attrs, x.shape.size()));
  const bool exclusive = a.attrs.flag(1), real = is_float(x.dtype);
  for_each_line(a, axis, a.attrs.flag(2), [&](const Line& l) {
    double total = Product ? 1 : 0;
    uint64_t whole = Product ? 1 : 0;
    for (int64_t k = 0; k < l.length; ++k) {
      const int64_t at = l.x + k * l.x_step, to = l.out + k * l.out_step;
      const double before = total;
      const uint64_t whole_before = whole;
      if (real) {
        total = Product ? total * load_real(x, at) : total + load_real(x, at);
        store_real(out, to, exclusive ? before : total);
      } else {
        const auto v = static_cast<uint64_t>(load_integer(x, at));
        whole = Product ? whole * v : whole + v;
        store_integer(out, to, wrap_integer(out.dtype, static_cast<int64_t>(exclusive ? whole_before : whole)));
      }
    }
  });
}

void recurrence_reference(const ReferenceArgs& a) {
  const ConstView &x = a.inputs[0], &b = a.inputs[1];
  const size_t axis = static_cast<size_t>(axis_of("linear_recurrence", a.attrs, x.shape.size()));
  for_each_line(a, axis, a.attrs.flag(1), [&](const Line& l) {
    double y = 0;
    for (int64_t k = 0; k < l.length; ++k) {
      y = load_real(x, l.x + k * l.x_step) * y + load_real(b, l.b + k * l.b_step);
      store_real(a.outputs[0], l.out + k * l.out_step, y);
    }
  });
}

void log_sum_reference(const ReferenceArgs& a) {
  const ConstView& x = a.inputs[0];
  const size_t axis = static_cast<size_t>(axis_of("logcumsumexp", a.attrs, x.shape.size()));
  for_each_line(a, axis, false, [&](const Line& l) {
    double y = -INFINITY;
    for (int64_t k = 0; k < l.length; ++k) {
      const double v = load_real(x, l.x + k * l.x_step), high = std::max(y, v), low = std::min(y, v);
      y = std::isnan(v) || std::isnan(y) ? NAN : std::isinf(high) ? high : high + std::log1p(std::exp(low - high));
      store_real(a.outputs[0], l.out + k * l.out_step, y);
    }
  });
}

template <bool Largest>
void extreme_reference(const ReferenceArgs& a) {
  const ConstView& x = a.inputs[0];
  const size_t axis = static_cast<size_t>(axis_of("cummax", a.attrs, x.shape.size()));
  const bool real = is_float(x.dtype);
  for_each_line(a, axis, false, [&](const Line& l) {
    int64_t best = 0;
    for (int64_t k = 0; k < l.length; ++k) {
      const int64_t at = l.x + k * l.x_step, champion = l.x + best * l.x_step;
      bool wins = false;
      if (real) {
        const double v = load_real(x, at), w = load_real(x, champion);
        wins = std::isnan(v) || (!std::isnan(w) && (Largest ? v >= w : v <= w));
      } else if (x.dtype == DType::U64) {
        const auto v = static_cast<uint64_t>(load_integer(x, at)), w = static_cast<uint64_t>(load_integer(x, champion));
        wins = Largest ? v >= w : v <= w;
      } else {
        const int64_t v = load_integer(x, at), w = load_integer(x, champion);
        wins = Largest ? v >= w : v <= w;
      }
      if (wins) best = k;
      convert_element(x, l.x + best * l.x_step, a.outputs[0], l.out + k * l.out_step);
      store_integer(a.outputs[1], l.where + k * l.where_step, best);
    }
  });
}

const AttrSpec kAxis{"axis", 1, ir::AttrType::Int, "the axis along which to go"};
const std::vector<AttrSpec> kDirected{kAxis,
                                      {"exclusive", 2, ir::AttrType::Flag, "leave the element itself out"},
                                      {"reverse", 3, ir::AttrType::Flag, "from the end"}};

std::vector<Sample> directed_samples() {
  return {{{{{2, 5}}}, {int64_t{-1}, false, false}},
          {{{{3, 2, 4}}}, {int64_t{1}, false, true}},
          {{{{4}}}, {int64_t{0}, true, false}},
          {{{{2, 3}}}, {int64_t{0}, true, true}},
          {{{{2, 4}, 0, 0, {1, 0, 2, 3, 0, 2, 0, 1}}}, {int64_t{1}, false, false}, "with zeros"},
          {{{{0, 3}}}, {int64_t{0}, false, false}}};
}
std::vector<InvalidSample> directed_invalid() { return {{{{{2, 5}}}, {int64_t{2}, false, false}, "axis"}}; }

}  // namespace

const OpDef& cumsum_op() {
  static const OpDef def{
      .name = "cumsum",
      .doc = "Sums of all elements up to each one along `axis`.",
      .inputs = {{"x", kNumbers}},
      .attrs = kDirected,
      .autocast = AutocastRule::Full,
      .infer = infer_scan,
      .meaning = Primitive{accumulate_reference<false>},
      // Each element counts in all later sums: the same scan from the other end.
      .gradient = Vjp{[](const VjpArgs& a) {
        return Tensors{cumsum(a.ct[0], a.attrs.integer(0), a.attrs.flag(1), !a.attrs.flag(2))};
      }},
      .batching = BatchRule{batch_scan},
      .samples = directed_samples,
      .invalid_samples = directed_invalid,
  };
  return def;
}

namespace {

// Neighbours along the axis: element t of the result is x[t + 1] (reverse: x[t - 1]), with zero at the end.
Tensor next_along(const Tensor& x, int64_t axis, bool reverse) {
  Ints before(static_cast<size_t>(x.ndim()), 0), after = before;
  before[static_cast<size_t>(axis)] = reverse ? 1 : -1;
  after[static_cast<size_t>(axis)] = reverse ? -1 : 1;
  return x.shape(axis) == 0 ? x : pad(x, before, after);
}

// y_j is the product up to j, so dx_i = (product before i) * (sum over j >= i of ct_j * product between), and that sum
// is a recurrence from the other end. Nothing is divided, so zeros are no exception.
Tensors cumprod_vjp(const VjpArgs& a) {
  const Tensor& x = a.in[0];
  const int64_t axis = normalize_axis("cumprod", a.attrs.integer(0), x.ndim());
  const bool exclusive = a.attrs.flag(1), reverse = a.attrs.flag(2);
  const Tensor before = cumprod(x, axis, true, reverse);
  // An exclusive product at j ends with the element before j.
  const Tensor ct = exclusive ? next_along(a.ct[0], axis, reverse) : a.ct[0];
  return {before * linear_recurrence(next_along(x, axis, reverse), ct, axis, !reverse)};
}

}  // namespace

const OpDef& cumprod_op() {
  static const OpDef def{
      .name = "cumprod",
      .doc = "Products of all elements up to each one along `axis`.",
      .inputs = {{"x", kNumbers}},
      .attrs = kDirected,
      .autocast = AutocastRule::Full,
      .infer = infer_scan,
      .meaning = Primitive{accumulate_reference<true>},
      .gradient = Vjp{cumprod_vjp, bit(0), 0},
      .batching = BatchRule{batch_scan},
      .samples = directed_samples,
      .invalid_samples = directed_invalid,
      .tolerance = {16, 1e-5},
  };
  return def;
}

const OpDef& linear_recurrence_op() {
  static const OpDef def{
      .name = "linear_recurrence",
      .doc = "y[t] = a[t] * y[t - 1] + b[t] along `axis`, with 0 before the first.",
      .inputs = {{"a", kFloats}, {"b", kFloats}},
      .attrs = {kAxis, {"reverse", 2, ir::AttrType::Flag, "from the end"}},
      .promote = kPromoteToFloat,
      .infer = infer_scan,
      .meaning = Primitive{recurrence_reference},
      // The cotangent of y gathers by the transposed recurrence h; then db = h and da = h * y[t - 1].
      .gradient = Vjp{[](const VjpArgs& a) {
                        const int64_t axis = normalize_axis("linear_recurrence", a.attrs.integer(0), a.in[0].ndim());
                        const bool reverse = a.attrs.flag(1);
                        const Tensor h = linear_recurrence(next_along(a.in[0], axis, reverse), a.ct[0], axis, !reverse);
                        return Tensors{h * next_along(a.out[0], axis, !reverse), h};
                      },
                      bit(0), bit(0)},
      .batching = BatchRule{batch_scan},
      .samples =
          [] {
            return std::vector<Sample>{{{{{2, 5}}, {{2, 5}}}, {int64_t{1}, false}},
                                       {{{{3, 4}}, {{3, 4}}}, {int64_t{0}, true}}};
          },
      .invalid_samples =
          [] { return std::vector<InvalidSample>{{{{{2, 5}}, {{5}}}, {int64_t{1}, false}, "differ in shape"}}; },
      .tolerance = {32, 1e-5},
  };
  return def;
}

const OpDef& logcumsumexp_op() {
  static const OpDef def{
      .name = "logcumsumexp",
      .doc = "log(cumsum(exp(x))) along `axis`, without overflow.",
      .inputs = {{"x", kFloats}},
      .attrs = {kAxis},
      .promote = kPromoteToFloat,
      .autocast = AutocastRule::Full,
      .infer = infer_scan,
      .meaning = Primitive{log_sum_reference},
      // dx_i = sum over j >= i of ct_j exp(x_i - y_j); y grows, so every exponent of the recurrence is at most 0.
      .gradient = Vjp{[](const VjpArgs& a) {
                        const int64_t axis = normalize_axis("logcumsumexp", a.attrs.integer(0), a.in[0].ndim());
                        const Tensor &x = a.in[0], &y = a.out[0];
                        const Tensor ratio = exp(minimum(y - next_along(y, axis, false), 0));
                        return Tensors{exp(x - y) * linear_recurrence(ratio, a.ct[0], axis, true)};
                      },
                      bit(0), bit(0)},
      .batching = BatchRule{batch_scan},
      .samples = [] { return std::vector<Sample>{{{{{2, 5}}}, {int64_t{1}}}, {{{{3, 4}, -30, 30}}, {int64_t{0}}}}; },
      .invalid_samples = [] { return std::vector<InvalidSample>{{{{{2, 5}}}, {int64_t{-3}}, "axis"}}; },
      .tolerance = {16, 1e-5},
  };
  return def;
}

namespace {

OpDef extreme_def(std::string_view name, std::string_view doc, Primitive meaning) {
  OpDef def;
  def.name = name;
  def.doc = doc;
  def.inputs = {{"x", kCompute}};
  def.attrs = {kAxis};
  def.results = 2;
  def.infer = [](const InferArgs& a) {
    infer_scan(a);
    return std::vector<TensorType>{a.in[0], {DType::I64, a.in[0].shape}};
  };
  def.meaning = meaning;
  def.gradient =
      Vjp{[](const VjpArgs& a) {
            const Tensor zero = zeros(a.in_types[0].shape, a.ct[0].dtype());
            return Tensors{scatter_along_axis(zero, a.out[1], a.ct[0], a.attrs.integer(0), ScatterMode::Add)};
          },
          0, bit(1)};
  def.batching = BatchRule{batch_scan};
  def.samples = [] {
    return std::vector<Sample>{{{{.shape = {2, 5}, .distinct = true}}, {int64_t{1}}},
                               {{{.shape = {4, 3}, .distinct = true}}, {int64_t{0}}}};
  };
  def.invalid_samples = [] { return std::vector<InvalidSample>{{{{{2, 5}}}, {int64_t{2}}, "axis"}}; };
  return def;
}

}  // namespace

const OpDef& cummax_op() {
  static const OpDef def = extreme_def("cummax", "The largest element so far along `axis`, and its position.",
                                       Primitive{extreme_reference<true>});
  return def;
}
const OpDef& cummin_op() {
  static const OpDef def = extreme_def("cummin", "The smallest element so far along `axis`, and its position.",
                                       Primitive{extreme_reference<false>});
  return def;
}

std::vector<const OpDef*> cumulative_ops() {
  return {&cumsum_op(), &cumprod_op(), &linear_recurrence_op(), &logcumsumexp_op(), &cummax_op(), &cummin_op()};
}

}  // namespace ops

namespace {

// As NumPy does for sums and products.
Tensor widened(Tensor x) {
  if (is_float(x.dtype()) || info(x.dtype()).storage_only) return x;
  const DType wide = info(x.dtype()).kind == DTypeKind::Unsigned ? DType::U64 : DType::I64;
  return cast(std::move(x), wide);
}

}  // namespace

Tensor cumsum(Tensor x, int64_t axis, bool exclusive, bool reverse) {
  return ops::call1(ops::cumsum_op(), {widened(std::move(x))}, {axis, exclusive, reverse});
}
Tensor cumprod(Tensor x, int64_t axis, bool exclusive, bool reverse) {
  return ops::call1(ops::cumprod_op(), {widened(std::move(x))}, {axis, exclusive, reverse});
}
CumulativeExtreme cummax(Tensor x, int64_t axis) {
  Tensors r = ops::call(ops::cummax_op(), {std::move(x)}, {axis});
  return {r[0], r[1]};
}
CumulativeExtreme cummin(Tensor x, int64_t axis) {
  Tensors r = ops::call(ops::cummin_op(), {std::move(x)}, {axis});
  return {r[0], r[1]};
}
Tensor logcumsumexp(Tensor x, int64_t axis) { return ops::call1(ops::logcumsumexp_op(), {std::move(x)}, {axis}); }
Tensor linear_recurrence(Tensor a, Tensor b, int64_t axis, bool reverse) {
  return ops::call1(ops::linear_recurrence_op(), {std::move(a), std::move(b)}, {axis, reverse});
}

}  // namespace tenon
