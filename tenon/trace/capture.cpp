#include "tenon/trace/capture.h"

#include <algorithm>
#include <atomic>
#include <utility>

#include "tenon/base/error.h"
#include "tenon/ops/call.h"
#include "tenon/trace/state.h"

namespace tenon::trace {
namespace {

uint64_t next_recorder_id() {
  static std::atomic<uint64_t> next{1};
  return next++;
}

}  // namespace

Recorder::Recorder(Outside outside) : outside_(outside), id_(next_recorder_id()), vmap_level_(state().vmap_level) {
  state().recorders.push_back(this);
}
Recorder::~Recorder() {
  auto& stack = state().recorders;
  stack.erase(std::find(stack.begin(), stack.end(), this));
}

Tensor Recorder::wrap(ir::ValueId id) {
  auto value = make_ref<TracedValue>();
  value->recorder = id_;
  value->id = id;
  auto impl = make_ref<TensorImpl>();
  impl->type = graph_.type(id);
  impl->stand_for(std::move(value));
  return Tensor(std::move(impl));
}

Tensor Recorder::input(const TensorType& type, std::string name) {
  return wrap(graph_.add_input(type, std::move(name)));
}

void Recorder::keep(const Tensor& weight) {
  if (!weight.defined() || !weight.is_concrete()) return;
  weights_.insert(weight.impl());
  kept_.push_back(weight);
}

ir::ValueId Recorder::value_of(const Tensor& x) {
  if (!x.defined()) return ir::kAbsent;
  const TracedValue* value = traced(x);
  if (value && value->recorder == id_) return value->id;
  if (auto found = known_.find(x.impl()); found != known_.end()) return found->second;
  ir::ValueId id;
  if (outside_ == Outside::Captures && (!x.is_concrete() || x.requires_grad())) {
    id = graph_.add_input(x.type());
    captures_.push_back(x);
  } else if (x.is_concrete()) {
    id = graph_.add_constant(x.detach());
  } else {
    throw ValueError({"capture",
                      "a traced or batched value from outside is used in the captured function",
                      {},
                      {},
                      "pass it as an input of the function"});
  }
  known_.emplace(x.impl(), id);
  kept_.push_back(x);
  return id;
}

Tensors Recorder::add(const ops::OpDef& op, const Tensors& in, const ir::Attrs& attrs,
                      const std::vector<TensorType>& types) {
  std::vector<ir::ValueId> operands;
  operands.reserve(in.size());
  for (const auto& x : in) operands.push_back(value_of(x));
  Tensors out;
  for (ir::ValueId id : graph_.add_node(op, std::move(operands), attrs, types)) out.push_back(wrap(id));
  return out;
}

ir::Graph Recorder::finish(const Tensors& outputs) {
  for (const auto& x : outputs) {
    const ir::ValueId id = value_of(x);
    graph_.outputs.push_back(id);
  }
  return std::move(graph_);
}

std::optional<Tensor> Recorder::known(ir::ValueId id) {
  if (const auto found = evaluated_.find(id); found != evaluated_.end()) return found->second;
  std::vector<int32_t> producer(graph_.values.size(), -1);
  for (size_t n = 0; n < graph_.nodes.size(); ++n) {
    for (const ir::ValueId out : graph_.nodes[n].outputs) producer[static_cast<size_t>(out)] = static_cast<int32_t>(n);
  }
  std::vector<bool> needed(graph_.nodes.size(), false);
  std::vector<ir::ValueId> open{id};
  while (!open.empty()) {
    const ir::ValueId value = open.back();
    open.pop_back();
    if (value == ir::kAbsent || evaluated_.contains(value)) continue;
    const int32_t n = producer[static_cast<size_t>(value)];
    if (n < 0) return {};
    if (needed[static_cast<size_t>(n)]) continue;
    needed[static_cast<size_t>(n)] = true;
    const auto& in = graph_.nodes[static_cast<size_t>(n)].inputs;
    open.insert(open.end(), in.begin(), in.end());
  }
  struct Suspended {
    std::vector<Recorder*> recorders = std::exchange(state().recorders, {});
    Suspended() = default;
    Suspended(const Suspended&) = delete;
    Suspended& operator=(const Suspended&) = delete;
    ~Suspended() { state().recorders = std::move(recorders); }
  } const suspended;
  const NoGrad no_grad;
  for (size_t n = 0; n < graph_.nodes.size(); ++n) {
    if (!needed[n]) continue;
    const ir::Node& node = graph_.nodes[n];
    if (!node.op) {
      evaluated_[node.outputs[0]] = node.constant;
      continue;
    }
    Tensors in;
    for (const ir::ValueId operand : node.inputs)
      in.push_back(operand == ir::kAbsent ? Tensor() : evaluated_.at(operand));
    const Tensors out = ops::call(*node.op, std::move(in), node.attrs);
    for (size_t i = 0; i < out.size(); ++i) evaluated_[node.outputs[i]] = out[i];
  }
  return evaluated_.at(id);
}

std::optional<Tensor> known_value(const Tensor& x) {
  if (!x.defined()) return {};
  if (x.is_concrete()) return x;
  const TracedValue* value = traced(x);
  if (!value) return {};
  for (Recorder* recorder : state().recorders) {
    if (recorder->id() == value->recorder) return recorder->known(value->id);
  }
  return {};
}

const TracedValue* traced(const Tensor& x) {
  const Placeholder* held = x.defined() ? x.impl()->placeholder.get() : nullptr;
  // Each op of a compiled function asks; a lazy value says no for less than a cast costs.
  return held != nullptr && !held->lazy() ? dynamic_cast<const TracedValue*>(held) : nullptr;
}

Recorder* recorder_for(const Tensors& in) {
  const auto& stack = state().recorders;
  if (in.empty()) return stack.empty() ? nullptr : stack.back();
  // The innermost capture that one of the inputs belongs to. Calls on concrete values only are computed at once, also
  // inside a capture: they are constants.
  Recorder* found = nullptr;
  size_t depth = 0;
  for (const auto& x : in) {
    // A sub-graph is traced without recording gradients: what is computed from a value through which one flows belongs
    // into the sub-graph, whose derivative then counts it.
    if (x.requires_grad() && !stack.empty() && stack.back()->takes_captures()) return stack.back();
    const TracedValue* value = traced(x);
    if (!value) {
      // A weight belongs to the outermost capture that keeps it: inner ones get it as a value from outside.
      for (size_t at = 0; x.defined() && at < stack.size() && at >= depth; ++at) {
        if (!stack[at]->keeps(x)) continue;
        depth = at + 1;
        found = stack[at];
        break;
      }
      continue;
    }
    size_t at = stack.size();
    while (at > 0 && stack[at - 1]->id() != value->recorder) --at;
    if (at == 0)
      throw ValueError({"capture",
                        "a traced value outlived its capture",
                        {},
                        {},
                        "return it from the captured function instead of storing it"});
    if (at > depth) {
      depth = at;
      found = stack[at - 1];
    }
  }
  return found;
}

void expect_visible_gradients(const char* where) {
  if (!state().gradients_from_graph) return;
  throw UnsupportedError({where,
                          "inside a captured branch or loop only the graph is differentiated, so this gradient "
                          "would be lost",
                          {},
                          {},
                          "move it out of the branch or loop, or put the whole under NoGrad if no gradient is wanted"});
}

CapturedFunction capture_subgraph(const Function& fn, const std::vector<TensorType>& inputs) {
  struct Guard {
    bool previous = std::exchange(state().gradients_from_graph, state().gradients_from_graph || grad_enabled());
    Guard() = default;
    Guard(const Guard&) = delete;
    Guard& operator=(const Guard&) = delete;
    ~Guard() { state().gradients_from_graph = previous; }
  } const guard;
  const NoGrad no_grad;
  Recorder recorder(Recorder::Outside::Captures);
  Tensors in;
  in.reserve(inputs.size());
  for (const auto& type : inputs) in.push_back(recorder.input(type));
  const Tensors out = fn(in);
  CapturedFunction result;
  result.graph = recorder.finish(out);
  result.captures = recorder.captures();
  return result;
}

Tensors interpret(const ir::Graph& graph, const Tensors& inputs) {
  Tensors values(graph.values.size());
  for (size_t i = 0; i < inputs.size(); ++i) values[static_cast<size_t>(graph.inputs[i])] = inputs[i];
  for (const ir::Node& node : graph.nodes) {
    if (!node.op) {
      values[static_cast<size_t>(node.outputs[0])] = node.constant;
      continue;
    }
    Tensors in;
    in.reserve(node.inputs.size());
    for (ir::ValueId id : node.inputs) in.push_back(id == ir::kAbsent ? Tensor() : values[static_cast<size_t>(id)]);
    Tensors out = ops::call(*node.op, std::move(in), node.attrs);
    for (size_t i = 0; i < out.size(); ++i) values[static_cast<size_t>(node.outputs[i])] = std::move(out[i]);
  }
  Tensors results;
  results.reserve(graph.outputs.size());
  for (ir::ValueId id : graph.outputs) results.push_back(values[static_cast<size_t>(id)]);
  return results;
}

}  // namespace tenon::trace
