#include <algorithm>

#include "tenon/formats/gguf.h"
#include "tenon/models/gguf_tokenizer.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tenon;
  return fuzz::run(data, size, [](std::span<const std::byte> bytes) {
    const formats::Gguf file = formats::read_gguf(bytes, nullptr, "input");
    for (const auto& [name, tensor] : file.tensors)
      fuzz::require(tensor.to_vector().size() == static_cast<size_t>(numel(tensor.shape())));
    // Kept packed and unpacked afterwards: the same bytes.
    for (const auto& [name, packed] :
         formats::read_gguf(bytes, nullptr, "input", false, {.keep_packed = true}).packed) {
      const Tensor numbers = formats::unpack(packed);
      fuzz::require(std::ranges::equal(numbers.data<std::byte>(), file.tensors.at(name).data<std::byte>()));
    }
    const auto tokenizer = models::gguf_tokenizer(file, "input");
    (void)tokenizer.decode(tokenizer.encode("Hello  wörld 12").ids);
  });
}
