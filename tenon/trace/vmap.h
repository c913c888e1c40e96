// vmap: a function of one example becomes a function of a batch.
#pragma once

#include "tenon/trace/capture.h"

namespace tenon::trace {

// One example of a batch, as the function under vmap sees it. `inner` carries the batch as axis 0.
struct BatchedValue final : Placeholder {
  Tensor inner;
  int level = 0;
};
const BatchedValue* batched(const Tensor& x);
Tensor make_batched(Tensor inner, int level);
// The highest vmap level among the inputs; 0: none is batched. Beside a value of a capture, batched values of the
// vmaps around that capture do not count: to it they are whole values.
int batch_level(const Tensors& in);
// One more vmap in force while it lives; also when a function throws.
class VmapLevel {
 public:
  VmapLevel();
  ~VmapLevel();
  VmapLevel(const VmapLevel&) = delete;
  VmapLevel& operator=(const VmapLevel&) = delete;
  [[nodiscard]] int level() const { return level_; }

 private:
  int level_;
};
// The call at that level by the op's batching rule.
Tensors call_batched(const ops::OpDef& op, const Tensors& in, const ir::Attrs& attrs, int level);

}  // namespace tenon::trace

namespace tenon {

struct VmapOptions {
  // Which axis of each input is the batch; -1000 (kNotBatched) passes an input whole. Empty: axis 0 of each.
  std::vector<int64_t> in_axes;
  // Where the batch goes in each output; empty: axis 0.
  std::vector<int64_t> out_axes;
};
inline constexpr int64_t kNotBatched = -1000;

// The function on a whole batch: vmap(f)(xs)[i] == f(xs[i]). Nests, and mixes with grad, jvp and capture in any
// order. Errors: ShapeError if the batched inputs disagree on the batch's extent; UnsupportedError naming an op
// without batching rule.
trace::Function vmap(trace::Function fn, VmapOptions options = {});

}  // namespace tenon
