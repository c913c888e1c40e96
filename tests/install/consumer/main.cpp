// Uses an installed Tenon from outside the project's tree: trains, saves, loads, and meets an error.
#include <tenon/base/error.h>
#include <tenon/formats/safetensors.h>
#include <tenon/tenon.h>

#include <cstdio>

using namespace tenon;

struct Net {
  nn::Linear hidden{2, 8};
  nn::Linear head{8, 1};
  Tensor operator()(const Tensor& x) const { return head(tanh(hidden(x))); }
};

int main() {
  manual_seed(1);
  const Tensor x = normal({64, 2}), y = sum(x * x, {1}, true);
  const Net net;
  auto optimizer = optim::Adam(parameters(net), {.lr = 2e-2});
  double first = 0, last = 0;
  for (int step = 0; step < 60; ++step) {
    optimizer.zero_grad();
    const Tensor loss = mse_loss(net(x), y);
    loss.backward();
    optimizer.step();
    (step == 0 ? first : last) = loss.item();
  }
  formats::save_safetensors("consumer.safetensors", state_dict(net));
  const Net other;
  load_state_dict(other, formats::load_safetensors("consumer.safetensors").tensors);
  const bool same = all(net(x) == other(x)).item<bool>();
  try {
    (void)net(ones({64, 3}));
  } catch (const ShapeError& error) {
    std::printf("loss %.3f to %.3f; %s\n", first, last, error.what());
    return same && last < first / 2 ? 0 : 1;
  }
  return 1;
}
