// What a well-formed kernel is.
#include <fmt/format.h>

#include <algorithm>

#include "tenon/compile/loop_ir.h"

namespace tenon::compiler {
namespace {

class Verifier {
 public:
  explicit Verifier(const Kernel& k) : k_(k) {}

  std::string run() {
    if (k_.root.kind != StmtKind::For || !k_.root.parallel) return "the kernel is not one parallel loop";
    for (const auto* list : {&k_.buffers, &k_.scratch}) {
      for (const auto& b : *list) {
        if (b.size < 0) return "a buffer of negative size";
        if (info(b.dtype).bits < 8) return fmt::format("a buffer of {}: elements are whole bytes here", name(b.dtype));
      }
    }
    types_.resize(static_cast<size_t>(k_.registers));
    defined_.resize(types_.size());
    extents_.resize(static_cast<size_t>(k_.loops), -1);
    statement(k_.root, false);
    return problem_;
  }

 private:
  void fail(std::string text) {
    if (problem_.empty()) problem_ = std::move(text);
  }
  DType use(int32_t r) {
    if (r < 0 || r >= k_.registers || !defined_[static_cast<size_t>(r)]) {
      fail(fmt::format("%{} is used where it has no value", r));
      return DType::F32;
    }
    return types_[static_cast<size_t>(r)];
  }
  void define(int32_t r, DType dtype) {
    if (r < 0 || r >= k_.registers) return fail(fmt::format("%{} is out of range", r));
    if (defined_[static_cast<size_t>(r)]) return fail(fmt::format("%{} is assigned twice", r));
    defined_[static_cast<size_t>(r)] = true;
    types_[static_cast<size_t>(r)] = dtype;
    scope_.push_back(r);
  }
  void index(const Stmt& s) {
    const auto total = static_cast<int32_t>(k_.buffers.size() + k_.scratch.size());
    if (s.buffer < 0 || s.buffer >= total) return fail("no such buffer");
    int64_t low = s.index.constant, high = s.index.constant;
    for (const auto& term : s.index.terms) {
      if (term.loop < 0 || term.loop >= k_.loops || extents_[static_cast<size_t>(term.loop)] < 0)
        return fail(fmt::format("i{} is used outside of its loop", term.loop));
      const int64_t last = (extents_[static_cast<size_t>(term.loop)] - 1) * term.factor;
      (term.factor < 0 ? low : high) += last;
    }
    if (never_ == 0 && (low < 0 || high >= k_.buffer(s.buffer).size)) {
      fail(fmt::format("indices {} to {} of a buffer of {} elements", low, high, k_.buffer(s.buffer).size));
    }
  }

  void statement(const Stmt& s, bool inside_vec) {
    switch (s.kind) {
      case StmtKind::For:
        loop(s, inside_vec);
        return;
      case StmtKind::Load:
        index(s);
        if (!problem_.empty()) return;
        if (k_.buffer(s.buffer).dtype != s.dtype) fail("a load has another dtype than its buffer");
        define(s.result, s.dtype);
        return;
      case StmtKind::Store: {
        index(s);
        if (!problem_.empty()) return;
        const auto b = static_cast<size_t>(s.buffer);
        if (b < k_.buffers.size() && !k_.buffers[b].output) fail("a store to an input");
        if (use(s.args[0]) != k_.buffer(s.buffer).dtype) fail("a store has another dtype than its buffer");
        return;
      }
      case StmtKind::Scalar:
        scalar(s);
        return;
    }
  }

  void loop(const Stmt& s, bool inside_vec) {
    if (inside_vec) return fail("a loop inside a vec loop");
    if (s.parallel && &s != &k_.root) return fail("an inner loop is parallel");
    if (s.loop < 0 || s.loop >= k_.loops || extents_[static_cast<size_t>(s.loop)] >= 0)
      return fail(fmt::format("i{} is not the number of a new loop", s.loop));
    if (s.extent < 0) return fail("a loop of fewer than no iterations");
    if (s.unroll && s.extent > 1024) return fail("a long loop is unrolled");
    extents_[static_cast<size_t>(s.loop)] = s.extent;
    const size_t outer = scope_.size();
    never_ += s.extent == 0 ? 1 : 0;
    for (const Stmt& inner : s.body) {
      statement(inner, s.vec);
      if (!problem_.empty()) return;
    }
    if (s.vec) independent(s);
    never_ -= s.extent == 0 ? 1 : 0;
    while (scope_.size() > outer) {
      defined_[static_cast<size_t>(scope_.back())] = false;
      scope_.pop_back();
    }
    extents_[static_cast<size_t>(s.loop)] = -1;
  }

  // What one iteration stores, no other iteration may touch.
  void independent(const Stmt& s) {
    for (const Stmt& store : s.body) {
      if (store.kind != StmtKind::Store) continue;
      const int64_t stride = store.index.factor(s.loop);
      if (stride == 0) return fail("all iterations of a vec loop store to one place");
      for (const Stmt& other : s.body) {
        if (&other == &store || other.buffer != store.buffer || other.kind == StmtKind::Scalar) continue;
        if (other.index.terms != store.index.terms) return fail("iterations of a vec loop may meet in a buffer");
        const int64_t apart = std::abs(other.index.constant - store.index.constant);
        if (apart != 0 && apart % stride == 0 && apart / std::abs(stride) < s.extent)
          return fail("iterations of a vec loop meet in a buffer");
      }
    }
  }

  void scalar(const Stmt& s) {
    const ir::ScalarOpInfo& op = info(s.op);
    if (s.op == ir::ScalarOp::Input) return fail("an input of a scalar program in a kernel");
    if (s.number && (s.op != ir::ScalarOp::Const || (is_float(s.dtype) && info(s.dtype).bits < 32)))
      return fail("a number that is no constant of 32 or 64 bits");
    DType operand = s.dtype;
    for (int a = 0; a < op.arity; ++a) {
      const DType type = use(s.args[a]);
      if (!problem_.empty()) return;
      if (s.op == ir::ScalarOp::Select && a == 0) {
        if (type != DType::Bool) return fail("select by something that is not bool");
        continue;
      }
      if (a == (s.op == ir::ScalarOp::Select ? 1 : 0)) {
        operand = type;
      } else if (type != operand) {
        return fail(fmt::format("{}: operands of {} and {}", op.name, name(operand), name(type)));
      }
    }
    const bool converts = s.op == ir::ScalarOp::Cast || s.op == ir::ScalarOp::Bitcast || s.op == ir::ScalarOp::Const;
    if (!converts && s.dtype != (op.gives_bool ? DType::Bool : operand))
      return fail(fmt::format("{}: result of {}", op.name, name(s.dtype)));
    if (s.op == ir::ScalarOp::Bitcast && info(operand).bits != info(s.dtype).bits)
      return fail("bitcast between widths");
    define(s.result, s.dtype);
  }

  const Kernel& k_;
  std::string problem_;
  std::vector<DType> types_;
  std::vector<bool> defined_;
  std::vector<int64_t> extents_;
  std::vector<int32_t> scope_;
  int never_ = 0;  // loops around that have no iterations
};

}  // namespace

std::string verify(const Kernel& kernel) { return Verifier(kernel).run(); }

}  // namespace tenon::compiler
