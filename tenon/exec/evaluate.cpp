#include "tenon/exec/evaluate.h"

#include <fmt/format.h>

#include <array>

#include "tenon/base/error.h"
#include "tenon/exec/control.h"
#include "tenon/exec/observe.h"
#include "tenon/exec/reference.h"
#include "tenon/exec/reuse.h"
#include "tenon/exec/session.h"
#include "tenon/ir/specialize.h"
#include "tenon/ops/autocast_state.h"
#include "tenon/ops/call.h"
#include "tenon/ops/catalog.h"
#include "tenon/ops/infer.h"
#include "tenon/tensor/tensor_view.h"

namespace tenon::exec {
namespace {

using ops::OpDef;

struct Call {
  const OpDef& op;
  Tensors in;
  const ir::Attrs& attrs;
  std::span<const TensorType> results;
};

// A result under construction; unlike mutable_view, also over a buffer that was taken from an input.
View writable_view(Tensor& result) {
  TensorImpl& impl = *result.impl();
  return {impl.buffer->data(), impl.type.dtype, impl.type.shape, impl.strides, impl.offset};
}

// Writes x, broadcast to `shape`, into `v`.
void broadcast_view(const Tensor& x, const Shape& shape, ConstView& v) {
  const TensorImpl& impl = *x.impl();
  if (!impl.buffer) static_cast<void>(view(x));  // computes a lazy value; says what is wrong with another
  v.data = impl.buffer->data();
  v.dtype = impl.type.dtype;
  v.offset = impl.offset;
  v.shape = shape;
  if (impl.type.shape == shape) {
    v.strides = impl.strides;
    return;
  }
  const Shape& own = impl.type.shape;
  v.strides = Shape(shape.size(), 0);
  const size_t lead = shape.size() - own.size();
  for (size_t i = 0; i < own.size(); ++i) v.strides[lead + i] = own[i] == 1 ? 0 : impl.strides[i];
}

constexpr size_t kMostFlat = 3;  // operands of a call in one piece

// Operands that lie in one piece, or are one element: no views, no loops over axes. False: it is not so simple.
bool run_flat(std::span<const Tensor> args, const ElementwiseKernel& kernel, const Tensor& result) {
  const TensorImpl& to = *result.impl();
  const int64_t n = numel(to.type.shape);
  if (args.size() > kMostFlat || n == 0) return false;
  const std::byte* in[kMostFlat];
  uint32_t along = 0;
  for (size_t i = 0; i < args.size(); ++i) {
    const TensorImpl& x = *args[i].impl();
    const int bits = info(x.type.dtype).bits;
    if (!x.buffer || (bits < 8 && x.type.dtype != DType::Bool)) return false;
    if (x.type.shape == to.type.shape) {
      if (x.strides != to.strides && !args[i].is_contiguous()) return false;
      along |= 1U << i;
    } else if (numel(x.type.shape) != 1) {
      return false;
    }
    in[i] = x.buffer->data() + x.offset * std::max(1, bits / 8);
  }
  return kernel.run_flat(std::span(in).first(args.size()), along, to.buffer->data(), n);
}

Tensor run_elementwise(const OpDef& op, std::span<Tensor> args, const ir::Attrs& attrs, const TensorType& type) {
  Session& s = session();
  InlineVector<DType, 8> dtypes;
  for (const auto& x : args) dtypes.push_back(x.impl()->type.dtype);
  const auto& ready = s.prepared(op, dtypes, attrs, type.dtype);
  Result result = allocate_result(s.options(), op, args, type);
  const bool done = !s.options().reference && run_flat(args, *ready.kernel, result.tensor);
  if (!done && result.tensor.size() != 0) {
    // No op has many operands; a list on the heap would be a good part of the time of a small call.
    std::array<ConstView, 4> few;
    std::vector<ConstView> many(args.size() > few.size() ? args.size() : 0);
    const std::span<ConstView> in = many.empty() ? std::span(few).first(args.size()) : std::span(many);
    for (size_t i = 0; i < in.size(); ++i) broadcast_view(args[i], type.shape, in[i]);
    const View out = writable_view(result.tensor);
    if (s.options().reference) {
      reference_elementwise(ready.program, in, out);
    } else {
      ready.kernel->run(in, out, s.pool());
    }
  }
  if (result.poison) overwrite(*result.poison);
  return std::move(result.tensor);
}

Tensors run_reduction(Call& c, ops::ReduceKind kind) {
  Session& s = session();
  const Tensor& x = c.in[0];
  const Ints axes = ops::reduction_axes(c.op.name, c.attrs.ints(0), x.ndim());
  Tensor result = empty(c.results[0].shape, c.results[0].dtype);
  View out = writable_view(result);
  out.shape = ops::reduced_shape(x.shape(), axes, false);
  if (axes.empty()) out.shape = {};
  out.strides = contiguous_strides(out.shape);
  if (numel(out.shape) == 0) return {std::move(result)};
  if (s.options().reference) {
    reference_reduce(kind, view(x), axes, out);
  } else {
    s.device().reduce(kind, view(x), axes, out, s.pool());
  }
  return {std::move(result)};
}

Tensors run_relayout(Call& c, const ops::Relayout& rule) {
  Tensor x = c.in[0];
  for (int attempt = 0; attempt < 2; ++attempt) {
    const TensorImpl& impl = *x.impl();
    ops::Window window;
    if (rule.window({impl.type.shape, impl.strides, impl.offset}, c.attrs, c.results[0].shape, window))
      return {from_buffer(impl.buffer, c.results[0], window.strides, window.offset)};
    x = contiguous(x);
  }
  throw InternalError(fmt::format("{}: no window on a contiguous tensor", c.op.name));
}

const Claim* find_claim(Call& c) {
  Session& s = session();
  if (!s.options().claims || s.options().reference) return nullptr;
  std::vector<TensorType> types;
  types.reserve(c.in.size());
  for (const auto& x : c.in) types.push_back(x.defined() ? x.type() : TensorType{});
  return s.device().claim(c.op, types, c.attrs);
}

Tensors run_kernel(Call& c, const Claim* claim, const ops::Primitive* primitive) {
  Session& s = session();
  Tensors out;
  std::vector<View> out_views;
  std::vector<ConstView> in_views;
  Ref<Buffer> poison;
  bool work = false;
  // Views first: a taken buffer is still read through them.
  for (const auto& x : c.in) in_views.push_back(x.defined() ? view(x) : ConstView{});
  for (const auto& type : c.results) {
    Result result = c.results.size() == 1 ? allocate_result(s.options(), c.op, c.in, type)
                                          : Result{empty(type.shape, type.dtype), {}};
    out_views.push_back(writable_view(result.tensor));
    out.push_back(std::move(result.tensor));
    if (result.poison) poison = result.poison;
    work = work || out.back().size() != 0;
  }
  if (work) {
    if (claim) {
      claim->run({in_views, out_views, c.attrs, s.pool()});
    } else {
      primitive->reference({in_views, out_views, c.attrs});
    }
  }
  if (poison) overwrite(*poison);
  return out;
}

Tensors evaluate_now(const OpDef& op, Tensors in, const ir::Attrs& attrs, std::span<const TensorType> results) {
  Call c{op, std::move(in), attrs, results};
  return std::visit(
      ops::Overloaded{
          [&](const ops::Elementwise&) { return Tensors{run_elementwise(op, c.in, attrs, results[0])}; },
          [&](const ops::Reduction& r) { return run_reduction(c, r.kind); },
          [&](const ops::Relayout& r) { return run_relayout(c, r); },
          [&](const ops::Primitive& p) { return run_kernel(c, find_claim(c), &p); },
          [&](const ops::Composite& body) {
            const Claim* claim = results.empty() ? nullptr : find_claim(c);
            if (claim) return run_kernel(c, claim, nullptr);
            const ops::AutocastState settled(DType::F32);  // the dtypes are those of this call
            return body.body(c.in, attrs);
          },
          [&](const ops::ControlFlow& flow) { return run_control_flow(flow.kind, std::move(c.in), attrs); },
          [&](const ops::DataDependent& d) { return d.execute(c.in, attrs); },
      },
      op.meaning);
}

}  // namespace

Tensors evaluate(const OpDef& op, Tensors in, const ir::Attrs& attrs, std::span<const TensorType> results) {
  if (observer() == nullptr) [[likely]]
    return evaluate_now(op, std::move(in), attrs, results);
  return observed({.name = op.name, .op = &op, .attrs = &attrs, .inputs = &in},
                  [&] { return evaluate_now(op, std::move(in), attrs, results); });
}

Tensor evaluate_elementwise(const OpDef& op, std::span<Tensor> in, const ir::Attrs& attrs, const TensorType& result) {
  return run_elementwise(op, in, attrs, result);
}

void with_elements(const Tensors& list) {
  for (const Tensor& x : list)
    if (x.defined() && !x.is_concrete()) static_cast<void>(view(x));
}

void check_inputs(const ir::Graph& graph, const Tensors& inputs) {
  const std::string where = graph.name.empty() ? "graph" : graph.name;
  if (inputs.size() != graph.inputs.size())
    throw ValueError(
        {where, "wrong number of inputs", std::to_string(graph.inputs.size()), std::to_string(inputs.size()), {}});
  for (size_t i = 0; i < inputs.size(); ++i) {
    const TensorType& want = graph.type(graph.inputs[i]);
    if (inputs[i].type() != want)
      throw ShapeError(
          {where, fmt::format("input {} has another type", i), to_string(want), to_string(inputs[i].type()), {}});
  }
}

Tensors run(const ir::Graph& graph, Tensors inputs) {
  with_elements(inputs);
  if (!graph.sizes.empty()) {
    std::vector<TensorType> types;
    for (const Tensor& x : inputs) types.push_back(x.type());
    return run(ir::specialize(graph, ir::bind_sizes(graph, types), ops::type_rule()), std::move(inputs));
  }
  check_inputs(graph, inputs);
  std::vector<Tensor> values(graph.values.size());
  std::vector<size_t> last_use(graph.values.size(), 0);
  for (size_t n = 0; n < graph.nodes.size(); ++n) {
    for (ir::ValueId id : graph.nodes[n].inputs)
      if (id != ir::kAbsent) last_use[static_cast<size_t>(id)] = n;
  }
  for (ir::ValueId id : graph.outputs) last_use[static_cast<size_t>(id)] = graph.nodes.size();
  for (size_t i = 0; i < inputs.size(); ++i) values[static_cast<size_t>(graph.inputs[i])] = std::move(inputs[i]);
  for (size_t n = 0; n < graph.nodes.size(); ++n) {
    const ir::Node& node = graph.nodes[n];
    if (!node.op) {
      values[static_cast<size_t>(node.outputs[0])] = node.constant;
      continue;
    }
    Tensors in;
    in.reserve(node.inputs.size());
    for (size_t i = 0; i < node.inputs.size(); ++i) {
      if (node.inputs[i] == ir::kAbsent) {
        in.emplace_back();
        continue;
      }
      Tensor& value = values[static_cast<size_t>(node.inputs[i])];
      const bool again = std::find(node.inputs.begin() + static_cast<std::ptrdiff_t>(i) + 1, node.inputs.end(),
                                   node.inputs[i]) != node.inputs.end();
      // The last reader gets the only handle, so that the result may take the buffer.
      if (last_use[static_cast<size_t>(node.inputs[i])] == n && !again) {
        in.push_back(std::move(value));
      } else {
        in.push_back(value);
      }
    }
    std::vector<TensorType> types;
    for (ir::ValueId id : node.outputs) types.push_back(graph.type(id));
    Tensors out = evaluate(*node.op, std::move(in), node.attrs, types);
    with_elements(out);
    for (size_t i = 0; i < out.size(); ++i) values[static_cast<size_t>(node.outputs[i])] = std::move(out[i]);
  }
  Tensors results;
  for (ir::ValueId id : graph.outputs) results.push_back(values[static_cast<size_t>(id)]);
  return results;
}

Tensor contiguous(const Tensor& x) {
  if (x.is_contiguous()) return x;
  Tensor result = empty(x.shape(), x.dtype());
  Session& s = session();
  if (s.options().reference) {
    reference_copy(view(x), writable_view(result));
  } else if (x.size() != 0) {
    s.device().copy(view(x), writable_view(result), s.pool());
  }
  return result;
}

}  // namespace tenon::exec
