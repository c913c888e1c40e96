// From loop IR to machine code: in this process, or as an object file for another machine. The only door to LLVM.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tenon/compile/loop_ir.h"

namespace tenon::compiler {

// Iterations [begin, end) of a kernel on its buffers.
using KernelFunction = void (*)(std::byte* const* buffers, int64_t begin, int64_t end);

class Jit {
 public:
  // Code for x86-64-v2, -v3 or -v4 (2, 3, 4). Errors: UnsupportedError if LLVM cannot compile for this machine.
  explicit Jit(int level);
  ~Jit();
  Jit(const Jit&) = delete;
  Jit& operator=(const Jit&) = delete;
  // The functions of these kernels, whose names must be new to this Jit. They live as long as the Jit.
  std::vector<KernelFunction> compile(std::span<const Kernel> kernels);
  // Bytes of object code made so far.
  [[nodiscard]] size_t code_bytes() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

enum class ObjectTarget : uint8_t { X86_64_V2, X86_64_V3, X86_64_V4, Aarch64Linux, Wasm32 };
// A relocatable object with one function for each kernel, void NAME(buffers, begin, end). `llvm_text`, if given, gets
// the LLVM IR after the passes.
std::vector<std::byte> emit_object(std::span<const Kernel> kernels, ObjectTarget target,
                                   std::string* llvm_text = nullptr);

}  // namespace tenon::compiler
