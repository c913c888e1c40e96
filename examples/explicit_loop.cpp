// Training with a loop of one's own, as in PyTorch.
#include <tenon/tenon.h>

#include <cstdio>

using namespace tenon;

int main() {
  // Two classes of points in 784 dimensions: the sign of their sum.
  manual_seed(0);
  const Tensor inputs = normal({512, 784});
  const Tensor labels = cast(greater(sum(inputs, {1}), 0), i64);
  data::DataLoader loader(data::Dataset::from_tensors({{"input", inputs}, {"label", labels}}),
                          {.batch_size = 32, .shuffle = true});

  auto model = nn::Linear(784, 10);
  auto optimizer = optim::Adam(parameters(model), {.lr = 1e-3});
  auto loss_fn = nn::CrossEntropyLoss();
  double first = 0, last = 0;
  for (int epoch = 0; epoch < 5; ++epoch) {
    for (auto& batch : loader) {
      optimizer.zero_grad();
      auto loss = loss_fn(model(batch["input"]), batch["label"]);
      loss.backward();
      optimizer.step();
      last = loss.item();
      if (first == 0) first = last;
    }
    std::printf("epoch %d: loss %.4f\n", epoch + 1, last);
  }
  return last < first ? 0 : 1;
}
