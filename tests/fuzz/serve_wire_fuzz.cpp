// Protobuf messages of both gRPC services. The first byte chooses the reader, the second where the message is cut in
// two.
#include "tenon/serve/tfs_wire.h"
#include "tenon/serve/v2_wire.h"
#include "tests/fuzz/fuzz.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tenon;
  using namespace tenon::serve;
  return fuzz::run(data, size, [](std::span<const std::byte> bytes) {
    if (bytes.size() < 2) return;
    const auto kind = static_cast<char>(bytes[0]);
    const auto body = bytes.subspan(2);
    const size_t cut = std::min(static_cast<size_t>(bytes[1]), body.size());
    const std::span<const std::byte> pieces[] = {body.first(cut), body.subspan(cut)};
    const WireReader in(pieces);
    switch (kind) {
      case 'p': {
        const auto message = read_predict(in, nullptr);
        const std::string written = write_predict(message).to_string();
        const std::span<const std::byte> again = std::as_bytes(std::span(written));
        fuzz::require(read_predict(WireReader(again), nullptr).inputs.size() == message.inputs.size());
        return;
      }
      case 'e':
        (void)read_examples(in);
        return;
      case 'c':
        (void)read_server_config(in, {});
        return;
      case 'v': {
        const auto message = read_infer(in, nullptr);
        const std::string written = write_infer(message).to_string();
        const std::span<const std::byte> again = std::as_bytes(std::span(written));
        fuzz::require(read_infer(WireReader(again), nullptr).inputs.size() == message.inputs.size());
        return;
      }
      case 'a':
        (void)read_infer_answer(in, nullptr);
        return;
      default:
        (void)read_model_spec(in);
    }
  });
}
