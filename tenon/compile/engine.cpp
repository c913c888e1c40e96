#include "tenon/compile/engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <unordered_map>

#include "tenon/base/error.h"
#include "tenon/exec/session.h"
#include "tenon/trace/state.h"

namespace tenon {
namespace compiler {
namespace {

// The structure of a segment: everything that the compiled program depends on, and no values or addresses of them.
class SegmentHash {
 public:
  Hash128 of(const trace::Segment& s) {
    const exec::SessionOptions& session = exec::session().options();
    h_.number(session.cpu_level * 2 + (session.claims ? 1 : 0));  // as Program::made_for
    h_.number(s.leaves.size());
    for (const trace::Leaf& leaf : s.leaves) {
      h_.number(static_cast<int>(leaf.type.dtype) * 4 + (leaf.donated ? 2 : 0) + (leaf.offset == 0 ? 1 : 0));
      shape(leaf.type.shape);
      shape(leaf.strides);
      if (info(leaf.type.dtype).bits < 8) h_.number(leaf.offset);
    }
    h_.number(s.graph().nodes.size());
    for (const ir::Node& node : s.graph().nodes) {
      h_.number(reinterpret_cast<uintptr_t>(node.op));
      h_.number(node.inputs.size());
      for (ir::ValueId id : node.inputs) h_.number(id);
      for (const ir::AttrValue& value : node.attrs) attribute(value);
      for (ir::ValueId id : node.outputs) h_.number(id);
    }
    h_.number(s.graph().outputs.size());
    for (ir::ValueId id : s.graph().outputs) h_.number(id);
    return h_.finish();
  }

 private:
  void shape(const Shape& x) {
    h_.number(x.size());
    for (int64_t e : x) h_.number(e);
  }
  void attribute(const ir::AttrValue& value) {
    h_.number(value.index());
    std::visit(ops::Overloaded{
                   [&](bool x) { h_.number(x ? 1 : 0); },
                   [&](int64_t x) { h_.number(x); },
                   [&](double x) { h_.real(x); },
                   [&](const std::string& x) { h_.text(x); },
                   [&](DType x) { h_.number(static_cast<int>(x)); },
                   [&](const Ints& x) { shape(x); },
                   [&](const ir::GraphPtr& x) { h_.number(reinterpret_cast<uintptr_t>(x.get())); },
               },
               value);
  }
  Hasher h_;
};

}  // namespace

struct Engine::State {
  CompileOptions options;
  mutable std::mutex mutex;  // of what follows
  KernelCache kernels;
  std::unordered_map<Hash128, std::unique_ptr<Program>> programs;
  std::vector<const Program*> order;
  Program* last = nullptr;                      // that was run
  std::map<const Program*, Program*> followed;  // what was run after it; after null: what began a call
  Explanation counts;
};

Engine::Engine(CompileOptions options) : state_(std::make_unique<State>()) { state_->options = options; }
Engine::~Engine() = default;

void Engine::count_call() {
  const std::lock_guard lock(state_->mutex);
  ++state_->counts.calls;
}

// A guess from what followed the last time.
std::shared_ptr<const ir::Graph> Engine::predict(size_t before) {
  State& s = *state_;
  const std::lock_guard lock(s.mutex);
  if (before == 0) s.last = nullptr;
  const auto found = s.followed.find(s.last);
  return found == s.followed.end() ? nullptr : found->second->graph();
}

Tensors Engine::run(trace::Segment& segment) {
  Program* program = nullptr;
  {
    State& s = *state_;
    const std::lock_guard lock(s.mutex);
    ++s.counts.segments;
    const auto guess = s.followed.find(s.last);
    if (segment.predicted && guess != s.followed.end() && guess->second->fits(segment) &&
        guess->second->made_for(exec::session())) {
      ++s.counts.found;
      program = s.last = guess->second;
    }
  }
  return program != nullptr ? program->run(segment) : look_up(segment);
}

Tensors Engine::look_up(const trace::Segment& segment) {
  const Hash128 key = SegmentHash().of(segment);
  Program* program = nullptr;
  {
    State& s = *state_;
    const std::lock_guard lock(s.mutex);
    ProgramOptions options{true, s.options.fuse, s.options.interpret, s.options.verify, s.options.keep_text};
    if (auto found = s.programs.find(key); found != s.programs.end()) {
      ++s.counts.found;
      program = found->second.get();
    } else if (static_cast<int>(s.programs.size()) < s.options.most_programs) {
      auto fresh = std::make_unique<Program>(segment, options, s.kernels);
      program = fresh.get();
      s.order.push_back(program);
      s.programs.emplace(key, std::move(fresh));
    } else {
      ++s.counts.beyond;
    }
    if (program != nullptr) s.followed[s.last] = program;
    s.last = program;
  }
  if (program != nullptr) return program->run(segment);
  KernelCache none;
  ProgramOptions plain;
  plain.lower = false;
  return Program(segment, plain, none).run(segment);
}

Explanation Engine::explain() const {
  const std::lock_guard lock(state_->mutex);
  Explanation result = state_->counts;
  for (const Program* program : state_->order) result.programs.push_back(program->report());
  return result;
}

Recording::Recording(Engine& engine) {
  if (trace::state().lazy == nullptr) {
    engine.count_call();
    recorder_ = std::make_unique<trace::LazyRecorder>(engine);
  }
}
Recording::~Recording() = default;
void Recording::finish() {
  if (recorder_) recorder_->flush("the end of the function");
}

}  // namespace compiler

namespace {

std::string bytes_text(int64_t bytes) {
  if (bytes < 10000) return fmt::format("{} B", bytes);
  if (bytes < 10000000) return fmt::format("{:.1f} kB", static_cast<double>(bytes) / 1e3);
  return fmt::format("{:.1f} MB", static_cast<double>(bytes) / 1e6);
}

std::string text_of(const compiler::ProgramReport& r) {
  std::string text = fmt::format(
      "  {} ops recorded until {}; {} maps, {} folds, {} calls\n"
      "  {} compiled kernels ({} distinct, {} new), {} calls of the device\n"
      "  memory: inputs {}, results {} and {} over donated inputs, arena {} (unplanned {})\n",
      r.recorded, r.ended, r.maps, r.folds, r.calls, r.kernels, r.distinct_kernels, r.new_kernels, r.calls,
      bytes_text(r.input_bytes), bytes_text(r.output_bytes), r.donated, bytes_text(r.arena_bytes),
      bytes_text(r.unplanned_bytes));
  text += fmt::format("  compiled in {:.1f} ms:", r.seconds * 1e3);
  for (const auto& pass : r.passes) text += fmt::format(" {} {:.1f}", pass.name, pass.seconds * 1e3);
  text += fmt::format("; run {} times\n", r.runs);
  if (!r.called.empty()) {
    text += "  called:";
    for (const auto& [name, count] : r.called)
      text += fmt::format(" {}{}", name, count > 1 ? fmt::format(" x{}", count) : "");
    text += '\n';
  }
  for (const auto& names : r.fused) text += fmt::format("  fused: {}\n", names);
  for (const auto& kernel : r.loop_ir) text += kernel;
  return text;
}

}  // namespace

std::string to_string(const Explanation& e) {
  std::string text = fmt::format("{} calls, {} segments run, {} of them compiled before", e.calls, e.segments, e.found);
  if (e.beyond > 0) text += fmt::format(", {} op by op because there are too many programs", e.beyond);
  text += '\n';
  for (size_t i = 0; i < e.programs.size(); ++i) text += fmt::format("program {}\n{}", i, text_of(e.programs[i]));
  return text;
}

}  // namespace tenon
