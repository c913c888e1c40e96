// The loops of a kernel: whether these maps and folds can be one.
#include <algorithm>

#include "tenon/compile/fuse.h"

namespace tenon::compiler {
namespace {

constexpr size_t kMostMembers = 48;
constexpr size_t kMostInstructions = 500;
constexpr int kMostFolds = 5;

class Arrangement {
 public:
  explicit Arrangement(const CoreGraph& graph) : g_(graph) {}

  bool arrange(Group& group) const {
    if (group.members.size() > kMostMembers) return false;
    int folds = 0;
    size_t instructions = 0;
    const CoreNode* fold = nullptr;
    for (int32_t m : group.members) {
      const CoreNode& n = node(m);
      instructions += n.program.code.size();
      if (n.kind != CoreKind::Fold) continue;
      ++folds;
      if (fold && (fold->outer != n.outer || fold->n != n.n || fold->columns != n.columns)) return false;
      fold = &n;
    }
    if (folds > kMostFolds || (group.members.size() > 1 && instructions > kMostInstructions)) return false;
    if (!fold) return arrange_map(group);
    group.outer = fold->outer;
    group.n = fold->n;
    group.columns = fold->columns;
    group.kind = fold->columns == 1 ? GroupKind::Row : GroupKind::Column;
    return group.kind == GroupKind::Row ? arrange_row(group) : arrange_column(group);
  }

 private:
  [[nodiscard]] int32_t producer(const Operand& x) const {
    return x.storage < 0 ? -1 : g_.storages[static_cast<size_t>(x.storage)].node;
  }
  [[nodiscard]] const CoreNode& node(int32_t i) const { return g_.nodes[static_cast<size_t>(i)]; }

  bool arrange_map(Group& group) const {
    group.kind = GroupKind::Map;
    group.axes = {numel(node(group.members[0]).shape)};
    for (int32_t m : group.members) {
      if (!refine(group.axes, node(m).shape, group.axes)) return false;
    }
    return all_local(group);
  }

  bool arrange_row(Group& group) const {
    Shape all{group.outer, group.n};
    for (int32_t m : group.members) {
      const CoreNode& n = node(m);
      const int64_t size = numel(n.shape);
      if (n.kind == CoreKind::Map && size != group.outer * group.n && size != group.outer) return false;
      if (size == group.outer * group.n && !refine(all, n.shape, all)) return false;
    }
    Shape prefix{group.outer};
    if (group.outer > 1) {
      int64_t product = 1;
      prefix.clear();
      for (size_t i = 0; i < all.size() && product < group.outer; ++i) {
        prefix.push_back(all[i]);
        product *= all[i];
      }
      if (product != group.outer) return false;
    }
    for (int32_t m : group.members) {
      const CoreNode& n = node(m);
      if (n.kind == CoreKind::Map && numel(n.shape) == group.outer && !refine(prefix, n.shape, prefix)) return false;
    }
    group.axes = prefix;
    group.axes.push_back(group.n);
    return all_local(group);
  }

  bool arrange_column(Group& group) const {
    group.axes = {group.outer, group.n, group.columns};
    for (int32_t m : group.members) {
      if (numel(node(m).shape) != numel(group.axes)) return false;
    }
    return all_local(group);
  }

  // Every operand is read at the element (or row) that is being computed, or lies regularly in memory.
  bool all_local(const Group& group) const {
    const auto inside = [&](int32_t p) {
      return p >= 0 && std::binary_search(group.members.begin(), group.members.end(), p);
    };
    Shape strides;
    for (int32_t m : group.members) {
      const CoreNode& n = node(m);
      // A fold reads elements, also where its result is a row's.
      const bool reader_of_row = n.kind == CoreKind::Map && group.of_row(n);
      for (const Operand& x : n.operands) {
        const int32_t p = producer(x);
        if (!inside(p)) {
          if (!project(x.window, reader_of_row ? group.prefix() : group.axes, strides)) return false;
        } else if (!local(group, x, node(p), reader_of_row)) {
          return false;
        }
      }
    }
    return true;
  }

  bool local(const Group& group, const Operand& x, const CoreNode& from, bool reader_of_row) const {
    const int64_t size = g_.storages[static_cast<size_t>(x.storage)].size;
    if (group.kind != GroupKind::Row) return from.kind == CoreKind::Map && is_flat(x.window, size);
    const bool row = group.of_row(from);
    if (row == reader_of_row) return is_flat(x.window, size);
    return row && is_row_broadcast(x.window, group.outer, group.n);
  }

  const CoreGraph& g_;
};

}  // namespace

bool arrange(const CoreGraph& graph, std::vector<int32_t> members, Group& group) {
  group.members = std::move(members);
  return Arrangement(graph).arrange(group);
}

}  // namespace tenon::compiler
