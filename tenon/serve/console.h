// The web console: one page at /, and the JSON that it reads once a second at /console/state.
//
// The page asks for nothing but this server's own addresses. What it shows is what anybody who can reach the port may
// ask anyway; it changes nothing.
#pragma once

#include <string>
#include <string_view>

#include "tenon/serve/core.h"
#include "tenon/serve/http.h"

namespace tenon::serve {

// Answers GET / and /console/state. False for any other request.
bool answer_console(Core& core, const HttpRequest& request, const Respond& respond);

// {"server", "version", "ready", "time_ms", "bounds_ms": […], "models": [{"name", "labels", "split", "versions":
// [{"version", "state", "reason", "requests", "errors", "pending", "rows", "buckets": […], "inputs", "outputs",
// "classes"}]}]}; buckets count the requests that took at most each bound, and above the last.
std::string console_state(Core& core);

std::string_view console_page();

}  // namespace tenon::serve
