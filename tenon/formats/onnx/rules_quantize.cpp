// Quantisation: numbers as small integers with a scale and a zero point.
#include <algorithm>
#include <array>
#include <cmath>

#include "tenon/formats/onnx/call.h"
#include "tenon/ops/call.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/matmul.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/reduce.h"
#include "tenon/trace/capture.h"

namespace tenon::formats::onnx {
namespace {

// A scale or zero point beside x: one number, one for each position along the axis, or one for each block of it.
Tensor spread(Call& c, const Tensor& v, const Tensor& x) {
  if (v.size() == 1 && v.ndim() <= 1) return reshape(v, {});
  const int64_t block = c.integer_attribute("block_size", 0);
  const int64_t axis = normalize_axis(c.where, c.integer_attribute("axis", 1), x.ndim());
  if (v.ndim() == 1 && block == 0) {
    Shape column(static_cast<size_t>(x.ndim()), 1);
    column[static_cast<size_t>(axis)] = v.size();
    return reshape(v, column);
  }
  const int64_t size = block != 0 ? block : (x.shape(axis) + v.shape(axis) - 1) / v.shape(axis);
  return narrow(repeat_interleave(v, size, axis), axis, 0, x.shape(axis));
}

struct Range {
  double low, high;
};
Range range_of(DType dtype) {
  const int bits = info(dtype).bits;
  if (info(dtype).kind == DTypeKind::Unsigned) return {0, std::ldexp(1.0, bits) - 1};
  return {-std::ldexp(1.0, bits - 1), std::ldexp(1.0, bits - 1) - 1};
}

// Whole numbers, the zero point added, cut to the type's range.
Tensor cut_to(DType dtype, Tensor q, const Tensor& zero) {
  if (zero.defined()) q = q + zero;
  const Range range = range_of(dtype);
  return cast(cast(minimum(maximum(q, range.low), range.high), f32), dtype);
}

// round(x / scale) + zero, cut to the type's range.
Value quantized(Call& c, const Tensor& x, const Tensor& scale, const Tensor& zero, DataType type) {
  if (!has_dtype(type) && type != DataType::Uint2)
    return encode(cast(x / scale, f32), type, c.integer_attribute("saturate", 1) != 0, c.where);
  if (type == DataType::Uint2) {
    Tensor q = round(x / scale);
    if (zero.defined()) q = q + zero;
    return encode(minimum(maximum(q, 0), 3), type, true, c.where);
  }
  const DType dtype = dtype_of(type, c.where);
  if (is_float(dtype)) {
    const double limit = dtype == DType::F8E4M3 ? 448 : 57344;
    const Tensor y = cast(x / scale, f32);
    const bool saturate = c.integer_attribute("saturate", 1) != 0;
    return cast(saturate ? minimum(maximum(y, -limit), limit) : y, dtype);
  }
  return cut_to(dtype, round(x / scale), zero);
}

DataType zero_type(Call& c, size_t input) {
  const auto fallback = static_cast<DataType>(c.integer_attribute("output_dtype", 0));
  if (!c.has(input)) return fallback == DataType::Undefined ? DataType::Uint8 : fallback;
  if (const Codes* codes = c.in[input].codes()) return codes->type;
  return data_type_of(c.tensor(input).dtype());
}

Tensor as_float(const Tensor& x) { return is_float(x.dtype()) && !info(x.dtype()).storage_only ? x : cast(x, f32); }

Values quantize_linear(Call& c) {
  const Tensor x = as_float(c.tensor(0));
  const Tensor scale = cast(spread(c, c.tensor(1), x), x.dtype() == DType::F64 ? f64 : f32);
  const Tensor zero = c.has(2) ? spread(c, cast(c.tensor(2), f32), x) : Tensor();
  return {quantized(c, cast(x, scale.dtype()), scale, zero, zero_type(c, 2))};
}

Values dequantize_linear(Call& c) {
  const Tensor x = cast(c.tensor(0), f32), scale = c.tensor(1);
  const Tensor zero = c.has(2) ? spread(c, cast(c.tensor(2), f32), x) : Tensor(0.0);
  const auto wanted = static_cast<DataType>(c.integer_attribute("output_dtype", 0));
  const DType dtype = wanted == DataType::Undefined ? scale.dtype() : dtype_of(wanted, c.where);
  return {cast((x - zero) * cast(spread(c, scale, x), f32), dtype)};
}

Values dynamic_quantize(Call& c) {
  const Tensor x = c.tensor(0);
  const Tensor low = minimum(min(x), 0), high = maximum(max(x), 0);
  const Tensor scale = (high - low) / 255;
  const Tensor zero = minimum(maximum(round(-low / where(equal(scale, 0), ones_like(scale), scale)), 0), 255);
  const Tensor q = minimum(maximum(round(x / where(equal(scale, 0), ones_like(scale), scale)) + zero, 0), 255);
  return {cast(q, u8), scale, cast(zero, u8)};
}

// Whether a zero point is there that is not known to be zero.
bool shifts(Call& c, size_t input) {
  if (!c.has(input)) return false;
  const auto known = trace::known_value(c.tensor(input));
  if (!known) return true;
  const auto numbers = known->to_vector<int64_t>();
  return std::any_of(numbers.begin(), numbers.end(), [](int64_t v) { return v != 0; });
}

// The product of 8-bit integers without their zero points, in i32: the sum of (a - x) (b - y) is that of a b, less y
// times the sum of a, less x times that of b, plus k x y. What is taken off is there before the product, which does it
// together with what follows.
Tensor product_of_integers(Call& c, size_t a_input, size_t a_zero, size_t b_input, size_t b_zero) {
  const Tensor a = c.tensor(a_input), b = c.tensor(b_input);
  const bool has_rows = a.ndim() > 1, has_columns = b.ndim() > 1;
  // One for all, one for a row of a or a column of b, or with axes as a and b have.
  const auto zero_of = [&](size_t input, bool rows) {
    Tensor z = cast(c.tensor(input), i32);
    if (z.size() == 1) return reshape(z, {});
    if (z.ndim() > 1 || !rows || !has_columns) return z;
    return reshape(z, {-1, 1});
  };
  const auto sum_of = [](const Tensor& x, int64_t axis, bool keep) { return cast(sum(x, {axis}, keep), i32); };
  Tensor of_b, of_a;
  if (shifts(c, a_zero)) {
    of_b = zero_of(a_zero, true) * sum_of(b, has_columns ? -2 : -1, has_columns && has_rows);
    if (shifts(c, b_zero))
      of_b = of_b - zero_of(a_zero, true) * zero_of(b_zero, false) * cast(Tensor(a.shape(-1)), i32);
  }
  if (shifts(c, b_zero)) of_a = zero_of(b_zero, false) * sum_of(a, -1, has_columns);
  // One call, whose result has the axes that what follows has, without a reshape between them.
  Tensor y = has_rows && has_columns ? ops::call1(ops::matmul_integer_op(), {a, b}) : tenon::matmul_integer(a, b);
  if (of_b.defined()) y = y - of_b;
  if (of_a.defined()) y = y - of_a;
  return y;
}

// Those of other dtypes, exact in f64.
Tensor without_zero(Call& c, size_t x, size_t zero, bool columns) {
  Tensor v = cast(c.tensor(x), f64);
  if (!c.has(zero)) return v;
  Tensor z = cast(c.tensor(zero), f64);
  if (z.ndim() == 1 && z.size() > 1) z = columns ? reshape(z, {1, -1}) : reshape(z, {-1, 1});
  return v - (z.size() == 1 ? reshape(z, {}) : z);
}

Values matmul_integer(Call& c) { return {product_of_integers(c, 0, 2, 1, 3)}; }

// Scales of the rows of a, of the columns of b.
Tensor scale_of(Call& c, size_t input, bool columns) {
  const Tensor s = cast(c.tensor(input), f64);
  if (s.ndim() == 1 && s.size() > 1) return columns ? reshape(s, {1, -1}) : reshape(s, {-1, 1});
  return s.size() == 1 ? reshape(s, {}) : s;
}

Values qlinear_matmul(Call& c) {
  const auto is_byte = [&](size_t input) { return c.tensor(input).dtype() == u8 || c.tensor(input).dtype() == i8; };
  const Tensor product = is_byte(0) && is_byte(3) ? cast(product_of_integers(c, 0, 2, 3, 5), f64)
                                                  : matmul(without_zero(c, 0, 2, false), without_zero(c, 3, 5, true));
  const Tensor real = product * (scale_of(c, 1, false) * scale_of(c, 4, true));
  return {quantized(c, real, scale_of(c, 6, true),
                    cast(reshape(c.tensor(7), c.tensor(7).size() == 1 ? Shape{} : c.tensor(7).shape()), f64),
                    zero_type(c, 7))};
}

// ConvInteger's sums and the bias in i32, then with the three scales as one factor to the result's type.
Values qlinear_conv(Call& c) {
  const Rule* integers = find_rule("", "ConvInteger");
  Call inner{c.node, {c.tensor(0), c.tensor(3), c.tensor(2), c.tensor(5)}, c.opset, c.where, c.attributes, c.run_graph};
  Tensor y = *integers->compute(inner)[0].tensor();
  // One number, or one for each output channel.
  const auto of_outputs = [&](size_t input, DType dtype) {
    const Tensor v = cast(c.tensor(input), dtype);
    if (v.size() == 1) return reshape(v, {});
    Shape shape(static_cast<size_t>(y.ndim()), 1);
    shape[1] = v.size();
    return reshape(v, shape);
  };
  if (c.has(8)) y = y + of_outputs(8, i32);
  const Tensor factor = of_outputs(1, f64) * of_outputs(4, f64) / of_outputs(6, f64);
  return {cut_to(dtype_of(zero_type(c, 7), c.where), round(cast(y, f64) * factor), of_outputs(7, f64))};
}

constexpr std::array kRules{
    Rule{"QuantizeLinear", quantize_linear},         Rule{"DequantizeLinear", dequantize_linear},
    Rule{"DynamicQuantizeLinear", dynamic_quantize}, Rule{"MatMulInteger", matmul_integer},
    Rule{"QLinearMatMul", qlinear_matmul},           Rule{"QLinearConv", qlinear_conv},
};

}  // namespace

std::span<const Rule> quantize_rules() { return kRules; }

}  // namespace tenon::formats::onnx
