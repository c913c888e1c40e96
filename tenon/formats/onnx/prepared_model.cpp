#include "tenon/formats/onnx/prepared_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <list>
#include <mutex>
#include <utility>

#include "tenon/base/error.h"
#include "tenon/exec/program.h"
#include "tenon/formats/onnx/capture.h"
#include "tenon/formats/onnx/node_watch.h"
#include "tenon/ops/creation.h"
#include "tenon/trace/autocast.h"
#include "tenon/trace/capture.h"
#include "tenon/trace/state.h"

namespace tenon::formats::onnx {
namespace {

// A model of which so many kinds of inputs have no program, and none has one, is not tried again.
constexpr int kMostFailures = 8;
// Programs for the values of inputs are worth it where values come back.
constexpr int64_t kMostValueMisses = 32;
// Inputs of which the elements may be a part of what a program is made for: numbers and lists, as shapes and axes are,
// and as scales are where the whole ones alone do not do.
constexpr int64_t kMostNumbers = 16;
enum class Lists : uint8_t { None, Whole, Any };

bool is_number_list(const TensorType& type, Lists which) {
  const bool whole = type.dtype == DType::I64 || type.dtype == DType::I32 || type.dtype == DType::Bool;
  const bool taken = which == Lists::Any ? whole || is_float(type.dtype) : which == Lists::Whole && whole;
  return taken && type.shape.size() <= 1 && numel(type.shape) <= kMostNumbers;
}

// Whether nobody but the caller wants to know of the calls that a run makes.
bool only_computes() {
  const trace::ThreadState& state = trace::state();
  return state.recorders.empty() && state.lazy == nullptr && state.vmap_level == 0 && autocast_dtype() == DType::F32;
}

bool is_plain(const Value& value, bool gradients) {
  const Tensor* x = value.tensor();
  return x != nullptr && x->defined() && x->impl()->buffer && !x->impl()->weak && !(gradients && x->requires_grad());
}

// The problem in one line, behind the operator.
std::string reason_of(const NodeWatch& watch, const std::exception& error) {
  const auto* typed = dynamic_cast<const Error*>(&error);
  std::string text = typed != nullptr ? typed->parts().problem : error.what();
  if (watch.node != nullptr) text = fmt::format("{}: {}", watch.node->op_type, text);
  std::ranges::replace(text, '\n', ' ');
  return text;
}

// Empty for a tensor, and where the file does not say.
std::string no_tensor(const ValueInfo& info, const char* what) {
  const TypeData& type = info.type;
  const bool numbers = type.element == DataType::Undefined || has_dtype(type.element);
  const bool fine = type.kind == TypeData::Kind::None || (type.kind == TypeData::Kind::Tensor && numbers);
  return fine ? "" : fmt::format("{} '{}' is no tensor of numbers", what, info.name);
}

bool all_extents_known(const TypeData& type) {
  return type.has_shape && std::ranges::all_of(type.dims, [](const std::string& dim) {
           return !dim.empty() && dim.size() < 10 && dim.find_first_not_of("0123456789") == std::string::npos;
         });
}

}  // namespace

struct PreparedModel::State {
  // What a program is made for: the inputs' types, and the elements of those that it has as constants.
  struct Entry {
    std::vector<TensorType> types;
    std::vector<uint8_t> constant;  // by input
    std::vector<int64_t> numbers;   // of those that are not whole, the bits
    std::once_flag once;
    // Read and written under `mutex`.
    std::shared_ptr<const exec::Program> program;
    std::string reason;  // why there is none
    bool counted = false;
  };
  using EntryPtr = std::shared_ptr<Entry>;
  using ProgramPtr = std::shared_ptr<const exec::Program>;

  State(Model of, const PreparedOptions& with) : model(std::move(of)), options(with), inputs(model.inputs()) {
    for (const auto& [name, value] : model.parameters()) {
      const Tensor* x = value.tensor();
      if (x == nullptr) continue;
      trained = trained || x->requires_grad();
      if (x->is_concrete()) kept->hold(x->impl()->buffer);
    }
    weights = captured_weights(model);
    for (const auto& info : inputs)
      if (never.empty()) never = no_tensor(info, "input");
    for (const auto& info : model.outputs())
      if (never.empty()) never = no_tensor(info, "output");
    if (!options.programs) never = "programs are switched off";
  }

  const Model model;
  const PreparedOptions options;
  const std::vector<ValueInfo> inputs;
  StateDict weights;
  bool trained = false;  // a gradient may flow to a parameter
  std::shared_ptr<KeptConstants> kept = std::make_shared<KeptConstants>();

  // Captures go one after the other: they share `constants`.
  std::mutex making;
  std::map<const void*, Tensor> constants;

  mutable std::mutex mutex;
  std::list<EntryPtr> entries;   // the last used first
  Lists deciding = Lists::None;  // programs are made for the elements of such inputs
  std::string never;             // why no inputs at all have a program
  std::string last_reason;       // why the last inputs that have none have none
  int failures = 0;
  int64_t value_misses = 0, programs_made = 0;
  std::atomic<int64_t> program_runs{0}, node_runs{0};

  [[nodiscard]] bool takes(const Values& given) const {
    if (given.size() != inputs.size() || !only_computes()) return false;
    const bool gradients = grad_enabled();
    if (gradients && trained) return false;
    return std::ranges::all_of(given, [&](const Value& value) { return is_plain(value, gradients); });
  }

  static std::vector<int64_t> numbers_of(const Values& given, const std::vector<uint8_t>& constant) {
    std::vector<int64_t> numbers;
    for (size_t i = 0; i < given.size(); ++i) {
      if (constant[i] == 0) continue;
      const Tensor& x = *given[i].tensor();
      if (is_float(x.dtype())) {
        for (const double v : x.to_vector<double>()) numbers.push_back(std::bit_cast<int64_t>(v));
        continue;
      }
      const auto list = x.to_vector<int64_t>();
      numbers.insert(numbers.end(), list.begin(), list.end());
    }
    return numbers;
  }
  static bool fits(const Entry& entry, const Values& given) {
    for (size_t i = 0; i < given.size(); ++i)
      if (entry.types[i] != given[i].tensor()->type()) return false;
    return entry.numbers.empty() || entry.numbers == numbers_of(given, entry.constant);
  }
  static std::vector<uint8_t> number_lists(const Values& given, Lists which) {
    std::vector<uint8_t> list;
    for (const Value& value : given) list.push_back(is_number_list(value.tensor()->type(), which) ? 1 : 0);
    return list;
  }
  // Whether it is worth trying what takes these as constants; without the others nothing would be computed any more.
  static bool some(const std::vector<uint8_t>& lists) {
    const auto count = std::ranges::count(lists, 1);
    return count > 0 && std::cmp_less(count, lists.size());
  }

  // The entry for these inputs, in front of all others; null if no inputs have a program.
  EntryPtr find(const Values& given, ProgramPtr& program, bool& made) {
    const std::lock_guard lock(mutex);
    if (!never.empty()) return nullptr;
    for (auto at = entries.begin(); at != entries.end(); ++at) {
      if (!fits(**at, given)) continue;
      if (at != entries.begin()) entries.splice(entries.begin(), entries, at);
      const EntryPtr& entry = entries.front();
      program = entry->program;
      made = program || !entry->reason.empty();
      return entry;
    }
    auto entry = std::make_shared<Entry>();
    for (const Value& value : given) entry->types.push_back(value.tensor()->type());
    entry->constant = number_lists(given, deciding);
    entry->numbers = numbers_of(given, entry->constant);
    if (!entry->numbers.empty() && ++value_misses > kMostValueMisses + program_runs / 4) {
      never = "the values of its inputs decide about the graph, and they are others each time";
      entries.clear();
      return nullptr;
    }
    entries.push_front(entry);
    if (entries.size() > options.most_programs) entries.pop_back();
    made = false;
    return entry;
  }

  // The inputs as a program takes them: those that it has as constants are left out.
  static Tensors arguments(const Values& given, const std::vector<uint8_t>& constant) {
    Tensors list;
    list.reserve(given.size());
    for (size_t i = 0; i < given.size(); ++i)
      if (constant[i] == 0) list.push_back(*given[i].tensor());
    return list;
  }

  [[nodiscard]] ir::Graph captured(const Values& given, const std::vector<uint8_t>& constant, NodeWatch& watch) const {
    std::vector<InputSpec> specs;
    for (size_t i = 0; i < given.size(); ++i)
      if (constant[i] == 0) specs.emplace_back(inputs[i].name, given[i].tensor()->type());
    const auto fn = [&](const Tensors& in) {
      Values all;
      size_t next = 0;
      for (size_t i = 0; i < given.size(); ++i) all.push_back(constant[i] != 0 ? given[i] : Value(in[next++]));
      const Values values = model.run_in_order(std::move(all), &watch);
      Tensors out;
      for (size_t i = 0; i < values.size(); ++i) {
        if (!values[i].tensor())
          throw UnsupportedError(
              {{}, fmt::format("output '{}' is {}", model.outputs()[i].name, values[i].describe()), {}, {}, {}});
        out.push_back(*values[i].tensor());
      }
      return out;
    };
    return capture(fn, specs, {.weights = weights, .check = false});
  }

  // A program for these inputs; null, and the reason.
  ProgramPtr make(const Values& given, const std::vector<uint8_t>& constant, std::string& reason) {
    const std::lock_guard lock(making);
    NodeWatch watch;
    watch.constants.swap(constants);
    ProgramPtr program;
    try {
      auto graph = std::make_shared<const ir::Graph>(captured(given, constant, watch));
      for (const auto& [place, x] : watch.constants) kept->hold(x.impl()->buffer);
      program = std::make_shared<const exec::Program>(std::move(graph), kept, options.precision);
    } catch (const std::exception& error) {
      reason = reason_of(watch, error);
    }
    constants.swap(watch.constants);
    return program;
  }

  // Makes the entry's program; where that needs the values of numbers and lists, for these values, if they are `known`.
  void fill(Entry& entry, const Values& given, bool known) {
    std::string reason;
    std::vector<uint8_t> constant = entry.constant;
    ProgramPtr program = make(given, constant, reason);
    Lists needed = Lists::None;
    for (const Lists which : {Lists::Whole, Lists::Any}) {
      if (program || !known) break;
      std::vector<uint8_t> lists = number_lists(given, which);
      if (std::ranges::count(lists, 1) <= std::ranges::count(constant, 1)) continue;
      if (which == Lists::Any && !some(lists)) continue;
      std::string ignored;
      program = make(given, lists, ignored);
      constant = std::move(lists);
      needed = which;
    }
    const std::lock_guard lock(mutex);
    if (!program) {
      entry.reason = reason;
      return;
    }
    if (needed != Lists::None) {
      deciding = std::max(deciding, needed);
      entry.numbers = numbers_of(given, constant);
      entry.constant = std::move(constant);
    }
    entry.program = std::move(program);
    ++programs_made;
    keep_few();
  }

  // Under the lock: what was not used for longest goes until the rest is small enough.
  void keep_few() {
    const auto bytes_of = [](const EntryPtr& entry) {
      return entry->program ? entry->program->summary().arena_bytes : 0;
    };
    int64_t bytes = 0;
    for (const EntryPtr& entry : entries) bytes += bytes_of(entry);
    while (bytes > options.most_bytes && entries.size() > 1) {
      bytes -= bytes_of(entries.back());
      entries.pop_back();
    }
  }

  Values run_program(const exec::Program& program, const Entry& entry, const Values& given) {
    Tensors out = program.run(arguments(given, entry.constant));
    ++program_runs;
    return {std::make_move_iterator(out.begin()), std::make_move_iterator(out.end())};
  }

  // The program for these inputs, made if it is not there yet; null if there is none. `known`: see fill().
  ProgramPtr program_for(const Values& given, EntryPtr& entry, bool known = true) {
    for (int attempt = 0; attempt < 2; ++attempt) {
      ProgramPtr program;
      bool made = false;
      entry = find(given, program, made);
      if (!entry || made) return program;
      try {
        model.check_inputs(given);
      } catch (...) {
        drop(entry);
        throw;
      }
      std::call_once(entry->once, [&] { fill(*entry, given, known); });
      // While this thread waited, another may have made it for the values that it had.
      const std::lock_guard lock(mutex);
      if (fits(*entry, given)) return entry->program;
    }
    entry = nullptr;
    return nullptr;
  }

  void drop(const EntryPtr& entry) {
    const std::lock_guard lock(mutex);
    entries.remove(entry);
  }

  // A run node by node was done. Its inputs have no program, or one that could not run them.
  void ran_by_node(const EntryPtr& entry, const std::string& failed) {
    ++node_runs;
    if (!entry) return;
    const std::lock_guard lock(mutex);
    if (!failed.empty()) {
      entry->program.reset();
      entry->reason = failed;
    }
    last_reason = entry->reason;
    if (std::exchange(entry->counted, true)) return;
    if (++failures >= kMostFailures && programs_made == 0) {
      never = last_reason;
      entries.clear();
    }
  }
};

PreparedModel::PreparedModel(Model model, const PreparedOptions& options)
    : state_(std::make_shared<State>(std::move(model), options)) {}

PreparedModel PreparedModel::load(const std::filesystem::path& path, const PreparedOptions& options) {
  return PreparedModel(Model::load(path), options);
}

const Model& PreparedModel::model() const { return state_->model; }

Values PreparedModel::run_in_order(Values given) const {
  State& state = *state_;
  State::EntryPtr entry;
  State::ProgramPtr program;
  std::string failed;
  if (state.takes(given)) {
    program = state.program_for(given, entry);
    try {
      if (program) return state.run_program(*program, *entry, given);
    } catch (const Error& error) {
      failed = error.parts().problem;  // run node by node, the error names the node
    }
  }
  try {
    Values out = state.model.run_in_order(std::move(given));
    state.ran_by_node(entry, failed);
    return out;
  } catch (const Error&) {
    if (entry && !program) state.drop(entry);  // the inputs are wrong: nothing to remember
    throw;
  }
}

Values PreparedModel::run(const std::map<std::string, Value>& inputs) const {
  Values given;
  for (const auto& info : state_->inputs) {
    const auto found = inputs.find(info.name);
    if (found == inputs.end()) break;
    given.push_back(found->second);
  }
  // An input that is missing, unknown, or in the place of a weight: the model knows what to do or to say.
  if (given.size() != state_->inputs.size() || given.size() != inputs.size()) {
    Values out = state_->model.run(inputs);
    state_->ran_by_node(nullptr, {});
    return out;
  }
  return run_in_order(std::move(given));
}

Tensors PreparedModel::operator()(const Tensors& given) const {
  return state_->model.tensors_of(run_in_order(Values(given.begin(), given.end())));
}

void PreparedModel::prepare() const {
  State& state = *state_;
  Values given;
  for (const auto& info : state.inputs) {
    if (info.type.kind != TypeData::Kind::Tensor || !has_dtype(info.type.element) || !all_extents_known(info.type))
      return;
    Shape shape;
    for (const std::string& dim : info.type.dims) shape.push_back(std::stoll(dim));
    given.emplace_back(zeros(shape, dtype_of(info.type.element, info.name)));
  }
  // Where values decide, nothing can be made before they are there.
  if (std::ranges::count(State::number_lists(given, Lists::Whole), 1) > 0) return;
  const NoGrad no_grad;
  if (!state.takes(given)) return;
  State::EntryPtr entry;
  if (state.program_for(given, entry, false) || !entry) return;
  if (State::some(State::number_lists(given, Lists::Any))) return state.drop(entry);  // the values that come may do
  const std::lock_guard lock(state.mutex);
  state.last_reason = entry->reason;
}

PreparedModel::Report PreparedModel::report() const {
  const State& state = *state_;
  const std::lock_guard lock(state.mutex);
  Report report{.programs_made = state.programs_made,
                .program_runs = state.program_runs,
                .node_runs = state.node_runs,
                .weight_bytes = state.kept->bytes()};
  for (const auto& entry : state.entries) report.programs_kept += entry->program ? 1 : 0;
  report.reason = !state.never.empty() ? state.never : state.last_reason;
  return report;
}

std::string PreparedModel::execution() const {
  const Report now = report();
  const std::string by_node = now.reason.empty() ? "node by node" : fmt::format("node by node ({})", now.reason);
  if (now.programs_made > 0) return now.reason.empty() ? "as a program" : "as a program, some inputs " + by_node;
  return now.reason.empty() ? "as a program, made with the first inputs" : by_node;
}

}  // namespace tenon::formats::onnx
