#include "tenon/compile/ready_call.h"

#include <algorithm>

#include "tenon/exec/session.h"

namespace tenon::compiler {

ReadyCall::ReadyCall(const CoreNode& node, std::vector<TensorType> results)
    : node_(node),
      result_{results[0].dtype, node.result_shapes[0]},
      plain_(std::move(results)),
      at_(node.own, nullptr) {
  plain_[0] = result_;
  if (node.after.code.empty()) return;
  plain_[0].dtype = node.after.input(0);
  result_.dtype = node.after.result();
  following_ = exec::session().device().prepare(node.after);
}

// Whether the constants are those of the last run. Of memory that nobody held meanwhile other numbers may lie at the
// same address, so only what is held is the same for certain.
bool ReadyCall::is_same(std::span<const ConstView> in, std::span<const Ref<Buffer>* const> memory) const {
  for (size_t i = 0, h = 0; i < memory.size(); ++i) {
    if (memory[i] == nullptr) continue;
    if (in[i].first() != at_[i]) return false;
    if (kernel_ && !KeptWeights::of_process().holds(*held_[h++], **memory[i])) return false;
  }
  return true;
}

std::unique_ptr<PreparedKernel> ReadyCall::prepare(std::span<const ConstView> in, KeptConstants& kept) const {
  std::vector<ConstView> inputs(in.begin(), in.begin() + static_cast<std::ptrdiff_t>(node_.own));
  inputs[0].data = nullptr;
  const ir::ScalarProgram* after = following_ ? &node_.after : nullptr;
  return node_.claim->prepare({inputs, result_, node_.node->attrs, after, kept});
}

void ReadyCall::run(std::span<const ConstView> in, std::span<const Ref<Buffer>* const> memory, const View& out,
                    ThreadPool& pool) {
  const bool same = is_same(in, memory);
  if (!same) {
    kernel_ = nullptr;
    held_.clear();
    for (size_t i = 0; i < memory.size(); ++i) at_[i] = memory[i] == nullptr ? nullptr : in[i].first();
  }
  std::unique_ptr<PreparedKernel> once;
  if (same && !kernel_) {
    for (const Ref<Buffer>* buffer : memory) {
      if (buffer != nullptr) held_.push_back(KeptWeights::of_process().hold(*buffer));
    }
    KeptConstants none;  // of no constants
    kernel_ = prepare(in, held_.empty() ? none : held_.front()->packed);
    if (!kernel_) held_.clear();
  } else if (!same && !node_.order.empty()) {
    KeptConstants own;
    once = prepare(in, own);
  }
  const PreparedKernel* kernel = kernel_ ? kernel_.get() : once.get();
  if (kernel == nullptr) return run_apart(in, out, pool);
  kernel->run(in.first(node_.own), in.subspan(node_.own), out, pool);
}

// As in an eager run: the call, then what follows, here all at once.
void ReadyCall::run_apart(std::span<const ConstView> in, const View& out, ThreadPool& pool) const {
  std::vector<Ref<Buffer>> rooms;
  std::vector<View> results;
  for (const TensorType& type : plain_) {
    if (results.empty() && type.dtype == out.dtype && out.contiguous()) {
      results.push_back(out);
      continue;
    }
    rooms.push_back(Buffer::allocate_scratch(static_cast<size_t>(byte_size(type.dtype, numel(type.shape)))));
    results.push_back({rooms.back()->data(), type.dtype, type.shape, contiguous_strides(type.shape), 0});
  }
  node_.claim->run({in.first(node_.own), results, node_.node->attrs, pool});
  const ConstView made = results[0];
  if (following_) {
    std::vector<ConstView> inputs{made};
    const auto operands = in.subspan(node_.own);
    inputs.insert(inputs.end(), operands.begin(), operands.end());
    following_->run(inputs, out, pool);
  } else if (made.data != out.data) {
    exec::session().device().copy(made, out, pool);
  }
}

}  // namespace tenon::compiler
