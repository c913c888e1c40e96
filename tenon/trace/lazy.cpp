#include "tenon/trace/lazy.h"

#include <algorithm>
#include <exception>
#include <utility>

#include "tenon/base/error.h"
#include "tenon/exec/session.h"
#include "tenon/trace/state.h"

namespace tenon::trace {
namespace {

// A segment this long is run although nobody asks, so that an endless loop does not fill the memory.
constexpr size_t kLongest = 20000;

}  // namespace

struct LazyRecorder::LazyValue final : Placeholder {
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

ir::ValueId LazyRecorder::value_of(Tensor x) {
  if (!x.defined()) return ir::kAbsent;
  TensorImpl& impl = *x.impl();
  if (impl.placeholder) {
    auto& value = static_cast<LazyValue&>(*impl.placeholder);
    if (value.recorder == this) return value.id;
    value.force();  // another recorder's, or a failed one
  }
  const LeafKey key{impl.buffer.get(), impl.offset};
  auto& same_memory = known_[key];
  for (ir::ValueId id : same_memory) {
    const Leaf& leaf = segment_.leaves[leaf_of_[static_cast<size_t>(id)]];
    if (leaf.type == impl.type && leaf.strides == impl.strides) return id;
  }
  const ir::ValueId id = segment_.graph.add_input(impl.type);
  leaf_of_.resize(static_cast<size_t>(id) + 1);
  leaf_of_[static_cast<size_t>(id)] = segment_.leaves.size();
  segment_.leaves.push_back({impl.buffer, impl.type, impl.strides, impl.offset});
  same_memory.push_back(id);
  return id;
}

Tensors LazyRecorder::add(const ops::OpDef& op, Tensors in, const ir::Attrs& attrs, std::vector<TensorType> types) {
  std::vector<ir::ValueId> operands;
  operands.reserve(in.size());
  for (auto& x : in) operands.push_back(value_of(std::move(x)));
  in.clear();
  Tensors out;
  out.reserve(types.size());
  for (ir::ValueId id : segment_.graph.add_node(op, std::move(operands), attrs, types)) {
    auto value = make_ref<LazyValue>();
    value->recorder = this;
    value->id = id;
    auto impl = make_ref<TensorImpl>();
    impl->type = segment_.graph.type(id);
    impl->stand_for(value);
    results_.push_back(std::move(value));
    out.emplace_back(std::move(impl));
  }
  if (segment_.graph.nodes.size() >= kLongest) flush("the recording is very long");
  return out;
}

void LazyRecorder::reset() {
  for (auto& value : results_) value->recorder = nullptr;
  results_.clear();
  known_.clear();
  leaf_of_.clear();
  segment_ = {};
}

void LazyRecorder::flush(const char* reason) {
  if (results_.empty()) return;
  std::vector<Ref<LazyValue>> wanted;
  for (const auto& value : results_) {
    if (value->tensors.empty()) continue;
    segment_.graph.outputs.push_back(value->id);
    wanted.push_back(value);
  }
  if (wanted.empty()) return reset();
  known_.clear();
  segment_.reason = reason;
  for (Leaf& leaf : segment_.leaves) leaf.donated = leaf.buffer.unique() && leaf.buffer->writable();
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
  const Tensors results = engine_.run(segment_);
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

void force(const Tensors& in) {
  for (const auto& x : in) {
    if (x.defined()) static_cast<void>(x.is_concrete());
  }
}

}  // namespace tenon::trace
