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

// Mistakes are told of an example.
void check_example(const BatchArgs& a) {
  std::vector<TensorType> types(a.in.size());
  InlineVector<bool, 8> present(a.in.size());
  for (size_t i = 0; i < a.in.size(); ++i) {
    present[i] = a.in[i].defined();
    if (!present[i]) continue;
    types[i] = a.in[i].type();
    if (a.batched[i]) types[i].shape.erase(types[i].shape.begin());
  }
  (void)infer_types({a.op, types, present, a.attrs});
}

// Under vmap: one call of the op, of whose axes [N, heads] the batch becomes a part. A mask broadcasts along each of
// [batch, N, heads] or has all of it, so two of the three are alike to it: these become one axis, and the mask is never
// copied. `q` and `mask` are the places of these inputs; all others have [N, heads] in front.
Tensors batch_attention(const BatchArgs& a, size_t q, size_t mask) {
  check_example(a);
  Shape lead = a.in[q].shape();
  if (!a.batched[q]) lead.insert(lead.begin(), a.size);
  lead.resize(3);
  const auto with_batch = [&](size_t i) { return a.batched[i] ? a.in[i] : unsqueeze(a.in[i], {0}); };
  Tensor m;
  Shape of_mask{1, 1, 1};
  if (mask < a.in.size() && a.in[mask].defined()) {
    m = with_batch(mask);
    Shape shape = m.shape();
    while (shape.size() < 5) shape.insert(shape.begin() + 1, 1);
    m = reshape(std::move(m), shape);
    shape.resize(3);
    of_mask = shape;
  }
  const auto alike = [&](size_t i, size_t k) {
    return lead[i] == 1 || lead[k] == 1 || (of_mask[i] == 1) == (of_mask[k] == 1);
  };
  const bool heads_join_n = alike(1, 2), n_joins_batch = !heads_join_n && alike(0, 1);
  const size_t at = n_joins_batch ? 0 : 1;               // this axis and the next become one,
  const bool n_first = !heads_join_n && !n_joins_batch;  // in the order [N, batch, heads]
  const auto joined = [&](Tensor x) {
    if (n_first) x = transpose(std::move(x), 0, 1);
    Shape shape = x.shape();
    shape[at] *= shape[at + 1];
    shape.erase(shape.begin() + at + 1);
    return reshape(std::move(x), shape);
  };
  Tensors in(a.in.size());
  for (size_t i = 0; i < in.size(); ++i) {
    if (i == mask || !a.in[i].defined()) continue;
    Tensor x = with_batch(i);
    Shape shape = x.shape();
    shape[0] = a.size;
    in[i] = joined(expand(std::move(x), shape));
  }
  if (m.defined()) in[mask] = joined(std::move(m));
  Tensors out = call(a.op, std::move(in), a.attrs);
  if (n_first) std::swap(lead[0], lead[1]);
  for (auto& y : out) {
    Shape shape = lead;
    for (int64_t axis = 2; axis < y.ndim(); ++axis) shape.push_back(y.shape(axis));
    y = reshape(std::move(y), shape);
    if (n_first) y = transpose(std::move(y), 0, 1);
  }
  return out;
}

std::vector<Sample> attention_samples() {
  return {{{{{1, 2, 3, 4}}, {{1, 2, 5, 4}}, {{1, 2, 5, 3}}, {.shape = {}, .absent = true}}, {true, 0.5}},
          {{{{2, 1, 3, 2}}, {{2, 1, 3, 2}}, {{2, 1, 3, 2}}, {.shape = {3, 3}, .differentiable = false}}, {false, 0.7}},
          {{{{2, 2, 2, 3}}, {{2, 2, 3, 3}}, {{2, 2, 3, 2}}, {.shape = {2, 1, 1, 3}, .differentiable = false}},
           {false, 0.6}}};
}

// The derivative of the body below. A rule of its own, so that a pass back that is recorded (under vmap with what all
// examples share it always is) stays one op, and only who differentiates it once more needs memory for the scores.
Tensors attention_grad_vjp(const VjpArgs& a) {
  const double scale = a.attrs.real(1);
  const Tensor &mask = a.in[4], ct = widened(a.in[0]), q = widened(a.in[1]), k = widened(a.in[2]);
  const Tensor v = widened(a.in[3]), y = widened(a.in[5]);
  const Tensor p = probabilities(scores_of(q, k, mask, a.attrs), widened(a.in[6]));
  Tensors g(a.in.size());
  const auto add = [](Tensor& total, Tensor more) {
    total = total.defined() ? std::move(total) + std::move(more) : std::move(more);
  };
  Tensor of_ds, of_p;  // cotangents of the body's ds / scale, and of p
  if (a.ct[0].defined()) add(of_ds, matmul(widened(a.ct[0]), transpose(k)) * scale);
  if (a.ct[1].defined()) add(of_ds, matmul(q, transpose(widened(a.ct[1]))) * scale);
  if (of_ds.defined()) {
    const Tensor slope = matmul(ct, transpose(v)) - sum(ct * y, {-1}, true), ds = p * slope * scale;
    if (a.ct[0].defined()) add(g[2], matmul(transpose(ds), widened(a.ct[0])));
    if (a.ct[1].defined()) add(g[1], matmul(ds, widened(a.ct[1])));
    const Tensor of_slope = of_ds * p, of_inner = -sum(of_slope, {-1}, true);
    add(g[0], matmul(of_slope, v) + of_inner * y);
    add(g[3], matmul(transpose(of_slope), ct));
    add(g[5], of_inner * ct);
    add(of_p, of_ds * slope);
  }
  if (a.ct[2].defined()) {
    add(g[0], matmul(p, widened(a.ct[2])));
    add(of_p, matmul(ct, transpose(widened(a.ct[2]))));
  }
  if (!of_p.defined()) return g;
  const Tensor of_scores = p * of_p;
  add(g[1], matmul(of_scores, k) * scale);
  add(g[2], matmul(transpose(of_scores), q) * scale);
  if (a.needs[4]) g[4] = sum_to(of_scores, mask.shape());
  g[6] = -sum(of_scores, {-1});
  return g;
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
            check_mask(a, 4, a.in[1].shape, a.in[2].shape);
            const Shape rows(a.in[1].shape.begin(), a.in[1].shape.end() - 1);
            Shape y = rows;
            y.push_back(a.in[3].shape[3]);
            if (a.in[0].shape != y || a.in[5].shape != y)
              fail_shape(a, "ct and y are not alike", to_string(y), to_string(a.in[a.in[0].shape != y ? 0 : 5].shape));
            if (a.in[6].shape != rows)
              fail_shape(a, "there is not one denominator for each query", to_string(rows), to_string(a.in[6].shape));
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
      .gradient = Vjp{[](const VjpArgs& g) { return attention_grad_vjp(g); }, bit(7) - 1, 0},
      .batching = BatchRule{[](const BatchArgs& b) { return batch_attention(b, 1, 4); }},
      .samples =
          [] {
            return std::vector<Sample>{{{{{1, 2, 3, 3}},
                                         {{1, 2, 3, 4}},
                                         {{1, 2, 5, 4}},
                                         {{1, 2, 5, 3}},
                                         {.shape = {}, .absent = true},
                                         {{1, 2, 3, 3}},
                                         {{1, 2, 3}, 1, 3}},
                                        {true, 0.5}},
                                       {{{{2, 2, 2, 2}},
                                         {{2, 2, 2, 3}},
                                         {{2, 2, 3, 3}},
                                         {{2, 2, 3, 2}},
                                         {.shape = {2, 1, 1, 3}, .differentiable = false},
                                         {{2, 2, 2, 2}},
                                         {{2, 2, 2}, 1, 3}},
                                        {false, 0.6}}};
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
      .batching = BatchRule{[](const BatchArgs& b) { return batch_attention(b, 0, 3); }},
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
