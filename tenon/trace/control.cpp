#include "tenon/trace/control.h"

#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <optional>

#include "tenon/base/error.h"
#include "tenon/ops/call.h"
#include "tenon/ops/control.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/reduce.h"
#include "tenon/trace/sparse.h"
#include "tenon/trace/state.h"
#include "tenon/trace/tape.h"
#include "tenon/trace/transforms.h"
#include "tenon/trace/vmap.h"

namespace tenon {
namespace trace {
namespace {

using ir::GraphPtr;

GraphPtr shared(ir::Graph graph) { return std::make_shared<const ir::Graph>(std::move(graph)); }

template <class T>
void append(std::vector<T>& list, const std::vector<T>& more) {
  list.insert(list.end(), more.begin(), more.end());
}

std::vector<TensorType> types_of(const Tensors& xs) {
  std::vector<TensorType> types;
  types.reserve(xs.size());
  for (const auto& x : xs) types.push_back(x.type());
  return types;
}

std::vector<TensorType> types_of(const ir::Graph& graph, const std::vector<ir::ValueId>& ids) {
  std::vector<TensorType> types;
  types.reserve(ids.size());
  for (ir::ValueId id : ids) types.push_back(graph.type(id));
  return types;
}

// ---- gradients -----------------------------------------------------------------------------
// A graph's vector-Jacobian product as a graph: (inputs…, cotangents of real outputs…) -> cotangents of real inputs….
GraphPtr gradient_graph(const ir::Graph& graph) {
  const auto in_types = types_of(graph, graph.inputs), out_types = types_of(graph, graph.outputs);
  std::vector<TensorType> args = in_types;
  for (const auto& type : out_types) {
    if (is_float(type.dtype)) args.push_back(type);
  }
  const auto fn = [&](const Tensors& in) {
    Tensors real;
    for (size_t i = 0; i < in_types.size(); ++i) {
      if (is_float(in_types[i].dtype)) real.push_back(in[i]);
    }
    const auto pulled = vjp(
        [&](const Tensors& xs) {
          Tensors all(in.begin(), in.begin() + static_cast<std::ptrdiff_t>(in_types.size()));
          size_t next = 0;
          for (auto& x : all) {
            if (is_float(x.dtype())) x = xs[next++];
          }
          return interpret(graph, all);
        },
        real);
    Tensors ct;
    size_t next = in_types.size();
    for (const auto& type : out_types) ct.push_back(is_float(type.dtype) ? in[next++] : Tensor());
    return pulled.pullback(ct);
  };
  CapturedFunction captured = capture_subgraph(fn, args);
  if (!captured.captures.empty()) throw InternalError("the gradient of a graph uses a value from outside");
  return shared(std::move(captured.graph));
}

// Cotangents of the real outputs, zeros where none came in.
Tensors real_cotangents(const Tensors& ct, const std::vector<TensorType>& types) {
  Tensors result;
  for (size_t i = 0; i < types.size(); ++i) {
    if (!is_float(types[i].dtype)) continue;
    result.push_back(ct[i].defined() ? to_dense(ct[i]) : zeros(types[i].shape, types[i].dtype));
  }
  return result;
}

// One cotangent for each of `types`: the given ones go to the real ones among them, in order.
void spread(Tensors& result, const std::vector<TensorType>& types, const Tensors& real, size_t& next) {
  for (const auto& type : types) result.push_back(is_float(type.dtype) ? real[next++] : Tensor());
}

Tensors detached(const Tensors& xs) {
  Tensors result;
  result.reserve(xs.size());
  for (const auto& x : xs) result.push_back(without_tape(x));
  return result;
}

Tensors differentiable_cond(const ops::OpDef& op, const Tensors& in, const ir::Attrs& attrs) {
  Tensors out = ops::call(op, detached(in), attrs);
  const auto out_types = types_of(out);
  link(out, in, "cond", [&op, in, attrs, out_types](const Tensors& ct, const Tensors&) {
    Tensors args = in;
    append(args, real_cotangents(ct, out_types));
    const Tensors real =
        ops::call(op, std::move(args), {gradient_graph(*attrs.graph(0)), gradient_graph(*attrs.graph(1))});
    Tensors result{Tensor()};
    size_t next = 0;
    spread(result, types_of({in.begin() + 1, in.end()}), real, next);
    return result;
  });
  return out;
}

// The parts of a scan's operands or results.
struct ScanParts {
  Tensors carried, scanned, constants;
  ScanParts(const Tensors& in, const ops::ScanAttrs& scan) {
    const auto a = in.begin() + static_cast<std::ptrdiff_t>(scan.carried);
    const auto b = a + static_cast<std::ptrdiff_t>(scan.scanned);
    carried.assign(in.begin(), a);
    scanned.assign(a, b);
    constants.assign(b, in.end());
  }
};

size_t count_real(const Tensors& xs) {
  return static_cast<size_t>(std::count_if(xs.begin(), xs.end(), [](const Tensor& x) { return is_float(x.dtype()); }));
}

// The way back of a scan is a scan in the other direction. It carries the cotangents of the carried values and the
// sums of those of the constants; it walks along the carried values that the forward loop left behind, the scanned
// operands and the cotangents of the rows.
Tensors scan_backward(const Tensors& in, const ir::Attrs& attrs, const Tensors& carried_rows, const Tensors& ct,
                      const std::vector<TensorType>& out_types) {
  const ops::ScanAttrs scan(attrs);
  const ScanParts parts(in, scan);
  const GraphPtr step = gradient_graph(scan.body);  // (carry, x, constants, ct carry, ct rows) -> (carry, x, constants)
  const size_t real_carry = count_real(parts.carried), real_rows = count_real(parts.scanned),
               real_constants = count_real(parts.constants);
  const Tensors cts = real_cotangents(ct, out_types);
  const auto split_at = cts.begin() + static_cast<std::ptrdiff_t>(real_carry);
  Tensors carried(cts.begin(), split_at);
  for (const auto& c : parts.constants) {
    if (is_float(c.dtype())) carried.push_back(zeros(c.shape(), c.dtype()));
  }
  Tensors scanned = carried_rows;
  append(scanned, parts.scanned);
  scanned.insert(scanned.end(), split_at, cts.end());

  std::vector<TensorType> args = types_of(carried);
  for (TensorType type : types_of(scanned)) {
    type.shape.erase(type.shape.begin());
    args.push_back(type);
  }
  append(args, types_of(parts.constants));
  const size_t n = parts.carried.size(), m = parts.scanned.size();
  const auto body = [&](const Tensors& x) {
    // x: ct carry, sums, carry, x, ct rows, constants
    const auto at = [&](size_t i) { return x.begin() + static_cast<std::ptrdiff_t>(i); };
    const size_t sums = real_carry, values = sums + real_constants, rows = values + n + m,
                 constants = x.size() - parts.constants.size();
    Tensors forward(at(values), at(rows));
    forward.insert(forward.end(), at(constants), x.end());
    forward.insert(forward.end(), x.begin(), at(sums));
    forward.insert(forward.end(), at(rows), at(constants));
    const Tensors g = interpret(*step, forward);  // carry, x, constants
    Tensors result(g.begin(), g.begin() + static_cast<std::ptrdiff_t>(real_carry));
    for (size_t k = 0; k < real_constants; ++k) result.push_back(x[sums + k] + g[real_carry + real_rows + k]);
    for (size_t k = 0; k < real_rows; ++k) result.push_back(g[real_carry + k]);
    return result;
  };
  CapturedFunction captured = capture_subgraph(body, args);
  const auto back_carried = static_cast<int64_t>(carried.size()), back_scanned = static_cast<int64_t>(scanned.size());
  Tensors operands = std::move(carried);
  append(operands, scanned);
  append(operands, parts.constants);
  const Tensors g =
      ops::call(ops::scan_op(), std::move(operands),
                {shared(std::move(captured.graph)), back_carried, back_scanned, scan.length, !scan.reverse});
  // g: ct carry, sums, ct x
  Tensors real(g.begin(), g.begin() + static_cast<std::ptrdiff_t>(real_carry));
  real.insert(real.end(), g.begin() + static_cast<std::ptrdiff_t>(real_carry + real_constants), g.end());
  for (size_t k = 0; k < real_constants; ++k) real.push_back(g[real_carry + k]);
  Tensors result;
  size_t next = 0;
  for (const auto* part : {&parts.carried, &parts.scanned, &parts.constants})
    spread(result, types_of(*part), real, next);
  return result;
}

Tensors differentiable_scan(const ops::OpDef& op, const Tensors& in, const ir::Attrs& attrs) {
  const ops::ScanAttrs scan(attrs);
  // The carried values of each step become rows of results too: the way back starts each step from them.
  ir::Graph keeping = scan.body;
  const size_t results = keeping.outputs.size();
  for (size_t k = 0; k < scan.carried; ++k) keeping.outputs.push_back(keeping.inputs[k]);
  const ir::Attrs keeping_attrs = ops::with_body(attrs, shared(std::move(keeping)));
  Tensors out = ops::call(op, detached(in), keeping_attrs);
  const auto out_types = types_of(out);
  link(out, in, "scan",
       [in, keeping_attrs, out_types, results](const Tensors& ct, const Tensors& kept) {
         const Tensors rows(kept.begin() + static_cast<std::ptrdiff_t>(results), kept.end());
         return scan_backward(in, keeping_attrs, rows, ct, out_types);
       },
       {.keep_outputs = true});
  out.resize(results);
  return out;
}

// ---- vmap ----------------------------------------------------------------------------------
struct BatchedGraph {
  GraphPtr graph;
  std::vector<bool> out;  // which outputs carry the batch first
};

using Body = std::function<Tensors(const Tensors&)>;

// A function of examples of these types as a graph on batches: inputs named in `in` and outputs named in `force` (and
// those that turn out so) carry the batch as axis 0.
BatchedGraph batch_graph(const Body& fn, std::vector<TensorType> types, const std::vector<bool>& in, int64_t size,
                         const std::vector<bool>& force) {
  for (size_t i = 0; i < types.size(); ++i) {
    if (in[i]) types[i].shape.insert(types[i].shape.begin(), size);
  }
  BatchedGraph result;
  CapturedFunction captured = capture_subgraph(
      [&](const Tensors& xs) {
        const VmapLevel scope;
        Tensors args = xs;
        for (size_t i = 0; i < args.size(); ++i) {
          if (in[i]) args[i] = make_batched(args[i], scope.level());
        }
        Tensors out = fn(args);
        for (size_t k = 0; k < out.size(); ++k) {
          const auto* b = batched(out[k]);
          const bool is_batched = b && b->level == scope.level();
          result.out.push_back(is_batched || (k < force.size() && force[k]));
          if (is_batched) {
            out[k] = b->inner;
          } else if (result.out[k]) {
            Shape shape = out[k].shape();
            shape.insert(shape.begin(), size);
            out[k] = expand(out[k], shape);
          }
        }
        return out;
      },
      types);
  if (!captured.captures.empty()) throw InternalError("the batched form of a graph uses a value from outside");
  result.graph = shared(std::move(captured.graph));
  return result;
}

BatchedGraph batch_graph(const ir::Graph& graph, const std::vector<bool>& in, int64_t size,
                         const std::vector<bool>& force = {}) {
  return batch_graph([&](const Tensors& xs) { return interpret(graph, xs); }, types_of(graph, graph.inputs), in, size,
                     force);
}

// With a batch as axis 0, repeated if it has none.
Tensor with_batch(const Tensor& x, bool has, int64_t size) {
  if (has) return x;
  Shape shape = x.shape();
  shape.insert(shape.begin(), size);
  return expand(x, shape);
}

Tensors wrap(Tensors out, const std::vector<bool>& is_batched, int level) {
  for (size_t i = 0; i < out.size(); ++i) {
    if (is_batched[i]) out[i] = make_batched(out[i], level);
  }
  return out;
}

// Chooses between two lists of examples by a truth value that may differ from example to example.
Tensors choose(const Tensor& predicate, const Tensors& yes, const Tensors& no) {
  Tensors out;
  for (size_t i = 0; i < yes.size(); ++i) out.push_back(where(predicate, yes[i], no[i]));
  return out;
}

Tensors batched_cond(const ops::OpDef& op, const Tensors& in, const std::vector<bool>& is_batched, int64_t size,
                     const ir::Attrs& attrs, int level) {
  if (is_batched[0]) {
    const Tensors wrapped = wrap(in, is_batched, level);
    const Tensors operands(wrapped.begin() + 1, wrapped.end());
    return choose(wrapped[0], interpret(*attrs.graph(0), operands), interpret(*attrs.graph(1), operands));
  }
  const std::vector<bool> flags(is_batched.begin() + 1, is_batched.end());
  BatchedGraph then = batch_graph(*attrs.graph(0), flags, size);
  const BatchedGraph otherwise = batch_graph(*attrs.graph(1), flags, size, then.out);
  if (then.out != otherwise.out) then = batch_graph(*attrs.graph(0), flags, size, otherwise.out);
  return wrap(ops::call(op, in, {then.graph, otherwise.graph}), otherwise.out, level);
}

// Which of the first `carried` values must carry the batch: those that do at the start, and those into which the body
// brings it.
template <class Batch>
BatchedGraph settle(std::vector<bool>& flags, size_t carried, const Batch& batch) {
  for (;;) {
    BatchedGraph body = batch(std::vector<bool>(flags.begin(), flags.begin() + static_cast<std::ptrdiff_t>(carried)));
    bool changed = false;
    for (size_t k = 0; k < carried; ++k) {
      changed = changed || (body.out[k] && !flags[k]);
      flags[k] = flags[k] || body.out[k];
    }
    if (!changed) return body;
  }
}

Tensors batched_while(const ops::OpDef& op, Tensors in, std::vector<bool> flags, int64_t size, const ir::Attrs& attrs,
                      int level) {
  const ops::WhileAttrs loop(attrs);
  const std::vector<bool> given = flags;
  const auto batch_body = [&](const std::vector<bool>& force) { return batch_graph(loop.body, flags, size, force); };
  BatchedGraph body = settle(flags, loop.carried, batch_body);
  BatchedGraph condition = batch_graph(loop.condition, flags, size);
  if (condition.out[0]) {
    // Examples end at different times: the loop runs until the last has ended, and those that have keep their values.
    std::fill(flags.begin(), flags.begin() + static_cast<std::ptrdiff_t>(loop.carried), true);
    const auto guarded = [&](const Tensors& xs) {
      const Tensors old(xs.begin(), xs.begin() + static_cast<std::ptrdiff_t>(loop.carried));
      return choose(interpret(loop.condition, xs)[0], interpret(loop.body, xs), old);
    };
    body =
        batch_graph(guarded, types_of(loop.body, loop.body.inputs), flags, size, std::vector<bool>(loop.carried, true));
    ir::Graph each = *batch_graph(loop.condition, flags, size, {true}).graph;
    CapturedFunction any_left = capture_subgraph(
        [&](const Tensors& xs) { return Tensors{any(interpret(each, xs)[0])}; }, types_of(each, each.inputs));
    condition.graph = shared(std::move(any_left.graph));
  }
  for (size_t k = 0; k < loop.carried; ++k) {
    if (flags[k]) in[k] = with_batch(in[k], given[k], size);
  }
  const std::vector<bool> out(flags.begin(), flags.begin() + static_cast<std::ptrdiff_t>(loop.carried));
  return wrap(ops::call(op, std::move(in), {condition.graph, body.graph, static_cast<int64_t>(loop.carried)}), out,
              level);
}

Tensors batched_scan(const ops::OpDef& op, Tensors in, std::vector<bool> flags, int64_t size, const ir::Attrs& attrs,
                     int level) {
  const ops::ScanAttrs scan(attrs);
  const std::vector<bool> given = flags;
  const auto batch_body = [&](const std::vector<bool>& force) { return batch_graph(scan.body, flags, size, force); };
  const BatchedGraph body = settle(flags, scan.carried, batch_body);
  for (size_t k = 0; k < scan.carried; ++k) {
    if (flags[k]) in[k] = with_batch(in[k], given[k], size);
  }
  // The step axis comes first, the batch second: a row then carries the batch first.
  for (size_t k = scan.carried; k < scan.carried + scan.scanned; ++k) {
    if (flags[k]) in[k] = moveaxis(in[k], 1, 0);
  }
  Tensors out = ops::call(op, std::move(in), ops::with_body(attrs, body.graph));
  for (size_t k = scan.carried; k < out.size(); ++k) {
    if (body.out[k]) out[k] = moveaxis(out[k], 1, 0);
  }
  return wrap(std::move(out), body.out, level);
}

}  // namespace

Tensors call_differentiable_control(const ops::OpDef& op, const Tensors& in, const ir::Attrs& attrs) {
  return std::get<ops::ControlFlow>(op.meaning).kind == ops::ControlKind::Cond ? differentiable_cond(op, in, attrs)
                                                                               : differentiable_scan(op, in, attrs);
}

Tensors call_batched_control(const ops::OpDef& op, const Tensors& in, std::vector<bool> batched, int64_t size,
                             const ir::Attrs& attrs, int level) {
  switch (std::get<ops::ControlFlow>(op.meaning).kind) {
    case ops::ControlKind::Cond:
      return batched_cond(op, in, batched, size, attrs, level);
    case ops::ControlKind::While:
      return batched_while(op, in, std::move(batched), size, attrs, level);
    case ops::ControlKind::Scan:
      break;
  }
  return batched_scan(op, in, std::move(batched), size, attrs, level);
}

}  // namespace trace

// ---- what users call -----------------------------------------------------------------------
namespace {

using trace::capture_subgraph;
using trace::CapturedFunction;
using trace::Function;

// The value below all vmaps.
const Tensor& bottom(const Tensor& x) {
  const auto* b = trace::batched(x);
  return b ? bottom(b->inner) : x;
}
bool unknown(const Tensor& x) { return x.defined() && trace::traced(bottom(x)) != nullptr; }
bool any_unknown(const Tensors& xs) { return std::any_of(xs.begin(), xs.end(), unknown); }
bool capturing() { return !trace::state().recorders.empty(); }

// Numbers that came from C++ get a dtype of their own: they may be carried.
Tensors settled(Tensors xs) {
  for (auto& x : xs) {
    if (x.defined() && x.impl()->weak) x = strengthen(x);
  }
  return xs;
}

void expect_same_types(const char* where, std::string_view what, const Tensors& want, Tensors& got) {
  if (want.size() != got.size())
    throw ValueError({where,
                      fmt::format("{}: another number of values", what),
                      std::to_string(want.size()),
                      std::to_string(got.size()),
                      {}});
  for (size_t i = 0; i < want.size(); ++i) {
    if (!got[i].defined()) throw ValueError({where, fmt::format("{}: value {} is undefined", what, i), {}, {}, {}});
    if (got[i].impl()->weak) got[i] = strengthen(got[i], want[i].dtype());
    if (got[i].dtype() != want[i].dtype())
      throw DTypeError({where, fmt::format("{}: value {} changes its dtype", what, i),
                        std::string(name(want[i].dtype())), std::string(name(got[i].dtype())),
                        fmt::format("cast(x, tenon::{})", name(want[i].dtype()))});
    if (got[i].shape() != want[i].shape())
      throw ShapeError({where,
                        fmt::format("{}: value {} changes its shape", what, i),
                        to_string(want[i].shape()),
                        to_string(got[i].shape()),
                        {}});
  }
}

// Operands that only the other graph uses: inputs that nothing reads, from place `at` on.
ir::GraphPtr with_unused(ir::Graph graph, size_t at, const Tensors& unused) {
  for (size_t i = 0; i < unused.size(); ++i) {
    const ir::ValueId id = graph.add_value(unused[i].type());
    graph.inputs.insert(graph.inputs.begin() + static_cast<std::ptrdiff_t>(at + i), id);
  }
  return std::make_shared<const ir::Graph>(std::move(graph));
}

std::vector<TensorType> types_of(const Tensors& xs) {
  std::vector<TensorType> types;
  types.reserve(xs.size());
  for (const auto& x : xs) types.push_back(x.type());
  return types;
}

void join(Tensors& all, std::initializer_list<const Tensors*> more) {
  for (const Tensors* part : more) all.insert(all.end(), part->begin(), part->end());
}

bool any_true(const Tensor& predicate) {
  const Tensor& value = bottom(predicate);
  return any(value.detach()).item<bool>();
}

Tensors captured_cond(const Tensor& predicate, const Function& then_branch, const Function& else_branch,
                      const Tensors& operands) {
  const auto types = types_of(operands);
  const auto strong = [](const Function& fn) { return [&fn](const Tensors& in) { return settled(fn(in)); }; };
  CapturedFunction then = capture_subgraph(strong(then_branch), types);
  CapturedFunction otherwise = capture_subgraph(strong(else_branch), types);
  Tensors all{predicate};
  join(all, {&operands, &then.captures, &otherwise.captures});
  const size_t own = operands.size();
  return ops::call(ops::cond_op(), std::move(all),
                   {with_unused(std::move(then.graph), own + then.captures.size(), otherwise.captures),
                    with_unused(std::move(otherwise.graph), own, then.captures)});
}

}  // namespace

Tensors cond(const Tensor& predicate, const Function& then_branch, const Function& else_branch,
             const Tensors& operands) {
  if (predicate.size() != 1)
    throw ShapeError({"cond", "the predicate is not one truth value", "[]", to_string(predicate.shape()),
                      "any(x), all(x), or where(x, a, b) to choose element by element"});
  const Tensor truth = cast(reshape(predicate, {}), boolean);
  const Tensors in = settled(operands);
  if (unknown(truth)) return captured_cond(truth, then_branch, else_branch, in);
  if (!trace::batched(truth)) return settled(truth.item<bool>() ? then_branch(in) : else_branch(in));
  const Tensors yes = settled(then_branch(in));
  Tensors no = else_branch(in);
  expect_same_types("cond", "results of the two branches", yes, no);
  Tensors out;
  for (size_t i = 0; i < yes.size(); ++i) out.push_back(where(truth, yes[i], no[i]));
  return out;
}

Tensors while_loop(const std::function<Tensor(const Tensors&)>& condition, const Function& body, Tensors values) {
  values = settled(std::move(values));
  const auto truth = [&](const Tensors& xs) {
    const Tensor t = condition(xs);
    if (!t.defined() || t.size() != 1)
      throw ShapeError({"while_loop",
                        "the condition is not one truth value",
                        "[]",
                        t.defined() ? to_string(t.shape()) : "nothing",
                        {}});
    return cast(reshape(t, {}), boolean);
  };
  const auto step = [&](const Tensors& xs) {
    Tensors next = body(xs);
    expect_same_types("while_loop", "results of the body", xs, next);
    return next;
  };
  if (capturing()) {
    const auto types = types_of(values);
    CapturedFunction test = capture_subgraph([&](const Tensors& xs) { return Tensors{truth(xs)}; }, types);
    CapturedFunction next = capture_subgraph(step, types);
    if (any_unknown(values) || any_unknown(test.captures) || any_unknown(next.captures)) {
      const size_t carried = values.size();
      Tensors all = std::move(values);
      join(all, {&test.captures, &next.captures});
      return ops::call(ops::while_op(), std::move(all),
                       {with_unused(std::move(test.graph), carried + test.captures.size(), next.captures),
                        with_unused(std::move(next.graph), carried, test.captures), static_cast<int64_t>(carried)});
    }
  }
  for (;;) {
    const Tensor go_on = truth(values);
    if (!any_true(go_on)) return values;
    Tensors next = step(values);
    if (trace::batched(go_on)) {
      for (size_t i = 0; i < next.size(); ++i) next[i] = where(go_on, next[i], values[i]);
    }
    values = std::move(next);
  }
}

namespace {

// The slices along the first axis, as one differentiable step: the gradient of each slice by itself would be of the
// size of the whole.
Tensors unstack(const Tensor& x, int64_t length) {
  Tensors rows;
  const bool keep = x.requires_grad() && trace::state().record_gradients;
  const Tensor plain = keep ? trace::without_tape(x) : x;
  for (int64_t t = 0; t < length; ++t) rows.push_back(select(plain, 0, t));
  if (!keep || rows.empty()) return rows;
  trace::link(rows, {x}, "scan", [type = rows[0].type()](const Tensors& ct, const Tensors&) {
    Tensors parts;
    for (const auto& c : ct) parts.push_back(c.defined() ? to_dense(c) : zeros(type.shape, type.dtype));
    return Tensors{stack(parts, 0)};
  });
  return rows;
}

}  // namespace

ScanStep scan(const std::function<ScanStep(const Tensors&, const Tensors&)>& body, Tensors carry, const Tensors& xs,
              const ScanOptions& options) {
  carry = settled(std::move(carry));
  int64_t length = options.length;
  std::vector<TensorType> types = types_of(carry);
  for (size_t i = 0; i < xs.size(); ++i) {
    if (xs[i].ndim() == 0)
      throw ShapeError({"scan", fmt::format("scanned value {} has no axis to walk along", i), "[steps, …]", "[]", {}});
    if (length >= 0 && xs[i].shape(0) != length)
      throw ShapeError({"scan",
                        fmt::format("scanned value {} has another number of steps", i),
                        std::to_string(length),
                        std::to_string(xs[i].shape(0)),
                        {}});
    length = xs[i].shape(0);
    types.push_back({xs[i].dtype(), Shape(xs[i].shape().begin() + 1, xs[i].shape().end())});
  }
  if (length < 0)
    throw ValueError({"scan", "the number of steps is not known", {}, {}, "{.length = n}, or something to scan"});
  const size_t carried = carry.size();
  const auto step = [&](const Tensors& now, const Tensors& x) {
    ScanStep next = body(now, x);
    expect_same_types("scan", "the carry that the body gives", now, next.carry);
    next.rows = settled(std::move(next.rows));
    return next;
  };
  // An empty loop's rows have no example: their types come from the body's graph.
  if (capturing() || length == 0) {
    CapturedFunction captured = capture_subgraph(
        [&](const Tensors& in) {
          const auto middle = in.begin() + static_cast<std::ptrdiff_t>(carried);
          ScanStep next = step({in.begin(), middle}, {middle, in.end()});
          next.carry.insert(next.carry.end(), next.rows.begin(), next.rows.end());
          return next.carry;
        },
        types);
    if (length == 0 || any_unknown(carry) || any_unknown(xs) || any_unknown(captured.captures)) {
      Tensors all = std::move(carry);
      join(all, {&xs, &captured.captures});
      Tensors out =
          ops::call(ops::scan_op(), std::move(all),
                    {std::make_shared<const ir::Graph>(std::move(captured.graph)), static_cast<int64_t>(carried),
                     static_cast<int64_t>(xs.size()), length, options.reverse});
      const auto middle = out.begin() + static_cast<std::ptrdiff_t>(carried);
      return {{out.begin(), middle}, {middle, out.end()}};
    }
  }
  std::vector<Tensors> columns, rows;
  for (const auto& all : xs) rows.push_back(unstack(all, length));
  for (int64_t k = 0; k < length; ++k) {
    const int64_t t = options.reverse ? length - 1 - k : k;
    Tensors x;
    for (auto& row : rows) x.push_back(std::move(row[static_cast<size_t>(t)]));
    ScanStep next = step(carry, x);
    carry = std::move(next.carry);
    columns.resize(next.rows.size());
    for (size_t r = 0; r < columns.size(); ++r) columns[r].push_back(std::move(next.rows[r]));
  }
  ScanStep result{std::move(carry), {}};
  for (auto& column : columns) {
    if (options.reverse) std::reverse(column.begin(), column.end());
    result.rows.push_back(stack(column, 0));
  }
  return result;
}

}  // namespace tenon
