#include "tenon/serve/http_server.h"

#include <fmt/format.h>
#include <poll.h>

#include <array>
#include <atomic>
#include <boost/asio/dispatch.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/ssl.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http.hpp>
#include <mutex>
#include <thread>
#include <unordered_set>

#include "tenon/serve/append.h"
#include "tenon/serve/work_pool.h"
#include "tenon/serve/write_now.h"

namespace tenon::serve {
namespace {

namespace net = boost::asio;
namespace http = boost::beast::http;
namespace ssl = boost::asio::ssl;
using tcp = net::ip::tcp;
// The executor's type is known: asio's erased one costs a tenth of a small request.
using Socket = net::basic_stream_socket<tcp, net::io_context::executor_type>;
using boost::system::error_code;
using namespace std::string_view_literals;

constexpr size_t kLargeBody = 128 << 10;  // from here on a body is handled on the pool
constexpr size_t kCopyBelow = 4096;       // smaller bodies are copied behind their header
constexpr size_t kReadAhead = 64 << 10;   // of a client that sends the next request before it has the answer
constexpr auto kSweep = std::chrono::milliseconds(250);
constexpr auto kLinger = std::chrono::milliseconds(2000);

std::chrono::milliseconds allowance(std::chrono::milliseconds base, size_t bytes) {
  return base + std::chrono::milliseconds(bytes / 64);
}

}  // namespace

struct Listener {
  std::string name;
  HttpHandler handler;
  std::unique_ptr<tcp::acceptor> acceptor;
  std::unique_ptr<TlsContext> tls;  // null: none
  Metrics* metrics = nullptr;
  std::array<std::atomic<Counter*>, 600> responses{};

  void count(int status) {
    auto& slot = responses[static_cast<size_t>(std::clamp(status, 0, 599))];
    Counter* counter = slot.load(std::memory_order_acquire);
    if (!counter) {
      counter = &metrics->counter("tenon_http_responses_total", "HTTP answers, by listener and status.",
                                  {{"listener", name}, {"code", std::to_string(status)}});
      slot.store(counter, std::memory_order_release);
    }
    counter->add();
  }
};

class SessionBase : public std::enable_shared_from_this<SessionBase> {
 public:
  virtual ~SessionBase() = default;
  virtual void start() = 0;
  virtual void abort() = 0;
  [[nodiscard]] virtual bool idle() const = 0;
  // The client is gone, but no read is under way that would tell.
  [[nodiscard]] virtual bool hung_up_unseen() = 0;
  [[nodiscard]] bool late(Clock::time_point now) const { return now >= deadline_; }

 protected:
  Clock::time_point deadline_ = kNever;
};

// A loop, its thread, and the connections on it (touched on its thread only).
struct Loop {
  std::unordered_set<SessionBase*> sessions;  // before io: what still waits there leaves the set when io goes
  net::io_context io{1};
  net::steady_timer sweep{io};
  std::thread thread;
};

struct HttpServer::State {
  HttpServerOptions options;
  Admission& admission;
  Metrics& metrics;
  std::vector<std::unique_ptr<Loop>> loops;
  std::vector<std::shared_ptr<Listener>> listeners;
  std::vector<net::executor_work_guard<net::io_context::executor_type>> guards;
  std::unique_ptr<WorkPool> pool = std::make_unique<WorkPool>(2);       // for large bodies
  std::unique_ptr<WorkPool> slow_pool = std::make_unique<WorkPool>(2);  // for what waits: loads by hand
  std::shared_ptr<std::atomic<int64_t>> connections = std::make_shared<std::atomic<int64_t>>(0);
  std::atomic<size_t> next_loop{0};
  std::atomic<bool> closing{false}, winding_down{false};
  TraceIds traces{};

  State(HttpServerOptions o, Admission& a, Metrics& m) : options(o), admission(a), metrics(m) {}
  void accept(const std::shared_ptr<Listener>& listener);
  void sweep(Loop& loop);
};

namespace {

Socket& lowest(Socket& s) { return s; }
Socket& lowest(ssl::stream<Socket>& s) { return s.next_layer(); }

// Beast's grammar, read straight into a request: its own containers take memory for every field.
class RequestParser final : public http::basic_parser<true> {
 public:
  HttpRequestPtr request = std::make_shared<HttpRequest>();
  http::verb method = http::verb::unknown;
  unsigned version = 11;

 private:
  using Text = boost::beast::string_view;
  static std::string_view view(Text t) { return {t.data(), t.size()}; }
  void on_request_impl(http::verb verb, Text name, Text target, int v, error_code&) override {
    method = verb;
    version = static_cast<unsigned>(v);
    request->method = view(name);
    request->target = view(target);
  }
  void on_response_impl(int, Text, int, error_code&) override {}
  void on_field_impl(http::field, Text name, Text value, error_code&) override {
    request->headers.emplace_back(view(name), view(value));
  }
  void on_header_impl(error_code&) override {}
  void on_body_init_impl(const boost::optional<std::uint64_t>& length, error_code&) override {
    if (length) request->body.reserve(*length);  // which the limit has seen
  }
  std::size_t on_body_impl(Text body, error_code&) override {
    request->body.append(body.data(), body.size());
    return body.size();
  }
  void on_chunk_header_impl(std::uint64_t, Text, error_code&) override {}
  std::size_t on_chunk_body_impl(std::uint64_t, Text body, error_code& error) override {
    return on_body_impl(body, error);
  }
  void on_finish_impl(error_code&) override {}
};

// One connection. All methods run on its loop; only respond() may be called elsewhere.
template <class Stream, class State>
class Session final : public SessionBase {
 public:
  Session(Stream stream, std::shared_ptr<void> keep, std::shared_ptr<Listener> listener, State& state, Loop& loop)
      : keep_(std::move(keep)), stream_(std::move(stream)), listener_(std::move(listener)), state_(state), loop_(loop) {
    loop_.sessions.insert(this);
  }
  ~Session() override {
    loop_.sessions.erase(this);
    state_.connections->fetch_sub(1, std::memory_order_relaxed);
  }

  void start() override {
    error_code ignored;
    lowest(stream_).set_option(tcp::no_delay(true), ignored);
    if constexpr (kPlain) {
      stream_.non_blocking(true, ignored);
      next_request();
    } else {
      wait(state_.options.header_timeout);
      stream_.async_handshake(ssl::stream_base::server, [self = self()](error_code error) {
        if (error) return self->abort();
        self->next_request();
      });
    }
  }
  void abort() override {
    if (cancel_) cancel_->request();
    gone_ = true;
    error_code ignored;
    lowest(stream_).close(ignored);
  }
  [[nodiscard]] bool idle() const override { return phase_ == Phase::Idle; }
  [[nodiscard]] bool hung_up_unseen() override {
    if (phase_ != Phase::Handling || watching_) return false;
    pollfd p{lowest(stream_).native_handle(), POLLRDHUP, 0};
    return ::poll(&p, 1, 0) > 0 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0;
  }

 private:
  enum class Phase : uint8_t { Idle, Reading, Handling, Writing, Closing };
  static constexpr bool kPlain = std::is_same_v<Stream, Socket>;

  std::shared_ptr<Session> self() { return std::static_pointer_cast<Session>(this->shared_from_this()); }
  void wait(std::chrono::milliseconds d) { deadline_ = Clock::now() + d; }
  // What is read now has so long from the first time that more of it must be waited for: nearly always none.
  void allow(std::chrono::milliseconds d) {
    allowed_ = d;
    deadline_ = kNever;
  }
  void watch_for_more() {
    if (deadline_ == kNever) wait(allowed_);
    watch();
  }

  // ---- reading ----
  void next_request() {
    cancel_.reset();
    trace_ = {};
    phase_ = Phase::Idle;
    if (buffer_.size() > 0) {  // on a stack of its own: a client may send any number of requests at once
      net::post(stream_.get_executor(), [self = self()] {
        if (self->phase_ == Phase::Idle && !self->gone_) self->begin();
      });
      return;
    }
    if (state_.closing) return abort();
    if (!watching_ && buffer_.capacity() > (256U << 10)) buffer_ = boost::beast::flat_buffer();
    wait(state_.options.idle_timeout);
    watch();
  }

  // The only read: of what is expected now, or of the next request, or of the end of a client that hangs up.
  void watch() {
    if (watching_) return;
    watching_ = true;
    const size_t room = phase_ == Phase::Reading && header_done_ ? kReadAhead : 4096;
    stream_.async_read_some(buffer_.prepare(room), [self = self()](error_code error, size_t n) {
      self->watching_ = false;
      if (self->gone_) return;
      if (error) return self->hung_up();
      self->buffer_.commit(n);
      if (self->phase_ == Phase::Idle) return self->begin();
      if (self->phase_ == Phase::Reading) return self->feed();
      // Else the next request is there already; from now on the sweep looks whether the client is.
    });
  }
  void hung_up() {
    if (phase_ == Phase::Writing) return;  // its own error follows
    abort();
  }

  void begin() {
    phase_ = Phase::Reading;
    allow(state_.options.header_timeout);
    header_done_ = false;
    parser_.emplace();
    parser_->header_limit(state_.options.header_bytes);
    parser_->body_limit(boost::none);  // admission says what is too large
    feed();
  }

  // Gives the parser what is there; waits for more, or goes on.
  void feed() {
    error_code error;
    if (!header_done_) {
      buffer_.consume(parser_->put(buffer_.data(), error));
      if (error == http::error::need_more) return watch_for_more();
      if (error) return broken(error);
      header_done_ = true;
      return on_header();
    }
    while (!parser_->is_done() && buffer_.size() > 0) {
      buffer_.consume(parser_->put(buffer_.data(), error));
      if (error == http::error::need_more) break;
      if (error) return broken(error);
    }
    if (!parser_->is_done()) return watch_for_more();
    on_body();
  }

  void broken(error_code error) {
    if (error == http::error::end_of_stream || error == net::error::eof || gone_) return abort();
    if (error.category() != boost::beast::http::make_error_code(http::error::bad_method).category()) return abort();
    keep_alive_ = false;
    Status status{Code::InvalidArgument, "Malformed HTTP: " + error.message(), 0, 400};
    if (error == http::error::header_limit)
      status = {Code::ResourceExhausted,
                fmt::format("the header has more than the {} bytes that are accepted", state_.options.header_bytes), 0,
                431};
    if (error == http::error::body_limit) status = state_.admission.refuse_chunked();
    write(listener_->handler.on_error(status));
  }

  void on_header() {
    keep_alive_ = parser_->keep_alive();
    version_ = parser_->version;
    head_only_ = parser_->method == http::verb::head;
    const auto length = parser_->content_length();
    const bool has_body = parser_->method == http::verb::post || parser_->chunked() || (length && *length > 0);
    try {
      if (has_body) {
        const int64_t known = length ? static_cast<int64_t>(std::min<uint64_t>(*length, INT64_MAX)) : 0;
        // A chunked body tells no length: the first piece now, what it became when it is there.
        const auto first = std::min<int64_t>(kReadAhead, state_.admission.limits().body);
        ticket_ = state_.admission.reserve(length ? known : first);
      }
    } catch (const RequestError& error) {
      keep_alive_ = false;  // the body will not be read
      return write(listener_->handler.on_error(status_of(error)));
    }
    if (parser_->chunked()) parser_->body_limit(static_cast<uint64_t>(state_.admission.limits().body));
    parser_->eager(true);
    allow(allowance(state_.options.body_timeout, length ? *length : 0));
    if (parser_->is_done()) return on_body();
    if (same_ignoring_case(parser_->request->header("Expect"), "100-continue")) {
      static constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
      wait(allowed_);
      net::async_write(stream_, net::buffer(kContinue), [self = self()](error_code error, size_t) {
        if (error) return self->abort();
        self->feed();
      });
      return;
    }
    feed();
  }
  // ---- handling ----
  void on_body() {
    auto request = std::move(parser_->request);
    parser_.reset();
    request->ticket = std::move(ticket_);
    request->trace = trace_ = state_.traces.begin(request->header("traceparent"));
    cancel_ = request->cancel;
    phase_ = Phase::Handling;
    deadline_ = kNever;
    if (buffer_.size() == 0) watch();
    const uint64_t number = ++number_;
    Respond respond = [self = self(), number](HttpResponse r) {
      if (self->stream_.get_executor().running_in_this_thread()) return self->answered(number, std::move(r));
      net::post(self->stream_.get_executor(),
                [self, number, r = std::move(r)]() mutable { self->answered(number, std::move(r)); });
    };
    const bool slow = listener_->handler.slow && listener_->handler.slow(*request);
    if (request->body.size() < kLargeBody && !slow) return handle(request, respond);
    (slow ? state_.slow_pool : state_.pool)->post([this, self = self(), request, respond] {
      handle(request, respond);
    });
  }

  // On the loop or on the pool.
  void handle(const HttpRequestPtr& request, const Respond& respond) {
    const HttpHandler& handler = listener_->handler;
    try {
      if (const auto encoding = request->header("Content-Encoding"); !encoding.empty())
        request->body = decoded_body(std::move(request->body), encoding, state_.admission.limits().body);
      if (request->body.size() > kReadAhead && !request->header("Transfer-Encoding").empty()) {
        request->ticket = {};
        request->ticket = state_.admission.reserve(static_cast<int64_t>(request->body.size()));
      }
      handler.handle(request, respond);
    } catch (...) {
      respond(handler.on_error(current_status()));
    }
  }

  void answered(uint64_t number, HttpResponse r) {
    if (number == number_ && phase_ == Phase::Handling) write(std::move(r));
  }

  // ---- writing ----
  void write(HttpResponse r) {
    if (gone_) return;
    cancel_.reset();
    phase_ = Phase::Writing;
    listener_->count(r.status);
    response_ = std::move(r);
    if (response_.close || state_.closing || state_.winding_down) keep_alive_ = false;
    size_t length = 0;
    for (const auto& chunk : response_.body) length += chunk.bytes.size();
    std::string& head = head_;
    head.clear();
    append_all(head, {version_ >= 11 ? "HTTP/1.1 " : "HTTP/1.0 ", Digits(response_.status), " ",
                      reason_phrase(response_.status)});
    if (length > 0) append_all(head, {"\r\nContent-Type: ", response_.content_type});
    append_all(head, {"\r\nContent-Length: ", Digits(length)});
    for (const auto& [name, value] : response_.headers) append_all(head, {"\r\n", name, ": ", value});
    if (trace_) append_all(head, {"\r\ntraceparent: ", trace_.traceparent()});
    if (!keep_alive_) head.append("\r\nConnection: close"sv);
    if (keep_alive_ && version_ < 11) head.append("\r\nConnection: keep-alive"sv);
    head.append("\r\n\r\n"sv);
    const bool joined = length <= kCopyBelow;
    buffers_.clear();
    for (const auto& chunk : response_.body) {
      if (head_only_) break;
      if (joined)
        head.append(reinterpret_cast<const char*>(chunk.bytes.data()), chunk.bytes.size());
      else
        buffers_.emplace_back(chunk.bytes.data(), chunk.bytes.size());
    }
    buffers_.insert(buffers_.begin(), net::buffer(head_));
    if constexpr (kPlain) {  // nearly always the socket takes all of it at once
      error_code error;
      write_now(stream_, buffers_, error);
      if (error || buffers_.empty()) return written(error);
    }
    wait(allowance(state_.options.write_timeout, length));
    net::async_write(stream_, buffers_, [self = self()](error_code error, size_t) { self->written(error); });
  }
  void written(error_code error) {
    response_ = {};
    if (error || gone_) return abort();
    if (!keep_alive_) return linger();
    next_request();
  }

  // Says goodbye and reads what is still on its way, so that the answer is not lost to a reset.
  void linger() {
    phase_ = Phase::Closing;
    ticket_ = {};
    error_code ignored;
    lowest(stream_).shutdown(Socket::shutdown_send, ignored);
    wait(kLinger);
    if (!watching_) discard();
  }
  void discard() {
    buffer_.clear();
    lowest(stream_).async_read_some(buffer_.prepare(16384), [self = self()](error_code error, size_t) {
      if (error) return self->abort();
      self->discard();
    });
  }

  std::shared_ptr<void> keep_;  // the TLS context
  Stream stream_;
  std::shared_ptr<Listener> listener_;
  State& state_;
  Loop& loop_;
  boost::beast::flat_buffer buffer_;
  std::optional<RequestParser> parser_;  // of the request that is coming
  Admission::Ticket ticket_;
  CancelPtr cancel_;
  Trace trace_;
  HttpResponse response_;
  std::string head_;
  std::vector<net::const_buffer> buffers_;
  uint64_t number_ = 0;
  std::chrono::milliseconds allowed_{0};
  unsigned version_ = 11;
  Phase phase_ = Phase::Idle;
  bool header_done_ = false, keep_alive_ = true, head_only_ = false, watching_ = false, gone_ = false;
};

// Whoever lets go last, perhaps a thread that has just computed an answer: the session ends on its loop.
std::shared_ptr<SessionBase> on_loop(SessionBase* session, Loop& loop) {
  return {session, [&loop](SessionBase* s) { net::dispatch(loop.io, [last = std::unique_ptr<SessionBase>(s)] {}); }};
}

}  // namespace

void HttpServer::State::accept(const std::shared_ptr<Listener>& listener) {
  Loop& loop = *loops[next_loop.fetch_add(1, std::memory_order_relaxed) % loops.size()];
  listener->acceptor->async_accept(loop.io.get_executor(), [this, listener, &loop](error_code error, Socket socket) {
    if (closing) return;
    if (error) {  // out of descriptors, most likely: try again when some have closed
      auto timer =
          std::make_shared<net::steady_timer>(listener->acceptor->get_executor(), std::chrono::milliseconds(50));
      timer->async_wait([this, listener, timer](error_code) {
        if (!closing) accept(listener);
      });
      return;
    }
    if (connections->fetch_add(1, std::memory_order_relaxed) >= options.max_connections) {
      connections->fetch_sub(1, std::memory_order_relaxed);
    } else {
      std::shared_ptr<ssl::context> tls = listener->tls ? listener->tls->current() : nullptr;
      net::post(loop.io, [this, listener, &loop, tls, socket = std::move(socket)]() mutable {
        std::shared_ptr<SessionBase> session;
        if (tls) {
          session = on_loop(new Session<ssl::stream<Socket>, State>(ssl::stream<Socket>(std::move(socket), *tls), tls,
                                                                    listener, *this, loop),
                            loop);
        } else {
          session = on_loop(new Session<Socket, State>(std::move(socket), nullptr, listener, *this, loop), loop);
        }
        session->start();
      });
    }
    accept(listener);
  });
}

void HttpServer::State::sweep(Loop& loop) {
  const auto now = Clock::now();
  std::vector<std::shared_ptr<SessionBase>> ending;
  for (SessionBase* session : loop.sessions) {
    if (session->late(now) || (closing && session->idle()) || session->hung_up_unseen())
      ending.push_back(session->weak_from_this().lock());
  }
  for (const auto& session : ending) {
    if (session) session->abort();
  }
  loop.sweep.expires_after(kSweep);
  loop.sweep.async_wait([this, &loop](error_code error) {
    if (!error) sweep(loop);
  });
}

HttpServer::HttpServer(HttpServerOptions options, Admission& admission, Metrics& metrics)
    : state_(std::make_unique<State>(options, admission, metrics)) {
  int threads = options.threads > 0 ? options.threads : static_cast<int>(std::thread::hardware_concurrency());
  threads = std::max(1, threads);
  for (int i = 0; i < threads; ++i) {
    state_->loops.push_back(std::make_unique<Loop>());
    Loop& loop = *state_->loops.back();
    state_->guards.push_back(net::make_work_guard(loop.io));
    state_->sweep(loop);
    loop.thread = std::thread([&loop] { loop.io.run(); });
  }
  metrics.gauge("tenon_http_connections", "Open HTTP connections.", {},
                [open = state_->connections] { return static_cast<double>(open->load()); });
}

HttpServer::~HttpServer() {
  stop_accepting();
  state_->pool.reset();
  state_->slow_pool.reset();
  state_->guards.clear();
  for (auto& loop : state_->loops) {
    net::post(loop->io, [&loop = *loop] {
      loop.sweep.cancel();
      std::vector<std::shared_ptr<SessionBase>> all;
      for (SessionBase* session : loop.sessions) all.push_back(session->weak_from_this().lock());
      for (const auto& session : all) {
        if (session) session->abort();
      }
    });
  }
  // What still runs elsewhere holds its session; give it a moment to end, then leave.
  const auto until = Clock::now() + std::chrono::seconds(2);
  while (connections() > 0 && Clock::now() < until) std::this_thread::sleep_for(std::chrono::milliseconds(1));
  for (auto& loop : state_->loops) loop->io.stop();
  for (auto& loop : state_->loops) loop->thread.join();
}

uint16_t HttpServer::listen(const std::string& name, const std::string& address, uint16_t port, HttpHandler handler,
                            std::optional<TlsFiles> tls) {
  auto listener = std::make_shared<Listener>();
  listener->name = name;
  listener->handler = std::move(handler);
  listener->metrics = &state_->metrics;
  if (tls) listener->tls = std::make_unique<TlsContext>(std::move(*tls));
  net::io_context& io = state_->loops[0]->io;
  try {
    listener->acceptor = std::make_unique<tcp::acceptor>(io);
    const tcp::endpoint endpoint(net::ip::make_address(address), port);
    listener->acceptor->open(endpoint.protocol());
    listener->acceptor->set_option(net::socket_base::reuse_address(true));
    listener->acceptor->bind(endpoint);
    listener->acceptor->listen(net::socket_base::max_listen_connections);
  } catch (const boost::system::system_error& error) {
    throw FileError({fmt::format("{}:{}", address, port), error.code().message(), {}, {}, "choose another port"});
  }
  const uint16_t taken = listener->acceptor->local_endpoint().port();
  net::post(io, [this, listener] {
    state_->listeners.push_back(listener);
    state_->accept(listener);
  });
  if (listener->tls) {  // looks for a new certificate every now and then
    auto timer = std::make_shared<net::steady_timer>(io);
    auto look = std::make_shared<std::function<void()>>();
    *look = [state = state_.get(), listener, timer, weak = std::weak_ptr(look)] {
      timer->expires_after(std::chrono::seconds(1));
      timer->async_wait([state, listener, again = weak.lock()](error_code error) {
        if (error || state->closing || !again) return;
        listener->tls->reload();
        (*again)();
      });
    };
    net::post(io, [look] { (*look)(); });
  }
  return taken;
}

void HttpServer::wind_down() { state_->winding_down = true; }

void HttpServer::stop_accepting() {
  if (state_->closing.exchange(true)) return;
  net::post(state_->loops[0]->io, [this] {
    error_code ignored;
    for (const auto& listener : state_->listeners) (void)listener->acceptor->close(ignored);
  });
}

int64_t HttpServer::connections() const { return state_->connections->load(std::memory_order_relaxed); }

}  // namespace tenon::serve
