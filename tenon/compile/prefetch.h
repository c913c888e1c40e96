// What the longest inner loop of a kernel asks the memory for ahead of its use: decided on the loop IR, emitted by
// llvm/emit.cpp. Nothing that is computed depends on it.
//
// A row kernel reads its row in one loop, computes in another and writes in a third; each then waits for the memory or
// for the arithmetic, not both at once. So the loop with the long body fetches, line by line as it goes, what the
// others need next: of what was read before it the next row, of what is read or written after it this row, of what it
// touches itself some way further on.
#pragma once

#include <vector>

#include "tenon/compile/loop_ir.h"

namespace tenon::compiler {

struct Prefetch {
  enum class Where : uint8_t { ThisRow, NextRow, Further };
  const Stmt* access = nullptr;  // a load or store of elements that lie side by side
  int32_t along = -1;            // the loop that goes over them
  int32_t row = -1;              // NextRow: the loop over rows
  Where where = Where::Further;
};
inline constexpr int kPrefetchBytes = 2048;  // how far "further on" is
inline constexpr size_t kLongBody = 24;      // statements from which on a loop is not bound by the memory alone

struct PrefetchPlan {
  const Stmt* loop = nullptr;   // in which to fetch; null: nowhere
  std::vector<int32_t> around;  // the loops around it, the outermost first, and itself
  std::vector<Prefetch> what;
};
PrefetchPlan plan_prefetch(const Kernel& kernel);

}  // namespace tenon::compiler
