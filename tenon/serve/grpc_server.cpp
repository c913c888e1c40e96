#include "tenon/serve/grpc_server.h"

#include <absl/synchronization/mutex.h>
#include <fmt/format.h>
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/grpcpp.h>

#include <array>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <map>
#include <mutex>
#include <thread>

#include "tenon/base/error.h"
#include "tenon/serve/grpc_tls.h"
#include "tenon/serve/metrics.h"
#include "tenon/serve/work_pool.h"

namespace tenon::serve {
namespace {

constexpr size_t kLongestMessage = 1024;  // of a status

grpc::Status to_grpc(const Status& status) {
  if (status.ok()) return grpc::Status::OK;
  return {static_cast<grpc::StatusCode>(status.code), status.message.substr(0, kLongestMessage)};
}

// The pieces as slices that keep their owners.
grpc::ByteBuffer to_buffer(std::vector<Chunk> chunks) {
  std::vector<grpc::Slice> slices;
  for (auto& chunk : chunks) {
    if (chunk.bytes.empty()) continue;
    auto* owner = new std::shared_ptr<const void>(std::move(chunk.owner));
    slices.emplace_back(
        const_cast<std::byte*>(chunk.bytes.data()), chunk.bytes.size(),
        [](void* o) { delete static_cast<std::shared_ptr<const void>*>(o); }, owner);
  }
  if (slices.empty()) slices.emplace_back();
  return {slices.data(), slices.size()};
}

Clock::time_point to_clock(std::chrono::system_clock::time_point deadline) {
  if (deadline == std::chrono::system_clock::time_point::max()) return kNever;
  const auto left = deadline - std::chrono::system_clock::now();
  if (left > std::chrono::hours(24 * 365)) return kNever;
  return Clock::now() + std::chrono::duration_cast<Clock::duration>(left);
}

}  // namespace

class RpcService;

// One call, unary or a stream of messages each with its answer. It waits for its client in RequestCall, then lives
// until gRPC has given back all that was begun and the last answer is there.
class RpcStream {
 public:
  // What gRPC gives back through the queue.
  enum class Event : uint8_t { Arrived, Read, Written, Finished, Done };
  struct Tag {
    RpcStream* stream;
    Event event;
  };

  static void wait_for_a_call(RpcService& service);
  void on(Event event, bool ok);

 private:
  explicit RpcStream(RpcService& service) : service_(service), self_(this, [](RpcStream* s) { delete s; }) {}
  struct Answer {
    bool there = false;
    Status status;
    std::vector<Chunk> message;
  };

  void* tag(Event event) { return &tags_[static_cast<size_t>(event)]; }
  void arrived();
  void read(bool ok);
  void begin_message();

  void written(bool ok) {
    std::unique_lock lock(mutex_);
    writing_ = false;
    outgoing_.Clear();
    if (!ok) return finish_locked(lock, {Code::Cancelled, "the client went away", 0});
    write_next(lock);
  }

  // The call is over for gRPC: answered, or its client is gone.
  void done() {
    if (!context_.IsCancelled()) return;
    std::deque<CancelPtr> all;
    {
      const std::lock_guard lock(mutex_);
      cancelled_ = true;
      all = cancels_;
    }
    for (const auto& cancel : all) cancel->request();
    std::unique_lock lock(mutex_);
    finish_locked(lock, {Code::Cancelled, "the client went away", 0});
  }

  void run(const RpcCallPtr& call, const RpcAnswer& answer) const {
    try {
      method_->call(call, answer);
    } catch (...) {
      answer(current_status(), {});
    }
  }

  void answered(size_t number, Status status, std::vector<Chunk> message) {
    std::unique_lock lock(mutex_);
    if (finished_ || number < written_) return;
    Answer& slot = answers_[number - written_];
    if (slot.there) return;
    slot = {true, std::move(status), std::move(message)};
    write_next(lock);
  }

  // Answers leave in the order of their questions.
  void write_next(std::unique_lock<std::mutex>& lock) {
    if (writing_ || finished_) return;
    if (answers_.empty() || !answers_.front().there) return finish_if_done(lock);
    Answer next = std::move(answers_.front());
    answers_.pop_front();
    cancels_.pop_front();
    ++written_;
    if (!method_->stream) {
      if (!next.status.ok()) return finish_locked(lock, next.status);
      finished_ = true;
      outgoing_ = to_buffer(std::move(next.message));
      lock.unlock();
      stream_.WriteAndFinish(outgoing_, grpc::WriteOptions(), grpc::Status::OK, tag(Event::Finished));
      return;
    }
    if (!next.status.ok()) {
      if (!method_->error_message) return finish_locked(lock, next.status);
      next.message = method_->error_message(next.status);
    }
    writing_ = true;
    outgoing_ = to_buffer(std::move(next.message));
    ++expected_;
    lock.unlock();
    stream_.Write(outgoing_, tag(Event::Written));
  }

  void finish_if_done(std::unique_lock<std::mutex>& lock) {
    if (method_->stream && reading_done_ && answers_.empty() && !writing_) finish_locked(lock, {});
  }
  void finish_locked(std::unique_lock<std::mutex>& lock, const Status& status) {
    if (finished_) return;
    finished_ = true;
    if (status.retry_after > 0)
      context_.AddTrailingMetadata("grpc-retry-pushback-ms", std::to_string(status.retry_after * 1000));
    lock.unlock();
    stream_.Finish(to_grpc(status), tag(Event::Finished));
  }

  RpcService& service_;
  const RpcMethod* method_ = nullptr;  // null: nobody has it
  grpc::GenericServerContext context_;
  grpc::GenericServerAsyncReaderWriter stream_{&context_};
  std::array<Tag, 5> tags_{{{this, Event::Arrived},
                            {this, Event::Read},
                            {this, Event::Written},
                            {this, Event::Finished},
                            {this, Event::Done}}};
  std::vector<std::pair<std::string, std::string>> metadata_;
  Trace trace_;
  grpc::ByteBuffer incoming_, outgoing_;
  std::mutex mutex_;
  std::deque<Answer> answers_;  // from the first that has not been written
  std::deque<CancelPtr> cancels_;
  size_t begun_ = 0, written_ = 0;
  bool started_ = false, reading_done_ = false, writing_ = false, finished_ = false, cancelled_ = false;
  std::atomic<int> expected_{3};     // events: Arrived, Finished and Done, and each Read or Write under way
  std::shared_ptr<RpcStream> self_;  // until nothing is expected
};

// The methods, the queue and its threads.
class RpcService {
 public:
  RpcService(RpcMethods methods, Admission& admission) : admission(admission) {
    for (auto& method : methods) {
      const std::string path = method.path;
      if (!methods_.emplace(path, std::move(method)).second)
        throw ValueError({"gRPC", fmt::format("two methods are called {}", path), {}, {}, {}});
    }
  }
  [[nodiscard]] const RpcMethod* find(const std::string& path) const {
    const auto found = methods_.find(path);
    return found == methods_.end() ? nullptr : &found->second;
  }
  void start(int threads) {
    for (int i = 0; i < kWaiting; ++i) RpcStream::wait_for_a_call(*this);
    for (int i = 0; i < threads; ++i) {
      threads_.emplace_back([this] {
        void* tag = nullptr;
        for (bool ok = false; queue->Next(&tag, &ok);) {
          const auto* t = static_cast<RpcStream::Tag*>(tag);
          t->stream->on(t->event, ok);
        }
      });
    }
  }
  // After the server's own shutdown: waits for what gRPC still gives back, then ends the threads.
  void end() {
    {
      std::unique_lock lock(mutex_);
      changed_.wait(lock, [this] { return alive_ == 0; });
    }
    queue->Shutdown();
    for (auto& thread : threads_) thread.join();
    threads_.clear();
  }
  void born() {
    const std::lock_guard lock(mutex_);
    ++alive_;
  }
  void gone() {
    const std::lock_guard lock(mutex_);
    if (--alive_ == 0) changed_.notify_all();
  }

  Admission& admission;
  TraceIds traces;
  WorkPool pool{2};
  grpc::AsyncGenericService generic;
  std::unique_ptr<grpc::ServerCompletionQueue> queue;
  std::atomic<bool> ending{false};

 private:
  static constexpr int kWaiting = 64;  // calls that can arrive before the first is looked at
  std::map<std::string, RpcMethod, std::less<>> methods_;
  std::vector<std::thread> threads_;
  std::mutex mutex_;
  std::condition_variable changed_;
  int64_t alive_ = 0;  // streams that gRPC may still call
};

void RpcStream::wait_for_a_call(RpcService& service) {
  auto* stream = new RpcStream(service);  // owned by its self_
  service.born();
  stream->context_.AsyncNotifyWhenDone(stream->tag(Event::Done));
  service.generic.RequestCall(&stream->context_, &stream->stream_, service.queue.get(), service.queue.get(),
                              stream->tag(Event::Arrived));
}

void RpcStream::on(Event event, bool ok) {
  const auto keep = self_;
  switch (event) {
    case Event::Arrived:
      if (!ok) {  // the server ends: nobody called
        service_.gone();
        self_.reset();
        return;
      }
      arrived();
      break;
    case Event::Read:
      read(ok);
      break;
    case Event::Written:
      written(ok);
      break;
    case Event::Finished:
      break;
    case Event::Done:
      done();
      break;
  }
  if (expected_.fetch_sub(1) > 1) return;
  service_.gone();
  self_.reset();
}

void RpcStream::arrived() {
  if (!service_.ending) wait_for_a_call(service_);
  method_ = service_.find(context_.method());
  if (!method_) {
    std::unique_lock lock(mutex_);
    return finish_locked(lock, {Code::Unimplemented, fmt::format("there is no method {}", context_.method()), 0});
  }
  for (const auto& [key, value] : context_.client_metadata())
    metadata_.emplace_back(std::string(key.data(), key.size()), std::string(value.data(), value.size()));
  const auto given = context_.client_metadata().find("traceparent");
  trace_ = service_.traces.begin(given == context_.client_metadata().end()
                                     ? std::string_view()
                                     : std::string_view(given->second.data(), given->second.size()));
  context_.AddInitialMetadata("traceparent", std::string(trace_.traceparent()));
  ++expected_;
  stream_.Read(&incoming_, tag(Event::Read));
}

void RpcStream::read(bool ok) {
  if (!ok) {
    std::unique_lock lock(mutex_);
    reading_done_ = true;
    if (!method_->stream && !started_)
      return finish_locked(lock, {Code::InvalidArgument, "the call has no message", 0});
    return finish_if_done(lock);
  }
  begin_message();
  if (!method_->stream) return;
  ++expected_;
  stream_.Read(&incoming_, tag(Event::Read));
}

void RpcStream::begin_message() {
  auto call = std::make_shared<RpcCall>();
  auto slices = std::make_shared<std::vector<grpc::Slice>>();
  size_t bytes = 0;
  (void)incoming_.Dump(slices.get());
  incoming_.Clear();
  for (const auto& slice : *slices) {
    call->pieces.emplace_back(reinterpret_cast<const std::byte*>(slice.begin()), slice.size());
    bytes += slice.size();
  }
  call->owner = slices;
  call->deadline = to_clock(context_.deadline());
  if (method_->stream)
    call->metadata = metadata_;
  else
    call->metadata = std::move(metadata_);
  call->trace = trace_;
  size_t number = 0;
  {
    const std::lock_guard lock(mutex_);
    started_ = true;
    if (cancelled_) call->cancel->request();
    number = begun_++;
    answers_.emplace_back();
    cancels_.push_back(call->cancel);
  }
  const RpcAnswer answer = [self = self_, number](Status status, std::vector<Chunk> message) {
    self->answered(number, std::move(status), std::move(message));
  };
  try {
    if (!method_->small) call->ticket = service_.admission.reserve(static_cast<int64_t>(bytes));
    if (method_->blocks || bytes > (1U << 20))
      service_.pool.post([self = self_, call, answer] { self->run(call, answer); });
    else
      run(call, answer);
  } catch (...) {
    answer(current_status(), {});
  }
}

struct GrpcServer::State {
  std::vector<std::shared_ptr<grpc::ServerCredentials>> credentials;  // asked at each handshake
  std::unique_ptr<RpcService> service;                                // outlives the server
  std::unique_ptr<grpc::Server> server;
  std::vector<int> ports;
  bool down = false;
};

GrpcServer::GrpcServer(const GrpcServerOptions& options, RpcMethods methods, const std::vector<Address>& addresses,
                       Admission& admission)
    : state_(std::make_unique<State>()) {
  state_->service = std::make_unique<RpcService>(std::move(methods), admission);
  // Distributions build Abseil with its search for deadlocks on, for every mutex that gRPC locks; it costs a tenth of a
  // small call.
  absl::SetMutexDeadlockDetectionMode(absl::OnDeadlockCycle::kIgnore);
  state_->ports.resize(addresses.size(), 0);
  grpc::ServerBuilder builder;
  builder.RegisterAsyncGenericService(&state_->service->generic);
  state_->service->queue = builder.AddCompletionQueue();
  builder.SetMaxReceiveMessageSize(static_cast<int>(std::min<int64_t>(admission.limits().body, INT32_MAX)));
  builder.SetMaxSendMessageSize(-1);
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  for (const auto& [key, value] : options.channel_arguments) {
    if (!value.empty() && value.find_first_not_of("-0123456789") == std::string::npos)
      builder.AddChannelArgument(key, std::stoi(value));
    else
      builder.AddChannelArgument(key, value);
  }
  for (size_t i = 0; i < addresses.size(); ++i) {
    const Address& a = addresses[i];
    const std::string where = a.host == "unix" ? "unix:" + a.path : fmt::format("{}:{}", a.host, a.port);
    state_->credentials.push_back(a.tls ? reloading_credentials(*a.tls) : grpc::InsecureServerCredentials());
    builder.AddListeningPort(where, state_->credentials.back(), a.host == "unix" ? nullptr : &state_->ports[i]);
  }
  state_->server = builder.BuildAndStart();
  const int cpus = static_cast<int>(std::thread::hardware_concurrency());
  if (state_->server) state_->service->start(options.max_threads > 0 ? options.max_threads : std::max(1, cpus / 2));
  for (size_t i = 0; i < addresses.size(); ++i) {
    if (state_->server && (addresses[i].host == "unix" || state_->ports[i] != 0)) continue;
    shutdown(std::chrono::milliseconds(0));
    throw FileError({fmt::format("{}:{}", addresses[i].host, addresses[i].port),
                     "the address cannot be listened on",
                     {},
                     {},
                     "choose another port"});
  }
}

GrpcServer::~GrpcServer() { shutdown(std::chrono::milliseconds(0)); }

const std::vector<int>& GrpcServer::ports() const { return state_->ports; }

void GrpcServer::shutdown(std::chrono::milliseconds patience) {
  if (state_->down) return;
  state_->down = true;
  state_->service->ending = true;
  if (state_->server) {
    state_->server->Shutdown(std::chrono::system_clock::now() + patience);
    state_->server->Wait();
  }
  state_->service->end();
}

}  // namespace tenon::serve
