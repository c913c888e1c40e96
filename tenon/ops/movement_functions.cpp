// What users call to move elements, made of the primitives in movement.cpp.
#include <fmt/format.h>

#include <algorithm>

#include "tenon/base/error.h"
#include "tenon/ops/call.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/movement_ops.h"

namespace tenon {

using ops::call1;

namespace ops {
Tensor pad_interior(Tensor x, Tensor value, const Ints& low, const Ints& high, const Ints& interior) {
  return call1(pad_op(), {std::move(x), std::move(value)}, {low, high, interior});
}
}  // namespace ops

Tensor reshape(Tensor x, Shape shape) {
  int64_t known = 1;
  size_t unknown = shape.size();
  for (size_t i = 0; i < shape.size(); ++i) {
    if (shape[i] != -1) {
      known *= shape[i];
    } else if (unknown != shape.size()) {
      throw ValueError({"reshape", "more than one extent is -1", "at most one", to_string(shape), {}});
    } else {
      unknown = i;
    }
  }
  if (unknown != shape.size()) {
    if (known == 0 || x.size() % known != 0)
      throw ShapeError({"reshape",
                        "no extent in place of -1 gives as many elements",
                        fmt::format("{} elements", x.size()),
                        to_string(shape),
                        {}});
    shape[unknown] = x.size() / known;
  }
  if (x.shape() == shape) return x;
  return call1(ops::reshape_op(), {std::move(x)}, {shape});
}

Tensor flatten(Tensor x, int64_t start_axis, int64_t end_axis) {
  if (x.ndim() == 0) return reshape(std::move(x), {1});
  const int64_t first = normalize_axis("flatten", start_axis, x.ndim()),
                last = normalize_axis("flatten", end_axis, x.ndim());
  if (first > last)
    throw ValueError({"flatten",
                      "the axes are in the wrong order",
                      "start_axis before end_axis",
                      fmt::format("{} and {}", start_axis, end_axis),
                      {}});
  Shape shape;
  for (int64_t i = 0; i < x.ndim(); ++i) {
    if (i <= first || i > last) {
      shape.push_back(x.shape(i));
    } else {
      shape.back() *= x.shape(i);
    }
  }
  return reshape(std::move(x), shape);
}

Tensor squeeze(Tensor x, Ints axes) {
  axes = normalize_axes("squeeze", axes, x.ndim());
  const bool every = axes.empty();
  Shape shape;
  for (int64_t i = 0; i < x.ndim(); ++i) {
    const bool named = std::find(axes.begin(), axes.end(), i) != axes.end();
    if (named && x.shape(i) != 1)
      throw ShapeError({"squeeze", fmt::format("axis {} cannot be dropped", i), "extent 1", to_string(x.shape()), {}});
    if (!(every ? x.shape(i) == 1 : named)) shape.push_back(x.shape(i));
  }
  return reshape(std::move(x), shape);
}

Tensor unsqueeze(Tensor x, Ints axes) {
  const int64_t rank = x.ndim() + static_cast<int64_t>(axes.size());
  axes = normalize_axes("unsqueeze", axes, rank);
  Shape shape;
  for (int64_t i = 0, next = 0; i < rank; ++i) {
    const bool fresh = std::find(axes.begin(), axes.end(), i) != axes.end();
    shape.push_back(fresh ? 1 : x.shape(next++));
  }
  return reshape(std::move(x), shape);
}

Tensor permute(Tensor x, const Ints& order) { return call1(ops::permute_op(), {std::move(x)}, {order}); }

Tensor transpose(Tensor x, int64_t a, int64_t b) {
  Ints order;
  for (int64_t i = 0; i < x.ndim(); ++i) order.push_back(i);
  std::swap(order[static_cast<size_t>(normalize_axis("transpose", a, x.ndim()))],
            order[static_cast<size_t>(normalize_axis("transpose", b, x.ndim()))]);
  return permute(std::move(x), order);
}

Tensor moveaxis(Tensor x, int64_t from, int64_t to) {
  from = normalize_axis("moveaxis", from, x.ndim());
  to = normalize_axis("moveaxis", to, x.ndim());
  if (from == to) return x;
  Ints order;
  for (int64_t i = 0; i < x.ndim(); ++i) {
    if (i != from) order.push_back(i);
  }
  order.insert(order.begin() + to, from);
  return permute(std::move(x), order);
}

Tensor expand(Tensor x, Shape shape) {
  const size_t lead = shape.size() >= x.shape().size() ? shape.size() - x.shape().size() : 0;
  for (size_t i = lead; i < shape.size(); ++i) {
    if (shape[i] == -1) shape[i] = x.shape()[i - lead];
  }
  if (x.shape() == shape) return x;
  return call1(ops::expand_op(), {std::move(x)}, {shape});
}

Tensor slice(Tensor x, const Ints& axes, const Ints& starts, const Ints& stops, Ints steps) {
  if (steps.empty()) steps.resize(axes.size(), 1);
  if (starts.size() != axes.size() || stops.size() != axes.size() || steps.size() != axes.size())
    throw ValueError({"slice",
                      "axes, starts, stops and steps differ in length",
                      std::to_string(axes.size()),
                      fmt::format("{}, {} and {}", starts.size(), stops.size(), steps.size()),
                      {}});
  Ints first(x.shape().size(), 0), step(x.shape().size(), 1), size = x.shape();
  const Ints named = normalize_axes("slice", axes, x.ndim());
  for (size_t k = 0; k < named.size(); ++k) {
    const auto axis = static_cast<size_t>(named[k]);
    const int64_t extent = x.shape()[axis], by = steps[k];
    if (by == 0) throw ValueError({"slice", "the step is 0", "a step that leads from start to stop", "0", {}});
    // Python's rules: count from the end, then clip to what a walk in this direction can reach.
    const int64_t lowest = by > 0 ? 0 : -1, highest = by > 0 ? extent : extent - 1;
    const auto place = [&](int64_t p) {
      if (p == kEnd) return by > 0 ? highest : lowest;
      return std::clamp(p < 0 ? p + extent : p, lowest, highest);
    };
    const int64_t from = starts[k] == kEnd ? highest : place(starts[k]);
    const int64_t to = place(stops[k]);
    const int64_t distance = by > 0 ? to - from : from - to, pace = std::abs(by);
    size[axis] = distance > 0 ? (distance + pace - 1) / pace : 0;
    first[axis] = size[axis] == 0 ? 0 : from;
    step[axis] = by;
  }
  if (size == x.shape() && std::all_of(step.begin(), step.end(), [](int64_t s) { return s == 1; })) return x;
  return call1(ops::slice_op(), {std::move(x)}, {first, size, step});
}

Tensor flip(Tensor x, const Ints& axes) {
  const size_t n = axes.size();
  return slice(std::move(x), axes, Ints(n, kEnd), Ints(n, kEnd), Ints(n, -1));
}

Tensor select(Tensor x, int64_t axis, int64_t index) {
  if (x.ndim() == 0)
    throw IndexError({"select", "a 0-d tensor has no axis to index", "at least one axis", "[]", "x.item()"});
  axis = normalize_axis("select", axis, x.ndim());
  const int64_t extent = x.shape(axis);
  if (index < -extent || index >= extent)
    throw IndexError({"select",
                      fmt::format("index out of range on axis {}", axis),
                      fmt::format("{} to {}", -extent, extent - 1),
                      std::to_string(index),
                      {}});
  if (index < 0) index += extent;
  Shape shape = x.shape();
  shape.erase(shape.begin() + axis);
  return reshape(slice(std::move(x), {axis}, {index}, {index + 1}), shape);
}

Tensor Tensor::operator[](int64_t i) const { return select(*this, 0, i); }

Tensor narrow(Tensor x, int64_t axis, int64_t start, int64_t length) {
  axis = normalize_axis("narrow", axis, x.ndim());
  const int64_t extent = x.shape(axis);
  if (start < 0 || length < 0 || start + length > extent)
    throw IndexError({"narrow",
                      fmt::format("axis {} is left", axis),
                      fmt::format("a part of 0 … {}", extent),
                      fmt::format("{} … {}", start, start + length),
                      {}});
  return slice(std::move(x), {axis}, {start}, {start + length});
}

Tensor pad(Tensor x, const Ints& before, const Ints& after, Tensor value) {
  const auto zero = [](int64_t n) { return n == 0; };
  if (std::all_of(before.begin(), before.end(), zero) && std::all_of(after.begin(), after.end(), zero) &&
      before.size() == x.shape().size() && after.size() == before.size())
    return x;
  // The value takes x's dtype, not the other way round.
  Tensor filling = cast(std::move(value), x.dtype());
  const Ints interior(before.size(), 0);
  return ops::pad_interior(std::move(x), std::move(filling), before, after, interior);
}

Tensor pad(Tensor x, const Ints& before, const Ints& after, PadMode mode) {
  if (before.size() != x.shape().size() || after.size() != before.size())
    throw ValueError({"pad",
                      "before and after must have one number for each axis",
                      std::to_string(x.ndim()),
                      fmt::format("{} and {}", before.size(), after.size()),
                      {}});
  for (int64_t axis = 0; axis < x.ndim(); ++axis) {
    const int64_t low = before[static_cast<size_t>(axis)], high = after[static_cast<size_t>(axis)], n = x.shape(axis);
    if (low == 0 && high == 0) continue;
    const int64_t most = mode == PadMode::Reflect ? n - 1 : mode == PadMode::Circular ? n : INT64_MAX;
    if (low < 0 || high < 0 || low > most || high > most || n == 0)
      throw ValueError({"pad",
                        fmt::format("axis {} of extent {} cannot be padded so", axis, n),
                        most == INT64_MAX ? "counts of 0 or more" : fmt::format("counts from 0 to {}", most),
                        fmt::format("{} and {}", low, high),
                        {}});
    Tensors parts;
    switch (mode) {
      case PadMode::Reflect:
        if (low) parts.push_back(flip(narrow(x, axis, 1, low), {axis}));
        parts.push_back(x);
        if (high) parts.push_back(flip(narrow(x, axis, n - 1 - high, high), {axis}));
        break;
      case PadMode::Replicate:
        if (low) parts.push_back(repeat_interleave(narrow(x, axis, 0, 1), low, axis));
        parts.push_back(x);
        if (high) parts.push_back(repeat_interleave(narrow(x, axis, n - 1, 1), high, axis));
        break;
      case PadMode::Circular:
        if (low) parts.push_back(narrow(x, axis, n - low, low));
        parts.push_back(x);
        if (high) parts.push_back(narrow(x, axis, 0, high));
        break;
    }
    x = concat(parts, axis);
  }
  return x;
}

Tensor concat(const Tensors& parts, int64_t axis) {
  if (parts.size() == 1) {
    normalize_axis("concat", axis, parts[0].ndim());
    return parts[0];
  }
  return call1(ops::concat_op(), parts, {axis});
}

Tensor center_crop(Tensor x, const Ints& axes, const Ints& extents) {
  if (axes.size() != extents.size())
    throw ValueError({"center_crop",
                      "there is not one extent for each axis",
                      std::to_string(axes.size()),
                      std::to_string(extents.size()),
                      {}});
  const Ints normal = normalize_axes("center_crop", axes, x.ndim());
  Ints before(static_cast<size_t>(x.ndim()), 0), after = before;
  for (size_t k = 0; k < normal.size(); ++k) {
    const int64_t axis = normal[k], have = x.shape(axis), want = extents[k];
    if (want < 0) throw ValueError({"center_crop", "an extent is negative", "0 or more", to_string(extents), {}});
    if (want <= have) {
      x = narrow(std::move(x), axis, (have - want) / 2, want);
    } else {
      before[static_cast<size_t>(axis)] = (want - have) / 2;
      after[static_cast<size_t>(axis)] = want - have - (want - have) / 2;
    }
  }
  return pad(std::move(x), before, after);
}

Tensor stack(const Tensors& parts, int64_t axis) {
  Tensors lifted;
  for (const auto& x : parts) {
    if (x.shape() != parts[0].shape())
      throw ShapeError(
          {"stack", "the parts have different shapes", to_string(parts[0].shape()), to_string(x.shape()), {}});
    lifted.push_back(unsqueeze(x, {axis}));
  }
  return concat(lifted, axis);
}

Tensors split(Tensor x, const Ints& sizes, int64_t axis) {
  axis = normalize_axis("split", axis, x.ndim());
  int64_t total = 0;
  for (int64_t s : sizes) total += s;
  if (total != x.shape(axis))
    throw ShapeError({"split",
                      fmt::format("the sizes do not add up to axis {}", axis),
                      std::to_string(x.shape(axis)),
                      to_string(sizes),
                      {}});
  Tensors parts;
  int64_t start = 0;
  for (int64_t s : sizes) {
    parts.push_back(narrow(x, axis, start, s));
    start += s;
  }
  return parts;
}

Tensors chunk(Tensor x, int64_t chunks, int64_t axis) {
  axis = normalize_axis("chunk", axis, x.ndim());
  if (chunks < 1)
    throw ValueError({"chunk", "the number of chunks is not positive", "1 or more", std::to_string(chunks), {}});
  const int64_t extent = x.shape(axis), each = std::max<int64_t>(1, (extent + chunks - 1) / chunks);
  Ints sizes;
  for (int64_t start = 0; start < extent || sizes.empty(); start += each)
    sizes.push_back(std::min(each, extent - start));
  return split(std::move(x), sizes, axis);
}

Tensor repeat_interleave(Tensor x, int64_t repeats, int64_t axis) {
  axis = normalize_axis("repeat_interleave", axis, x.ndim());
  if (repeats < 0)
    throw ValueError({"repeat_interleave", "the count is negative", "0 or more", std::to_string(repeats), {}});
  Shape wide = x.shape(), result = x.shape();
  wide.insert(wide.begin() + axis + 1, repeats);
  result[static_cast<size_t>(axis)] *= repeats;
  return reshape(expand(unsqueeze(std::move(x), {axis + 1}), wide), result);
}

Tensor tile(Tensor x, const Ints& repeats) {
  for (int64_t n : repeats) {
    if (n < 0) throw ValueError({"tile", "a negative number of repeats", "0 or more", to_string(repeats), {}});
  }
  Ints counts = repeats;
  while (counts.size() < x.shape().size()) counts.insert(counts.begin(), 1);
  Shape shape = x.shape();
  while (shape.size() < counts.size()) shape.insert(shape.begin(), 1);
  Shape narrow_shape, wide, result;
  for (size_t i = 0; i < shape.size(); ++i) {
    narrow_shape.push_back(1);
    narrow_shape.push_back(shape[i]);
    wide.push_back(counts[i]);
    wide.push_back(shape[i]);
    result.push_back(counts[i] * shape[i]);
  }
  return reshape(expand(reshape(std::move(x), narrow_shape), wide), result);
}

Tensor roll(Tensor x, const Ints& shifts, const Ints& axes) {
  if (shifts.size() != axes.size())
    throw ValueError(
        {"roll", "shifts and axes differ in length", std::to_string(axes.size()), std::to_string(shifts.size()), {}});
  for (size_t k = 0; k < axes.size(); ++k) {
    const int64_t axis = normalize_axis("roll", axes[k], x.ndim()), n = x.shape(axis);
    if (n == 0) continue;
    const int64_t shift = ((shifts[k] % n) + n) % n;
    if (shift != 0) x = concat({narrow(x, axis, n - shift, shift), narrow(x, axis, 0, n - shift)}, axis);
  }
  return x;
}

namespace {

// column - row of the last two axes.
Tensor band(const char* where, const Tensor& x) {
  if (x.ndim() < 2)
    throw ShapeError({where, "the input has no matrix axes", "at least 2 axes", to_string(x.shape()), {}});
  const Shape matrix{x.shape(-2), x.shape(-1)};
  return iota(matrix, 1) - iota(matrix, 0);
}

}  // namespace

Tensor tril(Tensor x, int64_t diagonal) { return where(less_equal(band("tril", x), diagonal), x, 0); }
Tensor triu(Tensor x, int64_t diagonal) { return where(greater_equal(band("triu", x), diagonal), x, 0); }
Tensor diagonal(Tensor x, int64_t offset) { return call1(ops::diagonal_op(), {std::move(x)}, {offset}); }

}  // namespace tenon
