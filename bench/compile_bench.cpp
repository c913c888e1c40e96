// Training steps, eager and compiled: agreement in bits first, then time.
//
//   compile_bench [--threads N] [--repeats N] [--explain] [ROW…]
//
// A row prints what the first calls cost (recording, compiling and running), how long the compiler took of that, the
// median of the later eager and compiled steps, taken in turn, and their ratio.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <functional>
#include <string>
#include <vector>

#include "tenon/compile.h"
#include "tenon/tenon.h"

namespace {

using namespace tenon;
using Clock = std::chrono::steady_clock;

struct Options {
  int repeats = 30;
  bool explain = false;
  std::vector<std::string> rows;
};

double seconds_of(const std::function<void()>& f) {
  const auto begin = Clock::now();
  f();
  return std::chrono::duration<double>(Clock::now() - begin).count();
}
double median(std::vector<double> x) {
  std::sort(x.begin(), x.end());
  return x[x.size() / 2];
}

bool same_bits(const Tensor& a, const Tensor& b) {
  const Tensor x = contiguous(a), y = contiguous(b);
  return x.type() == y.type() &&
         std::memcmp(x.data<std::byte>().data(), y.data<std::byte>().data(), x.data<std::byte>().size()) == 0;
}

// A model with its optimiser; two of them start from the same weights.
template <class Model, class Loss>
struct Job {
  Model model;
  optim::Adam optimizer;
  Loss loss;
  Job(const std::function<Model()>& make, Loss loss_of)
      : model((manual_seed(1), make())), optimizer(parameters(model), {.lr = 1e-3}), loss(loss_of) {}
  Tensor step() {
    optimizer.zero_grad();
    const Tensor l = loss(model);
    l.backward();
    optimizer.step();
    return l;
  }
};

template <class Model, class Loss>
void row(const Options& options, const char* name, const std::function<Model()>& make, Loss loss) {
  if (!options.rows.empty() && std::find(options.rows.begin(), options.rows.end(), name) == options.rows.end()) return;
  Job<Model, Loss> eager(make, loss), other(make, loss);
  auto compiled = compile([&] { return other.step(); });
  double first = 0;
  for (int i = 0; i < 3; ++i) {
    const Tensor a = eager.step();
    Tensor b;
    const double seconds = seconds_of([&] { b = compiled(); });
    if (i < 2) first += seconds;
    if (!same_bits(a, b)) {
      fmt::print("{}: step {} differs: {} and {}\n", name, i, a.item(), b.item());
      return;
    }
  }
  const auto p = parameters(eager.model), q = parameters(other.model);
  for (size_t i = 0; i < p.size(); ++i) {
    if (!same_bits(p[i].value(), q[i].value())) {
      fmt::print("{}: parameter {} differs\n", name, i);
      return;
    }
  }
  std::vector<double> eager_times, compiled_times;
  for (int i = 0; i < options.repeats; ++i) {
    eager_times.push_back(seconds_of([&] { eager.step(); }));
    compiled_times.push_back(seconds_of([&] { compiled(); }));
  }
  double compiling = 0;
  const Explanation e = compiled.explain();
  for (const auto& program : e.programs) compiling += program.seconds;
  const double a = median(eager_times), b = median(compiled_times);
  fmt::print(
      "{:<12} same bits; first two steps {:.0f} ms, of that compiling {:.0f} ms; eager {:.3f} ms, compiled {:.3f} ms, "
      "compiled/eager {:.2f}\n",
      name, first * 1e3, compiling * 1e3, a * 1e3, b * 1e3, b / a);
  if (options.explain) fmt::print("{}", to_string(e));
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--explain") {
      options.explain = true;
    } else if (word == "--threads" && i + 1 < argc) {
      set_num_threads(std::stoi(argv[++i]));
    } else if (word == "--repeats" && i + 1 < argc) {
      options.repeats = std::stoi(argv[++i]);
    } else {
      options.rows.push_back(word);
    }
  }
  const auto labels = [](int64_t n, int64_t classes) { return remainder(arange(n) * 7, classes); };
  {
    const Tensor x = uniform({16, 64}, -1, 1), y = labels(16, 10);
    row<models::MLP>(
        options, "mlp_step", [] { return models::MLP({64, 64, 10}); },
        [=](const models::MLP& m) { return cross_entropy(m(x), y); });
  }
  {
    const Tensor x = uniform({64, 1, 28, 28}, 0, 1), y = labels(64, 10);
    row<models::LeNet>(
        options, "lenet_step", [] { return models::LeNet(); },
        [=](const models::LeNet& m) { return cross_entropy(m(x), y); });
  }
  {
    const Tensor tokens = remainder(reshape(arange(4 * 64) * 31, {4, 64}), 256), y = labels(4 * 64, 256);
    row<models::GPT>(
        options, "gpt_step",
        [] { return models::GPT({.vocabulary = 256, .context = 64, .layers = 4, .heads = 4, .width = 128}); },
        [=](const models::GPT& m) { return cross_entropy(reshape(m(tokens), {4 * 64, 256}), y); });
  }
  return 0;
}
