// An op of one's own: its forward and its gradient, then used like any other function.
#include <tenon/tenon.h>

#include <cmath>
#include <cstdio>

using namespace tenon;

int main() {
  // log(1 + exp(x)) as it is written overflows for large x, and so does its derivative. The custom op computes both
  // without overflow; `out` and `in` are what the forward pass saw, `ct` is the gradient that comes in.
  const auto stable = custom_vjp(
      "log1p_exp", [](const Tensors& in) { return Tensors{maximum(in[0], 0.0) + log1p(exp(-abs(in[0])))}; },
      [](const Tensors& in, const Tensors& /*out*/, const Tensors& ct) { return Tensors{ct[0] * sigmoid(in[0])}; });

  const Tensor x = tensor({-100.0, -1.0, 0.0, 1.0, 100.0});
  const UnaryFunction plain_sum = [](const Tensor& v) { return sum(log(1.0 + exp(v))); };
  const UnaryFunction stable_sum = [&](const Tensor& v) { return sum(stable({v})[0]); };
  std::printf("plain:  %s\n        gradient %s\n", to_string(log(1.0 + exp(x))).c_str(),
              to_string(grad(plain_sum)(x)).c_str());
  std::printf("stable: %s\n        gradient %s\n", to_string(stable({x})[0]).c_str(),
              to_string(grad(stable_sum)(x)).c_str());

  // The rule is made of ops, so it has a derivative too: the second derivative at 0 is sigmoid'(0) = 1/4.
  const double second = grad(grad(UnaryFunction([&](const Tensor& v) { return stable({v})[0]; })))(Tensor(0.0)).item();
  std::printf("second derivative at 0: %g\n", second);

  const double last = grad(stable_sum)(x)[4].item();
  return std::abs(second - 0.25) < 1e-6 && last == 1 ? 0 : 1;
}
