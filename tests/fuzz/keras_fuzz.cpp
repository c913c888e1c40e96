#include <sys/mman.h>
#include <unistd.h>

#include <string>

#include "tenon/models/keras.h"
#include "tests/fuzz/fuzz.h"

// A .keras or .h5 file: the archive, the weights and the architecture. Models are read from files, so the bytes become
// one in memory.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tenon;
  const int file = memfd_create("input", 0);
  fuzz::require(file >= 0 && write(file, data, size) == static_cast<ssize_t>(size));
  const std::string path = "/proc/self/fd/" + std::to_string(file);
  const int result = fuzz::run(data, size, [&](std::span<const std::byte>) {
    const auto model = models::KerasModel::load(path);
    for (const auto& [name, tensor] : model.state_dict())
      fuzz::require(tensor.to_vector().size() == static_cast<size_t>(numel(tensor.shape())));
  });
  close(file);
  return result;
}
