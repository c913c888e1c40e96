// A blunt HTTP client for tests: sends bytes as given, reads one answer. It can also misbehave.
#pragma once

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <string>
#include <utility>

namespace tenon::serve::testing_support {

struct HttpAnswer {
  int status = 0;  // 0: no answer, the connection was closed
  std::string head, body;
  [[nodiscard]] std::string header(const std::string& name) const {
    const auto lower = [](std::string s) {
      std::transform(s.begin(), s.end(), s.begin(), [](unsigned char c) { return std::tolower(c); });
      return s;
    };
    const std::string all = lower(head);
    const size_t at = all.find("\r\n" + lower(name) + ": ");
    if (at == std::string::npos) return {};
    const size_t begin = at + name.size() + 4;
    return head.substr(begin, head.find("\r\n", begin) - begin);
  }
};

class HttpClient {
 public:
  explicit HttpClient(uint16_t port) {
    fd_ = ::socket(AF_INET, SOCK_STREAM, 0);
    sockaddr_in to{};
    to.sin_family = AF_INET;
    to.sin_port = htons(port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (::connect(fd_, reinterpret_cast<sockaddr*>(&to), sizeof(to)) != 0) close();
  }
  ~HttpClient() { close(); }
  HttpClient(HttpClient&& other) noexcept : fd_(std::exchange(other.fd_, -1)), rest_(std::move(other.rest_)) {}
  HttpClient(const HttpClient&) = delete;
  HttpClient& operator=(const HttpClient&) = delete;

  [[nodiscard]] bool connected() const { return fd_ >= 0; }
  void close() {
    if (fd_ >= 0) ::close(fd_);
    fd_ = -1;
  }
  bool send(const std::string& bytes) {
    size_t at = 0;
    while (at < bytes.size()) {
      const auto n = ::send(fd_, bytes.data() + at, bytes.size() - at, MSG_NOSIGNAL);
      if (n <= 0) return false;
      at += static_cast<size_t>(n);
    }
    return true;
  }
  // Bytes until the end or `patience`.
  HttpAnswer read(std::chrono::milliseconds patience = std::chrono::seconds(60), bool head_only = false) {
    const auto until = std::chrono::steady_clock::now() + patience;
    HttpAnswer out;
    size_t end = 0;
    while (true) {
      while ((end = rest_.find("\r\n\r\n")) == std::string::npos) {
        if (!more(until)) return {};
      }
      out.head = rest_.substr(0, end + 2);
      out.status = std::stoi(out.head.substr(9, 3));
      rest_.erase(0, end + 4);
      if (out.status != 100) break;
    }
    const std::string length = out.header("Content-Length");
    const size_t size = head_only || length.empty() ? 0 : std::stoul(length);
    while (rest_.size() < size) {
      if (!more(until)) return {};
    }
    out.body = rest_.substr(0, size);
    rest_.erase(0, size);
    return out;
  }
  HttpAnswer get(const std::string& target) {
    send("GET " + target + " HTTP/1.1\r\nHost: t\r\n\r\n");
    return read();
  }
  HttpAnswer post(const std::string& target, const std::string& body, const std::string& headers = "") {
    send("POST " + target + " HTTP/1.1\r\nHost: t\r\nContent-Length: " + std::to_string(body.size()) + "\r\n" +
         headers + "\r\n" + body);
    return read();
  }
  // True if the other side has closed (or closes within `patience`).
  bool closed(std::chrono::milliseconds patience = std::chrono::seconds(60)) {
    const auto until = std::chrono::steady_clock::now() + patience;
    while (more(until)) rest_.clear();
    return closed_;
  }

 private:
  bool more(std::chrono::steady_clock::time_point until) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(until - std::chrono::steady_clock::now());
    pollfd p{fd_, POLLIN, 0};
    if (fd_ < 0 || left.count() <= 0 || ::poll(&p, 1, static_cast<int>(left.count())) <= 0) return false;
    char buffer[65536];
    const auto n = ::recv(fd_, buffer, sizeof(buffer), 0);
    if (n <= 0) {
      closed_ = true;
      return false;
    }
    rest_.append(buffer, static_cast<size_t>(n));
    return true;
  }
  int fd_ = -1;
  std::string rest_;
  bool closed_ = false;
};

}  // namespace tenon::serve::testing_support
