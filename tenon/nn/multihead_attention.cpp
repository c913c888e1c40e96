#include "tenon/nn/multihead_attention.h"

#include <fmt/format.h>

#include <cmath>
#include <limits>

#include "tenon/base/error.h"
#include "tenon/nn/check.h"
#include "tenon/nn/init.h"
#include "tenon/ops/attention.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/matmul.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/random.h"
#include "tenon/ops/reduce.h"
#include "tenon/ops/softmax.h"
#include "tenon/trace/layer_scope.h"

namespace tenon::nn {
namespace {

int64_t checked_heads(int64_t width, int64_t heads) {
  require_at_least("MultiheadAttention", "width", width, 1);
  if (heads < 1 || width % heads != 0)
    throw ValueError({"MultiheadAttention",
                      "the heads do not divide the width",
                      fmt::format("a divisor of {}", width),
                      std::to_string(heads),
                      {}});
  return heads;
}

// What is added to the scores: PyTorch's bool masks name what is not seen.
Tensor added(const Tensor& mask, DType dtype) {
  if (mask.dtype() != DType::Bool) return cast(mask, dtype);
  return where(mask, full({}, -std::numeric_limits<double>::infinity(), dtype), 0);
}

void join(Tensor& all, const Tensor& more) { all = all.defined() ? all + more : more; }

}  // namespace

MultiheadAttention::MultiheadAttention(int64_t embedding, int64_t head_count, const MultiheadAttentionOptions& given)
    : width(embedding),
      heads(checked_heads(embedding, head_count)),
      options(given),
      out_proj(width, width, {.bias = given.bias, .dtype = given.dtype}) {
  require_probability("MultiheadAttention", options.dropout);
  const int64_t kdim = options.kdim == 0 ? width : options.kdim, vdim = options.vdim == 0 ? width : options.vdim;
  const DType dtype = options.dtype;
  if (kdim == width && vdim == width) {
    in_proj_weight = Variable(init::xavier_uniform({3 * width, width}, 1, dtype));
  } else {
    q_proj_weight = Variable(init::xavier_uniform({width, width}, 1, dtype));
    k_proj_weight = Variable(init::xavier_uniform({width, kdim}, 1, dtype));
    v_proj_weight = Variable(init::xavier_uniform({width, vdim}, 1, dtype));
  }
  if (options.bias) {
    in_proj_bias = Variable(zeros({3 * width}, dtype));
    out_proj.bias.set(zeros({width}, dtype));
  }
  if (options.add_bias_kv) {
    bias_k = Variable(init::xavier_normal({1, 1, width}, 1, dtype));
    bias_v = Variable(init::xavier_normal({1, 1, width}, 1, dtype));
  }
}

Tensor MultiheadAttention::operator()(const Tensor& query, const Tensor& key, const Tensor& value,
                                      const AttentionMasks& masks) const {
  return run(query, key, value, masks, false).y;
}
MultiheadAttentionResult MultiheadAttention::with_weights(const Tensor& query, const Tensor& key, const Tensor& value,
                                                          const AttentionMasks& masks) const {
  return run(query, key, value, masks, true);
}

MultiheadAttentionResult MultiheadAttention::run(Tensor query, Tensor key, Tensor value, const AttentionMasks& masks,
                                                 bool want_weights) const {
  const trace::LayerScope scope(in_proj_weight.defined() ? in_proj_weight : q_proj_weight);
  const std::string label = layer_label("MultiheadAttention", out_proj.weight);
  const bool one = query.ndim() == 2;
  for (Tensor* x : {&query, &key, &value}) {
    require_rank(label, *x, one ? 2 : 3, one ? 2 : 3,
                 options.batch_first ? "[N, length, width]" : "[length, N, width]");
    if (one) *x = unsqueeze(*x, {0});
    if (!one && !options.batch_first) *x = transpose(*x, 0, 1);  // [N, L, E]
  }
  require_extent(label, query, -1, width, fmt::format("[..., {}]", width));
  const int64_t n = query.shape(0), each = width / heads;
  const bool packed = in_proj_weight.defined();
  const auto project = [&](const Tensor& x, int64_t part, const Variable& own) {
    const Tensor w = packed ? narrow(in_proj_weight, 0, part * width, width) : own.value();
    require_extent(label, x, -1, w.shape(1), fmt::format("[..., {}]", w.shape(1)));
    Tensor y = matmul(x, transpose(w));
    if (!in_proj_bias.defined()) return y;
    const DType dtype = y.dtype();
    return std::move(y) + cast(narrow(in_proj_bias, 0, part * width, width), dtype);
  };
  Tensor q = project(query, 0, q_proj_weight), k = project(key, 1, k_proj_weight), v = project(value, 2, v_proj_weight);
  if (bias_k.defined()) {
    k = concat({k, expand(bias_k, {n, 1, width})}, 1);
    v = concat({v, expand(bias_v, {n, 1, width})}, 1);
  }
  if (options.add_zero_attn) {
    k = concat({k, zeros({n, 1, width}, k.dtype())}, 1);
    v = concat({v, zeros({n, 1, width}, v.dtype())}, 1);
  }
  const int64_t lq = q.shape(1), lk = k.shape(1), more = lk - key.shape(1);
  // [N, L, E] -> [N, heads, L, E / heads]
  const auto by_head = [&](const Tensor& x) { return transpose(reshape(x, {n, x.shape(1), heads, each}), 1, 2); };
  q = by_head(q);
  k = by_head(k);
  v = by_head(v);
  // What was appended to the keys is seen by all.
  const auto grown = [&](const Tensor& m) {
    Ints before(static_cast<size_t>(m.ndim()), 0), after = before;
    after.back() = more;
    return more == 0 ? m : pad(m, before, after, 0);
  };
  Tensor mask;
  if (masks.attention.defined()) {
    const Tensor m = grown(added(masks.attention, q.dtype()));
    join(mask, m.ndim() == 3 ? reshape(m, {n, heads, lq, lk}) : m);
  }
  if (masks.key_padding.defined()) {
    const Tensor padding = one ? unsqueeze(masks.key_padding, {0}) : masks.key_padding;
    join(mask, unsqueeze(grown(added(padding, q.dtype())), {1, 2}));
  }
  if (masks.causal) {
    const Tensor later = greater(iota({lq, lk - more}, 1), iota({lq, lk - more}, 0));
    join(mask, grown(added(later, q.dtype())));
  }
  const double p = mode.training() ? options.dropout : 0;
  Tensor y, weights;
  if (want_weights || p > 0) {
    Tensor scores = matmul(q * (1 / std::sqrt(static_cast<double>(each))), transpose(k));
    if (mask.defined()) scores = std::move(scores) + mask;
    Tensor share = softmax(std::move(scores), -1);
    if (p > 0) share = dropout(std::move(share), p);
    y = matmul(share, v);
    if (want_weights) weights = mean(share, {1});
  } else {
    y = scaled_dot_product_attention(q, k, v, mask);
  }
  y = out_proj(reshape(transpose(y, 1, 2), {n, lq, width}));
  if (one) {
    y = squeeze(y, {0});
    if (weights.defined()) weights = squeeze(weights, {0});
  } else if (!options.batch_first) {
    y = transpose(y, 0, 1);
  }
  return {y, weights};
}

}  // namespace tenon::nn
