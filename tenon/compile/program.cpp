#include "tenon/compile/program.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <cstring>

#include "tenon/base/error.h"
#include "tenon/compile/fuse.h"
#include "tenon/compile/handover.h"
#include "tenon/compile/interpret.h"
#include "tenon/compile/lower.h"
#include "tenon/compile/ready_call.h"
#include "tenon/compile/recompute.h"
#include "tenon/compile/stream.h"
#include "tenon/exec/observe.h"
#include "tenon/exec/plan.h"
#include "tenon/exec/reuse.h"
#include "tenon/exec/session.h"
#include "tenon/ops/infer.h"
#include "tenon/tensor/axis_order.h"

namespace tenon::compiler {

namespace {

// Where a storage lies in a run.
enum class PlaceKind : uint8_t { Leaf, Arena, Output };
struct Place {
  PlaceKind kind = PlaceKind::Arena;
  int64_t number = 0;  // of the leaf or the output; the offset in the arena
  int32_t donor = -1;  // output: the leaf whose memory it takes
};

// Two parts of usual work are hardly more than it takes to wake a thread.
ThreadPool::Load load_of(double worth) { return worth < 2 ? ThreadPool::Load::Light : ThreadPool::Load::Heavy; }

struct Step {
  size_t group = 0;
  // A kernel …
  size_t kernel = 0;
  KernelFunction function = nullptr;
  std::vector<int64_t> numbers;
  std::vector<int32_t> storages;
  int64_t extent = 0, grain = 1;
  double worth = 0;
  std::string name;  // the ops in it
  // … or a call.
  int32_t call = -1;  // the core node
  std::vector<ConstView> in;
  std::vector<View> out;
  std::unique_ptr<ReadyCall> ready;
  std::unique_ptr<ElementwiseKernel> elementwise;
  Ints axes;
  ops::ReduceKind reduce{};
};

using Leaves = std::vector<trace::Leaf>;

// Of each storage the steps that first and last touch it, -1: none; and whether it is a result of the segment.
struct Uses {
  std::vector<int32_t> first, last;
  std::vector<bool> is_output;
};

// Steps [first, end) that run at the same time; more than one only if they are kernels that do not touch each other's
// results. Such a launch is a list of pieces, cut into tasks of about the same work: a task is pieces
// [tasks[i], tasks[i + 1]).
struct Launch {
  struct Piece {
    size_t step;
    int64_t begin, end;
  };
  size_t first = 0, end = 0;
  double worth = 0;
  std::vector<Piece> pieces;
  std::vector<size_t> tasks;
};

}  // namespace

struct Program::State {
  trace::Segment segment;  // without memory
  ProgramOptions options;
  CoreGraph core;
  std::vector<Group> groups;
  std::vector<std::vector<int32_t>> shape_of_groups;
  std::vector<LateCopy> late_copies;
  bool grouped_alike = false;  // with the groups of options.like
  std::vector<LoweredKernel> kernels;
  std::vector<Step> steps;
  std::vector<Launch> launches;
  std::vector<int32_t> launch_of;                  // of each step
  std::vector<std::vector<std::byte*>> addresses;  // of the buffers of each step, in a run
  std::vector<Place> places;                       // by storage
  std::vector<int32_t> outputs;                    // the storages that become memory of results, each once
  int64_t arena = 0;
  int cpu_level = exec::session().options().cpu_level;
  bool claims = exec::session().options().claims;
  bool reuse = exec::session().options().reuse;
  std::vector<exec::Lifetime> lifetimes;  // by launches, of what lies in the arena
  exec::MemoryPlan plan;                  // of them
  ProgramReport report;
  std::mutex running;

  // ---- passes ------------------------------------------------------------------------------
  void pass_analyse() { core = analyse(segment, {options.lower}); }
  void pass_join() {
    if (options.lower && options.fuse) {
      join_calls(core, segment);
      choose_orders(core);
    }
    for (const CoreNode& n : core.nodes) {
      ++(n.kind == CoreKind::Map ? report.maps : n.kind == CoreKind::Fold ? report.folds : report.calls);
      if (n.kind == CoreKind::Call) ++report.called[n.label];
    }
  }
  // At other sizes an op may meet another by chance; what runs at all sizes is grouped alike at all of them.
  void pass_fuse() {
    grouped_alike = options.like != nullptr && fuse_alike(core, options.like->state_->shape_of_groups, groups);
    if (grouped_alike) return;
    groups = fuse(core, {options.fuse});
    if (!options.general) return;
    for (const Group& group : groups) shape_of_groups.push_back(group.members);
  }
  void pass_recompute() {
    if (!options.lower || !options.fuse || options.recompute_from < 0) return;
    Recomputed done;
    if (grouped_alike) {
      done = recompute_alike(core, groups, options.like->state_->late_copies);
    } else {
      std::vector<bool> donated;
      for (const trace::Leaf& leaf : segment.leaves) donated.push_back(leaf.donated);
      done = recompute(core, groups, {options.recompute_from, std::move(donated)});
    }
    report.recomputed = static_cast<int64_t>(done.copies.size());
    report.recompute_saved_bytes = done.saved_bytes;
    late_copies = std::move(done.copies);
  }
  void pass_lower() {
    const std::vector<bool> stored = needed_beyond_groups();
    for (size_t g = 0; g < groups.size(); ++g) {
      const Group& group = groups[g];
      if (group.kind == GroupKind::Call) {
        add_call(group.members[0]);
        steps.back().group = g;
        continue;
      }
      std::string names;
      for (int32_t m : group.members) names += (names.empty() ? "" : " ") + core.nodes[static_cast<size_t>(m)].label;
      if (group.members.size() > 1) report.fused.push_back(names);
      for (LoweredKernel& kernel : lower(core, group, stored, options.general)) {
        Step step;
        step.group = g;
        step.kernel = kernels.size();
        step.storages = kernel.storages;
        step.extent = kernel.kernel.root.extent;
        step.grain = kernel.grain;
        step.worth = kernel.worth;
        step.name = names;
        kernels.push_back(std::move(kernel));
        steps.push_back(std::move(step));
      }
    }
    report.kernels = static_cast<int64_t>(kernels.size());
  }
  void pass_relax() {
    if (options.precision == Precision::Strict) return;
    // Below x86-64-v3 fused multiply-adds are calculated in many steps.
    const bool contract = cpu::best_level(exec::session().options().cpu_level) >= 3;
    for (auto& k : kernels) relax(k.kernel, contract);
  }
  void pass_expand() {
    for (auto& k : kernels) expand_functions(k.kernel);
  }
  void pass_stream() {
    for (auto& k : kernels) mark_streams(k.kernel);
  }
  void pass_launch();
  void cut(Launch& launch) const;
  void verify_launches() const;
  [[nodiscard]] Uses uses() const;
  [[nodiscard]] bool read_beside(size_t storage, int32_t step) const;
  [[nodiscard]] int32_t donor_for(size_t s, const Uses& used, std::vector<bool>& taken) const;
  void hand_over(const Uses& used, const std::vector<int32_t>& number);
  void pass_plan();
  void poison_dead(int32_t launch, Buffer& memory) const;
  void pass_codegen(KernelCache& cache, KernelStore& store);

  std::vector<bool> needed_beyond_groups() const {
    std::vector<int32_t> group_of(core.nodes.size(), -1);
    for (size_t i = 0; i < groups.size(); ++i) {
      for (int32_t m : groups[i].members) group_of[static_cast<size_t>(m)] = static_cast<int32_t>(i);
    }
    std::vector<bool> stored(core.storages.size(), false);
    for (const auto& x : core.outputs) stored[static_cast<size_t>(x.storage)] = true;
    for (size_t i = 0; i < core.nodes.size(); ++i) {
      for (const auto& x : core.nodes[i].operands) {
        if (x.storage < 0) continue;
        const int32_t p = core.storages[static_cast<size_t>(x.storage)].node;
        if (p >= 0 && group_of[static_cast<size_t>(p)] != group_of[i]) stored[static_cast<size_t>(x.storage)] = true;
      }
    }
    return stored;
  }

  void add_call(int32_t id) {
    const CoreNode& n = core.nodes[static_cast<size_t>(id)];
    Step step;
    step.call = id;
    step.in = views_of(core, n.operands);
    for (const auto& x : n.operands) step.storages.push_back(x.storage);
    if (n.first_apart) {
      const TensorType& type = segment.graph().type(n.node->outputs[0]);
      step.out.push_back({nullptr, type.dtype, type.shape, contiguous_strides(type.shape), 0});
    }
    for (size_t k = 0; k < n.results.size(); ++k) {
      step.storages.push_back(n.results[k]);
      const DType dtype = core.storages[static_cast<size_t>(n.results[k])].dtype;
      step.out.push_back({nullptr, dtype, n.result_shapes[k], strides_in_order(n.result_shapes[k], n.order), 0});
    }
    if (n.ready) {
      std::vector<TensorType> results;
      for (const ir::ValueId id : n.node->outputs) results.push_back(segment.graph().type(id));
      step.ready = std::make_unique<ReadyCall>(n, std::move(results));
    } else if (n.call == CallKind::Elementwise) {
      std::vector<DType> dtypes;
      for (const auto& v : step.in) dtypes.push_back(v.dtype);
      exec::Session& session = exec::session();
      // The program's own, not the session's: a session may end before the programs that were compiled in it.
      step.elementwise =
          session.device().prepare(session.program(*n.node->op, dtypes, n.node->attrs, step.out[0].dtype));
    } else if (n.call == CallKind::Reduce) {
      const Shape& shape = step.in[0].shape;
      step.axes = ops::reduction_axes(n.node->op->name, n.node->attrs.ints(0), static_cast<int64_t>(shape.size()));
      step.reduce = std::get<ops::Reduction>(n.node->op->meaning).kind;
      step.out[0].shape = step.axes.empty() ? Shape{} : ops::reduced_shape(shape, step.axes, false);
      step.out[0].strides = contiguous_strides(step.out[0].shape);
    }
    steps.push_back(std::move(step));
  }

  // ---- running -----------------------------------------------------------------------------
  void run_call(Step& step, const std::vector<std::byte*>& base, const Leaves& leaves) const {
    const CoreNode& n = core.nodes[static_cast<size_t>(step.call)];
    exec::Session& session = exec::session();
    for (size_t i = 0; i < step.in.size(); ++i)
      step.in[i].data = step.storages[i] < 0 ? nullptr : base[static_cast<size_t>(step.storages[i])];
    bool work = false;
    const size_t apart = n.first_apart ? 1 : 0;  // it has no memory
    for (size_t k = apart; k < step.out.size(); ++k) {
      step.out[k].data = base[static_cast<size_t>(step.storages[step.in.size() + k - apart])];
      work = work || numel(step.out[k].shape) != 0;
    }
    if (!work) return;
    if (step.ready) {
      InlineVector<const Ref<Buffer>*, 4> memory{nullptr};
      for (size_t i = 1; i < n.own; ++i) {
        const int32_t s = n.operands[i].storage;
        memory.push_back(s < 0 ? nullptr
                               : &leaves[static_cast<size_t>(core.storages[static_cast<size_t>(s)].leaf)].buffer);
      }
      return step.ready->run(step.in, {memory.data(), memory.size()}, step.out[0], session.pool());
    }
    switch (n.call) {
      case CallKind::Claim:
        n.claim->run({step.in, step.out, n.node->attrs, session.pool()});
        return;
      case CallKind::Reference:
        std::get<ops::Primitive>(n.node->op->meaning).reference({step.in, step.out, n.node->attrs});
        return;
      case CallKind::Elementwise:
        step.elementwise->run(step.in, step.out[0], session.pool());
        return;
      case CallKind::Reduce:
        session.device().reduce(step.reduce, step.in[0], step.axes, step.out[0], session.pool());
        return;
      case CallKind::Copy:
        session.device().copy(step.in[0], step.out[0], session.pool());
        return;
    }
  }
  void run_kernel(const Step& step, const std::vector<std::byte*>& base) const {
    InlineVector<std::byte*, 32> buffers;
    for (int32_t s : step.storages) buffers.push_back(base[static_cast<size_t>(s)]);
    const auto part = [&](int64_t begin, int64_t end) {
      if (step.function != nullptr) {
        step.function(buffers.data(), step.numbers.data(), begin, end);
      } else {
        interpret(kernels[step.kernel].kernel, {buffers.data(), buffers.size()}, begin, end);
      }
    };
    const int64_t parts = (step.extent + step.grain - 1) / step.grain;
    if (parts == 1) return part(0, step.extent);
    exec::session().pool().run(
        parts, [&](int64_t p) { part(p * step.grain, std::min(step.extent, (p + 1) * step.grain)); },
        load_of(step.worth));
  }
  void run_step(Step& step, const std::vector<std::byte*>& base, const Leaves& leaves) const {
    if (step.call >= 0) {
      run_call(step, base, leaves);
    } else {
      run_kernel(step, base);
    }
  }
  void run_observed(Step& step, const std::vector<std::byte*>& base, const Leaves& leaves) const;
  void run_launch(const Launch& launch, const std::vector<std::byte*>& base);
};

// Neighbouring kernels whose results are the segment's (updates of parameters), or small, run together if none of them
// reads or writes what another one writes.
void Program::State::pass_launch() {
  constexpr int64_t kSmall = 1 << 16;
  std::vector<bool> is_output(core.storages.size(), false);
  for (const auto& x : core.outputs) is_output[static_cast<size_t>(x.storage)] = true;
  std::vector<int32_t> written(core.storages.size(), -1), touched(core.storages.size(), -1);  // by which launch
  bool open = false;  // whether the last launch takes more
  for (size_t t = 0; t < steps.size(); ++t) {
    const auto number = static_cast<int32_t>(launches.size()) - 1;
    bool joins = steps[t].call < 0, alone = !joins;
    for (size_t b = 0; !alone && b < steps[t].storages.size(); ++b) {
      const auto s = static_cast<size_t>(steps[t].storages[b]);
      const bool output = kernels[steps[t].kernel].kernel.buffers[b].output;
      joins = joins && written[s] != number && !(output && touched[s] == number);
      alone = output && !is_output[s] && byte_size(core.storages[s].dtype, core.storages[s].size) > kSmall;
    }
    if (!open || alone || !joins) launches.push_back({t, t, 0, {}, {}});
    open = !alone;
    launches.back().end = t + 1;
    launch_of.push_back(static_cast<int32_t>(launches.size()) - 1);
    for (size_t b = 0; b < steps[t].storages.size() && steps[t].call < 0; ++b) {
      const auto s = static_cast<size_t>(steps[t].storages[b]);
      (kernels[steps[t].kernel].kernel.buffers[b].output ? written : touched)[s] = launch_of.back();
    }
  }
  addresses.resize(steps.size());
  for (Launch& launch : launches) {
    if (steps[launch.first].call < 0) ++report.launches;
    if (launch.end - launch.first > 1) cut(launch);
  }
  if (options.verify) verify_launches();
}
// What one step of a launch writes, no other step of it touches.
void Program::State::verify_launches() const {
  for (const Launch& launch : launches) {
    std::map<int32_t, size_t> writers;
    for (size_t t = launch.first; t < launch.end; ++t) {
      for (size_t b = 0; b < steps[t].storages.size(); ++b) {
        const bool writes =
            steps[t].call >= 0 ? b >= steps[t].in.size() : kernels[steps[t].kernel].kernel.buffers[b].output;
        if (writes) writers[steps[t].storages[b]] = t;
      }
    }
    for (size_t t = launch.first; t < launch.end; ++t) {
      for (int32_t s : steps[t].storages) {
        const auto found = writers.find(s);
        if (found != writers.end() && found->second != t)
          throw InternalError(fmt::format("steps {} and {} run together, and share storage {}", found->second, t, s));
      }
    }
  }
}
void Program::State::cut(Launch& launch) const {
  for (size_t t = launch.first; t < launch.end; ++t) launch.worth += steps[t].worth;
  const double enough = load_of(launch.worth) == ThreadPool::Load::Light ? 0.2 : 0.75;
  double load = 0;
  launch.tasks.push_back(0);
  for (size_t t = launch.first; t < launch.end; ++t) {
    const Step& step = steps[t];
    for (int64_t begin = 0; begin < step.extent; begin += step.grain) {
      const int64_t end = std::min(step.extent, begin + step.grain);
      launch.pieces.push_back({t, begin, end});
      load += step.worth * static_cast<double>(end - begin) / static_cast<double>(step.extent);
      if (load < enough) continue;
      launch.tasks.push_back(launch.pieces.size());
      load = 0;
    }
  }
  if (launch.tasks.back() != launch.pieces.size()) launch.tasks.push_back(launch.pieces.size());
}

void Program::State::run_launch(const Launch& launch, const std::vector<std::byte*>& base) {
  for (size_t t = launch.first; t < launch.end; ++t) {
    addresses[t].clear();
    for (int32_t s : steps[t].storages) addresses[t].push_back(base[static_cast<size_t>(s)]);
  }
  const auto task = [&](int64_t i) {
    for (size_t p = launch.tasks[static_cast<size_t>(i)]; p < launch.tasks[static_cast<size_t>(i) + 1]; ++p) {
      const Launch::Piece& piece = launch.pieces[p];
      const Step& step = steps[piece.step];
      if (step.function != nullptr) {
        step.function(addresses[piece.step].data(), step.numbers.data(), piece.begin, piece.end);
      } else {
        interpret(kernels[step.kernel].kernel, addresses[piece.step], piece.begin, piece.end);
      }
    }
  };
  const auto tasks = static_cast<int64_t>(launch.tasks.size()) - 1;
  if (tasks == 1) return task(0);
  exec::session().pool().run(tasks, task, load_of(launch.worth));
}

// With what an observer wants to know: a call's op and types, a kernel's ops and the storages that it touches.
void Program::State::run_observed(Step& step, const std::vector<std::byte*>& base, const Leaves& leaves) const {
  exec::Work work;
  work.kind = exec::WorkKind::Kernel;
  std::vector<TensorType> in, out;
  std::string name;
  if (step.call >= 0) {
    const CoreNode& n = core.nodes[static_cast<size_t>(step.call)];
    name = n.label;
    // A copy or a part of an op has other operands than the op.
    if (n.call != CallKind::Copy) {
      work.op = n.node->op;
      work.attrs = &n.node->attrs;
    }
    for (size_t i = 0; i < step.in.size(); ++i) {
      if (step.storages[i] >= 0) in.push_back({step.in[i].dtype, step.in[i].shape});
    }
    for (const View& v : step.out) out.push_back({v.dtype, v.shape});
  } else {
    name = step.name;
    for (int32_t s : step.storages) {
      const Storage& storage = core.storages[static_cast<size_t>(s)];
      in.push_back({storage.dtype, {storage.size}});
    }
  }
  work.name = name;
  work.in = in;
  work.out = out;
  exec::observed(work, [&] {
    run_step(step, base, leaves);
    return Tensors();
  });
}

Uses Program::State::uses() const {
  const size_t count = core.storages.size();
  Uses used{std::vector<int32_t>(count, -1), std::vector<int32_t>(count, -1), std::vector<bool>(count, false)};
  for (size_t t = 0; t < steps.size(); ++t) {
    for (int32_t s : steps[t].storages) {
      if (s < 0) continue;
      if (used.first[static_cast<size_t>(s)] < 0) used.first[static_cast<size_t>(s)] = static_cast<int32_t>(t);
      used.last[static_cast<size_t>(s)] = static_cast<int32_t>(t);
    }
  }
  for (const auto& x : core.outputs) used.is_output[static_cast<size_t>(x.storage)] = true;
  return used;
}
// Whether another step of the same launch reads it.
bool Program::State::read_beside(size_t storage, int32_t step) const {
  const Launch& launch = launches[static_cast<size_t>(launch_of[static_cast<size_t>(step)])];
  for (size_t t = launch.first; t < launch.end; ++t) {
    const auto& used = steps[t].storages;
    if (static_cast<int32_t>(t) != step && std::ranges::find(used, static_cast<int32_t>(storage)) != used.end())
      return true;
  }
  return false;
}
// A donated leaf that this kernel reads last, element by element, under a result of the same size.
int32_t Program::State::donor_for(size_t s, const Uses& used, std::vector<bool>& taken) const {
  const int32_t step = used.first[s];
  if (step < 0 || steps[static_cast<size_t>(step)].call >= 0 || !reuse) return -1;
  const LoweredKernel& kernel = kernels[steps[static_cast<size_t>(step)].kernel];
  for (size_t b = 0; b < kernel.storages.size(); ++b) {
    const auto from = static_cast<size_t>(kernel.storages[b]);
    const Storage& storage = core.storages[from];
    if (storage.leaf < 0 || !kernel.pointwise[b] || taken[from] || used.is_output[from]) continue;
    const trace::Leaf& leaf = segment.leaves[static_cast<size_t>(storage.leaf)];
    if (!leaf.donated || leaf.offset != 0 || storage.base != 0 || used.last[from] != step) continue;
    if (read_beside(from, step)) continue;
    if (storage.size != core.storages[s].size || info(storage.dtype).bits != info(core.storages[s].dtype).bits)
      continue;
    taken[from] = true;
    return storage.leaf;
  }
  return -1;
}
// Values of the arena that may lie where one lay that is read last by the step that writes them. `number` is that of a
// storage's lifetime, or -1.
void Program::State::hand_over(const Uses& used, const std::vector<int32_t>& number) {
  std::vector<bool> taken(core.storages.size(), false);
  for (size_t t = 0; t < steps.size(); ++t) {
    const Step& step = steps[t];
    for (const Handover& pair : handovers(core, groups[step.group])) {
      const auto from = static_cast<size_t>(pair.from), to = static_cast<size_t>(pair.to);
      if (number[from] < 0 || number[to] < 0 || taken[from]) continue;
      exec::Lifetime& value = lifetimes[static_cast<size_t>(number[to])];
      const auto now = static_cast<int32_t>(t);
      if (value.from >= 0 || used.first[to] != now || used.last[from] != now || read_beside(from, now)) continue;
      if (step.call < 0) {
        const LoweredKernel& kernel = kernels[step.kernel];
        const auto b = std::ranges::find(kernel.storages, pair.from) - kernel.storages.begin();
        if (!kernel.pointwise[static_cast<size_t>(b)]) continue;
      }
      value.from = number[from];
      taken[from] = true;
    }
  }
}

// Lifetimes by launches; results of the segment get memory of their own, or that of an input which is dead by then.
void Program::State::pass_plan() {
  const size_t count = core.storages.size();
  const Uses used = uses();
  places.resize(count);
  std::vector<bool> taken(count, false);
  std::vector<int32_t> number(count, -1);
  const auto bytes_of = [&](size_t s) { return byte_size(core.storages[s].dtype, core.storages[s].size); };
  for (size_t s = 0; s < count; ++s) {
    const Storage& storage = core.storages[s];
    if (storage.leaf >= 0) {
      places[s] = {PlaceKind::Leaf, storage.leaf, -1};
      report.input_bytes += bytes_of(s);
    } else if (used.is_output[s]) {
      places[s] = {PlaceKind::Output, static_cast<int64_t>(outputs.size()), donor_for(s, used, taken)};
      outputs.push_back(static_cast<int32_t>(s));
      if (places[s].donor >= 0)
        ++report.donated;
      else
        report.output_bytes += bytes_of(s);
    } else if (used.first[s] >= 0) {
      number[s] = static_cast<int32_t>(lifetimes.size());
      lifetimes.push_back(
          {bytes_of(s), launch_of[static_cast<size_t>(used.first[s])], launch_of[static_cast<size_t>(used.last[s])]});
    }
  }
  if (reuse) {
    hand_over(used, number);
  } else {
    for (exec::Lifetime& value : lifetimes) value = {value.bytes, 0, static_cast<int32_t>(launches.size())};
  }
  plan = exec::plan_memory(lifetimes);
  for (size_t s = 0; s < count; ++s) {
    if (number[s] >= 0) places[s] = {PlaceKind::Arena, plan.offsets[static_cast<size_t>(number[s])], -1};
  }
  if (options.verify) {
    if (const std::string problem = exec::problem_of(lifetimes, plan); !problem.empty())
      throw InternalError("the plan of a compiled program: " + problem);
  }
  arena = plan.size;
  report.peak_bytes = report.input_bytes + report.output_bytes + plan.size;
  report.arena_bytes = plan.size;
  report.unplanned_bytes = plan.sum;
}

// Overwrites what nobody reads after this launch, so that a value which is needed longer than the plan has it shows.
void Program::State::poison_dead(int32_t launch, Buffer& memory) const {
  for (size_t i = 0; i < lifetimes.size(); ++i) {
    if (lifetimes[i].last != launch) continue;
    const bool goes_on = std::ranges::any_of(lifetimes, [&](const exec::Lifetime& next) {
      return next.from == static_cast<int32_t>(i) &&
             plan.offsets[static_cast<size_t>(&next - lifetimes.data())] == plan.offsets[i];
    });
    if (!goes_on) std::memset(memory.data() + plan.offsets[i], 0xff, static_cast<size_t>(lifetimes[i].bytes));
  }
}

void Program::State::pass_codegen(KernelCache& cache, KernelStore& store) {
  std::vector<const Kernel*> list;
  std::vector<Hash128> keys;
  for (const auto& k : kernels) {
    list.push_back(&k.kernel);
    const Hash128 key = hash(k.kernel);
    if (std::find(keys.begin(), keys.end(), key) != keys.end()) continue;
    keys.push_back(key);
    if (options.keep_text) report.loop_ir.push_back(to_text(k.kernel));
  }
  report.distinct_kernels = static_cast<int64_t>(keys.size());
  if (options.interpret || list.empty()) return;
  exec::Session& session = exec::session();
  const auto functions = cache.compile(list, cpu::best_level(session.options().cpu_level), options.verify,
                                       session.pool(), store, report.code);
  for (Step& step : steps) {
    if (step.call >= 0) continue;
    step.function = functions[step.kernel];
    step.numbers = numbers_of(kernels[step.kernel].kernel);
  }
}

Program::Program(const trace::Segment& segment, const ProgramOptions& options, KernelCache& cache, KernelStore& store)
    : state_(std::make_unique<State>()) {
  State& s = *state_;
  s.segment = segment;
  if (!s.segment.predicted) s.segment.predicted = std::make_shared<ir::Graph>(std::move(s.segment.own));
  s.segment.own = {};
  for (auto& leaf : s.segment.leaves) leaf.buffer = nullptr;
  s.options = options;
  s.report.ended = segment.reason;
  s.report.reason = options.reason;
  s.report.recorded = static_cast<int64_t>(segment.graph().nodes.size());

  // The compiler: this list, in this order.
  const struct {
    const char* name;
    std::function<void()> run;
  } passes[] = {
      {"analyse", [&] { s.pass_analyse(); }},      // ops to maps, folds and calls; movement to windows; dead code
      {"join", [&] { s.pass_join(); }},            // maps that become a part of a call; in which order its result lies
      {"fuse", [&] { s.pass_fuse(); }},            // which of them share a kernel
      {"recompute", [&] { s.pass_recompute(); }},  // what is made again later instead of being kept
      {"lower", [&] { s.pass_lower(); }},          // kernels as loop IR
      {"relax", [&] { s.pass_relax(); }},          // fewer roundings, if asked for
      {"expand", [&] { s.pass_expand(); }},        // exp, log, tanh, erf as instructions
      {"stream", [&] { s.pass_stream(); }},        // which results are larger than the caches
      {"launch", [&] { s.pass_launch(); }},        // what runs at the same time
      {"plan", [&] { s.pass_plan(); }},            // where every value lies
      {"codegen", [&] { s.pass_codegen(cache, store); }},
  };
  using Clock = std::chrono::steady_clock;
  const auto begin = Clock::now();
  const auto seconds = [](Clock::duration d) { return std::chrono::duration<double>(d).count(); };
  for (const auto& pass : passes) {
    const auto start = Clock::now();
    pass.run();
    s.report.passes.push_back({pass.name, seconds(Clock::now() - start), {}});
    if (!options.verify) continue;
    if (const std::string problem = problem_of(s.core, s.groups); !s.groups.empty() && !problem.empty())
      throw InternalError(fmt::format("after {}: {}", pass.name, problem));
    for (const auto& k : s.kernels) {
      const std::string problem = verify(k.kernel);
      if (!problem.empty()) throw InternalError(fmt::format("after {}: {}\n{}", pass.name, problem, to_text(k.kernel)));
    }
  }
  s.report.seconds = seconds(Clock::now() - begin);
}
Program::~Program() = default;

ProgramReport Program::report() const {
  const std::lock_guard lock(state_->running);
  return state_->report;
}

const std::shared_ptr<const ir::Graph>& Program::graph() const { return state_->segment.predicted; }

bool Program::made_for(const exec::Session& session) const {
  const exec::SessionOptions& options = session.options();
  return options.cpu_level == state_->cpu_level && options.claims == state_->claims && options.reuse == state_->reuse;
}

bool Program::fits(const trace::Segment& segment) const {
  const auto& leaves = state_->segment.leaves;
  if (segment.predicted != state_->segment.predicted || segment.leaves.size() != leaves.size()) return false;
  for (size_t i = 0; i < leaves.size(); ++i) {
    const trace::Leaf &a = leaves[i], &b = segment.leaves[i];
    if (a.donated != b.donated || (a.offset == 0) != (b.offset == 0) || !(a.strides == b.strides)) return false;
    if (info(a.type.dtype).bits < 8 && a.offset != b.offset) return false;
  }
  return true;
}

Tensors Program::run(const trace::Segment& segment) {
  State& s = *state_;
  const std::lock_guard lock(s.running);
  ++s.report.runs;
  const bool poison = exec::session().options().poison;
  const Ref<Buffer> arena = s.arena == 0 ? Ref<Buffer>() : Buffer::allocate(static_cast<size_t>(s.arena));
  if (poison && arena) exec::overwrite(*arena);
  std::vector<Ref<Buffer>> results(s.outputs.size());
  std::vector<std::byte*> base(s.core.storages.size(), nullptr);
  for (size_t i = 0; i < base.size(); ++i) {
    const Storage& storage = s.core.storages[i];
    const Place& place = s.places[i];
    switch (place.kind) {
      case PlaceKind::Leaf: {
        const trace::Leaf& leaf = segment.leaves[static_cast<size_t>(place.number)];
        const int64_t elements = leaf.offset + storage.base;
        // A buffer without elements may have no memory.
        if (std::byte* data = leaf.buffer->data()) base[i] = data + elements * info(storage.dtype).bits / 8;
        break;
      }
      case PlaceKind::Arena:
        if (arena) base[i] = arena->data() + place.number;
        break;
      case PlaceKind::Output: {
        auto& buffer = results[static_cast<size_t>(place.number)];
        buffer = place.donor >= 0 ? segment.leaves[static_cast<size_t>(place.donor)].buffer
                                  : Buffer::allocate(static_cast<size_t>(byte_size(storage.dtype, storage.size)));
        if (poison && place.donor < 0) exec::overwrite(*buffer);
        base[i] = buffer->data();
        break;
      }
    }
  }
  const bool observed = exec::observer() != nullptr;
  for (const Launch& launch : s.launches) {
    if (observed) [[unlikely]] {
      for (size_t t = launch.first; t < launch.end; ++t) s.run_observed(s.steps[t], base, segment.leaves);
    } else if (launch.end - launch.first == 1) {
      s.run_step(s.steps[launch.first], base, segment.leaves);
    } else {
      s.run_launch(launch, base);
    }
    if (poison && arena) [[unlikely]]
      s.poison_dead(static_cast<int32_t>(&launch - s.launches.data()), *arena);
  }
  Tensors out;
  out.reserve(s.core.outputs.size());
  const ir::Graph& graph = s.segment.graph();
  for (size_t i = 0; i < s.core.outputs.size(); ++i) {
    const Operand& x = s.core.outputs[i];
    const Place& place = s.places[static_cast<size_t>(x.storage)];
    const TensorType& type = graph.type(graph.outputs[i]);
    if (place.kind == PlaceKind::Leaf) {
      const trace::Leaf& leaf = segment.leaves[static_cast<size_t>(place.number)];
      const int64_t offset = leaf.offset + s.core.storages[static_cast<size_t>(x.storage)].base + x.window.offset;
      out.push_back(from_buffer(leaf.buffer, type, x.window.strides, offset));
    } else {
      out.push_back(from_buffer(results[static_cast<size_t>(place.number)], type, x.window.strides, x.window.offset));
    }
  }
  return out;
}

}  // namespace tenon::compiler
