#include "tenon/formats/onnx/model.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tenon;
  return fuzz::run(data, size, [](std::span<const std::byte> bytes) {
    const std::string_view text{reinterpret_cast<const char*>(bytes.data()), bytes.size()};
    const auto model = formats::onnx::Model::parse(text, nullptr, "input");
    fuzz::require(model.outputs().size() == model.data().graph.outputs.size());
  });
}
