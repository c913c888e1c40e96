// The backward pass.
#include <algorithm>
#include <queue>
#include <unordered_map>

#include "tenon/base/error.h"
#include "tenon/ops/autocast_state.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/elementwise.h"
#include "tenon/trace/sparse.h"
#include "tenon/trace/state.h"
#include "tenon/trace/tape.h"
#include "tenon/trace/vmap.h"

namespace tenon {
namespace trace {
namespace {

Tensor accumulate(Tensor sum, Tensor more) {
  if (!sum.defined()) return more;
  return add_gradients(std::move(sum), std::move(more));
}

// What a pass knows of one node: cotangents gathered so far, whether gradients that arrive here are wanted, and whether
// any are wanted behind it. (A target behind which none is belongs to another pass, which still needs what it keeps.)
struct Visit {
  Tensors ct;
  bool wanted = false;
  bool leads_on = false;
};

class Pass {
 public:
  Pass(std::vector<TapeEdge> wrt, bool to_variables, const BackwardOptions& options)
      : options_(options), targets_(std::move(wrt)), to_variables_(to_variables) {}

  Tensors run(const Tensors& outputs, const Tensors& cotangents) {
    const ops::AutocastState settled(DType::F32);  // the dtypes are those of the forward calls
    for (const auto& y : outputs) {
      mark(edge_of(y).node.get());
      outer_leaves_ = outer_leaves_ || differentiated_outside(y);
    }
    for (const auto& ct : cotangents) {
      if (ct.requires_grad() || differentiated_outside(ct)) outer_leaves_ = true;
    }
    // Recording the pass itself costs memory; it is done only when somebody else may differentiate it: when
    // leaves other than the targets were met.
    const bool record =
        state().record_gradients && (options_.record == BackwardOptions::Record::Always ||
                                     (options_.record == BackwardOptions::Record::IfOuterLeaves && outer_leaves_));
    options_.retain_graph = options_.retain_graph || record;
    const bool previous = std::exchange(state().record_gradients, record);
    struct Restore {
      bool value;
      ~Restore() { state().record_gradients = value; }
    } const restore{previous};
    for (size_t i = 0; i < outputs.size(); ++i) {
      if (cotangents[i].defined()) give(edge_of(outputs[i]), cotangents[i]);
    }
    while (!queue_.empty()) {
      const Ref<TapeLink> link = queue_.top().second;
      queue_.pop();
      step(static_cast<TapeNode&>(*link));
    }
    Tensors result(targets_.size());
    for (size_t i = 0; i < targets_.size(); ++i) {
      auto found = collected_.find({targets_[i].node.get(), targets_[i].index});
      if (found != collected_.end()) result[i] = found->second;
    }
    return result;
  }

  [[nodiscard]] bool outer_leaves() const { return outer_leaves_; }

 private:
  struct KeyHash {
    size_t operator()(const std::pair<const TapeLink*, uint32_t>& k) const {
      return std::hash<const void*>()(k.first) * 31 + k.second;
    }
  };

  [[nodiscard]] bool is_target(const TapeLink* node) const {
    return std::any_of(targets_.begin(), targets_.end(), [&](const TapeEdge& t) { return t.node.get() == node; });
  }

  // Depth first, without recursion (tapes can be very deep): a node is wanted if it is a target or leads to one
  // (with no targets: to a Variable).
  void mark(TapeLink* start) {
    if (!start) return;
    std::vector<std::pair<TapeNode*, size_t>> stack;
    const auto enter = [&](TapeLink* link) {
      auto [it, fresh] = visits_.try_emplace(link);
      if (!fresh) return;
      if (is_target(link)) {
        it->second.wanted = true;
        // A leaf is a boundary; an outer gradient may lie beyond it.
        if (auto* node = dynamic_cast<TapeNode*>(link)) {
          for (const auto& edge : node->edges) outer_leaves_ = outer_leaves_ || edge.node;
          if (node->op || node->function) stack.emplace_back(node, 0);
        } else if (state().differentiating > 0) {
          outer_leaves_ = true;  // the function around may be differentiated with respect to the same Variable
        }
        return;
      }
      auto* node = dynamic_cast<TapeNode*>(link);
      if (!node) {
        outer_leaves_ = true;
        it->second.wanted = to_variables_;
      } else {
        if (!node->op && !node->function) outer_leaves_ = true;
        stack.emplace_back(node, 0);
      }
    };
    enter(start);
    while (!stack.empty()) {
      auto& [node, next] = stack.back();
      if (next < node->edges.size()) {
        TapeLink* link = node->edges[next++].node.get();
        if (link) enter(link);
        continue;
      }
      TapeNode* done = node;
      stack.pop_back();
      bool leads_on = false;
      for (const auto& edge : done->edges) leads_on = leads_on || (edge.node && visits_[edge.node.get()].wanted);
      Visit& visit = visits_[done];
      visit.leads_on = leads_on;
      visit.wanted = visit.wanted || leads_on;
    }
  }

  void give(const TapeEdge& edge, Tensor ct) {
    if (!edge.node) return;
    Visit& visit = visits_[edge.node.get()];
    if (!visit.wanted) return;
    for (const auto& target : targets_) {
      if (target.node == edge.node && target.index == edge.index) {
        auto& sum = collected_[{edge.node.get(), edge.index}];
        sum = accumulate(std::move(sum), ct);
        break;
      }
    }
    if (auto* leaf = dynamic_cast<VariableLeaf*>(edge.node.get())) {
      if (!to_variables_) return;
      if (auto cell = leaf->cell.lock()) cell->grad = accumulate(std::move(cell->grad), std::move(ct));
      return;
    }
    if (!visit.leads_on) return;
    auto* node = static_cast<TapeNode*>(edge.node.get());
    if (visit.ct.empty()) {
      visit.ct.resize(node->out_types.size());
      queue_.emplace(node->sequence, edge.node);
    }
    visit.ct[edge.index] = accumulate(std::move(visit.ct[edge.index]), std::move(ct));
  }

  void step(TapeNode& node) {
    std::vector<char> needs(node.edges.size());
    for (size_t i = 0; i < needs.size(); ++i) {
      auto found = visits_.find(node.edges[i].node.get());
      needs[i] = node.edges[i].node && found != visits_.end() && found->second.wanted;
    }
    Tensors ct = std::move(visits_[&node].ct);
    Tensors result = apply_rule(node, ct, needs);
    if (!options_.retain_graph) {
      // What this call kept is dead now: free it before the next rule allocates.
      node.saved_in.clear();
      node.saved_out.clear();
      node.function = node.function ? [label = node.label](const Tensors&, const Tensors&) -> Tensors {
        throw GradientError({label,
                             "a backward pass has already used up this graph",
                             {},
                             {},
                             "backward(/*retain_graph=*/true) in the earlier pass"});
      }
      : TapeFunction{};
      node.released = true;
    }
    ct.clear();
    for (size_t i = 0; i < result.size(); ++i) {
      if (result[i].defined()) give(node.edges[i], std::move(result[i]));
    }
  }

  struct Later {
    bool operator()(const std::pair<uint64_t, Ref<TapeLink>>& a, const std::pair<uint64_t, Ref<TapeLink>>& b) const {
      return a.first < b.first;
    }
  };

  BackwardOptions options_;
  std::vector<TapeEdge> targets_;
  std::unordered_map<const TapeLink*, Visit> visits_;
  std::unordered_map<std::pair<const TapeLink*, uint32_t>, Tensor, KeyHash> collected_;
  std::priority_queue<std::pair<uint64_t, Ref<TapeLink>>, std::vector<std::pair<uint64_t, Ref<TapeLink>>>, Later>
      queue_;
  bool to_variables_;
  bool outer_leaves_ = false;
};

}  // namespace

Tensors backpropagate(const Tensors& outputs, const Tensors& cotangents, const std::vector<TapeEdge>& wrt,
                      const BackwardOptions& options, bool* differentiable) {
  Pass pass(wrt, false, options);
  Tensors result = pass.run(outputs, cotangents);
  if (differentiable) *differentiable = pass.outer_leaves();
  return result;
}

void accumulate_into_variables(const Tensor& output, const Tensor& cotangent, bool retain_graph) {
  Pass({}, true, {retain_graph, BackwardOptions::Record::Never}).run({output}, {cotangent});
}

}  // namespace trace

void Tensor::backward(bool retain_graph) const {
  if (defined() && size() != 1)
    throw ShapeError({"backward", "the tensor has more than one element, so its gradient needs a direction",
                      "a scalar (a loss)", to_string(shape()), "sum(loss).backward(), or loss.backward(gradient)"});
  backward(defined() ? ones_like(*this) : Tensor(), retain_graph);
}

void Tensor::backward(const Tensor& gradient, bool retain_graph) const {
  if (!requires_grad())
    throw GradientError({"backward", "nothing that this value depends on wants a gradient",
                         "a value computed from a trainable Variable", "a value without history",
                         "check for NoGrad, detach(), or tensors used in place of Variables; for gradients of "
                         "gradients value_and_grad(fn, variables, /*create_graph=*/true)"});
  if (gradient.shape() != shape())
    throw ShapeError({"backward",
                      "the gradient's shape differs from the tensor's",
                      to_string(shape()),
                      to_string(gradient.shape()),
                      {}});
  trace::accumulate_into_variables(*this, gradient, retain_graph);
}

}  // namespace tenon
