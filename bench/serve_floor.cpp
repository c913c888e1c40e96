// The floor under a request: what the kernel takes, and for gRPC the HTTP/2 library, when nothing is done with it.
//
//   serve_floor [THREADS]
//
// Prints "rest PORT" and "grpc PORT" and answers, as `tenon serve` would answer for a model `m` of one number in and
// one out, the same bytes whatever is asked: each request is one epoll_wait, one recv and one send. bench/serve.py
// --floor sends it what it sends the server.
#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <nghttp2/nghttp2.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace {

constexpr std::string_view kModel =
    R"({"name":"m","versions":["1"],"platform":"onnx_onnxv1","inputs":[{"name":"x","datatype":"FP32","shape":[-1]}],)"
    R"("outputs":[{"name":"y","datatype":"FP32","shape":[-1]}]})";
constexpr std::string_view kTrace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

std::string http_answer(std::string_view fields, std::string_view body) {
  std::string out = "HTTP/1.1 200 OK\r\n";
  out.append(fields).append("Content-Length: ").append(std::to_string(body.size()));
  return out.append("\r\ntraceparent: ").append(kTrace).append("\r\n\r\n").append(body);
}
std::string http_metadata() { return http_answer("Content-Type: application/json\r\n", kModel); }
std::string http_result() {
  std::string body =
      R"({"model_name":"m","model_version":"1","outputs":[{"name":"y","datatype":"FP32","shape":[1],"parameters":{"binary_data_size":4}}]})";
  const std::string fields =
      "Content-Type: application/octet-stream\r\nInference-Header-Content-Length: " + std::to_string(body.size()) +
      "\r\n";
  return http_answer(fields, body.append("\0\0\x20\x40", 4));
}

// Protobuf by hand: a field of bytes.
std::string field(int number, std::string_view content) {
  return std::string{static_cast<char>(number << 3 | 2), static_cast<char>(content.size())}.append(content);
}
std::string tensor(std::string_view name, std::string_view dims) {
  return field(1, name) + field(2, "FP32") + field(3, dims);
}
std::string message(const std::string& content) {
  return std::string{0, 0, 0, 0, static_cast<char>(content.size())} + content;
}
std::string grpc_metadata() {
  constexpr std::string_view any = "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01";
  return message(field(1, "m") + field(2, "1") + field(3, "onnx_onnxv1") + field(4, tensor("x", any)) +
                 field(5, tensor("y", any)));
}
std::string grpc_result() {
  return message(field(1, "m") + field(2, "1") + field(5, tensor("y", "\x01")) +
                 field(6, std::string_view("\0\0\x20\x40", 4)));
}

class Connection {
 public:
  explicit Connection(int descriptor) : descriptor_(descriptor) {}
  virtual ~Connection() { ::close(descriptor_); }
  Connection(const Connection&) = delete;
  Connection& operator=(const Connection&) = delete;
  // Once readable; false: it is over.
  bool serve() {
    std::array<char, 16384> buffer{};
    const auto n = ::recv(descriptor_, buffer.data(), buffer.size(), 0);
    return n > 0 && take({buffer.data(), static_cast<size_t>(n)});
  }

 protected:
  virtual bool take(std::string_view bytes) = 0;
  bool send(std::string_view bytes) const {
    return ::send(descriptor_, bytes.data(), bytes.size(), MSG_NOSIGNAL) == static_cast<ssize_t>(bytes.size());
  }

 private:
  int descriptor_;
};

// A client that sends a request in one piece, and the next one after the answer, as `tenon loadtest` does.
class Http final : public Connection {
 public:
  using Connection::Connection;

 private:
  bool take(std::string_view bytes) override { return send(bytes.starts_with("GET") ? metadata_ : result_); }
  const std::string metadata_ = http_metadata(), result_ = http_result();
};

class Grpc final : public Connection {
 public:
  explicit Grpc(int descriptor) : Connection(descriptor) {
    nghttp2_session_callbacks* callbacks = nullptr;
    nghttp2_session_callbacks_new(&callbacks);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, on_header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, on_frame);
    nghttp2_option* options = nullptr;
    nghttp2_option_new(&options);
    nghttp2_option_set_no_http_messaging(options, 1);
    nghttp2_session_server_new2(&session_, callbacks, this, options);
    nghttp2_option_del(options);
    nghttp2_session_callbacks_del(callbacks);
    nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, nullptr, 0);
    flush();
  }
  ~Grpc() override { nghttp2_session_del(session_); }

 private:
  static nghttp2_nv pair(std::string_view name, std::string_view value, uint8_t flags = 0) {
    const auto bytes = [](std::string_view t) { return reinterpret_cast<uint8_t*>(const_cast<char*>(t.data())); };
    return {bytes(name), bytes(value), name.size(), value.size(),
            static_cast<uint8_t>(flags | NGHTTP2_NV_FLAG_NO_COPY_NAME | NGHTTP2_NV_FLAG_NO_COPY_VALUE)};
  }
  static int on_header(nghttp2_session*, const nghttp2_frame*, const uint8_t* name, size_t name_size,
                       const uint8_t* value, size_t value_size, uint8_t, void* user) {
    const std::string_view key(reinterpret_cast<const char*>(name), name_size);
    const std::string_view text(reinterpret_cast<const char*>(value), value_size);
    if (key == ":path") static_cast<Grpc*>(user)->asks_metadata_ = text.ends_with("ModelMetadata");
    return 0;
  }
  static int on_frame(nghttp2_session* session, const nghttp2_frame* frame, void* user) {
    if ((frame->hd.type != NGHTTP2_DATA && frame->hd.type != NGHTTP2_HEADERS) ||
        !(frame->hd.flags & NGHTTP2_FLAG_END_STREAM))
      return 0;
    auto& self = *static_cast<Grpc*>(user);
    const std::array<nghttp2_nv, 3> fields{pair(":status", "200"), pair("content-type", "application/grpc"),
                                           pair("traceparent", kTrace, NGHTTP2_NV_FLAG_NO_INDEX)};
    nghttp2_data_provider provider{};
    provider.source.ptr = const_cast<std::string*>(self.asks_metadata_ ? &self.metadata_ : &self.result_);
    provider.read_callback = on_read;
    nghttp2_submit_response(session, frame->hd.stream_id, fields.data(), fields.size(), &provider);
    return 0;
  }
  static ssize_t on_read(nghttp2_session* session, int32_t stream, uint8_t* to, size_t most, uint32_t* flags,
                         nghttp2_data_source* source, void*) {
    const auto& text = *static_cast<const std::string*>(source->ptr);
    if (text.size() > most) return NGHTTP2_ERR_CALLBACK_FAILURE;
    text.copy(reinterpret_cast<char*>(to), text.size());
    *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
    const std::array<nghttp2_nv, 1> trailer{pair("grpc-status", "0")};
    nghttp2_submit_trailer(session, stream, trailer.data(), trailer.size());
    return static_cast<ssize_t>(text.size());
  }
  bool take(std::string_view bytes) override {
    const auto taken = nghttp2_session_mem_recv(session_, reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
    return taken == static_cast<ssize_t>(bytes.size()) && flush();
  }
  bool flush() {
    out_.clear();
    const uint8_t* bytes = nullptr;
    for (ssize_t n = 0; (n = nghttp2_session_mem_send(session_, &bytes)) > 0;)
      out_.append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(n));
    return out_.empty() || send(out_);
  }
  nghttp2_session* session_ = nullptr;
  std::string out_;
  bool asks_metadata_ = false;
  const std::string metadata_ = grpc_metadata(), result_ = grpc_result();
};

void loop(int epoll) {
  std::array<epoll_event, 64> events{};
  while (true) {
    const int n = ::epoll_wait(epoll, events.data(), static_cast<int>(events.size()), -1);
    for (int i = 0; i < n; ++i) {
      auto* connection = static_cast<Connection*>(events[static_cast<size_t>(i)].data.ptr);
      if (!connection->serve()) delete connection;
    }
  }
}

int listen_somewhere(const char* name) {
  const int descriptor = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  socklen_t size = sizeof(address);
  if (::bind(descriptor, reinterpret_cast<sockaddr*>(&address), size) != 0 || ::listen(descriptor, 1024) != 0 ||
      ::getsockname(descriptor, reinterpret_cast<sockaddr*>(&address), &size) != 0)
    std::exit(1);
  std::printf("%s %d\n", name, ntohs(address.sin_port));
  std::fflush(stdout);
  return descriptor;
}

template <class Kind>
void accept_all(int listener, const std::vector<int>& epolls) {
  for (size_t next = 0;; ++next) {
    const int descriptor = ::accept4(listener, nullptr, nullptr, SOCK_CLOEXEC);
    if (descriptor < 0) continue;
    const int on = 1;
    ::setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.ptr = static_cast<Connection*>(new Kind(descriptor));
    ::epoll_ctl(epolls[next % epolls.size()], EPOLL_CTL_ADD, descriptor, &event);
  }
}

}  // namespace

int main(int argc, char** argv) {
  const int threads = argc > 1 ? std::atoi(argv[1]) : static_cast<int>(std::thread::hardware_concurrency());
  std::vector<int> epolls;
  for (int i = 0; i < threads; ++i) {
    epolls.push_back(::epoll_create1(EPOLL_CLOEXEC));
    std::thread(loop, epolls.back()).detach();
  }
  const int rest = listen_somewhere("rest"), grpc = listen_somewhere("grpc");
  std::thread(accept_all<Http>, rest, epolls).detach();
  accept_all<Grpc>(grpc, epolls);
}
