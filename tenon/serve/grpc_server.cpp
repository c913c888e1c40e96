#include "tenon/serve/grpc_server.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <charconv>
#include <cstring>
#include <thread>
#include <unordered_set>

#include "tenon/base/error.h"
#include "tenon/serve/grpc_session.h"
#include "tenon/serve/write_now.h"

namespace tenon::serve {
namespace {

namespace net = boost::asio;
namespace ssl = boost::asio::ssl;
using tcp = net::ip::tcp;
using Protocol = net::generic::stream_protocol;  // TCP and Unix sockets alike
// The executor's type is known: asio's erased one costs a tenth of a small request.
using Socket = net::basic_stream_socket<Protocol, net::io_context::executor_type>;
using Acceptor = net::basic_socket_acceptor<Protocol>;
using boost::system::error_code;

constexpr size_t kReadBuffer = 16 << 10, kLargestReadBuffer = 256 << 10;
constexpr auto kSweep = std::chrono::milliseconds(250);
constexpr auto kLinger = std::chrono::milliseconds(2000);

// What the loop does with a connection, whatever its stream.
class Connection : public GrpcSession {
 public:
  using GrpcSession::GrpcSession;
  virtual void start() = 0;
  virtual void abort() = 0;
  virtual void look(Clock::time_point now) = 0;  // every now and then
};

// A loop, its thread, and the connections on it (touched on its thread only).
struct GrpcLoop {
  std::unordered_set<Connection*> connections;  // before io: what still waits there leaves the set when io goes
  net::io_context io{1};
  net::steady_timer sweep{io};
  std::thread thread;
};

struct GrpcListener {
  std::unique_ptr<Acceptor> acceptor;
  std::unique_ptr<TlsContext> tls;  // null: none
};

Socket& lowest(Socket& s) { return s; }
Socket& lowest(ssl::stream<Socket>& s) { return s.next_layer(); }

template <class Channel>
class StreamConnection final : public Connection {
 public:
  StreamConnection(Channel stream, std::shared_ptr<void> keep, GrpcService& service, GrpcLoop& loop,
                   std::shared_ptr<std::atomic<int64_t>> count)
      : Connection(service),
        keep_(std::move(keep)),
        stream_(std::move(stream)),
        loop_(loop),
        count_(std::move(count)),
        buffer_(kReadBuffer) {
    loop_.connections.insert(this);
  }
  ~StreamConnection() override {
    loop_.connections.erase(this);
    if (!closed_) count_->fetch_sub(1, std::memory_order_relaxed);
  }

  void start() override {
    error_code ignored;
    lowest(stream_).set_option(tcp::no_delay(true), ignored);
    if constexpr (kPlain) {
      stream_.non_blocking(true, ignored);
      open();
    } else {
      stream_.async_handshake(ssl::stream_base::server, [self = self()](error_code error) {
        if (error) return self->abort();
        self->open();
      });
    }
  }
  void abort() override {
    if (closed_) return;
    closed_ = true;
    count_->fetch_sub(1, std::memory_order_relaxed);
    hang_up();
    error_code ignored;
    lowest(stream_).close(ignored);
  }
  void look(Clock::time_point now) override {
    if (lingering_ ? now >= linger_until_ : !sweep(now)) abort();
  }

 private:
  static constexpr bool kPlain = std::is_same_v<Channel, Socket>;
  std::shared_ptr<StreamConnection> self() {
    return std::static_pointer_cast<StreamConnection>(this->shared_from_this());
  }

  void open() {
    opened_ = true;
    pump();
    read();
  }
  void read() {
    stream_.async_read_some(net::buffer(buffer_), [self = self()](error_code error, size_t n) {
      if (self->closed_) return;
      if (error) return self->abort();
      if (!self->lingering_) {
        if (!self->receive(std::as_bytes(std::span(self->buffer_).first(n)))) return self->abort();
        if (self->closed_) return;
        if (n == self->buffer_.size() && n < kLargestReadBuffer) self->buffer_.resize(4 * n);
      }
      self->read();
    });
  }

  // Sends what there is; what the socket does not take at once, later.
  void pump() {
    while (opened_ && !writing_ && !closed_ && !lingering_) {
      output_.clear();
      collect(output_);
      if (output_.empty()) break;
      buffers_.clear();
      output_.for_each([&](std::span<const std::byte> piece) { buffers_.emplace_back(piece.data(), piece.size()); });
      if constexpr (kPlain) {
        error_code error;
        write_now(stream_, buffers_, error);
        if (error) return abort();
        if (buffers_.empty()) continue;
      }
      writing_ = true;
      net::async_write(stream_, buffers_, [self = self()](error_code error, size_t) {
        self->writing_ = false;
        if (self->closed_) return;
        if (error) return self->abort();
        self->pump();
      });
    }
    if (opened_ && !writing_ && !closed_ && !lingering_ && over()) linger();
  }
  // Says goodbye and reads what is still on its way, so that the last words are not lost to a reset.
  void linger() {
    lingering_ = true;
    linger_until_ = Clock::now() + kLinger;
    error_code ignored;
    lowest(stream_).shutdown(Socket::shutdown_send, ignored);
  }

  void output_ready() override { pump(); }
  [[nodiscard]] bool on_own_thread() const override {
    return const_cast<Channel&>(stream_).get_executor().running_in_this_thread();
  }
  void post_answer(int32_t stream, size_t number, Status status, std::vector<Chunk> message) override {
    net::post(stream_.get_executor(),
              [self = self(), stream, number, status = std::move(status), message = std::move(message)]() mutable {
                self->answered(stream, number, std::move(status), std::move(message));
              });
  }

  std::shared_ptr<void> keep_;  // the TLS context
  Channel stream_;
  GrpcLoop& loop_;
  std::shared_ptr<std::atomic<int64_t>> count_;
  std::vector<std::byte> buffer_;
  GrpcOutput output_;
  std::vector<net::const_buffer> buffers_;
  Clock::time_point linger_until_ = kNever;
  bool opened_ = false, writing_ = false, closed_ = false, lingering_ = false;
};

// Whoever lets go last, perhaps a thread that has just computed an answer: the connection ends on its loop, or with it.
std::shared_ptr<Connection> on_loop(Connection* connection, const std::shared_ptr<GrpcLoop>& loop) {
  return {connection, [loop](Connection* c) { net::dispatch(loop->io, [last = std::unique_ptr<Connection>(c)] {}); }};
}

GrpcLimits limits_of(const GrpcServerOptions& options, const AdmissionLimits& admission) {
  GrpcLimits limits;
  limits.message = std::min<int64_t>(admission.body, INT32_MAX);
  const auto time = [](std::chrono::milliseconds& to) {
    return [&to](int64_t v) { to = v == INT32_MAX ? std::chrono::hours(24 * 365) : std::chrono::milliseconds(v); };
  };
  const std::vector<std::pair<std::string_view, std::function<void(int64_t)>>> known{
      {"grpc.max_receive_message_length", [&](int64_t v) { limits.message = v < 0 ? INT32_MAX : v; }},
      {"grpc.max_concurrent_streams", [&](int64_t v) { limits.concurrent_streams = static_cast<uint32_t>(v); }},
      {"grpc.max_metadata_size", [&](int64_t v) { limits.header_bytes = static_cast<uint32_t>(v); }},
      {"grpc.keepalive_time_ms", time(limits.keepalive_time)},
      {"grpc.keepalive_timeout_ms", time(limits.keepalive_timeout)},
      {"grpc.max_connection_idle_ms", time(limits.idle_timeout)},
      {"grpc.max_connection_age_ms", time(limits.connection_age)},
      {"grpc.max_connection_age_grace_ms", time(limits.age_grace)}};
  for (const auto& [key, value] : options.channel_arguments) {
    const auto found = std::find_if(known.begin(), known.end(), [&](const auto& k) { return k.first == key; });
    if (found == known.end()) continue;
    int64_t number = 0;
    const auto [stop, error] = std::from_chars(value.data(), value.data() + value.size(), number);
    if (error != std::errc() || stop != value.data() + value.size() || number < -1)
      throw ValueError({"gRPC", fmt::format("the channel argument {} is no number", key), "a number", value, {}});
    found->second(number);
  }
  return limits;
}

}  // namespace

struct GrpcServer::State {
  State(const GrpcServerOptions& options, RpcMethods methods, Admission& admission)
      : service(std::move(methods), limits_of(options, admission.limits()), admission),
        max_connections(options.max_connections) {}
  GrpcService service;
  int64_t max_connections;
  std::vector<std::shared_ptr<GrpcLoop>> loops;
  std::vector<net::executor_work_guard<net::io_context::executor_type>> guards;
  std::vector<std::shared_ptr<GrpcListener>> listeners;  // fixed once the loops run
  std::vector<std::string> paths;                        // of Unix sockets
  std::vector<int> ports;
  std::shared_ptr<std::atomic<int64_t>> connections = std::make_shared<std::atomic<int64_t>>(0);
  size_t next_loop = 0;
  Clock::time_point certificates_looked_at = Clock::now();
  std::atomic<bool> closing{false};
  bool down = false;

  void listen(const Address& address);
  void accept(const std::shared_ptr<GrpcListener>& listener);
  void take(const std::shared_ptr<GrpcListener>& listener, const std::shared_ptr<GrpcLoop>& loop, Socket socket);
  void sweep(GrpcLoop& loop);
  template <class Fn>
  void for_all(const Fn& fn) {  // on their loops
    for (auto& loop : loops) {
      net::post(loop->io, [&loop = *loop, fn] {
        std::vector<std::shared_ptr<GrpcSession>> all;
        for (Connection* c : loop.connections) all.push_back(c->weak_from_this().lock());
        for (const auto& c : all) {
          if (c) fn(static_cast<Connection&>(*c));
        }
      });
    }
  }
  [[nodiscard]] bool wait_until_empty(Clock::time_point until) const {
    while (connections->load() > 0) {
      if (Clock::now() >= until) return false;
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    }
    return true;
  }
};

void GrpcServer::State::listen(const Address& a) {
  auto listener = std::make_shared<GrpcListener>();
  const bool local = a.host == "unix";
  const std::string where = local ? "unix:" + a.path : fmt::format("{}:{}", a.host, a.port);
  if (a.tls) listener->tls = std::make_unique<TlsContext>(*a.tls, "h2");
  try {
    struct stat s{};  // a socket that an earlier server left
    if (local && ::stat(a.path.c_str(), &s) == 0 && S_ISSOCK(s.st_mode)) ::unlink(a.path.c_str());
    const Protocol::endpoint endpoint = local
                                            ? Protocol::endpoint(net::local::stream_protocol::endpoint(a.path))
                                            : Protocol::endpoint(tcp::endpoint(net::ip::make_address(a.host), a.port));
    listener->acceptor = std::make_unique<Acceptor>(loops[0]->io);
    listener->acceptor->open(endpoint.protocol());
    if (!local) listener->acceptor->set_option(net::socket_base::reuse_address(true));
    listener->acceptor->bind(endpoint);
    listener->acceptor->listen(net::socket_base::max_listen_connections);
    int port = 0;
    if (!local) {
      tcp::endpoint taken;
      const auto given = listener->acceptor->local_endpoint();
      taken.resize(given.size());
      std::memcpy(taken.data(), given.data(), given.size());
      port = taken.port();
    } else {
      paths.push_back(a.path);
    }
    ports.push_back(port);
  } catch (const boost::system::system_error& error) {
    throw FileError(
        {where, "the address cannot be listened on: " + error.code().message(), {}, {}, "choose another port"});
  }
  listeners.push_back(std::move(listener));
}

void GrpcServer::State::accept(const std::shared_ptr<GrpcListener>& listener) {
  const auto& loop = loops[next_loop++ % loops.size()];
  listener->acceptor->async_accept(
      loop->io.get_executor(), [this, listener, loop = loop](error_code error, Socket socket) {
        if (closing) return;
        if (error) {  // out of descriptors, most likely: try again when some have closed
          auto timer = std::make_shared<net::steady_timer>(loops[0]->io, std::chrono::milliseconds(50));
          timer->async_wait([this, listener, timer](error_code) {
            if (!closing) accept(listener);
          });
          return;
        }
        take(listener, loop, std::move(socket));
        accept(listener);
      });
}

void GrpcServer::State::take(const std::shared_ptr<GrpcListener>& listener, const std::shared_ptr<GrpcLoop>& loop,
                             Socket socket) {
  if (connections->fetch_add(1, std::memory_order_relaxed) >= max_connections) {
    connections->fetch_sub(1, std::memory_order_relaxed);
    return;
  }
  std::shared_ptr<ssl::context> tls = listener->tls ? listener->tls->current() : nullptr;
  net::post(loop->io, [this, loop, tls, socket = std::move(socket)]() mutable {
    std::shared_ptr<Connection> connection;
    if (tls) {
      connection = on_loop(new StreamConnection<ssl::stream<Socket>>(ssl::stream<Socket>(std::move(socket), *tls), tls,
                                                                     service, *loop, connections),
                           loop);
    } else {
      connection = on_loop(new StreamConnection<Socket>(std::move(socket), nullptr, service, *loop, connections), loop);
    }
    connection->start();
  });
}

void GrpcServer::State::sweep(GrpcLoop& loop) {
  const auto now = Clock::now();
  std::vector<std::shared_ptr<GrpcSession>> all;
  for (Connection* c : loop.connections) all.push_back(c->weak_from_this().lock());
  for (const auto& c : all) {
    if (c) static_cast<Connection&>(*c).look(now);
  }
  if (&loop == loops[0].get() && now - certificates_looked_at > std::chrono::seconds(1)) {
    certificates_looked_at = now;
    for (const auto& listener : listeners) {
      if (listener->tls) listener->tls->reload();
    }
  }
  loop.sweep.expires_after(kSweep);
  loop.sweep.async_wait([this, &loop](error_code error) {
    if (!error) sweep(loop);
  });
}

GrpcServer::GrpcServer(const GrpcServerOptions& options, RpcMethods methods, const std::vector<Address>& addresses,
                       Admission& admission, Metrics& metrics)
    : state_(std::make_unique<State>(options, std::move(methods), admission)) {
  State& s = *state_;
  const int cpus = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  const int threads = options.max_threads > 0 ? std::min(options.max_threads, 4 * cpus) : cpus;
  for (int i = 0; i < threads; ++i) s.loops.push_back(std::make_shared<GrpcLoop>());
  for (const auto& address : addresses) s.listen(address);
  for (const auto& listener : s.listeners) s.accept(listener);
  for (auto& loop : s.loops) {
    s.guards.push_back(net::make_work_guard(loop->io));
    s.sweep(*loop);
    loop->thread = std::thread([&loop = *loop] { loop.io.run(); });
  }
  metrics.gauge("tenon_grpc_connections", "Open gRPC connections.", {},
                [open = s.connections] { return static_cast<double>(open->load()); });
}

GrpcServer::~GrpcServer() {
  shutdown(std::chrono::milliseconds(0));
  State& s = *state_;
  s.service.pool.reset();  // what they still do holds its connection
  s.service.blocking_pool.reset();
  (void)s.wait_until_empty(Clock::now() + std::chrono::seconds(2));
  s.guards.clear();
  for (auto& loop : s.loops) loop->io.stop();
  for (auto& loop : s.loops) loop->thread.join();
  // What was closed a moment ago has handlers that have not run: each keeps its connection, that its loop, and the loop
  // the handlers.
  for (auto& loop : s.loops) {
    loop->io.restart();
    loop->io.poll();
  }
}

const std::vector<int>& GrpcServer::ports() const { return state_->ports; }

void GrpcServer::shutdown(std::chrono::milliseconds patience) {
  State& s = *state_;
  if (s.down) return;
  s.down = true;
  s.closing = true;
  net::post(s.loops[0]->io, [&s] {
    error_code ignored;
    for (const auto& listener : s.listeners) (void)listener->acceptor->close(ignored);
    for (const auto& path : s.paths) ::unlink(path.c_str());
  });
  const auto until = Clock::now() + patience;
  s.for_all([](Connection& c) { c.wind_down(true); });
  if (s.wait_until_empty(until)) return;
  s.for_all([](Connection& c) { c.abort(); });
}

}  // namespace tenon::serve
