#include "tenon/compile/handover.h"

#include <algorithm>

namespace tenon::compiler {
namespace {

const Storage& storage_of(const CoreGraph& g, int32_t s) { return g.storages[static_cast<size_t>(s)]; }

// Whether the operand is all of its storage, element by element as it lies.
bool is_whole(const CoreGraph& g, const Operand& x) { return is_flat(x.window, storage_of(g, x.storage).size); }

bool fits(const CoreGraph& g, int32_t from, int32_t to) {
  const Storage &a = storage_of(g, from), &b = storage_of(g, to);
  return a.size == b.size && info(a.dtype).bits == info(b.dtype).bits;
}

std::vector<Handover> of_call(const CoreGraph& g, const CoreNode& n) {
  // A copy or a part of an op has other operands than the op, what is made ready runs by other rules.
  const bool as_op = n.call == CallKind::Claim || n.call == CallKind::Reference || n.call == CallKind::Elementwise;
  if (!as_op || n.ready || n.first_apart || n.results.size() != 1 || !n.order.empty()) return {};
  std::vector<Handover> list;
  for (size_t i = 0; i < n.operands.size() && i < 32; ++i) {
    const Operand& x = n.operands[i];
    if ((n.node->op->takes & ops::bit(static_cast<int>(i))) == 0 || x.storage < 0 || !is_whole(g, x)) continue;
    const auto reads = std::ranges::count(n.operands, x.storage, &Operand::storage);
    if (reads == 1 && x.window.shape == n.result_shapes[0] && fits(g, x.storage, n.results[0]))
      list.push_back({x.storage, n.results[0]});
  }
  return list;
}

std::vector<Handover> of_map(const CoreGraph& g, const Group& group) {
  std::vector<int32_t> read;
  std::vector<bool> whole;
  for (int32_t m : group.members) {
    for (const Operand& x : g.nodes[static_cast<size_t>(m)].operands) {
      if (x.storage < 0) continue;
      const auto at = static_cast<size_t>(std::ranges::find(read, x.storage) - read.begin());
      if (at == read.size()) {
        read.push_back(x.storage);
        whole.push_back(true);
      }
      whole[at] = whole[at] && is_whole(g, x);
    }
  }
  std::vector<Handover> list;
  for (int32_t m : group.members) {
    const int32_t to = g.nodes[static_cast<size_t>(m)].results[0];
    for (size_t i = 0; i < read.size(); ++i) {
      const int32_t maker = storage_of(g, read[i]).node;
      const bool inside = maker >= 0 && std::ranges::find(group.members, maker) != group.members.end();
      if (!inside && whole[i] && fits(g, read[i], to)) list.push_back({read[i], to});
    }
  }
  return list;
}

}  // namespace

std::vector<Handover> handovers(const CoreGraph& graph, const Group& group) {
  if (group.members.empty()) return {};
  if (group.kind == GroupKind::Map) return of_map(graph, group);
  if (group.kind == GroupKind::Call) return of_call(graph, graph.nodes[static_cast<size_t>(group.members[0])]);
  return {};
}

}  // namespace tenon::compiler
