// Training in the manner of Keras: compile, fit, evaluate.
#include <tenon/tenon.h>

#include <cstdio>

using namespace tenon;

int main() {
  manual_seed(0);
  const Tensor inputs = normal({512, 28, 28});
  const Tensor labels = cast(greater(sum(inputs, {1, 2}), 0), i64);
  const auto dataset = data::Dataset::from_tensors({{"input", inputs}, {"label", labels}});

  auto model = train::Model(nn::Sequential(nn::Flatten(), nn::Dense(784, 10)));
  model.compile({.optimizer = optim::Adam{}, .loss = nn::CrossEntropyLoss{}, .metrics = {"accuracy"}});
  model.fit(dataset, {.epochs = 10});

  const auto result = model.evaluate(dataset);
  std::printf("loss %.4f, accuracy %.3f\n", result.loss, *result.accuracy);
  return *result.accuracy > 0.8 ? 0 : 1;
}
