#include "tenon/formats/safetensors.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tenon;
  return fuzz::run(data, size, [](std::span<const std::byte> bytes) {
    const auto file = formats::read_safetensors(bytes, nullptr, "input");
    for (const auto& [name, tensor] : file.tensors) {
      unsigned sum = 0;
      for (const std::byte b : tensor.data<std::byte>()) sum += std::to_integer<unsigned>(b);
      fuzz::require(sum <= 255U * static_cast<unsigned>(tensor.data<std::byte>().size()));
    }
  });
}
