#include "tenon/trace/state.h"

namespace tenon::trace {

ThreadState& state() {
  thread_local ThreadState s;
  return s;
}

}  // namespace tenon::trace

namespace tenon {

NoGrad::NoGrad(bool record) : previous_(trace::state().record_gradients) { trace::state().record_gradients = record; }
NoGrad::~NoGrad() { trace::state().record_gradients = previous_; }
bool grad_enabled() { return trace::state().record_gradients; }

}  // namespace tenon
