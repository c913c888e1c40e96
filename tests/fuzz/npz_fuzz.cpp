#include "tenon/data/npy.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tenon;
  return fuzz::run(data, size, [](std::span<const std::byte> bytes) {
    const auto arrays = data::read_npz(bytes, "input", fuzz::limits);
    fuzz::require(data::read_npz(data::encode_npz(arrays), "again", fuzz::limits).size() == arrays.size());
  });
}
