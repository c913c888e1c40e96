// Derivatives: backward, grad, vjp, jvp, vmap, Jacobian, Hessian, and one inside another.
#include <tenon/tenon.h>

#include <cmath>
#include <cstdio>

using namespace tenon;

namespace {

void show(const char* what, const Tensor& x) { std::printf("%-28s %s\n", what, to_string(x).c_str()); }

}  // namespace

int main() {
  const Tensor x = from_vector<double>({1, 2, 3}, {3});
  const UnaryFunction cube = [](const Tensor& v) { return sum(v * v * v); };

  // In the manner of PyTorch: Variables gather gradients.
  Variable w(x);
  cube(w).backward();
  show("backward: 3x^2", w.grad());

  // In the manner of JAX: functions of functions, which nest in any order.
  show("grad", grad(cube)(x));
  show("hessian", hessian(cube, x));
  show("Hessian times (1, 0, 1)", hvp(cube, x, from_vector<double>({1, 0, 1}, {3})));
  show("jacobian of sin", jacobian([](const Tensor& v) { return sin(v); }, x));

  // Many outputs: pull cotangents back (vjp) or push tangents forward (jvp).
  const trace::Function product = [](const Tensors& in) { return Tensors{in[0] * in[1]}; };
  const Vjp back = vjp(product, {x, x + 1.0});
  show("vjp, first input", back.pullback({x * 0.0 + 1.0})[0]);
  const Jvp forward = jvp(product, {x, x + 1.0}, {x * 0.0 + 1.0, x * 0.0});
  show("jvp along the first input", forward.tangents[0]);

  // Per-example gradients: vmap of grad, without a loop.
  const Tensor batch = from_vector<double>({1, 2, 3, 4, 5, 6}, {2, 3});
  const Tensor per_example = vmap([&](const Tensors& in) { return Tensors{grad(cube)(in[0])}; })({batch})[0];
  show("vmap of grad", per_example);

  const bool right = grad(cube)(x).to_vector() == w.grad().to_vector() && hessian(cube, x)[2][2].item() == 18 &&
                     per_example[1][2].item() == 108;
  return right ? 0 : 1;
}
