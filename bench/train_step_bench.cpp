// One training step of a model, timed, and the memory that it takes.
//
//   train_step_bench MODEL BATCH STEPS THREADS FOLDER     MODEL: mlp, lenet, resnet18, gpt
//
// Writes FOLDER/start.safetensors (weights and the batch) before the first step, takes STEPS steps of SGD over that
// batch, and prints one JSON object: the losses, the seconds of each step, and by how much the first steps raised the
// process's largest resident set. bench/peers/torch_train_step.py does the same from the same file;
// bench/train_step.py runs both.
#include <fmt/format.h>
#include <sys/resource.h>
#include <unistd.h>

#include <chrono>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tenon/exec/session.h"
#include "tenon/formats/safetensors.h"
#include "tenon/models/gpt.h"
#include "tenon/models/lenet.h"
#include "tenon/models/mlp.h"
#include "tenon/models/resnet.h"
#include "tenon/nn/loss.h"
#include "tenon/nn/module.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/random.h"
#include "tenon/optim/sgd.h"

using namespace tenon;

namespace {

int64_t resident() {  // bytes
  std::ifstream file("/proc/self/statm");
  int64_t total = 0, pages = 0;
  file >> total >> pages;
  return pages * sysconf(_SC_PAGESIZE);
}
int64_t largest_resident() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return usage.ru_maxrss * 1024;
}

template <class Model>
nlohmann::json run(Model model, const Tensor& input, const Tensor& label, int steps, const std::string& folder) {
  StateDict start = nn::state_dict(model);
  start.set("input", input);
  start.set("label", label);
  formats::save_safetensors(folder + "/start.safetensors", start);
  start = {};
  optim::SGD optimizer(nn::parameters(model), {.lr = 0.01, .momentum = 0.9});
  const int64_t before = resident();
  std::vector<double> losses, seconds;
  for (int i = 0; i < steps; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    optimizer.zero_grad();
    Tensor logits = model(input);
    const int64_t classes = logits.shape(-1);
    Tensor loss = nn::CrossEntropyLoss{}(reshape(std::move(logits), {-1, classes}), reshape(label, {-1}));
    loss.backward();
    optimizer.step();
    losses.push_back(loss.item());
    seconds.push_back(std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count());
  }
  return {{"losses", losses}, {"seconds", seconds}, {"memory", largest_resident() - before}};
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 6) {
    fmt::print(stderr, "usage: train_step_bench MODEL BATCH STEPS THREADS FOLDER\n");
    return 2;
  }
  const std::string name = argv[1], folder = argv[5];
  const int64_t n = std::stoll(argv[2]);
  const int steps = std::stoi(argv[3]);
  set_num_threads(std::stoi(argv[4]));
  manual_seed(0);
  nlohmann::json result;
  if (name == "mlp") {
    result = run(models::MLP(), normal({n, 784}), randint(0, 10, {n}), steps, folder);
  } else if (name == "lenet") {
    result = run(models::LeNet(), normal({n, 1, 28, 28}), randint(0, 10, {n}), steps, folder);
  } else if (name == "resnet18") {
    result = run(models::ResNet18(), normal({n, 3, 224, 224}), randint(0, 1000, {n}), steps, folder);
  } else if (name == "gpt") {
    models::GPT gpt({.vocabulary = 65, .context = 64, .layers = 4, .heads = 4, .width = 128});
    result = run(std::move(gpt), randint(0, 65, {n, 64}), randint(0, 65, {n, 64}), steps, folder);
  } else {
    fmt::print(stderr, "there is no model '{}': mlp, lenet, resnet18, gpt\n", name);
    return 2;
  }
  fmt::print("{}\n", result.dump());
}
