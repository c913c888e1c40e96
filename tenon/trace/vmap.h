// vmap: a function of one example becomes a function of a batch.
#pragma once

#include "tenon/base/inline_vector.h"
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
  // The vmaps up to this level are in force again: a derivative is computed after its vmap has returned.
  explicit VmapLevel(int level);
  ~VmapLevel();
  VmapLevel(const VmapLevel&) = delete;
  VmapLevel& operator=(const VmapLevel&) = delete;
  [[nodiscard]] int level() const { return level_; }

 private:
  int previous_, level_;
};
// True if a derivative flows through what a batched value stands for: somebody around its vmap differentiates.
bool differentiated_outside(const Tensor& x);
// The inputs of a call without the vmap of that level: where `batched`, the batch is axis 0.
using Flags = InlineVector<bool, 8>;
struct WholeBatches {
  Tensors in;
  Flags batched;
  int64_t size = 0;
};
WholeBatches whole_batches(const Tensors& in, int level);
// A result for one example as one for the batch, repeated if it does not depend on the example.
Tensor whole_batch(const Tensor& y, int64_t size, int level);
// `fn`, written for one example at that level, on whole batches; every result carries the batch as axis 0.
Function over_batches(Function fn, Flags batched, int64_t size, int level);
// The call at that level by the op's batching rule.
Tensors call_batched(const ops::OpDef& op, const Tensors& in, const ir::Attrs& attrs, int level);

}  // namespace tenon::trace

namespace tenon {

struct VmapOptions {
  // Which axis of each input is the batch; -1000 (kNotBatched) passes an input whole. Empty: axis 0 of each.
  std::vector<int64_t> in_axes = {};
  // Where the batch goes in each output; empty: axis 0.
  std::vector<int64_t> out_axes = {};
};
inline constexpr int64_t kNotBatched = -1000;

// The function on a whole batch: vmap(f)(xs)[i] == f(xs[i]). Nests, and mixes with grad, jvp and capture in any
// order. Errors: ShapeError if the batched inputs disagree on the batch's extent; UnsupportedError naming an op
// without batching rule.
trace::Function vmap(trace::Function fn, VmapOptions options = {});

}  // namespace tenon
