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

}  // namespace

void HttpConnection::close() {
  session_.reset();
  if (descriptor_ >= 0) ::close(descriptor_);
  descriptor_ = -1;
  received_.clear();
}

void HttpConnection::connect(std::chrono::milliseconds timeout) {
  const std::string where = fmt::format("{}:{}", host_, port_);
  addrinfo hints{}, *list = nullptr;
  hints.ai_socktype = SOCK_STREAM;
  if (const int error = ::getaddrinfo(host_.c_str(), std::to_string(port_).c_str(), &hints, &list); error != 0)
    throw FileError({where, ::gai_strerror(error), {}, {}, {}});
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> owner(list, ::freeaddrinfo);
  int last = 0;
  for (const addrinfo* a = list; a != nullptr; a = a->ai_next) {
    descriptor_ = ::socket(a->ai_family, a->ai_socktype | SOCK_CLOEXEC, a->ai_protocol);
    if (descriptor_ < 0) continue;
    if (::connect(descriptor_, a->ai_addr, a->ai_addrlen) == 0) {
      const int on = 1;
      ::setsockopt(descriptor_, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
      set_timeout(timeout);
      if (tls_) session_ = tls_->connect(descriptor_, host_);
      return;
    }
    last = errno;
    close();
  }
  throw FileError({where, std::strerror(last), {}, {}, {}});
}

void HttpConnection::set_timeout(std::chrono::milliseconds timeout) const {
  const timeval limit{timeout.count() / 1000, timeout.count() % 1000 * 1000};
  ::setsockopt(descriptor_, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
}

void HttpConnection::write(std::string_view bytes) {
  while (!bytes.empty()) {
    const auto n = session_
                       ? ::SSL_write(session_.get(), bytes.data(), static_cast<int>(std::min(bytes.size(), kPiece)))
                       : ::send(descriptor_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (n <= 0) throw FileError({fmt::format("{}:{}", host_, port_), "the connection broke", {}, {}, {}});
    bytes.remove_prefix(static_cast<size_t>(n));
  }
}

bool HttpConnection::read_more() {
  char buffer[16384];
  const auto n =
      session_ ? ::SSL_read(session_.get(), buffer, sizeof(buffer)) : ::recv(descriptor_, buffer, sizeof(buffer), 0);
  if (n <= 0) return false;
  received_.append(buffer, static_cast<size_t>(n));
  return true;
}

HttpConnection::Answer HttpConnection::exchange(std::string_view head, std::string_view body,
                                                std::chrono::milliseconds timeout) {
  const std::string where = fmt::format("{}:{}", host_, port_);
  // One piece, so that it leaves as one packet if it fits.
  std::string message = fmt::format("{}Host: {}\r\nContent-Length: {}\r\n\r\n", head, where, body.size());
  message += body;
  bool fresh = descriptor_ < 0;
  while (true) {
    if (descriptor_ < 0)
      connect(timeout);
    else
      set_timeout(timeout);
    bool sent = true;
    try {
      write(message);
    } catch (const FileError&) {
      sent = false;
    }
    if (sent && (!received_.empty() || read_more())) break;
    close();
    // Closed while it was idle: nothing was answered, so once more on a new connection. Else it is a failure.
    if (fresh) throw FileError({where, "the connection was closed without an answer", {}, {}, {}});
    fresh = true;
  }
  size_t end = 0;
  while ((end = received_.find("\r\n\r\n")) == std::string::npos) {
    if (!read_more()) {
      close();
      throw FileError({where, "the answer ends too early", {}, {}, {}});
    }
  }
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
  while (received_.size() < length) {
    if (!read_more()) {
      close();
      throw FileError({where, "the answer ends too early", {}, {}, {}});
    }
  }
  out.body = received_.substr(0, length);
  received_.erase(0, length);
  if (closes) close();
  return out;
}

}  // namespace tenon::serve
