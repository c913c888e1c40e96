// The load generator's HTTP connection against servers that misbehave: what is asked again, and what never is.
#include "tenon/serve/http_connection.h"

#include <arpa/inet.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <functional>
#include <mutex>
#include <thread>
#include <vector>

#include "tests/support/error_text.h"

namespace tenon::serve {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;
using tenon::testing_support::error_text;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr std::string_view kAnswer = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

// Takes one connection after the other, and keeps the first bytes of all that came.
class BluntServer {
 public:
  // What to send after the n-th read of the c-th connection; "" : close it; nothing: be silent.
  using Reply = std::function<std::optional<std::string_view>(int connection, int read)>;
  explicit BluntServer(Reply reply) : reply_(std::move(reply)) {
    listener_ = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in at{};
    at.sin_family = AF_INET;
    at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof(at);
    (void)::bind(listener_, reinterpret_cast<sockaddr*>(&at), size);
    ::listen(listener_, 8);
    ::getsockname(listener_, reinterpret_cast<sockaddr*>(&at), &size);
    port_ = ntohs(at.sin_port);
    thread_ = std::thread([this] { serve(); });
  }
  ~BluntServer() {
    ::shutdown(listener_, SHUT_RDWR);
    thread_.join();
    ::close(listener_);
  }
  BluntServer(const BluntServer&) = delete;
  BluntServer& operator=(const BluntServer&) = delete;

  [[nodiscard]] uint16_t port() const { return port_; }
  std::vector<std::string> beginnings() {
    const std::lock_guard lock(mutex_);
    return beginnings_;
  }

 private:
  void serve() {
    for (int connection = 0;; ++connection) {
      const int peer = ::accept(listener_, nullptr, nullptr);
      if (peer < 0) return;
      char buffer[4096];
      for (int read = 0;; ++read) {
        const auto n = ::recv(peer, buffer, sizeof(buffer), 0);
        if (n <= 0) break;
        {
          const std::lock_guard lock(mutex_);
          beginnings_.emplace_back(buffer, std::min<size_t>(4, static_cast<size_t>(n)));
        }
        const auto reply = reply_(connection, read);
        if (reply && reply->empty()) break;
        if (reply) ::send(peer, reply->data(), reply->size(), MSG_NOSIGNAL);
      }
      ::close(peer);
    }
  }
  Reply reply_;
  int listener_ = -1;
  uint16_t port_ = 0;
  std::mutex mutex_;
  std::vector<std::string> beginnings_;
  std::thread thread_;
};

std::string ask(HttpConnection& connection, milliseconds timeout = seconds(20)) {
  return connection.exchange("POST / HTTP/1.1\r\n", "{}", timeout).body;
}

TEST(HttpConnection, AsksOnceMoreWhereTheConnectionWasClosedWhileIdle) {
  BluntServer server([](int connection, int read) -> std::optional<std::string_view> {
    return connection == 0 && read == 1 ? "" : kAnswer;  // the second request finds it closed
  });
  HttpConnection connection("127.0.0.1", server.port());
  EXPECT_EQ(ask(connection), "ok");
  EXPECT_EQ(ask(connection), "ok");
  EXPECT_EQ(server.beginnings().size(), 3U);
}

// The server may be at work on it: a second copy would count twice.
TEST(HttpConnection, NeverAsksAgainAfterATimeout) {
  BluntServer server([](int, int read) -> std::optional<std::string_view> {
    if (read == 0) return kAnswer;
    return std::nullopt;
  });
  HttpConnection connection("127.0.0.1", server.port());
  EXPECT_EQ(ask(connection), "ok");
  EXPECT_THAT(error_text([&] { ask(connection, milliseconds(50)); }), HasSubstr("no answer came in time"));
  EXPECT_THAT(server.beginnings(), ElementsAre("POST", "POST"));
  EXPECT_EQ(ask(connection), "ok") << "the next request takes a new connection";
}

TEST(HttpConnection, SaysWhenAnAnswerEndsTooEarly) {
  BluntServer server([](int, int read) -> std::optional<std::string_view> {
    return read == 0 ? "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok" : "";
  });
  HttpConnection connection("127.0.0.1", server.port());
  EXPECT_THAT(error_text([&] { ask(connection, milliseconds(50)); }), HasSubstr("no answer came in time"));
  BluntServer closing([](int, int) -> std::optional<std::string_view> { return ""; });
  HttpConnection other("127.0.0.1", closing.port());
  EXPECT_THAT(error_text([&] { ask(other); }), HasSubstr("closed without an answer"));
  EXPECT_EQ(closing.beginnings().size(), 1U) << "a new connection is not tried twice";
}

// What was meant for TLS must not follow in the clear when the handshake has failed.
TEST(HttpConnection, SendsNothingInTheClearAfterAFailedHandshake) {
  BluntServer server([](int, int) -> std::optional<std::string_view> { return kAnswer; });  // knows no TLS
  HttpConnection connection("127.0.0.1", server.port(), ClientTls({.anyone = true}));
  for (int i = 0; i < 2; ++i) EXPECT_THAT(error_text([&] { ask(connection); }), HasSubstr("TLS: "));
  for (const auto& beginning : server.beginnings()) EXPECT_EQ(beginning[0], '\x16') << "a TLS handshake";
}

}  // namespace
}  // namespace tenon::serve
