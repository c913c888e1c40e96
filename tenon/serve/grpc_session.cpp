#include "tenon/serve/grpc_session.h"

#include <fmt/format.h>
#include <nghttp2/nghttp2.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <optional>

#include "tenon/base/error.h"
#include "tenon/serve/grpc_protocol.h"

namespace tenon::serve {
namespace {

constexpr size_t kLongestMessage = 1024;  // of a status
constexpr size_t kPrefix = 5;             // of each message: compressed or not, length
constexpr size_t kCollectAtMost = 256 << 10;
constexpr size_t kCopyBelow = 4096;     // smaller pieces of answers are copied together
constexpr size_t kUnwanted = 64 << 10;  // that a client may go on after its call was answered
constexpr size_t kHeavy = 1 << 20;      // from here on a message is handled on the pool
constexpr int32_t kStreamWindow = 4 << 20, kConnectionWindow = 16 << 20;
constexpr uint32_t kFrame = 1 << 20;
constexpr auto kLastGoaway = std::chrono::milliseconds(1000);

nghttp2_nv field(std::string_view name, std::string_view value, uint8_t flags = 0) {
  const auto bytes = [](std::string_view t) { return reinterpret_cast<uint8_t*>(const_cast<char*>(t.data())); };
  return {bytes(name), bytes(value), name.size(), value.size(),
          static_cast<uint8_t>(flags | NGHTTP2_NV_FLAG_NO_COPY_NAME)};
}
// Both name and value are constants.
nghttp2_nv constant(std::string_view name, std::string_view value) {
  return field(name, value, NGHTTP2_NV_FLAG_NO_COPY_VALUE);
}

std::chrono::milliseconds allowance(std::chrono::milliseconds base, size_t bytes) {
  return base + std::chrono::milliseconds(bytes / 64);
}

}  // namespace

// ---- what is shared ----

GrpcService::GrpcService(RpcMethods list, GrpcLimits l, Admission& a) : limits(l), admission(a) {
  for (auto& method : list) {
    const std::string path = method.path;
    if (!methods_.emplace(path, std::move(method)).second)
      throw ValueError({"gRPC", fmt::format("two methods are called {}", path), {}, {}, {}});
  }
}
const RpcMethod* GrpcService::find(std::string_view path) const {
  const auto found = methods_.find(path);
  return found == methods_.end() ? nullptr : &found->second;
}

// ---- output ----

void GrpcOutput::copy(std::span<const std::byte> bytes) {
  if (bytes.empty()) return;
  if (pieces_.empty() || !pieces_.back().elsewhere.empty()) pieces_.push_back({.begin = small_.size()});
  small_.append(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  pieces_.back().size += bytes.size();
  size_ += bytes.size();
}
void GrpcOutput::refer(Chunk chunk) {
  if (chunk.bytes.empty()) return;
  size_ += chunk.bytes.size();
  pieces_.push_back({.elsewhere = chunk.bytes, .owner = std::move(chunk.owner)});
}
void GrpcOutput::clear() {
  if (small_.capacity() > 2 * kCollectAtMost) small_ = {};
  small_.clear();
  pieces_.clear();
  size_ = 0;
}
// ---- one call ----

struct GrpcSession::Stream {
  struct Answer {
    CancelPtr cancel;
    bool there = false;
    Status status{};
    std::vector<Chunk> message{};
  };
  GrpcSession& session;
  int32_t id;
  // From the headers.
  const RpcMethod* method = nullptr;
  std::string unknown_path{}, encoding{};
  HeaderList metadata{};
  size_t header_bytes = 0;
  std::string header_problem{};
  bool post = false, grpc = false;
  std::string_view http_status{};  // of a request that is no call, until it is answered
  Clock::time_point deadline = kNever;
  Trace trace{};
  // The message that is coming.
  std::array<std::byte, kPrefix> prefix{};
  size_t prefix_filled = 0, body_size = 0, body_filled = 0, begun = 0;
  std::shared_ptr<std::byte[]> body{};
  std::optional<Status> refused{};  // it is read to its end, but not kept
  Admission::Ticket ticket{};
  Clock::time_point read_by = kNever;
  size_t unwanted = 0;  // bytes that came after the call was answered
  // Answers, from the first that has not been sent.
  std::vector<Answer> answers{};
  size_t first_answer = 0;
  std::vector<Chunk> outgoing{};
  size_t out_chunk = 0, out_at = 0, out_left = 0;
  Clock::time_point write_by = kNever;
  Status status{};
  bool headers_sent = false, deferred = false, remote_closed = false, finished = false;
};

// nghttp2 calls these; no exception may cross it.
struct GrpcSession::Callbacks {
  static Stream* stream(nghttp2_session* session, int32_t id) {
    return static_cast<Stream*>(nghttp2_session_get_stream_user_data(session, id));
  }
  template <class Fn>
  static int safely(const Fn& fn) {
    try {
      fn();
      return 0;
    } catch (...) {  // out of memory, or a mistake of ours: this connection ends, the server goes on
      return NGHTTP2_ERR_CALLBACK_FAILURE;
    }
  }
  static int begin_headers(nghttp2_session* session, const nghttp2_frame* frame, void* user) {
    if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST) return 0;
    auto& self = *static_cast<GrpcSession*>(user);
    return safely([&] {
      auto owned = std::make_unique<Stream>(self, frame->hd.stream_id);
      nghttp2_session_set_stream_user_data(session, frame->hd.stream_id, owned.get());
      self.streams_[frame->hd.stream_id] = std::move(owned);
    });
  }
  static int header(nghttp2_session* session, const nghttp2_frame* frame, const uint8_t* name, size_t name_size,
                    const uint8_t* value, size_t value_size, uint8_t, void* user) {
    if (frame->hd.type != NGHTTP2_HEADERS || frame->headers.cat != NGHTTP2_HCAT_REQUEST) return 0;
    Stream* s = stream(session, frame->hd.stream_id);
    if (!s) return 0;
    return safely([&] {
      static_cast<GrpcSession*>(user)->header(*s, {reinterpret_cast<const char*>(name), name_size},
                                              {reinterpret_cast<const char*>(value), value_size});
    });
  }
  static int frame(nghttp2_session* session, const nghttp2_frame* frame, void* user) {
    auto& self = *static_cast<GrpcSession*>(user);
    return safely([&] {
      if (frame->hd.type == NGHTTP2_SETTINGS) self.greeted_ = true;
      if (frame->hd.type == NGHTTP2_PING && (frame->hd.flags & NGHTTP2_FLAG_ACK) && self.winding_down_ != kNever)
        self.last_goaway();
      if (frame->hd.type != NGHTTP2_HEADERS && frame->hd.type != NGHTTP2_DATA) return;
      Stream* s = stream(session, frame->hd.stream_id);
      if (!s) return;
      if (frame->hd.type == NGHTTP2_HEADERS && frame->headers.cat == NGHTTP2_HCAT_REQUEST) self.begin_call(*s);
      if (frame->hd.flags & NGHTTP2_FLAG_END_STREAM) self.on_end(*s);
    });
  }
  static int data(nghttp2_session* session, uint8_t, int32_t id, const uint8_t* bytes, size_t size, void* user) {
    Stream* s = stream(session, id);
    if (!s) return 0;
    return safely([&] { static_cast<GrpcSession*>(user)->feed(*s, std::as_bytes(std::span(bytes, size))); });
  }
  static int closed(nghttp2_session* session, int32_t id, uint32_t, void* user) {
    Stream* s = stream(session, id);
    if (!s) return 0;
    return safely([&] { static_cast<GrpcSession*>(user)->on_close(*s); });
  }
  static int sent(nghttp2_session* session, const nghttp2_frame* frame, void*) {
    if (frame->hd.type != NGHTTP2_HEADERS || !(frame->hd.flags & NGHTTP2_FLAG_END_STREAM)) return 0;
    Stream* s = stream(session, frame->hd.stream_id);
    // Answered before the client has said all: it has until the next sweep, for its end is on its way most likely.
    if (s && !s->remote_closed) s->read_by = Clock::now();
    return 0;
  }
  static ssize_t read(nghttp2_session*, int32_t, uint8_t*, size_t most, uint32_t* flags, nghttp2_data_source* source,
                      void* user) {
    ptrdiff_t n = 0;
    const int error =
        safely([&] { n = static_cast<GrpcSession*>(user)->on_read(*static_cast<Stream*>(source->ptr), most, flags); });
    return error != 0 ? error : n;
  }
  static int send_data(nghttp2_session*, nghttp2_frame* frame, const uint8_t* head, size_t size,
                       nghttp2_data_source* source, void* user) {
    if (frame->data.padlen > 0) return NGHTTP2_ERR_CALLBACK_FAILURE;  // we ask for no padding
    return safely([&] {
      static_cast<GrpcSession*>(user)->on_send_data(*static_cast<Stream*>(source->ptr),
                                                    std::as_bytes(std::span(head, 9)), size);
    });
  }
  static ssize_t frame_size(nghttp2_session*, uint8_t, int32_t, int32_t session_window, int32_t stream_window,
                            uint32_t most, void*) {
    return std::min<ssize_t>({session_window, stream_window, static_cast<ssize_t>(std::min(most, kFrame))});
  }
  static nghttp2_session* make(GrpcSession* self) {
    nghttp2_session_callbacks* callbacks = nullptr;
    nghttp2_session_callbacks_new(&callbacks);
    const std::unique_ptr<nghttp2_session_callbacks, decltype(&nghttp2_session_callbacks_del)> owner(
        callbacks, nghttp2_session_callbacks_del);
    nghttp2_session_callbacks_set_on_begin_headers_callback(callbacks, begin_headers);
    nghttp2_session_callbacks_set_on_header_callback(callbacks, header);
    nghttp2_session_callbacks_set_on_frame_recv_callback(callbacks, frame);
    nghttp2_session_callbacks_set_on_data_chunk_recv_callback(callbacks, data);
    nghttp2_session_callbacks_set_on_stream_close_callback(callbacks, closed);
    nghttp2_session_callbacks_set_on_frame_send_callback(callbacks, sent);
    nghttp2_session_callbacks_set_send_data_callback(callbacks, send_data);
    nghttp2_session_callbacks_set_data_source_read_length_callback(callbacks, frame_size);
    nghttp2_option* options = nullptr;
    nghttp2_option_new(&options);
    const std::unique_ptr<nghttp2_option, decltype(&nghttp2_option_del)> options_owner(options, nghttp2_option_del);
    // The rules of HTTP (characters of names, order of pseudo-headers, lengths) are for those who pass requests on;
    // here what a call needs is looked at by name, and the check of every character costs as much as a lookup.
    nghttp2_option_set_no_http_messaging(options, 1);
    // Streams that have ended are kept for HTTP/2's old tree of priorities, which is not used here: thousands of them
    // for each connection, so that each call gets memory that nobody has touched for long.
    nghttp2_option_set_no_closed_streams(options, 1);
    nghttp2_session* session = nullptr;
    if (nghttp2_session_server_new2(&session, callbacks, self, options) != 0) throw std::bad_alloc();
    return session;
  }
};

// ---- the connection ----

GrpcSession::GrpcSession(GrpcService& service)
    : service_(service), session_(Callbacks::make(this)), born_(Clock::now()), heard_(born_), last_call_(born_) {
  const GrpcLimits& limits = service.limits;
  const std::array<nghttp2_settings_entry, 5> settings{
      {{NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS, limits.concurrent_streams},
       {NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},
       {NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, static_cast<uint32_t>(kStreamWindow)},
       {NGHTTP2_SETTINGS_MAX_FRAME_SIZE, kFrame},
       {NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, limits.header_bytes}}};
  nghttp2_submit_settings(session_, NGHTTP2_FLAG_NONE, settings.data(), settings.size());
  nghttp2_session_set_local_window_size(session_, NGHTTP2_FLAG_NONE, 0, kConnectionWindow);
}

GrpcSession::~GrpcSession() { nghttp2_session_del(session_); }

bool GrpcSession::receive(std::span<const std::byte> bytes) {
  heard_ = Clock::now();
  pinged_ = kNever;
  const Busy busy(*this);
  const auto taken = nghttp2_session_mem_recv(session_, reinterpret_cast<const uint8_t*>(bytes.data()), bytes.size());
  return taken == static_cast<ssize_t>(bytes.size());
}

void GrpcSession::collect(GrpcOutput& out) {
  out_ = &out;
  ++busy_;
  while (out.size() < kCollectAtMost) {
    const uint8_t* bytes = nullptr;
    const auto n = nghttp2_session_mem_send(session_, &bytes);
    if (n < 0) gone_ = true;
    if (n <= 0) break;
    out.copy(std::as_bytes(std::span(bytes, static_cast<size_t>(n))));
  }
  --busy_;
  out_ = nullptr;
}

bool GrpcSession::over() const {
  return gone_ || (nghttp2_session_want_read(session_) == 0 && nghttp2_session_want_write(session_) == 0);
}

bool GrpcSession::sweep(Clock::time_point now) {
  const GrpcLimits& limits = service_.limits;
  const Busy busy(*this);
  if (!greeted_ && (now - born_ > limits.handshake_timeout || winding_down_ != kNever)) return false;
  if (pinged_ != kNever && now - pinged_ > limits.keepalive_timeout) return false;
  if (pinged_ == kNever && now - heard_ > limits.keepalive_time) {
    pinged_ = now;
    nghttp2_submit_ping(session_, NGHTTP2_FLAG_NONE, nullptr);
  }
  if (winding_down_ == kNever) {
    const bool idle = limits.idle_timeout.count() > 0 && streams_.empty() && now - last_call_ > limits.idle_timeout;
    if (idle || (limits.connection_age.count() > 0 && now - born_ > limits.connection_age)) wind_down();
  } else {
    if (now - winding_down_ > kLastGoaway) last_goaway();
    if (limits.age_grace.count() > 0 && now - winding_down_ > limits.age_grace) return false;
  }
  const bool end_idle = stopping_ && now - winding_down_ > kLastGoaway;
  std::vector<Stream*> late;
  for (const auto& [id, stream] : streams_) {
    const bool idle = stream->method && stream->method->stream && stream->answers.empty() &&
                      stream->prefix_filled == 0 && stream->out_left == 0;
    if (end_idle && idle) finish(*stream, {Code::Unavailable, "the server is stopping", 0});
    const bool expired = stream->deadline <= now && stream->begun == 0 && !stream->finished;
    if (expired || stream->read_by <= now || stream->write_by <= now) late.push_back(stream.get());
  }
  for (Stream* stream : late) {
    if (stream->write_by <= now) {
      nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, stream->id, NGHTTP2_CANCEL);
      stream->write_by = kNever;
    } else if (stream->finished && !stream->headers_sent) {
      http_error(*stream, stream->http_status);
    } else if (stream->finished) {
      nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, stream->id, NGHTTP2_NO_ERROR);
      stream->read_by = kNever;
    } else {
      stream->read_by = kNever;
      finish(*stream, {Code::DeadlineExceeded, "the message did not come in time", 0});
    }
  }
  return true;
}

// First a notice, so that calls that are on their way are still taken; then, when the client must have it, the end.
void GrpcSession::wind_down(bool stopping) {
  stopping_ = stopping_ || stopping;
  if (winding_down_ != kNever) return;
  const Busy busy(*this);
  winding_down_ = Clock::now();
  if (!greeted_) return;
  for (const auto& [id, stream] : streams_) {  // these would not end by themselves
    if (stream->method && stream->method->repeats) finish(*stream, {Code::Unavailable, "the server is stopping", 0});
  }
  nghttp2_submit_shutdown_notice(session_);
  nghttp2_submit_ping(session_, NGHTTP2_FLAG_NONE, nullptr);
}
void GrpcSession::last_goaway() {
  if (last_goaway_) return;
  last_goaway_ = true;
  nghttp2_submit_goaway(session_, NGHTTP2_FLAG_NONE, nghttp2_session_get_last_proc_stream_id(session_),
                        NGHTTP2_NO_ERROR, nullptr, 0);
}

void GrpcSession::hang_up() {
  gone_ = true;
  for (const auto& [id, stream] : streams_) cancel_all(*stream);
}

void GrpcSession::cancel_all(Stream& stream) {
  const auto answers = std::move(stream.answers);
  stream.answers.clear();
  for (const auto& answer : answers) {
    if (!answer.there) answer.cancel->request();
  }
}

// ---- what comes ----

void GrpcSession::header(Stream& s, std::string_view name, std::string_view value) {
  s.header_bytes += name.size() + value.size() + 32;  // as HTTP/2 counts them
  if (s.header_bytes > service_.limits.header_bytes) return;
  if (name == ":path") {
    s.method = service_.find(value);
    if (!s.method) s.unknown_path = value;
  } else if (name == ":method") {
    s.post = value == "POST";
  } else if (name == "content-type") {
    s.grpc = value.starts_with("application/grpc") && (value.size() == 16 || value[16] == '+' || value[16] == ';');
  } else if (name == "grpc-timeout") {
    const auto timeout = read_grpc_timeout(value);
    if (!timeout)
      s.header_problem = fmt::format("grpc-timeout '{}' is malformed", value);
    else if (*timeout < std::chrono::hours(24 * 365))
      s.deadline = Clock::now() + *timeout;
  } else if (name == "grpc-encoding") {
    if (value != "identity") s.encoding = value;
  } else if (name == "traceparent") {
    s.metadata.emplace_back(name, value);
    s.trace = service_.traces.begin(value);
  } else if (name.ends_with("-bin")) {  // a list of values, perhaps
    for (size_t begin = 0; begin <= value.size();) {
      const size_t end = std::min(value.find(',', begin), value.size());
      try {
        s.metadata.emplace_back(name, metadata_value(name, value.substr(begin, end - begin)));
      } catch (const RequestError& error) {
        s.header_problem = fmt::format("metadata {}: {}", name, error.what());
      }
      begin = end + 1;
    }
  } else if (!is_reserved_metadata(name)) {
    s.metadata.emplace_back(name, value);
  }
}

// Not gRPC. Answered when the client has said all: some do not understand an answer that comes before.
void GrpcSession::http_error(Stream& s, std::string_view status) {
  s.finished = true;
  if (!s.remote_closed && s.http_status.empty()) {
    s.http_status = status;
    s.read_by = heard_ + service_.limits.message_timeout;
    return;
  }
  s.headers_sent = true;
  const std::array<nghttp2_nv, 1> fields{constant(":status", status)};
  nghttp2_submit_response(session_, s.id, fields.data(), fields.size(), nullptr);
}

void GrpcSession::begin_call(Stream& s) {
  last_call_ = heard_;
  if (!s.post) return http_error(s, "405");
  if (!s.grpc) return http_error(s, "415");
  if (!s.trace) s.trace = service_.traces.begin({});
  if (s.header_bytes > service_.limits.header_bytes)
    return finish(s, {Code::ResourceExhausted, "the metadata is larger than the server takes", 0});
  if (!s.header_problem.empty()) return finish(s, {Code::InvalidArgument, s.header_problem, 0});
  if (!s.method) return finish(s, {Code::Unimplemented, fmt::format("there is no method {}", s.unknown_path), 0});
  if (!s.encoding.empty() && s.encoding != "gzip" && s.encoding != "deflate")
    return finish(s, {Code::Unimplemented, fmt::format("the compression {} is not supported", s.encoding), 0});
  s.read_by = heard_ + service_.limits.message_timeout;
  if (s.method->stream) s.read_by = kNever;  // it may be silent as long as it likes
}

void GrpcSession::feed(Stream& s, std::span<const std::byte> bytes) {
  if (s.finished) {
    s.unwanted += bytes.size();
    if (s.unwanted > kUnwanted) nghttp2_submit_rst_stream(session_, NGHTTP2_FLAG_NONE, s.id, NGHTTP2_NO_ERROR);
    return;
  }
  while (!bytes.empty() && !s.finished && s.method) {
    if (s.prefix_filled < kPrefix) {
      const size_t n = std::min(kPrefix - s.prefix_filled, bytes.size());
      std::memcpy(s.prefix.data() + s.prefix_filled, bytes.data(), n);
      s.prefix_filled += n;
      bytes = bytes.subspan(n);
      if (s.prefix_filled < kPrefix) return;
      on_prefix(s);
    } else {
      const size_t n = std::min(s.body_size - s.body_filled, bytes.size());
      if (s.body) std::memcpy(s.body.get() + s.body_filled, bytes.data(), n);
      s.body_filled += n;
      bytes = bytes.subspan(n);
    }
    if (!s.finished && s.prefix_filled == kPrefix && s.body_filled == s.body_size) on_message(s);
  }
}

// The length is known: who comes in is decided before the message is read.
void GrpcSession::on_prefix(Stream& s) {
  s.body_size = 0;
  for (size_t i = 1; i < kPrefix; ++i) s.body_size = s.body_size << 8 | static_cast<size_t>(s.prefix[i]);
  s.body_filled = 0;
  const int flag = static_cast<int>(s.prefix[0]);
  if (flag > 1) return finish(s, {Code::Internal, fmt::format("the compression flag is {}", flag), 0});
  if (flag == 1 && s.encoding.empty())
    return finish(s, {Code::Internal, "the message is compressed, but the call names no grpc-encoding", 0});
  if ((!s.method->stream || s.method->repeats) && s.begun > 0)
    return finish(s, {Code::InvalidArgument, "the call has more than one message", 0});
  if (s.body_size > static_cast<size_t>(service_.limits.message))
    return finish(
        s, {Code::ResourceExhausted,
            fmt::format("Received message larger than max ({} vs. {})", s.body_size, service_.limits.message), 0});
  try {
    if (!s.method->small) s.ticket = service_.admission.reserve(static_cast<int64_t>(s.body_size));
  } catch (const RequestError& error) {
    if (!s.method->stream) return finish(s, status_of(error));
    s.refused = status_of(error);
  }
  if (!s.refused) s.body = std::make_shared_for_overwrite<std::byte[]>(std::max<size_t>(s.body_size, 1));
  if (s.body_size > 0) s.read_by = heard_ + allowance(service_.limits.message_timeout, s.body_size);
}

size_t GrpcSession::begin_answer(Stream& s, const CancelPtr& cancel) {
  s.answers.push_back({.cancel = cancel});
  return s.begun++;
}

void GrpcSession::on_message(Stream& s) {
  s.read_by = kNever;
  s.prefix_filled = 0;
  auto call = std::make_shared<RpcCall>();
  auto body = std::move(s.body);
  const size_t number = begin_answer(s, call->cancel);
  if (s.refused) {
    const Status status = *std::exchange(s.refused, {});
    return answered(s.id, number, status, {});
  }
  const size_t size = s.body_size;
  call->pieces.emplace_back(body.get(), size);
  call->owner = std::move(body);
  call->deadline = s.deadline;
  if (s.method->stream)
    call->metadata = s.metadata;
  else
    call->metadata = std::move(s.metadata);
  call->trace = s.trace;
  call->ticket = std::exchange(s.ticket, {});
  const auto self = shared_from_this();
  const RpcAnswer answer = [self, id = s.id, number](Status status, std::vector<Chunk> message) {
    if (self->on_own_thread()) return self->answered(id, number, std::move(status), std::move(message));
    self->post_answer(id, number, std::move(status), std::move(message));
  };
  const auto run = [method = s.method](const RpcCallPtr& c, const RpcAnswer& a) {
    try {
      method->call(c, a);
    } catch (...) {
      a(current_status(), {});
    }
  };
  if (static_cast<int>(s.prefix[0]) == 1 || s.method->blocks || size > kHeavy) {
    const std::string encoding = static_cast<int>(s.prefix[0]) == 1 ? s.encoding : std::string();
    (s.method->blocks ? service_.blocking_pool : service_.pool)
        ->post([self, call, answer, run, encoding, limit = service_.limits.message, small = s.method->small]() mutable {
          try {
            if (!encoding.empty()) {
              auto text = std::make_shared<std::string>(reinterpret_cast<const char*>(call->pieces[0].data()),
                                                        call->pieces[0].size());
              *text = decoded_body(std::move(*text), encoding, limit);
              call->pieces = {std::as_bytes(std::span(*text))};
              call->owner = text;
              if (!small) {
                call->ticket = {};
                call->ticket = self->service_.admission.reserve(static_cast<int64_t>(text->size()));
              }
            }
          } catch (...) {
            return answer(current_status(), {});
          }
          run(call, answer);
        });
    return;
  }
  run(call, answer);
}

void GrpcSession::on_end(Stream& s) {
  s.remote_closed = true;
  s.read_by = kNever;
  if (!s.http_status.empty() && !s.headers_sent) return http_error(s, s.http_status);
  if (s.finished) return;
  if (s.prefix_filled > 0) return finish(s, {Code::InvalidArgument, "the message ends too early", 0});
  if (s.method && !s.method->stream && s.begun == 0)
    return finish(s, {Code::InvalidArgument, "the call has no message", 0});
  write_next(s);
}

void GrpcSession::on_close(Stream& s) {
  cancel_all(s);
  streams_.erase(s.id);
}

// ---- what goes ----

GrpcSession::Stream* GrpcSession::find(int32_t id) {
  const auto found = streams_.find(id);
  return found == streams_.end() ? nullptr : found->second.get();
}

void GrpcSession::answered(int32_t id, size_t number, Status status, std::vector<Chunk> message) {
  const Busy busy(*this);
  Stream* s = gone_ ? nullptr : find(id);
  if (!s || s->finished || number < s->first_answer || number - s->first_answer >= s->answers.size()) return;
  auto& slot = s->answers[number - s->first_answer];
  if (slot.there) return;
  if (s->method->repeats) return status.ok() ? send(*s, std::move(message)) : finish(*s, std::move(status));
  slot.there = true;
  slot.status = std::move(status);
  slot.message = std::move(message);
  write_next(*s);
}

// Answers leave in the order of their questions.
void GrpcSession::write_next(Stream& s) {
  while (!s.finished && !s.answers.empty() && s.answers.front().there) {
    auto next = std::move(s.answers.front());
    s.answers.erase(s.answers.begin());
    ++s.first_answer;
    if (!next.status.ok()) {
      if (!s.method->stream || !s.method->error_message) return finish(s, std::move(next.status));
      next.message = s.method->error_message(next.status);
    }
    if (!s.method->stream) s.finished = true;  // and well
    send(s, std::move(next.message));
  }
  if (!s.finished && s.method && s.method->stream && s.remote_closed && s.answers.empty()) finish(s, {});
}

void GrpcSession::send(Stream& s, std::vector<Chunk> message) {
  size_t size = 0;
  for (const auto& chunk : message) size += chunk.bytes.size();
  std::string prefix(kPrefix, '\0');
  for (size_t i = 0; i < 4; ++i) prefix[kPrefix - 1 - i] = static_cast<char>(size >> (8 * i) & 255);
  if (s.out_left == 0) {
    s.outgoing.clear();
    s.out_chunk = s.out_at = 0;
  }
  s.outgoing.push_back(Chunk::of(std::move(prefix)));
  for (auto& chunk : message) s.outgoing.push_back(std::move(chunk));
  s.out_left += kPrefix + size;
  s.write_by = Clock::now() + allowance(service_.limits.write_timeout, s.out_left);
  if (!s.headers_sent) {
    submit_headers(s, true);
  } else if (s.deferred) {
    s.deferred = false;
    nghttp2_session_resume_data(session_, s.id);
  }
}

void GrpcSession::finish(Stream& s, Status status) {
  if (s.finished) return;
  s.finished = true;
  s.status = std::move(status);
  s.body.reset();
  s.ticket = {};
  s.read_by = kNever;
  s.write_by = Clock::now() + service_.limits.write_timeout;
  cancel_all(s);
  if (!s.headers_sent) {
    submit_headers(s, false);
  } else if (s.deferred) {
    s.deferred = false;
    nghttp2_session_resume_data(session_, s.id);
  }
}

namespace {

// The status as the trailers say it.
struct StatusFields {
  std::string code, message, pushback;
  std::array<nghttp2_nv, 3> fields{};
  size_t count = 0;
  explicit StatusFields(const Status& status) : code(std::to_string(static_cast<int>(status.code))) {
    fields[count++] = field("grpc-status", code);
    if (!status.message.empty()) {
      message = percent_encoded(status.message, kLongestMessage);
      fields[count++] = field("grpc-message", message, NGHTTP2_NV_FLAG_NO_INDEX);
    }
    if (status.retry_after > 0) {
      pushback = std::to_string(status.retry_after * 1000);
      fields[count++] = field("grpc-retry-pushback-ms", pushback);
    }
  }
};

}  // namespace

void GrpcSession::submit_headers(Stream& s, bool with_data) {
  s.headers_sent = true;
  std::array<nghttp2_nv, 8> fields{};
  size_t n = 0;
  fields[n++] = constant(":status", "200");
  fields[n++] = constant("content-type", "application/grpc");
  fields[n++] = constant("grpc-accept-encoding", "identity, deflate, gzip");
  if (s.trace) fields[n++] = field("traceparent", s.trace.traceparent(), NGHTTP2_NV_FLAG_NO_INDEX);
  if (with_data) {
    nghttp2_data_provider provider{};
    provider.source.ptr = &s;
    provider.read_callback = Callbacks::read;
    nghttp2_submit_response(session_, s.id, fields.data(), n, &provider);
    return;
  }
  const StatusFields status(s.status);
  for (size_t i = 0; i < status.count; ++i) fields[n++] = status.fields[i];
  nghttp2_submit_response(session_, s.id, fields.data(), n, nullptr);
}

void GrpcSession::submit_trailer(Stream& s) {
  const StatusFields status(s.status);
  nghttp2_submit_trailer(session_, s.id, status.fields.data(), status.count);
}

ptrdiff_t GrpcSession::on_read(Stream& s, size_t most, uint32_t* flags) {
  const size_t n = std::min(most, s.out_left);
  if (n == 0 && !s.finished) {
    s.deferred = true;
    s.write_by = kNever;
    return NGHTTP2_ERR_DEFERRED;
  }
  if (n > 0) *flags |= NGHTTP2_DATA_FLAG_NO_COPY;
  if (n == s.out_left && s.finished) {
    *flags |= NGHTTP2_DATA_FLAG_EOF | NGHTTP2_DATA_FLAG_NO_END_STREAM;
    submit_trailer(s);
  }
  return static_cast<ptrdiff_t>(n);
}

void GrpcSession::on_send_data(Stream& s, std::span<const std::byte> head, size_t size) {
  out_->copy(head);
  s.out_left -= size;
  while (size > 0) {
    const Chunk& chunk = s.outgoing[s.out_chunk];
    const auto part = chunk.bytes.subspan(s.out_at, std::min(size, chunk.bytes.size() - s.out_at));
    if (part.size() < kCopyBelow)
      out_->copy(part);
    else
      out_->refer({part, chunk.owner});
    size -= part.size();
    s.out_at += part.size();
    if (s.out_at == chunk.bytes.size()) {
      ++s.out_chunk;
      s.out_at = 0;
    }
  }
}

}  // namespace tenon::serve
