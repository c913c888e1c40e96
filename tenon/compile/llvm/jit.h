// From loop IR to machine code: in this process, or as an object file for another machine. The only door to LLVM.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tenon/compile/loop_ir.h"
#include "tenon/device/cpu/level.h"

namespace tenon::compiler {

// Iterations [begin, end) of a kernel on its buffers, with the numbers of one kernel of those that share the code
// (numbers_of).
using KernelFunction = void (*)(std::byte* const* buffers, const int64_t* numbers, int64_t begin, int64_t end);

// An object file that defines one function.
struct KernelObject {
  std::string symbol;
  std::vector<std::byte> bytes;
};

class Jit {
 public:
  // Code for x86-64-v2, -v3 or -v4 (2, 3, 4), `streams`: with results that go past the caches (stream.h). Errors:
  // UnsupportedError if LLVM cannot compile for this machine.
  explicit Jit(int level, bool streams = cpu::writes_past_caches());
  ~Jit();
  Jit(const Jit&) = delete;
  Jit& operator=(const Jit&) = delete;
  // The code of a kernel under its name. Safe from several threads. `verify`: LLVM checks what it is given.
  [[nodiscard]] KernelObject object_of(const Kernel& kernel, bool verify) const;
  // Functions that live as long as the Jit. The symbols must be new to it; one call at a time. Errors: InternalError if
  // an object is not one of this machine or needs what there is not.
  std::vector<KernelFunction> link(std::span<const KernelObject> objects);
  // Both, for kernels whose names are new.
  std::vector<KernelFunction> compile(std::span<const Kernel> kernels);
  // What the code depends on besides the kernel: the target and the version of LLVM.
  [[nodiscard]] std::string target() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

enum class ObjectTarget : uint8_t { X86_64_V2, X86_64_V3, X86_64_V4, Aarch64Linux, Wasm32 };
// A relocatable object with one function for each kernel, void NAME(buffers, numbers, begin, end). `llvm_text`, if
// given, gets the LLVM IR after the passes.
std::vector<std::byte> emit_object(std::span<const Kernel> kernels, ObjectTarget target,
                                   std::string* llvm_text = nullptr);

// The same for the library `tenon`, whose code calls nothing: kernels that would call loops of the device are left out.
struct StandaloneObject {
  std::vector<std::byte> bytes;
  std::vector<bool> present;  // by kernel
};
StandaloneObject emit_standalone(std::span<const Kernel> kernels, ObjectTarget target);

}  // namespace tenon::compiler
