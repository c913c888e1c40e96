#include "tenon/serve/grpc_server.h"

#include <fmt/format.h>
#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/grpcpp.h>
#include <grpcpp/resource_quota.h>

#include <deque>
#include <map>
#include <mutex>

#include "tenon/base/error.h"
#include "tenon/base/file.h"
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

// One call, unary or a stream of messages each with its answer. Lives until gRPC and the last answer are done with it.
class RpcReactor final : public grpc::ServerGenericBidiReactor {
 public:
  RpcReactor(grpc::GenericCallbackServerContext* context, const RpcMethod& method, Admission& admission, WorkPool& pool)
      : context_(context), method_(method), admission_(admission), pool_(pool), self_(this, [](RpcReactor* r) {
          delete r;
        }) {
    for (const auto& [key, value] : context->client_metadata())
      metadata_.emplace_back(std::string(key.data(), key.size()), std::string(value.data(), value.size()));
    StartRead(&incoming_);
  }

  void OnReadDone(bool ok) override {
    if (!ok) {
      std::unique_lock lock(mutex_);
      reading_done_ = true;
      if (!method_.stream && !started_)
        return finish_locked(lock, {Code::InvalidArgument, "the call has no message", 0});
      return finish_if_done(lock);
    }
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
    call->deadline = to_clock(context_->deadline());
    call->metadata = metadata_;
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
      if (!method_.small) call->ticket = admission_.reserve(static_cast<int64_t>(bytes));
      if (method_.blocks || bytes > (1U << 20)) {
        pool_.post([this, self = self_, call, answer] { run(call, answer); });
      } else {
        run(call, answer);
      }
    } catch (...) {
      answer(current_status(), {});
    }
    if (method_.stream) StartRead(&incoming_);
  }

  void OnWriteDone(bool ok) override {
    std::unique_lock lock(mutex_);
    writing_ = false;
    outgoing_.Clear();
    if (!ok) return finish_locked(lock, {Code::Cancelled, "the client went away", 0});
    write_next(lock);
  }

  void OnCancel() override {
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

  void OnDone() override { self_.reset(); }

 private:
  struct Answer {
    bool there = false;
    Status status;
    std::vector<Chunk> message;
  };

  void run(const RpcCallPtr& call, const RpcAnswer& answer) const {
    try {
      method_.call(call, answer);
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
    if (!method_.stream) {
      if (!next.status.ok()) return finish_locked(lock, next.status);
      finished_ = true;
      outgoing_ = to_buffer(std::move(next.message));
      lock.unlock();
      StartWriteAndFinish(&outgoing_, grpc::WriteOptions(), grpc::Status::OK);
      return;
    }
    if (!next.status.ok()) {
      if (!method_.error_message) return finish_locked(lock, next.status);
      next.message = method_.error_message(next.status);
    }
    writing_ = true;
    outgoing_ = to_buffer(std::move(next.message));
    lock.unlock();
    StartWrite(&outgoing_);
  }

  void finish_if_done(std::unique_lock<std::mutex>& lock) {
    if (method_.stream && reading_done_ && answers_.empty() && !writing_) finish_locked(lock, {});
  }
  void finish_locked(std::unique_lock<std::mutex>& lock, const Status& status) {
    if (finished_) return;
    finished_ = true;
    if (status.retry_after > 0)
      context_->AddTrailingMetadata("grpc-retry-pushback-ms", std::to_string(status.retry_after * 1000));
    lock.unlock();
    Finish(to_grpc(status));
  }

  grpc::GenericCallbackServerContext* context_;
  const RpcMethod& method_;
  Admission& admission_;
  WorkPool& pool_;
  std::vector<std::pair<std::string, std::string>> metadata_;
  grpc::ByteBuffer incoming_, outgoing_;
  std::mutex mutex_;
  std::deque<Answer> answers_;  // from the first that has not been written
  std::deque<CancelPtr> cancels_;
  size_t begun_ = 0, written_ = 0;
  bool started_ = false, reading_done_ = false, writing_ = false, finished_ = false, cancelled_ = false;
  std::shared_ptr<RpcReactor> self_;  // until OnDone
};

// A method that nobody has.
class UnknownReactor final : public grpc::ServerGenericBidiReactor {
 public:
  explicit UnknownReactor(const std::string& method) {
    Finish({grpc::StatusCode::UNIMPLEMENTED, fmt::format("there is no method {}", method)});
  }
  void OnDone() override { delete this; }
};

class RpcService final : public grpc::CallbackGenericService {
 public:
  RpcService(RpcMethods methods, Admission& admission) : admission_(admission) {
    for (auto& method : methods) {
      const std::string path = method.path;
      if (!methods_.emplace(path, std::move(method)).second)
        throw ValueError({"gRPC", fmt::format("two methods are called {}", path), {}, {}, {}});
    }
  }
  grpc::ServerGenericBidiReactor* CreateReactor(grpc::GenericCallbackServerContext* context) override {
    const auto found = methods_.find(context->method());
    if (found == methods_.end()) return new UnknownReactor(context->method());
    return new RpcReactor(context, found->second, admission_, pool_);
  }

 private:
  std::map<std::string, RpcMethod, std::less<>> methods_;
  Admission& admission_;
  WorkPool pool_{2};
};

struct GrpcServer::State {
  std::unique_ptr<RpcService> service;
  std::unique_ptr<grpc::Server> server;
  std::vector<int> ports;
  bool down = false;
};

namespace {

std::shared_ptr<grpc::ServerCredentials> credentials_of(const std::optional<TlsFiles>& tls) {
  if (!tls) return grpc::InsecureServerCredentials();
  grpc::SslServerCredentialsOptions options(tls->client_ca.empty()
                                                ? GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE
                                                : GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY);
  options.pem_key_cert_pairs.push_back({read_text_file(tls->key), read_text_file(tls->certificate)});
  if (!tls->client_ca.empty()) options.pem_root_certs = read_text_file(tls->client_ca);
  return grpc::SslServerCredentials(options);
}

}  // namespace

GrpcServer::GrpcServer(GrpcServerOptions options, RpcMethods methods, const std::vector<Address>& addresses,
                       Admission& admission)
    : state_(std::make_unique<State>()) {
  state_->service = std::make_unique<RpcService>(std::move(methods), admission);
  state_->ports.resize(addresses.size(), 0);
  grpc::ServerBuilder builder;
  builder.RegisterCallbackGenericService(state_->service.get());
  builder.SetMaxReceiveMessageSize(static_cast<int>(std::min<int64_t>(admission.limits().body, INT32_MAX)));
  builder.SetMaxSendMessageSize(-1);
  builder.AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  for (const auto& [key, value] : options.channel_arguments) {
    if (!value.empty() && value.find_first_not_of("-0123456789") == std::string::npos)
      builder.AddChannelArgument(key, std::stoi(value));
    else
      builder.AddChannelArgument(key, value);
  }
  if (options.max_threads > 0) {
    grpc::ResourceQuota quota;
    quota.SetMaxThreads(options.max_threads);
    builder.SetResourceQuota(quota);
  }
  for (size_t i = 0; i < addresses.size(); ++i) {
    const Address& a = addresses[i];
    const std::string where = a.host == "unix" ? "unix:" + a.path : fmt::format("{}:{}", a.host, a.port);
    builder.AddListeningPort(where, credentials_of(a.tls), a.host == "unix" ? nullptr : &state_->ports[i]);
  }
  state_->server = builder.BuildAndStart();
  for (size_t i = 0; i < addresses.size(); ++i) {
    if (!state_->server || (addresses[i].host != "unix" && state_->ports[i] == 0))
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
  if (state_->down || !state_->server) return;
  state_->down = true;
  state_->server->Shutdown(std::chrono::system_clock::now() + patience);
  state_->server->Wait();
}

}  // namespace tenon::serve
