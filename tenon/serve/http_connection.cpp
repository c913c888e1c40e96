#include "tenon/serve/http_connection.h"

#include <fmt/format.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <memory>

#include "tenon/base/error.h"
#include "tenon/serve/http.h"

namespace tenon::serve {
namespace {

constexpr size_t kPiece = 1 << 20;  // that OpenSSL is given at one time

bool timed_out() { return errno == EAGAIN || errno == EWOULDBLOCK || errno == EINPROGRESS; }

}  // namespace

void HttpConnection::close() {
  session_.reset();
  if (descriptor_ >= 0) ::close(descriptor_);
  descriptor_ = -1;
  timeout_ = {};
  received_.clear();
}

void HttpConnection::fail(std::string_view why) {
  close();
  throw FileError({fmt::format("{}:{}", host_, port_), std::string(why), {}, {}, {}});
}

void HttpConnection::set_timeout(std::chrono::milliseconds timeout) {
  if (timeout == timeout_) return;
  timeout_ = timeout;
  const timeval limit{timeout.count() / 1000, timeout.count() % 1000 * 1000};
  ::setsockopt(descriptor_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
  ::setsockopt(descriptor_, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));  // of connect() too
}

void HttpConnection::connect(std::chrono::milliseconds timeout) {
  addrinfo hints{}, *list = nullptr;
  hints.ai_socktype = SOCK_STREAM;
  if (const int error = ::getaddrinfo(host_.c_str(), std::to_string(port_).c_str(), &hints, &list); error != 0)
    fail(::gai_strerror(error));
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owner(list, ::freeaddrinfo);
  int last = 0;
  for (const addrinfo* a = list; a != nullptr; a = a->ai_next) {
    descriptor_ = ::socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);
    if (descriptor_ < 0) continue;
    set_timeout(timeout);
    if (::connect(descriptor_, a->ai_addr, a->ai_addrlen) == 0) {
      const int on = 1;
      ::setsockopt(descriptor_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
      if (!tls_) return;
      try {
        session_ = tls_->connect(descriptor_, host_);
      } catch (...) {
        close();  // else the next request would go over it in the clear
        throw;
      }
      return;
    }
    last = timed_out() ? ETIMEDOUT : errno;
    close();
  }
  fail(std::strerror(last));
}

HttpConnection::Moved HttpConnection::write(std::string_view bytes) {
  while (!bytes.empty()) {
    errno = 0;
    const auto n = session_
                       ? ::SSL_write(session_.get(), bytes.data(), static_cast<int>(std::min(bytes.size(), kPiece)))
                       : ::send(descriptor_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n <= 0) return timed_out() ? Moved::TimedOut : Moved::Closed;
    bytes.remove_prefix(static_cast<size_t>(n));
  }
  return Moved::Yes;
}

HttpConnection::Moved HttpConnection::read_more() {
  char buffer[16384];
  errno = 0;
  const auto n =
      session_ ? ::SSL_read(session_.get(), buffer, sizeof(buffer)) : ::recv(descriptor_, buffer, sizeof(buffer), 0);
  if (n <= 0) return n < 0 && timed_out() ? Moved::TimedOut : Moved::Closed;
  received_.append(buffer, static_cast<size_t>(n));
  return Moved::Yes;
}

HttpConnection::Answer HttpConnection::exchange(std::string_view head, std::string_view body,
                                                std::chrono::milliseconds timeout) {
  // One piece, so that it leaves as one packet if it fits.
  std::string message = fmt::format("{}Host: {}:{}\r\nContent-Length: {}\r\n\r\n", head, host_, port_, body.size());
  message += body;
  bool fresh = descriptor_ < 0;
  while (true) {
    if (descriptor_ < 0)
      connect(timeout);
    else
      set_timeout(timeout);
    Moved moved = write(message);
    // A server that will not read all of it has answered before it closed.
    if (moved != Moved::TimedOut && received_.empty()) moved = read_more();
    if (moved == Moved::Yes) break;
    if (moved == Moved::TimedOut) fail("no answer came in time");
    if (fresh) fail("the connection was closed without an answer");
    close();
    fresh = true;
  }
  const auto read_on = [&] {
    const Moved moved = read_more();
    if (moved != Moved::Yes) fail(moved == Moved::TimedOut ? "no answer came in time" : "the answer ends too early");
  };
  size_t end = 0;
  while ((end = received_.find("\r\n\r\n")) == std::string::npos) read_on();
  Answer out;
  out.status = std::atoi(received_.c_str() + std::min<size_t>(received_.size(), 9));
  size_t length = 0;
  bool closes = false;
  std::string_view lines = std::string_view(received_).substr(0, end);
  while (!lines.empty()) {
    const std::string_view line = lines.substr(0, lines.find("\r\n"));
    lines.remove_prefix(std::min(lines.size(), line.size() + 2));
    if (same_ignoring_case(line.substr(0, 15), "content-length:"))
      length = std::strtoull(line.data() + 15, nullptr, 10);
    if (same_ignoring_case(line, "connection: close")) closes = true;
  }
  received_.erase(0, end + 4);
  while (received_.size() < length) read_on();
  out.body = received_.substr(0, length);
  received_.erase(0, length);
  if (closes) close();
  return out;
}

}  // namespace tenon::serve
