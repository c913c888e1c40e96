// Observers: who looks at every op that runs on a thread. The profiler and debug mode are observers; off, a call pays
// for one null pointer. The chain: what was put in force last is asked first, and passes on to what was there before.
// To add a place where work is done: one call of observed() there, one enumerator here.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "tenon/ops/opdef.h"

namespace tenon::exec {

enum class WorkKind : uint8_t {
  Op,        // one op, evaluated
  Body,      // a composite whose body runs op by op, because a gradient is wanted
  Gradient,  // the gradient rule of one op
  Segment,   // what a compiled function recorded: looked up, compiled if it is new, run
  Kernel,    // one step of a compiled program
  Span       // anything else that has a name
};

struct Work {
  WorkKind kind = WorkKind::Op;
  std::string_view name;
  const ops::OpDef* op = nullptr;  // null where there is none or more than one
  const ir::Attrs* attrs = nullptr;
  const Tensors* inputs = nullptr;             // null for compiled work, which has no tensors
  std::span<const TensorType> in = {}, out{};  // of compiled work; elsewhere empty
  std::string_view site = {};                  // of a gradient: where the forward call stood, if that was kept
};

class Observer {
 public:
  virtual ~Observer() = default;
  // Calls `run` once, by pass_on, and gives what it gives. Compiled work gives nothing.
  virtual Tensors around(const Work& work, const std::function<Tensors()>& run) = 0;

 protected:
  Tensors pass_on(const Work& work, const std::function<Tensors()>& run) const {
    return outer_ != nullptr ? outer_->around(work, run) : run();
  }

 private:
  friend class ObserverScope;
  Observer* outer_ = nullptr;
};

namespace detail {
extern constinit thread_local Observer* observer;  // NOLINT(cppcoreguidelines-avoid-non-const-global-variables)
// Of the layer that is running: the name of one of its Variables, "blocks.0.fc.weight".
extern constinit thread_local const std::string* layer;  // NOLINT(cppcoreguidelines-avoid-non-const-global-variables)
}  // namespace detail

// In force on this thread, or null.
inline Observer* observer() { return detail::observer; }

// An observer is in force on one thread at a time. Scopes may end in any order (two Profilers), on the thread that made
// them: whoever leaves is taken out of the chain where it stands.
class ObserverScope {
 public:
  explicit ObserverScope(Observer& observer) : observer_(observer) {
    observer.outer_ = std::exchange(detail::observer, &observer);
  }
  ~ObserverScope() {
    for (Observer** at = &detail::observer; *at != nullptr; at = &(*at)->outer_) {
      if (*at != &observer_) continue;
      *at = observer_.outer_;
      return;
    }
  }
  ObserverScope(const ObserverScope&) = delete;
  ObserverScope& operator=(const ObserverScope&) = delete;

 private:
  Observer& observer_;
};

// Runs `run` as `work` under the observer that is in force, if there is one.
template <class Run>
Tensors observed(const Work& work, Run&& run) {
  Observer* const o = observer();
  return o == nullptr ? run() : o->around(work, std::function<Tensors()>(std::ref(run)));
}

// The path of the layer that is running ("blocks.0.fc"), empty if none says so.
std::string_view current_layer();
// Such a name in force while it lives; null: none. The string must live as long.
class LayerName {
 public:
  explicit LayerName(const std::string* variable) : previous_(std::exchange(detail::layer, variable)) {}
  ~LayerName() { detail::layer = previous_; }
  LayerName(const LayerName&) = delete;
  LayerName& operator=(const LayerName&) = delete;

 private:
  const std::string* previous_;
};

}  // namespace tenon::exec
