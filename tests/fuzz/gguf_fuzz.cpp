#include "tenon/formats/gguf.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tenon;
  return fuzz::run(data, size, [](std::span<const std::byte> bytes) {
    for (const auto& [name, tensor] : formats::read_gguf(bytes, nullptr, "input").tensors)
      fuzz::require(tensor.to_vector().size() == static_cast<size_t>(numel(tensor.shape())));
  });
}
