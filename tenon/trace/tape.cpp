#include "tenon/trace/tape.h"

#include <fmt/format.h>

#include <atomic>
#include <memory>
#include <set>

#include "tenon/base/error.h"
#include "tenon/exec/observe.h"
#include "tenon/ops/broadcast.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/reduce.h"
#include "tenon/trace/call_site.h"
#include "tenon/trace/sparse.h"
#include "tenon/trace/state.h"
#include "tenon/trace/vmap.h"

namespace tenon {
namespace {

uint64_t next_sequence() {
  static std::atomic<uint64_t> next{1};
  return next.fetch_add(1, std::memory_order_relaxed);
}

}  // namespace

TapeNode::TapeNode() : sequence(next_sequence()) {}

// A long chain (a recurrent net, a loop) would be freed recursively and overflow the stack; unlink it here instead.
TapeNode::~TapeNode() {
  std::vector<Ref<TapeLink>> pending;
  const auto collect = [&pending](TapeNode& node) {
    for (auto& edge : node.edges) pending.push_back(std::move(edge.node));
    for (auto* list : {&node.saved_in, &node.saved_out}) {
      for (auto& x : *list) {
        if (x.defined() && x.unique() && x.impl()->tape) pending.push_back(std::move(x.impl()->tape));
      }
    }
  };
  collect(*this);
  while (!pending.empty()) {
    Ref<TapeLink> link = std::move(pending.back());
    pending.pop_back();
    if (link.unique()) {
      if (auto* node = dynamic_cast<TapeNode*>(link.get())) collect(*node);
    }
  }
}

Tensor Tensor::detach() const {
  if (trace::differentiated_outside(*this)) {
    const auto* b = trace::batched(*this);
    return trace::make_batched(b->inner.detach(), b->level);
  }
  return trace::without_tape(*this);
}

namespace trace {

TapeEdge edge_of(const Tensor& x) {
  if (!x.requires_grad()) return {};
  return {x.impl()->tape, x.impl()->tape_output};
}

std::vector<TapeEdge> edges_of(const Tensors& xs) {
  std::vector<TapeEdge> edges;
  for (const auto& x : xs) edges.push_back(edge_of(x));
  return edges;
}

TensorType type_at(const TapeEdge& edge) {
  if (const auto* leaf = dynamic_cast<const VariableLeaf*>(edge.node.get())) {
    const auto cell = leaf->cell.lock();
    return cell ? cell->value.type() : TensorType{};
  }
  return static_cast<const TapeNode&>(*edge.node).out_types[edge.index];
}

uint64_t next_node_sequence() { return next_sequence(); }

std::vector<TapeEdge> edges_to_older(const Tensors& values, uint64_t start) {
  std::vector<TapeEdge> older;
  std::set<std::pair<const TapeLink*, uint32_t>> seen;
  std::vector<TapeEdge> pending = edges_of(values);
  while (!pending.empty()) {
    const TapeEdge edge = std::move(pending.back());
    pending.pop_back();
    if (!edge.node || !seen.insert({edge.node.get(), edge.index}).second) continue;
    const auto* node = dynamic_cast<const TapeNode*>(edge.node.get());
    if (!node || node->sequence < start) {
      older.push_back(edge);
    } else {
      pending.insert(pending.end(), node->edges.begin(), node->edges.end());
    }
  }
  return older;
}

Tensor with_tape(const Tensor& x, Ref<TapeLink> node, uint32_t index) {
  const TensorImpl& from = *x.impl();
  auto impl = make_ref<TensorImpl>();
  impl->type = from.type;
  impl->weak = from.weak;
  impl->strides = from.strides;
  impl->offset = from.offset;
  impl->buffer = from.buffer;
  impl->stand_for(from.placeholder);
  impl->tape = std::move(node);
  impl->tape_output = index;
  return Tensor(std::move(impl));
}

Tensor without_tape(const Tensor& x) { return x.requires_grad() ? with_tape(x, nullptr, 0) : x; }

Tensor make_leaf(const Tensor& x) {
  auto node = make_ref<TapeNode>();
  node->edges.push_back(edge_of(x));
  node->in_types = node->out_types = {x.type()};
  return with_tape(x, std::move(node), 0);
}

void record(const ops::OpDef& op, const ir::Attrs& attrs, const Tensors& in, Tensors& out) {
  auto node = make_ref<TapeNode>();
  node->op = &op;
  node->attrs = attrs;
  const auto* rule = std::get_if<ops::Vjp>(&op.gradient);
  const auto keep = [](uint32_t mask, size_t i) { return i >= 31 ? mask == ~0u : ((mask >> i) & 1u) != 0; };
  node->edges.reserve(in.size());
  node->in_types.reserve(in.size());
  node->saved_in.resize(in.size());
  for (size_t i = 0; i < in.size(); ++i) {
    node->edges.push_back(in[i].defined() && is_float(in[i].dtype()) ? edge_of(in[i]) : TapeEdge{});
    node->in_types.push_back(in[i].defined() ? in[i].type() : TensorType{});
    if (rule && keep(rule->saves_inputs, i)) node->saved_in[i] = in[i];
  }
  node->saved_out.resize(out.size());
  for (size_t i = 0; i < out.size(); ++i) {
    node->out_types.push_back(out[i].type());
    // Without its tape link: the node must not own itself.
    if (rule && keep(rule->saves_outputs, i)) node->saved_out[i] = with_tape(out[i], nullptr, 0);
  }
  if (state().anomaly) node->location = call_site();
  if (exec::observer() != nullptr && exec::detail::layer != nullptr) node->layer = *exec::detail::layer;
  const Ref<TapeLink> link(node);
  for (size_t i = 0; i < out.size(); ++i) {
    const bool flows = i >= 31 || ((op.differentiable_results >> i) & 1u) != 0;
    if (!flows || !is_float(out[i].dtype())) continue;
    if (out[i].unique() && !out[i].impl()->tape) {
      out[i].impl()->tape = link;
      out[i].impl()->tape_output = static_cast<uint32_t>(i);
    } else {
      out[i] = with_tape(out[i], link, static_cast<uint32_t>(i));
    }
  }
}

void link(Tensors& out, const Tensors& in, std::string label, TapeFunction rule, const LinkOptions& options) {
  auto node = make_ref<TapeNode>();
  node->label = std::move(label);
  node->function = std::move(rule);
  if (state().anomaly) node->location = call_site();
  for (const auto& x : in) {
    node->edges.push_back(x.defined() && is_float(x.dtype()) ? edge_of(x) : TapeEdge{});
    node->in_types.push_back(x.defined() ? x.type() : TensorType{});
  }
  for (const auto& edge : options.more) {
    node->edges.push_back(edge);
    node->in_types.push_back(type_at(edge));
  }
  for (const auto& y : out) {
    node->out_types.push_back(y.type());
    if (options.keep_outputs) node->saved_out.push_back(without_tape(y));
  }
  for (size_t i = 0; i < out.size(); ++i) {
    if (is_float(out[i].dtype())) out[i] = with_tape(out[i], node, static_cast<uint32_t>(i));
  }
}

namespace {

// Brings a cotangent to the input's type: sums over what was broadcast, casts.
Tensor adapt(const TapeNode& node, size_t i, Tensor ct) {
  const TensorType& want = node.in_types[i];
  if (sparse_rows(ct)) return ct;
  if (ct.shape() != want.shape) {
    if (node.op && !std::holds_alternative<ops::Elementwise>(node.op->meaning))
      throw GradientError({std::string(node.op->name),
                           fmt::format("the gradient rule gave input {} another shape than it has", i),
                           to_string(want.shape),
                           to_string(ct.shape()),
                           {}});
    if (!node.op && !broadcasts_to(want.shape, ct.shape()))  // from a function of the user's
      throw GradientError({node.label,
                           fmt::format("the gradient of input {} has another shape than the input", i),
                           to_string(want.shape),
                           to_string(ct.shape()),
                           {}});
    ct = sum_to(std::move(ct), want.shape);
  }
  if (ct.dtype() != want.dtype || ct.impl()->weak) ct = cast(std::move(ct), want.dtype);
  return ct;
}

// The outputs that the node keeps, linked to it again.
Tensors kept_outputs(const TapeNode& node) {
  Tensors outs(node.saved_out.size());
  for (size_t i = 0; i < outs.size(); ++i) {
    if (node.saved_out[i].defined())
      outs[i] = with_tape(node.saved_out[i], Ref<TapeLink>(const_cast<TapeNode*>(&node)), static_cast<uint32_t>(i));
  }
  return outs;
}

Tensors rule_of_op(const TapeNode& node, const Tensors& ct, const std::vector<char>& needs) {
  const ops::OpDef& op = *node.op;
  if (const auto* none = std::get_if<ops::NotDifferentiable>(&op.gradient))
    throw GradientError({std::string(op.name),
                         "has no gradient: " + std::string(none->reason),
                         {},
                         {},
                         "detach() its input if no gradient is wanted"});
  if (node.released)
    throw GradientError({std::string(op.name),
                         "a backward pass has already used up this graph",
                         {},
                         {},
                         "backward(/*retain_graph=*/true) in the earlier pass"});
  const auto& rule = std::get<ops::Vjp>(op.gradient);
  const Tensors outs = kept_outputs(node);
  std::unique_ptr<bool[]> wants(new bool[needs.size()]);
  for (size_t i = 0; i < needs.size(); ++i) wants[i] = needs[i] != 0;
  return rule.fn({op, node.saved_in, outs, node.in_types, node.out_types, ct, {wants.get(), needs.size()}, node.attrs});
}

}  // namespace

Tensors apply_rule(const TapeNode& node, const Tensors& ct, const std::vector<char>& needs) {
  Tensors result;
  const exec::LayerName layer(node.layer.empty() ? nullptr : &node.layer);
  const exec::Work work{.kind = exec::WorkKind::Gradient,
                        .name = node.op ? node.op->name : std::string_view(node.label),
                        .op = node.op,
                        .attrs = &node.attrs,
                        .inputs = &ct,
                        .site = node.location};
  if (node.op) {
    result = exec::observed(work, [&] { return rule_of_op(node, ct, needs); });
    if (result.size() != node.edges.size())
      throw GradientError({std::string(node.op->name),
                           "the gradient rule gave the wrong number of cotangents",
                           fmt::format("{}, one for each input (undefined: none)", node.edges.size()),
                           std::to_string(result.size()),
                           {}});
  } else if (node.function) {
    result = exec::observed(work, [&] { return node.function(ct, kept_outputs(node)); });
    result.resize(node.edges.size());
  } else {
    if (node.released)
      throw GradientError({node.label,
                           "a backward pass has already used up this graph",
                           {},
                           {},
                           "backward(/*retain_graph=*/true) in the earlier pass"});
    result = ct;
  }
  for (size_t i = 0; i < result.size(); ++i) {
    if (!needs[i]) result[i] = Tensor();
    if (result[i].defined()) result[i] = adapt(node, i, std::move(result[i]));
  }
  return result;
}

}  // namespace trace
}  // namespace tenon
