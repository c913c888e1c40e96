// Elementwise ops: result[i] depends on the i-th elements of the inputs only.
//
// Shapes broadcast by NumPy's rule. Binary ops bring their inputs to one dtype (`promote` in tensor/dtype.h; C++
// numbers adapt to the tensors beside them); functions that leave the integers (exp, sqrt, true division) turn integers
// into f32. Errors: ShapeError if shapes do not broadcast, DTypeError if the dtype is not accepted. Definitions:
// arithmetic.cpp, unary.cpp, logic.cpp, activation.cpp.
#pragma once

#include "tenon/ops/opdef.h"

namespace tenon {

// x with another element type. Float to integer truncates and saturates, NaN becomes 0; to bool is x != 0.
Tensor cast(Tensor x, DType dtype);

// ---- arithmetic ----
Tensor add(Tensor a, Tensor b);
Tensor subtract(Tensor a, Tensor b);
Tensor multiply(Tensor a, Tensor b);
Tensor divide(Tensor a, Tensor b);        // true division: integers give f32
Tensor floor_divide(Tensor a, Tensor b);  // rounds towards minus infinity; integers stay; x // 0 is 0 for integers
Tensor remainder(Tensor a, Tensor b);     // sign of the divisor, as Python's %
Tensor fmod(Tensor a, Tensor b);          // sign of the dividend, as C's
Tensor power(Tensor a, Tensor b);
Tensor maximum(Tensor a, Tensor b);  // NaN wins
Tensor minimum(Tensor a, Tensor b);
Tensor atan2(Tensor y, Tensor x);
Tensor logaddexp(Tensor a, Tensor b);  // log(exp(a) + exp(b)) without overflow
Tensor hypot(Tensor a, Tensor b);
Tensor copysign(Tensor a, Tensor b);
Tensor nextafter(Tensor a, Tensor b);
Tensor where(Tensor condition, Tensor a, Tensor b);
Tensor clamp(Tensor x, Tensor low, Tensor high);
Tensor lerp(Tensor a, Tensor b, Tensor weight);  // a + weight * (b - a)

inline Tensor operator+(Tensor a, Tensor b) { return add(std::move(a), std::move(b)); }
inline Tensor operator-(Tensor a, Tensor b) { return subtract(std::move(a), std::move(b)); }
inline Tensor operator*(Tensor a, Tensor b) { return multiply(std::move(a), std::move(b)); }
inline Tensor operator/(Tensor a, Tensor b) { return divide(std::move(a), std::move(b)); }
inline Tensor operator%(Tensor a, Tensor b) { return remainder(std::move(a), std::move(b)); }
inline Tensor& operator+=(Tensor& a, Tensor b) { return a = add(std::move(a), std::move(b)); }
inline Tensor& operator-=(Tensor& a, Tensor b) { return a = subtract(std::move(a), std::move(b)); }
inline Tensor& operator*=(Tensor& a, Tensor b) { return a = multiply(std::move(a), std::move(b)); }
inline Tensor& operator/=(Tensor& a, Tensor b) { return a = divide(std::move(a), std::move(b)); }

// ---- comparison (bool results), logic, bits ----
Tensor less(Tensor a, Tensor b);
Tensor less_equal(Tensor a, Tensor b);
Tensor greater(Tensor a, Tensor b);
Tensor greater_equal(Tensor a, Tensor b);
Tensor equal(Tensor a, Tensor b);
Tensor not_equal(Tensor a, Tensor b);
Tensor logical_and(Tensor a, Tensor b);  // of x != 0
Tensor logical_or(Tensor a, Tensor b);
Tensor logical_xor(Tensor a, Tensor b);
Tensor logical_not(Tensor x);
Tensor bitwise_and(Tensor a, Tensor b);
Tensor bitwise_or(Tensor a, Tensor b);
Tensor bitwise_xor(Tensor a, Tensor b);
Tensor bitwise_not(Tensor x);
Tensor left_shift(Tensor a, Tensor b);
Tensor right_shift(Tensor a, Tensor b);  // arithmetic for signed integers
Tensor bit_count(Tensor x);              // number of one bits (of the magnitude's two's complement)
Tensor isnan(Tensor x);
Tensor isinf(Tensor x);
Tensor isfinite(Tensor x);
Tensor signbit(Tensor x);

// Comparison operators give tensors, as in NumPy. `==` is not among them: use equal(a, b).
inline Tensor operator<(Tensor a, Tensor b) { return less(std::move(a), std::move(b)); }
inline Tensor operator<=(Tensor a, Tensor b) { return less_equal(std::move(a), std::move(b)); }
inline Tensor operator>(Tensor a, Tensor b) { return greater(std::move(a), std::move(b)); }
inline Tensor operator>=(Tensor a, Tensor b) { return greater_equal(std::move(a), std::move(b)); }
inline Tensor operator!(Tensor x) { return logical_not(std::move(x)); }

// ---- unary ----
Tensor negative(Tensor x);
inline Tensor operator-(Tensor x) { return negative(std::move(x)); }
Tensor abs(Tensor x);
Tensor sign(Tensor x);
Tensor floor(Tensor x);
Tensor ceil(Tensor x);
Tensor round(Tensor x);  // to nearest, ties to even
Tensor trunc(Tensor x);
Tensor square(Tensor x);
Tensor reciprocal(Tensor x);
Tensor sqrt(Tensor x);
Tensor rsqrt(Tensor x);
Tensor cbrt(Tensor x);
Tensor exp(Tensor x);
Tensor exp2(Tensor x);
Tensor expm1(Tensor x);
Tensor log(Tensor x);
Tensor log2(Tensor x);
Tensor log10(Tensor x);
Tensor log1p(Tensor x);
Tensor sin(Tensor x);
Tensor cos(Tensor x);
Tensor tan(Tensor x);
Tensor asin(Tensor x);
Tensor acos(Tensor x);
Tensor atan(Tensor x);
Tensor sinh(Tensor x);
Tensor cosh(Tensor x);
Tensor tanh(Tensor x);
Tensor asinh(Tensor x);
Tensor acosh(Tensor x);
Tensor atanh(Tensor x);
Tensor erf(Tensor x);
Tensor erfc(Tensor x);
Tensor erfinv(Tensor x);
Tensor lgamma(Tensor x);  // log |Gamma(x)|
Tensor digamma(Tensor x);

// ---- activations ----
Tensor relu(Tensor x);
Tensor leaky_relu(Tensor x, double negative_slope = 0.01);
Tensor elu(Tensor x, double alpha = 1.0);
Tensor selu(Tensor x);
Tensor celu(Tensor x, double alpha = 1.0);
Tensor prelu(Tensor x, Tensor slope);
Tensor sigmoid(Tensor x);
Tensor log_sigmoid(Tensor x);
Tensor hard_sigmoid(Tensor x);  // clamp(x/6 + 1/2, 0, 1)
Tensor hard_swish(Tensor x);    // x * hard_sigmoid(x)
Tensor hard_tanh(Tensor x, double low = -1.0, double high = 1.0);
Tensor relu6(Tensor x);
Tensor silu(Tensor x);                         // x * sigmoid(x)
Tensor mish(Tensor x);                         // x * tanh(softplus(x))
Tensor softplus(Tensor x, double beta = 1.0);  // log(1 + exp(beta x)) / beta
Tensor softsign(Tensor x);
// Gaussian error linear unit (Hendrycks and Gimpel, arXiv 1606.08415): x * Phi(x), or with `tanh_approximation`
// the form that GPT-2 uses.
Tensor gelu(Tensor x, bool tanh_approximation = false);

namespace ops {
std::vector<const OpDef*> arithmetic_ops();
std::vector<const OpDef*> unary_ops();
std::vector<const OpDef*> logic_ops();
std::vector<const OpDef*> activation_ops();
}  // namespace ops

}  // namespace tenon
