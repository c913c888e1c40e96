// In which order of axes the results of calls lie.
//
// A call that is made ready may write its result in an order that it likes better than row-major (PreparedKernel), if
// everybody who reads it is such a call or a map, whose own result then lies in the same order. All that might take
// another order is supposed to; then what a reader does not take goes, with what depends on it, until nothing changes.
// Reductions and other calls keep row-major memory, as in an eager run.
#include <algorithm>

#include "tenon/compile/core.h"
#include "tenon/tensor/axis_order.h"

namespace tenon::compiler {
namespace {

class Orders {
 public:
  explicit Orders(CoreGraph& graph) : g_(graph), order_(graph.storages.size()) {}

  void run() {
    for (const CoreNode& n : g_.nodes) {
      if (n.kind != CoreKind::Fold) order_[result(n)] = wanted(n);
    }
    for (bool changed = true; changed;) {
      changed = false;
      for (const Operand& x : g_.outputs) changed = drop(x.storage) || changed;
      for (size_t i = g_.nodes.size(); i-- > 0;) changed = look_again(g_.nodes[i]) || changed;  // readers first
    }
    for (CoreNode& n : g_.nodes) apply(n);
  }

 private:
  static size_t result(const CoreNode& n) { return static_cast<size_t>(n.results[0]); }
  const Ints& order(const Operand& x) const { return order_[static_cast<size_t>(x.storage)]; }
  const Shape& axes_of(const CoreNode& n) const { return n.kind == CoreKind::Map ? n.shape : n.result_shapes[0]; }
  // What lies in another order, read as it was made, axis by axis.
  [[nodiscard]] bool is_whole(const Operand& x) const {
    if (order(x).empty()) return false;
    const Storage& storage = g_.storages[static_cast<size_t>(x.storage)];
    return is_flat(x.window, storage.size) && x.window.shape == axes_of(g_.nodes[static_cast<size_t>(storage.node)]);
  }
  // Whether some axis of the shape is repeated: not as much memory as the result.
  static bool is_small(const Operand& x) {
    for (size_t d = 0; d < x.window.shape.size(); ++d) {
      if (x.window.shape[d] > 1 && x.window.strides[d] == 0) return true;
    }
    return numel(x.window.shape) == 1;
  }
  bool drop(int32_t storage) {
    Ints& order = order_[static_cast<size_t>(storage)];
    if (order.empty()) return false;
    order = {};
    return true;
  }

  // The order of the node's result, if its operands lie as is supposed now; empty: row-major.
  [[nodiscard]] Ints wanted(const CoreNode& n) const {
    if (n.kind == CoreKind::Map) {
      Ints found;
      for (const Operand& x : n.operands) {
        if (is_small(x)) continue;
        if (!is_whole(x) || (!found.empty() && found != order(x))) return {};
        found = order(x);
      }
      return found;
    }
    if (!n.ready) return {};
    const auto answer = n.claim->ready(inputs(n));
    return answer ? *answer : Ints{};
  }
  [[nodiscard]] std::vector<ConstView> inputs(const CoreNode& n) const {
    std::vector<ConstView> views = views_of(g_, std::span(n.operands).first(n.own));
    const Operand& x = n.operands[0];
    if (x.storage >= 0 && is_whole(x)) views[0].strides = strides_in_order(views[0].shape, order(x));
    return views;
  }

  // Operands that this node cannot take as is supposed lie row-major; the result's own order may go with them.
  bool look_again(const CoreNode& n) {
    bool changed = false;
    if (n.kind != CoreKind::Fold && !order_[result(n)].empty() && wanted(n) != order_[result(n)])
      changed = drop(n.results[0]);
    for (const Operand& x : n.operands) {
      if (x.storage >= 0 && !order(x).empty() && !takes(n, x)) changed = drop(x.storage) || changed;
    }
    return changed;
  }
  [[nodiscard]] bool takes(const CoreNode& n, const Operand& x) const {
    if (n.kind == CoreKind::Fold || !is_whole(x)) return false;
    if (n.kind == CoreKind::Map) return order_[result(n)] == order(x);
    // Who writes one order only lies as its input or not at all.
    if (!n.ready || (n.claim->follows == nullptr && order_[result(n)].empty())) return false;
    const auto answer = n.claim->ready(inputs(n));
    return answer && !answer->empty();
  }

  void apply(CoreNode& n) const {
    for (Operand& x : n.operands) {
      if (x.storage >= 0 && !order(x).empty()) x.window.strides = strides_in_order(x.window.shape, order(x));
    }
    if (n.kind == CoreKind::Fold) return;
    const Ints& own = order_[result(n)];
    if (n.kind == CoreKind::Call) {
      // Who gains by another order alone, and has none, is called as it is.
      n.ready = n.ready && (n.claim->follows != nullptr || !own.empty());
      n.order = own;
    } else if (!own.empty()) {
      n.shape = permuted(n.shape, own);
      for (Operand& x : n.operands) {
        x.window.shape = permuted(x.window.shape, own);
        x.window.strides = permuted(x.window.strides, own);
      }
    }
  }
  static Shape permuted(const Shape& shape, const Ints& order) {
    Shape to;
    for (const int64_t axis : order) to.push_back(shape[static_cast<size_t>(axis)]);
    return to;
  }

  CoreGraph& g_;
  std::vector<Ints> order_;  // of each storage; empty: row-major
};

}  // namespace

void choose_orders(CoreGraph& graph) { Orders(graph).run(); }

}  // namespace tenon::compiler
