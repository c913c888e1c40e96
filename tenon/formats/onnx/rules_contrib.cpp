// The com.microsoft operators that exports of transformers use (ONNX Runtime's ContribOperators.md says what each
// does).
#include <array>
#include <cmath>
#include <limits>

#include "tenon/formats/onnx/call.h"
#include "tenon/ops/attention.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/gather.h"
#include "tenon/ops/index.h"
#include "tenon/ops/indexing.h"
#include "tenon/ops/matmul.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/normalization.h"
#include "tenon/ops/reduce.h"
#include "tenon/ops/softmax.h"

namespace tenon::formats::onnx {
namespace {

constexpr std::string_view kDomain = "com.microsoft";

// ---- small ones ----------------------------------------------------------------------------
// [M, batch…, K] -> [batch…, M, K]
Tensor batch_first(const Tensor& x) { return x.ndim() > 2 ? moveaxis(x, 0, -2) : x; }
Values fused_matmul(Call& c) {
  Tensor a = c.tensor(0), b = c.tensor(1);
  if (c.integer_attribute("transBatchA", 0) != 0) a = batch_first(a);
  if (c.integer_attribute("transBatchB", 0) != 0) b = batch_first(b);
  if (c.integer_attribute("transA", 0) != 0 && a.ndim() > 1) a = transpose(a);
  if (c.integer_attribute("transB", 0) != 0 && b.ndim() > 1) b = transpose(b);
  return {matmul(a, b) * c.real_attribute("alpha", 1)};
}

// What an operator of ai.onnx gives for the same inputs and attributes.
Tensor plain(Call& c, std::string_view name) {
  const Rule* rule = find_rule("", name);
  const int64_t opset = c.opset;
  c.opset = 13;
  const Tensor y = *rule->compute(c)[0].tensor();
  c.opset = opset;
  return y;
}
Tensor activated(Call& c, const Tensor& x, double alpha, double beta) {
  const std::string name = c.text_attribute("activation", "");
  if (name.empty()) return x;
  if (name == "Relu") return relu(x);
  if (name == "Tanh") return tanh(x);
  if (name == "Sigmoid") return sigmoid(x);
  if (name == "LeakyRelu") return leaky_relu(x, alpha);
  if (name == "HardSigmoid") return clamp(x * alpha + beta, 0.0, 1.0);
  if (name == "Clip") return clamp(x, alpha, beta);
  c.unsupported("the activation " + name);
}
Values fused_conv(Call& c) {
  const Attribute* found = c.attribute("activation_params");
  std::vector<float> parameters = found ? found->floats : std::vector<float>{};
  parameters.resize(2);
  Tensor y = plain(c, "Conv");
  if (c.has(3)) y = y + c.tensor(3);
  return {activated(c, y, parameters[0], parameters[1])};
}
Values fused_gemm(Call& c) {
  Tensor y = plain(c, "Gemm");
  return {activated(c, y, c.real_attribute("activation_alpha", 0), c.real_attribute("activation_beta", 0))};
}

// Once of ai.onnx, never standardised: x * scale + bias of each channel.
Values image_scaler(Call& c) {
  const Attribute* bias = c.attribute("bias");
  Tensor y = c.tensor(0) * c.real_attribute("scale", 1);
  if (bias == nullptr || bias->floats.empty()) return {y};
  const auto channels = static_cast<int64_t>(bias->floats.size());
  if (y.ndim() < 2 || y.shape(1) > channels) c.fail("fewer biases than channels");
  const Tensor b = narrow(from_vector(bias->floats, {channels}), 0, 0, y.shape(1));
  Shape column(static_cast<size_t>(y.ndim()), 1);
  column[1] = y.shape(1);
  return {y + cast(reshape(b, column), y.dtype())};
}

Values bias_add(Call& c) { return {c.tensor(0) + c.tensor(1) + c.tensor(2)}; }
Values bias_split_gelu(Call& c) {
  const Tensor x = c.tensor(0) + c.tensor(1);
  const int64_t half = x.shape(-1) / 2;
  return {narrow(x, -1, 0, half) * gelu(narrow(x, -1, half, half))};
}

Tensor with_bias(Call& c, size_t i) { return c.has(i) ? c.tensor(0) + c.tensor(i) : c.tensor(0); }
Values fast_gelu(Call& c) { return {gelu(with_bias(c, 1), true)}; }
Values bias_gelu(Call& c) { return {gelu(with_bias(c, 1))}; }
Values quick_gelu(Call& c) {
  const Tensor x = c.tensor(0);
  return {x * sigmoid(x * c.real_attribute("alpha", 1.702))};
}

Values layer_norm_of(Call& c, const Tensor& sum, size_t gamma, size_t beta, bool simplified) {
  const double epsilon = c.real_attribute("epsilon", 1e-12);
  const Tensor y = simplified ? rms_norm(sum, c.tensor(gamma), epsilon)
                              : layer_norm(sum, c.tensor(gamma), c.tensor_or_none(beta), epsilon);
  return {y, Value(), Value(), sum};
}
Values skip_layer_norm(Call& c) {
  Tensor sum = c.tensor(0) + c.tensor(1);
  if (c.has(4)) sum = sum + c.tensor(4);
  return layer_norm_of(c, sum, 2, 3, false);
}
Values skip_rms_norm(Call& c) {
  Tensor sum = c.tensor(0) + c.tensor(1);
  if (c.has(3)) sum = sum + c.tensor(3);
  return layer_norm_of(c, sum, 2, 99, true);
}

Values embed_layer_norm(Call& c) {
  const Tensor ids = c.tensor(0);
  const int64_t length = ids.shape(1);
  Tensor sum = take(c.tensor(2), ids, 0);
  const Tensor places = c.has(8) ? c.tensor(8) : unsqueeze(cast(arange(length), ids.dtype()), {0});
  sum = sum + take(c.tensor(3), places, 0);
  if (c.has(4)) sum = sum + take(c.tensor(4), c.tensor(1), 0);
  const Tensor y = layer_norm(sum, c.tensor(5), c.tensor(6), c.real_attribute("epsilon", 1e-12));
  const Tensor lengths = c.has(7) ? cast(tenon::sum(cast(c.tensor(7), i32), {1}), i32) : zeros({ids.shape(0)}, i32);
  return {y, lengths, sum};
}

// Codes of `bits` bits, the first in the lowest: [..., bytes] -> u8 [..., count].
Tensor unpacked(const Tensor& bytes, int64_t bits, int64_t count) {
  const int64_t each = 8 / bits;
  Tensors parts;
  for (int64_t part = 0; part < each; ++part) {
    const Tensor shifted = right_shift(bytes, full({}, static_cast<double>(part * bits), u8));
    parts.push_back(bitwise_and(shifted, full({}, static_cast<double>((1 << bits) - 1), u8)));
  }
  Shape shape = bytes.shape();
  shape.back() *= each;
  return narrow(reshape(stack(parts, -1), shape), -1, 0, count);
}

// Weights of `bits` bits, packed along the rows of each block, times a scale of the block.
Values matmul_nbits(Call& c) {
  const int64_t k = c.integer_attribute("K", 0), n = c.integer_attribute("N", 0), bits = c.integer_attribute("bits", 4),
                block = c.integer_attribute("block_size", 32);
  if (bits != 2 && bits != 4 && bits != 8) c.unsupported("weights of " + std::to_string(bits) + " bits");
  if (k <= 0 || n <= 0 || block <= 0) c.fail("K, N and block_size are positive");
  const int64_t blocks = (k + block - 1) / block;
  const Tensor x = c.tensor(0), scales = cast(reshape(c.tensor(2), {n, blocks, 1}), f32);
  const Tensor codes = cast(unpacked(reshape(c.tensor(1), {n, blocks, -1}), bits, block), f32);
  Tensor zero = full({}, static_cast<double>(1 << (bits - 1)), f32);
  if (c.has(3)) {
    const Tensor z = c.tensor(3);
    zero = reshape(z.dtype() == DType::U8 ? cast(unpacked(reshape(z, {n, -1}), bits, blocks), f32) : cast(z, f32),
                   {n, blocks, 1});
  }
  Tensor weight;
  if (c.has(4)) {  // the block that each row of the weight belongs to
    const auto of = [&](const Tensor& v) { return take(reshape(v, {n, blocks}), c.tensor(4), 1); };
    const Tensor flat = narrow(reshape(codes, {n, blocks * block}), 1, 0, k);
    weight = (flat - (zero.ndim() == 0 ? zero : of(zero))) * of(scales);
  } else {
    weight = narrow(reshape((codes - zero) * scales, {n, blocks * block}), 1, 0, k);
  }
  Tensor y = matmul(x, cast(transpose(weight), x.dtype()));
  if (c.has(5)) y = y + c.tensor(5);
  return {y};
}

// Rows of a table that is kept in blocks of codes with a scale (and a zero point) each.
Values gather_block_quantized(Call& c) {
  const Tensor data = c.tensor(0), scales = c.tensor(2);
  const int64_t rank = data.ndim(), block = c.integer_attribute("block_size", 128);
  const int64_t along = normalize_axis(c.where, c.integer_attribute("quantize_axis", 1), rank);
  const int64_t axis = normalize_axis(c.where, c.integer_attribute("gather_axis", 0), rank);
  if (block <= 0) c.fail("block_size is not positive");
  // Bytes hold codes of `bits` bits, packed along the last axis; the 4-bit types hold one each.
  const bool bytes = data.dtype() == DType::U8;
  const int64_t bits = bytes ? c.integer_attribute("bits", 4) : 4;
  if (bits != 2 && bits != 4 && bits != 8) c.unsupported("codes of " + std::to_string(bits) + " bits");
  if (bytes && along != rank - 1) c.unsupported("bytes that are quantised along another axis than the last");
  const int64_t extent = bytes ? data.shape(-1) * 8 / bits : data.shape(along);
  Tensor codes = cast(bytes ? unpacked(data, bits, extent) : data, f32);
  const auto each = [&](const Tensor& v) { return narrow(repeat_interleave(v, block, along), along, 0, extent); };
  if (c.has(3)) {
    const Tensor z = c.tensor(3);
    const bool packed = bytes && bits != 8;
    codes = codes - each(cast(packed ? unpacked(z, bits, scales.shape(along)) : z, f32));
  } else if (bytes) {
    codes = codes - static_cast<double>(1 << (bits - 1));
  }
  return {take(cast(codes, scales.dtype()) * each(scales), c.tensor(1), axis)};
}

// ---- attention -----------------------------------------------------------------------------
// [batch, length, heads * width] -> [batch, heads, length, width]
Tensor to_heads(const Tensor& x, int64_t heads) {
  return transpose(reshape(x, {x.shape(0), x.shape(1), heads, x.shape(2) / heads}), 1, 2);
}
Tensor from_heads(const Tensor& x) {
  return reshape(transpose(x, 1, 2), {x.shape(0), x.shape(2), x.shape(1) * x.shape(3)});
}

// What is added to scores where `seen` is false.
Tensor hidden(const Tensor& seen, double filter) { return where(seen, 0.0, filter); }

// Whether query i (the last of them is the last key's) sees key j.
Tensor causal(int64_t queries, int64_t keys) {
  return unsqueeze(arange(keys), {0}) <= unsqueeze(arange(queries) + (keys - queries), {1});
}

// The mask in its many shapes as numbers to add to [batch, heads, queries, keys].
Tensor padding_mask(Call& c, const Tensor& mask, int64_t batch, int64_t keys, double filter) {
  const Tensor places = unsqueeze(arange(keys), {0});
  if (mask.ndim() == 1) {
    const Tensor ends = reshape(cast(narrow(mask, 0, 0, batch), i64), {batch, 1});
    Tensor seen = places < ends;
    if (mask.shape(0) == 2 * batch)
      seen = logical_and(seen, places >= reshape(cast(narrow(mask, 0, batch, batch), i64), {batch, 1}));
    return reshape(hidden(seen, filter), {batch, 1, 1, keys});
  }
  const Tensor seen = not_equal(mask, zeros_like(mask));
  if (mask.ndim() == 2) return reshape(hidden(seen, filter), {mask.shape(0), 1, 1, mask.shape(1)});
  if (mask.ndim() == 3) return unsqueeze(hidden(seen, filter), {1});
  if (mask.ndim() == 4) return hidden(narrow(narrow(seen, 3, 0, keys), 2, 0, seen.shape(2)), filter);
  c.fail("the mask has an unknown shape", "1 to 4 axes", to_string(mask.shape()));
}

struct Heads {
  Tensor q, k, v;  // [batch, heads, length, width]
  Tensor bias;     // added to the scores; may be undefined
  double scale = 0;
  double softcap = 0;
  Tensor sink;  // [heads]: a score of nothing, which takes its share; may be undefined
};
Tensor attend(const Heads& h) {
  const double scale = h.scale != 0 ? h.scale : 1 / std::sqrt(static_cast<double>(h.q.shape(3)));
  Tensor scores = matmul(h.q, transpose(h.k)) * scale;
  if (h.softcap != 0) scores = tanh(scores / h.softcap) * h.softcap;
  if (h.bias.defined()) scores = scores + cast(h.bias, scores.dtype());
  if (!h.sink.defined()) return matmul(softmax(scores, -1), h.v);
  Shape column = scores.shape();
  const int64_t keys = column.back();
  column.back() = 1;
  const Tensor nothing = expand(reshape(cast(h.sink, scores.dtype()), {1, h.sink.size(), 1, 1}), column);
  return matmul(narrow(softmax(concat({scores, nothing}, 3), -1), 3, 0, keys), h.v);
}

Tensor sum_of(const Tensor& a, const Tensor& b) { return !a.defined() ? b : !b.defined() ? a : a + b; }

Values attention(Call& c) {
  const Tensor x = c.tensor(0);
  const int64_t heads = c.integer_attribute("num_heads", 0);
  if (heads <= 0) c.fail("num_heads is missing");
  if (c.integer_attribute("do_rotary", 0) != 0) c.unsupported("do_rotary");
  Tensor projected = matmul(x, c.tensor(1));
  if (c.has(2)) projected = projected + c.tensor(2);
  std::vector<int64_t> widths = c.integers_attribute("qkv_hidden_sizes");
  if (widths.size() != 3) widths.assign(3, projected.shape(2) / 3);
  const Tensors parts = split(projected, {widths[0], widths[1], widths[2]}, 2);
  Heads h{to_heads(parts[0], heads),
          to_heads(parts[1], heads),
          to_heads(parts[2], heads),
          {},
          c.real_attribute("scale", 0),
          0,
          {}};
  if (c.has(4)) {
    const Tensor past = c.tensor(4);
    h.k = concat({select(past, 0, 0), h.k}, 2);
    h.v = concat({select(past, 0, 1), h.v}, 2);
  }
  const double filter = c.real_attribute("mask_filter_value", -10000);
  const int64_t keys = h.k.shape(2), queries = h.q.shape(2);
  if (c.has(3)) h.bias = padding_mask(c, c.tensor(3), x.shape(0), keys, filter);
  if (c.integer_attribute("unidirectional", 0) != 0) {
    const Tensor future = reshape(hidden(causal(queries, keys), filter), {1, 1, queries, keys});
    h.bias = sum_of(h.bias, future);
  }
  if (c.has(5)) h.bias = sum_of(h.bias, c.tensor(5));
  const Tensor y = from_heads(attend(h));
  if (c.node.outputs.size() < 2) return {y};
  return {y, stack({h.k, h.v}, 0)};
}

Values multi_head_attention(Call& c) {
  const Tensor query = c.tensor(0);
  const int64_t heads = c.integer_attribute("num_heads", 0);
  if (heads <= 0) c.fail("num_heads is missing");
  Heads h;
  h.scale = c.real_attribute("scale", 0);
  Tensors parts;  // flat: [batch, length, width]
  const auto flat = [](const Tensor& v) { return reshape(v, {v.shape(0), v.shape(1), v.shape(2) * v.shape(3)}); };
  if (query.ndim() == 5) {  // [batch, length, heads, 3, width]
    for (int64_t i = 0; i < 3; ++i) parts.push_back(flat(select(query, 3, i)));
  } else {
    const Tensor key = c.tensor(1);
    parts.push_back(query);
    if (key.ndim() == 5) {
      for (int64_t i = 0; i < 2; ++i) parts.push_back(flat(select(key, 3, i)));
    } else {
      parts.push_back(key);
      parts.push_back(c.tensor(2));
    }
  }
  if (c.has(3)) {
    int64_t at = 0;
    for (Tensor& part : parts) {
      if (part.ndim() != 3) continue;
      part = part + narrow(c.tensor(3), 0, at, part.shape(2));
      at += part.shape(2);
    }
  }
  h.q = to_heads(parts[0], heads);
  h.k = parts[1].ndim() == 4 ? parts[1] : to_heads(parts[1], heads);
  h.v = parts[2].ndim() == 4 ? parts[2] : to_heads(parts[2], heads);
  if (c.has(6)) h.k = concat({c.tensor(6), h.k}, 2);
  if (c.has(7)) h.v = concat({c.tensor(7), h.v}, 2);
  const double filter = c.real_attribute("mask_filter_value", -10000);
  const int64_t keys = h.k.shape(2), queries = h.q.shape(2);
  if (c.has(4)) h.bias = padding_mask(c, c.tensor(4), query.shape(0), keys, filter);
  if (c.integer_attribute("unidirectional", 0) != 0)
    h.bias = sum_of(h.bias, reshape(hidden(causal(queries, keys), filter), {1, 1, queries, keys}));
  if (c.has(5)) h.bias = sum_of(h.bias, c.tensor(5));
  return {from_heads(attend(h)), h.k, h.v};
}

// x [batch, heads, length, width] turned by the angles of its positions [batch or 1, length].
Tensor rotated(const Tensor& x, const Tensor& positions, const Tensor& cosines, const Tensor& sines, bool interleaved,
               int64_t turned) {
  const int64_t width = x.shape(3), half = cosines.shape(1);
  if (turned == 0) turned = 2 * half;
  const Tensor cosine = unsqueeze(take(cosines, positions, 0), {1}), sine = unsqueeze(take(sines, positions, 0), {1});
  const Tensor part = narrow(x, 3, 0, turned);
  const Tensor a = interleaved ? slice(part, {3}, {0}, {turned}, {2}) : narrow(part, 3, 0, half);
  const Tensor b = interleaved ? slice(part, {3}, {1}, {turned}, {2}) : narrow(part, 3, half, half);
  const Tensor real_part = a * cosine - b * sine, imaginary = a * sine + b * cosine;
  const Tensor y =
      interleaved ? reshape(stack({real_part, imaginary}, 4), part.shape()) : concat({real_part, imaginary}, 3);
  return turned < width ? concat({y, narrow(x, 3, turned, width - turned)}, 3) : y;
}

Values rotary_embedding(Call& c) {
  const Tensor x = c.tensor(0);
  Tensor positions = cast(c.tensor(1), i64);
  const bool flat = x.ndim() == 3;
  const int64_t turned = c.integer_attribute("rotary_embedding_dim", 0);
  int64_t heads = c.integer_attribute("num_heads", 0);
  if (flat && heads == 0) heads = x.shape(2) / (turned > 0 ? turned : 2 * c.tensor(2).shape(1));
  const Tensor h = flat ? to_heads(x, heads) : x;
  if (positions.ndim() <= 1) positions = unsqueeze(reshape(positions, {}) + arange(h.shape(2)), {0});
  const Tensor y = rotated(h, positions, c.tensor(2), c.tensor(3), c.integer_attribute("interleaved", 0) != 0, turned);
  return {flat ? from_heads(y) : y};
}

Values group_query_attention(Call& c) {
  const int64_t heads = c.integer_attribute("num_heads", 0), groups = c.integer_attribute("kv_num_heads", 0);
  if (heads <= 0 || groups <= 0 || heads % groups != 0) c.fail("num_heads is no multiple of kv_num_heads");
  Tensor query = c.tensor(0), key = c.tensor_or_none(1), value = c.tensor_or_none(2);
  if (!key.defined()) {
    const int64_t width = query.shape(2) / (heads + 2 * groups);
    const Tensors parts = split(query, {heads * width, groups * width, groups * width}, 2);
    query = parts[0], key = parts[1], value = parts[2];
  }
  const int64_t batch = query.shape(0), length = query.shape(1);
  Heads h{to_heads(query, heads),
          to_heads(key, groups),
          to_heads(value, groups),
          {},
          c.real_attribute("scale", 0),
          c.real_attribute("softcap", 0),
          {}};
  // An example has `ends` tokens after this call, and had `past` before; the cache may have room for more.
  const Tensor ends = reshape(cast(c.tensor(5), i64), {batch, 1}) + 1;
  const Tensor past = maximum(ends - length, zeros_like(ends));
  const int64_t room = c.has(3) ? c.tensor(3).shape(2) : 0;
  const Tensor known = c.value(6);
  // In a capture the cache holds the past and nothing else.
  const int64_t total = known.is_concrete() ? reshape(known, {}).item<int64_t>() : room + length;
  if (total < length || total > room + length)
    c.fail("the whole length does not fit the cache", std::to_string(length) + " to " + std::to_string(room + length),
           std::to_string(total));
  const Tensor steps = past + unsqueeze(arange(length), {0});  // [batch, length]: places of the new tokens
  if (c.integer_attribute("do_rotary", 0) != 0) {
    const Tensor positions = c.has(9) ? cast(c.tensor(9), i64) : steps;
    const bool interleaved = c.integer_attribute("rotary_interleaved", 0) != 0;
    h.q = rotated(h.q, positions, c.tensor(7), c.tensor(8), interleaved, 0);
    h.k = rotated(h.k, positions, c.tensor(7), c.tensor(8), interleaved, 0);
  }
  // What is new follows each example's own past.
  const int64_t kept = std::max(room, total);
  const Tensor slots = unsqueeze(arange(kept), {0});
  const auto joined_with = [&](const Tensor& fresh, size_t cache) {
    const Tensor at_fresh = clamp(slots - past, 0.0, static_cast<double>(length - 1));
    const Tensor from = room == 0 ? at_fresh : where(slots < past, slots, at_fresh + room);
    const Tensor all = room == 0 ? fresh : concat({c.tensor(cache), fresh}, 2);
    return take_along_axis(all, reshape(cast(from, i64), {batch, 1, kept, 1}), 2);
  };
  const Tensor present_key = joined_with(h.k, 3), present_value = joined_with(h.v, 4);
  const Tensor places = reshape(arange(total), {1, 1, total}), own = unsqueeze(steps, {2});
  Tensor seen = places <= own;  // [batch, length, total]
  // The token itself counts.
  if (const int64_t window = c.integer_attribute("local_window_size", -1); window >= 0)
    seen = logical_and(seen, places > own - window);
  h.bias = unsqueeze(hidden(seen, -std::numeric_limits<double>::infinity()), {1});
  if (c.has(10)) h.bias = h.bias + c.tensor(10);
  if (c.has(11)) {
    h.sink = c.tensor(11);
  } else if (c.integer_attribute("smooth_softmax", 0) == 1) {
    h.sink = zeros({heads});
  }
  h.k = repeat_interleave(narrow(present_key, 2, 0, total), heads / groups, 1);
  h.v = repeat_interleave(narrow(present_value, 2, 0, total), heads / groups, 1);
  return {from_heads(attend(h)), present_key, present_value};
}

constexpr std::array kRules{
    Rule{"FusedMatMul", fused_matmul, kDomain},
    Rule{"TransposeMatMul", fused_matmul, kDomain},
    Rule{"FusedConv", fused_conv, kDomain},
    Rule{"FusedGemm", fused_gemm, kDomain},
    Rule{"ImageScaler", image_scaler},
    Rule{"BiasAdd", bias_add, kDomain},
    Rule{"BiasSplitGelu", bias_split_gelu, kDomain},
    Rule{"FastGelu", fast_gelu, kDomain},
    Rule{"BiasGelu", bias_gelu, kDomain},
    Rule{"Gelu", bias_gelu, kDomain},
    Rule{"QuickGelu", quick_gelu, kDomain},
    Rule{"SkipLayerNormalization", skip_layer_norm, kDomain},
    Rule{"SkipSimplifiedLayerNormalization", skip_rms_norm, kDomain},
    Rule{"EmbedLayerNormalization", embed_layer_norm, kDomain},
    Rule{"MatMulNBits", matmul_nbits, kDomain},
    Rule{"GatherBlockQuantized", gather_block_quantized, kDomain},
    Rule{"Attention", attention, kDomain},
    Rule{"MultiHeadAttention", multi_head_attention, kDomain},
    Rule{"GroupQueryAttention", group_query_attention, kDomain},
    Rule{"RotaryEmbedding", rotary_embedding, kDomain},
};

}  // namespace

std::span<const Rule> contrib_rules() { return kRules; }

}  // namespace tenon::formats::onnx
