#include "tenon/trace/vmap.h"

#include <fmt/format.h>

#include <algorithm>

#include "tenon/base/error.h"
#include "tenon/ops/call.h"
#include "tenon/ops/infer.h"
#include "tenon/ops/movement.h"
#include "tenon/trace/control.h"
#include "tenon/trace/state.h"

namespace tenon {
namespace trace {

const BatchedValue* batched(const Tensor& x) {
  const Placeholder* held = x.defined() ? x.impl()->placeholder.get() : nullptr;
  // Each op of a compiled function asks; a lazy value says no for less than a cast costs.
  return held != nullptr && !held->lazy() ? dynamic_cast<const BatchedValue*>(held) : nullptr;
}

Tensor make_batched(Tensor inner, int level) {
  auto impl = make_ref<TensorImpl>();
  impl->type = {inner.dtype(), Shape(inner.shape().begin() + 1, inner.shape().end())};
  auto value = make_ref<BatchedValue>();
  value->inner = std::move(inner);
  value->level = level;
  impl->stand_for(std::move(value));
  return Tensor(std::move(impl));
}

int batch_level(const Tensors& in) {
  int level = 0;
  if (state().vmap_level == 0) {
    // A batched value outside of its vmap still carries its level; calls on it must not be computed.
    for (const auto& x : in) {
      if (batched(x))
        throw ValueError(
            {"vmap", "a batched value outlived its vmap", {}, {}, "return it from the function instead of storing it"});
    }
    return 0;
  }
  for (const auto& x : in) {
    if (const auto* b = batched(x)) level = std::max(level, b->level);
  }
  if (level == 0 || state().recorders.empty()) return level;
  const bool any_traced = std::any_of(in.begin(), in.end(), [](const Tensor& x) { return traced(x) != nullptr; });
  return any_traced && level <= recorder_for(in)->vmap_level() ? 0 : level;
}

VmapLevel::VmapLevel() : VmapLevel(state().vmap_level + 1) {}
VmapLevel::VmapLevel(int level) : previous_(state().vmap_level), level_(level) {
  state().vmap_level = std::max(previous_, level);
}
VmapLevel::~VmapLevel() { state().vmap_level = previous_; }

bool differentiated_outside(const Tensor& x) {
  const auto* b = batched(x);
  return b != nullptr && (b->inner.requires_grad() || differentiated_outside(b->inner));
}

WholeBatches whole_batches(const Tensors& in, int level) {
  WholeBatches whole;
  for (const auto& x : in) {
    const auto* b = batched(x);
    const bool here = b != nullptr && b->level == level;
    whole.in.push_back(here ? b->inner : x);
    whole.batched.push_back(here);
    if (here) whole.size = b->inner.shape(0);
  }
  return whole;
}

Tensor whole_batch(const Tensor& y, int64_t size, int level) {
  if (const auto* b = batched(y); b != nullptr && b->level == level) return b->inner;
  Shape shape = y.shape();
  shape.insert(shape.begin(), size);
  return expand(y, shape);
}

Function over_batches(Function fn, Flags batched, int64_t size, int level) {
  return [fn = std::move(fn), batched = std::move(batched), size, level](const Tensors& in) {
    const VmapLevel scope(level);
    Tensors examples = in;
    for (size_t i = 0; i < in.size(); ++i) {
      if (batched[i]) examples[i] = make_batched(in[i], level);
    }
    Tensors out = fn(examples);
    for (auto& y : out) {
      if (y.defined()) y = whole_batch(y, size, level);
    }
    return out;
  };
}

namespace {

// Aligns ranks: an example [3] beside [2, 3] broadcasts at the right, so the batch axis must stay leftmost.
Tensors batch_broadcast(const ops::OpDef& op, const WholeBatches& s, const Tensors& outer, const ir::Attrs& attrs) {
  int64_t rank = 0;
  for (const auto& x : outer) rank = std::max(rank, x.ndim());
  Tensors in;
  for (size_t i = 0; i < s.in.size(); ++i) {
    if (!s.batched[i] || outer[i].ndim() == rank) {
      in.push_back(s.in[i]);
      continue;
    }
    Shape shape{s.size};
    for (int64_t k = outer[i].ndim(); k < rank; ++k) shape.push_back(1);
    for (int64_t d : outer[i].shape()) shape.push_back(d);
    in.push_back(reshape(s.in[i], shape));
  }
  return ops::call(op, std::move(in), attrs);
}

// Attribute 0 is `axes` in every reduction: they move by one, counted from the front.
Tensors batch_reduction(const ops::OpDef& op, const WholeBatches& s, const Tensors& outer, ir::Attrs attrs) {
  Ints axes = ops::reduction_axes(op.name, attrs.ints(0), outer[0].ndim());
  if (axes.empty()) {
    // 0-d examples: reduce an axis of one element, because the result may have another dtype (any, argmax, sum).
    attrs[0] = Ints{1};
    attrs[1] = false;
    return ops::call(op, {reshape(s.in[0], {s.size, 1})}, attrs);
  }
  for (auto& axis : axes) ++axis;
  attrs[0] = axes;
  return ops::call(op, s.in, attrs);
}

Tensors batch_leading(const ops::OpDef& op, const WholeBatches& s, const ir::Attrs& attrs) {
  Tensors in;
  for (size_t i = 0; i < s.in.size(); ++i) {
    if (s.batched[i] || !s.in[i].defined()) {
      in.push_back(s.in[i]);
    } else {
      Shape shape = s.in[i].shape();
      shape.insert(shape.begin(), s.size);
      in.push_back(expand(s.in[i], shape));
    }
  }
  return ops::call(op, std::move(in), attrs);
}

Tensors unroll(const ops::OpDef& op, const WholeBatches& s, const ir::Attrs& attrs) {
  std::vector<Tensors> rows;
  for (int64_t b = 0; b < s.size; ++b) {
    Tensors in;
    for (size_t i = 0; i < s.in.size(); ++i) in.push_back(s.batched[i] ? s.in[i][b] : s.in[i]);
    rows.push_back(ops::call(op, std::move(in), attrs));
  }
  if (rows.empty())
    throw UnsupportedError(
        {std::string(op.name), "an empty batch has no example to tell the result's shape", {}, {}, {}});
  Tensors out;
  for (size_t k = 0; k < rows[0].size(); ++k) {
    Tensors parts;
    for (auto& row : rows) parts.push_back(row[k]);
    out.push_back(stack(parts, 0));
  }
  return out;
}

}  // namespace

Tensors call_batched(const ops::OpDef& op, const Tensors& in, const ir::Attrs& attrs, int level) {
  const WholeBatches s = whole_batches(in, level);
  if (std::holds_alternative<ops::BatchBody>(op.batching)) {
    if (const auto* composite = std::get_if<ops::Composite>(&op.meaning)) return composite->body(in, attrs);
    if (std::holds_alternative<ops::ControlFlow>(op.meaning))
      return call_batched_control(op, s.in, std::vector<bool>(s.batched.begin(), s.batched.end()), s.size, attrs,
                                  level);
  }
  Tensors out =
      std::visit(ops::Overloaded{
                     [&](const ops::Broadcasts&) {
                       return std::holds_alternative<ops::Reduction>(op.meaning) ? batch_reduction(op, s, in, attrs)
                                                                                 : batch_broadcast(op, s, in, attrs);
                     },
                     [&](const ops::LeadingAxes&) { return batch_leading(op, s, attrs); },
                     [&](const ops::BatchRule& rule) { return rule.fn({op, s.in, s.batched, s.size, attrs}); },
                     [&](const ops::BatchBody&) -> Tensors {
                       throw InternalError(fmt::format("{}: batched by its body, but it has none", op.name));
                     },
                     [&](const ops::Unrolled&) { return unroll(op, s, attrs); },
                     [&](const ops::NoBatching& none) -> Tensors {
                       throw UnsupportedError({std::string(op.name),
                                               "has no batching rule: " + std::string(none.reason),
                                               {},
                                               {},
                                               "call it outside vmap"});
                     },
                 },
                 op.batching);
  for (auto& x : out) {
    if (x.defined()) x = make_batched(std::move(x), level);
  }
  return out;
}

}  // namespace trace

trace::Function vmap(trace::Function fn, VmapOptions options) {
  return [fn = std::move(fn), options = std::move(options)](const Tensors& in) {
    int64_t size = -1;
    Tensors inner = in;
    std::vector<bool> is_batched(in.size(), true);
    for (size_t i = 0; i < in.size(); ++i) {
      const int64_t axis = i < options.in_axes.size() ? options.in_axes[i] : 0;
      is_batched[i] = axis != kNotBatched && in[i].defined();
      if (!is_batched[i]) continue;
      if (in[i].ndim() == 0)
        throw ShapeError({"vmap", fmt::format("input {} has no axis to batch over", i), "at least one axis", "[]",
                          "in_axes = {…, kNotBatched, …} passes it whole"});
      if (axis < -in[i].ndim() || axis >= in[i].ndim())
        throw IndexError({"vmap",
                          fmt::format("in_axes[{}] names an axis that input {} does not have", i, i),
                          fmt::format("{} to {}, or kNotBatched", -in[i].ndim(), in[i].ndim() - 1),
                          std::to_string(axis),
                          {}});
      inner[i] = moveaxis(in[i], axis, 0);
      const int64_t extent = inner[i].shape(0);
      if (size >= 0 && extent != size)
        throw ShapeError({"vmap",
                          fmt::format("input {} has another batch extent", i),
                          std::to_string(size),
                          std::to_string(extent),
                          {}});
      size = extent;
    }
    if (size < 0) throw ValueError({"vmap", "no input is batched", "at least one", "none", {}});
    const trace::VmapLevel scope;
    for (size_t i = 0; i < in.size(); ++i) {
      if (is_batched[i]) inner[i] = trace::make_batched(inner[i], scope.level());
    }
    Tensors out = fn(inner);
    for (size_t k = 0; k < out.size(); ++k) {
      const int64_t axis = k < options.out_axes.size() ? options.out_axes[k] : 0;
      const Tensor whole = trace::whole_batch(out[k], size, scope.level());
      if (axis < -whole.ndim() || axis >= whole.ndim())
        throw IndexError({"vmap",
                          fmt::format("out_axes[{}] names an axis that the result does not have", k),
                          fmt::format("{} to {}", -whole.ndim(), whole.ndim() - 1),
                          std::to_string(axis),
                          {}});
      out[k] = moveaxis(whole, 0, axis);
    }
    return out;
  };
}

}  // namespace tenon
