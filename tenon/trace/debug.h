// Debug mode: where did the first NaN or infinity come from, and which cast lost what it was given?
//
//   const tenon::DebugMode debug;   // on this thread, while it lives
//   step(x, y);                     // throws at the first op that goes wrong
//
// What is called directly is checked: a NaN or an infinity in its results that its inputs do not explain is a
// NumericError, with the op, the layer, the source line of the call (in a build with debug information) and where in
// the result it stands. Infinities that an op uses inside and takes away again are nobody's business. Gradient rules
// are checked likewise, and named by their forward call. Compiled functions run op by op meanwhile, which gives the
// same bits. Off, it costs nothing; on, every result is read.
#pragma once

#include <memory>

namespace tenon {

struct DebugOptions {
  bool nan = true;        // no input has a NaN, a result has
  bool infinity = true;   // all inputs are finite, a result is not
  bool overflow = true;   // a cast makes an infinity of a finite number, or does not fit an integer
  bool underflow = true;  // a cast makes 0 of another number
};

class DebugMode {
 public:
  explicit DebugMode(DebugOptions options = {});
  ~DebugMode();
  DebugMode(const DebugMode&) = delete;
  DebugMode& operator=(const DebugMode&) = delete;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// The part of it that PyTorch's anomaly detection has: NaN alone.
class AnomalyDetection {
 public:
  AnomalyDetection() = default;

 private:
  DebugMode mode_{{.infinity = false, .overflow = false, .underflow = false}};
};

}  // namespace tenon
