// The loop IR as LLVM IR. Internal to compile/llvm.
#pragma once

#include <llvm/IR/Module.h>

#include <string>

#include "tenon/compile/loop_ir.h"

namespace tenon::compiler {

struct EmitOptions {
  int lanes = 4;        // elements of a vector, whatever their width
  bool wide = false;    // ask for 512-bit registers
  int masked_bits = 0;  // the narrowest elements that the machine loads and stores under a mask; 0: none
  int together = 1;     // vectors of a long loop body side by side: a single chain of instructions waits for itself
  bool scale_by_power = false;  // x * 2^n is one instruction (AVX-512)
  bool fma = false;             // a * b + c is one instruction
  bool streams = false;         // results go past the caches where the kernel says so (stream.h)
};
// Adds void NAME(ptr buffers, ptr numbers, i64 begin, i64 end) to the module; numbers as numbers_of gives them.
// Instructions without a form of their own call void symbol_of(…)(out, a, b, c, n), a loop of the CPU device.
void emit(llvm::Module& module, const Kernel& kernel, const EmitOptions& options);

// "tenon.loop.OP.OPERAND.RESULT", by numbers.
std::string symbol_of(ir::ScalarOp op, DType operand, DType result);

}  // namespace tenon::compiler
