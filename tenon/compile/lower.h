// Groups as loops.
//
// The order of every fold is that of device/cpu/reduce.cpp: runs of 4096 elements in 64 lanes and a tree of them, runs
// pairwise; rows in groups of 64, groups pairwise. Values that are dear and needed after a fold wait in scratch or in
// their output; cheap ones are computed again.
#pragma once

#include <vector>

#include "tenon/compile/fuse.h"
#include "tenon/compile/loop_ir.h"

namespace tenon::compiler {

struct LoweredKernel {
  Kernel kernel;
  std::vector<int32_t> storages;  // of each buffer
  std::vector<bool> pointwise;    // of each buffer: an input whose memory an output of the same size may take
  int64_t grain = 1;              // iterations of one part
  double worth = 0;               // of all of them, in parts of usual work
};
// `stored` tells for each storage whether it is needed beyond its group. Most groups are one kernel.
// `general`: with the loops of every size, some of which may then have no iterations, so that kernels for other sizes
// differ in numbers only.
std::vector<LoweredKernel> lower(const CoreGraph& graph, const Group& group, const std::vector<bool>& stored,
                                 bool general);

// Of one element, in simple instructions, about.
int cost_of(const ir::ScalarProgram& program);

// The constant that a fold begins with: x combined with it is x, also in the sign of zero. Its register is missing.
Stmt neutral_of(cpu::Fold fold, DType acc);

}  // namespace tenon::compiler
