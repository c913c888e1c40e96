// One HTTP/2 connection that carries gRPC calls, without its socket: bytes in, bytes out.
//
// HTTP/2 itself (frames, header compression, flow control, limits against floods) is nghttp2's, seen only in the .cpp.
// Here is what gRPC is on top: calls by path, messages with their lengths, deadlines, cancellation, statuses in
// trailers, GOAWAY. grpc_server.cpp gives it a socket; the fuzzer gives it bytes. Everything runs on the connection's
// thread; only answers may come from elsewhere (post_answer).
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "tenon/serve/rpc.h"
#include "tenon/serve/trace.h"
#include "tenon/serve/work_pool.h"

struct nghttp2_session;

namespace tenon::serve {

struct GrpcLimits {
  int64_t message = int64_t{256} << 20;  // of a message that comes
  uint32_t concurrent_streams = 4096;    // of one connection
  uint32_t header_bytes = 64 << 10;
  std::chrono::milliseconds handshake_timeout{30000};  // until the client has said hello
  std::chrono::milliseconds message_timeout{30000};    // for a message that has begun, and 1 s for each 64 KiB
  std::chrono::milliseconds write_timeout{30000};      // for an answer that the client does not take, likewise
  std::chrono::milliseconds keepalive_time{7200000};   // without a byte from the client: asks whether it is there
  std::chrono::milliseconds keepalive_timeout{20000};  // and takes no answer for no
  // 0: for ever.
  std::chrono::milliseconds idle_timeout{0};    // without a call
  std::chrono::milliseconds connection_age{0};  // of a connection, then it winds down
  std::chrono::milliseconds age_grace{0};       // and is cut so much later
};

// What all connections share.
struct GrpcService {
  // Errors: ValueError for two methods with one path.
  GrpcService(RpcMethods list, GrpcLimits limits, Admission& admission);
  [[nodiscard]] const RpcMethod* find(std::string_view path) const;

  GrpcLimits limits;
  Admission& admission;
  TraceIds traces{};
  std::unique_ptr<WorkPool> pool = std::make_unique<WorkPool>(2);           // for large and compressed messages
  std::unique_ptr<WorkPool> blocking_pool = std::make_unique<WorkPool>(2);  // for methods that wait

 private:
  std::map<std::string, RpcMethod, std::less<>> methods_;
};

// Bytes to send, in order: small ones copied together, tensors as they lie.
class GrpcOutput {
 public:
  void copy(std::span<const std::byte> bytes);
  void refer(Chunk chunk);
  void clear();
  [[nodiscard]] bool empty() const { return size_ == 0; }
  [[nodiscard]] size_t size() const { return size_; }
  // Calls fn(bytes) for each piece, in order; valid until the next change.
  template <class Fn>
  void for_each(const Fn& fn) const {
    for (const auto& piece : pieces_)
      fn(!piece.elsewhere.empty() ? piece.elsewhere
                                  : std::as_bytes(std::span(small_)).subspan(piece.begin, piece.size));
  }

 private:
  struct Piece {
    size_t begin = 0, size = 0;              // of small_
    std::span<const std::byte> elsewhere{};  // if not empty: these bytes
    std::shared_ptr<const void> owner{};
  };
  std::string small_;
  std::vector<Piece> pieces_;
  size_t size_ = 0;
};

class GrpcSession : public std::enable_shared_from_this<GrpcSession> {
 public:
  explicit GrpcSession(GrpcService& service);
  virtual ~GrpcSession();
  GrpcSession(const GrpcSession&) = delete;
  GrpcSession& operator=(const GrpcSession&) = delete;

  // What the client sent; false: it does not speak HTTP/2, or breaks its rules.
  bool receive(std::span<const std::byte> bytes);
  // Adds what is to be sent, until there is no more or `out` is large.
  void collect(GrpcOutput& out);
  // Nothing more will be read or written: the connection may end.
  [[nodiscard]] bool over() const;
  // Ends what is late; false: the connection must be cut.
  bool sweep(Clock::time_point now);
  // Says that there will be no new calls; over() once those under way are answered. `stopping`: streams on which
  // nothing is under way are ended soon, for their clients would keep them.
  void wind_down(bool stopping = false);
  // The client is gone: cancels its calls.
  void hang_up();

 protected:
  // Brings an answer that came on another thread to this connection's, and from there to answered().
  virtual void post_answer(int32_t stream, size_t number, Status status, std::vector<Chunk> message) = 0;
  [[nodiscard]] virtual bool on_own_thread() const = 0;
  // There may be something to collect(). Called at the end of what made it, never within collect().
  virtual void output_ready() = 0;
  void answered(int32_t stream, size_t number, Status status, std::vector<Chunk> message);

 private:
  struct Stream;
  struct Callbacks;
  // While one is there, nothing is collected: streams that end would go under the feet of who works on them.
  class Busy {
   public:
    explicit Busy(GrpcSession& session) : session_(session) { ++session.busy_; }
    ~Busy() {
      if (--session_.busy_ == 0) session_.output_ready();
    }
    Busy(const Busy&) = delete;
    Busy& operator=(const Busy&) = delete;

   private:
    GrpcSession& session_;
  };
  Stream* find(int32_t id);
  void header(Stream& stream, std::string_view name, std::string_view value);
  void begin_call(Stream& stream);
  void feed(Stream& stream, std::span<const std::byte> bytes);
  void on_prefix(Stream& stream);
  void on_message(Stream& stream);
  void on_end(Stream& stream);
  void on_close(Stream& stream);
  size_t begin_answer(Stream& stream, const CancelPtr& cancel);
  void write_next(Stream& stream);
  void send(Stream& stream, std::vector<Chunk> message);
  void finish(Stream& stream, Status status);
  void submit_headers(Stream& stream, bool with_data);
  void submit_trailer(Stream& stream);
  ptrdiff_t on_read(Stream& stream, size_t most, uint32_t* flags);
  void on_send_data(Stream& stream, std::span<const std::byte> head, size_t size);
  void http_error(Stream& stream, std::string_view status);
  void cancel_all(Stream& stream);
  void last_goaway();

  GrpcService& service_;
  nghttp2_session* session_ = nullptr;
  std::unordered_map<int32_t, std::unique_ptr<Stream>> streams_;
  GrpcOutput* out_ = nullptr;  // while collecting
  Clock::time_point born_, heard_, pinged_ = kNever, last_call_, winding_down_ = kNever;
  int busy_ = 0;
  bool greeted_ = false, last_goaway_ = false, gone_ = false, stopping_ = false;
};

}  // namespace tenon::serve
