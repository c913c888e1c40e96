#include "tenon/exec/program.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <set>

#include "tenon/exec/evaluate.h"
#include "tenon/exec/program_step.h"
#include "tenon/exec/reuse.h"
#include "tenon/exec/session.h"
#include "tenon/ir/compose.h"
#include "tenon/tensor/axis_order.h"
#include "tenon/tensor/tensor_view.h"

namespace tenon::exec {
namespace {

constexpr int64_t kFoldedBytes = 64 * 1024;  // of a result that is kept in any case

bool is_elementwise(const ir::Node& node) { return std::holds_alternative<ops::Elementwise>(node.op->meaning); }

std::vector<TensorType> result_types(const ir::Graph& graph, const ir::Node& node) {
  std::vector<TensorType> types;
  for (const ir::ValueId id : node.outputs) types.push_back(graph.type(id));
  return types;
}

}  // namespace

// Steps in the order of the nodes. A prepared call takes the elementwise ops behind it as long as each is the only
// reader of the value before it, and reads besides only what is there when the call runs.
struct Program::Maker {
  Program& program;
  const ir::Graph& graph = *program.graph_;
  struct Call {
    const ir::Node* node;
    const Claim* claim;  // if it may be made ready
    std::vector<const ir::Node*> after;
    std::vector<ir::ValueId> operands;
    std::optional<ir::ScalarProgram> follow;
    std::vector<Tensor> scaled = {};  // weights and bias with a factor in them, or nothing
    [[nodiscard]] ir::ValueId result() const { return after.empty() ? node->outputs[0] : after.back()->outputs[0]; }
  };
  std::vector<Call> calls = {};
  std::set<const ir::Node*> taken = {};  // went into a call with the op before them
  std::vector<int> readers = std::vector<int>(graph.values.size(), 0);
  std::vector<int> made_by = std::vector<int>(graph.values.size(), -1);  // the call; -1: an input or a constant
  std::vector<Ints> order = std::vector<Ints>(graph.values.size());

  [[nodiscard]] const Tensor& constant(ir::ValueId id) const { return program.constants_[static_cast<size_t>(id)]; }
  [[nodiscard]] int maker_of(ir::ValueId id) const { return made_by[static_cast<size_t>(id)]; }

  void make() {
    program.constants_.resize(graph.values.size());
    for (const ir::Node& node : graph.nodes) fold(node);
    for (const ir::Node& node : graph.nodes) {
      if (computed(node)) continue;
      for (const ir::ValueId id : node.inputs) {
        if (id != ir::kAbsent) ++readers[static_cast<size_t>(id)];
      }
    }
    for (const ir::ValueId id : graph.outputs) ++readers[static_cast<size_t>(id)];
    for (const ir::Node& node : graph.nodes) {
      if (!computed(node) && !join(node) && !cut_rows(node)) open(node);
    }
    for (Call& call : calls) emit(call);
    for (const Ints& axes : order) program.ordered_.push_back(axes.empty() ? 0 : 1);
  }

  [[nodiscard]] bool computed(const ir::Node& node) const {
    return node.outputs.empty() || constant(node.outputs[0]).defined();
  }

  void fold(const ir::Node& node) {
    if (node.op == nullptr) {
      program.constants_[static_cast<size_t>(node.outputs[0])] = node.constant;
      return;
    }
    if (std::holds_alternative<ops::ControlFlow>(node.op->meaning)) return;
    const bool known = std::all_of(node.inputs.begin(), node.inputs.end(),
                                   [&](ir::ValueId id) { return id == ir::kAbsent || constant(id).defined(); });
    if (!known) return;
    int64_t bytes = 0, from = 0;
    for (const ir::ValueId id : node.inputs) from += id == ir::kAbsent ? 0 : bytes_of(graph.type(id));
    // The result of a data-dependent op has the shape that it had in the capture.
    for (const ir::ValueId id : node.outputs) bytes += bytes_of(graph.type(id));
    const bool window = std::holds_alternative<ops::Relayout>(node.op->meaning);
    // What is smaller than what it is made of, as weights that are rounded to bf16.
    if (!window && bytes > std::max(kFoldedBytes, from / 2)) return;
    const auto compute = [&] {
      Tensors in;
      for (const ir::ValueId id : node.inputs) in.push_back(id == ir::kAbsent ? Tensor() : constant(id));
      Tensors out = evaluate(*node.op, std::move(in), node.attrs, result_types(graph, node));
      with_elements(out);
      return out;
    };
    const bool shared = !window && node.outputs.size() == 1 && bytes > 0 && held(node);
    const Tensors out = shared ? Tensors{kept(node, graph.type(node.outputs[0]), Kept::Result, compute)} : compute();
    for (size_t i = 0; i < out.size(); ++i) program.constants_[static_cast<size_t>(node.outputs[i])] = out[i];
    ++program.summary_.folded;
  }

  // Whether all inputs are constants that stay as long as what is kept.
  [[nodiscard]] bool held(const ir::Node& node) const {
    return std::all_of(node.inputs.begin(), node.inputs.end(), [&](ir::ValueId id) {
      return id == ir::kAbsent || !constant(id).defined() || program.kept_->holds(*constant(id).impl()->buffer);
    });
  }

  // What is kept of a node; no number of groups, which a kernel has at this place of a key.
  enum class Kept : int64_t { Result = -3, ScaledWeights = -5 };
  // One copy for all programs of these constants, at an address that stays theirs: what kernels keep goes by addresses.
  template <class F>
  Tensor kept(const ir::Node& node, const TensorType& type, Kept what, const F& compute) {
    std::vector<int64_t> key{static_cast<int64_t>(reinterpret_cast<intptr_t>(node.op)), static_cast<int64_t>(what)};
    for (const ir::ValueId id : node.inputs) {
      if (id == ir::kAbsent) {
        key.push_back(-1);
        continue;
      }
      const TensorImpl& x = *constant(id).impl();
      key.push_back(static_cast<int64_t>(reinterpret_cast<intptr_t>(x.buffer->data())));
      key.push_back(x.offset);
      key.push_back(static_cast<int64_t>(x.type.dtype));
      for (const Shape& part : {x.type.shape, Shape(x.strides.begin(), x.strides.end())}) {
        key.push_back(static_cast<int64_t>(part.size()));
        key.insert(key.end(), part.begin(), part.end());
      }
    }
    for (const ir::AttrValue& value : node.attrs) {
      const std::string text = ir::to_string(value);
      key.push_back(static_cast<int64_t>(text.size()));
      key.insert(key.end(), text.begin(), text.end());
    }
    const auto dense = contiguous_strides(type.shape);
    const Ref<Buffer> buffer = program.kept_->get(key, [&] {
      const Tensor x = compute()[0];
      if (x.impl()->strides == dense && x.impl()->offset == 0) return x.impl()->buffer;
      Ref<Buffer> copied = Buffer::allocate(static_cast<size_t>(bytes_of(type)));
      session().device().copy(view(x), {copied->data(), type.dtype, type.shape, dense, 0}, session().pool());
      return copied;
    });
    program.kept_->hold(buffer);
    return from_buffer(buffer, type, dense, 0);
  }

  // Elementwise ops that become a part of a call together, as one scalar program.
  struct Piece {
    std::vector<const ir::Node*> nodes;
    ir::ScalarProgram program;
    std::vector<ir::ValueId> inputs;  // of the program
  };
  [[nodiscard]] Piece piece_of(const ir::Node& node) const {
    std::vector<DType> dtypes;
    for (const ir::ValueId id : node.inputs) dtypes.push_back(graph.type(id).dtype);
    return {{&node}, session().program(*node.op, dtypes, node.attrs, graph.type(node.outputs[0]).dtype), node.inputs};
  }

  // The elementwise op as a part of the call that makes one of its inputs last, alone or with the one behind it: in
  // x * sigmoid(x) two read x, so neither could go alone.
  bool join(const ir::Node& node) {
    if (taken.contains(&node)) return true;
    const auto fits = [](const ir::Node& n) {
      return is_elementwise(n) && !n.inputs.empty() && std::ranges::count(n.inputs, ir::kAbsent) == 0;
    };
    if (!fits(node)) return false;
    const Piece alone = piece_of(node);
    if (program.precision_ == Precision::Fast && scale(alone)) return true;
    if (attach(alone)) return true;
    const ir::ValueId result = node.outputs[0];
    const auto reads = [&](const ir::Node& n) { return std::ranges::count(n.inputs, result); };
    const auto behind = std::find_if(graph.nodes.begin() + (&node - graph.nodes.data()) + 1, graph.nodes.end(),
                                     [&](const ir::Node& n) { return reads(n) > 0; });
    if (behind == graph.nodes.end() || !fits(*behind) || reads(*behind) != readers[static_cast<size_t>(result)])
      return false;
    const Piece second = piece_of(*behind);
    Piece both{{&node, &*behind}, {}, alone.inputs};
    std::vector<int> joined;
    for (size_t i = 0; i < second.inputs.size(); ++i) {
      if (second.inputs[i] == result)
        joined.push_back(static_cast<int>(i));
      else
        both.inputs.push_back(second.inputs[i]);
    }
    both.program = ir::compose(alone.program, second.program, joined);
    if (!attach(both)) return false;
    taken.insert(&*behind);
    return true;
  }

  // A multiplication of a call's result, filter by filter, by constants: they go into its weights and its bias.
  bool scale(const Piece& piece) {
    const ir::Node& node = *piece.nodes[0];
    if (!is_product(piece.program)) return false;
    const size_t factor = constant(node.inputs[0]).defined() ? 0 : 1;
    const ir::ValueId value = node.inputs[1 - factor], scales = node.inputs[factor];
    const int at = maker_of(value);
    if (at < 0 || !constant(scales).defined() || readers[static_cast<size_t>(value)] != 1) return false;
    Call& call = calls[static_cast<size_t>(at)];
    const std::vector<ir::ValueId>& in = call.node->inputs;
    if (call.claim == nullptr || !call.claim->filters || !call.after.empty() || value != call.node->outputs[0])
      return false;
    if (!is_constant_f32(in[1]) || graph.type(scales).dtype != DType::F32) return false;
    const bool biased = in.size() > 2 && in[2] != ir::kAbsent;
    if (biased && !is_constant_f32(in[2])) return false;
    // One number for each filter, along the second axis of the result, or one for all.
    const Shape &result = graph.type(value).shape, &shape = graph.type(scales).shape;
    if (graph.type(node.outputs[0]).shape != result) return false;
    const int64_t filters = numel(shape);
    const size_t axis = 1 + shape.size();  // of `shape`, past its end by the result's rank
    if (filters != 1 && (axis < result.size() || shape[axis - result.size()] != filters)) return false;

    call.scaled = {multiplied(node, in[1], scales, graph.type(in[1]).shape.size())};
    if (biased) call.scaled.push_back(multiplied(node, in[2], scales, 1));
    call.after.push_back(&node);
    made_by[static_cast<size_t>(node.outputs[0])] = at;
    ++program.summary_.scaled;
    return true;
  }
  static bool is_product(const ir::ScalarProgram& p) {
    return p.inputs == 2 && p.code.size() == 3 && p.code[2].op == ir::ScalarOp::Mul &&
           p.code[2].args[0] != p.code[2].args[1];
  }
  [[nodiscard]] bool is_constant_f32(ir::ValueId id) const {
    return constant(id).defined() && graph.type(id).dtype == DType::F32;
  }
  // A constant [filters, …] of this rank times one number for each filter, or one for all, by the op of `product`.
  Tensor multiplied(const ir::Node& product, ir::ValueId weights, ir::ValueId scales, size_t rank) {
    ir::Node node = product;
    node.inputs = {weights, scales};
    node.outputs.clear();
    const TensorType& type = graph.type(weights);
    const auto compute = [&] {
      Shape shape(rank, 1);
      shape[0] = numel(graph.type(scales).shape);
      const Tensor factors = contiguous(constant(scales));
      const Tensor along =
          from_buffer(factors.impl()->buffer, {DType::F32, shape}, contiguous_strides(shape), factors.impl()->offset);
      return evaluate(*node.op, {constant(weights), along}, node.attrs, {&type, 1});
    };
    if (held(node)) return kept(node, type, Kept::ScaledWeights, compute);
    Tensor own = compute()[0];
    program.own_.hold(own.impl()->buffer);
    return own;
  }

  bool attach(const Piece& piece) {
    int at = -1;
    for (const ir::ValueId id : piece.inputs) at = std::max(at, maker_of(id));
    if (at < 0) return false;
    Call& call = calls[static_cast<size_t>(at)];
    const ir::ValueId value = call.result();
    if (call.claim == nullptr || call.claim->follows == nullptr) return false;
    for (const ir::Node* node : piece.nodes)
      if (graph.type(node->outputs[0]).shape != graph.type(value).shape) return false;
    std::vector<int> joined;
    std::vector<ir::ValueId> operands;
    for (size_t i = 0; i < piece.inputs.size(); ++i) {
      const ir::ValueId id = piece.inputs[i];
      if (id == value)
        joined.push_back(static_cast<int>(i));
      else if (maker_of(id) == at)
        return false;  // another result of the call
      else
        operands.push_back(id);
    }
    if (joined.empty() || readers[static_cast<size_t>(value)] != static_cast<int>(joined.size())) return false;
    const ir::ScalarProgram& own = piece.program;
    if (own.code.back().op == ir::ScalarOp::Input) return false;
    // The first joined input becomes the result of the call, which is input 0 of what follows.
    ir::ScalarProgram next = call.follow ? ir::compose(*call.follow, own, joined)
                                         : ir::compose(ir::identity(own.input(joined[0])), own, joined);
    if (!call.claim->follows(next)) return false;
    call.follow = std::move(next);
    call.operands.insert(call.operands.end(), operands.begin(), operands.end());
    for (const ir::Node* node : piece.nodes) {
      call.after.push_back(node);
      made_by[static_cast<size_t>(node->outputs[0])] = at;
    }
    return true;
  }

  // A reshape of a call's result that leaves its rows as they are, as a layer of more than two axes has behind its
  // product: the call makes that shape, and what follows it goes into the call.
  bool cut_rows(const ir::Node& node) {
    const auto* rule = std::get_if<ops::Relayout>(&node.op->meaning);
    if (rule == nullptr || node.inputs.size() != 1 || maker_of(node.inputs[0]) < 0) return false;
    const int at = maker_of(node.inputs[0]);
    Call& call = calls[static_cast<size_t>(at)];
    const ir::ValueId value = call.result();
    if (call.claim == nullptr || !call.claim->rows || node.inputs[0] != value ||
        readers[static_cast<size_t>(value)] != 1)
      return false;
    const Shape &from = graph.type(value).shape, &to = graph.type(node.outputs[0]).shape;
    if (from.empty() || to.empty() || from.back() != to.back() || numel(from) == 0 || numel(from) != numel(to))
      return false;
    ops::Window window;
    if (!rule->window({from, contiguous_strides(from), 0}, node.attrs, to, window) || window.offset != 0) return false;
    const Shape dense = contiguous_strides(to);
    for (size_t d = 0; d < to.size(); ++d)
      if (to[d] != 1 && window.strides[d] != dense[d]) return false;
    // Operands so far must mean the same in the other shape: one number, or one for each column.
    for (const ir::ValueId id : call.operands) {
      const Shape& shape = graph.type(id).shape;
      if (numel(shape) != 1 && shape.back() != numel(shape)) return false;
    }
    call.after.push_back(&node);
    made_by[static_cast<size_t>(node.outputs[0])] = at;
    return true;
  }

  void open(const ir::Node& node) {
    Call call{.node = &node, .claim = nullptr, .after = {}, .operands = {}, .follow = {}};
    const bool alone = std::all_of(node.outputs.begin() + 1, node.outputs.end(),
                                   [&](ir::ValueId id) { return readers[static_cast<size_t>(id)] == 0; });
    if (alone && session().options().claims && !session().options().reference) {
      std::vector<TensorType> types;
      for (const ir::ValueId id : node.inputs) types.push_back(id == ir::kAbsent ? TensorType{} : graph.type(id));
      call.claim = session().device().claim(*node.op, types, node.attrs);
      if (call.claim != nullptr && call.claim->prepare == nullptr) call.claim = nullptr;
    }
    for (const ir::ValueId id : node.outputs) made_by[static_cast<size_t>(id)] = static_cast<int>(calls.size());
    calls.push_back(std::move(call));
  }

  void emit(Call& call) {
    if (call.claim != nullptr) {
      if (auto kernel = prepare(call)) {
        Step step{.node = call.node,
                  .name = std::string(call.node->op->name),
                  .inputs = call.node->inputs,
                  .meets = std::vector<Shape>(call.operands.size(), graph.type(call.result()).shape),
                  .last = {},
                  .outputs = {call.result()},
                  .results = {graph.type(call.result())},
                  .order = kernel->order(),
                  .kernel = std::move(kernel)};
        for (const ir::Node* node : call.after) (step.name += '+') += node->op->name;
        step.inputs.insert(step.inputs.end(), call.operands.begin(), call.operands.end());
        order[static_cast<size_t>(call.result())] = step.order;
        program.summary_.fused += static_cast<int>(call.after.size());
        ++program.summary_.prepared;
        if (!joined_to_last(step)) program.steps_.push_back(std::move(step));
        return;
      }
    }
    emit_plain(*call.node);
    for (const ir::Node* node : call.after) emit_plain(*node);
  }

  // Whether the last step took this one in, whose first input only it reads.
  bool joined_to_last(Step& step) {
    if (program.steps_.empty()) return false;
    Step& last = program.steps_.back();
    const ir::ValueId between = step.inputs[0];
    if (!last.kernel || last.outputs[0] != between || readers[static_cast<size_t>(between)] != 1) return false;
    if (!last.kernel->continue_with(step.kernel)) return false;
    const auto own = [](Step& s) {
      return s.inputs.begin() + static_cast<std::ptrdiff_t>(s.inputs.size() - s.meets.size());
    };
    last.inputs.insert(own(last), step.inputs.begin() + 1, own(step));
    last.inputs.insert(last.inputs.end(), own(step), step.inputs.end());
    last.meets.insert(last.meets.end(), step.meets.begin(), step.meets.end());
    (last.name += ", ") += step.name;
    last.several = true;
    last.outputs = std::move(step.outputs);
    last.results = std::move(step.results);
    last.order = std::move(step.order);
    ++program.summary_.joined;
    return true;
  }

  std::unique_ptr<PreparedKernel> prepare(const Call& call) const {
    std::vector<ConstView> in;
    for (const ir::ValueId id : call.node->inputs) {
      if (id == ir::kAbsent) {
        in.emplace_back();
      } else if (constant(id).defined()) {
        in.push_back(view(constant(id)));
      } else {
        const TensorType& type = graph.type(id);
        in.push_back(
            {nullptr, type.dtype, type.shape, strides_in_order(type.shape, order[static_cast<size_t>(id)]), 0});
      }
    }
    for (size_t i = 0; i < call.scaled.size(); ++i) in[i + 1] = view(call.scaled[i]);
    const bool lasts = held(*call.node) && std::ranges::all_of(call.scaled, [&](const Tensor& x) {
                         return program.kept_->holds(*x.impl()->buffer);
                       });
    KeptConstants& kept = lasts ? *program.kept_ : program.own_;
    return call.claim->prepare({in, graph.type(call.result()), call.node->attrs, call.follow ? &*call.follow : nullptr,
                                kept, program.precision_});
  }

  void emit_plain(const ir::Node& node) {
    Step step{.node = &node,
              .name = std::string(node.op->name),
              .inputs = node.inputs,
              .meets = {},
              .last = {},
              .outputs = node.outputs,
              .results = result_types(graph, node),
              .order = {},
              .kernel = nullptr};
    if (is_elementwise(node)) {
      for (const ir::ValueId id : node.inputs) {
        if (id == ir::kAbsent || !step.order.empty()) continue;
        if (graph.type(id).shape == step.results[0].shape) step.order = order[static_cast<size_t>(id)];
      }
      order[static_cast<size_t>(node.outputs[0])] = step.order;
    }
    ++program.summary_.others;
    program.steps_.push_back(std::move(step));
  }
};

Program::Program(std::shared_ptr<const ir::Graph> graph, std::shared_ptr<KeptConstants> kept, Precision precision)
    : graph_(std::move(graph)),
      precision_(precision),
      kept_(kept ? std::move(kept) : std::make_shared<KeptConstants>()) {
  Maker{*this}.make();
  find_last_uses();
  find_sections();
  plan();
}
Program::~Program() = default;

void Program::find_last_uses() {
  std::vector<uint8_t> seen(graph_->values.size(), 0);
  for (const ir::ValueId id : graph_->outputs) seen[static_cast<size_t>(id)] = 1;
  for (size_t s = steps_.size(); s-- > 0;) {
    Step& step = steps_[s];
    step.last.assign(step.inputs.size(), 0);
    for (size_t i = step.inputs.size(); i-- > 0;) {
      if (step.inputs[i] == ir::kAbsent) continue;
      uint8_t& later = seen[static_cast<size_t>(step.inputs[i])];
      step.last[i] = later == 0 ? 1 : 0;
      later = 1;
    }
  }
}

}  // namespace tenon::exec
