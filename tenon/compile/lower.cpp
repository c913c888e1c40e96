#include "tenon/compile/lower.h"

#include <algorithm>
#include <limits>
#include <map>

#include "tenon/base/error.h"

namespace tenon::compiler {
namespace {

using ir::ScalarOp;

constexpr int64_t kRun = 4096;         // elements of a row folded at once
constexpr int64_t kLanes = 64;         // lanes of such a fold, columns of a block
constexpr int64_t kRecipeLanes = 32;   // of a whole row in a recipe (device/recipe.h)
constexpr int64_t kRowGroup = 64;      // rows folded one after the other
constexpr int64_t kMostGroups = 64;    // of rows that a column kernel has: analyse.cpp sends longer ones to the device
constexpr int64_t kRowScratch = 4096;  // elements of a row that may wait in scratch
constexpr int64_t kRunsRounded = 128;  // scratch for runs comes in multiples of this
constexpr int64_t kPart = 1 << 20;     // instructions of one part of a parallel run, about, …
constexpr int64_t kFewParts = 8;       // … an eighth of that where they would be fewer
constexpr int32_t kScratchBase = 1 << 24;

int instruction_cost(const ir::ScalarInstr& i) {
  switch (i.op) {
    case ScalarOp::Input:
    case ScalarOp::Const:
      return 0;
    case ScalarOp::Exp:
    case ScalarOp::Log:
    case ScalarOp::Tanh:
    case ScalarOp::Erf:
    case ScalarOp::Pow:
    case ScalarOp::Sin:
    case ScalarOp::Cos:
      return 30;
    case ScalarOp::Div:
    case ScalarOp::Sqrt:
      return 4;
    default:
      return 1;
  }
}

ScalarOp combine_op(cpu::Fold fold) {
  constexpr ScalarOp kOps[] = {ScalarOp::Add, ScalarOp::Mul, ScalarOp::Max, ScalarOp::Min};
  return kOps[static_cast<size_t>(fold)];
}

// A register, and whether it was computed outside of the innermost loops, once for a row.
struct Value {
  int32_t reg = -1;
  bool of_row = false;
};

// Where code is added, and at which element it is.
struct Context {
  std::vector<Stmt>* body = nullptr;
  std::vector<Index> at;   // for each axis
  Context* row = nullptr;  // the context of the row around, for what does not change along it; null: this is it
  std::map<int32_t, Value> values;  // of storages that the group computes
  std::vector<std::pair<std::pair<int32_t, Index>, int32_t>> loads;
};

Index plus(Index a, const Index& b) {
  a.constant += b.constant;
  for (const auto& t : b.terms) a.add(t.loop, t.factor);
  return a;
}
Index times(Index a, int64_t factor) {
  if (factor == 0) return {};
  a.constant *= factor;
  for (auto& t : a.terms) t.factor *= factor;
  return a;
}
Index constant_index(int64_t c) {
  Index i;
  i.constant = c;
  return i;
}

// Of row-major memory over these axes; 0 along a loop of one iteration around others, as windows have it.
Shape flat_strides(const Shape& axes) {
  Shape strides = contiguous_strides(axes);
  for (size_t a = 0; a + 1 < axes.size(); ++a) {
    if (axes[a] == 1) strides[a] = 0;
  }
  return strides;
}

class Lowering {
 public:
  Lowering(const CoreGraph& graph, const Group& group, const std::vector<bool>& stored, bool general)
      : g_(graph), group_(group), stored_(stored), general_(general) {}

  LoweredKernel rows();
  // Columns [first, first + blocks * width) in blocks.
  LoweredKernel columns(int64_t first, int64_t blocks, int64_t width);

 private:
  [[nodiscard]] const CoreNode& node(int32_t i) const { return g_.nodes[static_cast<size_t>(i)]; }
  [[nodiscard]] DType dtype_of(int32_t storage) const { return g_.storages[static_cast<size_t>(storage)].dtype; }
  [[nodiscard]] bool is_stored(int32_t storage) const { return stored_[static_cast<size_t>(storage)]; }
  // The member that computes the storage, or null.
  [[nodiscard]] const CoreNode* member(int32_t storage) const {
    const int32_t p = g_.storages[static_cast<size_t>(storage)].node;
    return p >= 0 && std::binary_search(group_.members.begin(), group_.members.end(), p) ? &node(p) : nullptr;
  }

  // ---- pieces of loop IR -------------------------------------------------------------------
  int32_t new_loop() { return k_.loops++; }
  int32_t scratch(DType dtype, int64_t size) {
    k_.scratch.push_back({dtype, size, false});
    return kScratchBase + static_cast<int32_t>(k_.scratch.size()) - 1;
  }
  int32_t buffer(int32_t storage, bool output) {
    auto [it, fresh] = buffers_.try_emplace(storage, static_cast<int32_t>(k_.buffers.size()));
    if (fresh) {
      const Storage& s = g_.storages[static_cast<size_t>(storage)];
      k_.buffers.push_back({s.dtype, s.size, output});
      result_.storages.push_back(storage);
      result_.pointwise.push_back(!output && group_.kind == GroupKind::Map);
    }
    return it->second;
  }
  Index loop_index(int32_t loop) {
    Index i;
    i.add(loop, 1);
    return i;
  }
  int32_t emit(std::vector<Stmt>& body, ScalarOp op, DType dtype, std::initializer_list<int32_t> args) {
    Stmt s;
    s.op = op;
    s.dtype = dtype;
    s.result = k_.registers++;
    int n = 0;
    for (int32_t a : args) s.args[n++] = a;
    body.push_back(s);
    return s.result;
  }
  int32_t load(std::vector<Stmt>& body, int32_t buffer, DType dtype, const Index& index) {
    Stmt s;
    s.kind = StmtKind::Load;
    s.dtype = dtype;
    s.result = k_.registers++;
    s.buffer = buffer;
    s.index = index;
    body.push_back(s);
    return s.result;
  }
  static void store(std::vector<Stmt>& body, int32_t buffer, DType dtype, const Index& index, int32_t value) {
    Stmt s;
    s.kind = StmtKind::Store;
    s.dtype = dtype;
    s.args[0] = value;
    s.buffer = buffer;
    s.index = index;
    body.push_back(s);
  }
  void add_loop(std::vector<Stmt>& body, int32_t loop, int64_t extent, bool vec, bool unroll,
                std::vector<Stmt> inner) const {
    if (extent == 0 && !general_) return;
    Stmt s;
    s.kind = StmtKind::For;
    s.loop = loop;
    s.extent = extent;
    s.vec = vec;
    s.unroll = unroll;
    s.body = std::move(inner);
    body.push_back(std::move(s));
  }
  // What follows happens only if `condition` holds: a loop of one or no iteration.
  void add_if(std::vector<Stmt>& body, bool condition, std::vector<Stmt> inner) {
    add_loop(body, new_loop(), condition ? 1 : 0, false, false, std::move(inner));
  }
  int32_t neutral(std::vector<Stmt>& body, const CoreNode& f) {
    Stmt s = neutral_of(f.fold, f.acc);
    if (f.recipe) s.real = f.empty;
    s.result = k_.registers++;
    body.push_back(s);
    return s.result;
  }
  // lanes[i] = neutral for i < n.
  void clear(std::vector<Stmt>& body, const CoreNode& f, int32_t lanes, int64_t n, bool unroll) {
    std::vector<Stmt> inner;
    const int32_t j = new_loop();
    store(inner, lanes, f.acc, loop_index(j), neutral(inner, f));
    add_loop(body, j, n, true, unroll, std::move(inner));
  }
  // to[i] = to[i] ∘ from[i] for i < n, both scratch.
  void combine(std::vector<Stmt>& body, const CoreNode& f, int32_t buffer, const Index& to, const Index& from,
               int64_t n, bool unroll) {
    std::vector<Stmt> inner;
    const int32_t j = new_loop();
    const Index a = plus(to, loop_index(j)), b = plus(from, loop_index(j));
    const int32_t x = load(inner, buffer, f.acc, a), y = load(inner, buffer, f.acc, b);
    store(inner, buffer, f.acc, a, emit(inner, combine_op(f.fold), f.acc, {x, y}));
    add_loop(body, j, n, true, unroll, std::move(inner));
  }
  // Rows of `width` accumulators into the first one, pairwise: (0 1)(2 3) … then (01 23) …
  void combine_pairwise(std::vector<Stmt>& body, const CoreNode& f, int32_t buffer, int64_t count, int64_t most,
                        int64_t width) {
    for (int64_t step = 1; step < (general_ ? std::max(count, most) : count); step *= 2) {
      const int64_t pairs = step < count ? (count - step + 2 * step - 1) / (2 * step) : 0;
      std::vector<Stmt> inner;
      const int32_t i = new_loop();
      const Index to = times(loop_index(i), 2 * step * width);
      combine(inner, f, buffer, to, plus(to, constant_index(step * width)), width, false);
      add_loop(body, i, pairs, false, false, std::move(inner));
    }
  }

  // ---- values ------------------------------------------------------------------------------
  Value operand(Context& c, const Operand& x) {
    const CoreNode* from = member(x.storage);
    if (!from) return outside(c, x);
    if (group_.of_row(*from)) return {row_value(x.storage, *from), true};
    return element_value(c, x.storage, *from);
  }
  Value outside(Context& c, const Operand& x) {
    const bool element = c.at.size() == group_.axes.size();
    Shape strides;
    if (!project(x.window, element ? group_.axes : group_.prefix(), strides)) throw InternalError("not regular");
    if (element && c.row && strides.back() == 0) {
      Index index = index_of(*c.row, strides, x.window.offset);
      return {cached_load(*c.row, x.storage, index), true};
    }
    return {cached_load(c, x.storage, index_of(c, strides, x.window.offset)), !element};
  }
  static Index index_of(const Context& c, const Shape& strides, int64_t offset) {
    Index index;
    index.constant = offset;
    for (size_t a = 0; a < c.at.size(); ++a) index = plus(index, times(c.at[a], strides[a]));
    return index;
  }
  int32_t cached_load(Context& c, int32_t storage, const Index& index) {
    for (const auto& [key, reg] : c.loads) {
      if (key.first == storage && key.second == index) return reg;
    }
    const int32_t b = buffer(storage, false);
    if (result_.pointwise[static_cast<size_t>(b)] && index != index_of(c, flat_strides(group_.axes), 0))
      result_.pointwise[static_cast<size_t>(b)] = false;
    const int32_t reg = load(*c.body, b, dtype_of(storage), index);
    c.loads.push_back({{storage, index}, reg});
    return reg;
  }
  [[nodiscard]] Index flat(const Context& c) const {
    return index_of(c, flat_strides(c.at.size() == group_.axes.size() ? group_.axes : group_.prefix()), 0);
  }

  Value element_value(Context& c, int32_t storage, const CoreNode& from) {
    if (auto found = c.values.find(storage); found != c.values.end()) return found->second;
    Value v;
    if (auto kept = kept_.find(storage); kept != kept_.end()) {
      const bool in_scratch = kept->second >= kScratchBase;
      v = {load(*c.body, kept->second, dtype_of(storage), in_scratch ? c.at.back() : flat(c)), false};
    } else {
      v = program(c, from);
    }
    c.values[storage] = v;
    return v;
  }
  // The value of a row-level member; folds come first, in order.
  int32_t row_value(int32_t storage, const CoreNode& from) {
    if (auto found = row_->values.find(storage); found != row_->values.end()) return found->second.reg;
    if (from.kind == CoreKind::Fold) throw InternalError("a fold is read before it is done");
    const Value v = program(*row_, from);
    row_->values[storage] = v;
    return v.reg;
  }

  Value program(Context& c, const CoreNode& n) {
    const auto& code = n.program.code;
    std::vector<Value> values(code.size());
    for (size_t i = 0; i < code.size(); ++i) {
      const ir::ScalarInstr& instr = code[i];
      if (instr.op == ScalarOp::Input) {
        values[i] = operand(c, n.operands[static_cast<size_t>(instr.args[0])]);
        continue;
      }
      Stmt s;
      s.op = instr.op;
      s.dtype = instr.dtype;
      s.real = instr.real;
      s.integer = instr.integer;
      s.number = general_ && instr.op == ScalarOp::Const && (!is_float(instr.dtype) || info(instr.dtype).bits >= 32);
      bool of_row = c.row != nullptr;
      for (int a = 0; a < info(instr.op).arity; ++a) {
        const Value& v = values[static_cast<size_t>(instr.args[a])];
        s.args[a] = v.reg;
        of_row = of_row && v.of_row;
      }
      s.result = k_.registers++;
      (of_row ? *c.row->body : *c.body).push_back(s);
      values[i] = {s.result, of_row || c.row == nullptr};
    }
    return values.back();
  }

  int32_t converted(std::vector<Stmt>& body, int32_t reg, DType from, DType to) {
    return from == to ? reg : emit(body, ScalarOp::Cast, to, {reg});
  }
  // From the accumulator to the result.
  int32_t delivered(std::vector<Stmt>& body, const CoreNode& f, int32_t reg) {
    DType from = f.acc;
    if (f.signed_again) {
      reg = emit(body, ScalarOp::Bitcast, DType::I64, {reg});
      from = DType::I64;
    }
    return converted(body, reg, from, dtype_of(f.results[0]));
  }
  // What a fold takes in at this element.
  int32_t folded_element(Context& c, const CoreNode& f) {
    const int32_t reg = operand(c, f.operands[0]).reg;
    return converted(*c.body, reg, dtype_of(f.operands[0].storage), f.acc);
  }

  // ---- rows --------------------------------------------------------------------------------
  Context element_context(std::vector<Stmt>& body, const Index& position) {
    Context c;
    c.body = &body;
    c.at = row_->at;
    c.at.push_back(position);
    c.row = row_;
    return c;
  }
  [[nodiscard]] int cost(int32_t storage) const {
    const CoreNode* from = member(storage);
    if (!from || group_.of_row(*from) || kept_.contains(storage)) return 1;
    int total = cost_of(from->program);
    for (const Operand& x : from->operands) total += x.storage >= 0 ? cost(x.storage) : 0;
    return total;
  }
  void keep(int32_t storage);
  void fold_row(const CoreNode& f);
  int32_t fold_run(std::vector<Stmt>& body, const CoreNode& f, const Index& base, int64_t n);
  int32_t fold_few(std::vector<Stmt>& body, const CoreNode& f, const Index& base, int64_t n);
  int32_t fold_lanes(std::vector<Stmt>& body, const CoreNode& f, const Index& base, int64_t n, int64_t width);
  void store_elements();

  LoweredKernel finish(int64_t iterations) {
    // Scratch is numbered on from the buffers.
    renumber(k_.root);
    int64_t work = 1;
    for (int32_t m : group_.members) {
      const CoreNode& n = node(m);
      work += numel(n.shape) * (2 + cost_of(n.program));
    }
    const int64_t each = std::max<int64_t>(1, work / std::max<int64_t>(1, iterations));
    result_.worth = static_cast<double>(work) / static_cast<double>(kPart);
    result_.grain = std::max<int64_t>(1, (work < kFewParts * kPart ? kPart / 8 : kPart) / each);
    if (k_.root.vec) result_.grain = (result_.grain + 1023) / 1024 * 1024;
    result_.kernel = std::move(k_);
    return std::move(result_);
  }
  void renumber(Stmt& s) {
    if (s.buffer >= kScratchBase) s.buffer += static_cast<int32_t>(k_.buffers.size()) - kScratchBase;
    for (Stmt& inner : s.body) renumber(inner);
  }

  const CoreGraph& g_;
  const Group& group_;
  const std::vector<bool>& stored_;
  bool general_;
  Kernel k_;
  LoweredKernel result_;
  std::map<int32_t, int32_t> buffers_;  // by storage
  std::map<int32_t, int32_t> kept_;  // element-level storages that wait: in scratch along the row, or in their output
  Context* row_ = nullptr;
};

// Computes an element-level value for the whole row and keeps it.
void Lowering::keep(int32_t storage) {
  std::vector<Stmt> body;
  const int32_t j = new_loop();
  Context c = element_context(body, loop_index(j));
  const int32_t v = element_value(c, storage, *member(storage)).reg;
  const bool output = is_stored(storage);
  const int32_t to = output ? buffer(storage, true) : scratch(dtype_of(storage), kRowScratch);
  store(body, to, dtype_of(storage), output ? flat(c) : loop_index(j), v);
  add_loop(*row_->body, j, group_.n, true, false, std::move(body));
  kept_[storage] = to;
}

// One run of at most kRun elements: the order of fold_run in device/cpu/level_reduce.h.
int32_t Lowering::fold_run(std::vector<Stmt>& body, const CoreNode& f, const Index& base, int64_t n) {
  if (!general_) return n < kLanes ? fold_few(body, f, base, n) : fold_lanes(body, f, base, n, kLanes);
  const int32_t result = scratch(f.acc, 1);
  std::vector<Stmt> few, many;
  store(few, result, f.acc, {}, fold_few(few, f, base, n < kLanes ? n : 0));
  add_if(body, n < kLanes, std::move(few));
  store(many, result, f.acc, {}, fold_lanes(many, f, base, n < kLanes ? 0 : n, kLanes));
  add_if(body, n >= kLanes, std::move(many));
  return load(body, result, f.acc, {});
}
// In order.
int32_t Lowering::fold_few(std::vector<Stmt>& body, const CoreNode& f, const Index& base, int64_t n) {
  const int32_t acc = scratch(f.acc, 1);
  store(body, acc, f.acc, {}, neutral(body, f));
  std::vector<Stmt> inner;
  const int32_t i = new_loop();
  Context c = element_context(inner, plus(base, loop_index(i)));
  const int32_t x = folded_element(c, f);
  const int32_t a = load(inner, acc, f.acc, {});
  store(inner, acc, f.acc, {}, emit(inner, combine_op(f.fold), f.acc, {a, x}));
  add_loop(body, i, n, false, false, std::move(inner));
  return load(body, acc, f.acc, {});
}
// In `width` lanes, and a tree of them.
int32_t Lowering::fold_lanes(std::vector<Stmt>& body, const CoreNode& f, const Index& base, int64_t n, int64_t width) {
  const int32_t lanes = scratch(f.acc, width);
  clear(body, f, lanes, width, true);
  const auto step = [&](std::vector<Stmt>& to, const Index& start, int64_t count, bool unroll) {
    std::vector<Stmt> inner;
    const int32_t j = new_loop();
    Context c = element_context(inner, plus(start, loop_index(j)));
    const int32_t x = folded_element(c, f);
    const int32_t a = load(inner, lanes, f.acc, loop_index(j));
    store(inner, lanes, f.acc, loop_index(j), emit(inner, combine_op(f.fold), f.acc, {a, x}));
    add_loop(to, j, count, true, unroll, std::move(inner));
  };
  if (general_ || n >= width) {
    std::vector<Stmt> whole;
    const int32_t i = new_loop();
    step(whole, plus(base, times(loop_index(i), width)), width, true);
    add_loop(body, i, n / width, false, false, std::move(whole));
  }
  step(body, plus(base, constant_index(n / width * width)), n % width, false);
  for (int64_t half = width / 2; half > 0; half /= 2) combine(body, f, lanes, {}, constant_index(half), half, true);
  return load(body, lanes, f.acc, {});
}

void Lowering::fold_row(const CoreNode& f) {
  const int32_t storage = f.operands[0].storage;
  const CoreNode* from = member(storage);
  // A dear operand is computed once, into its output or scratch.
  if (from && !group_.of_row(*from) && !kept_.contains(storage)) {
    if (is_stored(storage) || (cost(storage) > 8 && group_.n <= kRowScratch)) keep(storage);
  }
  std::vector<Stmt>& body = *row_->body;
  const int64_t runs = (group_.n + kRun - 1) / kRun;
  int32_t acc = -1;
  if (f.recipe) {
    acc = fold_lanes(body, f, {}, group_.n, kRecipeLanes);
  } else if (runs == 1) {
    acc = fold_run(body, f, {}, group_.n);
  } else {
    const int32_t partial = scratch(f.acc, (runs + kRunsRounded - 1) / kRunsRounded * kRunsRounded);
    const int64_t whole = group_.n / kRun;
    std::vector<Stmt> inner;
    const int32_t p = new_loop();
    const int32_t one = fold_run(inner, f, times(loop_index(p), kRun), kRun);
    store(inner, partial, f.acc, loop_index(p), one);
    add_loop(body, p, whole, false, false, std::move(inner));
    if (general_ || whole < runs) {
      std::vector<Stmt> rest;
      const int32_t last = fold_run(rest, f, constant_index(whole * kRun), group_.n - whole * kRun);
      store(rest, partial, f.acc, constant_index(whole), last);
      add_if(body, whole < runs, std::move(rest));
    }
    combine_pairwise(body, f, partial, runs, kRunsRounded, 1);
    acc = load(body, partial, f.acc, {});
  }
  row_->values[f.results[0]] = {delivered(body, f, acc), true};
}

// The element-level results that are not stored yet, in one loop: all loads come before the stores.
void Lowering::store_elements() {
  std::vector<Stmt> body;
  const int32_t j = new_loop();
  Context c = element_context(body, loop_index(j));
  std::vector<std::pair<int32_t, int32_t>> results;
  for (int32_t m : group_.members) {
    const CoreNode& n = node(m);
    const int32_t s = n.results[0];
    if (group_.of_row(n) || !is_stored(s) || kept_.contains(s)) continue;
    results.emplace_back(s, element_value(c, s, n).reg);
  }
  if (results.empty()) return;
  for (const auto& [s, reg] : results) store(body, buffer(s, true), dtype_of(s), flat(c), reg);
  add_loop(*row_->body, j, group_.n, true, false, std::move(body));
}

LoweredKernel Lowering::rows() {
  std::vector<Stmt> body;
  Context row;
  row.body = &body;
  row_ = &row;
  const Shape prefix = group_.prefix();
  std::vector<int32_t> loops;
  for (size_t a = 0; a < prefix.size(); ++a) {
    loops.push_back(new_loop());
    row.at.push_back(loop_index(loops.back()));
  }
  for (int32_t m : group_.members) {
    if (node(m).kind == CoreKind::Fold) fold_row(node(m));
  }
  store_elements();
  for (int32_t m : group_.members) {
    const CoreNode& n = node(m);
    const int32_t s = n.results[0];
    if (!group_.of_row(n) || !is_stored(s)) continue;
    const int32_t v = row_value(s, n);
    store(body, buffer(s, true), dtype_of(s), flat(row), v);
  }
  for (size_t a = prefix.size(); a-- > 0;) {
    std::vector<Stmt> outer;
    add_loop(outer, loops[a], prefix[a], false, false, std::move(body));
    body = std::move(outer);
  }
  k_.root = std::move(body[0]);
  // A single long loop is the parallel one itself.
  if (prefix.size() == 1 && prefix[0] == 1 && group_.kind == GroupKind::Map) {
    Stmt inner = std::move(k_.root.body.back());
    std::vector<Stmt> before(std::make_move_iterator(k_.root.body.begin()),
                             std::make_move_iterator(k_.root.body.end() - 1));
    before.insert(before.end(), std::make_move_iterator(inner.body.begin()), std::make_move_iterator(inner.body.end()));
    inner.body = std::move(before);
    const int32_t gone = k_.root.loop;
    const auto clear = [gone](const auto& self, Stmt& s) -> void {
      std::erase_if(s.index.terms, [gone](const IndexTerm& t) { return t.loop == gone; });
      for (Stmt& b : s.body) self(self, b);
    };
    clear(clear, inner);
    k_.root = std::move(inner);
  }
  k_.root.parallel = true;
  return finish(k_.root.extent);
}

LoweredKernel Lowering::columns(int64_t first, int64_t blocks, int64_t width) {
  const int64_t groups = (group_.n + kRowGroup - 1) / kRowGroup;
  const bool grouped = general_ || groups > 1;
  const int32_t o = new_loop(), b = new_loop();
  const Index outer = loop_index(o);
  const Index start = plus(times(loop_index(b), kLanes), constant_index(first));
  std::vector<Stmt> body;
  std::vector<const CoreNode*> folds;
  std::vector<int32_t> lanes, partial;
  int total = 0;
  for (int32_t m : group_.members) {
    total += cost_of(node(m).program) + 2;
    if (node(m).kind != CoreKind::Fold) continue;
    folds.push_back(&node(m));
    lanes.push_back(scratch(node(m).acc, kLanes));
    partial.push_back(grouped ? scratch(node(m).acc, kMostGroups * kLanes) : -1);
  }
  const bool unroll = total <= 40 && width == kLanes;
  const auto row = [&](std::vector<Stmt>& to, const Index& at) {
    std::vector<Stmt> inner;
    const int32_t j = new_loop();
    Context c;
    c.body = &inner;
    c.at = {outer, at, plus(start, loop_index(j))};
    std::vector<int32_t> elements;
    for (const CoreNode* f : folds) elements.push_back(folded_element(c, *f));
    for (size_t i = 0; i < folds.size(); ++i) {
      const CoreNode& f = *folds[i];
      const int32_t sum =
          emit(inner, combine_op(f.fold), f.acc, {load(inner, lanes[i], f.acc, loop_index(j)), elements[i]});
      store(inner, lanes[i], f.acc, loop_index(j), sum);
    }
    for (int32_t m : group_.members) {
      const int32_t s = node(m).results[0];
      if (node(m).kind == CoreKind::Fold || !is_stored(s)) continue;
      store(inner, buffer(s, true), dtype_of(s), flat(c), element_value(c, s, node(m)).reg);
    }
    add_loop(to, j, width, true, unroll, std::move(inner));
  };
  const auto rows_of = [&](std::vector<Stmt>& to, const Index& base, int64_t count, const Index& group) {
    for (size_t i = 0; i < folds.size(); ++i) clear(to, *folds[i], lanes[i], kLanes, true);
    std::vector<Stmt> rows;
    const int32_t r = new_loop();
    row(rows, plus(base, loop_index(r)));
    add_loop(to, r, count, false, false, std::move(rows));
    if (!grouped) return;
    for (size_t i = 0; i < folds.size(); ++i) {
      std::vector<Stmt> inner;
      const int32_t j = new_loop();
      store(inner, partial[i], folds[i]->acc, plus(times(group, kLanes), loop_index(j)),
            load(inner, lanes[i], folds[i]->acc, loop_index(j)));
      add_loop(to, j, kLanes, true, true, std::move(inner));
    }
  };
  const int64_t whole = group_.n / kRowGroup;
  if (!grouped) {
    rows_of(body, {}, group_.n, {});
  } else {
    std::vector<Stmt> inner;
    const int32_t g = new_loop();
    rows_of(inner, times(loop_index(g), kRowGroup), kRowGroup, loop_index(g));
    add_loop(body, g, whole, false, false, std::move(inner));
    if (general_ || whole < groups) {
      std::vector<Stmt> rest;
      rows_of(rest, constant_index(whole * kRowGroup), group_.n - whole * kRowGroup, constant_index(whole));
      add_if(body, whole < groups, std::move(rest));
    }
  }
  for (size_t i = 0; i < folds.size(); ++i) {
    const CoreNode& f = *folds[i];
    if (grouped) combine_pairwise(body, f, partial[i], groups, kMostGroups, kLanes);
    std::vector<Stmt> inner;
    const int32_t j = new_loop();
    const int32_t x = load(inner, grouped ? partial[i] : lanes[i], f.acc, loop_index(j));
    const int32_t s = f.results[0];
    store(inner, buffer(s, true), dtype_of(s), plus(times(outer, group_.columns), plus(start, loop_index(j))),
          delivered(inner, f, x));
    add_loop(body, j, width, true, false, std::move(inner));
  }
  // The longer of the two loops is the parallel one.
  const bool by_block = group_.outer == 1;
  std::vector<Stmt> inner, root;
  add_loop(inner, by_block ? o : b, by_block ? group_.outer : blocks, false, false, std::move(body));
  add_loop(root, by_block ? b : o, by_block ? blocks : group_.outer, false, false, std::move(inner));
  k_.root = std::move(root[0]);
  k_.root.parallel = true;
  return finish(k_.root.extent);
}

// Neighbouring axes along which every operand is one run are one axis.
void collapse(const CoreGraph& graph, Group& group) {
  if (group.kind == GroupKind::Column) return;
  const size_t keep = group.kind == GroupKind::Row ? 1 : 0;  // the folded axis stays by itself
  std::vector<Shape> strides;
  for (int32_t m : group.members) {
    const CoreNode& n = graph.nodes[static_cast<size_t>(m)];
    for (const Operand& x : n.operands) {
      const bool row = n.kind == CoreKind::Map && group.of_row(n);
      Shape s;
      // Only operands that are not regular over fewer axes forbid anything; those inside the group are flat.
      if (!project(x.window, row ? group.prefix() : group.axes, s)) continue;
      if (row) s.push_back(0);
      strides.push_back(s);
    }
  }
  Shape axes;
  std::vector<size_t> from;  // the last old axis of each new one
  for (size_t a = 0; a < group.axes.size(); ++a) {
    if (group.axes[a] == 1 && a + 1 < group.axes.size() && a + 1 + keep <= group.axes.size()) continue;
    const bool folded = keep == 1 && a + 1 == group.axes.size();
    bool join = !axes.empty() && !folded;
    for (const Shape& s : strides) join = join && s[from.back()] == s[a] * group.axes[a];
    if (join) {
      axes.back() *= group.axes[a];
      from.back() = a;
    } else {
      axes.push_back(group.axes[a]);
      from.push_back(a);
    }
  }
  if (axes.size() < 2) axes.insert(axes.begin(), 1);  // a loop over rows there is always
  group.axes = axes;
  group.n = axes.back();
}

}  // namespace

int cost_of(const ir::ScalarProgram& program) {
  int cost = 0;
  for (const auto& i : program.code) cost += instruction_cost(i);
  return cost;
}

Stmt neutral_of(cpu::Fold fold, DType acc) {
  const bool low = fold == cpu::Fold::Max, prod = fold == cpu::Fold::Prod, sum = fold == cpu::Fold::Sum;
  Stmt s;
  s.dtype = acc;
  if (is_float(acc)) {
    s.real = sum ? -0.0 : prod ? 1.0 : std::numeric_limits<double>::infinity() * (low ? -1 : 1);
  } else if (sum || prod) {
    s.integer = prod ? 1 : 0;
  } else {
    const int bits = acc == DType::Bool ? 1 : info(acc).bits;
    const bool sign = info(acc).kind == DTypeKind::Signed;
    const uint64_t highest = ~uint64_t{0} >> (64 - bits + (sign ? 1 : 0));
    s.integer = static_cast<int64_t>(low ? (sign ? ~highest : 0) : highest);
  }
  return s;
}

std::vector<LoweredKernel> lower(const CoreGraph& graph, const Group& original, const std::vector<bool>& stored,
                                 bool general) {
  Group group = original;
  collapse(graph, group);
  std::vector<LoweredKernel> kernels;
  if (group.kind != GroupKind::Column) {
    kernels.push_back(Lowering(graph, group, stored, general).rows());
    return kernels;
  }
  const int64_t blocks = group.columns / kLanes, rest = group.columns % kLanes;
  // General: both, so that the first size with whole blocks needs no kernel that those before it did not.
  if (general || blocks > 0) kernels.push_back(Lowering(graph, group, stored, general).columns(0, blocks, kLanes));
  if (general || rest > 0)
    kernels.push_back(Lowering(graph, group, stored, general).columns(blocks * kLanes, rest > 0 ? 1 : 0, rest));
  return kernels;
}

}  // namespace tenon::compiler
