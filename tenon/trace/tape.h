// The tape: what calls keep so that gradients can flow back.
//
// There is no list. A result through which a gradient flows points to the TapeNode of its call, and the
// node points to the nodes of its inputs; dropping the results drops the tape. A node keeps only the inputs and
// outputs that the op's gradient rule says it reads.
#pragma once

#include <functional>
#include <string>
#include <variant>
#include <vector>

#include "tenon/ops/opdef.h"
#include "tenon/tensor/variable.h"

namespace tenon {

// Where a gradient goes next: output `index` of `node` (a TapeNode or a VariableLeaf), or nowhere.
struct TapeEdge {
  Ref<TapeLink> node;
  uint32_t index = 0;
};

// The cotangents of a call's inputs from those of its outputs (undefined: none came in). `out` holds the outputs
// that the node keeps, with their history, so that the rule itself can be differentiated.
using TapeFunction = std::function<Tensors(const Tensors& ct, const Tensors& out)>;

class TapeNode final : public TapeLink, public SmallBlock {
 public:
  TapeNode();
  ~TapeNode() override;

  const ops::OpDef* op = nullptr;  // null: `function` is the rule; if that is empty too, the identity
  TapeFunction function;
  std::string label;  // names a function node in messages
  ir::Attrs attrs;
  std::vector<TapeEdge> edges;  // one for each input
  Tensors saved_in, saved_out;  // undefined where the rule does not read them
  std::vector<TensorType> in_types, out_types;
  uint64_t sequence = 0;  // grows with creation: a node's inputs have smaller numbers
  std::string location;   // where the call stands, in debug mode
  std::string layer;      // the name of a Variable of the layer that called, while ops are observed
  bool released = false;  // a backward pass has used it up
};

namespace trace {

// The edge that a gradient of this value flows along; empty if none does.
TapeEdge edge_of(const Tensor& x);
// The same elements under a new handle whose gradient flows to output `index` of `node` (or nowhere).
Tensor with_tape(const Tensor& x, Ref<TapeLink> node, uint32_t index);
// The same value without history of its own. (Unlike detach(): what a batched value stands for keeps its history.)
Tensor without_tape(const Tensor& x);
// A new leaf: the same value, and gradients with respect to it can be asked for. A gradient that flows
// beyond it goes on to x.
Tensor make_leaf(const Tensor& x);

// Keeps the call for its gradient: returns the results linked to a new node.
void record(const ops::OpDef& op, const ir::Attrs& attrs, const Tensors& in, Tensors& out);

// Links outputs to a new node whose rule is `rule`; it gives a cotangent for each input, then for each of `more`.
struct LinkOptions {
  bool keep_outputs = false;
  std::vector<TapeEdge> more = {};
};
void link(Tensors& out, const Tensors& in, std::string label, TapeFunction rule, const LinkOptions& options = {});

struct BackwardOptions {
  bool retain_graph = false;
  enum class Record : uint8_t { Never, IfOuterLeaves, Always } record = Record::Never;
};
// Vector-Jacobian product: the cotangent of each of `wrt` (undefined where `outputs` do not depend on it)
// from the cotangents of the outputs.
// `differentiable` (if given) tells whether leaves beyond `wrt` were met, so that the results may be differentiated
// again.
Tensors backpropagate(const Tensors& outputs, const Tensors& cotangents, const std::vector<TapeEdge>& wrt,
                      const BackwardOptions& options, bool* differentiable = nullptr);

// The pass behind Tensor::backward: every Variable reached gets its gradient added.
void accumulate_into_variables(const Tensor& output, const Tensor& cotangent, bool retain_graph);

std::vector<TapeEdge> edges_of(const Tensors& xs);
// The type of the value that the edge leads to.
TensorType type_at(const TapeEdge& edge);
// A number that every node created from now on exceeds.
uint64_t next_node_sequence();
// The edges by which the tape of these values leads to Variables and to nodes older than `start`, each once.
std::vector<TapeEdge> edges_to_older(const Tensors& values, uint64_t start);

// Runs the gradient rule of one node.
Tensors apply_rule(const TapeNode& node, const Tensors& ct, const std::vector<char>& needs);

}  // namespace trace
}  // namespace tenon
