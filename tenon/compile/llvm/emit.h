// The loop IR as LLVM IR. Internal to compile/llvm.
#pragma once

#include <llvm/IR/Module.h>

#include <set>
#include <string>

#include "tenon/compile/loop_ir.h"

namespace tenon::compiler {

struct EmitOptions {
  int lanes = 4;      // elements of a vector, whatever their width
  bool wide = false;  // ask for 512-bit registers
};
// Adds void NAME(ptr buffers, i64 begin, i64 end) to the module. Instructions without a form of their own call
// void SYMBOL(out, a, b, c, n), a loop of the CPU device; the names called are added to `symbols` (symbol_of).
void emit(llvm::Module& module, const Kernel& kernel, const EmitOptions& options, std::set<std::string>& symbols);

// "tenon.loop.OP.OPERAND.RESULT", by numbers.
std::string symbol_of(ir::ScalarOp op, DType operand, DType result);

}  // namespace tenon::compiler
