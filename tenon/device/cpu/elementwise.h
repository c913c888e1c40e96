// Runs scalar programs over tensors, block by block: each instruction is one tight loop over a block that lies in
// the first cache, and a program of one instruction over plain memory runs from memory to memory.
#pragma once

#include <span>

#include "tenon/base/thread_pool.h"
#include "tenon/device/cpu/level.h"
#include "tenon/ir/scalar.h"
#include "tenon/tensor/view.h"

namespace tenon::cpu {

// As Device::elementwise.
void elementwise(const LevelTable& level, const ir::ScalarProgram& program, std::span<const ConstView> in,
                 const View& out, ThreadPool& pool);

}  // namespace tenon::cpu
