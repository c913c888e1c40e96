#include "tenon/ops/batching.h"

#include "tenon/ops/call.h"
#include "tenon/ops/movement.h"

namespace tenon::ops {

Tensors batch_joins_examples(const BatchArgs& a) {
  Tensors in(a.in.size());
  int64_t examples = 0;
  for (size_t i = 0; i < in.size(); ++i) {
    if (!a.in[i].defined()) continue;
    Shape shape = a.in[i].shape();
    if (!a.batched[i]) shape.insert(shape.begin(), a.size);
    examples = shape[1];
    Shape merged(shape.begin() + 1, shape.end());
    merged[0] = a.size * examples;
    in[i] = reshape(expand(a.in[i], shape), merged);
  }
  Tensors out = call(a.op, std::move(in), a.attrs);
  for (auto& y : out) {
    Shape shape = y.shape();
    shape[0] = examples;
    shape.insert(shape.begin(), a.size);
    y = reshape(y, shape);
  }
  return out;
}

}  // namespace tenon::ops
