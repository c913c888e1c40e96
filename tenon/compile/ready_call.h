// A call in a compiled program that is made ready with its constants (Claim::prepare), and what follows it.
//
// The constants are leaves. When the same memory comes in two runs one after the other, the kernel that was made of it
// is kept, and the memory held, until other memory comes: so a model that is only evaluated is packed once. What comes
// anew each time costs what an eager run costs.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "tenon/compile/core.h"
#include "tenon/compile/kept_weights.h"

namespace tenon::compiler {

class ReadyCall {
 public:
  ReadyCall(const CoreNode& node, std::vector<TensorType> results);  // of the node's op
  // `in`: the inputs of the call, then the operands of what follows. `memory`: of each input of the call, where it is a
  // constant; the others are null.
  void run(std::span<const ConstView> in, std::span<const Ref<Buffer>* const> memory, const View& out,
           ThreadPool& pool);

 private:
  [[nodiscard]] bool is_same(std::span<const ConstView> in, std::span<const Ref<Buffer>* const> memory) const;
  [[nodiscard]] std::unique_ptr<PreparedKernel> prepare(std::span<const ConstView> in, KeptConstants& kept) const;
  void run_apart(std::span<const ConstView> in, const View& out, ThreadPool& pool) const;

  const CoreNode& node_;
  TensorType result_;                             // of all
  std::vector<TensorType> plain_;                 // of the call by itself; only the first is wanted
  std::unique_ptr<ElementwiseKernel> following_;  // null: nothing follows
  std::vector<const std::byte*> at_;              // where the constants began in the last run
  std::vector<std::shared_ptr<KeptWeights::Source>> held_;
  std::unique_ptr<PreparedKernel> kernel_;  // of what is held
};

}  // namespace tenon::compiler
