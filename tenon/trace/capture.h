// Recording calls into a graph.
//
// While a Recorder is in force, a call whose inputs are traced (or that has no inputs) adds a node instead of
// computing. Concrete tensors that meet traced ones become constants of the graph. In a recorder for a sub-graph,
// values of an outer recorder, of an outer vmap, and those that a gradient flows through become additional
// inputs ("captures").
#pragma once

#include <concepts>
#include <functional>
#include <limits>
#include <optional>
#include <string>
#include <unordered_map>
#include <unordered_set>

#include "tenon/ir/graph.h"
#include "tenon/tensor/state_dict.h"
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
  // Calls on this concrete tensor are recorded although its value is known: it stays a constant of the graph as it is.
  void keep(const Tensor& weight);
  [[nodiscard]] bool keeps(const Tensor& x) const { return !weights_.empty() && weights_.contains(x.impl()); }
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
  // See known_value().
  std::optional<Tensor> known(ir::ValueId id);

 private:
  Tensor wrap(ir::ValueId id);
  ir::Graph graph_;
  Outside outside_;
  uint64_t id_;
  int vmap_level_;
  Tensors captures_;
  std::unordered_set<const TensorImpl*> weights_;
  Tensors kept_;  // keeps handles alive, so that `known_` cannot confuse a new tensor with a dead one
  std::unordered_map<const TensorImpl*, ir::ValueId> known_;
  std::unordered_map<ir::ValueId, Tensor> evaluated_;  // what known() computed
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
// The value of a tensor under capture that depends on no input; nothing for others. A concrete tensor is itself.
std::optional<Tensor> known_value(const Tensor& x);
// The graph by one call for each node: on traced or batched values, or to differentiate it.
Tensors interpret(const ir::Graph& graph, const Tensors& inputs);

}  // namespace tenon::trace

namespace tenon {

// One extent of an input: a number, or a name for any number from `low` to `high`. The same name means the same number;
// a sum of names and numbers ("past + seq") follows from them.
struct Dim {
  int64_t size = -1;  // -1: named
  std::string name;
  int64_t low = 1;
  int64_t high = std::numeric_limits<int64_t>::max();

  template <std::integral Number>
  Dim(Number number) : size(static_cast<int64_t>(number)) {}  // NOLINT(google-explicit-constructor): {"batch", 3, 28}
  Dim(const char* text) : name(text) {}                       // NOLINT(google-explicit-constructor)
  Dim(std::string text, int64_t least = 1, int64_t most = std::numeric_limits<int64_t>::max())  // NOLINT
      : name(std::move(text)), low(least), high(most) {}
};

// InputSpec("tokens", i64, {"batch", Dim("seq", 1, 64)}), InputSpec("x", x.type())
struct InputSpec {
  InputSpec(std::string input_name, TensorType input_type);
  InputSpec(std::string input_name, DType dtype, std::vector<Dim> extents);
  std::string name;
  TensorType type;        // where an extent is named: -1
  std::vector<Dim> dims;  // one for each axis
};

struct CaptureOptions {
  std::string name = {};                  // of the graph
  std::vector<std::string> outputs = {};  // names of the results; empty: "output", or "output0", "output1" …
  StateDict weights = {};                 // these stay constants as they are; of others only what follows from them
  bool check = true;                      // with named extents: compare with the function at sizes of its own
};

// The function as a graph, strictly: a value looked at inside is an error. Tensors from outside (weights) become
// constants of the graph. With named extents the function runs once at each of several sizes, and the graph is for all:
// exec::run takes inputs of any sizes in range.
// Errors: UnsupportedError if the function makes different graphs at different sizes, or if a number in them follows
// the sizes in no way that can be written down; ValueError if graph and function differ on fresh inputs.
ir::Graph capture(const trace::Function& fn, const std::vector<InputSpec>& inputs, const CaptureOptions& options = {});

// The function's and the graph's results on fresh random inputs at several sizes: ValueError if they differ by more
// than rounding. Floats come from [-1, 1], integers are 0 or 1.
void check_capture(const ir::Graph& graph, const trace::Function& fn);

}  // namespace tenon
