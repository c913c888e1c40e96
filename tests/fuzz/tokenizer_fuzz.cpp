#include "tenon/text/tokenizer.h"
#include "tests/fuzz/fuzz.h"

// The first byte chooses the format. What is read must survive texts of every kind, and give numbers that decode.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tenon;
  return fuzz::run(data, size, [](std::span<const std::byte> bytes) {
    if (bytes.empty()) return;
    const std::string_view rest(reinterpret_cast<const char*>(bytes.data()) + 1, bytes.size() - 1);
    const auto tokenizer = [&]() -> text::Tokenizer {
      switch (std::to_integer<int>(bytes[0])) {
        case 's':
          return text::read_sentencepiece(rest, "input", {.add_bos = true, .add_eos = true});
        case 'w':
          return text::read_wordpiece_file(rest, "input");
        case 't':
          return text::read_tiktoken(rest, R"(\p{L}+|\s+|[^\s\p{L}]+)", {{"<|end|>", 300}}, "input");
        default:
          return text::read_tokenizer_json(rest, "input");
      }
    }();
    for (const char* sample :
         {"", "Hello  world's\n1234 <s>", "Größe e\u0301 日本 👨‍👩‍👧 \u00a0\u200b▁x"}) {
      const auto encoding = tokenizer.encode_pair(sample, "second text");
      fuzz::require(encoding.ids.size() == encoding.offsets.size() && encoding.ids.size() == encoding.words.size());
      (void)tokenizer.decode(encoding.ids);
    }
  });
}
