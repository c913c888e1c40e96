// Reductions over any axes. The order in which elements are combined depends on shape and axes alone.
//
// Runs of 4096 elements are folded in a fixed tree of lanes, and runs, like groups of 64 rows, are combined pairwise in
// index order. f16 and bf16 are folded in f32 and rounded once.
#pragma once

#include "tenon/base/thread_pool.h"
#include "tenon/device/cpu/level.h"
#include "tenon/ops/opdef.h"
#include "tenon/tensor/view.h"

namespace tenon::cpu {

// As Device::reduce.
void reduce(const LevelTable& level, ops::ReduceKind kind, const ConstView& in, const Ints& axes, const View& out,
            ThreadPool& pool);

}  // namespace tenon::cpu
