#include "tenon/ops/attention.h"

#include <fmt/format.h>

#include <cmath>

#include "tenon/base/error.h"
#include "tenon/ops/call.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/infer.h"
#include "tenon/ops/matmul.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/reduce.h"
#include "tenon/tensor/half.h"

namespace tenon {
namespace ops {
namespace {

const std::vector<AttrSpec> kAttrs{{"causal", 1, ir::AttrType::Flag, "later keys are hidden"},
                                   {"scale", 2, ir::AttrType::Real, "factor of the scores"}};

void check_heads(const InferArgs& a, size_t first) {
  for (size_t i = first; i < first + 3; ++i) expect_rank(a, i, 4, 4);
  const Shape &q = a.in[first].shape, &k = a.in[first + 1].shape, &v = a.in[first + 2].shape;
  if (k[0] != q[0] || k[1] != q[1] || k[3] != q[3])
    fail_shape(a, "keys do not fit queries", fmt::format("[{}, {}, keys, {}]", q[0], q[1], q[3]), to_string(k));
  if (v[0] != k[0] || v[1] != k[1] || v[2] != k[2])
    fail_shape(a, "values do not fit keys", fmt::format("[{}, {}, {}, width]", k[0], k[1], k[2]), to_string(v));
}

void check_mask(const InferArgs& a, size_t mask, const Shape& q, const Shape& k) {
  if (mask >= a.in.size() || !a.present[mask]) return;
  const Shape scores{q[0], q[1], q[2], k[2]};
  if (broadcast_shapes(a.op.name, scores, a.in[mask].shape) != scores)
    fail_shape(a, "the mask does not broadcast to the scores", to_string(scores), to_string(a.in[mask].shape));
}

// The dtype of everything between the inputs and the results, and of the logarithm of the denominator: a logarithm of
// few bits, taken from scores, would put every probability of a row out by the same factor.
DType between(DType dtype) { return is_half(dtype) ? DType::F32 : dtype; }
Tensor widened(const Tensor& x) { return cast(x, between(x.dtype())); }

Tensor scores_of(const Tensor& q, const Tensor& k, const Tensor& mask, const ir::Attrs& attrs) {
  Tensor s = matmul(widened(q), transpose(widened(k))) * attrs.real(1);
  if (mask.defined()) s = s + cast(mask, s.dtype());
  if (attrs.flag(0)) {
    const Shape matrix{q.shape(2), k.shape(2)};
    const Tensor seen = less_equal(iota(matrix, 1) - iota(matrix, 0), k.shape(2) - q.shape(2));
    s = where(seen, std::move(s), -INFINITY);
  }
  return s;
}

// Probabilities from scores and the logarithm of the denominator; rows that see nothing have -inf there and give 0.
Tensor probabilities(const Tensor& scores, const Tensor& log_denominator) {
  const Tensor shift = where(isfinite(log_denominator), log_denominator, 0);
  return exp(scores - unsqueeze(shift, {-1}));
}

// Multiply-adds over the pairs of queries and keys that see each other, `each` for a pair.
double products(const Shape& q, const Shape& k, const ir::Attrs& attrs, int64_t each) {
  const auto queries = static_cast<double>(q[2]), keys = static_cast<double>(k[2]);
  const double pairs = attrs.flag(0) && keys >= queries ? queries * (keys - (queries - 1) / 2) : queries * keys;
  return 2.0 * static_cast<double>(q[0] * q[1] * each) * pairs;
}

std::vector<Sample> attention_samples() {
  return {{{{{1, 2, 3, 4}}, {{1, 2, 5, 4}}, {{1, 2, 5, 3}}, {.shape = {}, .absent = true}}, {true, 0.5}},
          {{{{2, 1, 3, 2}}, {{2, 1, 3, 2}}, {{2, 1, 3, 2}}, {.shape = {3, 3}, .differentiable = false}}, {false, 0.7}}};
}

}  // namespace

const OpDef& attention_grad_op() {
  static const OpDef def{
      .name = "attention_grad",
      .doc = "Cotangents of q, k and v of `attention` from that of y.",
      .inputs = {{"ct", kFloats},
                 {"q", kFloats},
                 {"k", kFloats},
                 {"v", kFloats},
                 {"mask", kFloats, ArgKind::Optional},
                 {"y", kFloats},
                 {"log_denominator", kFloats}},
      .attrs = kAttrs,
      .results = 3,
      .infer =
          [](const InferArgs& a) {
            check_heads(a, 1);
            return std::vector<TensorType>{a.in[1], a.in[2], a.in[3]};
          },
      .meaning = Composite{[](std::span<const Tensor> in, const ir::Attrs& attrs) {
        const Tensor ct = widened(in[0]), q = widened(in[1]), k = widened(in[2]), v = widened(in[3]);
        const Tensor p = probabilities(scores_of(q, k, in[4], attrs), widened(in[6]));
        const Tensor dv = matmul(transpose(p), ct);
        const Tensor ds = p * (matmul(ct, transpose(v)) - sum(ct * widened(in[5]), {-1}, true)) * attrs.real(1);
        return Tensors{cast(matmul(ds, k), in[1].dtype()), cast(matmul(transpose(ds), q), in[2].dtype()),
                       cast(dv, in[3].dtype())};
      }},
      .gradient = GradientOfBody{},
      .batching = BatchBody{},
      .samples =
          [] {
            return std::vector<Sample>{{{{{1, 2, 3, 3}},
                                         {{1, 2, 3, 4}},
                                         {{1, 2, 5, 4}},
                                         {{1, 2, 5, 3}},
                                         {.shape = {}, .absent = true},
                                         {{1, 2, 3, 3}},
                                         {{1, 2, 3}, 1, 3}},
                                        {true, 0.5}}};
          },
      .tolerance = {64, 1e-4},
      .version = 2,  // 1: f16 and bf16 between the inputs and the results too
      .flops =
          [](std::span<const TensorType> in, std::span<const TensorType>, const ir::Attrs& attrs) {
            // The scores again, then three products of width `width of k` and two of `width of v`.
            return products(in[1].shape, in[2].shape, attrs, 3 * in[1].shape[3] + 2 * in[3].shape[3]);
          }};
  return def;
}

namespace {

// The usual way back is one op; what comes in through the second result (a derivative of the first derivative), and
// what the mask gets, is composed.
Tensors attention_vjp(const VjpArgs& a) {
  const Tensor &mask = a.in[3], &log_denominator = a.out[1];
  Tensors g(a.in.size());
  if (a.ct[0].defined()) {
    const Tensors direct =
        call(attention_grad_op(), {a.ct[0], a.in[0], a.in[1], a.in[2], mask, a.out[0], log_denominator}, a.attrs);
    for (size_t i = 0; i < 3; ++i) g[i] = direct[i];
  }
  const bool for_mask = a.needs.size() > 3 && a.needs[3];
  if (!a.ct[1].defined() && !for_mask) return g;
  const Tensor q = widened(a.in[0]), k = widened(a.in[1]);
  const Tensor p = probabilities(scores_of(q, k, mask, a.attrs), log_denominator);
  Tensor ds;  // of the scores
  if (a.ct[1].defined()) {
    ds = p * unsqueeze(a.ct[1], {-1});
    const Tensor scaled = ds * a.attrs.real(1);
    const Tensor dq = matmul(scaled, k), dk = matmul(transpose(scaled), q);
    g[0] = g[0].defined() ? g[0] + dq : dq;
    g[1] = g[1].defined() ? g[1] + dk : dk;
  }
  if (for_mask) {
    if (a.ct[0].defined()) {
      const Tensor ct = widened(a.ct[0]);
      const Tensor more = p * (matmul(ct, transpose(widened(a.in[2]))) - sum(ct * widened(a.out[0]), {-1}, true));
      ds = ds.defined() ? ds + more : more;
    }
    g[3] = cast(sum_to(ds, mask.shape()), mask.dtype());
  }
  return g;
}

}  // namespace

const OpDef& attention_op() {
  static const OpDef def{
      .name = "attention",
      .doc =
          "softmax(scale * q k^T + mask) v over [N, heads, length, width]; the second result is the logarithm of each "
          "softmax denominator. With `causal`, query i sees keys up to i + keys - queries. In f16 and bf16 sums and "
          "softmax are of f32, and so is the second result.",
      .inputs = {{"q", kFloats}, {"k", kFloats}, {"v", kFloats}, {"mask", kFloats, ArgKind::Optional}},
      .attrs = kAttrs,
      .results = 2,
      .promote = {7, true},
      .autocast = AutocastRule::Lower,
      .infer =
          [](const InferArgs& a) {
            check_heads(a, 0);
            const Shape &q = a.in[0].shape, &k = a.in[1].shape, &v = a.in[2].shape;
            check_mask(a, 3, q, k);
            return std::vector<TensorType>{{a.in[0].dtype, {q[0], q[1], q[2], v[3]}},
                                           {between(a.in[0].dtype), {q[0], q[1], q[2]}}};
          },
      .meaning = Composite{[](std::span<const Tensor> in, const ir::Attrs& attrs) {
        const Tensor scores = scores_of(in[0], in[1], in.size() > 3 ? in[3] : Tensor(), attrs);
        const Tensor log_denominator = logsumexp(scores, {-1});
        const Tensor y = matmul(probabilities(scores, log_denominator), widened(in[2]));
        return Tensors{cast(y, in[0].dtype()), log_denominator};
      }},
      .gradient =
          Vjp{[](const VjpArgs& a) { return attention_vjp(a); }, bit(0) | bit(1) | bit(2) | bit(3), bit(0) | bit(1)},
      .batching = BatchBody{},
      .samples = attention_samples,
      .invalid_samples =
          [] {
            const SampleInput none{.shape = {}, .absent = true};
            return std::vector<InvalidSample>{
                {{{{1, 2, 3, 4}}, {{1, 2, 5, 3}}, {{1, 2, 5, 3}}, none}, {false, 1.0}, "keys do not fit"},
                {{{{1, 2, 3, 4}}, {{1, 2, 5, 4}}, {{1, 2, 4, 3}}, none}, {false, 1.0}, "values do not fit"},
                {{{{1, 2, 3, 4}}, {{1, 2, 5, 4}}, {{1, 2, 5, 4}}, {{3, 4}}}, {false, 1.0}, "broadcast"}};
          },
      .tolerance = {64, 1e-4},
      .version = 2,  // 1: f16 and bf16 between the inputs and the results too
      .flops =
          [](std::span<const TensorType> in, std::span<const TensorType>, const ir::Attrs& attrs) {
            return products(in[0].shape, in[1].shape, attrs, in[0].shape[3] + in[2].shape[3]);
          }};
  return def;
}

std::vector<const OpDef*> attention_ops() { return {&attention_op(), &attention_grad_op()}; }

}  // namespace ops

Tensor scaled_dot_product_attention(Tensor q, Tensor k, Tensor v, Tensor mask, AttentionOptions options) {
  if (q.ndim() == 4 && k.ndim() == 4 && v.ndim() == 4 && k.shape(1) != q.shape(1)) {
    if (k.shape(1) == 0 || q.shape(1) % k.shape(1) != 0 || v.shape(1) != k.shape(1))
      throw ShapeError({"attention",
                        "the key heads do not divide the query heads",
                        fmt::format("a divisor of {}", q.shape(1)),
                        std::to_string(k.shape(1)),
                        {}});
    const int64_t repeats = q.shape(1) / k.shape(1);
    k = repeat_interleave(std::move(k), repeats, 1);
    v = repeat_interleave(std::move(v), repeats, 1);
  }
  const double scale = options.scale != 0 ? options.scale : 1 / std::sqrt(static_cast<double>(q.shape(-1)));
  if (mask.defined() && mask.dtype() == DType::Bool) mask = cast(where(mask, 0.0, -INFINITY), q.dtype());
  if (mask.defined()) mask = cast(std::move(mask), q.dtype());
  return ops::call(ops::attention_op(), {std::move(q), std::move(k), std::move(v), std::move(mask)},
                   {options.causal, scale})[0];
}

Tensor packed_attention(Tensor q, Tensor k, Tensor v, const Ints& offsets, AttentionOptions options) {
  if (q.ndim() != 3 || offsets.size() < 2 || offsets.front() != 0 || offsets.back() != q.shape(0))
    throw ValueError({"packed_attention",
                      "the offsets do not cut the rows into sequences",
                      fmt::format("0, …, {}", q.ndim() == 3 ? q.shape(0) : 0),
                      to_string(offsets),
                      {}});
  Tensors parts;
  for (size_t i = 0; i + 1 < offsets.size(); ++i) {
    const int64_t start = offsets[i], length = offsets[i + 1] - start;
    if (length < 0)
      throw ValueError({"packed_attention", "the offsets go backwards", "growing offsets", to_string(offsets), {}});
    // [L, heads, D] -> [1, heads, L, D]
    const auto part = [&](const Tensor& x) { return unsqueeze(transpose(narrow(x, 0, start, length), 0, 1), {0}); };
    parts.push_back(
        transpose(squeeze(scaled_dot_product_attention(part(q), part(k), part(v), {}, options), {0}), 0, 1));
  }
  return concat(parts, 0);
}

}  // namespace tenon
