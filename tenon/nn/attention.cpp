#include "tenon/nn/attention.h"

#include <fmt/format.h>

#include "tenon/base/error.h"
#include "tenon/nn/check.h"
#include "tenon/ops/attention.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/movement.h"

namespace tenon::nn {
namespace {

int64_t checked_divisor(const char* problem, int64_t whole, int64_t part) {
  if (part < 1 || whole % part != 0)
    throw ValueError({"SelfAttention", problem, fmt::format("a divisor of {}", whole), std::to_string(part), {}});
  return part;
}

}  // namespace

SelfAttention::SelfAttention(int64_t width, int64_t head_count, SelfAttentionOptions options)
    : heads(checked_divisor("the heads do not divide the width", width, head_count)),
      kv_heads(options.kv_heads == 0
                   ? head_count
                   : checked_divisor("the key heads do not divide the heads", heads, options.kv_heads)),
      causal(options.causal),
      qkv(width, width + 2 * kv_heads * (width / heads), {.bias = options.bias}),
      out(width, width, {.bias = options.bias}),
      dropout(options.dropout) {}

Tensor SelfAttention::operator()(const Tensor& x) const {
  const int64_t width = out.weight.shape()[0], each = width / heads;
  require_rank(layer_label("SelfAttention", qkv.weight), x, 3, 3, fmt::format("[N, length, {}]", width));
  const int64_t n = x.shape(0), length = x.shape(1);
  const Tensors parts = split(qkv(x), {width, kv_heads * each, kv_heads * each}, -1);
  // [N, length, heads * each] -> [N, heads, length, each]
  const auto by_head = [&](const Tensor& t, int64_t count) {
    return transpose(reshape(t, {n, length, count, each}), 1, 2);
  };
  const Tensor y = scaled_dot_product_attention(by_head(parts[0], heads), by_head(parts[1], kv_heads),
                                                by_head(parts[2], kv_heads), {}, {.causal = causal});
  return dropout(out(reshape(transpose(y, 1, 2), {n, length, width})));
}

MLP::MLP(int64_t width, MLPOptions options)
    : tanh_gelu(options.tanh_gelu),
      fc1(width, options.hidden == 0 ? 4 * width : options.hidden, {.bias = options.bias}),
      fc2(options.hidden == 0 ? 4 * width : options.hidden, width, {.bias = options.bias}),
      dropout(options.dropout) {}

Tensor MLP::operator()(const Tensor& x) const { return dropout(fc2(gelu(fc1(x), tanh_gelu))); }

}  // namespace tenon::nn
