// Control flow as ops: a branch and two loops over graphs held in attributes.
//
// Users call cond, while_loop and scan (trace/control.h); these ops are what captured programs hold. The graphs
// use nothing from outside: what they need comes in through operands, those of the loop's own first. `scan` is declared
// here and defined in trace/control.cpp, so that bodies of ops can loop.
#pragma once

#include <functional>

#include "tenon/ops/opdef.h"

namespace tenon {

struct ScanStep {
  Tensors carry;
  Tensors rows;
};
struct ScanOptions {
  int64_t length = -1;  // needed if nothing is scanned
  bool reverse = false;
};
// For each t: (carry, rows) = body(carry, {xs[0][t], xs[1][t], …}). Gives the last carry, and the rows stacked along a
// new first axis. Differentiable everywhere; in a capture the way back computes each step again from its carry.
// Errors: ShapeError if the xs disagree on their first extent; ValueError without xs and length.
ScanStep scan(const std::function<ScanStep(const Tensors& carry, const Tensors& x)>& body, Tensors carry,
              const Tensors& xs, const ScanOptions& options = {});

}  // namespace tenon

namespace tenon::ops {

// cond(predicate: bool[], operands…; then, otherwise): one of two graphs from `operands` to results of equal types.
const OpDef& cond_op();

// while(carried…, constants…; condition, body, carried): while condition(carried, constants) — one bool[] — holds,
// carried = body(carried, constants).
const OpDef& while_op();
struct WhileAttrs {
  explicit WhileAttrs(const ir::Attrs& attrs);
  const ir::Graph &condition, &body;
  size_t carried;
};

// scan(carried…, scanned…, constants…; body, carried, scanned, length, reverse): for each t below `length`, in order
// or backwards, (carried…, rows…) = body(carried…, scanned[t]…, constants…). Gives the last carried values, then the
// rows stacked along a new first axis, row t at place t.
const OpDef& scan_op();
struct ScanAttrs {
  explicit ScanAttrs(const ir::Attrs& attrs);
  const ir::Graph& body;
  size_t carried, scanned;
  int64_t length;
  bool reverse;
};
// The attributes of a scan with this body in place of its own.
ir::Attrs with_body(const ir::Attrs& scan, ir::GraphPtr body);

std::vector<const OpDef*> control_ops();

}  // namespace tenon::ops
