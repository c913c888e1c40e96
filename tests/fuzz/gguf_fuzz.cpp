#include "tenon/formats/gguf.h"
#include "tenon/models/gguf_tokenizer.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tenon;
  return fuzz::run(data, size, [](std::span<const std::byte> bytes) {
    const formats::Gguf file = formats::read_gguf(bytes, nullptr, "input");
    for (const auto& [name, tensor] : file.tensors)
      fuzz::require(tensor.to_vector().size() == static_cast<size_t>(numel(tensor.shape())));
    const auto tokenizer = models::gguf_tokenizer(file, "input");
    (void)tokenizer.decode(tokenizer.encode("Hello  wörld 12").ids);
  });
}
