// From the recorded graph to maps, folds and calls.
#include <fmt/format.h>

#include <algorithm>
#include <numeric>
#include <optional>

#include "tenon/base/error.h"
#include "tenon/compile/core.h"
#include "tenon/device/cpu/recipes.h"
#include "tenon/exec/session.h"
#include "tenon/ops/infer.h"
#include "tenon/ops/matmul.h"

namespace tenon::compiler {
namespace {

using ops::ReduceKind;

bool whole_bytes(DType t) { return info(t).bits >= 8; }
bool is_narrow(DType t) { return is_float(t) && t != DType::F32 && t != DType::F64; }

ops::Window contiguous_window(const Shape& shape) { return {shape, contiguous_strides(shape), 0}; }

class Analysis {
 public:
  Analysis(const trace::Segment& segment, const AnalyseOptions& options) : segment_(segment), options_(options) {}

  CoreGraph run() {
    values_.resize(segment_.graph().values.size());
    find_readers();
    for (size_t i = 0; i < segment_.leaves.size(); ++i) leaf(i);
    for (const ir::Node& node : segment_.graph().nodes) lower(node);
    for (ir::ValueId id : segment_.graph().outputs) g_.outputs.push_back(values_[static_cast<size_t>(id)]);
    drop_dead();
    return std::move(g_);
  }

 private:
  void leaf(size_t i) {
    const trace::Leaf& leaf = segment_.leaves[i];
    Storage s;
    s.dtype = leaf.type.dtype;
    s.leaf = static_cast<int32_t>(i);
    int64_t low = 0, high = 0;
    for (size_t d = 0; d < leaf.strides.size(); ++d) {
      const int64_t last = (leaf.type.shape[d] - 1) * leaf.strides[d];
      (last < 0 ? low : high) += last;
    }
    if (!whole_bytes(s.dtype)) low = -leaf.offset;  // elements are not addresses: the offset is part of the window
    s.base = low;
    s.size = numel(leaf.type.shape) == 0 ? 0 : high - low + 1;
    const auto id = static_cast<int32_t>(g_.storages.size());
    g_.storages.push_back(s);
    values_[static_cast<size_t>(segment_.graph().inputs[i])] = {id, {leaf.type.shape, leaf.strides, -low}};
  }

  int32_t new_storage(DType dtype, int64_t size) {
    Storage s;
    s.dtype = dtype;
    s.size = size;
    s.node = static_cast<int32_t>(g_.nodes.size());
    g_.storages.push_back(s);
    return static_cast<int32_t>(g_.storages.size()) - 1;
  }
  [[nodiscard]] DType dtype_of(const Operand& x) const { return g_.storages[static_cast<size_t>(x.storage)].dtype; }

  void lower(const ir::Node& node) {
    std::vector<Operand> in;
    for (ir::ValueId id : node.inputs) in.push_back(id == ir::kAbsent ? Operand{} : values_[static_cast<size_t>(id)]);
    std::visit(ops::Overloaded{
                   [&](const ops::Elementwise&) { elementwise(node, std::move(in)); },
                   [&](const ops::Reduction& r) { reduction(node, std::move(in), r.kind); },
                   [&](const ops::Relayout& r) { relayout(node, std::move(in), r); },
                   [&](const auto&) { call(node, std::move(in), CallKind::Claim); },
               },
               node.op->meaning);
  }
  void set(const ir::Node& node, size_t k, const Operand& value) {
    values_[static_cast<size_t>(node.outputs[k])] = value;
  }
  const TensorType& type(const ir::Node& node, size_t k = 0) const { return segment_.graph().type(node.outputs[k]); }

  void call(const ir::Node& node, std::vector<Operand> in, CallKind kind) {
    CoreNode n;
    n.kind = CoreKind::Call;
    n.label = node.op->name;
    n.call = kind;
    n.node = &node;
    if (kind == CallKind::Claim) {
      exec::Session& s = exec::session();
      std::vector<TensorType> types;
      for (ir::ValueId id : node.inputs) types.push_back(id == ir::kAbsent ? TensorType{} : segment_.graph().type(id));
      n.claim = s.options().claims ? s.device().claim(*node.op, types, node.attrs) : nullptr;
      if (n.claim == nullptr) n.call = CallKind::Reference;
      if (n.claim != nullptr && options_.lower && by_recipe(node, in, types, *n.claim)) return;
      if (n.claim != nullptr && options_.lower && elements_apart(node, in, types, n)) return;
      if (n.claim != nullptr && better_across(node)) return product_across(std::move(n), std::move(in));
    }
    n.operands = std::move(in);
    add_results(node, n, 0);
    g_.nodes.push_back(std::move(n));
  }
  void add_results(const ir::Node& node, CoreNode& n, size_t first) {
    for (size_t k = first; k < node.outputs.size(); ++k) {
      const TensorType& t = type(node, k);
      const int32_t storage = new_storage(t.dtype, numel(t.shape));
      n.results.push_back(storage);
      n.result_shapes.push_back(t.shape);
      set(node, k, {storage, contiguous_window(t.shape)});
    }
  }

  // The first result of a claimed kernel as a map of the other ones, which fuses with what is around; false if that is
  // not known.
  bool elements_apart(const ir::Node& node, const std::vector<Operand>& in, const std::vector<TensorType>& types,
                      CoreNode& n) {
    cpu::ElementRecipe recipe = cpu::elements_of(*n.claim, types, node.attrs);
    if (recipe.operands.empty()) return false;
    n.first_apart = true;
    n.operands = in;
    add_results(node, n, 1);
    g_.nodes.push_back(std::move(n));
    const Shape& shape = type(node).shape;
    std::vector<Operand> operands;
    for (int number : recipe.operands) {
      const auto at = static_cast<size_t>(number < 0 ? -1 - number : number);
      operands.push_back(broadcast(number < 0 ? in[at] : values_[static_cast<size_t>(node.outputs[at])], shape));
    }
    const int32_t made = add_map(std::string(node.op->name), std::move(operands), shape, std::move(recipe.program));
    set(node, 0, {made, contiguous_window(shape)});
    return true;
  }

  // The steps of a claimed kernel's recipe as nodes of their own; false if it has none that fits.
  bool by_recipe(const ir::Node& node, std::vector<Operand> in, const std::vector<TensorType>& types,
                 const Claim& claim) {
    using Along = RowRecipe::Along;
    const cpu::RecipeFn make = cpu::recipe_of(claim);
    if (make == nullptr || numel(types[0].shape) == 0) return false;
    const RowRecipe recipe = make(types, node.attrs);
    if (recipe.n < 2) return false;
    const int64_t outer = numel(types[0].shape) / recipe.n;
    if (recipe.n > (int64_t{1} << 16) && outer < 8) return false;
    for (size_t i = 0; i < in.size(); ++i) {
      if (in[i].storage >= 0 && types[i].shape.empty()) return false;  // a scalar where a row is usual
    }
    // Operands over [outer, n], or over [outer].
    for (size_t i = 0; i < in.size(); ++i) {
      Operand& x = in[i];
      if (x.storage < 0) continue;
      const Shape axes = recipe.inputs[i] == Along::Elements  ? Shape{outer, recipe.n}
                         : recipe.inputs[i] == Along::Columns ? Shape{recipe.n}
                                                              : Shape{outer};
      Shape strides;
      if (!project(x.window, axes, strides)) {
        x = copied(x);
        strides = contiguous_strides(axes);
      }
      x.window.shape = axes;
      x.window.strides = strides;
      if (recipe.inputs[i] == Along::Columns) x = broadcast(x, {outer, recipe.n});
    }
    std::vector<int32_t> storages;
    const auto operand = [&](int number, bool of_row) -> Operand {
      Operand x;
      if (number < 0) {
        x = in[static_cast<size_t>(-1 - number)];
      } else {
        const RowRecipe::Step& s = recipe.steps[static_cast<size_t>(number)];
        x = {storages[static_cast<size_t>(number)],
             contiguous_window(s.of_row ? Shape{outer} : Shape{outer, recipe.n})};
      }
      if (!of_row && x.window.shape.size() == 1)
        x.window = {{outer, recipe.n}, {x.window.strides[0], 0}, x.window.offset};
      return x;
    };
    for (const RowRecipe::Step& step : recipe.steps) {
      std::vector<Operand> operands;
      for (int number : step.operands) operands.push_back(operand(number, step.of_row && !step.fold));
      if (step.fold) {
        CoreNode f;
        f.kind = CoreKind::Fold;
        f.label = node.op->name;
        f.fold = step.combine == ir::ScalarOp::Max ? cpu::Fold::Max : cpu::Fold::Sum;
        f.recipe = true;
        f.empty = step.empty;
        f.acc = types[0].dtype;
        f.outer = outer;
        f.n = recipe.n;
        f.shape = {outer, recipe.n};
        f.operands = std::move(operands);
        f.results = {new_storage(f.acc, outer)};
        storages.push_back(f.results[0]);
        g_.nodes.push_back(std::move(f));
      } else {
        storages.push_back(add_map(std::string(node.op->name), std::move(operands),
                                   step.of_row ? Shape{outer} : Shape{outer, recipe.n}, step.program));
      }
    }
    for (size_t k = 0; k < recipe.results.size(); ++k)
      set(node, k, {storages[static_cast<size_t>(recipe.results[k])], contiguous_window(type(node, k).shape)});
    return true;
  }

  // ---- maps --------------------------------------------------------------------------------
  int32_t add_map(std::string label, std::vector<Operand> operands, const Shape& shape, ir::ScalarProgram program) {
    CoreNode n;
    n.kind = CoreKind::Map;
    n.label = std::move(label);
    n.operands = std::move(operands);
    n.shape = shape;
    n.results = {new_storage(program.result(), numel(shape))};
    n.program = std::move(program);
    g_.nodes.push_back(std::move(n));
    return g_.nodes.back().results[0];
  }
  // A program of one input.
  template <class F>
  static ir::ScalarProgram unary(DType in, DType out, const F& f) {
    ir::ScalarBuilder b;
    const ir::Scalar x = b.input(in);
    return b.finish(f(b, x), out);
  }
  int32_t converted(const Operand& x, const Shape& shape, DType to, bool signed_first) {
    return add_map("cast", {x}, shape, unary(dtype_of(x), to, [&](ir::ScalarBuilder& b, const ir::Scalar& v) {
                     return b.cast(signed_first ? b.cast(v, DType::I64, ir::ScalarOp::Bitcast) : v, to);
                   }));
  }
  Operand copied(const Operand& x, const char* label = "copy") {
    const DType t = dtype_of(x);
    const int32_t s =
        add_map(label, {x}, x.window.shape, unary(t, t, [](ir::ScalarBuilder&, const ir::Scalar& v) { return v; }));
    return {s, contiguous_window(x.window.shape)};
  }

  static Operand broadcast(Operand x, const Shape& shape) {
    Shape strides(shape.size(), 0);
    const size_t lead = shape.size() - x.window.shape.size();
    for (size_t i = 0; i < x.window.shape.size(); ++i)
      strides[lead + i] = x.window.shape[i] == 1 ? 0 : x.window.strides[i];
    x.window.shape = shape;
    x.window.strides = strides;
    return x;
  }

  void elementwise(const ir::Node& node, std::vector<Operand> in) {
    const TensorType& out = type(node);
    bool bytes = whole_bytes(out.dtype);
    std::vector<DType> dtypes;
    for (const auto& x : in) {
      dtypes.push_back(dtype_of(x));
      bytes = bytes && whole_bytes(dtype_of(x));
    }
    for (auto& x : in) x = broadcast(std::move(x), out.shape);
    if (!options_.lower || !bytes || numel(out.shape) == 0) return call(node, std::move(in), CallKind::Elementwise);
    ops::Window made = contiguous_window(out.shape), result = made;
    if (const auto order = layout_to_keep(node, in)) {
      for (auto& x : in) x.window = permuted(x.window, *order);
      made = contiguous_window(permuted(made, *order).shape);
      result = permuted_back(made, *order);
    }
    const int32_t s = add_map(std::string(node.op->name), std::move(in), made.shape,
                              exec::session().program(*node.op, dtypes, node.attrs, out.dtype));
    set(node, 0, {s, result});
  }

  // ---- movement ----------------------------------------------------------------------------
  void relayout(const ir::Node& node, std::vector<Operand> in, const ops::Relayout& rule) {
    Operand x = std::move(in[0]);
    for (int attempt = 0; attempt < 2; ++attempt) {
      ops::Window window;
      if (rule.window(x.window, node.attrs, type(node).shape, window)) return set(node, 0, {x.storage, window});
      if (!options_.lower || !whole_bytes(dtype_of(x)) || numel(x.window.shape) == 0) {
        CoreNode n;
        n.kind = CoreKind::Call;
        n.label = "copy";
        n.call = CallKind::Copy;
        n.node = &node;
        n.operands = {x};
        n.results = {new_storage(dtype_of(x), numel(x.window.shape))};
        n.result_shapes = {x.window.shape};
        x = {n.results[0], contiguous_window(x.window.shape)};
        g_.nodes.push_back(std::move(n));
      } else {
        x = copied(x);
      }
    }
    throw InternalError(fmt::format("{}: no window on a contiguous tensor", node.op->name));
  }

  // ---- reductions --------------------------------------------------------------------------
  struct Run {
    int64_t extent;
    bool reduced;
  };

  // As device/cpu/reduce.cpp: neighbouring axes of one fate are one, the last reduced one is folded first.
  void reduction(const ir::Node& node, std::vector<Operand> in, ReduceKind kind) {
    Operand x = std::move(in[0]);
    const TensorType& out = type(node);
    const Shape shape = x.window.shape;
    DType dtype = dtype_of(x);
    const bool places = kind == ReduceKind::ArgMax || kind == ReduceKind::ArgMin;
    if (!options_.lower || places || is_narrow(dtype) || !whole_bytes(dtype) || numel(shape) == 0 ||
        numel(out.shape) == 0)
      return call(node, {std::move(x)}, CallKind::Reduce);
    const Ints axes = ops::reduction_axes(node.op->name, node.attrs.ints(0), static_cast<int64_t>(shape.size()));
    std::vector<Run> runs;
    for (size_t d = 0; d < shape.size(); ++d) {
      const bool reduced = std::find(axes.begin(), axes.end(), static_cast<int64_t>(d)) != axes.end();
      if (shape[d] == 1) continue;
      if (!runs.empty() && runs.back().reduced == reduced) {
        runs.back().extent *= shape[d];
      } else {
        runs.push_back({shape[d], reduced});
      }
    }
    if (too_long(runs)) return call(node, {std::move(x)}, CallKind::Reduce);
    const bool truth = kind == ReduceKind::Any || kind == ReduceKind::All;
    if (truth && dtype != DType::Bool) {
      x = {converted(x, shape, DType::Bool, false), contiguous_window(shape)};
      dtype = DType::Bool;
    }
    constexpr cpu::Fold kFoldOf[] = {cpu::Fold::Sum, cpu::Fold::Prod, cpu::Fold::Max,
                                     cpu::Fold::Min, cpu::Fold::Max,  cpu::Fold::Min};
    const cpu::Fold fold = kFoldOf[static_cast<size_t>(kind)];
    const bool is_signed = info(dtype).kind == DTypeKind::Signed;
    int folds = 0;
    for (;; ++folds) {
      size_t g = runs.size();
      while (g > 0 && !runs[g - 1].reduced) --g;
      if (g-- == 0) break;
      int64_t outer = 1, columns = 1;
      for (size_t i = 0; i < g; ++i) outer *= runs[i].extent;
      for (size_t i = g + 1; i < runs.size(); ++i) columns *= runs[i].extent;
      const int64_t n = runs[g].extent;
      runs.erase(runs.begin() + static_cast<std::ptrdiff_t>(g));
      const bool last = std::none_of(runs.begin(), runs.end(), [](const Run& r) { return r.reduced; });
      x = add_fold(node, fold, x, outer, n, columns, last ? out.dtype : accumulator(fold, dtype), is_signed);
      dtype = dtype_of(x);
    }
    // Nothing was folded if all reduced axes have one element.
    if (folds == 0) x.storage = converted(x, x.window.shape, out.dtype, false);
    set(node, 0, {x.storage, contiguous_window(out.shape)});
  }
  // One row that is very long would use one thread here, where the device uses all; and columns that are very long
  // need more scratch than a kernel has.
  static bool too_long(const std::vector<Run>& runs) {
    int64_t kept = 1, reduced = 1, columns = 1;
    bool long_columns = false;
    for (size_t i = runs.size(); i-- > 0;) {
      (runs[i].reduced ? reduced : kept) *= runs[i].extent;
      long_columns = long_columns || (runs[i].reduced && columns > 1 && runs[i].extent > 4096);
      if (!runs[i].reduced) columns *= runs[i].extent;
    }
    return long_columns || (reduced > (int64_t{1} << 16) && kept < 8);
  }
  static DType accumulator(cpu::Fold fold, DType t) {
    return (fold == cpu::Fold::Sum || fold == cpu::Fold::Prod) && !is_float(t) ? DType::U64 : t;
  }
  Operand add_fold(const ir::Node& node, cpu::Fold fold, Operand x, int64_t outer, int64_t n, int64_t columns, DType to,
                   bool is_signed) {
    Shape strides;
    // The device reads a contiguous copy of what is not regular.
    if (!project(x.window, {outer, n, columns}, strides)) x = copied(x);
    CoreNode f;
    f.kind = CoreKind::Fold;
    f.label = node.op->name;
    f.fold = fold;
    f.acc = accumulator(fold, dtype_of(x));
    f.signed_again = f.acc == DType::U64 && is_signed && is_float(to);
    f.outer = outer;
    f.n = n;
    f.columns = columns;
    f.shape = x.window.shape;
    f.operands = {x};
    const Shape shape{outer, columns};
    f.results = {new_storage(to, outer * columns)};
    g_.nodes.push_back(std::move(f));
    return {g_.nodes.back().results[0], contiguous_window(shape)};
  }

  // ---- layouts -----------------------------------------------------------------------------
  // Results are row-major, as in an eager run, but where what reads them would then go across the rows of large
  // matrices: a weight that is turned, made short and multiplied by; the gradient of such a weight. Only products see
  // another layout than in an eager run then, and their bits depend on none.
  void find_readers() {
    const ir::Graph& graph = segment_.graph();
    readers_.resize(graph.values.size());
    is_output_.resize(graph.values.size(), false);
    for (const ir::Node& node : graph.nodes) {
      for (ir::ValueId id : node.inputs) {
        if (id != ir::kAbsent) readers_[static_cast<size_t>(id)].push_back(&node);
      }
    }
    for (ir::ValueId id : graph.outputs) is_output_[static_cast<size_t>(id)] = true;
  }

  // A product in whose bits each element is one chain over k, whatever lies how.
  [[nodiscard]] bool is_free_product(const ir::Node& node) const {
    if (node.op != &ops::matmul_op()) return false;
    const DType t = segment_.graph().type(node.inputs[0]).dtype;
    return t == DType::F32 || t == DType::BF16 || t == DType::F16;
  }
  // An elementwise op that reads numbers and, once, this value, which has the result's shape.
  [[nodiscard]] bool is_unary(const ir::Node& node, ir::ValueId v) const {
    if (!std::holds_alternative<ops::Elementwise>(node.op->meaning) || !whole_bytes(type(node).dtype)) return false;
    const auto other = [&](ir::ValueId id) { return id != v && numel(segment_.graph().type(id).shape) != 1; };
    return segment_.graph().type(v).shape == type(node).shape && std::ranges::count(node.inputs, v) == 1 &&
           std::ranges::none_of(node.inputs, other);
  }
  struct Reading {
    bool products = false;      // by free products
    bool flat = false;          // of row-major memory, by others
    bool across_later = false;  // by who comes after this segment, of memory that is not row-major
  };
  // Whether a value may lie in the memory of its own like this: its readers here are free products or find row-major
  // memory.
  bool may_lie(ir::ValueId v, const ops::Window& w, Reading& found) const {
    const bool flat = is_flat(w, numel(w.shape));
    if (is_output_[static_cast<size_t>(v)]) (flat ? found.flat : found.across_later) = true;
    return std::ranges::all_of(readers_[static_cast<size_t>(v)], [&](const ir::Node* reader) {
      if (const auto* rule = std::get_if<ops::Relayout>(&reader->op->meaning)) {
        ops::Window window;
        return rule->window(w, reader->attrs, type(*reader).shape, window) &&
               may_lie(reader->outputs[0], window, found);
      }
      if (is_free_product(*reader)) return found.products = true;
      if (flat) return found.flat = true;
      return is_unary(*reader, v) && may_lie(reader->outputs[0], w, found);
    });
  }

  // The axes of the one operand that is no number, from the longest stride on, if the result should lie as it does.
  [[nodiscard]] std::optional<std::vector<size_t>> layout_to_keep(const ir::Node& node,
                                                                  const std::vector<Operand>& in) const {
    for (size_t i = 0; i < in.size(); ++i) {
      const ir::ValueId v = node.inputs[i];
      if (!is_unary(node, v) || numel(type(node).shape) == 1) continue;
      const ops::Window& w = in[i].window;
      std::vector<size_t> order = axes_of_memory(w);
      const ops::Window sorted = permuted(w, order), dense = contiguous_window(sorted.shape);
      Reading found;
      const bool fits = !std::ranges::is_sorted(order) && sorted.strides == dense.strides &&
                        may_lie(node.outputs[0], permuted_back(dense, order), found);
      if (fits && (found.products || !found.across_later)) return order;
      return std::nullopt;
    }
    return std::nullopt;
  }
  static std::vector<size_t> axes_of_memory(const ops::Window& w) {
    std::vector<size_t> order(w.shape.size());
    std::iota(order.begin(), order.end(), size_t{0});
    std::ranges::stable_sort(order, [&](size_t a, size_t b) { return w.strides[a] > w.strides[b]; });
    return order;
  }
  static ops::Window permuted(const ops::Window& w, const std::vector<size_t>& order) {
    ops::Window to{w.shape, w.strides, w.offset};
    for (size_t d = 0; d < order.size(); ++d) {
      to.shape[d] = w.shape[order[d]];
      to.strides[d] = w.strides[order[d]];
    }
    return to;
  }
  static ops::Window permuted_back(const ops::Window& w, const std::vector<size_t>& order) {
    ops::Window to{w.shape, w.strides, w.offset};
    for (size_t d = 0; d < order.size(); ++d) {
      to.shape[order[d]] = w.shape[d];
      to.strides[order[d]] = w.strides[d];
    }
    return to;
  }

  // A product that its readers would rather have column by column is made the other way round: (a b)' = b' a'.
  [[nodiscard]] bool better_across(const ir::Node& node) const {
    if (!options_.lower || !is_free_product(node)) return false;
    const Shape& shape = type(node).shape;
    const auto is_matrix = [&](ir::ValueId id) { return segment_.graph().type(id).shape.size() == 2; };
    if (!std::ranges::all_of(node.inputs, is_matrix) || shape[0] < 2 || shape[1] < 2) return false;
    Reading found;
    return may_lie(node.outputs[0], {shape, {1, shape[0]}, 0}, found) && found.flat && !found.across_later;
  }
  void product_across(CoreNode n, std::vector<Operand> in) {
    const std::vector<size_t> turned{1, 0};
    n.operands = {std::move(in[1]), std::move(in[0])};
    for (Operand& x : n.operands) x.window = permuted(x.window, turned);
    const ir::Node& node = *n.node;
    const ops::Window result = contiguous_window({type(node).shape[1], type(node).shape[0]});
    n.results = {new_storage(type(node).dtype, numel(result.shape))};
    n.result_shapes = {result.shape};
    set(node, 0, {n.results[0], permuted(result, turned)});
    g_.nodes.push_back(std::move(n));
  }

  // ---- dead code ---------------------------------------------------------------------------
  void drop_dead() {
    std::vector<bool> live(g_.storages.size(), false);
    for (const auto& x : g_.outputs) live[static_cast<size_t>(x.storage)] = true;
    std::vector<bool> keep(g_.nodes.size(), false);
    for (size_t i = g_.nodes.size(); i-- > 0;) {
      const CoreNode& n = g_.nodes[i];
      keep[i] =
          std::any_of(n.results.begin(), n.results.end(), [&](int32_t s) { return live[static_cast<size_t>(s)]; });
      if (!keep[i]) continue;
      for (const auto& x : n.operands) {
        if (x.storage >= 0) live[static_cast<size_t>(x.storage)] = true;
      }
    }
    std::vector<CoreNode> nodes;
    for (size_t i = 0; i < g_.nodes.size(); ++i) {
      if (!keep[i]) continue;
      for (int32_t s : g_.nodes[i].results)
        g_.storages[static_cast<size_t>(s)].node = static_cast<int32_t>(nodes.size());
      nodes.push_back(std::move(g_.nodes[i]));
    }
    g_.nodes = std::move(nodes);
  }

  const trace::Segment& segment_;
  const AnalyseOptions& options_;
  CoreGraph g_;
  std::vector<Operand> values_;
  std::vector<std::vector<const ir::Node*>> readers_;  // by value
  std::vector<bool> is_output_;
};

}  // namespace

CoreGraph analyse(const trace::Segment& segment, const AnalyseOptions& options) {
  return Analysis(segment, options).run();
}

std::string to_text(const CoreGraph& graph) {
  std::string text;
  for (const CoreNode& n : graph.nodes) {
    constexpr const char* kKinds[] = {"map", "fold", "call"};
    text += fmt::format("{} {}", kKinds[static_cast<size_t>(n.kind)], n.label);
    for (int32_t s : n.results) {
      const Storage& storage = graph.storages[static_cast<size_t>(s)];
      text += fmt::format(" ${}: {}[{}]", s, name(storage.dtype), storage.size);
    }
    text += " <-";
    for (const auto& x : n.operands)
      text += x.storage < 0 ? " _" : fmt::format(" ${}{}", x.storage, to_string(x.window.shape));
    text += '\n';
  }
  return text;
}

}  // namespace tenon::compiler
