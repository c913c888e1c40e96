// The ambient state of a call: which transformations are in force on this thread.
#pragma once

#include <cstdint>
#include <vector>

#include "tenon/trace/capture.h"

namespace tenon::trace {

struct ThreadState {
  bool record_gradients = true;
  bool anomaly = false;
  int vmap_level = 0;                // number of vmaps in force
  std::vector<Recorder*> recorders;  // captures in progress, innermost last
};
ThreadState& state();

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
