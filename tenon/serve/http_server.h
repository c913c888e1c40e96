// The HTTP listener (HTTP/1.1, TLS if asked for): reads requests within limits, watches for clients that hang up,
// writes.
//
// One thread for each loop; a connection stays on its loop. Handlers run on the loop (small bodies) or on a pool of a
// few threads (large ones) and answer whenever they like. Whether a request comes in is decided by Admission from its
// header.
#pragma once

#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "tenon/serve/http.h"
#include "tenon/serve/metrics.h"
#include "tenon/serve/tls.h"

namespace tenon::serve {

struct HttpServerOptions {
  int threads = 0;  // 0: one for each CPU
  int64_t max_connections = 60000;
  uint32_t header_bytes = 64 << 10;
  std::chrono::milliseconds header_timeout{30000};  // from a request's first byte to the end of its header
  std::chrono::milliseconds body_timeout{30000};    // and 1 s for each 64 KiB
  std::chrono::milliseconds write_timeout{30000};   // likewise
  std::chrono::milliseconds idle_timeout{300000};   // between requests
};

class HttpServer {
 public:
  HttpServer(HttpServerOptions options, Admission& admission, Metrics& metrics);
  // Closes everything.
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  // Port 0 takes a free one; the port is returned. Errors: FileError if the address is taken or no address, or a
  // certificate cannot be used.
  uint16_t listen(const std::string& name, const std::string& address, uint16_t port, HttpHandler handler,
                  std::optional<TlsFiles> tls = {});
  // Connections close after their next answer, so that clients go elsewhere; new ones are still taken.
  void wind_down();
  // New connections are refused; connections close after the answer they wait for, idle ones now.
  void stop_accepting();
  [[nodiscard]] int64_t connections() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tenon::serve
