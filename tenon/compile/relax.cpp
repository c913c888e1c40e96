// Precision::Fast in the loop IR: fewer roundings.
#include <unordered_map>
#include <vector>

#include "tenon/compile/loop_ir.h"
#include "tenon/tensor/half.h"

namespace tenon::compiler {
namespace {

using ir::ScalarOp;

bool is_scalar(const Stmt& s, ScalarOp op) { return s.kind == StmtKind::Scalar && s.op == op; }
int operands(const Stmt& s) {
  if (s.kind == StmtKind::Store) return 1;
  return s.kind == StmtKind::Scalar ? ir::info(s.op).arity : 0;
}

class Relaxation {
 public:
  explicit Relaxation(Kernel& kernel) : kernel_(kernel) {}
  void run(bool contract) {
    define(kernel_.root.body);
    keep_wide(kernel_.root.body);
    count(kernel_.root.body);
    if (contract) this->contract(kernel_.root.body);
    while (drop_unread(kernel_.root.body)) {
    }
  }

 private:
  void define(const std::vector<Stmt>& body) {
    for (const Stmt& s : body) {
      if (s.kind == StmtKind::For) define(s.body);
      if (s.result >= 0) made_[s.result] = s;
    }
  }
  // x rounded to a half and back again is x.
  void keep_wide(std::vector<Stmt>& body) {
    for (Stmt& s : body) {
      if (s.kind == StmtKind::For) keep_wide(s.body);
      for (int a = 0; a < operands(s); ++a) {
        const Stmt& outer = made_[s.args[a]];
        if (!is_scalar(outer, ScalarOp::Cast) || outer.dtype != DType::F32) continue;
        const Stmt& inner = made_[outer.args[0]];
        if (!is_scalar(inner, ScalarOp::Cast) || !is_half(inner.dtype)) continue;
        if (made_[inner.args[0]].dtype == DType::F32) s.args[a] = inner.args[0];
      }
      // What reads this one sees the operands that it has now.
      if (s.result >= 0) made_[s.result] = s;
    }
  }
  void count(const std::vector<Stmt>& body) {
    for (const Stmt& s : body) {
      if (s.kind == StmtKind::For) count(s.body);
      for (int a = 0; a < operands(s); ++a) ++reads_[s.args[a]];
    }
  }
  // a * b + c, where nobody else reads the product, with one rounding.
  void contract(std::vector<Stmt>& body) {
    for (Stmt& s : body) {
      if (s.kind == StmtKind::For) contract(s.body);
      if (!is_scalar(s, ScalarOp::Add) || (s.dtype != DType::F32 && s.dtype != DType::F64)) continue;
      for (int a = 0; a < 2; ++a) {
        const Stmt& product = made_[s.args[a]];
        if (!is_scalar(product, ScalarOp::Mul) || reads_[product.result] != 1) continue;
        const int32_t other = s.args[1 - a];
        --reads_[product.result];
        s.op = ScalarOp::Fma;
        s.args[0] = product.args[0];
        s.args[1] = product.args[1];
        s.args[2] = other;
        ++reads_[s.args[0]];
        ++reads_[s.args[1]];
        break;
      }
    }
  }
  bool drop_unread(std::vector<Stmt>& body) {
    bool dropped = false;
    for (Stmt& s : body) {
      if (s.kind == StmtKind::For) dropped = drop_unread(s.body) || dropped;
    }
    const auto unread = [&](const Stmt& s) {
      if (s.kind != StmtKind::Scalar || reads_[s.result] != 0) return false;
      for (int a = 0; a < operands(s); ++a) --reads_[s.args[a]];
      return true;
    };
    return std::erase_if(body, unread) > 0 || dropped;
  }

  Kernel& kernel_;
  std::unordered_map<int32_t, Stmt> made_;  // by register; of loops nothing
  std::unordered_map<int32_t, int32_t> reads_;
};

}  // namespace

void relax(Kernel& kernel, bool contract) { Relaxation(kernel).run(contract); }

}  // namespace tenon::compiler
