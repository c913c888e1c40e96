// A kernel of one's own on the loop IR, in the spirit of Triton: softmax along the last axis in one pass over memory,
// with its derivative, tuned over three tiles; called eagerly and inside a compiled function.
#include <tenon/compile.h>
#include <tenon/compile/user_kernel.h>
#include <tenon/tenon.h>

#include <cmath>
#include <cstdio>

using namespace tenon;

struct FusedSoftmax {
  static constexpr const char* kName = "fused_softmax";
  static constexpr int64_t kTiles[] = {16, 32, 64};
  static std::vector<TensorType> infer(const ops::InferArgs& a) { return {a.in[0]}; }
  static void body(kernel::Builder& k) {
    const auto x = k.input(0), y = k.output(0);
    const int64_t n = x.extent(-1);
    k.parallel(x.size() / n, [&](kernel::Place row) {
      const auto peak = k.fold(kernel::Fold::Max, n, [&](const kernel::Place& j) { return x.load(row * n + j); });
      k.each(n, [&](const kernel::Place& j) { y.store(row * n + j, exp(x.load(row * n + j) - peak)); });
      const auto total = k.fold(kernel::Fold::Sum, n, [&](const kernel::Place& j) { return y.load(row * n + j); });
      k.each(n, [&](const kernel::Place& j) { y.store(row * n + j, y.load(row * n + j) / total); });
    });
  }
  static constexpr uint32_t kSavesInputs = 0, kSavesOutputs = 1;
  static Tensors vjp(const ops::VjpArgs& a) { return {a.out[0] * (a.ct[0] - sum(a.ct[0] * a.out[0], {-1}, true))}; }
};
Tensor fused_softmax(const Tensor& x) { return kernel::call<FusedSoftmax>({x})[0]; }

int main() {
  manual_seed(1);
  const Tensor x = uniform({300, 1000}, -4, 4), w = uniform({300, 1000}, -1, 1);
  const Tensor mine = fused_softmax(x), theirs = softmax(x);
  const double error = max(abs(mine - theirs)).item();
  std::printf("largest difference from softmax: %g; tile %lld\n", error,
              static_cast<long long>(kernel::chosen_tile("fused_softmax", std::vector<TensorType>{x.type()})));

  const auto loss = [&](const Tensor& v) { return sum(fused_softmax(v) * w); };
  const Tensor gradient = grad(UnaryFunction(loss))(x);
  const double wrong =
      max(abs(gradient - grad(UnaryFunction([&](const Tensor& v) { return sum(softmax(v) * w); }))(x))).item();
  std::printf("largest difference of the gradients: %g\n", wrong);

  auto compiled = compile([&](const Tensor& v) { return grad(UnaryFunction(loss))(v * 1.0); });
  const bool same = all(equal(compiled(x), gradient)).item() != 0;
  std::printf("compiled: %s\n", same ? "the same bits" : "other bits");
  return error < 1e-7 && wrong < 1e-6 && same ? 0 : 1;
}
