#include "tenon/compile/recompute.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "tenon/base/error.h"
#include "tenon/compile/handover.h"
#include "tenon/compile/lower.h"
#include "tenon/exec/plan.h"

namespace tenon::compiler {
namespace {

constexpr int kMostCost = 64;         // instructions of an element, over all copies: one elementary function, not three
constexpr size_t kMostChain = 12;     // maps that make a value from what is in memory
constexpr int64_t kLeastGain = 1024;  // a value of less than this part of the peak stays

// Groups have places in time: those that fusion made by their number, a kernel of copies that of the group that it
// stands before. A value is in memory from its group to the last other one that reads it.
class Rewriting {
 public:
  Rewriting(CoreGraph& graph, std::vector<Group>& groups) : g_(graph), groups_(groups) {
    // Of dead code storages are left, whose nodes are others now.
    for (Storage& s : g_.storages) s.node = -1;
    for (size_t i = 0; i < g_.nodes.size(); ++i) {
      for (int32_t s : g_.nodes[i].results) g_.storages[static_cast<size_t>(s)].node = static_cast<int32_t>(i);
    }
    const auto count = static_cast<int32_t>(groups.size());
    group_of_.assign(g_.nodes.size(), -1);
    for (int32_t i = 0; i < count; ++i) {
      place_.push_back(i);
      for (int32_t m : groups_[static_cast<size_t>(i)].members) group_of_[static_cast<size_t>(m)] = i;
    }
    readers_.resize(g_.storages.size());
    for (size_t i = 0; i < g_.nodes.size(); ++i) add_reader(static_cast<int32_t>(i));
    is_output_.assign(g_.storages.size(), false);
    for (const Operand& x : g_.outputs) is_output_[static_cast<size_t>(x.storage)] = true;
    live_.resize(groups.size());
    look_at_memory();
  }

  std::vector<LateCopy> choose(const RecomputeOptions& options);
  bool apply(const LateCopy& copy);
  void put_in_order();
  [[nodiscard]] std::vector<exec::Lifetime> lifetimes() const {
    std::vector<exec::Lifetime> result;
    std::vector<int32_t> number(g_.storages.size(), -1);
    for (size_t s = 0; s < g_.storages.size(); ++s) {
      const Span at = span(static_cast<int32_t>(s));
      if (at.first < 0) continue;
      number[s] = static_cast<int32_t>(result.size());
      result.push_back({bytes_of(static_cast<int32_t>(s)), at.first, at.last});
    }
    for (size_t s = 0; s < g_.storages.size(); ++s) {
      if (taker_[s] >= 0) result[static_cast<size_t>(number[static_cast<size_t>(taker_[s])])].from = number[s];
    }
    return result;
  }

 private:
  struct Span {
    int32_t first = -1, last = -1;
  };
  // What making a value again would mean.
  struct Candidate {
    int32_t storage = -1;
    int64_t gain = 0, cost = 0;
  };

  [[nodiscard]] const CoreNode& node(int32_t i) const { return g_.nodes[static_cast<size_t>(i)]; }
  [[nodiscard]] const Storage& storage(int32_t s) const { return g_.storages[static_cast<size_t>(s)]; }
  [[nodiscard]] int64_t bytes_of(int32_t s) const { return byte_size(storage(s).dtype, storage(s).size); }
  [[nodiscard]] int32_t place_of(int32_t n) const {
    return place_[static_cast<size_t>(group_of_[static_cast<size_t>(n)])];
  }
  [[nodiscard]] const std::vector<int32_t>& readers(int32_t s) const { return readers_[static_cast<size_t>(s)]; }
  [[nodiscard]] bool is_output(int32_t s) const { return is_output_[static_cast<size_t>(s)]; }
  [[nodiscard]] bool is_call(int32_t group) const {
    return groups_[static_cast<size_t>(group)].kind == GroupKind::Call;
  }

  void add_reader(int32_t n) {
    for (const Operand& x : node(n).operands) {
      if (x.storage < 0) continue;
      auto& list = readers_[static_cast<size_t>(x.storage)];
      if (list.empty() || list.back() != n) list.push_back(n);
    }
  }
  void remove_reader(int32_t n) {
    for (const Operand& x : node(n).operands) {
      if (x.storage >= 0) std::erase(readers_[static_cast<size_t>(x.storage)], n);
    }
  }

  // The last place where it is read, from memory if it is computed here; -1: nowhere.
  [[nodiscard]] int32_t last_read(int32_t s) const {
    const int32_t p = storage(s).node;
    const int32_t home = p < 0 ? -1 : group_of_[static_cast<size_t>(p)];
    int32_t last = -1;
    for (int32_t r : readers(s)) {
      const int32_t group = group_of_[static_cast<size_t>(r)];
      if (group >= 0 && group != home) last = std::max(last, place_[static_cast<size_t>(group)]);
    }
    return last;
  }
  // Where it lies in the arena; first < 0: never.
  [[nodiscard]] Span span(int32_t s) const {
    const int32_t p = storage(s).node;
    if (p < 0 || is_output(s) || group_of_[static_cast<size_t>(p)] < 0) return {};
    const int32_t first = place_of(p), last = last_read(s);
    if (last < 0 && node(p).kind != CoreKind::Call) return {};
    return {first, std::max(first, last)};
  }
  // The last place where it needs memory of its own: where the group that reads it last writes a result in its place,
  // that result counts.
  [[nodiscard]] int32_t own_last(int32_t s) const {
    return span(s).last - (taker_[static_cast<size_t>(s)] >= 0 ? 1 : 0);
  }
  // Whether no other group at the place of this one, which reads the value last, does so after it.
  [[nodiscard]] bool reads_last(int32_t group, int32_t s) const {
    const int32_t place = place_[static_cast<size_t>(group)];
    if (span(s).last != place) return false;
    return std::ranges::none_of(readers(s), [&](int32_t r) {
      const int32_t other = group_of_[static_cast<size_t>(r)];
      return other >= 0 && other < group && place_[static_cast<size_t>(other)] == place;
    });
  }
  // Which values' memory goes on to a result, and how many bytes are alive at each place.
  void look_at_memory() {
    taker_.assign(g_.storages.size(), -1);
    std::vector<bool> taken(g_.storages.size(), false);
    for (size_t i = 0; i < groups_.size(); ++i) {
      for (const Handover& pair : handovers(g_, groups_[i])) {
        const auto from = static_cast<size_t>(pair.from), to = static_cast<size_t>(pair.to);
        if (taker_[from] >= 0 || taken[to] || span(pair.from).first < 0 || span(pair.to).first < 0) continue;
        if (!reads_last(static_cast<int32_t>(i), pair.from)) continue;
        taker_[from] = pair.to;
        taken[to] = true;
      }
    }
    std::ranges::fill(live_, 0);
    for (size_t s = 0; s < g_.storages.size(); ++s) {
      const auto value = static_cast<int32_t>(s);
      const Span at = span(value);
      if (at.first < 0) continue;
      for (int32_t t = at.first; t <= own_last(value); ++t) live_[static_cast<size_t>(t)] += bytes_of(value);
    }
  }
  [[nodiscard]] size_t peak() const { return static_cast<size_t>(std::ranges::max_element(live_) - live_.begin()); }

  // The maps that make the value, and the storages that they begin with: leaves and what is in memory.
  bool chain_of(int32_t s, std::vector<int32_t>& chain, std::vector<int32_t>& from) const {
    const int32_t p = storage(s).node;
    if (p < 0 || node(p).kind != CoreKind::Map || chain.size() >= kMostChain) return false;
    for (const Operand& x : node(p).operands) {
      if (x.storage < 0) continue;
      const bool there = storage(x.storage).leaf >= 0 || is_output(x.storage) || span(x.storage).first >= 0;
      if (there) {
        if (std::ranges::find(from, x.storage) == from.end()) from.push_back(x.storage);
      } else if (std::ranges::find(chain, storage(x.storage).node) == chain.end() &&
                 !chain_of(x.storage, chain, from)) {
        return false;
      }
    }
    chain.push_back(p);
    return true;
  }
  // The groups behind this place that read it, in order.
  [[nodiscard]] std::vector<int32_t> late_groups(int32_t s, int32_t behind) const {
    std::vector<int32_t> result;
    for (int32_t r : readers(s)) {
      const int32_t group = group_of_[static_cast<size_t>(r)];
      if (group >= 0 && place_[static_cast<size_t>(group)] > behind) result.push_back(group);
    }
    std::ranges::sort(result, {},
                      [this](int32_t group) { return std::pair(place_[static_cast<size_t>(group)], group); });
    result.erase(std::ranges::unique(result).begin(), result.end());
    return result;
  }

  [[nodiscard]] std::optional<Candidate> candidate(int32_t s, int32_t at, const RecomputeOptions& options) const;
  [[nodiscard]] bool fits_behind(int32_t s, int32_t at, int64_t gain, const std::vector<int32_t>& longer,
                                 int32_t until) const;

  // Copies of the maps; the storage of the last one's result.
  int32_t copy(const std::vector<int32_t>& chain);
  void forget_copies(size_t nodes, size_t storages);
  void redirect(int32_t group, int32_t from, int32_t to);
  bool put_into(int32_t group, int32_t s, const std::vector<int32_t>& chain);
  bool own_kernel(int32_t s, const std::vector<int32_t>& chain, const std::vector<int32_t>& for_groups);
  void drop_unread(int32_t s);

  CoreGraph& g_;
  std::vector<Group>& groups_;
  std::vector<int32_t> place_;                 // of each group
  std::vector<int32_t> group_of_;              // of each node; -1: it is gone
  std::vector<std::vector<int32_t>> readers_;  // nodes, of each storage
  std::vector<bool> is_output_;
  std::vector<int32_t> taker_;  // of each storage the one that lies in its memory next, or -1
  std::vector<int64_t> live_;   // bytes in the arena, at each place
};

// ---- choosing --------------------------------------------------------------------------------
// What is gained at this place, where the value is alive and nobody reads it; nothing if it cannot be made again.
std::optional<Rewriting::Candidate> Rewriting::candidate(int32_t s, int32_t at, const RecomputeOptions& options) const {
  const Span alive = span(s);
  if (alive.first < 0 || alive.first > at || alive.last <= at) return std::nullopt;
  if (bytes_of(s) < options.from || node(storage(s).node).kind != CoreKind::Map) return std::nullopt;
  const int32_t home = group_of_[static_cast<size_t>(storage(s).node)];
  for (int32_t r : readers(s)) {
    if (group_of_[static_cast<size_t>(r)] != home && place_of(r) == at) return std::nullopt;
  }
  std::vector<int32_t> chain, from;
  if (!chain_of(s, chain, from)) return std::nullopt;
  int cost = 0;
  for (int32_t n : chain) cost += cost_of(node(n).program);
  // Kernels take copies in, calls share one before the first of them.
  int copies = 0;
  int32_t until = -1, first_call = -1;
  for (int32_t group : late_groups(s, at)) {
    if (is_call(group) && first_call >= 0) continue;
    if (is_call(group)) first_call = group;
    until = std::max(until, place_[static_cast<size_t>(group)]);
    ++copies;
  }
  if (cost * copies > kMostCost) return std::nullopt;
  Candidate result{s, bytes_of(s), 0};
  std::vector<int32_t> longer;  // what has to stay longer
  for (int32_t x : from) {
    const int32_t leaf = storage(x).leaf;
    result.cost += bytes_of(x) * copies;
    // A result that would have taken its memory may need some of its own.
    if (leaf >= 0 && options.donated[static_cast<size_t>(leaf)] && last_read(x) <= until) result.gain -= bytes_of(x);
    if (leaf >= 0 || is_output(x)) continue;
    if (span(x).last >= until) continue;
    longer.push_back(x);
    if (own_last(x) < at) result.gain -= bytes_of(x);
  }
  if (result.gain < std::max<int64_t>({1, options.from, live_[static_cast<size_t>(at)] / kLeastGain}))
    return std::nullopt;
  if (!fits_behind(s, at, result.gain, longer, until)) return std::nullopt;
  result.cost += storage(s).size * cost * copies / 4 + (first_call >= 0 ? 2 * bytes_of(s) : 0);
  return result;
}

// Whether what stays longer leaves all places below what this one then has.
bool Rewriting::fits_behind(int32_t s, int32_t at, int64_t gain, const std::vector<int32_t>& longer,
                            int32_t until) const {
  int32_t gone_from = span(s).first, gone_until = until;  // where the value itself is no longer
  const int32_t home = group_of_[static_cast<size_t>(storage(s).node)];
  for (int32_t r : readers(s)) {
    const int32_t group = group_of_[static_cast<size_t>(r)];
    if (group == home) continue;
    const int32_t place = place_[static_cast<size_t>(group)];
    if (place <= at) {
      gone_from = std::max(gone_from, place + 1);
    } else {
      gone_until = std::min(gone_until, place);
    }
  }
  int32_t begin = until + 1;
  for (int32_t x : longer) begin = std::min(begin, own_last(x) + 1);
  const int64_t level = live_[static_cast<size_t>(at)] - gain;
  for (int32_t t = begin; t <= until; ++t) {
    int64_t now = live_[static_cast<size_t>(t)];
    for (int32_t x : longer) now += own_last(x) < t ? bytes_of(x) : 0;
    if (t >= gone_from && t < gone_until) now -= bytes_of(s);
    if (now > level) return false;
  }
  return true;
}

// Again and again the cheapest byte where most are alive, until there is none. Of these steps, those that lowered the
// highest place of all.
std::vector<LateCopy> Rewriting::choose(const RecomputeOptions& options) {
  std::vector<LateCopy> copies;
  size_t useful = 0;
  int64_t lowest = live_.empty() ? 0 : live_[peak()];
  for (bool found = !live_.empty(); found;) {
    found = false;
    const size_t at = peak();
    std::vector<Candidate> candidates;
    for (size_t s = 0; s < g_.storages.size(); ++s) {
      if (auto c = candidate(static_cast<int32_t>(s), static_cast<int32_t>(at), options)) candidates.push_back(*c);
    }
    std::ranges::sort(candidates, [](const Candidate& a, const Candidate& b) {
      const double x = static_cast<double>(a.cost) / static_cast<double>(a.gain);
      const double y = static_cast<double>(b.cost) / static_cast<double>(b.gain);
      return x != y ? x < y : a.storage < b.storage;
    });
    for (const Candidate& c : candidates) {
      if (live_[at] < live_[peak()]) break;
      const LateCopy one{c.storage, static_cast<int32_t>(at)};
      if (!candidate(one.storage, one.behind, options) || !apply(one)) continue;
      found = true;
      copies.push_back(one);
      if (live_[peak()] >= lowest) continue;
      lowest = live_[peak()];
      useful = copies.size();
    }
  }
  copies.resize(useful);
  return copies;
}

// ---- rewriting -------------------------------------------------------------------------------
int32_t Rewriting::copy(const std::vector<int32_t>& chain) {
  std::vector<std::pair<int32_t, int32_t>> made;
  for (int32_t original : chain) {
    CoreNode n = node(original);
    for (Operand& x : n.operands) {
      for (const auto& [from, to] : made) x.storage = x.storage == from ? to : x.storage;
    }
    Storage result = storage(n.results[0]);
    result.node = static_cast<int32_t>(g_.nodes.size());
    made.emplace_back(n.results[0], static_cast<int32_t>(g_.storages.size()));
    n.results[0] = made.back().second;
    g_.storages.push_back(result);
    g_.nodes.push_back(std::move(n));
    readers_.emplace_back();
    is_output_.push_back(false);
    group_of_.push_back(-1);
    add_reader(result.node);
  }
  return made.back().second;
}
void Rewriting::forget_copies(size_t nodes, size_t storages) {
  for (size_t n = nodes; n < g_.nodes.size(); ++n) remove_reader(static_cast<int32_t>(n));
  g_.nodes.resize(nodes);
  g_.storages.resize(storages);
  group_of_.resize(nodes);
  readers_.resize(storages);
  is_output_.resize(storages);
}
// What the group reads of one, it reads of the other, which is laid out alike.
void Rewriting::redirect(int32_t group, int32_t from, int32_t to) {
  for (int32_t m : groups_[static_cast<size_t>(group)].members) {
    if (std::ranges::find(readers(from), m) == readers(from).end()) continue;
    remove_reader(m);
    for (Operand& x : g_.nodes[static_cast<size_t>(m)].operands) x.storage = x.storage == from ? to : x.storage;
    add_reader(m);
  }
}
bool Rewriting::put_into(int32_t group, int32_t s, const std::vector<int32_t>& chain) {
  if (is_call(group)) return false;
  const size_t nodes = g_.nodes.size(), storages = g_.storages.size();
  const int32_t made = copy(chain);
  redirect(group, s, made);
  std::vector<int32_t> members = groups_[static_cast<size_t>(group)].members;
  for (size_t n = nodes; n < g_.nodes.size(); ++n) members.push_back(static_cast<int32_t>(n));
  Group now;
  if (!arrange(g_, std::move(members), now)) {
    redirect(group, made, s);
    forget_copies(nodes, storages);
    return false;
  }
  std::fill(group_of_.begin() + static_cast<std::ptrdiff_t>(nodes), group_of_.end(), group);
  groups_[static_cast<size_t>(group)] = std::move(now);
  return true;
}
// False if the copies are no kernel; without groups this is only asked.
bool Rewriting::own_kernel(int32_t s, const std::vector<int32_t>& chain, const std::vector<int32_t>& for_groups) {
  const size_t nodes = g_.nodes.size(), storages = g_.storages.size();
  const int32_t made = copy(chain);
  std::vector<int32_t> members;
  for (size_t n = nodes; n < g_.nodes.size(); ++n) members.push_back(static_cast<int32_t>(n));
  Group group;
  const bool fits = arrange(g_, std::move(members), group);
  if (!fits || for_groups.empty()) {
    forget_copies(nodes, storages);
    return fits;
  }
  std::fill(group_of_.begin() + static_cast<std::ptrdiff_t>(nodes), group_of_.end(),
            static_cast<int32_t>(groups_.size()));
  place_.push_back(place_[static_cast<size_t>(for_groups[0])]);
  groups_.push_back(std::move(group));
  for (int32_t reader : for_groups) redirect(reader, s, made);
  return true;
}
// The maps that nobody reads any more.
void Rewriting::drop_unread(int32_t s) {
  const int32_t p = storage(s).node;
  if (p < 0 || node(p).kind != CoreKind::Map || is_output(s) || !readers(s).empty()) return;
  if (group_of_[static_cast<size_t>(p)] < 0) return;
  Group& group = groups_[static_cast<size_t>(group_of_[static_cast<size_t>(p)])];
  std::vector<int32_t> left = group.members;
  std::erase(left, p);
  Group now;
  if (!left.empty() && !arrange(g_, std::move(left), now)) return;
  group = std::move(now);
  remove_reader(p);
  group_of_[static_cast<size_t>(p)] = -1;
  for (const Operand& x : std::vector<Operand>(node(p).operands)) {
    if (x.storage >= 0) drop_unread(x.storage);
  }
}

bool Rewriting::apply(const LateCopy& late) {
  const int32_t s = late.storage;
  if (s < 0 || s >= static_cast<int32_t>(g_.storages.size()) || span(s).first < 0) return false;
  const std::vector<int32_t> groups = late_groups(s, late.behind);
  std::vector<int32_t> chain, from;
  if (groups.empty() || !chain_of(s, chain, from) || !own_kernel(s, chain, {})) return false;
  std::vector<int32_t> others;
  for (int32_t group : groups) {
    if (!put_into(group, s, chain)) others.push_back(group);
  }
  if (!others.empty() && !own_kernel(s, chain, others)) throw InternalError("copies that were a kernel are none");
  drop_unread(s);
  look_at_memory();
  return true;
}

// Groups by their places, those of one place by what they read; nodes as groups have them.
void Rewriting::put_in_order() {
  std::vector<int32_t> list;
  for (size_t i = 0; i < groups_.size(); ++i) list.push_back(static_cast<int32_t>(i));
  // A kernel of copies stands before the group whose place it has, and so has a higher number.
  std::ranges::stable_sort(list, [this](int32_t a, int32_t b) {
    const auto x = static_cast<size_t>(a), y = static_cast<size_t>(b);
    return place_[x] != place_[y] ? place_[x] < place_[y] : a > b;
  });
  std::vector<int32_t> number(g_.nodes.size(), -1);
  std::vector<bool> placed(groups_.size(), false);
  std::vector<Group> groups;
  std::vector<CoreNode> nodes;
  const auto put_node = [&](const auto& self, int32_t n, int32_t group) -> void {
    if (number[static_cast<size_t>(n)] >= 0 || group_of_[static_cast<size_t>(n)] != group) return;
    for (const Operand& x : node(n).operands) {
      if (x.storage >= 0 && storage(x.storage).node >= 0) self(self, storage(x.storage).node, group);
    }
    number[static_cast<size_t>(n)] = static_cast<int32_t>(nodes.size());
    nodes.push_back(node(n));
  };
  const auto put_group = [&](const auto& self, int32_t i) -> void {
    if (placed[static_cast<size_t>(i)]) return;
    placed[static_cast<size_t>(i)] = true;
    Group group = groups_[static_cast<size_t>(i)];
    for (int32_t m : group.members) {
      for (const Operand& x : node(m).operands) {
        const int32_t p = x.storage < 0 ? -1 : storage(x.storage).node;
        if (p >= 0) self(self, group_of_[static_cast<size_t>(p)]);
      }
    }
    for (int32_t m : group.members) put_node(put_node, m, i);
    for (int32_t& m : group.members) m = number[static_cast<size_t>(m)];
    std::ranges::sort(group.members);
    if (!group.members.empty()) groups.push_back(std::move(group));
  };
  for (int32_t i : list) put_group(put_group, i);
  for (Storage& s : g_.storages) s.node = s.node < 0 ? -1 : number[static_cast<size_t>(s.node)];
  g_.nodes = std::move(nodes);
  groups_ = std::move(groups);
}

}  // namespace

Recomputed recompute(CoreGraph& graph, std::vector<Group>& groups, const RecomputeOptions& options) {
  const auto large = [&](const Storage& s) { return s.node >= 0 && byte_size(s.dtype, s.size) >= options.from; };
  if (std::ranges::none_of(graph.storages, large)) return {};
  CoreGraph g = graph;
  std::vector<Group> changed = groups;
  const std::vector<LateCopy> copies = Rewriting(g, changed).choose(options);
  if (copies.empty()) return {};
  g = graph;
  changed = groups;
  Recomputed result = recompute_alike(g, changed, copies);
  if (result.saved_bytes <= 0) return {};
  graph = std::move(g);
  groups = std::move(changed);
  return result;
}

Recomputed recompute_alike(CoreGraph& graph, std::vector<Group>& groups, const std::vector<LateCopy>& copies) {
  Recomputed result;
  if (copies.empty()) return result;
  Rewriting rewriting(graph, groups);
  const int64_t before = exec::plan_memory(rewriting.lifetimes()).size;
  for (const LateCopy& copy : copies) {
    if (rewriting.apply(copy)) result.copies.push_back(copy);
  }
  result.saved_bytes = before - exec::plan_memory(rewriting.lifetimes()).size;
  rewriting.put_in_order();
  return result;
}

std::string problem_of(const CoreGraph& graph, const std::vector<Group>& groups) {
  std::vector<int32_t> place(graph.nodes.size(), -1);
  for (size_t i = 0; i < groups.size(); ++i) {
    for (int32_t m : groups[i].members) {
      if (place[static_cast<size_t>(m)] >= 0) return fmt::format("node {} is in two groups", m);
      place[static_cast<size_t>(m)] = static_cast<int32_t>(i);
    }
  }
  for (size_t i = 0; i < graph.nodes.size(); ++i) {
    if (place[i] < 0) return fmt::format("node {} is in no group", i);
    for (const Operand& x : graph.nodes[i].operands) {
      if (x.storage < 0) continue;
      const Storage& s = graph.storages[static_cast<size_t>(x.storage)];
      if (s.leaf < 0 && (s.node < 0 || place[static_cast<size_t>(s.node)] > place[i]))
        return fmt::format("storage {} is read in group {}, before it is made", x.storage, place[i]);
    }
  }
  return {};
}

}  // namespace tenon::compiler
