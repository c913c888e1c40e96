// Shadow traffic: requests also given to another version, whose answers are compared with the real ones and dropped.
//
// Nobody waits for the shadow: the client has its answer before anything is compared. At most max_in_flight requests
// and max_bytes of inputs are mirrored at one time; what comes beyond that is dropped and counted.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "tenon/serve/compare.h"
#include "tenon/serve/log_sink.h"
#include "tenon/serve/request.h"

namespace tenon::serve {

struct ShadowOptions {
  std::optional<int64_t> version{};  // or
  std::string label{};
  double sample_rate = 1;  // of the requests
  Tolerance tolerance{};
  int64_t max_in_flight = 16;
  int64_t max_bytes = int64_t{64} << 20;
  std::chrono::milliseconds timeout{10000};  // of the shadow's answer
  bool operator==(const ShadowOptions&) const = default;
  [[nodiscard]] std::string name() const;  // "124", or the label
};
std::vector<std::string> faults(const ShadowOptions& options);

class Mirror;
class Shadow : public std::enable_shared_from_this<Shadow> {
 public:
  Shadow(std::string model, ShadowOptions options, uint64_t seed, Metrics& metrics, LogSink log);

  // The mirrored twin of a request with so many bytes of inputs; null if it is not sampled or was dropped.
  [[nodiscard]] std::shared_ptr<Mirror> mirror(int64_t bytes);
  [[nodiscard]] const ShadowOptions& options() const { return options_; }

  // Same and different: both answered. Failed: the shadow gave an error. Dropped: it was busy, or too much was
  // mirrored. Unpaired: the real request failed, so there was nothing to compare with.
  enum class Result : uint8_t { Same, Different, Failed, Dropped, Unpaired };
  static constexpr size_t kResults = 5;
  [[nodiscard]] uint64_t count(Result result) const { return counts_[static_cast<size_t>(result)].load(); }

 private:
  friend class Mirror;
  void note(Result result, const std::string& text, int64_t version);

  std::string model_;
  ShadowOptions options_;
  uint64_t seed_;
  LogSink log_;
  std::atomic<uint64_t> drawn_{0};
  std::atomic<int64_t> in_flight_{0}, bytes_{0};
  std::array<std::atomic<uint64_t>, kResults> counts_{};
  std::shared_ptr<void> held_;  // the cells below
  std::array<Counter*, kResults> metrics_{};
  std::atomic<int64_t> logged_ms_{0};
};
using ShadowPtr = std::shared_ptr<Shadow>;
std::string_view name(Shadow::Result result);

// One mirrored request: compares when both answers are there, gives its place back when it dies.
class Mirror {
 public:
  Mirror(ShadowPtr shadow, int64_t bytes) : shadow_(std::move(shadow)), bytes_(bytes) {}
  ~Mirror();
  Mirror(const Mirror&) = delete;
  Mirror& operator=(const Mirror&) = delete;

  void real(const Status& status, std::vector<NamedValue> outputs);
  void shadow(InferResponse response);

 private:
  void settle();
  ShadowPtr shadow_;
  int64_t bytes_;
  std::mutex mutex_;
  struct Side {
    Status status;
    std::vector<NamedValue> outputs;
    int64_t version = 0;
  };
  std::optional<Side> real_, its_;
};
using MirrorPtr = std::shared_ptr<Mirror>;

}  // namespace tenon::serve
