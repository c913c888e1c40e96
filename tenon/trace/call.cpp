#include "tenon/ops/call.h"

#include <fmt/format.h>

#include <cmath>

#include "tenon/base/error.h"
#include "tenon/exec/evaluate.h"
#include "tenon/exec/observe.h"
#include "tenon/exec/session.h"
#include "tenon/ops/autocast_state.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/infer.h"
#include "tenon/ops/reduce.h"
#include "tenon/ops/replay.h"
#include "tenon/tensor/number.h"
#include "tenon/trace/control.h"
#include "tenon/trace/lazy.h"
#include "tenon/trace/sparse.h"
#include "tenon/trace/state.h"
#include "tenon/trace/tape.h"
#include "tenon/trace/vmap.h"

namespace tenon::ops {
namespace {

const Arg& arg_of(const OpDef& op, size_t i) { return op.inputs[std::min(i, op.inputs.size() - 1)]; }

void check_inputs(const OpDef& op, const Tensors& in, const ir::Attrs& attrs) {
  const bool variadic = !op.inputs.empty() && op.inputs.back().kind == ArgKind::Variadic;
  const size_t least = op.inputs.size() - (variadic ? 1 : 0);
  if (in.size() < least || (!variadic && in.size() > op.inputs.size()))
    throw ValueError({std::string(op.name),
                      "wrong number of inputs",
                      fmt::format("{}{}", variadic ? "at least " : "", least),
                      std::to_string(in.size()),
                      {}});
  for (size_t i = 0; i < in.size(); ++i) {
    if (!in[i].defined() && arg_of(op, i).kind != ArgKind::Optional)
      throw ValueError({std::string(op.name),
                        fmt::format("input '{}' has no value", arg_of(op, i).name),
                        "a tensor",
                        "an undefined Tensor (default-constructed or moved from)",
                        {}});
  }
  if (attrs.size() != op.attrs.size())
    throw InternalError(fmt::format("{}: {} attributes given, {} declared", op.name, attrs.size(), op.attrs.size()));
}

bool takes_part(const Promote& promote, size_t i) { return i >= 31 ? promote.mask == -1 : (promote.mask >> i) & 1; }

// A number's kind decides what it becomes beside tensors of this dtype.
DType weak_result(DType strong, DTypeKind weak) {
  if (weak == DTypeKind::Float && !is_float(strong)) return DType::F32;
  if (weak != DTypeKind::Bool && strong == DType::Bool) return DType::I64;
  return strong;
}
DType alone(DTypeKind weak) {
  return weak == DTypeKind::Float ? DType::F32 : weak == DTypeKind::Bool ? DType::Bool : DType::I64;
}

std::string dtype_names(DTypeSet set) {
  std::string text;
  for (const auto& row : all_dtypes()) {
    if (set.has(row.dtype)) text += fmt::format("{}{}", text.empty() ? "" : ", ", row.name);
  }
  return text;
}

void check_dtypes(const OpDef& op, const Tensors& in) {
  for (size_t i = 0; i < in.size(); ++i) {
    const Arg& arg = arg_of(op, i);
    if (!in[i].defined() || arg.dtypes.has(in[i].dtype())) continue;
    DType to = DType::F32;
    for (DType t : {DType::F32, DType::I64, DType::Bool}) {
      if (arg.dtypes.has(t)) {
        to = t;
        break;
      }
    }
    throw DTypeError({std::string(op.name), fmt::format("input '{}' has a dtype that is not accepted", arg.name),
                      dtype_names(arg.dtypes), std::string(name(in[i].dtype())),
                      fmt::format("cast(x, tenon::{})", to == DType::Bool ? "boolean" : name(to))});
  }
}

// Brings the inputs that op.promote names to one dtype, and numbers elsewhere to their own.
void promote_inputs(const OpDef& op, Tensors& in) {
  bool any = false, strong = false, weak = false;
  DType dtype = DType::Bool;
  DTypeKind weak_kind = DTypeKind::Bool;
  for (size_t i = 0; i < in.size(); ++i) {
    if (!in[i].defined() || !takes_part(op.promote, i)) continue;
    any = true;
    if (in[i].impl()->weak) {
      weak = true;
      weak_kind = std::max(weak_kind, info(in[i].dtype()).kind);
    } else {
      dtype = strong && dtype != in[i].dtype() ? promote(dtype, in[i].dtype()) : in[i].dtype();
      strong = true;
    }
  }
  if (any) {
    if (!strong) dtype = alone(weak_kind);
    if (strong && weak) dtype = weak_result(dtype, weak_kind);
    if (op.promote.to_float && !is_float(dtype) && !info(dtype).storage_only) dtype = DType::F32;
  }
  for (size_t i = 0; i < in.size(); ++i) {
    if (!in[i].defined()) continue;
    const DType want = takes_part(op.promote, i) ? dtype
                       : in[i].impl()->weak      ? alone(info(in[i].dtype()).kind)
                                                 : in[i].dtype();
    if (in[i].impl()->weak) expect_number_fits(op.name, in[i], want);
    if (in[i].dtype() != want || in[i].impl()->weak) in[i] = cast(std::move(in[i]), want);
  }
}

bool wants_gradient(const Tensors& in) {
  if (!trace::state().record_gradients) return false;
  for (const auto& x : in) {
    if (x.requires_grad()) return true;
  }
  return false;
}

std::vector<TensorType> infer_results(const OpDef& op, const Tensors& in, const ir::Attrs& attrs) {
  std::vector<TensorType> types(in.size());
  InlineVector<bool, 8> present(in.size());
  for (size_t i = 0; i < in.size(); ++i) {
    present[i] = in[i].defined();
    if (present[i]) types[i] = in[i].type();
  }
  return infer_types({op, types, present, attrs});
}

// The op as a chain of the basic ones, which have gradients of their own.
Tensor replay_elementwise(const OpDef& op, const Tensors& in, const ir::Attrs& attrs) {
  InlineVector<DType, 8> dtypes;
  for (const auto& x : in) dtypes.push_back(x.dtype());
  return replay(exec::session().program(op, dtypes, attrs, infer_results(op, in, attrs)[0].dtype), in);
}

// What a composite is made of, when it is recorded for compile(fn) and has no kernel of its own.
Tensors record_body(const OpDef& op, const Composite& composite, const Tensors& in, const ir::Attrs& attrs) {
  const exec::Work work{.kind = exec::WorkKind::Body, .name = op.name, .op = &op, .attrs = &attrs, .inputs = &in};
  return exec::observed(work, [&] {
    const NoGrad no_grad;
    const ops::AutocastState settled(DType::F32);  // the dtypes are those of this call
    return composite.body(in, attrs);
  });
}

// Bodies run without recording: the node that is kept is the composite's own.
Tensors compute(const OpDef& op, Tensors in, const ir::Attrs& attrs) {
  if (const int level = trace::batch_level(in)) return trace::call_batched(op, in, attrs, level);
  if (trace::Recorder* recorder = trace::recorder_for(in)) {
    if (!has_infer(op)) {
      if (const auto* composite = std::get_if<Composite>(&op.meaning)) return composite->body(in, attrs);
      throw UnsupportedError({std::string(op.name),
                              "the shape of the result depends on values, so the op cannot be captured",
                              {},
                              {},
                              "call it outside the captured function"});
    }
    return recorder->add(op, in, attrs, infer_results(op, in, attrs));
  }
  std::vector<TensorType> types;
  if (has_infer(op)) types = infer_results(op, in, attrs);
  if (trace::LazyRecorder* lazy = trace::state().lazy) {
    if (lazy->takes(op, in, attrs, types)) return lazy->add(op, std::move(in), attrs, std::move(types));
    const auto* composite = std::get_if<Composite>(&op.meaning);
    if (composite != nullptr && lazy->takes_bodies()) return record_body(op, *composite, in, attrs);
    lazy->look(in, op.name);
  }
  if (std::holds_alternative<Composite>(op.meaning) || std::holds_alternative<ControlFlow>(op.meaning)) {
    const NoGrad no_grad;
    return exec::evaluate(op, std::move(in), attrs, types);
  }
  return exec::evaluate(op, std::move(in), attrs, types);
}

// Op by op, each with its own gradient.
Tensors call_body(const OpDef& op, const Tensors& in, const ir::Attrs& attrs) {
  if (const auto* composite = std::get_if<Composite>(&op.meaning)) return composite->body(in, attrs);
  if (std::holds_alternative<ControlFlow>(op.meaning)) return trace::call_differentiable_control(op, in, attrs);
  if (std::holds_alternative<Elementwise>(op.meaning)) return {replay_elementwise(op, in, attrs)};
  throw InternalError(fmt::format("{}: no body to differentiate", op.name));
}

// The inputs as the op's rule wants them; what the op calls inside is not the user's.
Tensors call_in_autocast(const OpDef& op, Tensors in, const ir::Attrs& attrs, DType scope) {
  const ops::AutocastState settled(DType::F32);
  if (op.autocast != AutocastRule::Keep) {
    const DType to = op.autocast == AutocastRule::Lower ? scope : DType::F32;
    for (Tensor& x : in) {
      if (!x.defined() || !x.impl() || x.impl()->weak) continue;
      const DType from = x.dtype();
      if (from != to && (from == DType::F32 || from == DType::F16 || from == DType::BF16)) x = cast(std::move(x), to);
    }
  }
  return call(op, std::move(in), attrs);
}

// An elementwise op on concrete tensors of one type and numbers, of which no gradient is wanted and which nobody
// records: what evaluate_plain leaves, whatever the layout. These calls take the steps of call() that do something;
// what they compute is the same. The input that gives the type of the others; null: the call is not so simple.
const TensorImpl* plain_call(const OpDef& op, std::span<const Tensor> in, const ir::Attrs& attrs) {
  if (!std::holds_alternative<Elementwise>(op.meaning) || in.size() != op.inputs.size() ||
      attrs.size() != op.attrs.size())
    return nullptr;
  const TensorImpl* lead = nullptr;
  bool weak = false;
  for (size_t i = 0; i < in.size(); ++i) {
    const TensorImpl* x = in[i].impl();
    if (x == nullptr || !in[i].has_elements() || (x->tape && trace::state().record_gradients)) return nullptr;
    if (x->weak) {
      if (!takes_part(op.promote, i)) return nullptr;
      weak = true;
      continue;
    }
    if (lead == nullptr) {
      lead = x;
    } else if (x != lead && x->type != lead->type) {
      const bool single = x->type.shape.empty();
      if (x->type.dtype != lead->type.dtype || (!single && !lead->type.shape.empty())) return nullptr;
      if (!single) lead = x;
    }
  }
  if (lead == nullptr) return nullptr;
  const DType dtype = lead->type.dtype;
  for (const Arg& arg : op.inputs) {
    if (!arg.dtypes.has(dtype)) return nullptr;
  }
  return (!weak && !op.promote.to_float) || is_float(dtype) ? lead : nullptr;
}

Tensor call_plain(const OpDef& op, std::span<Tensor> in, const ir::Attrs& attrs, TensorType type) {
  for (Tensor& x : in) {
    if (x.impl()->weak) x = cast(std::move(x), type.dtype);
  }
  const auto& rule = std::get<Elementwise>(op.meaning);
  if (rule.result != nullptr) {
    InlineVector<DType, 8> dtypes(in.size(), type.dtype);
    type.dtype = rule.result(dtypes, attrs);
  }
  return exec::evaluate_elementwise(op, in, attrs, type);
}

// The same for a call that is recorded.
Tensor record_plain(trace::LazyRecorder& lazy, const OpDef& op, std::span<Tensor> in, const ir::Attrs& attrs,
                    TensorType type) {
  for (Tensor& x : in) {
    if (x.impl()->weak) x = cast(std::move(x), type.dtype);
  }
  if (auto* const result = std::get<Elementwise>(op.meaning).result; result != nullptr) {
    const InlineVector<DType, 8> dtypes(in.size(), type.dtype);
    type.dtype = result(dtypes, attrs);
  }
  return lazy.add_elementwise(op, in, attrs, std::move(type));
}

// Undefined unless the call could be computed, or recorded, at once.
[[gnu::always_inline]] inline Tensor call_at_once(const OpDef& op, std::span<Tensor> in, const ir::Attrs& attrs) {
  const trace::ThreadState& state = trace::state();
  if (state.lazy != nullptr) {
    if (!state.recorders.empty() || state.vmap_level != 0 || state.anomaly || !exec::session().plain_calls()) return {};
    const TensorImpl* lead = plain_call(op, in, attrs);
    return lead == nullptr ? Tensor() : record_plain(*state.lazy, op, in, attrs, lead->type);
  }
  if (exec::observer() != nullptr) return {};
  Tensor y = exec::evaluate_plain(op, in, attrs, state.record_gradients);
  if (y.defined()) return y;
  const TensorImpl* lead = plain_call(op, in, attrs);
  return lead == nullptr ? Tensor() : call_plain(op, in, attrs, lead->type);
}

}  // namespace

Tensors call(const OpDef& op, Inputs inputs, const ir::Attrs& attrs) {
  if (const DType scope = ops::detail::autocast; scope != DType::F32) [[unlikely]]
    return call_in_autocast(op, std::move(inputs).list(), attrs, scope);
  if (Tensor y = call_at_once(op, inputs.tensors(), attrs); y.defined()) return {std::move(y)};
  Tensors in = std::move(inputs).list();
  // Optional inputs at the end may be left out.
  while (in.size() < op.inputs.size() && op.inputs[in.size()].kind == ArgKind::Optional) in.emplace_back();
  check_inputs(op, in, attrs);
  for (auto& x : in) {
    if (sparse_rows(x)) x = to_dense(x);
  }
  promote_inputs(op, in);
  check_dtypes(op, in);
  const bool keep = wants_gradient(in);
  if (keep && std::holds_alternative<GradientOfBody>(op.gradient)) {
    const exec::Work work{.kind = exec::WorkKind::Body, .name = op.name, .op = &op, .attrs = &attrs, .inputs = &in};
    return exec::observed(work, [&] { return call_body(op, in, attrs); });
  }
  if (!keep || std::holds_alternative<NoGradient>(op.gradient)) {
    // `in` holds the last handles of temporaries: moving it lets the result take their buffers.
    Tensors out = compute(op, std::move(in), attrs);
    for (auto& x : out) {
      // A body may hand an input through, gradient and all.
      if (x.defined() && x.requires_grad() && std::holds_alternative<NoGradient>(op.gradient)) x = x.detach();
    }
    return out;
  }
  Tensors out = compute(op, in, attrs);
  trace::record(op, attrs, in, out);
  return out;
}

Tensor call1(const OpDef& op, Inputs in, const ir::Attrs& attrs) {
  if (ops::detail::autocast == DType::F32) [[likely]] {
    if (Tensor y = call_at_once(op, in.tensors(), attrs); y.defined()) return y;
  }
  Tensors out = call(op, std::move(in), attrs);
  return std::move(out[0]);
}

}  // namespace tenon::ops

namespace tenon {

Tensor contiguous(Tensor x) { return exec::contiguous(x.detach()); }

}  // namespace tenon
