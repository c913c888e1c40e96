// One record for each request answered, whatever its protocol: what an access log and an error log are made of.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

#include "tenon/serve/http.h"
#include "tenon/serve/rpc.h"

namespace tenon::serve {

struct AccessRecord {
  std::chrono::system_clock::time_point time{};  // of arrival
  std::string listener{};                        // "tfs_rest", "v2_rest", "control", "grpc"
  std::string method{}, target{};                // "POST", "/v2/models/m/infer"; of gRPC "RPC" and the method's path
  int http_status = 0;                           // 0 for gRPC
  Status status{};                               // of gRPC, or what the HTTP status stands for with the error's text
  std::string model{};                           // which answered, if one did
  int64_t version = 0;
  int64_t bytes_in = 0, bytes_out = 0;  // of bodies
  std::chrono::nanoseconds duration{0};
  Trace trace{};
  std::string tracestate{};
};
// Called on the thread that answers; must not block.
using AccessSink = std::function<void(const AccessRecord&)>;
// One line of JSON, its newline included; level is "info", "warning" (the client's mistake) or "error" (the server's).
std::string json_line(const AccessRecord& record);

// The same handler or methods, with each answer told to the sink.
HttpHandler with_access_log(HttpHandler handler, std::string listener, AccessSink sink);
RpcMethods with_access_log(RpcMethods methods, const AccessSink& sink);

}  // namespace tenon::serve
