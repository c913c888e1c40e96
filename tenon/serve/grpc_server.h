// The gRPC listener: any list of methods on any number of ports, TCP (TLS if asked for) and Unix sockets.
//
// A front end of our own, because a request through gRPC's C++ library costs more than the rest of the server: one
// thread for each loop, a connection stays on its loop, quick requests are answered on the thread that read them.
// What gRPC is lies in grpc_session.h; here are sockets only.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tenon/serve/metrics.h"
#include "tenon/serve/rpc.h"
#include "tenon/serve/tls.h"

namespace tenon::serve {

struct GrpcServerOptions {
  // By gRPC's names, as the flag takes them: grpc.max_receive_message_length, max_concurrent_streams,
  // max_metadata_size, keepalive_time_ms, keepalive_timeout_ms, max_connection_idle_ms, max_connection_age_ms and
  // max_connection_age_grace_ms. Others mean something to gRPC's own library only, and nothing here.
  std::vector<std::pair<std::string, std::string>> channel_arguments{};
  int max_threads = 0;  // loops; 0: one for each CPU
  int64_t max_connections = 60000;
};

class GrpcServer {
 public:
  struct Address {
    std::string host;  // "127.0.0.1"; "unix" for a socket whose path is `path`
    uint16_t port = 0;
    std::string path{};
    std::optional<TlsFiles> tls{};
  };
  // Starts at once. Errors: FileError if an address is taken or a certificate cannot be used; ValueError for two
  // methods with one path, or an argument that is no number.
  GrpcServer(const GrpcServerOptions& options, RpcMethods methods, const std::vector<Address>& addresses,
             Admission& admission, Metrics& metrics);
  ~GrpcServer();
  GrpcServer(const GrpcServer&) = delete;
  GrpcServer& operator=(const GrpcServer&) = delete;

  // In the order of the addresses.
  [[nodiscard]] const std::vector<int>& ports() const;
  // No new calls; waits for those under way, and ends them after `patience`.
  void shutdown(std::chrono::milliseconds patience);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tenon::serve
