#include "tenon/compile/fuse.h"

#include <algorithm>
#include <queue>
#include <ranges>
#include <set>

#include "tenon/base/error.h"

namespace tenon::compiler {
namespace {

class Fusion {
 public:
  explicit Fusion(const CoreGraph& graph) : g_(graph), group_of_(graph.nodes.size()), stamp_(graph.nodes.size(), 0) {
    for (size_t i = 0; i < graph.nodes.size(); ++i) {
      group_of_[i] = static_cast<int32_t>(i);
      Group group;
      if (graph.nodes[i].kind == CoreKind::Call) {
        group.kind = GroupKind::Call;
        group.members = {static_cast<int32_t>(i)};
      } else if (!arrange(graph, {static_cast<int32_t>(i)}, group)) {
        throw InternalError("a node that is no kernel: " + graph.nodes[i].label);
      }
      groups_.push_back(std::move(group));
      rank_.push_back(static_cast<int32_t>(i));
      at_rank_.push_back(static_cast<int32_t>(i));
      producers_.emplace_back();
      for (const Operand& x : graph.nodes[i].operands) {
        if (producer(x) >= 0) producers_.back().push_back(producer(x));
      }
    }
  }

  void merge_all() {
    merge(true);
    if (part_columns()) {
      rank();
      merge(false);
    }
  }

  // Each node joins those that read it; without `columns` no group of columns grows.
  void merge(bool columns) {
    for (size_t c = 0; c < g_.nodes.size(); ++c) {
      for (const Operand& x : g_.nodes[c].operands) {
        const int32_t p = producer(x);
        if (p >= 0) try_merge(group_of_[static_cast<size_t>(p)], group_of_[c], columns);
      }
    }
  }

  bool arrange_all(const std::vector<std::vector<int32_t>>& members, std::vector<Group>& groups) const {
    size_t count = 0;
    for (const auto& m : members) {
      Group group;
      count += m.size();
      for (int32_t i : m) {
        if (i >= static_cast<int32_t>(g_.nodes.size())) return false;
        if (node(i).kind == CoreKind::Call && m.size() > 1) return false;
      }
      if (node(m[0]).kind == CoreKind::Call) {
        group.kind = GroupKind::Call;
        group.members = m;
      } else if (!arrange(g_, m, group)) {
        return false;
      }
      groups.push_back(std::move(group));
    }
    return count == g_.nodes.size() && in_order(groups);
  }

  std::vector<Group> ordered() {
    std::vector<Group> result;
    for (const int32_t i : order()) result.push_back(std::move(groups_[static_cast<size_t>(i)]));
    return result;
  }

 private:
  // Kahn's algorithm; of what is ready, the group goes first whose last member was recorded first.
  [[nodiscard]] std::vector<int32_t> order() const {
    std::vector<int> waiting(groups_.size(), 0);
    std::vector<std::vector<int32_t>> readers(groups_.size());
    const auto later = [this](int32_t a, int32_t b) {
      return groups_[static_cast<size_t>(a)].members.back() > groups_[static_cast<size_t>(b)].members.back();
    };
    std::priority_queue<int32_t, std::vector<int32_t>, decltype(later)> ready(later);
    size_t count = 0;
    for (size_t i = 0; i < groups_.size(); ++i) {
      if (groups_[i].members.empty()) continue;
      ++count;
      for (int32_t d : dependencies(static_cast<int32_t>(i))) {
        ++waiting[i];
        readers[static_cast<size_t>(d)].push_back(static_cast<int32_t>(i));
      }
      if (waiting[i] == 0) ready.push(static_cast<int32_t>(i));
    }
    std::vector<int32_t> result;
    while (!ready.empty()) {
      const int32_t i = ready.top();
      ready.pop();
      for (int32_t r : readers[static_cast<size_t>(i)]) {
        if (--waiting[static_cast<size_t>(r)] == 0) ready.push(r);
      }
      result.push_back(i);
    }
    if (result.size() != count) throw InternalError("fusion made a circle");
    return result;
  }
  // That order becomes the ranks.
  void rank() {
    at_rank_ = order();
    for (size_t i = 0; i < groups_.size(); ++i)
      if (groups_[i].members.empty()) at_rank_.push_back(static_cast<int32_t>(i));
    for (size_t r = 0; r < at_rank_.size(); ++r) rank_[static_cast<size_t>(at_rank_[r])] = static_cast<int32_t>(r);
  }

  [[nodiscard]] int32_t producer(const Operand& x) const {
    return x.storage < 0 ? -1 : g_.storages[static_cast<size_t>(x.storage)].node;
  }
  [[nodiscard]] const CoreNode& node(int32_t i) const { return g_.nodes[static_cast<size_t>(i)]; }

  // The groups that this one reads from.
  [[nodiscard]] std::set<int32_t> dependencies(int32_t group) const {
    std::set<int32_t> result;
    for (int32_t p : producers_[static_cast<size_t>(group)]) {
      if (group_of_[static_cast<size_t>(p)] != group) result.insert(group_of_[static_cast<size_t>(p)]);
    }
    return result;
  }

  // Whether everything is computed before a later group reads it.
  [[nodiscard]] bool in_order(const std::vector<Group>& groups) const {
    std::vector<int32_t> place(g_.nodes.size(), -1);
    for (size_t i = 0; i < groups.size(); ++i) {
      for (int32_t m : groups[i].members) place[static_cast<size_t>(m)] = static_cast<int32_t>(i);
    }
    for (size_t i = 0; i < g_.nodes.size(); ++i) {
      if (place[i] < 0) return false;
      for (const Operand& x : g_.nodes[i].operands) {
        if (producer(x) >= 0 && place[static_cast<size_t>(producer(x))] > place[i]) return false;
      }
    }
    return true;
  }
  // Whether `to` is reached from `from` upwards by a way through a third group. Groups before `to` are not looked at.
  // If not, exactly the groups after `to` that `from` needs have the stamp `now_`.
  bool reaches_through_others(int32_t from, int32_t to) {
    ++now_;
    std::vector<int32_t> pending;
    const int32_t first = rank_[static_cast<size_t>(to)];
    const auto visit = [&](int32_t group) {
      if (stamp_[static_cast<size_t>(group)] == now_ || rank_[static_cast<size_t>(group)] < first) return;
      stamp_[static_cast<size_t>(group)] = now_;
      pending.push_back(group);
    };
    for (int32_t p : producers_[static_cast<size_t>(from)]) {
      const int32_t d = group_of_[static_cast<size_t>(p)];
      if (d != to && d != from) visit(d);
    }
    while (!pending.empty()) {
      const int32_t group = pending.back();
      pending.pop_back();
      for (int32_t p : producers_[static_cast<size_t>(group)]) {
        const int32_t d = group_of_[static_cast<size_t>(p)];
        if (d == to) return true;
        visit(d);
      }
    }
    return false;
  }

  // b's members join a, which b reads. Of the groups between the two, those that b needs (with the stamp) go first.
  void close_ranks(int32_t a, int32_t b) {
    const int32_t begin = rank_[static_cast<size_t>(a)], end = rank_[static_cast<size_t>(b)];
    std::vector<int32_t> others;
    int32_t next = begin;
    const auto put = [&](int32_t group) {
      at_rank_[static_cast<size_t>(next)] = group;
      rank_[static_cast<size_t>(group)] = next++;
    };
    for (int32_t r = begin + 1; r < end; ++r) {
      const int32_t group = at_rank_[static_cast<size_t>(r)];
      if (stamp_[static_cast<size_t>(group)] == now_) {
        put(group);
      } else {
        others.push_back(group);
      }
    }
    put(a);
    for (int32_t group : others) put(group);
    put(b);
  }

  // b reads a, so nothing that a needs can need b.
  void try_merge(int32_t a, int32_t b, bool columns) {
    if (a == b) return;
    const Group &ga = groups_[static_cast<size_t>(a)], &gb = groups_[static_cast<size_t>(b)];
    if (ga.kind == GroupKind::Call || gb.kind == GroupKind::Call) return;
    std::vector<int32_t> members;
    std::merge(ga.members.begin(), ga.members.end(), gb.members.begin(), gb.members.end(), std::back_inserter(members));
    Group merged;
    if (!arrange(g_, members, merged)) return;
    if (!columns && merged.kind == GroupKind::Column) return;
    if (reaches_through_others(b, a)) return;
    close_ranks(a, b);
    for (int32_t m : gb.members) group_of_[static_cast<size_t>(m)] = a;
    groups_[static_cast<size_t>(b)].members.clear();
    auto &pa = producers_[static_cast<size_t>(a)], &pb = producers_[static_cast<size_t>(b)];
    pa.insert(pa.end(), pb.begin(), pb.end());
    pb.clear();
    groups_[static_cast<size_t>(a)] = std::move(merged);
  }

  // Of each group over columns, as fuse.h says. Whether there was one.
  bool part_columns() {
    std::vector<bool> wanted(g_.nodes.size(), false);  // by another group, or from the graph
    for (const Operand& x : g_.outputs)
      if (producer(x) >= 0) wanted[static_cast<size_t>(producer(x))] = true;
    for (size_t i = 0; i < g_.nodes.size(); ++i) {
      for (const Operand& x : g_.nodes[i].operands) {
        const int32_t p = producer(x);
        if (p >= 0 && group_of_[static_cast<size_t>(p)] != group_of_[i]) wanted[static_cast<size_t>(p)] = true;
      }
    }
    bool any = false;
    for (size_t i = 0; i < groups_.size(); ++i) {
      if (groups_[i].members.empty() || groups_[i].kind != GroupKind::Column) continue;
      if (numel(groups_[i].axes) >= kLargeColumns && part(static_cast<int32_t>(i), wanted)) any = true;
    }
    return any;
  }
  bool part(int32_t id, const std::vector<bool>& wanted) {
    // Maps whose results are wanted and what they are made of; and what stays.
    const std::vector<int32_t> members = groups_[static_cast<size_t>(id)].members;
    std::set<int32_t> leave;
    for (const int32_t m : std::ranges::reverse_view(members)) {
      if (node(m).kind == CoreKind::Map && wanted[static_cast<size_t>(m)]) leave.insert(m);
      if (!leave.contains(m)) continue;
      for (const Operand& x : node(m).operands) {
        const int32_t p = producer(x);
        if (p >= 0 && group_of_[static_cast<size_t>(p)] == id) leave.insert(p);
      }
    }
    if (leave.empty()) return false;
    std::vector<int32_t> stay;
    std::ranges::set_difference(members, leave, std::back_inserter(stay));
    for (const int32_t m : stay) {
      for (const Operand& x : node(m).operands) {
        const int32_t p = producer(x);  // nothing is stored that was not
        if (p >= 0 && leave.contains(p) && !wanted[static_cast<size_t>(p)]) return false;
      }
    }
    Group leaving, staying;
    if (!arrange(g_, {leave.begin(), leave.end()}, leaving) || !arrange(g_, stay, staying)) return false;
    const int32_t other = leave.contains(id) ? stay.front() : *leave.begin();
    put(leave.contains(id) ? id : other, std::move(leaving));
    put(leave.contains(id) ? other : id, std::move(staying));
    return true;
  }
  void put(int32_t id, Group group) {
    auto& from = producers_[static_cast<size_t>(id)];
    from.clear();
    for (const int32_t m : group.members) {
      group_of_[static_cast<size_t>(m)] = id;
      for (const Operand& x : node(m).operands)
        if (producer(x) >= 0) from.push_back(producer(x));
    }
    groups_[static_cast<size_t>(id)] = std::move(group);
  }

  static constexpr int64_t kLargeColumns = 128 * 1024;  // elements from which on it is faster (bench/README.md)

  const CoreGraph& g_;
  std::vector<int32_t> group_of_;
  std::vector<Group> groups_;
  std::vector<std::vector<int32_t>> producers_;  // of each group: the nodes that it reads from
  std::vector<int32_t> rank_, at_rank_;  // an order in which groups may run, and its inverse; empty groups lie anywhere
  std::vector<uint32_t> stamp_;
  uint32_t now_ = 0;
};

}  // namespace

std::vector<Group> fuse(const CoreGraph& graph, const FuseOptions& options) {
  Fusion fusion(graph);
  if (options.fuse) fusion.merge_all();
  return fusion.ordered();
}

bool fuse_alike(const CoreGraph& graph, const std::vector<std::vector<int32_t>>& members, std::vector<Group>& groups) {
  groups.clear();
  return Fusion(graph).arrange_all(members, groups);
}

}  // namespace tenon::compiler
