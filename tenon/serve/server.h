// The whole server: a Core with its four ports (or fewer), and the way it ends.
//
//   Server server({.v2_rest_port = 8000}, {{.name = "m", .base_path = "model.onnx"}});
//   … server.stop({.grace = 1s, .patience = 30s});
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tenon/serve/access_log.h"
#include "tenon/serve/core.h"
#include "tenon/serve/grpc_server.h"
#include "tenon/serve/http_server.h"
#include "tenon/serve/tfs_grpc.h"
#include "tenon/serve/tfs_rest.h"
#include "tenon/serve/v2_rest.h"

namespace tenon::serve {

struct ServerOptions {
  CoreOptions core{};
  std::string address = "0.0.0.0";
  // Ports; none: not opened; 0: any free one. Both gRPC ports carry all services.
  std::optional<uint16_t> tfs_grpc_port{};
  std::optional<uint16_t> tfs_rest_port{};
  std::optional<uint16_t> v2_rest_port{};
  std::optional<uint16_t> v2_grpc_port{};
  // Loading and unloading by hand, REST, for those who know the token.
  std::optional<uint16_t> control_port{};
  std::string control_token{};
  bool grpc_control = false;  // over gRPC too, with the same token
  std::string grpc_socket_path{};
  std::optional<TlsFiles> tls{};               // of all listeners
  std::optional<TlsFiles> grpc_tls{};          // of the gRPC listeners, instead
  AccessSink access{};                         // told of every answer
  std::optional<LogFileOptions> access_log{};  // and a file of JSON lines
  HttpServerOptions http{};
  GrpcServerOptions grpc{};
  TfsRestOptions tfs_rest{};
  TfsGrpcOptions tfs_grpc{};
};

class Server {
 public:
  // Listens when it returns; models load behind it. Errors: those of the parts.
  Server(ServerOptions options, std::vector<ModelConfig> models);
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  [[nodiscard]] Core& core() { return *core_; }
  // Where it listens now; 0: not.
  struct Ports {
    uint16_t tfs_grpc = 0, tfs_rest = 0, v2_rest = 0, v2_grpc = 0, control = 0;
  };
  [[nodiscard]] const Ports& ports() const { return ports_; }

  struct Stop {
    std::chrono::milliseconds grace{0};         // says "not ready" for so long, and still takes what comes
    std::chrono::milliseconds patience{30000};  // for the answers under way
  };
  // Ends in order: not ready, grace, no new connections, the last answers. False if patience ran out before them.
  bool stop(const Stop& how);

 private:
  [[nodiscard]] AccessSink access_sink();

  ServerOptions options_;
  std::unique_ptr<Core> core_;
  std::unique_ptr<HttpServer> http_;
  std::unique_ptr<GrpcServer> grpc_;
  Ports ports_;
  bool stopped_ = false;
};

}  // namespace tenon::serve
