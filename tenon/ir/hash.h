// The structural hash of a graph: equal for graphs that compute the same by the same nodes.
//
// Counts: types of the inputs, ops by name, attributes, operands, types of the results, constants by their elements,
// outputs. Does not count: names, paths, locations, the numbering of values, layouts and addresses of constants.
// The same on every run and platform, so it may name files.
#pragma once

#include "tenon/base/hash.h"
#include "tenon/ir/schema.h"

namespace tenon::ir {

struct HashOptions {
  // False: of the values' shapes only the rank counts. Attributes and constants count whole all the same.
  bool extents = true;
};

Hash128 structural_hash(const Graph& graph, const OpCatalog& ops, const HashOptions& options = {});
// One tensor's type and elements.
Hash128 content_hash(const Tensor& constant);

}  // namespace tenon::ir
