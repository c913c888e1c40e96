// An ONNX model as `tenon serve` and `tenon run` have it, or node by node as they had it before; bench/onnx_models.py
// runs it in turns with ONNX Runtime.
//
//   onnx_bench MODEL.onnx program|nodes THREADS FOLDER
//
// Inputs are FOLDER/input_N.npy, in the model's order; the outputs are written to FOLDER/MODE_N.npy. Speaks the
// protocol of bench/peers/rows.py: one JSON line of facts, then for each number on stdin so many runs and a line with
// their times.
#include <fmt/format.h>

#include <chrono>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <string>

#include "tenon/data/npy.h"
#include "tenon/data/to_tensor.h"
#include "tenon/exec/evaluate.h"
#include "tenon/exec/session.h"
#include "tenon/formats/onnx/prepared_model.h"
#include "tenon/tenon.h"

namespace {

namespace fs = std::filesystem;
using namespace tenon;

double seconds_of(const auto& run) {
  const auto begin = std::chrono::steady_clock::now();
  run();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
}

int bench(const std::string& path, const std::string& mode, int threads, const fs::path& folder) {
  set_num_threads(threads);
  const NoGrad no_grad;
  const auto model = formats::onnx::PreparedModel::load(path, {.programs = mode == "program"});
  Tensors inputs;
  for (size_t i = 0; i < model.model().inputs().size(); ++i)
    inputs.push_back(data::to_tensor(data::read_npy(folder / fmt::format("input_{}.npy", i))));
  Tensors outputs;
  const double first = seconds_of([&] { outputs = model(inputs); });
  for (size_t i = 0; i < outputs.size(); ++i)
    data::write_npy(folder / fmt::format("{}_{}.npy", mode, i), data::to_host(contiguous(outputs[i])));
  (void)model(inputs);
  fmt::print("{{\"execution\": \"{}\", \"first_seconds\": {}}}\n", model.execution(), first);
  std::fflush(stdout);
  for (int count = 0; std::cin >> count;) {
    std::string times;
    for (int i = 0; i < count; ++i)
      times += fmt::format("{}{}", i == 0 ? "" : ", ", seconds_of([&] { (void)model(inputs); }));
    fmt::print("{{\"seconds\": [{}]}}\n", times);
    std::fflush(stdout);
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 5) {
    fmt::print(stderr, "usage: onnx_bench MODEL.onnx program|nodes THREADS FOLDER\n");
    return 2;
  }
  try {
    return bench(argv[1], argv[2], std::stoi(argv[3]), argv[4]);
  } catch (const std::exception& error) {
    fmt::print(stderr, "{}\n", error.what());
    return 1;
  }
}
