#include "tenon/data/image.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tenon;
  return fuzz::run(data, size, [](std::span<const std::byte> bytes) {
    const auto image = data::decode_image(bytes, "input", {.limits = fuzz::limits});
    fuzz::require(image.shape.size() == 3 && image.size() == static_cast<int64_t>(image.bytes.size()));
  });
}
