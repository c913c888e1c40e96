#include "tenon/serve/health_grpc.h"

#include <fmt/format.h>

#include <algorithm>
#include <condition_variable>
#include <thread>

#include "tenon/serve/wire.h"

namespace tenon::serve {
namespace {

// HealthCheckResponse.ServingStatus.
enum class Serving : uint8_t { Yes = 1, No = 2, ServiceUnknown = 3 };

constexpr std::string_view kServices[] = {"",
                                          "ModelService",  // as TensorFlow Serving calls its own
                                          "PredictionService",
                                          "tensorflow.serving.PredictionService",
                                          "tensorflow.serving.ModelService",
                                          "inference.GRPCInferenceService",
                                          "grpc.health.v1.Health",
                                          "grpc.reflection.v1.ServerReflection",
                                          "grpc.reflection.v1alpha.ServerReflection"};
constexpr auto kLook = std::chrono::milliseconds(50);

std::string service_of(const RpcCall& call) {
  std::string service;
  WireReader in(call.pieces);
  while (in.next()) {
    if (in.field() == 1)
      service = in.text();
    else
      in.skip();
  }
  return service;
}
bool is_known(std::string_view service) {
  return std::find(std::begin(kServices), std::end(kServices), service) != std::end(kServices);
}
std::vector<Chunk> answer_of(Serving status) {
  WireWriter out;
  out.varint(1, static_cast<uint64_t>(status));
  return out.take();
}

// Those who watch. The thread sleeps while there is nobody.
class Watchers {
 public:
  explicit Watchers(Core& core) : core_(core), thread_([this] { look(); }) {}
  ~Watchers() {
    {
      const std::lock_guard lock(mutex_);
      ending_ = true;
    }
    changed_.notify_all();
    thread_.join();
  }
  Watchers(const Watchers&) = delete;
  Watchers& operator=(const Watchers&) = delete;

  [[nodiscard]] Serving now() const { return core_.ready() ? Serving::Yes : Serving::No; }

  void add(const RpcCallPtr& call, const RpcAnswer& answer) {
    const bool known = is_known(service_of(*call));
    const Serving first = known ? now() : Serving::ServiceUnknown;
    answer({}, answer_of(first));
    uint64_t id = 0;
    {
      const std::lock_guard lock(mutex_);
      id = next_++;
      all_.push_back({id, known, first, answer});
    }
    changed_.notify_all();
    call->cancel->on_request([this, id] { remove(id); });
  }

 private:
  struct Watcher {
    uint64_t id;
    bool known;  // else its status never changes
    Serving told;
    RpcAnswer answer;
  };

  void remove(uint64_t id) {
    RpcAnswer last;  // dies after the lock: it holds the connection
    const std::lock_guard lock(mutex_);
    const auto found = std::find_if(all_.begin(), all_.end(), [&](const Watcher& w) { return w.id == id; });
    if (found == all_.end()) return;
    last = std::move(found->answer);
    all_.erase(found);
  }

  void look() {
    std::unique_lock lock(mutex_);
    while (!ending_) {
      if (all_.empty())
        changed_.wait(lock);
      else
        changed_.wait_for(lock, kLook);
      if (ending_) return;
      const Serving status = now();
      std::vector<RpcAnswer> due;
      for (Watcher& w : all_) {
        if (!w.known || w.told == status) continue;
        w.told = status;
        due.push_back(w.answer);
      }
      if (due.empty()) continue;
      lock.unlock();
      for (const auto& answer : due) answer({}, answer_of(status));
      due.clear();
      lock.lock();
    }
  }

  Core& core_;
  std::mutex mutex_;
  std::condition_variable changed_;
  std::vector<Watcher> all_;
  uint64_t next_ = 0;
  bool ending_ = false;
  std::thread thread_;
};

}  // namespace

RpcMethods health_grpc(Core& core) {
  const auto watchers = std::make_shared<Watchers>(core);
  RpcMethods out(2);
  out[0] = {.path = "/grpc.health.v1.Health/Check",
            .call =
                [watchers](const RpcCallPtr& call, const RpcAnswer& answer) {
                  const std::string service = service_of(*call);
                  if (!is_known(service))
                    throw RequestError(Code::NotFound, fmt::format("there is no service '{}'", service));
                  answer({}, answer_of(watchers->now()));
                },
            .small = true};
  out[1] = {.path = "/grpc.health.v1.Health/Watch",
            .call = [watchers](const RpcCallPtr& call, const RpcAnswer& answer) { watchers->add(call, answer); },
            .stream = true,
            .repeats = true,
            .small = true};
  return out;
}

}  // namespace tenon::serve
