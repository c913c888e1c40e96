// Where the server's events go; the library itself writes nothing.
#pragma once

#include <functional>
#include <string_view>

#include "tenon/serve/metrics.h"

namespace tenon::serve {

// What happened: level ("info", "warning", "error"), event, its fields. Any thread; must not block for long.
using LogSink = std::function<void(std::string_view level, std::string_view event, const Labels& fields)>;

}  // namespace tenon::serve
