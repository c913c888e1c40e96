// Elementwise operators.
#include <array>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <limits>

#include "tenon/formats/onnx/call.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/reduce.h"
#include "tenon/ops/softmax.h"

namespace tenon::formats::onnx {
namespace {

template <Tensor (*F)(Tensor)>
Values unary(Call& c) {
  return {F(c.tensor(0))};
}

// Up to opset 6 a binary operator broadcast only where it was told to, and along a named axis.
Tensor legacy_right(Call& c) {
  Tensor b = c.tensor(1);
  if (c.opset >= 7 || c.integer_attribute("broadcast", 0) == 0 || !c.attribute("axis")) return b;
  const int64_t rank = c.tensor(0).ndim();
  const int64_t axis = normalize_axis(c.where, c.integer_attribute("axis", -1), rank);
  Shape shape = b.shape();
  for (int64_t k = axis + b.ndim(); k < rank; ++k) shape.push_back(1);
  return reshape(b, shape);
}

template <Tensor (*F)(Tensor, Tensor)>
Values binary(Call& c) {
  return {F(c.tensor(0), legacy_right(c))};
}

template <Tensor (*F)(Tensor, Tensor)>
Values fold(Call& c) {
  Tensor x = c.tensor(0);
  for (size_t i = 1; i < c.in.size(); ++i) x = F(x, c.tensor(i));
  return {x};
}

// Integers divide towards zero.
Values div(Call& c) {
  const Tensor a = c.tensor(0), b = legacy_right(c);
  if (!is_integer(a.dtype())) return {divide(a, b)};
  return {floor_divide(a - tenon::fmod(a, b), b)};
}

Values mod(Call& c) {
  const bool like_c = c.integer_attribute("fmod", 0) != 0;
  return {like_c ? tenon::fmod(c.tensor(0), c.tensor(1)) : tenon::remainder(c.tensor(0), c.tensor(1))};
}

// The result has the base's type.
Values pow(Call& c) {
  const Tensor base = c.tensor(0), exponent = legacy_right(c);
  if (is_integer(base.dtype()) && is_float(exponent.dtype()))
    return {cast(power(cast(base, f64), cast(exponent, f64)), base.dtype())};
  return {cast(power(base, cast(exponent, base.dtype())), base.dtype())};
}

Values bit_shift(Call& c) {
  const bool left = c.text_attribute("direction", "") == "LEFT";
  return {left ? left_shift(c.tensor(0), c.tensor(1)) : right_shift(c.tensor(0), c.tensor(1))};
}

Values mean_of(Call& c) {
  Tensor x = c.tensor(0);
  for (size_t i = 1; i < c.in.size(); ++i) x = x + c.tensor(i);
  return {x / static_cast<double>(c.in.size())};
}

Values clip(Call& c) {
  Tensor x = c.tensor(0);
  if (c.opset < 11) {
    const double low = c.real_attribute("min", -std::numeric_limits<double>::infinity());
    const double high = c.real_attribute("max", std::numeric_limits<double>::infinity());
    return {minimum(maximum(x, low), high)};
  }
  if (c.has(1)) x = maximum(x, c.tensor(1));
  if (c.has(2)) x = minimum(x, c.tensor(2));
  return {x};
}

Values is_inf(Call& c) {
  const Tensor x = c.tensor(0);
  Tensor found = tenon::isinf(x);
  if (c.integer_attribute("detect_negative", 1) == 0) found = logical_and(found, x > 0);
  if (c.integer_attribute("detect_positive", 1) == 0) found = logical_and(found, x < 0);
  return {found};
}

Values equal_values(Call& c) {
  if (const Texts* a = c.has(0) ? c.in[0].texts() : nullptr) {
    const Texts& b = c.texts(1);
    const Shape shape = broadcast_shapes(c.where, a->shape, b.shape);
    // Positions of the broadcast elements.
    const auto places = [&](const Texts& t) {
      return expand(reshape(arange(static_cast<int64_t>(t.values.size())), t.shape), shape).to_vector<int64_t>();
    };
    const auto pa = places(*a), pb = places(b);
    Tensor same = empty(shape, DType::Bool);
    std::byte* out = mutable_data(same);
    for (size_t i = 0; i < pa.size(); ++i)
      out[i] = static_cast<std::byte>(a->values[static_cast<size_t>(pa[i])] == b.values[static_cast<size_t>(pb[i])]);
    return {same};
  }
  return binary<equal>(c);
}

Values where_rule(Call& c) {
  if (c.has(1) && c.in[1].texts()) c.unsupported("strings cannot be chosen");
  return {where(c.tensor(0), c.tensor(1), c.tensor(2))};
}

// ---- activations ----
double alpha(Call& c, double fallback) { return c.real_attribute("alpha", fallback); }
double beta(Call& c, double fallback) { return c.real_attribute("beta", fallback); }

Values leaky(Call& c) { return {leaky_relu(c.tensor(0), alpha(c, 0.01))}; }
Values elu_rule(Call& c) { return {elu(c.tensor(0), alpha(c, 1))}; }
Values celu_rule(Call& c) { return {celu(c.tensor(0), alpha(c, 1))}; }
Values selu_rule(Call& c) {
  const Tensor x = c.tensor(0);
  const double a = alpha(c, 1.67326319217681884765625), gamma = c.real_attribute("gamma", 1.05070102214813232421875);
  return {where(x > 0, x * gamma, (exp(minimum(x, 0)) - 1) * (a * gamma))};
}
Values hard_sigmoid_rule(Call& c) { return {minimum(maximum(c.tensor(0) * alpha(c, 0.2) + beta(c, 0.5), 0), 1)}; }
Values thresholded_relu(Call& c) {
  const Tensor x = c.tensor(0);
  return {where(x > alpha(c, 1), x, 0)};
}
Values shrink(Call& c) {
  const Tensor x = c.tensor(0);
  const double bias = c.real_attribute("bias", 0), lambda = c.real_attribute("lambd", 0.5);
  const Tensor y = where(x < -lambda, x + bias, where(x > lambda, x - bias, 0));
  return {cast(y, x.dtype())};
}
Values prelu_rule(Call& c) {
  const Tensor x = c.tensor(0);
  Tensor slope = c.tensor(1);
  // Up to opset 6 a list of slopes is one for each channel.
  if (c.opset < 7 && slope.ndim() == 1 && slope.size() > 1) {
    Shape column(static_cast<size_t>(x.ndim()), 1);
    column[1] = slope.size();
    slope = reshape(slope, column);
  }
  return {where(x < 0, x * slope, x)};
}
Values gelu_rule(Call& c) { return {gelu(c.tensor(0), c.text_attribute("approximate", "none") == "tanh")}; }
Values swish(Call& c) {
  const Tensor x = c.tensor(0);
  return {x * sigmoid(x * alpha(c, 1))};
}
// x and gate are the halves of the last axis, or two inputs.
Values swiglu(Call& c) {
  const Tensor gate = c.tensor(0), value = c.tensor(1);
  return {gate * sigmoid(gate * alpha(c, 1)) * value};
}
Values softplus_rule(Call& c) { return {softplus(c.tensor(0))}; }

// Up to opset 12 the axes from `axis` on count as one.
template <Tensor (*F)(Tensor, int64_t)>
Values along_axis(Call& c) {
  const Tensor x = c.tensor(0);
  if (c.opset >= 13) return {F(x, c.integer_attribute("axis", -1))};
  const int64_t axis = normalize_axis(c.where, c.integer_attribute("axis", 1), x.ndim());
  int64_t rows = 1;
  for (int64_t k = 0; k < axis; ++k) rows *= x.shape(k);
  return {reshape(F(reshape(x, {rows, rows == 0 ? 0 : x.size() / rows}), -1), x.shape())};
}
Tensor hardmax(Tensor x, int64_t axis) {
  const Tensor best = argmax(x, axis, true);
  return cast(equal(best, iota(x.shape(), axis)), x.dtype());
}

Values cast_to(Call& c, DataType to) {
  const bool saturate = c.integer_attribute("saturate", 1) != 0;
  if (const Texts* texts = c.has(0) ? c.in[0].texts() : nullptr) {
    std::vector<double> numbers;
    for (const auto& t : texts->values) numbers.push_back(std::strtod(t.c_str(), nullptr));
    if (to == DataType::String) return {*texts};
    if (to == DataType::Int64) {
      std::vector<int64_t> whole;
      for (const auto& t : texts->values) whole.push_back(std::strtoll(t.c_str(), nullptr, 10));
      return {from_vector(whole, texts->shape)};
    }
    return {cast(from_vector(numbers, texts->shape), dtype_of(to, c.where))};
  }
  const Codes* codes = c.has(0) ? c.in[0].codes() : nullptr;
  if (codes && codes->type == to) return {*codes};
  const Tensor x = c.tensor(0);
  if (to == DataType::String) {
    Texts texts{x.shape(), {}};
    if (!is_float(x.dtype())) {
      for (int64_t v : x.to_vector<int64_t>()) texts.values.push_back(std::to_string(v));
      return {texts};
    }
    for (double v : x.to_vector<double>()) {
      std::array<char, 64> buffer{};
      if (std::isnan(v)) {
        texts.values.emplace_back("NaN");
      } else if (std::isinf(v)) {
        texts.values.emplace_back(v > 0 ? "INF" : "-INF");
      } else if (x.dtype() == DType::F64) {
        std::snprintf(buffer.data(), buffer.size(), "%.17g", v);
        texts.values.emplace_back(buffer.data());
      } else {
        std::snprintf(buffer.data(), buffer.size(), "%.9g", v);
        texts.values.emplace_back(buffer.data());
      }
    }
    return {texts};
  }
  const int width = to == DataType::Uint2 || to == DataType::Int2 ? 2 : 4;
  if (is_float(x.dtype()) && (to == DataType::Int4 || to == DataType::Uint4 || to == DataType::Int2)) {
    // Only the low bits stay, as for wider integers.
    const int64_t low = to == DataType::Uint4 ? 0 : int64_t{1} << (width - 1);
    const Tensor wrapped = remainder(cast(x, i64) + low, int64_t{1} << width) - low;
    return {cast(cast(wrapped, f32), dtype_of(to, c.where))};
  }
  if (!has_dtype(to)) return {encode(x, to, to != DataType::Uint2 && saturate, c.where)};
  const DType dtype = dtype_of(to, c.where);
  if (saturate && is_float(x.dtype()) && (dtype == DType::F8E4M3 || dtype == DType::F8E5M2)) {
    const double limit = dtype == DType::F8E4M3 ? 448 : 57344;
    return {cast(minimum(maximum(cast(x, f32), -limit), limit), dtype)};
  }
  // Storage types have casts to and from f32 alone.
  if (info(x.dtype()).storage_only && dtype != DType::F32) return {cast(cast(x, f32), dtype)};
  return {cast(x, dtype)};
}
Values cast_rule(Call& c) {
  const auto to = c.integer_attribute("to", 0);
  if (to == static_cast<int64_t>(DataType::Float8E8M0)) {
    // Scales: rounded up by default, so that nothing overflows.
    const std::string mode = c.text_attribute("round_mode", "up");
    const Tensor x = cast(c.tensor(0), f64);
    const Tensor exponent = mode == "up" ? ceil(log2(x)) : mode == "down" ? floor(log2(x)) : round(log2(x));
    return {encode(exp2(minimum(maximum(exponent, -127), 127)), DataType::Float8E8M0, true, c.where)};
  }
  return cast_to(c, static_cast<DataType>(to));
}
Values cast_like(Call& c) {
  if (!c.has(1)) c.fail("the type to cast to is missing");
  if (c.in[1].texts()) return cast_to(c, DataType::String);
  if (const Codes* codes = c.in[1].codes()) return cast_to(c, codes->type);
  return cast_to(c, data_type_of(c.tensor(1).dtype()));
}

Values bit_cast(Call& c) {
  const Tensor x = c.tensor(0);
  const DType to = dtype_of(static_cast<DataType>(c.integer_attribute("to", 0)), c.where);
  if (info(to).bits != info(x.dtype()).bits) c.fail("the types differ in width");
  const Tensor flat = contiguous(c.value(0));
  if (!flat.is_concrete()) c.unsupported("has no form in a graph");
  return {from_buffer(flat.impl()->buffer, {to, flat.shape()}, flat.impl()->offset)};
}

constexpr std::array kRules{
    Rule{"Abs", unary<tenon::abs>},
    Rule{"Acos", unary<tenon::acos>},
    Rule{"Acosh", unary<tenon::acosh>},
    Rule{"Asin", unary<tenon::asin>},
    Rule{"Asinh", unary<tenon::asinh>},
    Rule{"Atan", unary<tenon::atan>},
    Rule{"Atanh", unary<tenon::atanh>},
    Rule{"BitwiseNot", unary<bitwise_not>},
    Rule{"Ceil", unary<tenon::ceil>},
    Rule{"Cos", unary<tenon::cos>},
    Rule{"Cosh", unary<tenon::cosh>},
    Rule{"Erf", unary<tenon::erf>},
    Rule{"Exp", unary<tenon::exp>},
    Rule{"Floor", unary<tenon::floor>},
    Rule{"IsNaN", unary<tenon::isnan>},
    Rule{"Log", unary<tenon::log>},
    Rule{"Neg", unary<negative>},
    Rule{"Not", unary<logical_not>},
    Rule{"Reciprocal", unary<reciprocal>},
    Rule{"Round", unary<tenon::round>},
    Rule{"Sigmoid", unary<sigmoid>},
    Rule{"Sign", unary<sign>},
    Rule{"Sin", unary<tenon::sin>},
    Rule{"Sinh", unary<tenon::sinh>},
    Rule{"Sqrt", unary<tenon::sqrt>},
    Rule{"Tan", unary<tenon::tan>},
    Rule{"Tanh", unary<tenon::tanh>},
    Rule{"Relu", unary<relu>},
    Rule{"Softsign", unary<softsign>},
    Rule{"HardSwish", unary<hard_swish>},
    Rule{"Mish", unary<mish>},
    Rule{"Add", binary<add>},
    Rule{"Sub", binary<subtract>},
    Rule{"Mul", binary<multiply>},
    Rule{"And", binary<logical_and>},
    Rule{"Or", binary<logical_or>},
    Rule{"Xor", binary<logical_xor>},
    Rule{"BitwiseAnd", binary<bitwise_and>},
    Rule{"BitwiseOr", binary<bitwise_or>},
    Rule{"BitwiseXor", binary<bitwise_xor>},
    Rule{"Greater", binary<greater>},
    Rule{"GreaterOrEqual", binary<greater_equal>},
    Rule{"Less", binary<less>},
    Rule{"LessOrEqual", binary<less_equal>},
    Rule{"Equal", equal_values},
    Rule{"Max", fold<maximum>},
    Rule{"Min", fold<minimum>},
    Rule{"Sum", fold<add>},
    Rule{"Mean", mean_of},
    Rule{"Div", div},
    Rule{"Mod", mod},
    Rule{"Pow", pow},
    Rule{"BitShift", bit_shift},
    Rule{"Clip", clip},
    Rule{"IsInf", is_inf},
    Rule{"Where", where_rule},
    Rule{"LeakyRelu", leaky},
    Rule{"Elu", elu_rule},
    Rule{"Celu", celu_rule},
    Rule{"Selu", selu_rule},
    Rule{"HardSigmoid", hard_sigmoid_rule},
    Rule{"ThresholdedRelu", thresholded_relu},
    Rule{"Shrink", shrink},
    Rule{"PRelu", prelu_rule},
    Rule{"Gelu", gelu_rule},
    Rule{"Gelu", gelu_rule, "com.microsoft"},
    Rule{"Swish", swish},
    Rule{"SwiGLU", swiglu},
    Rule{"Softplus", softplus_rule},
    Rule{"Softmax", along_axis<softmax>},
    Rule{"LogSoftmax", along_axis<log_softmax>},
    Rule{"Hardmax", along_axis<hardmax>},
    Rule{"Cast", cast_rule},
    Rule{"CastLike", cast_like},
    Rule{"BitCast", bit_cast},
};

}  // namespace

std::span<const Rule> math_rules() { return kRules; }

}  // namespace tenon::formats::onnx
