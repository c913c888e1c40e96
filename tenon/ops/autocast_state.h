// The precision that an Autocast scope (trace/autocast.h) puts in force on this thread. It lives here because bodies of
// composites are evaluated without it: what an op calls inside keeps the dtypes that the call settled.
#pragma once

#include "tenon/tensor/dtype.h"

namespace tenon::ops {

namespace detail {
extern constinit thread_local DType autocast;  // NOLINT(cppcoreguidelines-avoid-non-const-global-variables)
}

// Calls as they are (f32), or as in another scope, while it lives.
class AutocastState {
 public:
  explicit AutocastState(DType dtype) : previous_(detail::autocast) { detail::autocast = dtype; }
  ~AutocastState() { detail::autocast = previous_; }
  AutocastState(const AutocastState&) = delete;
  AutocastState& operator=(const AutocastState&) = delete;

 private:
  DType previous_;
};

}  // namespace tenon::ops
