// A run of a model node by node that is recorded, to be run again and again as a program (prepared_model.h).
#pragma once

#include <cstdint>
#include <map>

#include "tenon/formats/onnx/value.h"

namespace tenon::formats::onnx {

struct NodeWatch {
  // Where the run is; after an error, the innermost node that failed.
  const NodeData* node = nullptr;
  // Loops whose steps are known are unrolled, and a graph of millions of nodes is worse than none.
  int64_t nodes_left = 50'000;
  // The weights inside of the file's graphs (Constant nodes, initialisers of branches), by where they stand, as they
  // were read the first time: recorded again they are the same memory.
  std::map<const void*, Tensor> constants = {};

  // The same elements in the memory of the first time.
  Value same(const void* place, Value value);
};

}  // namespace tenon::formats::onnx
