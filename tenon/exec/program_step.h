// What a Program runs: one call of a kernel or of an op after the other. For program.cpp, which makes them, and
// program_run.cpp.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "tenon/exec/program.h"
#include "tenon/ops/opdef.h"

namespace tenon::exec {

inline int64_t bytes_of(const TensorType& type) { return byte_size(type.dtype, numel(type.shape)); }

struct Program::Step {
  const ir::Node* node = nullptr;
  std::string name;                  // of the call and what is fused to it
  std::vector<ir::ValueId> inputs;   // of the node, then the operands of what follows it; or of several such
  std::vector<Shape> meets;          // of each operand: the shape of the result that it meets
  std::vector<uint8_t> last;         // whether this step reads an input for the last time
  std::vector<ir::ValueId> outputs;  // of the node, or of the last fused one
  std::vector<TensorType> results;
  Ints order;  // of the result of a prepared call, and of all of an elementwise op
  std::unique_ptr<PreparedKernel> kernel;
  bool several = false;  // calls, of which `node` is the first
  int64_t place = -1;    // of the result in the arena, in bytes; -1: in memory of its own
  Shape strides = {};    // of a result that is a part of another's; else it is dense
  // How many inputs are the calls' own; the others are operands of what follows.
  [[nodiscard]] size_t own() const { return inputs.size() - meets.size(); }
  // Whether an input of this shape has one element (or row, or more) for each example of the result.
  [[nodiscard]] bool apart(size_t input, const Shape& shape, int64_t examples) const {
    const size_t rank = input < own() ? shape.size() : meets[input - own()].size();
    return !shape.empty() && shape.size() == rank && shape[0] == examples;
  }
  bool inner = false;  // in a section: only that reads the result, of which there are some examples at a time
};

}  // namespace tenon::exec
