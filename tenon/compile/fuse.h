// Which maps and folds become one kernel.
//
// A producer joins its consumer when the two touch the same element (or row) at the same time, so that the value need
// not go through memory, and when no third group stands between them. Nothing is computed twice across groups: a value
// that several groups read is stored once. To change what fuses: arrange.cpp.
// A kernel over columns goes down a few of them at a time. That is no way to write results of every element: memory
// gives a short piece of each row then, which takes longer than to read whole rows of them again. So maps whose results
// are wanted elsewhere leave such a group, if they are large, and may join another.
// Only recompute.h computes some of these again later, instead of keeping them.
#pragma once

#include <vector>

#include "tenon/compile/core.h"

namespace tenon::compiler {

enum class GroupKind : uint8_t { Map, Row, Column, Call };

// Map: all members over `axes`. Row: elements over axes = [prefix…, n], whose folds give one value for each of the
// prefix; members over the prefix alone are values of a row. Column: axes = [outer, n, columns], folded over n.
struct Group {
  GroupKind kind = GroupKind::Map;
  std::vector<int32_t> members;  // core nodes, in order
  Shape axes;
  int64_t outer = 1, n = 1, columns = 1;

  [[nodiscard]] Shape prefix() const { return Shape(axes.begin(), axes.end() - 1); }
  // Whether the member's result is one value for each row.
  [[nodiscard]] bool of_row(const CoreNode& node) const {
    return kind == GroupKind::Row && (node.kind == CoreKind::Fold || numel(node.shape) != outer * n);
  }
};

// The loops of a kernel with these members, which rise; false if there are none.
bool arrange(const CoreGraph& graph, std::vector<int32_t> members, Group& group);

struct FuseOptions {
  bool fuse = true;
};
// In an order of execution.
std::vector<Group> fuse(const CoreGraph& graph, const FuseOptions& options);
// The groups that these members make, in this order; false if the graph is another, or its sizes do not allow it.
bool fuse_alike(const CoreGraph& graph, const std::vector<std::vector<int32_t>>& members, std::vector<Group>& groups);

}  // namespace tenon::compiler
