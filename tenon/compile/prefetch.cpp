#include "tenon/compile/prefetch.h"

#include <algorithm>

namespace tenon::compiler {
namespace {

struct Access {
  const Stmt* stmt = nullptr;
  const Stmt* loop = nullptr;  // the vec loop around it
  int order = 0;               // of that loop among the vec loops
};

struct Walk {
  const Kernel& k;
  std::vector<Access> accesses;
  std::vector<int32_t> around;
  PrefetchPlan plan;
  int loops = 0, heavy = -1;

  void visit(const Stmt& s) {
    around.push_back(s.loop);
    if (s.vec) {
      ++loops;
      if (!s.unroll && s.body.size() > kLongBody && (plan.loop == nullptr || s.body.size() > plan.loop->body.size())) {
        plan.loop = &s;
        plan.around = around;
        heavy = loops;
      }
    }
    for (const Stmt& inner : s.body) {
      if (inner.kind == StmtKind::For) visit(inner);
      const bool touches = inner.kind == StmtKind::Load || inner.kind == StmtKind::Store;
      if (touches && s.vec && static_cast<size_t>(inner.buffer) < k.buffers.size() && inner.index.factor(s.loop) == 1)
        accesses.push_back({&inner, &s, loops});
    }
    around.pop_back();
  }
};

}  // namespace

PrefetchPlan plan_prefetch(const Kernel& kernel) {
  Walk walk{.k = kernel, .accesses = {}, .around = {}, .plan = {}};
  walk.visit(kernel.root);
  PrefetchPlan& plan = walk.plan;
  if (plan.loop == nullptr) return {};
  for (const Access& a : walk.accesses) {
    // Where a buffer is touched first decides.
    const bool known = std::ranges::any_of(plan.what, [&](const Prefetch& p) {
      return p.access->buffer == a.stmt->buffer && p.access->kind == a.stmt->kind;
    });
    if (known) continue;
    Prefetch p{.access = a.stmt, .along = a.loop->loop};
    if (a.order > walk.heavy) {
      p.where = Prefetch::Where::ThisRow;
    } else if (a.order < walk.heavy) {
      p.where = Prefetch::Where::NextRow;
      // The innermost loop that both are in and that moves the access.
      for (const int32_t loop : plan.around)
        if (loop != plan.loop->loop && a.stmt->index.factor(loop) != 0) p.row = loop;
      if (p.row < 0 || a.stmt->kind == StmtKind::Store) continue;
    }
    plan.what.push_back(p);
  }
  return plan;
}

}  // namespace tenon::compiler
