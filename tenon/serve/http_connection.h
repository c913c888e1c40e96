// A blocking HTTP/1.1 connection for the load generator: one request, one answer, kept alive.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "tenon/serve/client_tls.h"

namespace tenon::serve {

class HttpConnection {
 public:
  HttpConnection(std::string host, uint16_t port, std::optional<ClientTls> tls = {})
      : host_(std::move(host)), port_(port), tls_(std::move(tls)) {}
  ~HttpConnection() { close(); }
  HttpConnection(const HttpConnection&) = delete;
  HttpConnection& operator=(const HttpConnection&) = delete;

  struct Answer {
    int status = 0;
    std::string body;
  };
  // `head` is the request line and headers, without the empty line. Connects anew, and asks once more, where the
  // connection was closed while it was idle; never after a timeout, because the server may be at work. `timeout`: of
  // each wait. Errors: FileError, and then the next exchange connects anew.
  Answer exchange(std::string_view head, std::string_view body, std::chrono::milliseconds timeout);
  void close();

 private:
  // What a read or a write came to.
  enum class Moved : uint8_t { Yes, Closed, TimedOut };
  void connect(std::chrono::milliseconds timeout);
  void set_timeout(std::chrono::milliseconds timeout);
  Moved write(std::string_view bytes);
  Moved read_more();
  [[noreturn]] void fail(std::string_view why);
  std::string host_;
  uint16_t port_;
  std::optional<ClientTls> tls_;
  int descriptor_ = -1;
  std::chrono::milliseconds timeout_{0};  // of the descriptor
  ClientTls::Session session_{nullptr, nullptr};
  std::string received_;
};

}  // namespace tenon::serve
