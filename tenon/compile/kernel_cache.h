// Machine code by loop IR: each kernel's code is made once in a process, whoever asks for it, and is shared by kernels
// that differ only in their numbers (loop_ir.h); a store keeps it for later processes. Safe from several threads.
#pragma once

#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "tenon/base/hash.h"
#include "tenon/base/thread_pool.h"
#include "tenon/compile/kernel_store.h"
#include "tenon/compile/llvm/jit.h"

namespace tenon::compiler {

struct CodeCounts {
  int64_t shared = 0;    // kernels whose code was there
  int64_t loaded = 0;    // codes that came from the disk
  int64_t compiled = 0;  // codes that LLVM made
  double llvm_seconds = 0, link_seconds = 0;
};

class KernelCache {
 public:
  // The one of this process.
  static const std::shared_ptr<KernelCache>& of_process();

  // A function for each kernel: known, from the store, or made by LLVM for a CPU level, on the threads of the pool.
  std::vector<KernelFunction> compile(const std::vector<const Kernel*>& kernels, int level, bool verify,
                                      ThreadPool& pool, KernelStore& store, CodeCounts& counts);

 private:
  struct Level {
    std::unique_ptr<Jit> jit;  // made when it is first needed: a program of calls alone never starts LLVM
    std::map<Hash128, KernelFunction> known;
  };
  std::mutex mutex_;  // not held while LLVM works, whose parts may run on a thread that waits for us
  std::map<int, Level> levels_;
};

}  // namespace tenon::compiler
