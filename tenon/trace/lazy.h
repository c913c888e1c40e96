// Lazy evaluation: what compile(fn) does with the calls of fn.
//
// While a LazyRecorder is in force on a thread, a call on concrete values is checked and recorded, and its results are
// lazy tensors. When somebody looks at one (item, data, a print), or at the end, everything recorded so far goes to
// the engine as one segment, and every tensor that still stands for a value of it gets its elements. Values that nobody
// holds any more are not asked for. Recording then goes on with a new segment.
// Lazy tensors belong to the thread that made them until they have their elements. Calls that cannot be recorded
// (their shapes depend on values) are computed at once, which looks at their inputs.
#pragma once

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tenon/ir/graph.h"
#include "tenon/ops/opdef.h"

namespace tenon::trace {

// A concrete tensor from outside.
struct Leaf {
  Ref<Buffer> buffer;
  TensorType type;
  Shape strides;
  int64_t offset = 0;
  // Nobody else holds the memory: the engine may write results there.
  bool donated = false;
};

struct Segment {
  // Inputs: one for each leaf; outputs: the values that are still wanted.
  [[nodiscard]] const ir::Graph& graph() const { return predicted ? *predicted : own; }
  ir::Graph own;
  std::shared_ptr<const ir::Graph> predicted;  // if the recording was this graph again; `own` is empty then
  std::vector<Leaf> leaves;
  std::string reason;        // why it ended here
  bool looked_from = false;  // by a look of the host code's: whose, trace::call_site() tells during the run
};

class LazyEngine {
 public:
  virtual ~LazyEngine() = default;
  // Concrete tensors, one for each output of the segment's graph, of exactly its type.
  virtual Tensors run(Segment& segment) = 0;
  // The graph that will probably be recorded next, after `before` segments of this call; null: no idea. As long as the
  // calls follow it, they are compared with it, which costs less than building a graph anew.
  virtual std::shared_ptr<const ir::Graph> predict(size_t /*before*/) { return nullptr; }
  // Lets go of memory that it holds for itself between segments, because the recorder would donate it.
  virtual void give_back(const Buffer& /*memory*/) {}
};

class LazyRecorder {
 public:
  // In force on this thread while it lives; not to be nested (see current()).
  explicit LazyRecorder(LazyEngine& engine);
  // What is still lazy is computed, also when an exception passes: Variables then hold what the host code gave them.
  ~LazyRecorder();
  LazyRecorder(const LazyRecorder&) = delete;
  LazyRecorder& operator=(const LazyRecorder&) = delete;

  [[nodiscard]] bool takes(const ops::OpDef& op, const Tensors& in, const ir::Attrs& attrs,
                           const std::vector<TensorType>& types) const;
  // Whether the ops of a composite's body may be recorded in its place.
  [[nodiscard]] bool takes_bodies() const;
  Tensors add(const ops::OpDef& op, Tensors in, const ir::Attrs& attrs, std::vector<TensorType> types);
  // The same for an elementwise op, whose inputs have elements: without lists.
  Tensor add_elementwise(const ops::OpDef& op, std::span<Tensor> in, const ir::Attrs& attrs, TensorType type);
  // Lazy tensors among these get their elements, because an op that is not recorded looks at them.
  void look(const Tensors& in, std::string_view op);
  // Runs what was recorded so far. Errors: what a kernel says of the values (an index out of range).
  void flush(std::string reason);

 private:
  struct LazyValue;
  ir::ValueId value_of(Tensor x);
  ir::ValueId new_leaf(const TensorImpl& impl);
  [[nodiscard]] bool follows(const ops::OpDef& op, const ir::Attrs& attrs, std::span<const TensorType> types) const;
  void begin_node(std::span<Tensor> in);
  Tensor new_result(TensorType type);
  void leave_prediction();
  void rehash();
  void reset();

  LazyEngine& engine_;
  Segment segment_;
  size_t segments_ = 0;                   // run so far
  size_t nodes_ = 0;                      // recorded
  ir::ValueId values_ = 0;                // numbers given out
  std::vector<int32_t> table_;            // of leaves, by place in memory; -1: empty; a power of two
  std::vector<ir::ValueId> leaf_values_;  // the value of each leaf
  std::vector<ir::ValueId> operands_;     // of the call being added
  std::vector<Ref<LazyValue>> results_;   // what the segment's nodes give, in order
  bool flushing_ = false;
};

}  // namespace tenon::trace
