// Where a load generator sends to, and what: the four protocols as a client speaks them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "tenon/serve/client_tls.h"
#include "tenon/serve/grpc_client.h"
#include "tenon/serve/http_connection.h"
#include "tenon/serve/value.h"

namespace tenon::serve {

struct LoadTarget {
  enum class Kind : uint8_t { V2Rest, TfsRest, V2Grpc, TfsGrpc } kind = Kind::V2Rest;
  std::string host;
  uint16_t port = 0;
  std::string model, path;  // path: of REST, from /v1 or /v2
  bool tls = false;

  [[nodiscard]] bool grpc() const { return kind == Kind::V2Grpc || kind == Kind::TfsGrpc; }
  [[nodiscard]] std::string_view rpc() const {
    return kind == Kind::V2Grpc ? "/inference.GRPCInferenceService/ModelInfer"
                                : "/tensorflow.serving.PredictionService/Predict";
  }
};
// The URLs of LoadOptions. ValueError for another form.
LoadTarget parse_load_url(const std::string& url);
// Connections to it.
HttpConnection http_to(const LoadTarget& target, const ServerTrust& trust);
GrpcClient grpc_to(const LoadTarget& target, const ServerTrust& trust, int connections = 1);

struct LoadMessage {
  std::string head, body;  // the head without Host and Content-Length; "" for gRPC
};
// A request for inference. `json`: v2 REST with numbers as JSON, in the answer too.
LoadMessage load_message(const LoadTarget& target, const std::vector<NamedValue>& values, bool json);
// What an answer that is OK holds; `like` has the names and types that are expected, for TensorFlow Serving's REST,
// whose answers do not tell them. RequestError if it is broken. The request must have asked for JSON.
std::vector<NamedValue> load_answer(const LoadTarget& target, const std::string& body,
                                    const std::vector<NamedValue>& like);

}  // namespace tenon::serve
