// The gRPC listener: any list of methods on any number of ports, through gRPC's completion queues.
//
// Messages are handed on as the pieces in which they came, so that tensors are copied at most once. One queue with few
// threads: in gRPC's poller each further thread costs a wake-up for every event.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tenon/serve/http_server.h"
#include "tenon/serve/rpc.h"

namespace tenon::serve {

struct GrpcServerOptions {
  std::vector<std::pair<std::string, std::string>> channel_arguments{};  // gRPC's own, as the flag takes them
  int max_threads = 0;  // that read, answer and run quick requests; 0: half of the CPUs
};

class GrpcServer {
 public:
  struct Address {
    std::string host;  // "127.0.0.1"; "unix" for a socket whose path is `path`
    uint16_t port = 0;
    std::string path{};
    std::optional<TlsFiles> tls{};
  };
  // Starts at once. Errors: FileError if an address is taken; ValueError for two methods with one path.
  GrpcServer(const GrpcServerOptions& options, RpcMethods methods, const std::vector<Address>& addresses,
             Admission& admission);
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
