// Graph: a function as data. Nodes in order, each value assigned once.
//
// A graph has no effects: calling it twice gives the same results (randomness comes in through keys, state
// through inputs and outputs). Nodes are in an order in which every operand is defined before its use.
// The text form (ir/text.h) round-trips; ir/verify.h says what a well-formed graph is.
//
// A graph for any batch or length has named sizes (ir/size.h). All its numbers are then those at the sizes' examples,
// so that it is a graph like any other, and `varying` says which of them depend on the sizes, and how. ir/specialize.h
// makes the graph for other sizes.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tenon/ir/attr.h"
#include "tenon/ir/size.h"
#include "tenon/tensor/tensor.h"

namespace tenon::ops {
struct OpDef;
}

namespace tenon::ir {

using ValueId = int32_t;
inline constexpr ValueId kAbsent = -1;  // an optional operand that is not given

struct Value {
  TensorType type;
  std::string name;  // of inputs and outputs; otherwise empty
};

struct Node {
  const ops::OpDef* op = nullptr;  // null: a constant, whose value is `constant`
  Attrs attrs;
  std::vector<ValueId> inputs;
  std::vector<ValueId> outputs;
  Tensor constant;
  std::string path;      // where in the model it was made: "blocks.3.attn"
  std::string location;  // "file.cpp:12" when known
};

// A number of a graph that depends on its sizes.
struct Varying {
  enum class Kind : uint8_t {
    Extent,     // of the type of value `index`, at `element`
    Attribute,  // integer, list or real `attribute` of node `index`, at `element`
    Element,    // of the constant of node `index`, at `element`, row-major
  };
  Kind kind = Kind::Extent;
  int32_t index = 0;
  int32_t attribute = 0;
  int32_t element = 0;
  // Absent for extents of results that no expression gives: the ops' rules say what they are.
  std::optional<SizeExpr> expr;
  bool operator==(const Varying&) const = default;
};

struct Graph {
  std::string name;
  std::vector<Size> sizes;  // of the outermost graph; graphs in attributes use those of the graph around
  std::vector<Varying> varying;
  std::vector<Value> values;
  std::vector<ValueId> inputs;
  std::vector<Node> nodes;
  std::vector<ValueId> outputs;

  ValueId add_value(TensorType type, std::string value_name = {});
  ValueId add_input(TensorType type, std::string value_name = {});
  ValueId add_constant(Tensor value);
  // Appends a node and its output values.
  std::vector<ValueId> add_node(const ops::OpDef& op, std::vector<ValueId> operands, Attrs attrs,
                                const std::vector<TensorType>& results);
  [[nodiscard]] const TensorType& type(ValueId id) const { return values[static_cast<size_t>(id)].type; }
};

}  // namespace tenon::ir
