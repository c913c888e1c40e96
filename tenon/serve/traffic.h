// Who gets a request that names no version: weighted splits with sticky keys, and the rollback of a canary.
//
// A request belongs to a bucket in [0, 1): that of its sticky key's value, else a random one. The targets lie on that
// line one after the other with widths by weight, so raising the last target's weight moves no bucket away from it.
// The share of a target that is not ready or was rolled back is dealt to the others; nobody else moves.
// A target whose bounds are broken over a window gets weight 0 until set() is called. One Traffic is one model's.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tenon/serve/log_sink.h"
#include "tenon/serve/request.h"
#include "tenon/serve/shadow.h"

namespace tenon::serve {

// When a target is taken out: an error rate above the bound, or a 99th percentile above the bound, among at least so
// many requests of the window. Requests whose clients left are not counted.
struct RollbackOptions {
  double max_error_rate = 1;                // 1: no bound
  std::chrono::microseconds max_p99{0};     // 0: no bound
  std::chrono::milliseconds window{60000};  // sliding, in ten steps
  int64_t min_requests = 100;
  bool count_invalid = false;  // INVALID_ARGUMENT is an error of the version too; else it is the client's
  bool operator==(const RollbackOptions&) const = default;
};

struct SplitTarget {
  std::optional<int64_t> version{};  // or
  std::string label{};
  double weight = 0;  // any unit; shares are weights by their sum
  std::optional<RollbackOptions> rollback{};
  bool operator==(const SplitTarget&) const = default;
  [[nodiscard]] std::string name() const;  // "124", or the label
};

struct TrafficOptions {
  std::vector<SplitTarget> split{};  // empty: the newest version
  std::string sticky_key{};          // a header, a metadata key or a v2 parameter; "" or absent: at random
  std::optional<ShadowOptions> shadow{};
  uint64_t seed = 1;  // of what is random
  bool operator==(const TrafficOptions&) const = default;
};
// Everything that is wrong with them; empty if nothing is.
std::vector<std::string> faults(const TrafficOptions& options);

// The place of a sticky key's value in [0, 1): FNV-1a (64 bits) of MODEL, a zero byte and the value, through
// MurmurHash3's finaliser, its upper 53 bits. The same in every server and release.
double sticky_bucket(std::string_view model, std::string_view value);

// Requests, errors and slow answers of the last while, in ten steps.
class SlidingWindow {
 public:
  struct Counts {
    int64_t requests = 0, errors = 0, slow = 0;
  };
  explicit SlidingWindow(std::chrono::milliseconds length) : step_(std::max<int64_t>(1, length.count() / 10)) {}
  void add(Clock::time_point now, bool error, bool slow);
  [[nodiscard]] Counts counts(Clock::time_point now) const;

 private:
  static constexpr size_t kSteps = 10;
  [[nodiscard]] int64_t index(Clock::time_point now) const;
  int64_t step_;  // ms
  struct Step {
    int64_t index = -1;
    Counts counts;
  };
  std::array<Step, kSteps> steps_{};
};

// Why a target was taken out.
struct Rollback {
  std::string reason;            // "error_rate" or "p99"
  SlidingWindow::Counts window;  // at that moment
  int64_t time_ms = 0;           // since the Unix epoch
};

class Traffic {
 public:
  // `log` may be empty. ValueError if faults() finds any.
  Traffic(std::string model, TrafficOptions options, Metrics& metrics, LogSink log);

  // From now on; what was rolled back is forgotten. ValueError as above, and nothing changes.
  void set(TrafficOptions options);
  [[nodiscard]] TrafficOptions options() const;

  class Target;
  using TargetPtr = std::shared_ptr<Target>;
  // Nothing is split and nothing mirrored: the newest version answers.
  [[nodiscard]] bool plain() const { return plain_.load(std::memory_order_acquire); }
  // True if a request that names no version is split.
  [[nodiscard]] bool splits() const;
  // Where requests that name no version are mirrored; may be null.
  [[nodiscard]] ShadowPtr shadow() const;
  // The target of a request among those for which `ready` holds; null if there is none.
  [[nodiscard]] TargetPtr choose(const KeyLookup& key, const std::function<bool(const SplitTarget&)>& ready) const;
  // Notes how a request of the target ended; takes the target out if that breaks its bounds.
  void observe(const TargetPtr& target, Code code, Clock::duration took, Clock::time_point now = Clock::now());

  struct TargetStatus {
    SplitTarget target;
    double share = 0;  // of the weights; 0 once it is rolled back
    uint64_t requests = 0;
    SlidingWindow::Counts window;
    std::optional<Rollback> rolled_back;
  };
  [[nodiscard]] std::vector<TargetStatus> status(Clock::time_point now = Clock::now()) const;

 private:
  struct State;
  [[nodiscard]] std::shared_ptr<const State> state() const;
  [[nodiscard]] std::shared_ptr<const State> made(TrafficOptions options) const;
  void take(std::shared_ptr<const State> state);
  void publish_weights(const State& state) const;
  void roll_back(const State& state, const TargetPtr& target, std::string reason, const SlidingWindow::Counts& counts);

  std::string model_;
  Metrics& metrics_;
  LogSink log_;
  mutable std::mutex mutex_;
  std::shared_ptr<const State> state_;
  std::atomic<bool> plain_{true};
  mutable std::atomic<uint64_t> drawn_{0};
};
using TrafficPtr = std::shared_ptr<Traffic>;

// Traffic::TargetPtr's public face: what was chosen.
class Traffic::Target {
 public:
  Target(SplitTarget t, std::shared_ptr<void> held, Counter& requests)
      : options(std::move(t)),
        held(std::move(held)),
        requests(requests),
        window(options.rollback ? options.rollback->window : std::chrono::milliseconds(60000)) {}
  const SplitTarget options;
  const std::shared_ptr<void> held;  // its metrics
  Counter& requests;
  std::atomic<uint64_t> count{0};  // since set()
  std::atomic<bool> out{false};
  std::mutex mutex;  // of what follows
  SlidingWindow window;
  std::optional<Rollback> rolled_back;
};

// The traffic of a model as JSON, and from it ({"split": [{"version": 1, "weight": 9}, …], "sticky_key": "x-user"}).
// Errors: RequestError INVALID_ARGUMENT that names everything wrong.
std::string traffic_json(const std::string& model, const Traffic& traffic);
// `force`: set if the document says "force": true.
TrafficOptions traffic_from_json(std::string_view text, bool* force = nullptr);

}  // namespace tenon::serve
