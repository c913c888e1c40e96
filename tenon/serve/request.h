// One inference, free of any protocol: what all front ends ask and the core answers.
#pragma once

#include <atomic>
#include <chrono>
#include <functional>
#include <limits>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "tenon/serve/status.h"
#include "tenon/serve/trace.h"
#include "tenon/serve/value.h"

namespace tenon::serve {

using Clock = std::chrono::steady_clock;
inline constexpr Clock::time_point kNever = Clock::time_point::max();

// Set by the front end when the client is gone; read by whoever works for it. Thread-safe.
class Cancel {
 public:
  void request();
  [[nodiscard]] bool requested() const { return requested_.load(std::memory_order_acquire); }
  // Called once, at once if it was requested before, on the thread that requests it. The last callback counts.
  void on_request(std::function<void()> callback);

 private:
  std::atomic<bool> requested_{false};
  std::mutex mutex_;
  std::function<void()> callback_;
};
using CancelPtr = std::shared_ptr<Cancel>;

// Which version of which model: by number, by label, or (neither) the newest that is ready.
struct ModelRef {
  std::string name{};
  std::optional<int64_t> version{};
  std::string label{};
  bool operator==(const ModelRef&) const = default;
};

// When what happened; a stage that was not reached is equal to the one before.
struct Timings {
  Clock::time_point arrived, started, ready, computed, finished;
};

// Through which door a request came, for the metrics.
enum class Api : uint8_t { TfsRest, TfsGrpc, V2Rest, V2Grpc, Internal, Shadow };
inline constexpr size_t kApis = 6;
std::string_view name(Api api);

// What a client of TensorFlow Serving called.
enum class TfsMethod : uint8_t { Predict, Classify, Regress, MultiInference };
inline constexpr size_t kTfsMethods = 4;

// Which version answered a request, for those who log it.
struct AnsweredBy {
  std::string model{};
  int64_t version = 0;
};

// The value of a header, metadata key or parameter that came with a request, "" if absent. Names in lower case.
using KeyLookup = std::function<std::string_view(std::string_view)>;

struct InferRequest {
  std::vector<NamedValue> inputs{};
  std::vector<std::string> outputs{};  // those wanted, in this order; empty: all
  Clock::time_point deadline = kNever;
  int priority = 0;  // a larger one goes first
  CancelPtr cancel{};
  Api api = Api::Internal;
  Trace trace{};
  KeyLookup key{};  // of a pipeline's request: what its steps are routed by
  TfsMethod method = TfsMethod::Predict;
  int64_t examples = 0;  // that the request was made of, if it was
};

struct InferResponse {
  Status status{};
  std::string model{};
  int64_t version = 0;
  std::vector<NamedValue> outputs{};
  Timings timings{};
};
// Called exactly once, on any thread; must not block.
using Completion = std::function<void(InferResponse)>;

}  // namespace tenon::serve
