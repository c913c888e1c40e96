// Movement primitives: reshape, permute, expand, slice, diagonal (windows on the same buffer), pad and concat (copies).
// What is made of them stands in movement_functions.cpp. To add an op: a definition and a line in movement_ops().
#include "tenon/ops/movement.h"

#include <fmt/format.h>

#include <algorithm>

#include "tenon/base/error.h"
#include "tenon/ops/call.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/infer.h"
#include "tenon/ops/movement_ops.h"
#include "tenon/ops/reduce.h"
#include "tenon/tensor/element.h"

namespace tenon::ops {
namespace {

Ints with_front(int64_t first, const Ints& rest) {
  Ints r{first};
  for (int64_t v : rest) r.push_back(v);
  return r;
}

// The strides that show a strided tensor under another shape without a copy, if there are such.
bool reshape_window(const Window& in, const ir::Attrs&, const Shape& out, Window& result) {
  result = {out, contiguous_strides(out), in.offset};
  if (numel(out) == 0) return true;
  // Axes of the input that lie one in another form blocks; each block must be split by whole axes of the output.
  Shape extents, strides;
  for (size_t i = 0; i < in.shape.size(); ++i) {
    if (in.shape[i] == 1) continue;
    if (!extents.empty() && strides.back() == in.strides[i] * in.shape[i]) {
      extents.back() *= in.shape[i];
      strides.back() = in.strides[i];
    } else {
      extents.push_back(in.shape[i]);
      strides.push_back(in.strides[i]);
    }
  }
  size_t block = extents.size();
  int64_t left = 1, stride = 1;
  for (size_t i = out.size(); i-- > 0;) {
    if (out[i] == 1) {
      result.strides[i] = 0;
      continue;
    }
    if (left == 1) {
      if (block == 0) return false;
      --block;
      left = extents[block];
      stride = strides[block];
    }
    if (left % out[i] != 0) return false;
    result.strides[i] = stride;
    stride *= out[i];
    left /= out[i];
  }
  return left == 1;
}

const OpDef& reshape_def() {
  static const OpDef def{
      .name = "reshape",
      .doc = "The same elements in row-major order under another shape of as many elements.",
      .inputs = {{"x", kAny}},
      .attrs = {{"shape", 1, ir::AttrType::IntList, "the result's shape"}},
      .infer =
          [](const InferArgs& a) {
            const Shape& shape = a.attrs.ints(0);
            if (numel(shape) != numel(a.in[0].shape) ||
                std::any_of(shape.begin(), shape.end(), [](int64_t d) { return d < 0; }))
              fail_shape(a, "the shapes have different numbers of elements",
                         fmt::format("{} elements", numel(a.in[0].shape)),
                         fmt::format("{}, {} elements", to_string(shape), numel(shape)),
                         "one extent may be -1: reshape(x, {-1, …})");
            return std::vector<TensorType>{{a.in[0].dtype, shape}};
          },
      .meaning = Relayout{reshape_window},
      .gradient = Vjp{[](const VjpArgs& a) { return Tensors{reshape(a.ct[0], a.in_types[0].shape)}; }},
      .batching =
          BatchRule{[](const BatchArgs& a) { return Tensors{reshape(a.in[0], with_front(a.size, a.attrs.ints(0)))}; }},
      .samples =
          [] {
            return std::vector<Sample>{{{{{2, 3}}}, {Ints{3, 2}}},
                                       {{{{2, 3, 4}}}, {Ints{6, 4}}},
                                       {{{{1}}}, {Ints{}}},
                                       {{{{0, 3}}}, {Ints{3, 0, 2}}}};
          },
      .invalid_samples =
          [] { return std::vector<InvalidSample>{{{{{2, 3}}}, {Ints{4}}, "different numbers of elements"}}; }};
  return def;
}

const OpDef& permute_def() {
  static const OpDef def{
      .name = "permute",
      .doc = "Axis i of the result is axis order[i] of x.",
      .inputs = {{"x", kAny}},
      .attrs = {{"order", 1, ir::AttrType::IntList, "a permutation of the axes"}},
      .infer =
          [](const InferArgs& a) {
            const auto rank = static_cast<int64_t>(a.in[0].shape.size());
            const Ints order = normalize_axes(a.op.name, a.attrs.ints(0), rank);
            if (static_cast<int64_t>(order.size()) != rank)
              fail_value(a, "the order does not name every axis once", fmt::format("a permutation of 0 … {}", rank - 1),
                         to_string(a.attrs.ints(0)));
            Shape shape;
            for (int64_t axis : order) shape.push_back(a.in[0].shape[static_cast<size_t>(axis)]);
            return std::vector<TensorType>{{a.in[0].dtype, shape}};
          },
      .meaning = Relayout{[](const Window& in, const ir::Attrs& attrs, const Shape& out, Window& result) {
        result = {out, out, in.offset};
        const Ints order = normalize_axes("permute", attrs.ints(0), static_cast<int64_t>(out.size()));
        for (size_t i = 0; i < out.size(); ++i) result.strides[i] = in.strides[static_cast<size_t>(order[i])];
        return true;
      }},
      .gradient = Vjp{[](const VjpArgs& a) {
        const Ints order = normalize_axes("permute", a.attrs.ints(0), static_cast<int64_t>(a.in_types[0].shape.size()));
        Ints inverse(order.size());
        for (size_t i = 0; i < order.size(); ++i) inverse[static_cast<size_t>(order[i])] = static_cast<int64_t>(i);
        return Tensors{permute(a.ct[0], inverse)};
      }},
      .batching = BatchRule{[](const BatchArgs& a) {
        Ints order{0};
        for (int64_t axis : normalize_axes("permute", a.attrs.ints(0), a.in[0].ndim() - 1)) order.push_back(axis + 1);
        return Tensors{permute(a.in[0], order)};
      }},
      .samples =
          [] {
            return std::vector<Sample>{
                {{{{2, 3, 4}}}, {Ints{2, 0, 1}}}, {{{{2, 3}}}, {Ints{-1, 0}}}, {{{{}}}, {Ints{}}}};
          },
      .invalid_samples =
          [] {
            return std::vector<InvalidSample>{{{{{2, 3}}}, {Ints{0}}, "every axis once"},
                                              {{{{2, 3}}}, {Ints{0, 2}}, "axis"},
                                              {{{{2, 3}}}, {Ints{1, 1}}, "axis"}};
          }};
  return def;
}

const OpDef& expand_def() {
  static const OpDef def{
      .name = "expand",
      .doc = "Repeats axes of extent 1, and adds axes in front, to reach the shape, by NumPy's broadcasting rule.",
      .inputs = {{"x", kAny}},
      .attrs = {{"shape", 1, ir::AttrType::IntList, "the result's shape"}},
      .infer =
          [](const InferArgs& a) {
            const Shape& from = a.in[0].shape;
            const Shape& to = a.attrs.ints(0);
            bool fits = to.size() >= from.size();
            for (size_t i = 0; fits && i < from.size(); ++i) {
              const int64_t want = to[to.size() - from.size() + i];
              fits = from[i] == want || (from[i] == 1 && want >= 0);
            }
            if (!fits)
              fail_shape(a, "the shape cannot be reached by repeating axes of extent 1", to_string(to),
                         to_string(from));
            return std::vector<TensorType>{{a.in[0].dtype, to}};
          },
      .meaning = Relayout{[](const Window& in, const ir::Attrs&, const Shape& out, Window& result) {
        result = {out, Shape(out.size(), 0), in.offset};
        const size_t lead = out.size() - in.shape.size();
        for (size_t i = 0; i < in.shape.size(); ++i)
          result.strides[lead + i] = in.shape[i] == out[lead + i] ? in.strides[i] : 0;
        return true;
      }},
      .gradient = Vjp{[](const VjpArgs& a) { return Tensors{sum_to(a.ct[0], a.in_types[0].shape)}; }},
      .batching = BatchRule{[](const BatchArgs& a) {
        const Shape& to = a.attrs.ints(0);
        Shape aligned{a.size};
        for (size_t i = static_cast<size_t>(a.in[0].ndim()) - 1; i < to.size(); ++i) aligned.push_back(1);
        for (int64_t k = 1; k < a.in[0].ndim(); ++k) aligned.push_back(a.in[0].shape(k));
        return Tensors{expand(reshape(a.in[0], aligned), with_front(a.size, to))};
      }},
      .samples =
          [] {
            return std::vector<Sample>{{{{{3, 1}}}, {Ints{2, 3, 4}}},
                                       {{{{}}}, {Ints{2, 2}}},
                                       {{{{2, 3}}}, {Ints{2, 3}}},
                                       {{{{1, 3}}}, {Ints{0, 3}}}};
          },
      .invalid_samples =
          [] {
            return std::vector<InvalidSample>{{{{{2, 3}}}, {Ints{2, 4}}, "repeating axes"},
                                              {{{{2, 3}}}, {Ints{3}}, "repeating axes"}};
          }};
  return def;
}

// Sizes of what a slice leaves: everything that is needed to place it back.
Tensors slice_vjp(const VjpArgs& a) {
  const Shape& shape = a.in_types[0].shape;
  const Ints &starts = a.attrs.ints(0), &sizes = a.attrs.ints(1), &steps = a.attrs.ints(2);
  Tensor ct = a.ct[0];
  Ints low, high, interior, flipped;
  for (size_t i = 0; i < shape.size(); ++i) {
    const int64_t step = std::abs(steps[i]), span = sizes[i] == 0 ? 0 : (sizes[i] - 1) * step + 1;
    const int64_t first = steps[i] > 0 ? starts[i] : starts[i] - (span == 0 ? 0 : span - 1);
    if (steps[i] < 0) flipped.push_back(static_cast<int64_t>(i));
    low.push_back(span == 0 ? 0 : first);
    high.push_back(shape[i] - low.back() - span);
    interior.push_back(step - 1);
  }
  if (!flipped.empty()) ct = flip(ct, flipped);
  return {pad_interior(ct, Tensor(0), low, high, interior)};
}

const OpDef& slice_def() {
  static const OpDef def{
      .name = "slice",
      .doc = "sizes[i] elements of every axis i: starts[i], starts[i] + steps[i], …; a negative step runs backwards.",
      .inputs = {{"x", kAny}},
      .attrs = {{"starts", 1, ir::AttrType::IntList, "the first element, one for each axis"},
                {"sizes", 2, ir::AttrType::IntList, "how many elements"},
                {"steps", 3, ir::AttrType::IntList, "distance between them"}},
      .infer =
          [](const InferArgs& a) {
            const Shape& shape = a.in[0].shape;
            const Ints &starts = a.attrs.ints(0), &sizes = a.attrs.ints(1), &steps = a.attrs.ints(2);
            if (starts.size() != shape.size() || sizes.size() != shape.size() || steps.size() != shape.size())
              fail_value(a, "starts, sizes and steps must have one number for each axis", std::to_string(shape.size()),
                         fmt::format("{}, {} and {}", starts.size(), sizes.size(), steps.size()));
            for (size_t i = 0; i < shape.size(); ++i) {
              const int64_t last = starts[i] + (sizes[i] - 1) * steps[i];
              if (sizes[i] < 0 || steps[i] == 0 ||
                  (sizes[i] > 0 && (starts[i] < 0 || starts[i] >= shape[i] || last < 0 || last >= shape[i])))
                throw IndexError({"slice",
                                  fmt::format("axis {} is left", i),
                                  fmt::format("elements 0 to {}", shape[i] - 1),
                                  fmt::format("{} elements from {} by {}", sizes[i], starts[i], steps[i]),
                                  {}});
            }
            return std::vector<TensorType>{{a.in[0].dtype, sizes}};
          },
      .meaning = Relayout{[](const Window& in, const ir::Attrs& attrs, const Shape& out, Window& result) {
        result = {out, in.strides, in.offset};
        for (size_t i = 0; i < out.size(); ++i) {
          if (out[i] != 0) result.offset += attrs.ints(0)[i] * in.strides[i];
          result.strides[i] *= attrs.ints(2)[i];
        }
        return true;
      }},
      .gradient = Vjp{slice_vjp},
      .batching = BatchRule{[](const BatchArgs& a) {
        return call(
            a.op, {a.in[0]},
            {with_front(0, a.attrs.ints(0)), with_front(a.size, a.attrs.ints(1)), with_front(1, a.attrs.ints(2))});
      }},
      .samples =
          [] {
            return std::vector<Sample>{{{{{5, 4}}}, {Ints{1, 0}, Ints{3, 2}, Ints{1, 2}}},
                                       {{{{5}}}, {Ints{4}, Ints{3}, Ints{-2}}},
                                       {{{{5}}}, {Ints{0}, Ints{0}, Ints{1}}},
                                       {{{{2, 3, 2}}}, {Ints{0, 2, 1}, Ints{2, 2, 1}, Ints{1, -1, 1}}}};
          },
      .invalid_samples =
          [] {
            return std::vector<InvalidSample>{{{{{5}}}, {Ints{3}, Ints{4}, Ints{1}}, "axis 0 is left"},
                                              {{{{5}}}, {Ints{3}, Ints{1}, Ints{0}}, "axis 0 is left"},
                                              {{{{5}}}, {Ints{}, Ints{1}, Ints{1}}, "one number for each axis"}};
          }};
  return def;
}

const OpDef& diagonal_def() {
  static const OpDef def{
      .name = "diagonal",
      .doc =
          "The diagonal of the last two axes: element i is x[…, i, i + offset] (x[…, i - offset, i] for a negative "
          "offset).",
      .inputs = {{"x", kAny}},
      .attrs = {{"offset", 1, ir::AttrType::Int, "above (positive) or below the main diagonal"}},
      .infer =
          [](const InferArgs& a) {
            expect_rank(a, 0, 2);
            Shape shape = a.in[0].shape;
            const int64_t offset = a.attrs.integer(0);
            int64_t columns = shape.back(), rows = shape[shape.size() - 2];
            (offset >= 0 ? columns : rows) -= std::abs(offset);
            shape.pop_back();
            shape.back() = std::max<int64_t>(0, std::min(rows, columns));
            return std::vector<TensorType>{{a.in[0].dtype, shape}};
          },
      .meaning = Relayout{[](const Window& in, const ir::Attrs& attrs, const Shape& out, Window& result) {
        const size_t n = in.shape.size();
        const int64_t offset = attrs.integer(0);
        result = {out, Shape(in.strides.begin(), in.strides.end() - 1), in.offset};
        result.strides.back() = in.strides[n - 2] + in.strides[n - 1];
        if (out.back() != 0) result.offset += offset >= 0 ? offset * in.strides[n - 1] : -offset * in.strides[n - 2];
        return true;
      }},
      .gradient = Vjp{[](const VjpArgs& a) {
        const Shape& shape = a.in_types[0].shape;
        const int64_t rows = shape[shape.size() - 2], columns = shape.back(), offset = a.attrs.integer(0);
        const Tensor here = equal(iota({rows, columns}, 1) - iota({rows, columns}, 0), offset);
        // Element i of the diagonal lies in row i (in column i, for a negative offset).
        Ints none(static_cast<size_t>(a.ct[0].ndim()), 0), after = none;
        after.back() = (offset >= 0 ? rows : columns) - a.ct[0].shape(-1);
        const Tensor line = unsqueeze(pad(a.ct[0], none, after), {offset >= 0 ? -1 : -2});
        return Tensors{where(here, expand(line, shape), 0)};
      }},
      .batching = LeadingAxes{},
      .samples =
          [] {
            return std::vector<Sample>{
                {{{{3, 4}}}, {int64_t{0}}}, {{{{2, 3, 3}}}, {int64_t{1}}}, {{{{4, 3}}}, {int64_t{-2}}}};
          },
      .invalid_samples = [] { return std::vector<InvalidSample>{{{{{3}}}, {int64_t{0}}, "wrong rank"}}; }};
  return def;
}

// ---- pad -----------------------------------------------------------------------------------
void pad_reference(const ReferenceArgs& a) {
  const ConstView &x = a.inputs[0], &value = a.inputs[1];
  const View& out = a.outputs[0];
  const Ints &low = a.attrs.ints(0), &interior = a.attrs.ints(2);
  ElementCursor to(out);
  for (int64_t n = numel(out.shape); n > 0; --n, to.next()) {
    int64_t from = x.offset;
    bool inside = true;
    for (size_t i = 0; i < out.shape.size() && inside; ++i) {
      const int64_t position = to.index()[i] - low[i], stride = interior[i] + 1;
      inside = position >= 0 && position % stride == 0 && position / stride < x.shape[i];
      if (inside) from += position / stride * x.strides[i];
    }
    inside ? convert_element(x, from, out, to.element()) : convert_element(value, value.offset, out, to.element());
  }
}

// The part of the cotangent that belongs to x.
Tensor unpad(const Tensor& ct, const Shape& shape, const ir::Attrs& attrs) {
  const Ints &low = attrs.ints(0), &interior = attrs.ints(2);
  // Cut ends leave nothing of x there: their gradient is 0, put back by padding.
  Ints starts, sizes, steps, before, after;
  for (size_t i = 0; i < shape.size(); ++i) {
    const int64_t step = interior[i] + 1, extent = ct.shape()[i];
    int64_t first = 0, count = 0;
    for (int64_t k = 0; k < shape[i]; ++k) {
      const int64_t position = low[i] + k * step;
      if (position < 0 || position >= extent) continue;
      if (count++ == 0) first = k;
    }
    starts.push_back(count == 0 ? 0 : low[i] + first * step);
    sizes.push_back(count);
    steps.push_back(step);
    before.push_back(first);
    after.push_back(shape[i] - first - count);
  }
  return pad(call1(slice_def(), {ct}, {starts, sizes, steps}), before, after);
}

const OpDef& pad_def() {
  static const OpDef def{
      .name = "pad",
      .doc =
          "x between low[i] and high[i] elements of `value` on axis i, and interior[i] of them between its elements. "
          "Negative low and high cut.",
      .inputs = {{"x", kAny}, {"value", kAny}},
      .attrs = {{"low", 1, ir::AttrType::IntList},
                {"high", 2, ir::AttrType::IntList},
                {"interior", 3, ir::AttrType::IntList}},
      .promote = kPromoteAll,
      .infer =
          [](const InferArgs& a) {
            Shape shape = a.in[0].shape;
            if (!a.in[1].shape.empty()) fail_shape(a, "the value is not a scalar", "[]", to_string(a.in[1].shape));
            for (size_t k = 0; k < 3; ++k) {
              if (a.attrs.ints(k).size() != shape.size())
                fail_value(a, fmt::format("'{}' must have one number for each axis", a.op.attrs[k].name),
                           std::to_string(shape.size()), to_string(a.attrs.ints(k)));
            }
            for (size_t i = 0; i < shape.size(); ++i) {
              const int64_t interior = a.attrs.ints(2)[i];
              if (interior < 0) fail_value(a, "'interior' is negative", "0 or more", std::to_string(interior));
              const int64_t inner = shape[i] == 0 ? 0 : shape[i] + (shape[i] - 1) * interior;
              shape[i] = inner + a.attrs.ints(0)[i] + a.attrs.ints(1)[i];
              if (shape[i] < 0)
                fail_shape(a, fmt::format("more is cut from axis {} than it has", i),
                           "at most " + std::to_string(inner),
                           std::to_string(-a.attrs.ints(0)[i] - a.attrs.ints(1)[i]));
            }
            return std::vector<TensorType>{{a.in[0].dtype, shape}};
          },
      .meaning = Primitive{pad_reference},
      .gradient = Vjp{[](const VjpArgs& a) {
        const Tensor dx = unpad(a.ct[0], a.in_types[0].shape, a.attrs);
        return Tensors{dx, a.needs[1] ? sum(a.ct[0]) - sum(dx) : Tensor()};
      }},
      .batching = BatchRule{[](const BatchArgs& a) {
        const ir::Attrs attrs{with_front(0, a.attrs.ints(0)), with_front(0, a.attrs.ints(1)),
                              with_front(0, a.attrs.ints(2))};
        Shape shape = a.in[0].shape();
        if (!a.batched[0]) shape.insert(shape.begin(), a.size);
        const Tensor x = expand(a.in[0], shape);
        if (!a.batched[1]) return call(a.op, {x, a.in[1]}, attrs);
        // Each example has a value of its own: fill where the mask says padding.
        const Tensor inside = call1(a.op, {cast(ones_like(x), DType::Bool), Tensor(false)}, attrs);
        Shape column(static_cast<size_t>(x.ndim()), 1);
        column[0] = a.size;
        return Tensors{where(inside, call1(a.op, {x, cast(0, x.dtype())}, attrs), reshape(a.in[1], column))};
      }},
      .samples =
          [] {
            return std::vector<Sample>{{{{{2, 3}}, {{}}}, {Ints{1, 0}, Ints{0, 2}, Ints{0, 0}}},
                                       {{{{4}}, {{}}}, {Ints{-1}, Ints{-1}, Ints{0}}},
                                       {{{{3, 2}}, {{}}}, {Ints{1, -1}, Ints{0, 1}, Ints{2, 1}}},
                                       {{{{0}}, {{}}}, {Ints{1}, Ints{1}, Ints{0}}}};
          },
      .invalid_samples =
          [] {
            return std::vector<InvalidSample>{{{{{2}}, {{}}}, {Ints{-3}, Ints{0}, Ints{0}}, "more is cut"},
                                              {{{{2}}, {{}}}, {Ints{}, Ints{0}, Ints{0}}, "one number for each axis"},
                                              {{{{2}}, {{2}}}, {Ints{0}, Ints{0}, Ints{0}}, "not a scalar"}};
          }};
  return def;
}

// ---- concat --------------------------------------------------------------------------------
std::vector<TensorType> concat_infer(const InferArgs& a) {
  if (a.in.empty()) fail_value(a, "there is nothing to join", "at least one tensor", "none");
  Shape shape = a.in[0].shape;
  const int64_t axis = normalize_axis(a.op.name, a.attrs.integer(0), static_cast<int64_t>(shape.size()));
  const auto k = static_cast<size_t>(axis);
  for (size_t i = 1; i < a.in.size(); ++i) {
    Shape other = a.in[i].shape;
    const int64_t extent = other.size() == shape.size() ? std::exchange(other[k], shape[k]) : 0;
    if (other != shape)
      fail_shape(a, fmt::format("part {} does not fit the first one outside of axis {}", i, axis),
                 to_string(a.in[0].shape), to_string(a.in[i].shape));
    shape[k] += extent;
  }
  return {{a.in[0].dtype, shape}};
}

const OpDef& concat_def() {
  static const OpDef def{.name = "concat",
                         .doc = "The parts one after another along an axis. All other extents must be equal.",
                         .inputs = {{"parts", kAny, ArgKind::Variadic}},
                         .attrs = {{"axis", 1, ir::AttrType::Int}},
                         .promote = kPromoteAll,
                         .infer = concat_infer,
                         .meaning = Primitive{[](const ReferenceArgs& a) {
                           const View& out = a.outputs[0];
                           const auto axis = static_cast<size_t>(
                               normalize_axis("concat", a.attrs.integer(0), static_cast<int64_t>(out.shape.size())));
                           int64_t start = 0;
                           for (const auto& part : a.inputs) {
                             ElementCursor from(part);
                             ElementCursor to(part.shape, out.strides, out.offset + start * out.strides[axis]);
                             for (int64_t n = numel(part.shape); n > 0; --n, from.next(), to.next())
                               convert_element(part, from.element(), out, to.element());
                             start += part.shape[axis];
                           }
                         }},
                         .gradient = Vjp{[](const VjpArgs& a) {
                           const int64_t axis = normalize_axis("concat", a.attrs.integer(0),
                                                               static_cast<int64_t>(a.out_types[0].shape.size()));
                           Tensors parts;
                           int64_t start = 0;
                           for (size_t i = 0; i < a.in_types.size(); ++i) {
                             const int64_t extent = a.in_types[i].shape[static_cast<size_t>(axis)];
                             parts.push_back(a.needs[i] ? narrow(a.ct[0], axis, start, extent) : Tensor());
                             start += extent;
                           }
                           return parts;
                         }},
                         .batching = BatchRule{[](const BatchArgs& a) {
                           Tensors parts;
                           int64_t rank = 0;
                           for (size_t i = 0; i < a.in.size(); ++i) {
                             Shape shape = a.in[i].shape();
                             if (!a.batched[i]) shape.insert(shape.begin(), a.size);
                             parts.push_back(expand(a.in[i], shape));
                             rank = parts.back().ndim() - 1;
                           }
                           return call(a.op, parts, {normalize_axis("concat", a.attrs.integer(0), rank) + 1});
                         }},
                         .samples =
                             [] {
                               return std::vector<Sample>{{{{{2, 3}}, {{2, 1}}, {{2, 2}}}, {int64_t{1}}},
                                                          {{{{2, 3}}, {{0, 3}}}, {int64_t{0}}},
                                                          {{{{3}}}, {int64_t{-1}}}};
                             },
                         .invalid_samples =
                             [] {
                               return std::vector<InvalidSample>{{{{{2, 3}}, {{3, 3}}}, {int64_t{1}}, "does not fit"},
                                                                 {{}, {int64_t{0}}, "nothing to join"},
                                                                 {{{{2}}, {{2}}}, {int64_t{1}}, "axis"},
                                                                 {{{{2}}, {{2, 2}}}, {int64_t{0}}, "does not fit"}};
                             }};
  return def;
}

}  // namespace

const OpDef& reshape_op() { return reshape_def(); }
const OpDef& permute_op() { return permute_def(); }
const OpDef& expand_op() { return expand_def(); }
const OpDef& slice_op() { return slice_def(); }
const OpDef& diagonal_op() { return diagonal_def(); }
const OpDef& pad_op() { return pad_def(); }
const OpDef& concat_op() { return concat_def(); }

std::vector<const OpDef*> movement_ops() {
  return {&reshape_def(), &permute_def(), &expand_def(), &slice_def(), &diagonal_def(), &pad_def(), &concat_def()};
}

}  // namespace tenon::ops
