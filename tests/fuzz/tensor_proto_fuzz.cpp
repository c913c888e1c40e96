#include "tenon/formats/onnx/proto.h"
#include "tenon/formats/onnx/proto_write.h"
#include "tenon/formats/onnx/value.h"
#include "tests/fuzz/fuzz.h"

// A TensorProto file: what is read has as many elements as its shape says.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tenon;
  return fuzz::run(data, size, [](std::span<const std::byte> bytes) {
    const std::string_view text{reinterpret_cast<const char*>(bytes.data()), bytes.size()};
    const auto proto = formats::onnx::parse_tensor(text, "input");
    const auto value = formats::onnx::read_tensor(proto, nullptr, {}, "input");
    if (const Tensor* tensor = value.tensor())
      fuzz::require(tensor->to_vector().size() == static_cast<size_t>(numel(tensor->shape())));
  });
}
