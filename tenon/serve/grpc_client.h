// A gRPC client that sends bytes: what the load generator and the tests use.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "tenon/serve/client_tls.h"
#include "tenon/serve/request.h"
#include "tenon/serve/status.h"

namespace grpc {
class ByteBuffer;
}

namespace tenon::serve {

// The bytes of one of gRPC's messages.
std::string text_of(const grpc::ByteBuffer& buffer);

class GrpcClient {
 public:
  // "127.0.0.1:8001"; connects when the first call is made. `tls`: none: without TLS.
  explicit GrpcClient(const std::string& address, int connections = 1, const std::optional<ServerTrust>& tls = {});
  ~GrpcClient();
  GrpcClient(const GrpcClient&) = delete;
  GrpcClient& operator=(const GrpcClient&) = delete;

  // The answer's bytes and the call's status, on some thread.
  using Done = std::function<void(Status, std::string)>;
  void call(const std::string& method, const std::string& message, std::chrono::milliseconds timeout, Done done,
            const CancelPtr& cancel = {});
  // The same, waiting. RequestError for a status that is not OK.
  std::string call(const std::string& method, const std::string& message,
                   std::chrono::milliseconds timeout = std::chrono::seconds(30));

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tenon::serve
