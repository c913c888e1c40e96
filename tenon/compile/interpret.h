// The reference interpreter of the loop IR: slow, and what every target is compared with.
//
// Scalar instructions are computed one by one by the CPU device's own loops, so an instruction cannot mean one thing
// eagerly and another when compiled.
#pragma once

#include <cstddef>
#include <span>

#include "tenon/compile/loop_ir.h"
#include "tenon/device/cpu/level.h"

namespace tenon::compiler {

// The loop that computes an instruction; null if there is none. `operand`: dtype of the operands (Select: the last
// two).
cpu::LoopFn loop_of(const cpu::LevelTable& level, ir::ScalarOp op, DType operand, DType result);

// Runs iterations [begin, end) of a verified kernel. `buffers`: the first element of each.
void interpret(const Kernel& kernel, std::span<std::byte* const> buffers, int64_t begin, int64_t end);

}  // namespace tenon::compiler
