// TensorFlow Serving's REST API over a Core: routes, preflight, errors. Port 8501.
#pragma once

#include "tenon/serve/core.h"
#include "tenon/serve/http.h"

namespace tenon::serve {

struct TfsRestOptions {
  bool cors = false;
  std::string metrics_path = "/monitoring/prometheus/metrics";  // of the legacy names; "" switches the page off
  std::chrono::milliseconds timeout{30000};                     // of a request; 0: the core's default
};

HttpHandler tfs_rest(Core& core, TfsRestOptions options = {});
// Every front end has these: /healthz, /readyz, /metrics. False if the path is another.
bool answer_health(Core& core, const HttpRequest& request, const Respond& respond);
// The answer to a request that failed: {"error": text}, with Retry-After where another try may help.
HttpResponse http_error(const Status& status, int http, std::string body);
// What the request allows: a Tenon-Timeout header in milliseconds, else `fallback`.
std::chrono::nanoseconds header_timeout(const HttpRequest& request, std::chrono::nanoseconds fallback);

}  // namespace tenon::serve
