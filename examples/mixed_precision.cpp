// Mixed precision: products in bf16 or f16, parameters and their updates in f32.
#include <tenon/tenon.h>

#include <cstdio>

using namespace tenon;

double final_loss(DType precision) {
  manual_seed(1);
  const models::MLP model({.inputs = 8, .hidden = 32, .outputs = 2});
  auto optimizer = optim::Adam(parameters(model), {.lr = 1e-2});
  optim::GradScaler scaler({.enabled = precision == f16});  // bf16 has the range of f32 and needs none
  const Tensor x = normal({64, 8});
  const Tensor label = cast(greater(sum(x, {1}), 0), i64);

  double last = 0;
  for (int step = 0; step < 60; ++step) {
    optimizer.zero_grad();
    Tensor loss;
    {
      const Autocast scope(precision == f32 ? bf16 : precision, precision != f32);
      loss = cross_entropy(model(x), label);  // products short, the loss in f32
    }
    scaler.scale(loss).backward();
    scaler.step(optimizer);
    scaler.update();
    last = loss.item();
  }
  std::printf("%-4s loss %.4f, weights %s, scale %g\n", std::string(name(precision)).c_str(), last,
              std::string(name(model.fc1.weight.dtype())).c_str(), scaler.scale_now());
  return last;
}

int main() { return final_loss(f32) < 0.1 && final_loss(bf16) < 0.1 && final_loss(f16) < 0.1 ? 0 : 1; }
