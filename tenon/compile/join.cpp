// Calls of the device that are made ready with their weights: what follows them at once, and in which order of axes
// their results lie.
//
// A call whose weights are leaves that stay (in training they are donated and new in each step) becomes a ReadyCall.
// A map that alone reads its result becomes a part of it, at the map's place, where all other operands are there; so do
// two, if the first one's result is read by the second alone, as in x * sigmoid(x). Bits are those of call and map one
// after the other, and depend on no layout (PreparedKernel), so that results of convolutions may lie with the channels
// last where all who read them can take that.
#include <algorithm>
#include <map>
#include <optional>

#include "tenon/compile/core.h"
#include "tenon/ir/compose.h"

namespace tenon::compiler {

std::vector<ConstView> views_of(const CoreGraph& graph, std::span<const Operand> operands) {
  std::vector<ConstView> views;
  for (const Operand& x : operands) {
    if (x.storage < 0) {
      views.emplace_back();
      continue;
    }
    const Storage& storage = graph.storages[static_cast<size_t>(x.storage)];
    views.push_back({nullptr, storage.dtype, x.window.shape, x.window.strides, x.window.offset});
  }
  return views;
}

namespace {

class Joining {
 public:
  Joining(CoreGraph& graph, const trace::Segment& segment) : g_(graph), segment_(segment) {}

  void run() {
    readers_.assign(g_.storages.size(), 0);
    for (const CoreNode& n : g_.nodes) {
      for (const Operand& x : n.operands) {
        if (x.storage >= 0) ++readers_[static_cast<size_t>(x.storage)];
      }
    }
    is_output_.assign(g_.storages.size(), false);
    for (const Operand& x : g_.outputs) is_output_[static_cast<size_t>(x.storage)] = true;
    std::vector<bool> gone(g_.nodes.size(), false);
    for (size_t i = 0; i < g_.nodes.size(); ++i) {
      CoreNode& n = g_.nodes[i];
      if (n.kind == CoreKind::Call) {
        n.own = n.operands.size();
        n.ready = may_be_ready(n);
      } else if (n.kind == CoreKind::Map) {
        join(i, gone);
      }
    }
    leave_out(gone);
  }

 private:
  [[nodiscard]] bool stays(const Operand& x) const {
    const int32_t leaf = g_.storages[static_cast<size_t>(x.storage)].leaf;
    return leaf >= 0 && !segment_.leaves[static_cast<size_t>(leaf)].donated;
  }
  [[nodiscard]] bool may_be_ready(const CoreNode& n) const {
    if (n.call != CallKind::Claim || n.claim->prepare == nullptr || n.claim->ready == nullptr) return false;
    if (numel(n.result_shapes[0]) == 0) return false;
    for (size_t k = 1; k < n.results.size(); ++k) {
      const auto s = static_cast<size_t>(n.results[k]);
      if (readers_[s] > 0 || is_output_[s]) return false;
    }
    for (size_t k = 1; k < n.operands.size(); ++k) {
      if (n.operands[k].storage >= 0 && !stays(n.operands[k])) return false;
    }
    // Who takes nothing behind it gains by another order alone, which is not known yet.
    return n.claim->follows == nullptr || n.claim->ready(views_of(g_, n.operands)).has_value();
  }

  // The map as a part of a call, alone or with one whose result it alone reads.
  void join(size_t at, std::vector<bool>& gone) {
    if (join(at, g_.nodes[at], gone)) return;
    for (const Operand& x : g_.nodes[at].operands) {
      const std::optional<CoreNode> both = with_maker(g_.nodes[at], x, gone);
      if (!both) continue;
      const int32_t first = g_.storages[static_cast<size_t>(x.storage)].node;
      if (!join(at, *both, gone)) continue;
      gone[static_cast<size_t>(first)] = true;
      return;
    }
  }
  // The map that makes this operand and this one as a single map; nothing if somebody else reads what is between.
  [[nodiscard]] std::optional<CoreNode> with_maker(const CoreNode& map, const Operand& x,
                                                   const std::vector<bool>& gone) const {
    if (x.storage < 0) return std::nullopt;
    const auto s = static_cast<size_t>(x.storage);
    const int32_t maker = g_.storages[s].node;
    if (maker < 0 || gone[static_cast<size_t>(maker)] || is_output_[s]) return std::nullopt;
    const CoreNode& first = g_.nodes[static_cast<size_t>(maker)];
    if (first.kind != CoreKind::Map || first.shape != map.shape) return std::nullopt;
    CoreNode both = map;
    both.label = first.label + '+' + map.label;
    both.operands = first.operands;
    std::vector<int> inputs;
    for (size_t i = 0; i < map.operands.size(); ++i) {
      if (map.operands[i].storage != x.storage) {
        both.operands.push_back(map.operands[i]);
      } else if (is_flat(map.operands[i].window, g_.storages[s].size)) {
        inputs.push_back(static_cast<int>(i));
      }
    }
    if (static_cast<int>(inputs.size()) != readers_[s]) return std::nullopt;
    both.program = ir::compose(first.program, map.program, inputs);
    return both;
  }
  // Into the last call that makes one of the map's operands, if that may take it.
  bool join(size_t at, const CoreNode& map, std::vector<bool>& gone) {
    int32_t best = -1;
    std::optional<ir::ScalarProgram> after;
    for (const Operand& x : map.operands) {
      const int32_t maker = g_.storages[static_cast<size_t>(x.storage)].node;
      if (maker <= best) continue;
      if (auto program = joined(g_.nodes[static_cast<size_t>(maker)], map, x.storage)) {
        best = maker;
        after = std::move(program);
      }
    }
    if (best < 0) return false;
    CoreNode call = std::move(g_.nodes[static_cast<size_t>(best)]);
    gone[static_cast<size_t>(best)] = true;
    for (const Operand& x : map.operands) {
      if (x.storage == call.results[0]) continue;
      Operand own{x.storage, {call.result_shapes[0], {}, x.window.offset}};
      project(x.window, call.result_shapes[0], own.window.strides);
      call.operands.push_back(std::move(own));
    }
    call.label += '+' + map.label;
    call.results = map.results;
    call.result_shapes.resize(1);
    call.after = std::move(*after);
    g_.nodes[at] = std::move(call);
    return true;
  }
  // What then follows the call; nothing if it cannot take the map.
  [[nodiscard]] std::optional<ir::ScalarProgram> joined(const CoreNode& call, const CoreNode& map,
                                                        int32_t storage) const {
    const auto s = static_cast<size_t>(storage);
    if (!call.ready || call.claim->follows == nullptr || call.results[0] != storage || is_output_[s])
      return std::nullopt;
    if (map.program.code.back().op == ir::ScalarOp::Input) return std::nullopt;
    std::vector<int> inputs;
    Shape strides;
    for (size_t i = 0; i < map.operands.size(); ++i) {
      const Operand& x = map.operands[i];
      if (x.storage == storage) {
        if (!is_flat(x.window, g_.storages[s].size)) return std::nullopt;
        inputs.push_back(static_cast<int>(i));
      } else if (!project(x.window, call.result_shapes[0], strides)) {
        return std::nullopt;
      }
    }
    if (static_cast<int>(inputs.size()) != readers_[s]) return std::nullopt;
    // The first of them becomes the result of the call, which is input 0 of what follows.
    const ir::ScalarProgram before = call.after.code.empty() ? ir::identity(g_.storages[s].dtype) : call.after;
    ir::ScalarProgram program = ir::compose(before, map.program, inputs);
    return call.claim->follows(program) ? std::optional(std::move(program)) : std::nullopt;
  }

  void leave_out(const std::vector<bool>& gone) {
    std::vector<CoreNode> nodes;
    for (size_t i = 0; i < g_.nodes.size(); ++i) {
      if (gone[i]) continue;
      for (const int32_t s : g_.nodes[i].results)
        g_.storages[static_cast<size_t>(s)].node = static_cast<int32_t>(nodes.size());
      nodes.push_back(std::move(g_.nodes[i]));
    }
    g_.nodes = std::move(nodes);
  }

  CoreGraph& g_;
  const trace::Segment& segment_;
  std::vector<int> readers_;  // of each storage
  std::vector<bool> is_output_;
};

}  // namespace

void join_calls(CoreGraph& graph, const trace::Segment& segment) { Joining(graph, segment).run(); }

}  // namespace tenon::compiler
