#include "tenon/text/chat_template.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tenon;
  return fuzz::run(data, size, [](std::span<const std::byte> bytes) {
    const text::ChatTemplate made(std::string_view(reinterpret_cast<const char*>(bytes.data()), bytes.size()));
    const text::List messages{text::Object{{"role", "user"}, {"content", "Hello"}},
                              text::Object{{"role", "assistant"}, {"content", text::List{}}}};
    (void)made.render(text::Value(text::Object{{"messages", messages}, {"bos_token", "<s>"}, {"x", 1}}));
  });
}
