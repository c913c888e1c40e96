// The recorded graph in the compiler's terms: maps over elements, folds, and calls of the device's kernels.
//
// Values are windows on storages. A storage is a leaf (memory from outside) or what one node writes, as eager
// evaluation would: row-major, so that every movement op is only a window, and a kernel that is called sees the same
// layouts as in an eager run, which keeps its bits the same. The exception are products of matrices, whose bits depend
// on no layout: what only they read may lie as a weight that was turned lies, and they write what their readers find
// row-major. The same holds for calls that are made ready (join.cpp, orders.cpp).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "tenon/device/cpu/level.h"
#include "tenon/device/device.h"
#include "tenon/ir/graph.h"
#include "tenon/ops/opdef.h"
#include "tenon/trace/lazy.h"

namespace tenon::compiler {

struct Storage {
  DType dtype = DType::F32;
  int64_t size = 0;   // elements
  int32_t leaf = -1;  // the number of the leaf, or
  int32_t node = -1;  // the core node that writes it
  int64_t base = 0;   // leaf: where the storage begins, in elements from the leaf's offset
};

struct Operand {
  int32_t storage = -1;  // -1: absent
  ops::Window window;    // in elements of the storage
};

enum class CoreKind : uint8_t { Map, Fold, Call };
enum class CallKind : uint8_t { Claim, Reference, Elementwise, Reduce, Copy };

struct CoreNode {
  CoreKind kind = CoreKind::Map;
  std::string label;  // the op's name, for explain()
  std::vector<Operand> operands;
  std::vector<int32_t> results;  // storages; one for a map or a fold
  // Map: result[i] = program(operands[i]) over `shape`, to which the operands are broadcast.
  Shape shape;
  ir::ScalarProgram program;
  // Fold: [outer, n, columns] -> [outer, columns] of the operand, whose window has `shape`; combined in `acc`,
  // delivered as the result's dtype (through i64 if `signed_again`).
  cpu::Fold fold = cpu::Fold::Sum;
  DType acc = DType::F32;
  bool signed_again = false;
  bool recipe = false;  // in the 32 lanes of a row recipe, which begin with `empty`, instead
  double empty = 0;
  int64_t outer = 1, n = 1, columns = 1;
  // Call
  CallKind call = CallKind::Claim;
  const ir::Node* node = nullptr;  // of the segment's graph
  const Claim* claim = nullptr;
  std::vector<Shape> result_shapes;
  bool first_apart = false;  // a map makes the first result, and the call only the others, which `results` has
  // A call of which only the first result is wanted and whose inputs but the first are leaves that stay, so that it may
  // be made ready (Claim::prepare). Its operands are the call's `own` and then those of `after`, which computes each
  // element of the result from the call's, over the result's shape.
  bool ready = false;
  size_t own = 0;
  ir::ScalarProgram after;  // without code: nothing follows
  Ints order;               // of the result's axes in memory, from the outermost on; empty: row-major
};

struct CoreGraph {
  std::vector<Storage> storages;
  std::vector<CoreNode> nodes;   // in order
  std::vector<Operand> outputs;  // of the segment
};

struct AnalyseOptions {
  bool lower = true;  // false: everything is a call
};
// `segment` must outlive the result, which points to its nodes. Dead nodes are left out.
CoreGraph analyse(const trace::Segment& segment, const AnalyseOptions& options);
// Calls take the maps behind them that alone read their results (join.cpp) …
void join_calls(CoreGraph& graph, const trace::Segment& segment);
// … and what only such calls and maps see lies as these calls like it.
void choose_orders(CoreGraph& graph);
// The inputs of a call as they lie, without data.
std::vector<ConstView> views_of(const CoreGraph& graph, std::span<const Operand> operands);

// ---- windows -------------------------------------------------------------------------------
// Row-major over all of the storage.
bool is_flat(const ops::Window& w, int64_t storage_size);
// Element i of the window is element i / n of a storage of `outer` elements.
bool is_row_broadcast(const ops::Window& w, int64_t outer, int64_t n);
// The strides of the window over other axes with the same number of elements; false if they are not regular.
bool project(const ops::Window& w, const Shape& axes, Shape& strides);
// The coarsest axes of which both lists of axes are products; false if there are none.
bool refine(const Shape& a, const Shape& b, Shape& result);

std::string to_text(const CoreGraph& graph);

}  // namespace tenon::compiler
