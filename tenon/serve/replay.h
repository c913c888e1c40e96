// Sends logged requests (request_log.h) again and compares the answers with those of the log.
#pragma once

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "tenon/serve/compare.h"
#include "tenon/serve/loadtest.h"

namespace tenon::serve {

struct ReplayedRequest {
  std::string model;
  int64_t version = 0;
  std::vector<NamedValue> inputs;
  std::vector<NamedValue> outputs;  // as logged
  bool answered = false;            // false: it failed then
};
// A file of JSON lines, or of TFRecords with PredictionLogs (predict_log). FormatError naming the line or the record.
std::vector<ReplayedRequest> read_request_log(const std::filesystem::path& path);

struct ReplayOptions {
  std::string url;  // as LoadOptions
  double rate = 0;  // requests a second, evenly; 0: each connection sends when it has its answer
  int connections = 1;
  Tolerance tolerance{};
  std::chrono::milliseconds timeout{30000};
  ServerTrust trust{};  // as LoadOptions
};
struct ReplayResult {
  LatencyHistogram latency;
  uint64_t sent = 0, same = 0, different = 0;
  uint64_t uncompared = 0;                 // had no answer in the log
  uint64_t skipped = 0;                    // of another model; not sent
  std::map<std::string, uint64_t> errors;  // as LoadResult
  std::vector<std::string> differences;    // the first ten, by the request's place in the log
  double seconds = 0;
};
// In the log's order. Errors: as run_load.
ReplayResult run_replay(const std::vector<ReplayedRequest>& requests, const ReplayOptions& options);

}  // namespace tenon::serve
