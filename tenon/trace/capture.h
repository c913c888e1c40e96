// Recording calls into a graph.
//
// While a Recorder is in force, a call whose inputs are traced (or that has no inputs) adds a node instead of
// computing. Concrete tensors that meet traced ones become constants of the graph. In a recorder for a sub-graph,
// values of an outer recorder, of an outer vmap, and those that a gradient flows through become additional
// inputs ("captures").
#pragma once

#include <functional>
#include <unordered_map>

#include "tenon/ir/graph.h"
#include "tenon/tensor/tensor.h"

namespace tenon::trace {

class Recorder {
 public:
  enum class Outside : uint8_t { Constants, Captures };
  explicit Recorder(Outside outside);
  ~Recorder();
  Recorder(const Recorder&) = delete;
  Recorder& operator=(const Recorder&) = delete;

  Tensor input(const TensorType& type, std::string name = {});
  // The value that stands for x in this graph; brings it in if it comes from outside.
  ir::ValueId value_of(const Tensor& x);
  Tensors add(const ops::OpDef& op, const Tensors& in, const ir::Attrs& attrs, const std::vector<TensorType>& types);
  // Closes the graph.
  ir::Graph finish(const Tensors& outputs);
  [[nodiscard]] uint64_t id() const { return id_; }
  // The number of vmaps around the capture: batched values of these levels are whole values to it.
  [[nodiscard]] int vmap_level() const { return vmap_level_; }
  [[nodiscard]] bool takes_captures() const { return outside_ == Outside::Captures; }
  // What came in from outside, in the order of the additional inputs.
  [[nodiscard]] const Tensors& captures() const { return captures_; }

 private:
  Tensor wrap(ir::ValueId id);
  ir::Graph graph_;
  Outside outside_;
  uint64_t id_;
  int vmap_level_;
  Tensors captures_;
  Tensors kept_;  // keeps handles alive, so that `known_` cannot confuse a new tensor with a dead one
  std::unordered_map<const TensorImpl*, ir::ValueId> known_;
};

// A value of a graph under capture.
struct TracedValue final : Placeholder {
  uint64_t recorder = 0;
  ir::ValueId id = 0;
};
const TracedValue* traced(const Tensor& x);
// The recorder that a call with these inputs belongs to; null: evaluate.
Recorder* recorder_for(const Tensors& in);

struct CapturedFunction {
  ir::Graph graph;
  Tensors captures;
};
using Function = std::function<Tensors(const Tensors&)>;
// Runs fn once on traced inputs of these types, without recording gradients; what it uses from outside becomes
// `captures`, which are the graph's last inputs.
CapturedFunction capture_subgraph(const Function& fn, const std::vector<TensorType>& inputs);
// The graph by one call for each node: on traced or batched values, or to differentiate it.
Tensors interpret(const ir::Graph& graph, const Tensors& inputs);

}  // namespace tenon::trace

namespace tenon {

struct InputSpec {
  std::string name;
  TensorType type;
};
// The function as a graph, strictly: a value looked at inside is an error. Tensors from outside (weights) become
// constants of the graph.
ir::Graph capture(const trace::Function& fn, const std::vector<InputSpec>& inputs);

}  // namespace tenon
