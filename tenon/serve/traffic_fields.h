// The fields of the traffic's parts, said once for both places where they are written: a configuration file
// (TextMessage) and a request (JSON). A Reader has has(), integer(), real(), text() and boolean(), each with what an
// absent field is.
#pragma once

#include <chrono>
#include <cmath>

#include "tenon/serve/traffic.h"

namespace tenon::serve {

template <class Reader>
RollbackOptions read_rollback(Reader& in) {
  RollbackOptions r;
  r.max_error_rate = in.real("max_error_rate", 1);
  r.max_p99 = std::chrono::microseconds(std::llround(in.real("max_p99_millis", 0) * 1e3));
  r.window = std::chrono::milliseconds(std::llround(in.real("window_seconds", 60) * 1e3));
  r.min_requests = in.integer("min_requests", r.min_requests);
  r.count_invalid = in.boolean("count_invalid_arguments", false);
  return r;
}

// All but the rollback, which is an object of its own.
template <class Reader>
SplitTarget read_target(Reader& in) {
  SplitTarget t;
  if (in.has("version")) t.version = in.integer("version", 0);
  t.label = in.text("label");
  t.weight = in.real("weight", 0);
  return t;
}

template <class Reader>
ShadowOptions read_shadow(Reader& in) {
  ShadowOptions o;
  if (in.has("version")) o.version = in.integer("version", 0);
  o.label = in.text("label");
  o.sample_rate = in.real("sample_rate", 1);
  o.tolerance.relative = in.real("relative_tolerance", o.tolerance.relative);
  o.tolerance.absolute = in.real("absolute_tolerance", o.tolerance.absolute);
  o.max_in_flight = in.integer("max_in_flight", o.max_in_flight);
  o.max_bytes = in.integer("max_bytes", o.max_bytes);
  o.timeout = std::chrono::milliseconds(in.integer("timeout_millis", o.timeout.count()));
  return o;
}

}  // namespace tenon::serve
