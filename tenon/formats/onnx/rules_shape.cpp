// Operators that move elements, and those about shapes.
#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "tenon/formats/onnx/call.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/gather.h"
#include "tenon/ops/indexing.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/ordering.h"
#include "tenon/ops/patches.h"
#include "tenon/ops/reduce.h"

namespace tenon::formats::onnx {
namespace {

// The value with its elements rearranged: strings and codes move as their positions do.
template <class F>
Value moved(Call& c, size_t i, const F& move) {
  if (c.has(i)) {
    if (const Texts* t = c.in[i].texts()) {
      const Tensor places = move(reshape(arange(static_cast<int64_t>(t->values.size())), t->shape));
      Texts result{places.shape(), {}};
      for (int64_t p : places.to_vector<int64_t>()) result.values.push_back(t->values[static_cast<size_t>(p)]);
      return result;
    }
    if (const Codes* codes = c.in[i].codes()) return Codes{codes->type, move(codes->codes)};
  }
  return move(c.tensor(i));
}

Shape shape_of(Call& c, size_t i) {
  if (!c.has(i)) c.fail("the input is missing");
  if (const Texts* t = c.in[i].texts()) return t->shape;
  if (const Codes* codes = c.in[i].codes()) return codes->codes.shape();
  return c.tensor(i).shape();
}

Values constant(Call& c) {
  if (const auto* a = c.attribute("value")) {
    if (!a->tensor) c.fail("the attribute 'value' is no tensor");
    return {read_tensor(*a->tensor, nullptr, {}, c.where)};
  }
  if (const auto* a = c.attribute("value_float")) return {from_vector<float>({a->f}, {})};
  if (const auto* a = c.attribute("value_floats"))
    return {from_vector(a->floats, {static_cast<int64_t>(a->floats.size())})};
  if (const auto* a = c.attribute("value_int")) return {from_vector<int64_t>({a->i}, {})};
  if (const auto* a = c.attribute("value_ints")) return {tensor_of(a->ints)};
  if (const auto* a = c.attribute("value_string")) return {Texts{{}, {a->s}}};
  if (const auto* a = c.attribute("value_strings"))
    return {Texts{{static_cast<int64_t>(a->strings.size())}, a->strings}};
  c.unsupported("a constant of a kind that is not known (sparse)");
}

Values constant_of_shape(Call& c) {
  const Shape shape = ints_of(c.integers(0));
  Tensor value = from_vector<float>({0}, {});
  if (const auto* a = c.attribute("value"); a && a->tensor) {
    const Value v = read_tensor(*a->tensor, nullptr, {}, c.where);
    if (!v.tensor()) c.unsupported("a value without arithmetic");
    value = reshape(*v.tensor(), {});
  }
  return {expand(value, shape)};
}

Values identity(Call& c) { return {c.in.at(0)}; }

Values shape_rule(Call& c) {
  const Shape shape = shape_of(c, 0);
  const auto rank = static_cast<int64_t>(shape.size());
  const auto place = [&](int64_t p) { return std::clamp<int64_t>(p < 0 ? p + rank : p, 0, rank); };
  const int64_t start = place(c.integer_attribute("start", 0)), end = place(c.integer_attribute("end", rank));
  std::vector<int64_t> part;
  for (int64_t k = start; k < end; ++k) part.push_back(shape[static_cast<size_t>(k)]);
  return {tensor_of(part)};
}
Values size_rule(Call& c) { return {from_vector<int64_t>({numel(shape_of(c, 0))}, {})}; }

Values reshape_rule(Call& c) {
  const auto given = c.integers_of(1, "shape");
  if (!given) c.fail("the shape is missing");
  const Shape from = shape_of(c, 0);
  const bool zero_is_zero = c.integer_attribute("allowzero", 0) != 0;
  Shape to;
  for (size_t k = 0; k < given->size(); ++k) {
    const int64_t d = (*given)[k];
    if (d == 0 && !zero_is_zero) {
      if (k >= from.size()) c.fail("extent 0 of the new shape means to keep one, but the input has not so many axes");
      to.push_back(from[k]);
    } else {
      to.push_back(d);
    }
  }
  return {moved(c, 0, [&](const Tensor& x) { return reshape(x, to); })};
}

Values flatten_rule(Call& c) {
  const Tensor x = c.tensor(0);
  int64_t axis = c.integer_attribute("axis", 1);
  if (axis < 0) axis += x.ndim();
  int64_t rows = 1;
  for (int64_t k = 0; k < axis; ++k) rows *= x.shape(k);
  int64_t columns = 1;
  for (int64_t k = axis; k < x.ndim(); ++k) columns *= x.shape(k);
  return {reshape(x, {rows, columns})};
}

Values transpose_rule(Call& c) {
  const auto rank = static_cast<int64_t>(shape_of(c, 0).size());
  std::vector<int64_t> order = c.integers_attribute("perm");
  if (order.empty()) {
    for (int64_t k = rank - 1; k >= 0; --k) order.push_back(k);
  }
  return {moved(c, 0, [&](const Tensor& x) { return permute(x, ints_of(order)); })};
}

Values squeeze_rule(Call& c) {
  const auto axes = c.integers_of(1, "axes");
  return {moved(c, 0, [&](const Tensor& x) { return squeeze(x, axes ? ints_of(*axes) : Ints{}); })};
}
Values unsqueeze_rule(Call& c) {
  const auto axes = c.integers_of(1, "axes");
  if (!axes) c.fail("the axes are missing");
  return {moved(c, 0, [&](const Tensor& x) { return unsqueeze(x, ints_of(*axes)); })};
}

Values expand_rule(Call& c) {
  const Shape to = broadcast_shapes(c.where, shape_of(c, 0), ints_of(c.integers(1)));
  return {moved(c, 0, [&](const Tensor& x) { return expand(x, to); })};
}

Values concat_rule(Call& c) {
  const int64_t axis = c.integer_attribute("axis", 1);
  if (c.has(0) && c.in[0].texts()) {
    // By positions in all the texts one after another.
    Tensors places;
    Texts result;
    std::vector<std::string> all;
    for (size_t i = 0; i < c.in.size(); ++i) {
      const Texts& t = c.texts(i);
      const auto first = static_cast<int64_t>(all.size());
      places.push_back(reshape(arange(first, first + static_cast<int64_t>(t.values.size())), t.shape));
      all.insert(all.end(), t.values.begin(), t.values.end());
    }
    const Tensor joined = concat(places, axis);
    result.shape = joined.shape();
    for (int64_t p : joined.to_vector<int64_t>()) result.values.push_back(all[static_cast<size_t>(p)]);
    return {result};
  }
  Tensors parts;
  for (size_t i = 0; i < c.in.size(); ++i) parts.push_back(c.tensor(i));
  return {concat(parts, axis)};
}

Values split_rule(Call& c) {
  const Tensor x = c.tensor(0);
  const int64_t axis = normalize_axis(c.where, c.integer_attribute("axis", 0), x.ndim());
  auto sizes = c.integers_of(1, "split");
  if (!sizes) {
    const auto parts = c.integer_attribute("num_outputs", static_cast<int64_t>(c.node.outputs.size()));
    if (parts <= 0) c.fail("nothing to split into");
    const int64_t extent = x.shape(axis), each = (extent + parts - 1) / parts;
    sizes.emplace();
    for (int64_t k = 0, left = extent; k < parts; ++k, left -= each)
      sizes->push_back(std::clamp<int64_t>(left, 0, each));
  }
  Values out;
  for (auto& part : split(x, ints_of(*sizes), axis)) out.emplace_back(std::move(part));
  return out;
}

Values slice_rule(Call& c) {
  const auto rank = static_cast<int64_t>(shape_of(c, 0).size());
  const auto starts = c.integers_of(1, "starts"), stops = c.integers_of(2, "ends");
  if (!starts || !stops) c.fail("starts or ends are missing");
  auto axes = c.integers_of(3, "axes");
  if (!axes) {
    axes.emplace(starts->size());
    std::iota(axes->begin(), axes->end(), 0);
  }
  const auto steps = c.has(4) ? c.integers(4) : std::vector<int64_t>(starts->size(), 1);
  (void)rank;
  return {moved(c, 0, [&](const Tensor& x) {
    return slice(x, ints_of(*axes), ints_of(*starts), ints_of(*stops), ints_of(steps));
  })};
}

Values pad_rule(Call& c) {
  const Tensor x = c.tensor(0);
  std::optional<std::vector<int64_t>> pads = c.opset >= 11 ? std::optional(c.integers(1)) : std::nullopt;
  if (!pads) pads = c.integers_attribute(c.opset == 1 ? "paddings" : "pads");
  std::vector<int64_t> axes;
  if (c.has(3)) {
    axes = c.integers(3);
  } else {
    axes.resize(static_cast<size_t>(x.ndim()));
    std::iota(axes.begin(), axes.end(), 0);
  }
  if (pads->size() != 2 * axes.size()) c.fail("another number of paddings than axes");
  Ints before(static_cast<size_t>(x.ndim()), 0), after(static_cast<size_t>(x.ndim()), 0);
  for (size_t k = 0; k < axes.size(); ++k) {
    const auto axis = static_cast<size_t>(normalize_axis(c.where, axes[k], x.ndim()));
    before[axis] = (*pads)[k];
    after[axis] = (*pads)[k + axes.size()];
  }
  const std::string mode = c.text_attribute("mode", "constant");
  if (mode == "constant") {
    const Tensor value = c.has(2)        ? reshape(c.tensor(2), {})
                         : c.opset >= 11 ? Tensor(0)
                                         : Tensor(c.real_attribute("value", 0));
    return {pad(x, before, after, value)};
  }
  if (mode == "reflect") {
    // What is longer than the axis is reflected again and again.
    Tensor y = x;
    for (int64_t axis = 0; axis < x.ndim(); ++axis) {
      int64_t& low = before[static_cast<size_t>(axis)];
      int64_t& high = after[static_cast<size_t>(axis)];
      const int64_t extent = x.shape(axis), period = 2 * (extent - 1);
      if (extent < 2 || (low < extent && high < extent)) continue;
      std::vector<int64_t> from;
      for (int64_t k = -low; k < extent + high; ++k) {
        const int64_t place = (k % period + period) % period;
        from.push_back(std::min(place, period - place));
      }
      y = take(y, tensor_of(from), axis);
      low = high = 0;
    }
    return {pad(y, before, after, PadMode::Reflect)};
  }
  const PadMode kind = mode == "edge" ? PadMode::Replicate : PadMode::Circular;
  return {pad(x, before, after, kind)};
}

Values gather_rule(Call& c) {
  const Tensor indices = c.tensor(1);
  return {moved(c, 0, [&](const Tensor& x) { return take(x, indices, c.integer_attribute("axis", 0)); })};
}
Values gather_elements(Call& c) {
  const Tensor indices = c.tensor(1);
  const int64_t axis = c.integer_attribute("axis", 0);
  // Elsewhere than along the axis the indices may cover less than x.
  return {moved(c, 0, [&](Tensor x) {
    const int64_t along = normalize_axis(c.where, axis, x.ndim());
    for (int64_t k = 0; k < x.ndim(); ++k) {
      if (k != along && x.shape(k) != indices.shape(k)) x = narrow(x, k, 0, indices.shape(k));
    }
    return take_along_axis(x, indices, along);
  })};
}

// Positions of the slices that rows of `indices` name, in x flattened over its first axes.
struct Rows {
  Tensor positions;  // [n]
  Shape index_shape, slice_shape;
  int64_t count = 1, width = 1;
};
Rows rows_of(Call& c, const Shape& shape, const Tensor& indices, size_t batch) {
  Rows r;
  const auto depth = static_cast<size_t>(indices.shape(-1));
  if (batch + depth > shape.size()) c.fail("an index has more parts than the data has axes");
  for (size_t k = 0; k + 1 < indices.shape().size(); ++k) r.index_shape.push_back(indices.shape()[k]);
  for (size_t k = 0; k < batch + depth; ++k) r.count *= shape[k];
  for (size_t k = batch + depth; k < shape.size(); ++k) {
    r.width *= shape[k];
    r.slice_shape.push_back(shape[k]);
  }
  Tensor position = zeros(r.index_shape, i64);
  for (size_t k = 0; k < batch; ++k) position = position * shape[k] + iota(r.index_shape, static_cast<int64_t>(k));
  for (size_t k = 0; k < depth; ++k) {
    Tensor part = cast(select(indices, -1, static_cast<int64_t>(k)), i64);
    const int64_t extent = shape[batch + k];
    // Of a capture's inputs the values are not known: negative ones count from the end, others are taken as they are.
    if (part.is_concrete() && part.size() > 0 &&
        (min(part).item<int64_t>() < -extent || max(part).item<int64_t>() >= extent))
      c.fail("an index is out of range", "below " + std::to_string(extent), to_string(part));
    part = where(part < 0, part + extent, part);
    position = position * extent + part;
  }
  r.positions = reshape(position, {-1});
  return r;
}

Values gather_nd(Call& c) {
  const Tensor indices = c.tensor(1);
  return {moved(c, 0, [&](const Tensor& x) {
    const Rows r = rows_of(c, x.shape(), indices, static_cast<size_t>(c.integer_attribute("batch_dims", 0)));
    Shape result = r.index_shape;
    for (int64_t d : r.slice_shape) result.push_back(d);
    return reshape(take(reshape(x, {r.count, r.width}), r.positions, 0), result);
  })};
}

ScatterMode scatter_mode(Call& c, const std::string& mode) {
  if (mode == "none") return ScatterMode::Set;
  if (mode == "add") return ScatterMode::Add;
  if (mode == "max") return ScatterMode::Max;
  if (mode == "min") return ScatterMode::Min;
  c.unsupported("reduction '" + mode + "'");
}
// Products have no scatter of their own: one place after another.
Tensor scatter_multiply(const Tensor& rows, const std::vector<int64_t>& places, const Tensor& values) {
  Tensor result = rows;
  for (size_t i = 0; i < places.size(); ++i) {
    const Tensor place = tensor_of({places[i]});
    const Tensor product = take(result, place, 0) * narrow(values, 0, static_cast<int64_t>(i), 1);
    result = scatter_along_axis(result, expand(reshape(place, {1, 1}), product.shape()), product, 0);
  }
  return result;
}

Values scatter_nd(Call& c) {
  const Tensor x = c.tensor(0), indices = c.tensor(1), updates = c.tensor(2);
  const std::string mode = c.text_attribute("reduction", "none");
  const Rows r = rows_of(c, x.shape(), indices, 0);
  const Tensor rows = reshape(x, {r.count, r.width}), values = reshape(updates, {r.positions.size(), r.width});
  if (mode == "mul") return {reshape(scatter_multiply(rows, r.positions.to_vector<int64_t>(), values), x.shape())};
  const Tensor places = expand(reshape(r.positions, {-1, 1}), values.shape());
  return {reshape(scatter_along_axis(rows, places, values, 0, scatter_mode(c, mode)), x.shape())};
}

Values scatter_elements(Call& c) {
  const Tensor x = c.tensor(0), updates = c.tensor(2);
  Tensor indices = c.tensor(1);
  const std::string mode = c.text_attribute("reduction", "none");
  const int64_t axis = normalize_axis(c.where, c.integer_attribute("axis", 0), x.ndim());
  // As positions in the flattened data: the indices may cover less than x elsewhere.
  indices = cast(indices, i64);
  indices = where(indices < 0, indices + x.shape(axis), indices);
  Tensor position = zeros(indices.shape(), i64);
  for (int64_t k = 0; k < x.ndim(); ++k)
    position = position * x.shape(k) + (k == axis ? indices : iota(indices.shape(), k));
  const Tensor flat = reshape(x, {-1}), places = reshape(position, {-1}), values = reshape(updates, {-1});
  if (mode == "mul")
    return {reshape(scatter_multiply(reshape(flat, {-1, 1}), places.to_vector<int64_t>(), reshape(values, {-1, 1})),
                    x.shape())};
  return {reshape(scatter_along_axis(flat, places, values, 0, scatter_mode(c, mode)), x.shape())};
}

// New rows written into a cache, along the sequence axis, from each batch's own place on.
Values tensor_scatter(Call& c) {
  const Tensor past = c.tensor(0), update = c.tensor(1);
  const int64_t axis = normalize_axis(c.where, c.integer_attribute("axis", -2), past.ndim());
  const bool circular = c.text_attribute("mode", "linear") == "circular";
  Tensor start = c.has(2) ? cast(c.tensor(2), i64) : zeros({past.shape(0)}, i64);
  Shape column(static_cast<size_t>(past.ndim()), 1);
  column[0] = past.shape(0);
  Tensor places = iota(update.shape(), axis) + reshape(start, column);
  if (circular) places = remainder(places, past.shape(axis));
  return {scatter_along_axis(past, places, update, axis)};
}

Values one_hot_rule(Call& c) {
  const Tensor indices = cast(c.tensor(0), i64), values = c.tensor(2);
  const auto depth = static_cast<int64_t>(c.number(1));
  const int64_t axis = normalize_axis(c.where, c.integer_attribute("axis", -1), indices.ndim() + 1);
  const Tensor index = unsqueeze(where(indices < 0, indices + depth, indices), {axis});
  Shape shape = index.shape();
  shape[static_cast<size_t>(axis)] = depth;
  return {where(equal(index, iota(shape, axis)), values[1], values[0])};
}

Values range_rule(Call& c) {
  const Tensor start = c.value(0);
  const DType dtype = start.dtype();
  if (is_integer(dtype)) {
    const int64_t a = start.item<int64_t>(), b = c.value(1).item<int64_t>(), step = c.value(2).item<int64_t>();
    if (step == 0) c.fail("the step is 0");
    return {arange(a, b, step, dtype)};
  }
  const double a = c.number(0), b = c.number(1), step = c.number(2);
  if (step == 0) c.fail("the step is 0");
  const auto count = std::max<int64_t>(0, static_cast<int64_t>(std::ceil((b - a) / step)));
  return {cast(cast(arange(count), f64) * step + a, dtype)};
}

Values tile_rule(Call& c) {
  const auto repeats = c.integers(1);
  return {moved(c, 0, [&](const Tensor& x) { return tile(x, ints_of(repeats)); })};
}

Values trilu(Call& c) {
  const Tensor x = c.tensor(0);
  const int64_t k = c.has(1) ? c.value(1).item<int64_t>() : 0;
  return {c.integer_attribute("upper", 1) != 0 ? triu(x, k) : tril(x, k)};
}

Values eye_like(Call& c) {
  const Tensor x = c.tensor(0);
  const auto* a = c.attribute("dtype");
  const DType dtype = a ? dtype_of(static_cast<DataType>(a->i), c.where) : x.dtype();
  const int64_t k = c.integer_attribute("k", 0);
  return {cast(equal(iota(x.shape(), 1), iota(x.shape(), 0) + k), dtype)};
}

// DCR has the place in the block as the slower part of the channel's number, CRD (and pixel_shuffle) as the faster.
Values depth_to_space(Call& c) {
  const int64_t b = c.integer_attribute("blocksize", 1);
  const bool slower = c.text_attribute("mode", "DCR") == "DCR";
  return {pixel_shuffle(slower ? channel_shuffle(c.tensor(0), b * b) : c.tensor(0), b)};
}
Values space_to_depth(Call& c) {
  const Tensor x = c.tensor(0);
  return {channel_shuffle(pixel_unshuffle(x, c.integer_attribute("blocksize", 1)), std::max<int64_t>(x.shape(1), 1))};
}

Values reverse_sequence(Call& c) {
  const Tensor x = c.tensor(0), lengths = cast(c.tensor(1), i64);
  const int64_t batch = c.integer_attribute("batch_axis", 1), time = c.integer_attribute("time_axis", 0);
  Shape column(static_cast<size_t>(x.ndim()), 1);
  column[static_cast<size_t>(batch)] = x.shape(batch);
  const Tensor length = reshape(lengths, column), t = iota(x.shape(), time);
  return {take_along_axis(x, where(t < length, length - 1 - t, t), time)};
}

Values compress(Call& c) {
  Tensor x = c.tensor(0);
  const auto keep = c.integers(1);
  int64_t axis = 0;
  if (c.attribute("axis")) {
    axis = normalize_axis(c.where, c.integer_attribute("axis", 0), x.ndim());
  } else {
    x = reshape(x, {-1});
  }
  std::vector<int64_t> places;
  for (size_t i = 0; i < keep.size(); ++i) {
    if (keep[i] != 0) places.push_back(static_cast<int64_t>(i));
  }
  return {take(x, tensor_of(places), axis)};
}

Values nonzero_rule(Call& c) { return {transpose(nonzero(c.tensor(0)), 0, 1)}; }

constexpr std::array kRules{
    Rule{"Constant", constant},
    Rule{"ConstantOfShape", constant_of_shape},
    Rule{"Identity", identity},
    Rule{"Shape", shape_rule},
    Rule{"Size", size_rule},
    Rule{"Reshape", reshape_rule},
    Rule{"Flatten", flatten_rule},
    Rule{"Transpose", transpose_rule},
    Rule{"Squeeze", squeeze_rule},
    Rule{"Unsqueeze", unsqueeze_rule},
    Rule{"Expand", expand_rule},
    Rule{"Concat", concat_rule},
    Rule{"Split", split_rule},
    Rule{"Slice", slice_rule},
    Rule{"Pad", pad_rule},
    Rule{"Gather", gather_rule},
    Rule{"GatherElements", gather_elements},
    Rule{"GatherND", gather_nd},
    Rule{"ScatterND", scatter_nd},
    Rule{"ScatterElements", scatter_elements},
    Rule{"Scatter", scatter_elements},
    Rule{"TensorScatter", tensor_scatter},
    Rule{"OneHot", one_hot_rule},
    Rule{"Range", range_rule},
    Rule{"Tile", tile_rule},
    Rule{"Trilu", trilu},
    Rule{"EyeLike", eye_like},
    Rule{"DepthToSpace", depth_to_space},
    Rule{"SpaceToDepth", space_to_depth},
    Rule{"ReverseSequence", reverse_sequence},
    Rule{"Compress", compress},
    Rule{"NonZero", nonzero_rule},
};

}  // namespace

std::span<const Rule> shape_rules() { return kRules; }

}  // namespace tenon::formats::onnx
