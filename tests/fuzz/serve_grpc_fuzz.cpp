// A gRPC connection: the first byte says whether the client's greeting is said for it, the second into how large pieces
// the rest is cut. The session must end it or go on, with all that it holds given back.
#include <thread>

#include "tenon/serve/grpc_session.h"
#include "tenon/serve/metrics.h"
#include "tests/fuzz/fuzz.h"

namespace {

using namespace tenon::serve;

class Session final : public GrpcSession {
 public:
  using GrpcSession::GrpcSession;

 private:
  // Of compressed messages, which another thread unpacks: nobody waits for them here.
  void post_answer(int32_t, size_t, Status, std::vector<Chunk>) override {}
  [[nodiscard]] bool on_own_thread() const override { return std::this_thread::get_id() == own_; }
  void output_ready() override {
    do {
      output_.clear();
      collect(output_);
      size_t size = 0;
      output_.for_each([&](std::span<const std::byte> piece) { size += piece.size(); });
      tenon::fuzz::require(size == output_.size());
    } while (!output_.empty());
  }
  const std::thread::id own_ = std::this_thread::get_id();
  GrpcOutput output_;
};

RpcMethods methods() {
  const auto echo = [](const RpcCallPtr& call, const RpcAnswer& answer) {
    std::vector<Chunk> out;
    for (const auto& piece : call->pieces) out.push_back({piece, call->owner});
    answer({}, std::move(out));
  };
  RpcMethods out(2);
  out[0] = {.path = "/inference.GRPCInferenceService/ModelInfer", .call = echo};
  out[1] = {.path = "/inference.GRPCInferenceService/ModelStreamInfer", .call = echo, .stream = true};
  return out;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tenon;
  return fuzz::run(data, size, [](std::span<const std::byte> bytes) {
    if (bytes.size() < 2) return;
    static constexpr std::string_view kHello("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", 33);
    Metrics metrics;
    Admission admission({.requests = 100, .bytes = 1 << 20, .body = 1 << 18}, metrics);
    {
      GrpcService service(methods(), {.message = 1 << 18}, admission);
      const auto session = std::make_shared<Session>(service);
      bool good = true;
      if ((static_cast<int>(bytes[0]) & 1) == 0) good = session->receive(std::as_bytes(std::span(kHello)));
      const size_t step = static_cast<size_t>(bytes[1]) + 1;
      auto rest = bytes.subspan(2);
      while (good && !rest.empty() && !session->over()) {
        good = session->receive(rest.first(std::min(step, rest.size())));
        rest = rest.subspan(std::min(step, rest.size()));
      }
      (void)session->sweep(Clock::now() + std::chrono::hours(1));
      session->wind_down();
      session->hang_up();
      service.pool.reset();
    }
    fuzz::require(admission.requests() == 0 && admission.bytes() == 0);
  });
}
