// Where did the first NaN come from? Debug mode names the op, the layer and the line, and casts that lose their value.
#include <tenon/tenon.h>

#include <cstdio>

using namespace tenon;

int main() {
  manual_seed(1);
  models::MLP model({.inputs = 4, .hidden = 8, .outputs = 3});
  (void)named_parameters(model);  // Variables get their names: "fc1.weight", …
  const Tensor x = normal({5, 4});
  int found = 0;
  const auto look = [&](const char* what, const std::function<void()>& run) {
    const DebugMode debug;
    try {
      run();
    } catch (const NumericError& error) {
      std::printf("%s\n%s\n\n", what, error.what());
      ++found;
    }
  };

  look("a logarithm of what a ReLU makes 0:", [&] { mean(log(relu(model(x)))).backward(); });
  look("a cast that does not fit:", [&] { (void)cast(x * 1e6, f16); });
  look("a gradient that is infinite where its value is not:", [&] {
    const Variable w(zeros({3}));
    sum(sqrt(w)).backward();
  });
  model.fc2.weight.set(full({8, 8}, 3e38f));
  look("weights that have run away:", [&] { (void)model(x * 100.0); });
  look("nothing is wrong here:", [&] { (void)mean(log(softmax(x, -1))); });
  return found == 4 ? 0 : 1;
}
