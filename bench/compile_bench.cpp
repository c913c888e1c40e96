// Training steps, eager and compiled: agreement in bits first, then time.
//
//   compile_bench [--threads N] [--repeats N] [--explain] [ROW…]
//   compile_bench --first [--eager] [--disk FOLDER] [--threads N] [--explain] compile_mlp|compile_gpt2|compile_resnet50
//
// --first takes the first training step of a fresh process and prints what it took, on the clock and of the CPU; --disk
// keeps machine code there, so a second run is a warm one.
// A row prints what the first calls cost (recording, compiling and running), how long the compiler took of that, the
// median of the later eager and compiled steps, taken in turn, and their ratio.
#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>
#include <ctime>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "tenon/compile.h"
#include "tenon/models/resnet50.h"
#include "tenon/tenon.h"

namespace {

using namespace tenon;
using Clock = std::chrono::steady_clock;

struct Options {
  int repeats = 30;
  bool explain = false;
  bool first = false, eager = false;
  std::string disk;
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
  auto compiled = compile([&] { return other.step(); }, {.disk = {.on = false}});
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

double cpu_seconds() { return static_cast<double>(std::clock()) / CLOCKS_PER_SEC; }

template <class Model, class Loss>
void first_step(const Options& options, const char* name, const std::function<Model()>& make, Loss loss) {
  Job<Model, Loss> job(make, loss);
  CompileOptions compile_options;
  compile_options.disk.on = !options.disk.empty();
  compile_options.disk.folder = options.disk;
  auto compiled = compile([&] { return job.step(); }, compile_options);
  for (int i = 0; i < 2; ++i) {
    const double cpu = cpu_seconds();
    const double seconds = seconds_of([&] { static_cast<void>((options.eager ? job.step() : compiled()).item()); });
    const Explanation e = compiled.explain();
    int64_t made = 0, loaded = 0, kernels = 0;
    double compiling = 0;
    for (const auto& p : e.programs) {
      made += p.code.compiled;
      loaded += p.code.loaded;
      kernels += p.kernels;
      compiling += p.seconds;
    }
    fmt::print(
        "{:<18} {} step {}: {:.1f} ms, CPU {:.1f} ms; compiling {:.1f} ms; {} kernels, code made {}, from disk {}\n",
        name, options.eager ? "eager" : "compiled", i + 1, seconds * 1e3, (cpu_seconds() - cpu) * 1e3, compiling * 1e3,
        kernels, made, loaded);
  }
  if (options.explain) fmt::print("{}", to_string(compiled.explain()));
}

void first_steps(const Options& options) {
  const auto labels = [](int64_t n, int64_t classes) { return remainder(arange(n) * 7, classes); };
  for (const std::string& row : options.rows) {
    if (row == "compile_mlp") {
      const Tensor x = uniform({16, 64}, -1, 1), y = labels(16, 10);
      first_step<models::MLP>(
          options, "compile_mlp", [] { return models::MLP({64, 64, 10}); },
          [=](const models::MLP& m) { return cross_entropy(m(x), y); });
    } else if (row == "compile_gpt2") {
      const Tensor tokens = remainder(reshape(arange(64) * 31, {1, 64}), 50257), y = labels(64, 50257);
      first_step<models::GPT>(
          options, "compile_gpt2",
          [] { return models::GPT({.vocabulary = 50257, .context = 1024, .layers = 12, .heads = 12, .width = 768}); },
          [=](const models::GPT& m) { return cross_entropy(reshape(m(tokens), {64, 50257}), y); });
    } else if (row == "compile_resnet50") {
      const Tensor x = uniform({1, 3, 64, 64}, -1, 1), y = labels(1, 1000);
      first_step<models::ResNet50>(
          options, "compile_resnet50", [] { return models::ResNet50(); },
          [=](const models::ResNet50& m) { return cross_entropy(m(x), y); });
    }
  }
}

}  // namespace

int main(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string word = argv[i];
    if (word == "--explain") {
      options.explain = true;
    } else if (word == "--first" || word == "--eager") {
      (word == "--first" ? options.first : options.eager) = true;
    } else if (word == "--disk" && i + 1 < argc) {
      options.disk = argv[++i];
    } else if (word == "--threads" && i + 1 < argc) {
      set_num_threads(std::stoi(argv[++i]));
    } else if (word == "--repeats" && i + 1 < argc) {
      options.repeats = std::stoi(argv[++i]);
    } else {
      options.rows.push_back(word);
    }
  }
  if (options.first) {
    first_steps(options);
    return 0;
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
