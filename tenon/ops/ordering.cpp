#include "tenon/ops/ordering.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "tenon/base/error.h"
#include "tenon/ops/call.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/gather.h"
#include "tenon/ops/indexing.h"
#include "tenon/ops/infer.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/reduce.h"
#include "tenon/tensor/element.h"

namespace tenon {
namespace ops {
namespace {

// One line's elements as keys that compare as the elements do.
template <class Key>
void sort_places(const std::vector<Key>& keys, std::vector<int64_t>& places, bool descending) {
  std::iota(places.begin(), places.end(), 0);
  const auto less = [&](int64_t i, int64_t j) {
    const Key a = keys[static_cast<size_t>(i)], b = keys[static_cast<size_t>(j)];
    if constexpr (std::is_floating_point_v<Key>) {
      if (std::isnan(a) || std::isnan(b)) return descending ? std::isnan(a) && !std::isnan(b) : !std::isnan(a);
    }
    return descending ? a > b : a < b;
  };
  const auto strict = [&](int64_t i, int64_t j) {
    if constexpr (std::is_floating_point_v<Key>) {
      if (std::isnan(keys[static_cast<size_t>(i)]) && std::isnan(keys[static_cast<size_t>(j)])) return false;
    }
    return less(i, j);
  };
  std::stable_sort(places.begin(), places.end(), strict);
}

void sort_reference(const ReferenceArgs& a) {
  const ConstView& x = a.inputs[0];
  const View &values = a.outputs[0], &indices = a.outputs[1];
  const auto axis =
      static_cast<size_t>(normalize_axis("sort", a.attrs.integer(0), static_cast<int64_t>(x.shape.size())));
  const bool descending = a.attrs.flag(1);
  Shape outer = x.shape;
  const int64_t length = std::exchange(outer[axis], 1);
  ElementCursor from(outer, x.strides, x.offset), to(outer, values.strides, values.offset),
      at(outer, indices.strides, indices.offset);
  std::vector<double> reals(static_cast<size_t>(length));
  std::vector<int64_t> wholes(static_cast<size_t>(length)), places(static_cast<size_t>(length));
  std::vector<uint64_t> naturals(static_cast<size_t>(length));
  for (int64_t n = length == 0 ? 0 : numel(outer); n > 0; --n, from.next(), to.next(), at.next()) {
    for (int64_t k = 0; k < length; ++k) {
      const int64_t element = from.element() + k * x.strides[axis];
      const auto i = static_cast<size_t>(k);
      if (is_float(x.dtype)) {
        reals[i] = load_real(x, element);
      } else {
        wholes[i] = load_integer(x, element);
        naturals[i] = static_cast<uint64_t>(wholes[i]);
      }
    }
    if (is_float(x.dtype)) {
      sort_places(reals, places, descending);
    } else if (x.dtype == DType::U64) {
      sort_places(naturals, places, descending);
    } else {
      sort_places(wholes, places, descending);
    }
    for (int64_t k = 0; k < length; ++k) {
      const int64_t place = places[static_cast<size_t>(k)];
      convert_element(x, from.element() + place * x.strides[axis], values, to.element() + k * values.strides[axis]);
      store_integer(indices, at.element() + k * indices.strides[axis], place);
    }
  }
}

}  // namespace

const OpDef& sort_op() {
  static const OpDef def{
      .name = "sort",
      .doc = "The elements along `axis` in order, and their positions (i64); stable, NaN last (first if descending).",
      .inputs = {{"x", kCompute}},
      .attrs = {{"axis", 1, ir::AttrType::Int, "the axis to sort along"},
                {"descending", 2, ir::AttrType::Flag, "the largest first"}},
      .results = 2,
      .infer =
          [](const InferArgs& a) {
            normalize_axis(a.op.name, a.attrs.integer(0), static_cast<int64_t>(a.in[0].shape.size()));
            return std::vector<TensorType>{a.in[0], {DType::I64, a.in[0].shape}};
          },
      .meaning = Primitive{sort_reference},
      .gradient = Vjp{[](const VjpArgs& a) {
                        const Tensor zero = zeros(a.in_types[0].shape, a.ct[0].dtype());
                        return Tensors{scatter_along_axis(zero, a.out[1], a.ct[0], a.attrs.integer(0))};
                      },
                      0, bit(1)},
      .batching = BatchRule{[](const BatchArgs& a) {
        ir::Attrs attrs = a.attrs;
        attrs[0] = normalize_axis("sort", a.attrs.integer(0), a.in[0].ndim() - 1) + 1;
        return call(a.op, {a.in[0]}, attrs);
      }},
      .samples =
          [] {
            return std::vector<Sample>{{{{.shape = {2, 5}, .distinct = true}}, {int64_t{1}, false}},
                                       {{{.shape = {4, 3}, .distinct = true}}, {int64_t{0}, true}},
                                       {{{.shape = {6}, .values = {2, 1, 2, 0, 1, 2}, .differentiable = false}},
                                        {int64_t{0}, true},
                                        "with equals"},
                                       {{{.shape = {0, 3}}}, {int64_t{0}, false}}};
          },
      .invalid_samples = [] { return std::vector<InvalidSample>{{{{{2, 5}}}, {int64_t{2}, false}, "axis"}}; },
  };
  return def;
}

namespace {

// Rows of x (along axis 0) in order, each once.
Tensors unique_rows(std::span<const Tensor> in, const ir::Attrs&) {
  const Tensor x = contiguous(in[0]);
  const int64_t n = x.shape(0), width = n == 0 ? 0 : x.size() / n;
  const Tensor flat = reshape(x, {n, width});
  // By columns from the last to the first: stable sorting makes the order lexicographic.
  std::vector<int64_t> order(static_cast<size_t>(n));
  std::iota(order.begin(), order.end(), 0);
  const bool real = is_float(x.dtype()), natural = x.dtype() == DType::U64;
  const auto reals = real ? flat.to_vector<double>() : std::vector<double>();
  const auto wholes = real || natural ? std::vector<int64_t>() : flat.to_vector<int64_t>();
  const auto naturals = natural ? flat.to_vector<uint64_t>() : std::vector<uint64_t>();
  const auto before = [&](int64_t a, int64_t b) {
    const auto less = [&](const auto& v) {
      using Key = typename std::decay_t<decltype(v)>::value_type;
      for (int64_t k = 0; k < width; ++k) {
        const Key p = v[static_cast<size_t>(a * width + k)], q = v[static_cast<size_t>(b * width + k)];
        if constexpr (std::is_floating_point_v<Key>) {
          if (std::isnan(p) != std::isnan(q)) return std::isnan(q);
          if (std::isnan(p)) continue;
        }
        if (p != q) return p < q;
      }
      return false;
    };
    return real ? less(reals) : natural ? less(naturals) : less(wholes);
  };
  std::stable_sort(order.begin(), order.end(), before);
  std::vector<int64_t> first, inverse(static_cast<size_t>(n)), counts;
  for (size_t i = 0; i < order.size(); ++i) {
    if (i == 0 || before(order[i - 1], order[i])) {
      first.push_back(order[i]);
      counts.push_back(0);
    }
    ++counts.back();
    inverse[static_cast<size_t>(order[i])] = static_cast<int64_t>(first.size()) - 1;
  }
  const auto row = [](const std::vector<int64_t>& v) { return from_vector(v, {static_cast<int64_t>(v.size())}); };
  const Tensor places = row(first);
  return {take(in[0], places, 0), places, row(inverse), row(counts)};
}

constexpr std::string_view kDependsOnValues = "the shape of the result depends on the values";

const OpDef& unique_op() {
  static const OpDef def{
      .name = "unique",
      .doc =
          "The rows of x (along axis 0), each once, in lexicographic order; where each stands first, which one each "
          "row is, and how often it occurs. Eager only.",
      .inputs = {{"x", kCompute}},
      .results = 4,
      .meaning = DataDependent{unique_rows},
      .gradient = NoGradient{"which rows are chosen jumps; take(x, indices) has a gradient"},
      .batching = NoBatching{kDependsOnValues},
      .samples =
          [] {
            return std::vector<Sample>{{{{.shape = {6}, .values = {2, 1, 2, 0, 1, 2}}}},
                                       {{{.shape = {3, 2}, .values = {1, 0, 0, 1, 1, 0}}}}};
          },
  };
  return def;
}

const OpDef& nonzero_op() {
  static const OpDef def{
      .name = "nonzero",
      .doc = "Positions of the elements that are not 0, i64 [n, rank], in row-major order. Eager only.",
      .inputs = {{"x", kCompute}},
      .meaning = DataDependent{[](std::span<const Tensor> in, const ir::Attrs&) {
        const Tensor& x = in[0];
        const auto hits = not_equal(x, 0).to_vector<bool>();
        std::vector<int64_t> positions;
        for (size_t i = 0; i < hits.size(); ++i) {
          if (!hits[i]) continue;
          auto rest = static_cast<int64_t>(i);
          const size_t begin = positions.size();
          positions.resize(begin + x.shape().size());
          for (size_t k = x.shape().size(); k-- > 0;) {
            positions[begin + k] = rest % x.shape()[k];
            rest /= x.shape()[k];
          }
        }
        const auto count = static_cast<int64_t>(std::count(hits.begin(), hits.end(), true));
        return Tensors{from_vector(positions, {count, x.ndim()})};
      }},
      .gradient = NoGradient{"positions"},
      .batching = NoBatching{kDependsOnValues},
      .samples =
          [] {
            return std::vector<Sample>{{{{.shape = {2, 3}, .values = {0, 1, 0, 2, 0, 3}}}},
                                       {{{.shape = {0, 2}}}},
                                       {{{.shape = {}, .values = {1}}}}};
          },
  };
  return def;
}

}  // namespace

std::vector<const OpDef*> ordering_ops() { return {&sort_op(), &unique_op(), &nonzero_op()}; }

}  // namespace ops

Sorted sort(Tensor x, int64_t axis, bool descending) {
  Tensors r = ops::call(ops::sort_op(), {std::move(x)}, {axis, descending});
  return {r[0], r[1]};
}
Tensor argsort(Tensor x, int64_t axis, bool descending) { return sort(x.detach(), axis, descending).indices; }

Sorted topk(Tensor x, int64_t k, int64_t axis, bool largest) {
  axis = normalize_axis("topk", axis, x.ndim());
  if (k < 0 || k > x.shape(axis))
    throw ValueError({"topk",
                      fmt::format("k does not fit axis {}", axis),
                      fmt::format("0 to {}", x.shape(axis)),
                      std::to_string(k),
                      {}});
  const Sorted all = sort(std::move(x), axis, largest);
  return {narrow(all.values, axis, 0, k), narrow(all.indices, axis, 0, k)};
}

Sorted median(Tensor x, int64_t axis) {
  axis = normalize_axis("median", axis, x.ndim());
  if (x.shape(axis) == 0) throw ShapeError({"median", "there is no median of nothing", {}, to_string(x.shape()), {}});
  const int64_t middle = (x.shape(axis) - 1) / 2;
  const Sorted all = sort(std::move(x), axis);
  return {select(all.values, axis, middle), select(all.indices, axis, middle)};
}

Unique unique(Tensor x) {
  const Shape shape = x.shape();
  Tensors r = ops::call(ops::unique_op(), {reshape(std::move(x), {-1})});
  return {r[0], r[1], reshape(r[2], shape), r[3]};
}
Unique unique(Tensor x, int64_t axis) {
  axis = normalize_axis("unique", axis, x.ndim());
  Tensors r = ops::call(ops::unique_op(), {moveaxis(std::move(x), axis, 0)});
  return {moveaxis(r[0], 0, axis), r[1], r[2], r[3]};
}

Tensor nonzero(Tensor x) { return ops::call1(ops::nonzero_op(), {std::move(x)}); }

Tensor masked_select(Tensor x, Tensor mask) {
  if (mask.dtype() != DType::Bool)
    throw DTypeError({"masked_select", "the mask is not boolean", "bool", std::string(name(mask.dtype())), "x > 0"});
  const Shape shape = broadcast_shapes("masked_select", x.shape(), mask.shape());
  const Tensor places = nonzero(reshape(expand(std::move(mask), shape), {-1}));
  return take(reshape(expand(std::move(x), shape), {-1}), reshape(places, {-1}), 0);
}

Tensor searchsorted(Tensor sorted, Tensor values, bool right) {
  if (sorted.ndim() != 1)
    throw ShapeError({"searchsorted", "the sorted values are no row", "[n]", to_string(sorted.shape()), {}});
  // As many elements as are smaller (or not larger): a comparison of each with each, summed.
  const Tensor column = unsqueeze(std::move(values), {-1});
  const Tensor before = right ? less_equal(std::move(sorted), column) : less(std::move(sorted), column);
  return sum(cast(before, i64), {-1});
}

Tensor bincount(Tensor x, Tensor weights, int64_t length) {
  if (!is_integer(x.dtype()) || x.ndim() != 1)
    throw DTypeError({"bincount", "not a row of integers", "i64[n]", to_string(x.type()), {}});
  if (x.size() > 0 && min(x).item<int64_t>() < 0)
    throw ValueError({"bincount", "a negative number", "0 or more", std::to_string(min(x).item<int64_t>()), {}});
  if (length < 0) length = x.size() == 0 ? 0 : max(x).item<int64_t>() + 1;
  if (!weights.defined()) weights = ones(x.shape(), i64);
  const Tensor none = zeros({length}, weights.dtype());
  return index_add(none, 0, cast(std::move(x), i64), std::move(weights));
}

}  // namespace tenon
