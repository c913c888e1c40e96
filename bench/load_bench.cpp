// How long files take to load, and how much memory that needs.
//
//   load_bench [FILE…]
//
// Each file is loaded by its format in a process of its own: the best and the median time of 7 loads, and by how much
// the first load raises the largest resident set, over the file's size. Without files: 500 MB of SafeTensors, the same
// as a package, NPY and GGUF, are made, loaded and removed. Prints one JSON object a line.
#include <fmt/format.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <filesystem>
#include <string>
#include <vector>

#include "tenon/base/error.h"
#include "tenon/base/file.h"
#include "tenon/data/npy.h"
#include "tenon/data/to_tensor.h"
#include "tenon/formats/detect.h"
#include "tenon/formats/gguf.h"
#include "tenon/formats/hdf5.h"
#include "tenon/formats/onnx/model.h"
#include "tenon/formats/safetensors.h"
#include "tenon/formats/torch_file.h"
#include "tenon/models/keras.h"
#include "tenon/package.h"
#include "tenon/tenon.h"

namespace {

namespace fs = std::filesystem;
using namespace tenon;
using formats::FileKind;

void load_file(const fs::path& path, FileKind kind) {
  switch (kind) {
    case FileKind::Package:
      (void)load(path);
      return;
    case FileKind::SafeTensors:
      (void)formats::load_safetensors(path);
      return;
    case FileKind::Onnx:
      (void)formats::onnx::Model::load(path);
      return;
    case FileKind::Npy:
      (void)data::to_tensor(data::read_npy(path));
      return;
    case FileKind::Npz:
      for (data::NamedArrays arrays = data::read_npz(path); auto& [name, array] : arrays)
        (void)data::to_tensor(std::move(array));
      return;
    case FileKind::Torch:
      (void)formats::load_torch(path);
      return;
    case FileKind::Gguf:
      (void)formats::load_gguf(path);
      return;
    case FileKind::Keras:
      (void)models::KerasModel::load(path);
      return;
    case FileKind::Hdf5:
      (void)formats::load_hdf5(path);
      return;
    case FileKind::Unknown:
      throw UnsupportedError({.where = path.string(), .problem = "a file of no known format"});
  }
}

double largest_resident_bytes() {
  rusage usage{};
  getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) * 1024;
}

// In a process of its own, so that nothing of an earlier file counts.
void measure(const fs::path& path) {
  std::fflush(stdout);
  const pid_t child = fork();
  if (child != 0) {
    int status = 0;
    waitpid(child, &status, 0);
    return;
  }
  const FileKind kind = formats::detect(MappedFile{path}.bytes());
  const auto size = static_cast<double>(fs::file_size(path));
  const double before = largest_resident_bytes();
  double grown = 0;
  std::vector<double> times;
  for (int i = 0; i < 7; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    load_file(path, kind);
    times.push_back(std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - begin).count());
    if (i == 0) grown = largest_resident_bytes() - before;
  }
  std::sort(times.begin(), times.end());
  fmt::print(
      "{{\"file\": \"{}\", \"kind\": \"{}\", \"mb\": {:.2f}, \"best_ms\": {:.2f}, \"median_ms\": {:.2f}, "
      "\"memory_over_size\": {:.3f}}}\n",
      path.filename().string(), formats::name(kind), size / 1e6, times[0], times[3], grown / size);
  std::fflush(stdout);
  std::_Exit(0);
}

void make_and_measure() {
  const fs::path folder = fs::temp_directory_path() / fmt::format("tenon_load_bench_{}", getpid());
  fs::create_directories(folder);
  const auto in_child = [&](const auto& make) {  // so that making a file leaves nothing behind in this process
    if (const pid_t child = fork(); child == 0) {
      make();
      std::_Exit(0);
    } else {
      int status = 0;
      waitpid(child, &status, 0);
    }
  };
  in_child([&] {
    StateDict weights;
    for (int i = 0; i < 125; ++i) weights.set(fmt::format("layer.{}.weight", i), full({1000, 1000}, i, f32));
    formats::save_safetensors(folder / "weights.safetensors", weights);
    formats::Gguf gguf;
    for (const auto& [name, tensor] : weights) gguf.tensors.set(name, contiguous(tensor));
    formats::save_gguf(folder / "weights.gguf", gguf);
    save(folder / "weights.tenon",
         [&](const Tensors& in) {
           Tensor y = in[0];
           for (const auto& [name, tensor] : weights) y = matmul(y, tensor);
           return Tensors{y};
         },
         {{"x", f32, {1, 1000}}}, {.weights = weights, .check = false});
    data::write_npy(folder / "array.npy", data::to_host(full({125000, 1000}, 1, f32)));
  });
  for (const char* name : {"weights.safetensors", "weights.tenon", "weights.gguf", "array.npy"}) measure(folder / name);
  fs::remove_all(folder);
}

}  // namespace

int main(int argc, char** argv) {
  try {
    if (argc < 2) make_and_measure();
    for (int i = 1; i < argc; ++i) measure(argv[i]);
  } catch (const Error& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
  return 0;
}
