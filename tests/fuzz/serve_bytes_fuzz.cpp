// The bytes of an HTTP connection, through a real socket: the parser, the limits and the states of a connection. The
// first byte says into how large pieces they are cut. Requests that come whole are answered; the server must close the
// connection when the client has said all, and hold nothing of it then.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <thread>

#include "tenon/serve/http_server.h"
#include "tests/fuzz/fuzz.h"

namespace {

using namespace tenon::serve;
using tenon::fuzz::require;

constexpr int64_t kBody = 1 << 16;

HttpResponse looked_at(const HttpRequest& request) {
  require(static_cast<int64_t>(request.body.size()) <= kBody);
  for (const std::string_view text : {std::string_view(request.method), std::string_view(request.target)})
    require(!text.empty() && text.find_first_of("\r\n ") == std::string_view::npos);
  for (const char* name : {"Host", "Accept-Encoding", "n"})
    require(request.header(name).find_first_of("\r\n") == std::string_view::npos);
  (void)accepted_encoding(request.header("Accept-Encoding"));
  return HttpResponse::text(url_decoded(request.path()));
}

struct Server {
  Metrics metrics;
  Admission admission{{.requests = 4, .bytes = 2 * kBody, .body = kBody}, metrics};
  HttpServer http{{.threads = 1, .header_bytes = 4096}, admission, metrics};
  uint16_t port = http.listen(
      "fuzz", "127.0.0.1", 0,
      {.handle = [](const HttpRequestPtr& request, const Respond& respond) { respond(looked_at(*request)); },
       .on_error = [](const Status& status) { return HttpResponse::text(status.message, 400); }});
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  using namespace tenon;
  return fuzz::run(data, size, [](std::span<const std::byte> bytes) {
    if (bytes.empty()) return;
    static Server server;
    const int client = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.sin_port = htons(server.port);
    require(::connect(client, reinterpret_cast<sockaddr*>(&address), sizeof(address)) == 0);
    const size_t step = 8 * static_cast<size_t>(bytes[0]) + 1;
    for (auto rest = bytes.subspan(1); !rest.empty(); rest = rest.subspan(std::min(step, rest.size()))) {
      // The server may have closed already.
      if (::send(client, rest.data(), std::min(step, rest.size()), MSG_NOSIGNAL) < 0) break;
    }
    ::shutdown(client, SHUT_WR);
    const timeval patience{10, 0};
    ::setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    std::array<char, 4096> answer{};
    bool first = true;
    ssize_t n = 0;
    while ((n = ::recv(client, answer.data(), answer.size(), 0)) > 0) {
      if (std::exchange(first, false))
        require(std::string_view(answer.data(), static_cast<size_t>(n)).starts_with("HTTP/1."));
    }
    require(n == 0 || errno == ECONNRESET);  // not: nothing came for so long
    ::close(client);
    const auto until = Clock::now() + std::chrono::seconds(10);
    while (server.http.connections() > 0 || server.admission.requests() > 0) {
      require(Clock::now() < until);
      std::this_thread::sleep_for(std::chrono::microseconds(50));
    }
    require(server.admission.bytes() == 0);
  });
}
