#include "tenon/compile/engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <condition_variable>
#include <list>
#include <map>
#include <mutex>
#include <set>
#include <span>
#include <unordered_map>

#include "tenon/base/error.h"
#include "tenon/compile/kept_weights.h"
#include "tenon/exec/session.h"
#include "tenon/trace/call_site.h"
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
    // As Program::made_for.
    h_.number(session.cpu_level * 4 + (session.claims ? 1 : 0) + (session.reuse ? 2 : 0));
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

// The sizes alone: graphs of a family that agree in them differ in numbers among their attributes.
Hash128 sizes_of(const trace::Segment& s) {
  Hasher h;
  const auto sizes = [&](const Shape& x) {
    h.number(x.size());
    for (int64_t e : x) h.number(e);
  };
  for (const trace::Leaf& leaf : s.leaves) {
    sizes(leaf.type.shape);
    sizes(leaf.strides);
  }
  for (const ir::Node& node : s.graph().nodes) {
    for (const ir::AttrValue& value : node.attrs) {
      if (const auto* list = std::get_if<Ints>(&value)) sizes(*list);
    }
  }
  return h.finish();
}

// Hashes of what was seen. A program that runs for ever with ever new sizes may forget.
struct Seen {
  std::set<Hash128> hashes;
  // Whether it is new.
  bool add(const Hash128& hash) {
    constexpr size_t kMost = 1 << 14;
    if (hashes.size() >= kMost) hashes.clear();
    return hashes.insert(hash).second;
  }
};

// A program, and what happened after it.
struct Known {
  std::unique_ptr<Program> program;  // null: the beginning of a call
  Hash128 key;
  int64_t number = 0;  // in the order of compilation
  std::list<std::shared_ptr<Known>>::iterator place;
  bool kept = false;          // false again when there were too many
  std::weak_ptr<Known> next;  // what ran after it the last time
  Seen sizes_after;           // of what was compiled after it
};

// Graphs that differ in sizes and numbers only.
struct Family {
  std::shared_ptr<const Known> general;  // the first for any size, once there are two
  Seen sizes;
};

}  // namespace

struct Engine::State {
  CompileOptions options;
  mutable std::mutex mutex;  // of what follows; not held while a program is compiled or runs
  std::condition_variable made;
  std::set<Hash128> making;  // programs that are being compiled
  std::unordered_map<Hash128, std::shared_ptr<Known>> programs;
  std::list<std::shared_ptr<Known>> recent;  // the same, the least recently used first
  std::unordered_map<Hash128, Family> families;
  std::shared_ptr<Known> beginning = std::make_shared<Known>();
  std::shared_ptr<Known> last = beginning;  // that was run
  Explanation counts;
  int64_t numbers = 0;
  // These have locks of their own.
  std::shared_ptr<KernelCache> kernels = KernelCache::of_process();
  KernelStore store{options.disk};

  explicit State(CompileOptions o) : options(std::move(o)) {}

  [[nodiscard]] size_t most() const { return static_cast<size_t>(std::max(1, options.most_programs)); }

  // The first of a family is made for its sizes, the later ones with code for any.
  ProgramOptions options_for(const trace::Segment& segment, Family& family, bool is_new) {
    ProgramOptions o;
    o.fuse = options.fuse;
    o.recompute_from = options.recompute_from;
    o.precision = options.precision;
    o.interpret = options.interpret;
    o.verify = options.verify;
    o.keep_text = options.keep_text;
    // Another graph where inputs have new sizes (with an op that a batch of one did not need) is for any size, too.
    // The sizes are those of the inputs, and those that ops cut out of them: slice(all, 0, n).
    Seen& seen = last->sizes_after;
    const bool first_here = seen.hashes.empty();
    std::set<Hash128> added;  // by this segment: they are new for all of it
    const auto is_new_here = [&](uint64_t kind, std::span<const int64_t> sizes) {
      const Hash128 hash = size_hash(kind, sizes);
      if (seen.add(hash)) added.insert(hash);
      return added.contains(hash);
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
    o.general = !is_new || (new_sizes && !first_here);
    o.like = family.general ? family.general->program.get() : nullptr;
    const bool other_sizes = family.sizes.add(sizes_of(segment));
    if (is_new) {
      o.reason = numbers == 0 ? "the first graph" : o.general ? "another graph, at other sizes" : "another graph";
    } else if (!other_sizes) {
      o.reason = "a known graph with other attributes";
    } else {
      o.reason =
          o.like == nullptr ? "a known graph at other sizes, for the first time" : "a known graph at other sizes";
    }
    return o;
  }

  void use(const std::shared_ptr<Known>& known) {
    if (known->kept) recent.splice(recent.end(), recent, known->place);
    last = known;
  }
  void keep(const std::shared_ptr<Known>& known) {
    while (programs.size() >= most()) {
      const std::shared_ptr<Known> oldest = recent.front();
      recent.pop_front();
      programs.erase(oldest->key);
      oldest->kept = false;
      ++counts.dropped;
    }
    known->number = numbers++;
    known->kept = true;
    known->place = recent.insert(recent.end(), known);
    programs.emplace(known->key, known);
    if (known->program->report().code.compiled > 0) ++counts.compilations;
  }
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
  if (before == 0) s.last = s.beginning;
  const std::shared_ptr<Known> next = s.last->next.lock();
  return next ? next->program->graph() : nullptr;
}

void Engine::give_back(const Buffer& memory) { KeptWeights::of_process().give_back(memory); }

Tensors Engine::run(trace::Segment& segment) {
  std::shared_ptr<Known> known;
  {
    State& s = *state_;
    const std::lock_guard lock(s.mutex);
    ++s.counts.segments;
    if (segment.predicted) known = s.last->next.lock();
    if (known && known->program->fits(segment) && known->program->made_for(exec::session())) {
      ++s.counts.found;
      s.use(known);
    } else {
      known = nullptr;
    }
  }
  return known ? known->program->run(segment) : look_up(segment);
}

Tensors Engine::look_up(trace::Segment& segment) {
  State& s = *state_;
  const Hash128 key = SegmentHash(true).of(segment), family_key = SegmentHash(false).of(segment);
  std::unique_lock lock(s.mutex);
  s.made.wait(lock, [&] { return !s.making.contains(key); });
  std::shared_ptr<Known> known;
  const std::shared_ptr<Known> before = s.last;
  if (const auto found = s.programs.find(key); found != s.programs.end()) {
    ++s.counts.found;
    known = found->second;
  } else {
    // A family that is forgotten is made anew: its next program is for its sizes alone.
    if (s.families.size() >= 4 * s.most()) s.families.clear();
    const auto [family, is_new] = s.families.try_emplace(family_key);
    const std::shared_ptr<const Known> like = family->second.general;  // alive until the end
    const ProgramOptions options = s.options_for(segment, family->second, is_new);
    known = std::make_shared<Known>();
    known->key = key;
    s.making.insert(key);
    lock.unlock();
    struct Done {
      State& s;
      std::unique_lock<std::mutex>& lock;
      const Hash128& key;
      ~Done() {
        lock.lock();
        s.making.erase(key);
        s.made.notify_all();
      }
    };
    {
      const Done done{s, lock, key};
      if (segment.looked_from) {
        if (const std::string site = trace::call_site(); !site.empty()) segment.reason += " by " + site;
      }
      known->program = std::make_unique<Program>(segment, options, *s.kernels, s.store);
    }
    s.keep(known);
    if (const auto at = s.families.find(family_key); options.general && at != s.families.end() && !at->second.general)
      at->second.general = known;
  }
  before->next = known;
  s.use(known);
  lock.unlock();
  return known->program->run(segment);
}

Explanation Engine::explain() const {
  Explanation result;
  std::map<int64_t, std::shared_ptr<const Known>> order;
  {
    const std::lock_guard lock(state_->mutex);
    result = state_->counts;
    for (const auto& [key, known] : state_->programs) order[known->number] = known;
  }
  result.warnings = state_->store.warnings();
  for (const auto& [number, known] : order) result.programs.push_back(known->program->report());  // waits for its run
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
      "  memory: peak {}: inputs {}, results {} and {} over donated inputs, arena {} (unplanned {})\n",
      r.reason, r.recorded, r.ended, r.maps, r.folds, r.calls, r.kernels, r.launches, r.distinct_kernels,
      r.code.compiled, r.code.loaded, r.code.shared, r.calls, bytes_text(r.peak_bytes), bytes_text(r.input_bytes),
      bytes_text(r.output_bytes), r.donated, bytes_text(r.arena_bytes), bytes_text(r.unplanned_bytes));
  if (r.recomputed > 0) {
    text += fmt::format("  computed again instead of kept: {} values, which makes the arena {} smaller\n", r.recomputed,
                        bytes_text(r.recompute_saved_bytes));
  }
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

// Whether b is a at other sizes, for which no code was made.
bool only_other_sizes(const compiler::ProgramReport& a, const compiler::ProgramReport& b) {
  return b.code.compiled == 0 && b.code.loaded == 0 && b.loop_ir.empty() && a.ended == b.ended &&
         a.recorded == b.recorded && a.called == b.called && a.fused == b.fused;
}

// Those in [begin, end), which are `like` another at other sizes.
std::string text_of(const std::vector<compiler::ProgramReport>& all, size_t begin, size_t end, size_t like) {
  double least = all[begin].seconds, most = least;
  int64_t peak = 0, runs = 0;
  for (size_t i = begin; i < end; ++i) {
    least = std::min(least, all[i].seconds);
    most = std::max(most, all[i].seconds);
    peak = std::max(peak, all[i].peak_bytes);
    runs += all[i].runs;
  }
  return fmt::format(
      "program{}\n"
      "  program {} at other sizes: no code was made, ready in {:.1f} to {:.1f} ms; peak {} at most; run {} times\n",
      end - begin == 1 ? fmt::format(" {}", begin) : fmt::format("s {} to {}", begin, end - 1), like, least * 1e3,
      most * 1e3, bytes_text(peak), runs);
}

}  // namespace

std::string to_string(const Explanation& e) {
  std::string text = fmt::format("{} calls, {} segments run, {} of them known; {} compilations", e.calls, e.segments,
                                 e.found, e.compilations);
  if (e.dropped > 0) text += fmt::format("; {} programs dropped because there were too many", e.dropped);
  text += '\n';
  for (const auto& [what, times] : e.warnings) text += fmt::format("warning ({} times): {}\n", times, what);
  for (size_t i = 0, whole = 0; i < e.programs.size();) {
    size_t end = i;
    while (end > 0 && end < e.programs.size() && only_other_sizes(e.programs[whole], e.programs[end])) ++end;
    if (end == i) {
      text += fmt::format("program {}\n{}", i, text_of(e.programs[i]));
      whole = i++;
    } else {
      text += text_of(e.programs, i, end, whole);
      i = end;
    }
  }
  return text;
}

}  // namespace tenon
