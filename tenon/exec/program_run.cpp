// How a Program runs: where values lie, and the steps in their order.
#include <algorithm>
#include <iterator>

#include "tenon/exec/evaluate.h"
#include "tenon/exec/observe.h"
#include "tenon/exec/plan.h"
#include "tenon/exec/program_step.h"
#include "tenon/exec/reuse.h"
#include "tenon/exec/session.h"
#include "tenon/tensor/axis_order.h"
#include "tenon/tensor/tensor_view.h"

namespace tenon::exec {
namespace {

Tensor with_order(const TensorType& type, const Ints& order) {
  Ref<Buffer> buffer = Buffer::allocate(static_cast<size_t>(bytes_of(type)));
  if (session().options().poison) overwrite(*buffer);
  return from_buffer(std::move(buffer), type, strides_in_order(type.shape, order), 0);
}

// x broadcast to `shape`.
ConstView broadcast(const Tensor& x, const Shape& shape) {
  ConstView v = view(x);
  const size_t lead = shape.size() - v.shape.size();
  Shape strides(shape.size(), 0);
  for (size_t i = 0; i < v.shape.size(); ++i) strides[lead + i] = v.shape[i] == 1 ? 0 : v.strides[i];
  v.shape = shape;
  v.strides = strides;
  return v;
}

// The examples [from, from + count) of x, where they lie.
Tensor examples_of(const Tensor& x, int64_t from, int64_t count) {
  const TensorImpl& impl = *x.impl();
  Shape shape = impl.type.shape;
  shape[0] = count;
  return from_buffer(impl.buffer, {impl.type.dtype, shape}, impl.strides, impl.offset + from * impl.strides[0]);
}

// x with axes of extent 1 in front up to the order's rank, and then in that order.
Tensor permuted(const Tensor& x, const Ints& order) {
  const TensorImpl& impl = *x.impl();
  const size_t lead = order.size() - impl.type.shape.size();
  Shape shape, strides;
  for (const int64_t axis : order) {
    const auto a = static_cast<size_t>(axis);
    shape.push_back(a < lead ? 1 : impl.type.shape[a - lead]);
    strides.push_back(a < lead ? 0 : impl.strides[a - lead]);
  }
  return from_buffer(impl.buffer, {impl.type.dtype, shape}, strides, impl.offset);
}

}  // namespace

// What a step reads and writes that has the examples of its result along the first axis, in bytes; 0 if the step
// cannot run for some of them, or gains nothing by it because what does not change, which is read anew for each, is
// more than that of one example.
int64_t Program::changing_bytes(const Step& step) const {
  if (!step.kernel || !step.kernel->examples_apart()) return 0;
  const TensorType& result = step.results[0];
  if (result.shape.empty() || result.shape[0] < 2 || (!step.order.empty() && step.order[0] != 0)) return 0;
  const int64_t examples = result.shape[0];
  const size_t own = step.own();
  int64_t changing = bytes_of(result), constant = 0;
  for (size_t i = 0; i < step.inputs.size(); ++i) {
    if (step.inputs[i] == ir::kAbsent) continue;
    const TensorType& type = graph_->type(step.inputs[i]);
    const bool apart = step.apart(i, type.shape, examples) && (i >= own || !is_constant(step.inputs[i]));
    // The first input has the examples; constants behind it are the kernel's, as weights.
    if (i < own && !apart && (i == 0 || !is_constant(step.inputs[i]))) return 0;
    (apart ? changing : constant) += bytes_of(type);
  }
  return changing / examples > constant ? changing : 0;
}

void Program::find_sections() {
  // About half of what a second cache of today holds; of what changes by example and step, for each thread.
  constexpr int64_t kTogether = 1024 * 1024;
  for (size_t first = 0; first < steps_.size(); ++first) {
    Section section{first, first, 0, 0};
    int64_t most = 0;
    for (; section.end < steps_.size(); ++section.end) {
      const int64_t bytes = changing_bytes(steps_[section.end]);
      if (bytes == 0) break;
      const int64_t examples = steps_[section.end].results[0].shape[0];
      if (section.examples != 0 && examples != section.examples) break;
      section.examples = examples;
      most = std::max(most, bytes / examples);
    }
    if (section.end < first + 2) continue;
    section.together = std::max<int64_t>(1, kTogether * session().pool().threads() / most);
    if (section.together < section.examples) {
      sections_.push_back(section);
      summary_.by_example += static_cast<int>(section.end - first);
    }
    first = section.end - 1;
  }
}

// When results of prepared calls live that only prepared calls read; any other reader might keep a window on one. The
// others have no bytes.
struct Program::Uses {
  std::vector<Lifetime> lives;  // by step
  std::vector<int> maker;       // by value: the step that makes it, below 0 where it has no place in the arena
  std::vector<int> readers;     // by value
};

// A section runs more than once: what it gives to others lives from its first step on, and what it gets to its last.
Program::Uses Program::uses() {
  const size_t values = graph_->values.size();
  Uses all{std::vector<Lifetime>(steps_.size()), std::vector<int>(values, -1), std::vector<int>(values, 0)};
  for (const ir::ValueId id : graph_->outputs) all.maker[static_cast<size_t>(id)] = -2;
  for (size_t s = 0; s < steps_.size(); ++s) {
    const auto now = static_cast<int32_t>(s);
    for (const ir::ValueId id : steps_[s].inputs) {
      if (id == ir::kAbsent) continue;
      ++all.readers[static_cast<size_t>(id)];
      if (all.maker[static_cast<size_t>(id)] < 0) continue;
      Lifetime& life = all.lives[static_cast<size_t>(all.maker[static_cast<size_t>(id)])];
      life.last = now;
      if (!steps_[s].kernel) life.bytes = 0;
    }
    if (!steps_[s].kernel || all.maker[static_cast<size_t>(steps_[s].outputs[0])] == -2) continue;
    all.maker[static_cast<size_t>(steps_[s].outputs[0])] = now;
    all.lives[s] = {.bytes = bytes_of(steps_[s].results[0]), .first = now, .last = now};
  }
  for (const Section& section : sections_) {
    const auto first = static_cast<int32_t>(section.first), last = static_cast<int32_t>(section.end) - 1;
    for (size_t s = 0; s < section.end; ++s) {
      Lifetime& life = all.lives[s];
      if (life.bytes == 0) continue;
      if (life.first < first) {
        if (life.last >= first) life.last = std::max(life.last, last);
      } else if (life.last > last) {
        life.first = first;
      } else {
        steps_[s].inner = true;
        life.bytes = life.bytes / section.examples * section.together;
      }
    }
  }
  return all;
}

// Where a step's result lies in that of another.
struct Program::Part {
  int of = -1;        // the step; -1: it is no part
  int64_t first = 0;  // element
  Shape strides = {};
};

// Results that only a step reads that joins its inputs are written as parts of its own, which then lives longer. Such a
// step may be a part itself, so the last are looked at first.
std::vector<Program::Part> Program::put_together(Uses& uses) const {
  std::vector<Part> parts(steps_.size());
  for (size_t s = steps_.size(); s-- > 0;) {
    const Step& step = steps_[s];
    const auto axis = step.kernel ? step.kernel->joins_along() : std::nullopt;
    if (!axis || (uses.lives[s].bytes == 0 && parts[s].of < 0)) continue;
    Part whole = parts[s];
    if (whole.of < 0) whole = {static_cast<int>(s), 0, strides_in_order(step.results[0].shape, step.order)};
    const bool some_at_a_time = steps_[static_cast<size_t>(whole.of)].inner;
    for (const ir::ValueId id : step.inputs) {
      const Part here = whole;
      whole.first += graph_->type(id).shape[*axis] * whole.strides[*axis];
      const int at = uses.maker[static_cast<size_t>(id)];
      if (at < 0 || uses.readers[static_cast<size_t>(id)] != 1) continue;
      const Step& maker = steps_[static_cast<size_t>(at)];
      Lifetime& life = uses.lives[static_cast<size_t>(at)];
      if (life.bytes == 0 || !maker.kernel->writes_parts() || maker.order != step.order) continue;
      if (some_at_a_time && !maker.inner) continue;  // the whole never has all examples
      parts[static_cast<size_t>(at)] = here;
      life.bytes = 0;
      Lifetime& root = uses.lives[static_cast<size_t>(here.of)];
      root.first = std::min(root.first, life.first);
    }
  }
  return parts;
}

// Places in the arena; nothing is put together where that would take more memory.
void Program::plan() {
  const auto planned = [](const Uses& of) {
    std::vector<Lifetime> lives;
    std::ranges::copy_if(of.lives, std::back_inserter(lives), [](const Lifetime& life) { return life.bytes > 0; });
    return plan_memory(lives);
  };
  Uses apart = uses(), together = apart;
  std::vector<Part> parts = put_together(together);
  MemoryPlan places = planned(together);
  if (MemoryPlan others = planned(apart); others.size < places.size) {
    places = std::move(others);
    together = std::move(apart);
    parts.assign(steps_.size(), {});
  }
  auto offset = places.offsets.begin();
  for (size_t s = 0; s < steps_.size(); ++s) {
    if (together.lives[s].bytes > 0) steps_[s].place = *offset++;
  }
  for (size_t s = 0; s < steps_.size(); ++s) {
    if (parts[s].of < 0) continue;
    Step& step = steps_[s];
    const Step& whole = steps_[static_cast<size_t>(parts[s].of)];
    step.place = whole.place + parts[s].first * element_size(step.results[0].dtype);
    step.strides = parts[s].strides;
    step.inner = whole.inner;
    ++summary_.parts;
  }
  summary_.arena_bytes = places.size;
}

Tensors Program::run(Tensors inputs) const {
  const SessionOptions& options = session().options();
  if (options.reference || !options.claims) return exec::run(*graph_, std::move(inputs));
  with_elements(inputs);
  check_inputs(*graph_, inputs);
  Tensors values = constants_;
  for (size_t i = 0; i < inputs.size(); ++i) values[static_cast<size_t>(graph_->inputs[i])] = std::move(inputs[i]);
  Ref<Buffer> arena;
  {
    const std::lock_guard lock(mutex_);
    if (!arenas_.empty()) {
      arena = std::move(arenas_.back());
      arenas_.pop_back();
    }
  }
  if (!arena && summary_.arena_bytes > 0) arena = Buffer::allocate(static_cast<size_t>(summary_.arena_bytes));
  if (arena && options.poison) overwrite(*arena);
  auto section = sections_.begin();
  for (size_t s = 0; s < steps_.size(); ++s) {
    if (section != sections_.end() && section->first == s) {
      run_section(*section, values, arena);
      s = section++->end - 1;
      continue;
    }
    const Step& step = steps_[s];
    Tensors out = run_step(step, values, arena);
    for (size_t i = 0; i < step.outputs.size(); ++i) values[static_cast<size_t>(step.outputs[i])] = std::move(out[i]);
  }
  if (arena) {
    const std::lock_guard lock(mutex_);
    arenas_.push_back(std::move(arena));
  }
  Tensors results;
  for (const ir::ValueId id : graph_->outputs) {
    Tensor& value = values[static_cast<size_t>(id)];
    if (ordered_[static_cast<size_t>(id)] != 0) value = contiguous(value);
    results.push_back(value);
  }
  return results;
}

Tensors Program::run_step(const Step& step, Tensors& values, const Ref<Buffer>& arena) const {
  Tensors in;
  in.reserve(step.inputs.size());
  for (size_t i = 0; i < step.inputs.size(); ++i) {
    if (step.inputs[i] == ir::kAbsent) {
      in.emplace_back();
      continue;
    }
    // The last reader gets the only handle, so that the result may take the buffer.
    Tensor& value = values[static_cast<size_t>(step.inputs[i])];
    in.push_back(step.last[i] != 0 ? std::move(value) : value);
  }
  if (step.kernel == nullptr && step.order.empty()) {
    // What a call sees is what it sees in exec::run.
    for (size_t i = 0; i < in.size(); ++i) {
      if (in[i].defined() && ordered_[static_cast<size_t>(step.inputs[i])] != 0) in[i] = contiguous(in[i]);
    }
    Tensors out = evaluate(*step.node->op, std::move(in), step.node->attrs, step.results);
    with_elements(out);
    return out;
  }
  if (step.kernel == nullptr) {
    Shape shape;
    for (const int64_t axis : step.order) shape.push_back(step.results[0].shape[static_cast<size_t>(axis)]);
    const TensorType type{step.results[0].dtype, shape};
    for (Tensor& x : in) x = permuted(x, step.order);
    const Tensors out = evaluate(*step.node->op, std::move(in), step.node->attrs, {&type, 1});
    const TensorImpl& y = *out[0].impl();
    return {from_buffer(y.buffer, step.results[0], strides_in_order(step.results[0].shape, step.order), y.offset)};
  }
  return run_kernel(step, std::move(in), result_of(step, step.results[0], arena));
}

// Of this type, in the arena or in memory of its own.
Tensor Program::result_of(const Step& step, const TensorType& type, const Ref<Buffer>& arena) {
  if (step.place < 0) return with_order(type, step.order);
  // Prepared kernels give whole bytes.
  const Shape strides = step.strides.empty() ? strides_in_order(type.shape, step.order) : step.strides;
  return from_buffer(arena, type, strides, step.place / element_size(type.dtype));
}

// Of all examples, or of those that `y` is for.
Tensors Program::run_kernel(const Step& step, Tensors in, Tensor y) const {
  const auto call = [&] {
    const size_t own = step.own();
    std::vector<ConstView> views, operands;
    for (size_t i = 0; i < own; ++i) views.push_back(in[i].defined() ? view(in[i]) : ConstView{});
    for (size_t i = own; i < in.size(); ++i) {
      Shape shape = step.meets[i - own];
      if (!shape.empty() && shape[0] == step.results[0].shape[0]) shape[0] = y.shape(0);
      operands.push_back(broadcast(in[i], shape));
    }
    const TensorImpl& to = *y.impl();
    step.kernel->run(views, operands, {to.buffer->data(), to.type.dtype, to.type.shape, to.strides, to.offset},
                     session().pool());
    return Tensors{y};
  };
  const ops::OpDef* op = step.several ? nullptr : step.node->op;
  return observed({.name = step.name, .op = op, .attrs = &step.node->attrs, .inputs = &in}, call);
}

void Program::run_section(const Section& section, Tensors& values, const Ref<Buffer>& arena) const {
  const std::span<const Step> steps(steps_.data() + section.first, section.end - section.first);
  const auto value = [&](ir::ValueId id) -> Tensor& { return values[static_cast<size_t>(id)]; };
  for (const Step& step : steps) {
    if (!step.inner) value(step.outputs[0]) = result_of(step, step.results[0], arena);
  }
  for (int64_t from = 0; from < section.examples; from += section.together) {
    const int64_t count = std::min(section.together, section.examples - from);
    for (const Step& step : steps) {
      Tensors in;
      for (size_t i = 0; i < step.inputs.size(); ++i) {
        const ir::ValueId id = step.inputs[i];
        if (id == ir::kAbsent) {
          in.emplace_back();
          continue;
        }
        // What the section makes for itself has these examples alone.
        const Tensor& x = value(id);
        const bool apart = step.apart(i, x.shape(), section.examples) && (i >= step.own() || !is_constant(id));
        in.push_back(apart ? examples_of(x, from, count) : x);
      }
      TensorType type = step.results[0];
      type.shape[0] = count;
      Tensor y = step.inner ? result_of(step, type, arena) : examples_of(value(step.outputs[0]), from, count);
      y = run_kernel(step, std::move(in), std::move(y))[0];
      if (step.inner) value(step.outputs[0]) = std::move(y);
    }
  }
  for (const Step& step : steps) {
    for (size_t i = 0; i < step.inputs.size(); ++i) {
      if (step.last[i] != 0) value(step.inputs[i]) = Tensor();
    }
  }
}

}  // namespace tenon::exec
