// Recording: an observer for each thread writes into one list; what is derived from the events is worked out at the
// end.
#include "tenon/exec/profile.h"

#include <algorithm>
#include <chrono>
#include <mutex>
#include <optional>

#include "tenon/base/error.h"
#include "tenon/exec/observe.h"
#include "tenon/exec/session.h"

namespace tenon {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_between(Clock::time_point a, Clock::time_point b) {
  return std::chrono::duration<double>(b - a).count();
}

std::string_view kind_name(exec::WorkKind kind) {
  switch (kind) {
    case exec::WorkKind::Op:
      return "op";
    case exec::WorkKind::Body:
      return "body";
    case exec::WorkKind::Gradient:
      return "gradient";
    case exec::WorkKind::Segment:
      return "segment";
    case exec::WorkKind::Kernel:
      return "kernel";
    case exec::WorkKind::Span:
      break;
  }
  return "span";
}

double elements(const TensorType& type) { return static_cast<double>(numel(type.shape)); }

// The scalar instructions that compute something.
double instructions(const exec::Work& work, const ProfileEvent& event) {
  InlineVector<DType, 8> dtypes;
  for (const auto& type : event.inputs) dtypes.push_back(type.dtype);
  const auto& program = exec::session().program(*work.op, dtypes, *work.attrs, event.outputs[0].dtype);
  return static_cast<double>(std::count_if(program.code.begin(), program.code.end(), [](const ir::ScalarInstr& i) {
    return i.op != ir::ScalarOp::Input && i.op != ir::ScalarOp::Const && i.op != ir::ScalarOp::Cast;
  }));
}

double flops_of(const exec::Work& work, const ProfileEvent& event, bool all_inputs) {
  if (work.op == nullptr || work.kind == exec::WorkKind::Gradient || event.outputs.empty() || !all_inputs) return -1;
  if (work.op->flops != nullptr) return work.op->flops(event.inputs, event.outputs, *work.attrs);
  if (std::holds_alternative<ops::Elementwise>(work.op->meaning) && work.kind == exec::WorkKind::Op)
    return instructions(work, event) * elements(event.outputs[0]);
  if (std::holds_alternative<ops::Reduction>(work.op->meaning)) return elements(event.inputs[0]);
  if (std::holds_alternative<ops::Relayout>(work.op->meaning)) return 0;
  return -1;
}

double bytes_of(const exec::Work& work, const ProfileEvent& event) {
  if (work.kind == exec::WorkKind::Segment || work.kind == exec::WorkKind::Span) return 0;
  if (work.op != nullptr && std::holds_alternative<ops::Relayout>(work.op->meaning)) return 0;
  double sum = 0;
  for (const auto* types : {&event.inputs, &event.outputs}) {
    for (const auto& type : *types) sum += static_cast<double>(byte_size(type.dtype, numel(type.shape)));
  }
  return sum;
}

std::vector<TensorType> types_of(const Tensors& tensors) {
  std::vector<TensorType> types;
  types.reserve(tensors.size());
  for (const auto& x : tensors) {
    if (x.defined()) types.push_back(x.type());
  }
  return types;
}

struct Recording {
  const Clock::time_point begin = Clock::now();
  std::mutex mutex;
  std::vector<ProfileEvent> events;
  int threads = 0;
};

// Of one thread.
class Recorder final : public exec::Observer {
 public:
  explicit Recorder(std::shared_ptr<Recording> recording) : recording_(std::move(recording)) {
    const std::lock_guard lock(recording_->mutex);
    thread_ = recording_->threads++;
  }

  Tensors around(const exec::Work& work, const std::function<Tensors()>& run) override {
    ProfileEvent event;
    event.name = work.name;
    event.kind = kind_name(work.kind);
    event.layer = exec::current_layer();
    event.thread = thread_;
    event.depth = depth_++;
    bool all_inputs = true;
    if (work.inputs != nullptr) {
      event.inputs = types_of(*work.inputs);
      all_inputs = event.inputs.size() == work.inputs->size() || (work.op != nullptr && work.op->flops != nullptr);
    } else {
      event.inputs.assign(work.in.begin(), work.in.end());
    }
    struct Leave {
      int& depth;
      ~Leave() { --depth; }
    } const leave{depth_};
    Tensors result;
    const Clock::time_point start = Clock::now();
    try {
      result = pass_on(work, run);
    } catch (...) {  // what ended by an exception took its time too
      record(std::move(event), start);
      throw;
    }
    const Clock::time_point end = Clock::now();
    if (work.inputs != nullptr) {
      event.outputs = types_of(result);
    } else {
      event.outputs.assign(work.out.begin(), work.out.end());
    }
    event.bytes = bytes_of(work, event);
    event.flops = flops_of(work, event, all_inputs);
    record(std::move(event), start, end);
    return result;
  }

 private:
  void record(ProfileEvent event, Clock::time_point start, Clock::time_point end = Clock::now()) {
    event.start = seconds_between(recording_->begin, start);
    event.duration = seconds_between(start, end);
    const std::lock_guard lock(recording_->mutex);
    recording_->events.push_back(std::move(event));
  }

  std::shared_ptr<Recording> recording_;
  int thread_ = 0;
  int depth_ = 0;
};

// Time of their own, and the flops of what is only known by its parts. `events` are sorted by start.
void add_up(std::vector<ProfileEvent>& events) {
  struct Open {
    size_t event;
    double inside = 0, flops = 0;
    bool known = true;
  };
  std::vector<std::vector<Open>> stacks;
  const auto close = [&events](std::vector<Open>& stack) {
    const Open top = stack.back();
    stack.pop_back();
    ProfileEvent& e = events[top.event];
    e.own = std::max(0.0, e.duration - top.inside);
    if (e.flops < 0 && top.inside > 0 && top.known) e.flops = top.flops;
    if (stack.empty()) return;
    stack.back().inside += e.duration;
    stack.back().known = stack.back().known && e.flops >= 0;
    stack.back().flops += std::max(0.0, e.flops);
  };
  for (size_t i = 0; i < events.size(); ++i) {
    const auto thread = static_cast<size_t>(events[i].thread);
    if (stacks.size() <= thread) stacks.resize(thread + 1);
    auto& stack = stacks[thread];
    while (!stack.empty() && events[stack.back().event].depth >= events[i].depth) close(stack);
    stack.push_back({i});
  }
  for (auto& stack : stacks) {
    while (!stack.empty()) close(stack);
  }
}

}  // namespace

struct Profiler::State {
  std::shared_ptr<Recording> recording = std::make_shared<Recording>();
  Recorder recorder{recording};
  std::optional<exec::ObserverScope> scope{recorder};
};

Profiler::Profiler() : state_(std::make_shared<State>()) {}
Profiler::~Profiler() = default;

Profile Profiler::stop() {
  if (!state_->scope) throw ValueError({"Profiler", "it has been stopped already", {}, {}, "make another one"});
  state_->scope.reset();
  const std::lock_guard lock(state_->recording->mutex);
  Profile profile;
  profile.seconds = seconds_between(state_->recording->begin, Clock::now());
  profile.events = std::move(state_->recording->events);
  // An event that begins in the same tick as the one it is inside of comes after it.
  std::stable_sort(profile.events.begin(), profile.events.end(), [](const ProfileEvent& a, const ProfileEvent& b) {
    return a.start != b.start ? a.start < b.start : a.depth < b.depth;
  });
  add_up(profile.events);
  return profile;
}

struct Profiler::Join::State {
  Recorder recorder;
  exec::ObserverScope scope{recorder};
};
Profiler::Join::Join(Profiler& profiler) : state_(new State{Recorder(profiler.state_->recording)}) {}
Profiler::Join::~Join() = default;

void profile_span(std::string_view name, const std::function<void()>& work) {
  exec::observed({.kind = exec::WorkKind::Span, .name = name}, [&] {
    work();
    return Tensors();
  });
}

}  // namespace tenon
