#include "tenon/trace/lazy.h"

#include <fmt/format.h>

#include <algorithm>
#include <exception>
#include <utility>

#include "tenon/base/error.h"
#include "tenon/exec/observe.h"
#include "tenon/exec/session.h"
#include "tenon/trace/state.h"

namespace tenon::trace {
namespace {

// A segment this long is run although nobody asks, so that an endless loop does not fill the memory.
constexpr size_t kLongest = 20000;

}  // namespace

struct LazyRecorder::LazyValue final : Placeholder, SmallBlock {
  LazyRecorder* recorder = nullptr;  // null once it has run, or failed
  ir::ValueId id = 0;
  InlineVector<TensorImpl*, 2> tensors;  // that stand for it

  void attach(TensorImpl& tensor) override { tensors.push_back(&tensor); }
  void detach(TensorImpl& tensor) noexcept override {
    const auto* at = std::find(tensors.begin(), tensors.end(), &tensor);
    if (at != tensors.end()) tensors.erase(at);
  }
  [[nodiscard]] bool lazy() const override { return true; }
  void force() override {
    if (recorder == nullptr) {
      throw ValueError({"compile",
                        "this value was never computed, because an earlier part of the compiled function failed",
                        {},
                        {},
                        "handle the first error"});
    }
    recorder->segment_.looked_from = true;
    recorder->flush("a value was looked at");
  }
};

LazyRecorder::LazyRecorder(LazyEngine& engine) : engine_(engine) {
  if (state().lazy != nullptr) throw InternalError("lazy recorders do not nest");
  state().lazy = this;
}

LazyRecorder::~LazyRecorder() {
  state().lazy = nullptr;
  if (results_.empty()) return;
  try {
    flush("an exception");
  } catch (...) {  // the exception that is on its way says more; what is lost says so when it is read
    reset();
  }
}

bool LazyRecorder::takes_bodies() const {
  return !flushing_ && !state().anomaly && !exec::session().options().reference;
}

bool LazyRecorder::takes(const ops::OpDef& op, const Tensors& in, const ir::Attrs& attrs,
                         const std::vector<TensorType>& types) const {
  if (flushing_ || types.empty() || state().anomaly) return false;
  if (std::holds_alternative<ops::DataDependent>(op.meaning) || std::holds_alternative<ops::ControlFlow>(op.meaning))
    return false;
  exec::Session& session = exec::session();
  if (session.options().reference) return false;
  for (const auto& x : in) {
    if (x.defined() && !x.has_elements()) return false;
  }
  if (!std::holds_alternative<ops::Composite>(op.meaning)) return true;
  // A composite stays one node if the device has a kernel for it; otherwise the ops of its body are recorded.
  if (!session.options().claims) return false;
  std::vector<TensorType> in_types;
  in_types.reserve(in.size());
  for (const auto& x : in) in_types.push_back(x.defined() ? x.type() : TensorType{});
  return session.device().claim(op, in_types, attrs) != nullptr;
}

namespace {

size_t place_of(const Buffer* buffer, int64_t offset) {
  return (reinterpret_cast<uintptr_t>(buffer) >> 4) * 0x9e3779b97f4a7c15ULL + static_cast<size_t>(offset) * 31;
}

}  // namespace

ir::ValueId LazyRecorder::value_of(Tensor x) {
  if (!x.defined()) return ir::kAbsent;
  TensorImpl& impl = *x.impl();
  if (impl.placeholder) {
    auto& value = static_cast<LazyValue&>(*impl.placeholder);
    if (value.recorder == this) return value.id;
    value.force();  // another recorder's, or a failed one
  }
  if (2 * (segment_.leaves.size() + 1) > table_.size()) rehash();
  const size_t mask = table_.size() - 1;
  for (size_t at = place_of(impl.buffer.get(), impl.offset) & mask;; at = (at + 1) & mask) {
    if (table_[at] < 0) {
      table_[at] = static_cast<int32_t>(segment_.leaves.size());
      return new_leaf(impl);
    }
    const Leaf& leaf = segment_.leaves[static_cast<size_t>(table_[at])];
    if (leaf.buffer.get() == impl.buffer.get() && leaf.offset == impl.offset && leaf.type == impl.type &&
        leaf.strides == impl.strides)
      return leaf_values_[static_cast<size_t>(table_[at])];
  }
}

void LazyRecorder::rehash() {
  table_.assign(std::max<size_t>(64, 2 * table_.size()), -1);
  for (size_t i = 0; i < segment_.leaves.size(); ++i) {
    const Leaf& leaf = segment_.leaves[i];
    size_t at = place_of(leaf.buffer.get(), leaf.offset) & (table_.size() - 1);
    while (table_[at] >= 0) at = (at + 1) & (table_.size() - 1);
    table_[at] = static_cast<int32_t>(i);
  }
}

ir::ValueId LazyRecorder::new_leaf(const TensorImpl& impl) {
  const size_t number = segment_.leaves.size();
  if (segment_.predicted) {
    const ir::Graph& g = *segment_.predicted;
    if (number >= g.inputs.size() || g.inputs[number] != values_ || g.type(values_) != impl.type) leave_prediction();
  }
  if (!segment_.predicted) segment_.own.add_input(impl.type);
  segment_.leaves.push_back({impl.buffer, impl.type, impl.strides, impl.offset});
  leaf_values_.push_back(values_);
  return values_++;
}

bool LazyRecorder::follows(const ops::OpDef& op, const ir::Attrs& attrs, std::span<const TensorType> types) const {
  const ir::Graph& g = *segment_.predicted;
  if (nodes_ >= g.nodes.size()) return false;
  const ir::Node& node = g.nodes[nodes_];
  if (node.op != &op || node.inputs != operands_ || node.outputs.size() != types.size() || node.attrs != attrs)
    return false;
  for (size_t k = 0; k < types.size(); ++k) {
    if (node.outputs[k] != values_ + static_cast<ir::ValueId>(k) || g.type(node.outputs[k]) != types[k]) return false;
  }
  return true;
}

// What was recorded so far as a graph of its own.
void LazyRecorder::leave_prediction() {
  const std::shared_ptr<const ir::Graph> g = std::exchange(segment_.predicted, nullptr);
  segment_.own.values.assign(g->values.begin(), g->values.begin() + values_);
  segment_.own.nodes.assign(g->nodes.begin(), g->nodes.begin() + static_cast<std::ptrdiff_t>(nodes_));
  segment_.own.inputs = leaf_values_;
}

void LazyRecorder::begin_node(std::span<Tensor> in) {
  if (nodes_ == 0 && values_ == 0) segment_.predicted = engine_.predict(segments_);
  operands_.clear();
  for (auto& x : in) operands_.push_back(value_of(std::move(x)));
}

Tensor LazyRecorder::new_result(TensorType type) {
  auto value = make_ref<LazyValue>();
  value->recorder = this;
  value->id = values_++;
  auto impl = make_ref<TensorImpl>();
  impl->type = std::move(type);
  impl->stand_for(value);
  results_.push_back(std::move(value));
  return Tensor(std::move(impl));
}

Tensor LazyRecorder::add_elementwise(const ops::OpDef& op, std::span<Tensor> in, const ir::Attrs& attrs,
                                     TensorType type) {
  begin_node(in);
  if (segment_.predicted && !follows(op, attrs, std::span(&type, 1))) leave_prediction();
  if (!segment_.predicted) segment_.own.add_node(op, operands_, attrs, {type});
  ++nodes_;
  Tensor out = new_result(std::move(type));
  if (nodes_ >= kLongest) flush("the recording is very long");
  return out;
}

Tensors LazyRecorder::add(const ops::OpDef& op, Tensors in, const ir::Attrs& attrs, std::vector<TensorType> types) {
  begin_node(in);
  in.clear();
  if (segment_.predicted && !follows(op, attrs, types)) leave_prediction();
  if (!segment_.predicted) segment_.own.add_node(op, operands_, attrs, types);
  ++nodes_;
  Tensors out;
  out.reserve(types.size());
  for (TensorType& type : types) out.push_back(new_result(std::move(type)));
  if (nodes_ >= kLongest) flush("the recording is very long");
  return out;
}

void LazyRecorder::reset() {
  for (auto& value : results_) value->recorder = nullptr;
  results_.clear();
  table_.clear();
  leaf_values_.clear();
  nodes_ = 0;
  values_ = 0;
  segment_ = {};
}

void LazyRecorder::flush(std::string reason) {
  if (results_.empty()) return;
  std::vector<Ref<LazyValue>> wanted;
  std::vector<ir::ValueId> outputs;
  for (const auto& value : results_) {
    if (value->tensors.empty()) continue;
    outputs.push_back(value->id);
    wanted.push_back(value);
  }
  if (wanted.empty()) return reset();
  if (segment_.predicted && (nodes_ != segment_.predicted->nodes.size() || outputs != segment_.predicted->outputs))
    leave_prediction();
  if (!segment_.predicted) segment_.own.outputs = std::move(outputs);
  ++segments_;
  segment_.reason = std::move(reason);
  for (Leaf& leaf : segment_.leaves) {
    if (!leaf.buffer->writable()) continue;
    if (leaf.buffer->use_count() == 2) engine_.give_back(*leaf.buffer);  // it may be the other one
    leaf.donated = leaf.buffer.unique();
  }
  struct Guard {
    LazyRecorder& recorder;
    bool previous = std::exchange(recorder.flushing_, true);
    LazyRecorder* in_force = std::exchange(state().lazy, nullptr);
    explicit Guard(LazyRecorder& r) : recorder(r) {}
    Guard(const Guard&) = delete;
    Guard& operator=(const Guard&) = delete;
    ~Guard() {
      recorder.flushing_ = previous;
      state().lazy = in_force;
      recorder.reset();
    }
  } const guard(*this);
  const NoGrad no_grad;
  const Tensors results =
      exec::observed({.kind = exec::WorkKind::Segment, .name = "segment"}, [&] { return engine_.run(segment_); });
  for (size_t i = 0; i < wanted.size(); ++i) {
    const TensorImpl& from = *results[i].impl();
    const InlineVector<TensorImpl*, 2> tensors = std::exchange(wanted[i]->tensors, {});
    for (TensorImpl* tensor : tensors) {
      tensor->strides = from.strides;
      tensor->offset = from.offset;
      tensor->buffer = from.buffer;
      tensor->placeholder = nullptr;
    }
  }
}

void LazyRecorder::look(const Tensors& in, std::string_view op) {
  const auto is_lazy = [](const Tensor& x) {
    return x.defined() && x.impl()->placeholder && x.impl()->placeholder->lazy();
  };
  if (std::none_of(in.begin(), in.end(), is_lazy)) return;
  // A value of another recorder's, or of one that failed, is its own affair.
  flush(fmt::format("{} looked at a value", op));
  for (const auto& x : in) {
    if (x.defined()) static_cast<void>(x.is_concrete());
  }
}

}  // namespace tenon::trace
