// A training step compiled with one line: forward, backward and update become one program, and the losses keep the bits
// of the eager run. Ends with 0 if they do.
#include <iostream>

#include "tenon/compile.h"
#include "tenon/tenon.h"

using namespace tenon;

namespace {

// Losses of 50 steps on points inside and outside of a circle.
std::vector<float> losses_of(bool compiled, std::string& report) {
  manual_seed(1);
  const Tensor points = uniform({256, 2}, -1, 1);
  const Tensor labels = cast(less(sum(square(points), {1}), 0.5), i64);
  auto model = nn::Sequential(nn::Linear(2, 32), nn::ReLU(), nn::Linear(32, 2));
  auto optimizer = optim::Adam(parameters(model), {.lr = 1e-2});

  const auto step = [&](const Tensor& x, const Tensor& y) {
    optimizer.zero_grad();
    Tensor loss = cross_entropy(model(x), y);
    loss.backward();
    optimizer.step();
    return loss;
  };
  auto fast = compile(step);  // the one line

  std::vector<float> losses;
  for (int i = 0; i < 50; ++i) losses.push_back((compiled ? fast(points, labels) : step(points, labels)).item<float>());
  report = to_string(fast.explain());
  return losses;
}

}  // namespace

int main() {
  std::string report;
  const auto eager = losses_of(false, report);
  const auto compiled = losses_of(true, report);
  std::cout << "loss " << compiled.front() << " -> " << compiled.back() << "\n" << report;
  return eager == compiled && compiled.back() < compiled.front() ? 0 : 1;
}
