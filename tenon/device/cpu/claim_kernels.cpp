#include "tenon/device/cpu/claim_kernels.h"

#include <algorithm>
#include <iterator>
#include <optional>
#include <type_traits>
#include <vector>

#include "tenon/device/cpu/bf16_blocks.h"
#include "tenon/device/cpu/bf16_kernels.h"
#include "tenon/device/cpu/conv.h"
#include "tenon/device/cpu/conv_bf16.h"
#include "tenon/device/cpu/conv_chain.h"
#include "tenon/device/cpu/conv_gradients_bf16.h"
#include "tenon/device/cpu/copy.h"
#include "tenon/device/cpu/direct_conv.h"
#include "tenon/device/cpu/gemm.h"
#include "tenon/device/cpu/kept_key.h"
#include "tenon/device/cpu/product.h"
#include "tenon/device/cpu/widen.h"
#include "tenon/ir/compose.h"

namespace tenon::cpu {
namespace {

ConvShape::Extents extents(const Shape& shape, size_t first) {
  ConvShape::Extents e{1, 1, 1};
  for (size_t i = first; i < shape.size(); ++i) e[i - first] = shape[i];
  return e;
}
ConvShape::Extents numbers(const Ints& list, int64_t rest) {
  ConvShape::Extents e{rest, rest, rest};
  for (size_t i = 0; i < list.size(); ++i) e[i] = list[i];
  return e;
}

}  // namespace

ConvShape conv_shape(const Shape& x, const Shape& weight, const Shape& y, const ir::Attrs& attrs) {
  ConvShape s;
  s.axes = static_cast<int>(x.size()) - 2;
  s.n = x[0];
  s.channels = x[1];
  s.filters = y[1];
  s.groups = attrs.integer(4);
  s.in = extents(x, 2);
  s.out = extents(y, 2);
  s.window = extents(weight, 2);
  s.stride = numbers(attrs.ints(0), 1);
  s.low = numbers(attrs.ints(1), 0);
  s.high = numbers(attrs.ints(2), 0);
  s.dilation = numbers(attrs.ints(3), 1);
  return s;
}

namespace {

// What does not change, as floats: f32, or f16 and bf16 widened.
std::vector<float> floats_of(const ConstView& x) {
  std::vector<float> values(static_cast<size_t>(numel(x.shape)));
  ThreadPool alone(1);
  widen(x, values.data(), alone);
  return values;
}
// Where it begins.

template <class F>
void by_dtype(DType dtype, F&& f) {
  dtype == DType::F32 ? f(float{}) : f(double{});
}

}  // namespace

bool full_floats(std::span<const TensorType> inputs, const ir::Attrs&) {
  const DType dtype = inputs[0].dtype;
  return dtype == DType::F32 || dtype == DType::F64;
}

bool floats(std::span<const TensorType> inputs, const ir::Attrs& attrs) {
  return is_half(inputs[0].dtype) || full_floats(inputs, attrs);
}

void claim_matmul(const KernelArgs& args) { matmul(args.inputs[0], args.inputs[1], args.outputs[0], args.pool); }

namespace {

// A product whose right-hand side does not change: it is packed once.
class PreparedMatmul final : public PreparedKernel {
 public:
  explicit PreparedMatmul(const PrepareArgs& args)
      : level_(level_table(best_level())), k_(args.inputs[0].shape.back()) {
    const ConstView& b = args.inputs[1];
    const size_t r = b.shape.size();
    const int64_t n = b.shape[r - 1], b_k = b.strides[r - 2], b_column = b.strides[r - 1];
    std::vector<int64_t> key = kept_key(KeptForm::F32Product, b);
    key.push_back(level_.tiles.lanes);
    right_ = args.kept.get(key, [&] {
      if (!is_half(b.dtype)) return pack_right(b.as<float>(), b_k, b_column, k_, n, level_.tiles);
      return pack_right(floats_of(b).data(), n, 1, k_, n, level_.tiles);
    });
    if (args.after != nullptr) after_.emplace(level_, *args.after);
  }
  [[nodiscard]] Ints order() const override { return {}; }
  void run(std::span<const ConstView> inputs, std::span<const ConstView> operands, const View& out,
           ThreadPool& pool) const override {
    const EvenRows left(inputs[0], pool);
    Product p{.m = numel(out.shape) / out.shape.back(), .n = out.shape.back(), .k = k_};
    p.a = left.as<float>();
    p.a_row = left.row();
    p.a_k = left.column();
    p.packed = reinterpret_cast<const float*>(right_->data());
    p.c_row = p.n;
    const RowMajorResult result(out);
    p.c = reinterpret_cast<float*>(result.data());
    if (after_) {
      std::vector<EvenRows> kept;
      kept.reserve(operands.size());
      std::vector<ProductFollow::Operand> list;
      for (const ConstView& o : operands) {
        const EvenRows& rows = kept.emplace_back(o, pool);
        list.push_back({rows.as<float>(), rows.row(), rows.column()});
      }
      const ProductFollow follow{*after_, list};
      product(p, level_.tiles, pool, &follow);
    } else {
      product(p, level_.tiles, pool);
    }
    result.deliver(pool);
  }

 private:
  const LevelTable& level_;
  int64_t k_;
  Ref<Buffer> right_;
  std::optional<TileProgram> after_;
};

}  // namespace

std::optional<Ints> ready_matmul(std::span<const ConstView> inputs) {
  const ConstView &a = inputs[0], &b = inputs[1];
  const bool one = std::all_of(b.shape.begin(), b.shape.end() - 2, [](int64_t e) { return e == 1; });
  const bool known = (a.dtype == DType::F32 || is_half(a.dtype)) && one && a.shape.back() != 0;
  return known ? std::optional(Ints{}) : std::nullopt;
}

std::unique_ptr<PreparedKernel> prepare_matmul(const PrepareArgs& args) {
  const ConstView &a = args.inputs[0], &b = args.inputs[1];
  if (b.data == nullptr || numel(args.result.shape) == 0 || !ready_matmul(args.inputs)) return nullptr;
  if (a.dtype == DType::F32) return std::make_unique<PreparedMatmul>(args);
  if (b.dtype == DType::BF16 && bf16_blocks::available()) return prepare_bf16_matmul(args);
  return is_half(b.dtype) ? prepare_widened(args, prepare_matmul) : nullptr;
}

void claim_conv(const KernelArgs& args) {
  const ConstView &x = args.inputs[0], &weight = args.inputs[1];
  const View& y = args.outputs[0];
  const ConvShape s = conv_shape(x.shape, weight.shape, y.shape, args.attrs);
  if (y.dtype == DType::BF16 && bf16_blocks::available() && Bf16Conv::takes(s)) {
    bf16_conv(s, args);
    return;
  }
  if (is_half(y.dtype)) {
    run_widened(args, claim_conv);
    return;
  }
  by_dtype(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    const Contiguous ws(weight, args.pool);
    const Contiguous bias(args.inputs.size() > 2 ? args.inputs[2] : ConstView{}, args.pool);
    if constexpr (std::is_same_v<T, float>) {
      conv_forward(s, x, ws.as<T>(), bias.as<T>(), y, args.pool);
    } else {
      conv_forward(s, Contiguous(x, args.pool).as<T>(), ws.as<T>(), bias.as<T>(), y.as<T>(), args.pool);
    }
  });
}

namespace {

// A convolution whose weights do not change: they are packed once.
class PackedConv {
 public:
  PackedConv(const ConvShape& s, const PrepareArgs& args, const ConstView& bias)
      : shape_(args.result.shape),
        operands_(args.after == nullptr ? 0 : static_cast<size_t>(args.after->inputs) - 1),
        conv_(s, level_table(best_level()), program(args, bias)) {
    const ConstView& weight = args.inputs[1];
    conv_.use(args.kept.get(key(weight, s), [&] { return conv_.pack(floats_of(weight).data()); }));
    if (bias.data != nullptr) bias_ = floats_of(bias);
  }
  [[nodiscard]] const DirectConv& conv() const { return conv_; }
  // How many there are of the program's that follows.
  [[nodiscard]] size_t operands() const { return operands_; }
  // With the bias in front of them.
  [[nodiscard]] std::vector<ConstView> all_operands(std::span<const ConstView> operands) const {
    std::vector<ConstView> all;
    if (!bias_.empty()) all.push_back(bias_view(bias_.data(), shape_));
    all.insert(all.end(), operands.begin(), operands.end());
    return all;
  }

 private:
  [[nodiscard]] std::vector<int64_t> key(const ConstView& weight, const ConvShape& s) const {
    std::vector<int64_t> key = kept_key(KeptForm::F32Conv, weight);
    key.push_back(s.groups);
    const Ints packing = conv_.packing();
    key.insert(key.end(), packing.begin(), packing.end());
    return key;
  }
  static std::optional<ir::ScalarProgram> program(const PrepareArgs& args, const ConstView& bias) {
    if (bias.data == nullptr) return args.after == nullptr ? std::nullopt : std::optional(*args.after);
    if (args.after == nullptr) return add_bias();
    constexpr int kResult[] = {0};
    return ir::compose(add_bias(), *args.after, kResult);
  }
  Shape shape_;  // of the result
  size_t operands_;
  DirectConv conv_;
  std::vector<float> bias_;
};

// One of them, or some that run together.
class PreparedConv final : public PreparedKernel {
 public:
  explicit PreparedConv(std::unique_ptr<PackedConv> conv) { links_.push_back(std::move(conv)); }
  [[nodiscard]] Ints order() const override {
    return channels_last_order(static_cast<size_t>(links_.front()->conv().shape().axes) + 2);
  }
  [[nodiscard]] bool examples_apart() const override { return true; }
  [[nodiscard]] bool writes_parts() const override { return true; }
  bool continue_with(std::unique_ptr<PreparedKernel>& next) override {
    auto* other = dynamic_cast<PreparedConv*>(next.get());
    if (other == nullptr || !gains_in_strips(links_.back()->conv(), other->links_.front()->conv())) return false;
    std::ranges::move(other->links_, std::back_inserter(links_));
    next.reset();
    return true;
  }
  void run(std::span<const ConstView> inputs, std::span<const ConstView> operands, const View& out,
           ThreadPool& pool) const override {
    std::vector<std::vector<ConstView>> of_links;
    for (const auto& link : links_) {
      of_links.push_back(link->all_operands(operands.first(link->operands())));
      operands = operands.subspan(link->operands());
    }
    if (links_.size() == 1) {
      links_[0]->conv().run(inputs[0], of_links[0], out, pool);
      return;
    }
    std::vector<ConvLink> chain;
    for (size_t i = 0; i < links_.size(); ++i) chain.push_back({links_[i]->conv(), of_links[i]});
    run_in_strips(chain, inputs[0], out, pool);
  }

 private:
  std::vector<std::unique_ptr<PackedConv>> links_;
};

}  // namespace

std::optional<Ints> ready_conv(std::span<const ConstView> inputs) {
  const bool known = inputs[0].dtype == DType::F32 || is_half(inputs[0].dtype);
  return known ? std::optional(channels_last_order(inputs[0].shape.size())) : std::nullopt;
}

std::unique_ptr<PreparedKernel> prepare_conv(const PrepareArgs& args) {
  const ConstView& weight = args.inputs[1];
  const ConstView bias = args.inputs.size() > 2 ? args.inputs[2] : ConstView{};
  const bool bias_changes = !bias.shape.empty() && bias.data == nullptr;
  if (weight.data == nullptr || bias_changes || numel(args.result.shape) == 0) return nullptr;
  const ConvShape s = conv_shape(args.inputs[0].shape, weight.shape, args.result.shape, args.attrs);
  if (args.inputs[0].dtype == DType::F32) {
    return std::make_unique<PreparedConv>(std::make_unique<PackedConv>(s, args, bias));
  }
  if (weight.dtype == DType::BF16 && bf16_blocks::available() && Bf16Conv::takes(s)) return prepare_bf16_conv(s, args);
  return is_half(weight.dtype) ? prepare_widened(args, prepare_conv) : nullptr;
}

namespace {

// Gradients of bf16 with one group.
bool in_blocks(const KernelArgs& args) {
  return args.outputs[0].dtype == DType::BF16 && bf16_blocks::available() && args.attrs.integer(4) == 1;
}

}  // namespace

void claim_conv_input_gradient(const KernelArgs& args) {
  if (in_blocks(args)) {
    const ConstView &ct = args.inputs[0], &weight = args.inputs[1];
    const View& dx = args.outputs[0];
    const ConvShape s = conv_shape(dx.shape, weight.shape, ct.shape, args.attrs);
    conv_input_gradient_bf16(s, ct, Contiguous(weight, args.pool).as<uint16_t>(), dx, args.pool);
    return;
  }
  if (is_half(args.outputs[0].dtype)) {
    run_widened(args, claim_conv_input_gradient);
    return;
  }
  const ConstView &ct = args.inputs[0], &weight = args.inputs[1];
  const View& dx = args.outputs[0];
  const ConvShape s = conv_shape(dx.shape, weight.shape, ct.shape, args.attrs);
  by_dtype(ct.dtype, [&](auto zero) {
    using T = decltype(zero);
    const Contiguous ws(weight, args.pool);
    if constexpr (std::is_same_v<T, float>) {
      conv_backward_data(s, ct, ws.as<T>(), dx, args.pool);
    } else {
      conv_backward_data(s, Contiguous(ct, args.pool).as<T>(), ws.as<T>(), dx.as<T>(), args.pool);
    }
  });
}

void claim_conv_weight_gradient(const KernelArgs& args) {
  if (in_blocks(args)) {
    const ConstView &x = args.inputs[0], &ct = args.inputs[1];
    const View& dw = args.outputs[0];
    const ConvShape s = conv_shape(x.shape, dw.shape, ct.shape, args.attrs);
    conv_weight_gradient_bf16(s, x, ct, dw.as<uint16_t>(), args.pool);
    return;
  }
  if (is_half(args.outputs[0].dtype)) {
    run_widened(args, claim_conv_weight_gradient);
    return;
  }
  const ConstView &x = args.inputs[0], &ct = args.inputs[1];
  const View& dw = args.outputs[0];
  const ConvShape s = conv_shape(x.shape, dw.shape, ct.shape, args.attrs);
  by_dtype(x.dtype, [&](auto zero) {
    using T = decltype(zero);
    if constexpr (std::is_same_v<T, float>) {
      conv_backward_weight(s, x, ct, dw.as<T>(), args.pool);
    } else {
      const Contiguous xs(x, args.pool), cts(ct, args.pool);
      conv_backward_weight(s, xs.as<T>(), cts.as<T>(), dw.as<T>(), args.pool);
    }
  });
}

}  // namespace tenon::cpu
