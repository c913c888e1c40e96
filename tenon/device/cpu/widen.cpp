#include "tenon/device/cpu/widen.h"

#include <algorithm>
#include <optional>
#include <utility>
#include <vector>

#include "tenon/device/cpu/copy.h"
#include "tenon/device/cpu/level.h"
#include "tenon/device/cpu/pieces.h"

namespace tenon::cpu {
namespace {

constexpr int64_t kPart = 64 * 1024;  // elements

void convert(const std::byte* from, DType from_dtype, std::byte* to, DType to_dtype, int64_t n, ThreadPool& pool) {
  const LoopFn loop = level_table(best_level()).cast[static_cast<size_t>(from_dtype)][static_cast<size_t>(to_dtype)];
  const int64_t from_size = element_size(from_dtype), to_size = element_size(to_dtype);
  pool.run((n + kPart - 1) / kPart, [&](int64_t p) {
    const int64_t begin = p * kPart;
    loop(to + begin * to_size, from + begin * from_size, nullptr, nullptr, std::min(kPart, n - begin));
  });
}

// Whether the elements fill one piece of memory, in whatever order of axes.
bool is_dense(const ConstView& x) {
  std::vector<std::pair<int64_t, int64_t>> axes;
  for (size_t d = 0; d < x.shape.size(); ++d) {
    if (x.shape[d] != 1) axes.emplace_back(x.strides[d], x.shape[d]);
  }
  std::ranges::sort(axes);
  int64_t expected = 1;
  for (const auto& [stride, extent] : axes) {
    if (stride != expected) return false;
    expected *= extent;
  }
  return true;
}

Ref<Buffer> floats(const Shape& shape) {
  return Buffer::allocate(static_cast<size_t>(std::max<int64_t>(1, numel(shape))) * sizeof(float));
}

}  // namespace

void widen(const ConstView& x, float* to, ThreadPool& pool) {
  const Contiguous source(x, pool);
  convert(source.data(), x.dtype, reinterpret_cast<std::byte*>(to), DType::F32, numel(x.shape), pool);
}

void run_widened(const KernelArgs& args, void (*run)(const KernelArgs& args)) {
  std::vector<Ref<Buffer>> kept;
  std::vector<ConstView> inputs(args.inputs.begin(), args.inputs.end());
  for (ConstView& in : inputs) {
    if (in.data == nullptr || !is_half(in.dtype)) continue;
    kept.push_back(floats(in.shape));
    widen(in, reinterpret_cast<float*>(kept.back()->data()), args.pool);
    in = {kept.back()->data(), DType::F32, in.shape, contiguous_strides(in.shape), 0};
  }
  std::vector<View> outputs(args.outputs.begin(), args.outputs.end());
  for (View& out : outputs) {
    if (!is_half(out.dtype)) continue;
    kept.push_back(floats(out.shape));
    out = {kept.back()->data(), DType::F32, out.shape, contiguous_strides(out.shape), 0};
  }
  run({inputs, outputs, args.attrs, args.pool});
  for (size_t i = 0; i < outputs.size(); ++i) {
    const View& to = args.outputs[i];
    if (!is_half(to.dtype)) continue;
    convert(outputs[i].data, DType::F32, to.first(), to.dtype, numel(to.shape), args.pool);
  }
}

ir::ScalarProgram widened_program(const ir::ScalarProgram& program, Precision precision) {
  using ir::ScalarOp;
  struct Value {
    int32_t at;
    bool exact;  // as an element of the narrow dtype
  };
  const DType half = program.input(0);
  ir::ScalarProgram wide;
  wide.inputs = program.inputs;
  std::vector<Value> values;
  const auto append = [&](const ir::ScalarInstr& instr) {
    wide.code.push_back(instr);
    return static_cast<int32_t>(wide.code.size()) - 1;
  };
  const auto append_rounding = [&](int32_t at) {
    const int32_t narrow = append({.op = ScalarOp::Cast, .dtype = half, .args = {at, -1, -1}});
    return append({.op = ScalarOp::Cast, .dtype = DType::F32, .args = {narrow, -1, -1}});
  };
  const auto rounded = [&](int32_t at) { return Value{precision == Precision::Fast ? at : append_rounding(at), true}; };
  for (int32_t i = 0; i < program.inputs; ++i) {
    const bool narrow = program.input(i) == half;
    append({.op = ScalarOp::Input, .dtype = narrow ? DType::F32 : program.input(i), .args = {i, -1, -1}});
    values.push_back({i, narrow});
  }
  values[0] = rounded(0);
  const size_t last = program.code.size() - 1;
  for (size_t i = values.size(); i <= last; ++i) {
    ir::ScalarInstr instr = program.code[i];
    const auto argument = [&](int a) { return values[static_cast<size_t>(instr.args[a])]; };
    if (instr.op == ScalarOp::Cast) {
      const bool from_half = program.code[static_cast<size_t>(instr.args[0])].dtype == half;
      const Value x = argument(0);
      if (instr.dtype == half) {
        values.push_back(i == last || x.exact ? x : rounded(x.at));
        continue;
      }
      if (from_half && instr.dtype == DType::F32) {
        values.push_back(x);
        continue;
      }
    }
    bool exact = instr.op == ScalarOp::Max || instr.op == ScalarOp::Min || instr.op == ScalarOp::Neg ||
                 instr.op == ScalarOp::Abs;
    for (int a = 0; a < ir::info(instr.op).arity; ++a) {
      exact = exact && argument(a).exact;
      instr.args[a] = argument(a).at;
    }
    if (instr.op == ScalarOp::Const) exact = instr.real == 0;
    values.push_back({append(instr), exact});
  }
  // The result stands last.
  if (values.back().at != static_cast<int32_t>(wide.code.size()) - 1 || values.back().at < wide.inputs)
    append_rounding(values.back().at);
  return wide;
}

namespace {

class PreparedWidened final : public PreparedKernel {
 public:
  PreparedWidened(std::unique_ptr<PreparedKernel> kernel, const PrepareArgs& args) : kernel_(std::move(kernel)) {
    for (const ConstView& in : args.inputs) changes_.push_back(in.data == nullptr ? 1 : 0);
  }
  [[nodiscard]] Ints order() const override { return kernel_->order(); }
  [[nodiscard]] bool examples_apart() const override { return kernel_->examples_apart(); }
  void run(std::span<const ConstView> inputs, std::span<const ConstView> operands, const View& out,
           ThreadPool& pool) const override {
    std::vector<ConstView> views(inputs.begin(), inputs.end());
    for (size_t i = 0; i < views.size(); ++i) {
      if (changes_[i] == 0) views[i].data = nullptr;  // the kernel has its own copy
    }
    views.insert(views.end(), operands.begin(), operands.end());
    int64_t bytes = space_of(out);
    for (const ConstView& v : views) bytes += space_of(v);
    const Ref<Buffer> space = Buffer::allocate_scratch(static_cast<size_t>(bytes));
    std::byte* free = space->data();
    for (ConstView& v : views) {
      if (v.data == nullptr || !is_half(v.dtype)) continue;
      std::byte* own = std::exchange(free, free + space_of(v));
      v = widened(v, own, pool);
    }
    View wide = out;
    if (is_half(out.dtype)) wide = {free, DType::F32, out.shape, out.strides, 0};
    const std::span all(views);
    kernel_->run(all.first(inputs.size()), all.subspan(inputs.size()), wide, pool);
    if (is_half(out.dtype)) convert(free, DType::F32, out.first(), out.dtype, numel(out.shape), pool);
  }

 private:
  // Axes along which an operand is repeated have one element.
  static ConstView without_repeats(const ConstView& x) {
    ConstView own = x;
    for (size_t d = 0; d < x.shape.size(); ++d) {
      if (x.strides[d] == 0) own.shape[d] = 1;
    }
    return own;
  }
  static int64_t space_of(const ConstView& x) {
    if (x.data == nullptr || !is_half(x.dtype)) return 0;
    const int64_t bytes = numel(without_repeats(x).shape) * kFloat;
    return (bytes + 63) / 64 * 64;
  }
  static ConstView widened(const ConstView& x, std::byte* to, ThreadPool& pool) {
    const ConstView own = without_repeats(x);
    ConstView wide{to, DType::F32, x.shape, x.strides, 0};
    if (is_dense(own)) {
      convert(x.first(), x.dtype, to, DType::F32, numel(own.shape), pool);
      return wide;
    }
    widen(own, reinterpret_cast<float*>(to), pool);
    const Shape strides = contiguous_strides(own.shape);
    for (size_t d = 0; d < x.shape.size(); ++d) wide.strides[d] = x.strides[d] == 0 ? 0 : strides[d];
    return wide;
  }
  std::unique_ptr<PreparedKernel> kernel_;
  std::vector<uint8_t> changes_;  // by input
};

}  // namespace

std::unique_ptr<PreparedKernel> prepare_widened(const PrepareArgs& args,
                                                std::unique_ptr<PreparedKernel> (*prepare)(const PrepareArgs& args)) {
  std::vector<ConstView> inputs(args.inputs.begin(), args.inputs.end());
  for (ConstView& in : inputs) {
    if (in.data == nullptr && is_half(in.dtype)) in.dtype = DType::F32;
  }
  const TensorType result{DType::F32, args.result.shape};
  std::optional<ir::ScalarProgram> after;
  if (args.after != nullptr) after = widened_program(*args.after, args.precision);
  auto kernel = prepare({inputs, result, args.attrs, after ? &*after : nullptr, args.kept, args.precision});
  if (!kernel) return nullptr;
  return std::make_unique<PreparedWidened>(std::move(kernel), args);
}

}  // namespace tenon::cpu
