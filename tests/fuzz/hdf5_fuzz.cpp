#include "tenon/formats/hdf5.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tenon;
  return fuzz::run(data, size, [](std::span<const std::byte> bytes) {
    // Without checksums: a fuzzer does not find them, and would never come to what lies behind.
    const formats::Hdf5 file = formats::read_hdf5(bytes, "input", nullptr, {.verify_checksums = false});
    for (const auto& [name, tensor] : file.tensors)
      fuzz::require(tensor.to_vector().size() == static_cast<size_t>(numel(tensor.shape())));
  });
}
