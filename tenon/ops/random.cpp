#include "tenon/ops/random.h"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <mutex>

#include "tenon/base/error.h"
#include "tenon/ops/call.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/indexing.h"
#include "tenon/ops/infer.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/ordering.h"
#include "tenon/ops/reduce.h"
#include "tenon/tensor/element.h"
#include "tenon/tensor/number.h"

namespace tenon {
namespace ops {
namespace {

using Words = std::array<uint32_t, 4>;

Words philox(Words counter, uint32_t k0, uint32_t k1) {
  for (int round = 0; round < 10; ++round) {
    const uint64_t a = uint64_t{0xD2511F53u} * counter[0], b = uint64_t{0xCD9E8D57u} * counter[2];
    counter = {static_cast<uint32_t>(b >> 32) ^ counter[1] ^ k0, static_cast<uint32_t>(b),
               static_cast<uint32_t>(a >> 32) ^ counter[3] ^ k1, static_cast<uint32_t>(a)};
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return counter;
}

// Element i of a key's stream is word i % 4 of block i / 4.
void random_bits_reference(const ReferenceArgs& a) {
  const ConstView& keys = a.inputs[0];
  const View& out = a.outputs[0];
  const Shape batch(keys.shape.begin(), keys.shape.end() - 1);
  const int64_t each = numel(a.attrs.ints(0));
  ElementCursor key(batch, Shape(keys.strides.begin(), keys.strides.end() - 1), keys.offset);
  auto* bits = out.as<uint32_t>();
  for (int64_t n = numel(batch); n > 0; --n, key.next(), bits += each) {
    const auto k0 = static_cast<uint32_t>(load_integer(keys, key.element()));
    const auto k1 = static_cast<uint32_t>(load_integer(keys, key.element() + keys.strides.back()));
    for (int64_t i = 0; i < each; i += 4) {
      const auto block = static_cast<uint64_t>(i / 4);
      const Words words = philox({static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32), 0, 0}, k0, k1);
      for (int64_t j = i; j < std::min(each, i + 4); ++j) bits[j] = words[static_cast<size_t>(j - i)];
    }
  }
}

}  // namespace

const OpDef& random_bits_op() {
  static const OpDef def{
      .name = "random_bits",
      .doc =
          "Uniform u32 bits: Philox4x32-10 of the element's number under the key. Leading axes of the key are a batch.",
      .inputs = {{"key", {DType::U32}}},
      .attrs = {{"shape", 1, ir::AttrType::IntList, "shape of the numbers for one key"}},
      .infer =
          [](const InferArgs& a) {
            const Shape& key = a.in[0].shape;
            if (key.empty() || key.back() != 2)
              fail_shape(a, "not a key", "u32[…, 2]", to_string(a.in[0]), "random_key(seed)");
            Shape shape(key.begin(), key.end() - 1);
            for (int64_t d : a.attrs.ints(0)) {
              if (d < 0)
                fail_shape(a, "a shape has a negative extent", "extents of 0 or more", to_string(a.attrs.ints(0)));
              shape.push_back(d);
            }
            return std::vector<TensorType>{{DType::U32, shape}};
          },
      .meaning = Primitive{random_bits_reference},
      .gradient = NoGradient{"the numbers are bits"},
      .batching = LeadingAxes{},
      .samples =
          [] {
            return std::vector<Sample>{
                {{{{2}, 0, 0, {1, 2}, static_cast<int>(DType::U32)}}, {Ints{7}}},
                {{{{3, 2}, 0, 0, {1, 2, 3, 4, 5, 6}, static_cast<int>(DType::U32)}}, {Ints{2, 3}}}};
          },
      .invalid_samples =
          [] {
            return std::vector<InvalidSample>{
                {{{{3}, 0, 0, {1, 2, 3}, static_cast<int>(DType::U32)}}, {Ints{2}}, "not a key"}};
          }};
  return def;
}

namespace {

Tensor unit_interval(const Tensor& key, const Shape& shape, DType dtype) {
  if (dtype != DType::F64) {
    const Tensor bits = call1(random_bits_op(), {key}, {shape});
    return cast(right_shift(bits, 8), DType::F32) * std::ldexp(1.0, -24);
  }
  Shape pairs = shape;
  pairs.push_back(2);
  const Tensor bits = call1(random_bits_op(), {key}, {pairs});
  const Tensor high = cast(right_shift(narrow(bits, -1, 0, 1), 5), DType::F64),
               low = cast(right_shift(narrow(bits, -1, 1, 1), 6), DType::F64);
  return squeeze((high * std::ldexp(1.0, 26) + low) * std::ldexp(1.0, -53), {-1});
}

// Kept where the number is not below p.
Tensor dropout_scale(const Tensor& key, const Shape& shape, double p, DType dtype) {
  const Tensor keep = greater_equal(unit_interval(key, shape, DType::F32), p);
  return cast(keep, dtype) * (p < 1 ? 1 / (1 - p) : 0.0);
}

const OpDef& dropout_op() {
  static const OpDef def{
      .name = "dropout",
      .doc = "x with elements zeroed with probability p, the others divided by 1 - p, chosen by the key.",
      .inputs = {{"x", kFloats}, {"key", {DType::U32}}},
      .attrs = {{"p", 1, ir::AttrType::Real, "probability of a zero"}},
      .promote = {1, true},
      .infer =
          [](const InferArgs& a) {
            const double p = a.attrs.real(0);
            if (!(p >= 0 && p <= 1)) fail_value(a, "p is not a probability", "0 to 1", fmt::format("{}", p));
            if (a.in[1].shape != Shape{2}) fail_shape(a, "not a key", "u32[2]", to_string(a.in[1]), "random_key(seed)");
            return std::vector<TensorType>{a.in[0]};
          },
      .meaning = Composite{[](std::span<const Tensor> in, const ir::Attrs& a) {
        return Tensors{in[0] * dropout_scale(in[1], in[0].shape(), a.real(0), in[0].dtype())};
      }},
      .gradient =
          Vjp{[](const VjpArgs& a) { return Tensors{call1(a.op, {a.ct[0], a.in[1]}, a.attrs), Tensor()}; }, bit(1), 0},
      .batching = BatchBody{},
      .samples =
          [] {
            return std::vector<Sample>{{{{{4, 5}}, {{2}, 0, 0, {1, 2}, static_cast<int>(DType::U32)}}, {0.5}},
                                       {{{{3}}, {{2}, 0, 0, {1, 2}, static_cast<int>(DType::U32)}}, {0.0}}};
          },
      .invalid_samples =
          [] {
            return std::vector<InvalidSample>{
                {{{{3}}, {{2}, 0, 0, {1, 2}, static_cast<int>(DType::U32)}}, {1.5}, "not a probability"}};
          }};
  return def;
}

// The one generator that is ambient, as users of PyTorch and NumPy expect. Everything else takes keys.
struct DefaultGenerator {
  std::mutex mutex;
  RandomState state;
};
DefaultGenerator& default_generator() {
  static DefaultGenerator generator;
  return generator;
}

Tensor key_from(uint32_t a, uint32_t b) { return from_vector<uint32_t>({a, b}, {2}); }

// The key that stream `data` of a seed starts from: a Philox block in a counter range of its own.
Tensor derive(uint64_t seed, uint64_t data) {
  const Words w = philox({static_cast<uint32_t>(data), static_cast<uint32_t>(data >> 32), 0, 1},
                         static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32));
  return key_from(w[0], w[1]);
}

Tensor given(Tensor key) { return key.defined() ? key : next_key(); }

}  // namespace

std::vector<const OpDef*> random_ops() { return {&random_bits_op(), &dropout_op()}; }

}  // namespace ops

using namespace ops;  // NOLINT(google-build-using-namespace): the helpers above

RandomState random_state() {
  const std::lock_guard lock(default_generator().mutex);
  return default_generator().state;
}
void set_random_state(const RandomState& state) {
  const std::lock_guard lock(default_generator().mutex);
  default_generator().state = state;
}
void manual_seed(uint64_t seed) { set_random_state({seed, 0}); }

Tensor next_key() {
  RandomState at;
  {
    const std::lock_guard lock(default_generator().mutex);
    at = default_generator().state;
    ++default_generator().state.counter;
  }
  return derive(at.seed, at.counter);
}

Tensor random_key(uint64_t seed) { return key_from(static_cast<uint32_t>(seed), static_cast<uint32_t>(seed >> 32)); }

Tensor split_key(const Tensor& key, int64_t n) {
  // Far from the counters that random_bits uses: under a key that is itself derived.
  return call1(random_bits_op(), {bitwise_xor(key, 0x5bd1e995)}, {Shape{n, 2}});
}

Tensor fold_in(const Tensor& key, uint64_t data) {
  const auto words = key.to_vector<int64_t>();
  return derive(static_cast<uint64_t>(words[0]) | static_cast<uint64_t>(words[1]) << 32, data);
}

Tensor random_bits(const Shape& shape, Tensor key) { return call1(random_bits_op(), {given(std::move(key))}, {shape}); }

namespace {

void expect_real(const char* where, DType dtype) {
  if (!is_float(dtype))
    throw DTypeError({where, "the numbers are real", "f16, bf16, f32 or f64", std::string(name(dtype)),
                      "randint(low, high, shape, dtype) for integers"});
}

void expect_order(const char* where, double low, double high) {
  if (!(low <= high))
    throw ValueError(
        {where, "the bounds are in the wrong order", "low <= high", fmt::format("{} and {}", low, high), {}});
}

}  // namespace

Tensor uniform(const Shape& shape, double low, double high, DType dtype, Tensor key) {
  expect_real("uniform", dtype);
  expect_order("uniform", low, high);
  return cast(unit_interval(given(std::move(key)), shape, dtype) * (high - low) + low, dtype);
}

namespace {

Tensor normal_between(const char* where, const Shape& shape, double mean, double std, double low, double high,
                      DType dtype, Tensor key) {
  expect_real(where, dtype);
  expect_order(where, low, high);
  if (!(std >= 0))
    throw ValueError({where, "the standard deviation is negative", "0 or more", fmt::format("{}", std), {}});
  const double a = std::erf(low / std::sqrt(2.0)), b = std::erf(high / std::sqrt(2.0));
  const DType wide = dtype == DType::F64 ? DType::F64 : DType::F32;
  // Half a step inside the interval: its ends would be infinite.
  const double half = wide == DType::F64 ? std::ldexp(1.0, -54) : std::ldexp(1.0, -25);
  const Tensor u = unit_interval(given(std::move(key)), shape, wide) + half;
  return cast(erfinv(clamp(u * (b - a) + a, -1 + 2 * half, 1 - 2 * half)) * (std * std::sqrt(2.0)) + mean, dtype);
}

}  // namespace

Tensor normal(const Shape& shape, double mean, double std, DType dtype, Tensor key) {
  return normal_between("normal", shape, mean, std, -INFINITY, INFINITY, dtype, std::move(key));
}

Tensor truncated_normal(const Shape& shape, double mean, double std, double low, double high, DType dtype, Tensor key) {
  return normal_between("truncated_normal", shape, mean, std, low, high, dtype, std::move(key));
}

Tensor randint(int64_t low, int64_t high, const Shape& shape, DType dtype, Tensor key) {
  if (low >= high)
    throw ValueError(
        {"randint", "there is no integer between the bounds", "low < high", fmt::format("{} and {}", low, high), {}});
  int64_t range = 0;
  if (__builtin_sub_overflow(high, low, &range))
    throw ValueError({"randint",
                      "the bounds are too far apart",
                      "at most 2^63 - 1 integers",
                      fmt::format("{} and {}", low, high),
                      {}});
  expect_integer_fits("randint", low, dtype);
  expect_integer_fits("randint", high - 1, dtype);
  // 53 bits: the bias is below 2^-21 of a percent for ranges up to 2^32.
  const Tensor u = unit_interval(given(std::move(key)), shape, DType::F64);
  const Tensor offset = cast(floor(u * static_cast<double>(range)), DType::I64);
  return cast(offset + low, dtype);
}

Tensor bernoulli(double p, const Shape& shape, Tensor key) {
  if (!(p >= 0 && p <= 1))
    throw ValueError({"bernoulli", "p is not a probability", "0 to 1", fmt::format("{}", p), {}});
  return less(unit_interval(given(std::move(key)), shape, DType::F32), p);
}

Tensor dropout(Tensor x, double p, Tensor key) {
  return call1(dropout_op(), {std::move(x), given(std::move(key))}, {p});
}

namespace {

Tensor gumbel_noise(const Shape& shape, const Tensor& key) {
  return -log(-log(unit_interval(key, shape, DType::F64) + std::ldexp(1.0, -54)));
}

}  // namespace

Tensor exponential(const Shape& shape, double rate, DType dtype, Tensor key) {
  if (!(rate > 0))
    throw ValueError({"exponential", "the rate is not positive", "more than 0", fmt::format("{}", rate), {}});
  expect_real("exponential", dtype);
  const DType wide = dtype == DType::F64 ? DType::F64 : DType::F32;
  return cast(log1p(-unit_interval(given(std::move(key)), shape, wide)) * (-1 / rate), dtype);
}

Tensor gumbel(const Shape& shape, DType dtype, Tensor key) {
  expect_real("gumbel", dtype);
  return cast(gumbel_noise(shape, given(std::move(key))), dtype);
}

Tensor permutation(int64_t n, Tensor key) {
  if (n < 0) throw ValueError({"permutation", "a negative number of items", "0 or more", std::to_string(n), {}});
  return argsort(unit_interval(given(std::move(key)), {n}, DType::F64), 0);
}

Tensor shuffle(const Tensor& x, int64_t axis, Tensor key) {
  axis = normalize_axis("shuffle", axis, x.ndim());
  return take(x, permutation(x.shape(axis), std::move(key)), axis);
}

Tensor multinomial(const Tensor& weights, int64_t count, bool replacement, Tensor key) {
  if (weights.ndim() == 0)
    throw ShapeError({"multinomial", "the weights have no axis to draw from", "[..., n]", "[]", {}});
  if (count < 1 || (!replacement && count > weights.shape(-1)))
    throw ValueError({"multinomial", "the number of draws does not fit",
                      replacement ? "1 or more" : fmt::format("1 to {}", weights.shape(-1)), std::to_string(count),
                      replacement ? "" : "replacement = true"});
  const Tensor scores = log(cast(weights, DType::F64));
  if (!replacement)  // the largest of perturbed scores are a sample in order (Vieira, 2014)
    return topk(scores + gumbel_noise(weights.shape(), given(std::move(key))), count, -1).indices;
  Shape shape = weights.shape();
  shape.insert(shape.end() - 1, count);
  return argmax(unsqueeze(scores, {-2}) + gumbel_noise(shape, given(std::move(key))), -1);
}

Tensor categorical(const Tensor& logits, Tensor key) {
  return argmax(cast(logits, DType::F64) + gumbel_noise(logits.shape(), given(std::move(key))), -1);
}

}  // namespace tenon
