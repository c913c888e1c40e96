// Request logging: a sample of the requests with their answers, as JSON lines or as TFRecords of PredictionLog.
//
// A line is {"time", "model", "version", "api", "trace_id", "status", "duration_us", "request": {"inputs": […],
// "outputs": […]}, "response": {"outputs": […]}}; request and response are bodies of the Open Inference Protocol; a
// request that failed has "error" instead of a response. A record is what TensorFlow Serving logs (predict_log), so it
// serves as a warm-up file too; only requests that were answered are in it. Both can be replayed (replay.h).
#pragma once

#include <chrono>
#include <memory>
#include <string>
#include <vector>

#include "tenon/serve/log_file.h"
#include "tenon/serve/request.h"

namespace tenon::serve {

enum class LogFormat : uint8_t { JsonLines, PredictionLog };

struct RequestLogOptions {
  LogFormat format = LogFormat::JsonLines;
  double sampling_rate = 1;
  uint64_t seed = 1;      // which requests are sampled, by their order of arrival
  LogFileOptions file{};  // the extension is the format's
  bool operator==(const RequestLogOptions&) const = default;
};
std::vector<std::string> faults(const RequestLogOptions& options);

struct LoggedRequest {
  std::chrono::system_clock::time_point time{};
  std::string model{};
  int64_t version = 0;
  Api api = Api::Internal;
  std::string trace_id{};
  std::vector<NamedValue> inputs{};
  std::vector<std::string> wanted{};  // outputs; empty: all
  Status status{};
  std::vector<NamedValue> outputs{};
  std::chrono::nanoseconds duration{0};
};
// One line, its newline included.
std::string json_line(const LoggedRequest& request);
// A PredictionLog message.
std::string prediction_log(const LoggedRequest& request, double sampling_rate);

class RequestLog {
 public:
  // ValueError if faults() finds any; FileError as LogFile.
  RequestLog(const std::string& name, RequestLogOptions options, Metrics& metrics, LogSink log);
  // Whether the next request is one of the sample; draws.
  [[nodiscard]] bool sampled();
  // Prediction logs hold answered requests only.
  [[nodiscard]] bool holds(const Status& status) const {
    return status.ok() || options_.format == LogFormat::JsonLines;
  }
  // False if the record is dropped, or this log does not hold its kind.
  bool write(LoggedRequest request);
  [[nodiscard]] LogFile& file() { return file_; }
  [[nodiscard]] const RequestLogOptions& options() const { return options_; }

 private:
  RequestLogOptions options_;
  std::atomic<uint64_t> drawn_{0};
  LogFile file_;
};
using RequestLogPtr = std::shared_ptr<RequestLog>;

}  // namespace tenon::serve
