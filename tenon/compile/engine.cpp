#include "tenon/compile/engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <set>
#include <span>
#include <unordered_map>

#include "tenon/base/error.h"
#include "tenon/exec/session.h"
#include "tenon/trace/state.h"

namespace tenon {
namespace compiler {
namespace {

// The structure of a segment: everything that the compiled program depends on, and no values or addresses of them.
// Without `sizes`, what is the same in a graph for other sizes.
class SegmentHash {
 public:
  explicit SegmentHash(bool sizes) : sizes_(sizes) {}
  Hash128 of(const trace::Segment& s) {
    const exec::SessionOptions& session = exec::session().options();
    h_.number(session.cpu_level * 2 + (session.claims ? 1 : 0));  // as Program::made_for
    h_.number(s.leaves.size());
    for (const trace::Leaf& leaf : s.leaves) {
      h_.number(static_cast<int>(leaf.type.dtype) * 4 + (leaf.donated ? 2 : 0) + (leaf.offset == 0 ? 1 : 0));
      shape(leaf.type.shape);
      shape(leaf.strides);
      if (sizes_ && info(leaf.type.dtype).bits < 8) h_.number(leaf.offset);
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
    for (int64_t e : x) {
      if (sizes_) h_.number(e);
    }
  }
  void attribute(const ir::AttrValue& value) {
    h_.number(value.index());
    std::visit(ops::Overloaded{
                   [&](bool x) { h_.number(x ? 1 : 0); },
                   [&](int64_t x) {
                     if (sizes_) h_.number(x);
                   },
                   [&](double x) {
                     if (sizes_) h_.real(x);
                   },
                   [&](const std::string& x) { h_.text(x); },
                   [&](DType x) { h_.number(static_cast<int>(x)); },
                   [&](const Ints& x) { shape(x); },
                   [&](const ir::GraphPtr& x) { h_.number(reinterpret_cast<uintptr_t>(x.get())); },
               },
               value);
  }
  bool sizes_;
  Hasher h_;
};

Hash128 size_hash(uint64_t kind, std::span<const int64_t> sizes) {
  Hasher h;
  h.number(kind);
  h.number(sizes.size());
  for (int64_t e : sizes) h.number(e);
  return h.finish();
}

}  // namespace

struct Engine::State {
  CompileOptions options;
  mutable std::mutex mutex;  // of what follows
  std::shared_ptr<KernelCache> kernels = KernelCache::of_process();
  KernelStore store{options.disk};

  explicit State(CompileOptions o) : options(std::move(o)) {}
  // The first of a family is made for its sizes, the later ones with code for any.
  std::unique_ptr<Program> compile(const trace::Segment& segment) {
    ProgramOptions o;
    o.fuse = options.fuse;
    o.interpret = options.interpret;
    o.verify = options.verify;
    o.keep_text = options.keep_text;
    const auto [family, is_new] = families.try_emplace(SegmentHash(false).of(segment), nullptr);
    // Another graph where inputs have new sizes (with an op that a batch of one did not need) is for any size, too.
    // The sizes are those of the inputs, and those that ops cut out of them: slice(all, 0, n).
    auto& seen = sizes_after[last];
    const std::set<Hash128> before = seen;
    const auto is_new_here = [&](uint64_t kind, std::span<const int64_t> sizes) {
      const Hash128 hash = size_hash(kind, sizes);
      seen.insert(hash);
      return !before.contains(hash);
    };
    bool new_sizes = false;
    for (const trace::Leaf& leaf : segment.leaves)
      new_sizes = is_new_here(static_cast<uint64_t>(leaf.type.dtype), leaf.type.shape) || new_sizes;
    for (const ir::Node& node : segment.graph().nodes) {
      const auto op = reinterpret_cast<uintptr_t>(node.op);
      const bool new_op = is_new_here(op, {});
      for (const ir::AttrValue& value : node.attrs) {
        if (const auto* sizes = std::get_if<Ints>(&value))
          new_sizes = (is_new_here(op, *sizes) && !new_op) || new_sizes;
      }
    }
    o.general = !is_new || (new_sizes && !before.empty());
    o.like = family->second;
    if (is_new) {
      o.reason = programs.empty() ? "the first graph" : o.general ? "another graph, at other sizes" : "another graph";
    } else {
      o.reason =
          o.like == nullptr ? "a known graph at other sizes, for the first time" : "a known graph at other sizes";
    }
    auto program = std::make_unique<Program>(segment, o, *kernels, store);
    if (o.general && o.like == nullptr) family->second = program.get();
    if (program->report().code.compiled > 0) ++counts.compilations;
    return program;
  }
  std::unordered_map<Hash128, std::unique_ptr<Program>> programs;
  // Graphs that differ in sizes only; the first program for any size of them, once there are two.
  std::unordered_map<Hash128, const Program*> families;
  std::vector<const Program*> order;
  Program* last = nullptr;                                  // that was run
  std::map<const Program*, std::set<Hash128>> sizes_after;  // of what was compiled after it
  std::map<const Program*, Program*> followed;              // what was run after it; after null: what began a call
  Explanation counts;
};

Engine::Engine(CompileOptions options) : state_(std::make_unique<State>(std::move(options))) {}
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
  const Hash128 key = SegmentHash(true).of(segment);
  Program* program = nullptr;
  {
    State& s = *state_;
    const std::lock_guard lock(s.mutex);
    if (auto found = s.programs.find(key); found != s.programs.end()) {
      ++s.counts.found;
      program = found->second.get();
    } else if (static_cast<int>(s.programs.size()) < s.options.most_programs) {
      auto fresh = s.compile(segment);
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
  ProgramOptions plain;
  plain.lower = false;
  return Program(segment, plain, *state_->kernels, state_->store).run(segment);
}

Explanation Engine::explain() const {
  const std::lock_guard lock(state_->mutex);
  Explanation result = state_->counts;
  result.warnings = state_->store.warnings();
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
      "  compiled because: {}\n"
      "  {} ops recorded until {}; {} maps, {} folds, {} calls\n"
      "  {} compiled kernels in {} launches ({} distinct; code: {} made, {} from disk, {} shared), {} calls of the "
      "device\n"
      "  memory: inputs {}, results {} and {} over donated inputs, arena {} (unplanned {})\n",
      r.reason, r.recorded, r.ended, r.maps, r.folds, r.calls, r.kernels, r.launches, r.distinct_kernels,
      r.code.compiled, r.code.loaded, r.code.shared, r.calls, bytes_text(r.input_bytes), bytes_text(r.output_bytes),
      r.donated, bytes_text(r.arena_bytes), bytes_text(r.unplanned_bytes));
  text += fmt::format("  compiled in {:.1f} ms:", r.seconds * 1e3);
  for (const auto& pass : r.passes) text += fmt::format(" {} {:.1f}", pass.name, pass.seconds * 1e3);
  text += fmt::format(" (LLVM {:.1f}, linking {:.1f}); run {} times\n", r.code.llvm_seconds * 1e3,
                      r.code.link_seconds * 1e3, r.runs);
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
  std::string text = fmt::format("{} calls, {} segments run, {} of them known; {} compilations", e.calls, e.segments,
                                 e.found, e.compilations);
  if (e.beyond > 0) text += fmt::format(", {} op by op because there are too many programs", e.beyond);
  text += '\n';
  for (const auto& [what, times] : e.warnings) text += fmt::format("warning ({} times): {}\n", times, what);
  for (size_t i = 0; i < e.programs.size(); ++i) text += fmt::format("program {}\n{}", i, text_of(e.programs[i]));
  return text;
}

}  // namespace tenon
