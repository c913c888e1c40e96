// An open-loop load generator: requests leave at times drawn from a Poisson process, whether or not answers come, and
// latency counts from the time at which a request should have left. So a server that stalls cannot hide it.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "tenon/serve/client_tls.h"

namespace tenon::serve {

// Counts of durations with a relative error below 2 %, from 1 µs to half an hour.
class LatencyHistogram {
 public:
  void add(std::chrono::nanoseconds d);
  void add(const LatencyHistogram& other);
  [[nodiscard]] uint64_t count() const { return count_; }
  // 0.99 gives the 99th percentile; 0 of an empty histogram.
  [[nodiscard]] std::chrono::nanoseconds quantile(double q) const;
  [[nodiscard]] std::chrono::nanoseconds mean() const;

 private:
  static constexpr int kStepBits = 6;
  static constexpr size_t kSteps = size_t{1} << kStepBits;  // in each doubling
  static constexpr size_t kBuckets = 32 * kSteps;
  static size_t bucket(uint64_t us);
  std::array<uint64_t, kBuckets> counts_{};
  uint64_t count_ = 0;
  double sum_ns_ = 0;
};

struct LoadOptions {
  // http://HOST:PORT/v2/models/NAME[/versions/N], http://HOST:PORT/v1/models/NAME[/versions/N] (or /labels/L),
  // grpc://HOST:PORT/NAME (Open Inference Protocol) or grpc://HOST:PORT/tensorflow/NAME; with TLS https:// and
  // grpcs://.
  std::string url;
  double rate = 100;  // requests a second
  std::chrono::milliseconds duration{10000};
  std::chrono::milliseconds warm_up{1000};  // sent, but not counted
  int connections = 16;
  int64_t rows = 1;    // of each request
  int64_t extent = 1;  // of other axes of any extent
  bool json = false;   // v2 REST: numbers as JSON, not as binary data
  uint64_t seed = 1;   // of arrivals and values
  std::chrono::milliseconds timeout{30000};
  ServerTrust trust{};  // of https:// and grpcs://
};

struct LoadResult {
  LatencyHistogram latency;  // of answers that are right
  uint64_t sent = 0, answered = 0, rows = 0;
  std::map<std::string, uint64_t> errors;  // "503", "UNAVAILABLE", "connection"
  double seconds = 0;
};

// Errors: ValueError for a URL of another form; FileError if nobody listens; RequestError if the server does not know
// the model.
LoadResult run_load(const LoadOptions& options);

}  // namespace tenon::serve
