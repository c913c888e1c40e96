// The ambient state of a call: which transformations are in force on this thread.
#pragma once

#include <cstdint>
#include <vector>

#include "tenon/trace/capture.h"

namespace tenon::trace {

class LazyRecorder;

struct ThreadState {
  bool record_gradients = true;
  bool anomaly = false;     // debug mode (trace/debug.h): nothing is put off, and the tape keeps where calls stand
  int vmap_level = 0;       // number of vmaps in force
  int differentiating = 0;  // number of functions in progress that grad, vjp and the like will differentiate
  // A body of control flow is being captured whose gradient, if one is wanted, will be made from its graph alone.
  bool gradients_from_graph = false;
  std::vector<Recorder*> recorders;  // captures in progress, innermost last
  LazyRecorder* lazy = nullptr;      // calls on concrete values are recorded here instead of computed (trace/lazy.h)
};
ThreadState& state();
// While it lives, a function runs that will be differentiated.
class Differentiating {
 public:
  Differentiating() { ++state().differentiating; }
  ~Differentiating() { --state().differentiating; }
  Differentiating(const Differentiating&) = delete;
  Differentiating& operator=(const Differentiating&) = delete;
};
// UnsupportedError where a gradient of the caller's own would be lost, because only the graph is kept.
void expect_visible_gradients(const char* where);

}  // namespace tenon::trace

namespace tenon {

// While it lives, no call on this thread is kept for a gradient.
class NoGrad {
 public:
  NoGrad() : NoGrad(false) {}
  ~NoGrad();
  NoGrad(const NoGrad&) = delete;
  NoGrad& operator=(const NoGrad&) = delete;

 protected:
  explicit NoGrad(bool record);

 private:
  bool previous_;
};

// The opposite, inside a NoGrad.
class EnableGrad : private NoGrad {
 public:
  EnableGrad() : NoGrad(true) {}
};

bool grad_enabled();

}  // namespace tenon
