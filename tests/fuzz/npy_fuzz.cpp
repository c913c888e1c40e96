#include "tenon/data/npy.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tenon;
  return fuzz::run(data, size, [](std::span<const std::byte> bytes) {
    const auto array = data::read_npy(bytes, "input", fuzz::limits);
    const auto again = data::read_npy(data::encode_npy(array), "again", fuzz::limits);
    fuzz::require(again.dtype == array.dtype && again.shape == array.shape && again.bytes == array.bytes);
  });
}
