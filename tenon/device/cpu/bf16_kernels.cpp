#include "tenon/device/cpu/bf16_kernels.h"

#include <optional>
#include <vector>

#include "tenon/device/cpu/conv_bf16.h"
#include "tenon/device/cpu/copy.h"
#include "tenon/device/cpu/gemm.h"
#include "tenon/device/cpu/kept_key.h"
#include "tenon/device/cpu/product_bf16.h"
#include "tenon/tensor/low_precision.h"

namespace tenon::cpu {
namespace {

class PreparedBf16Matmul final : public PreparedKernel {
 public:
  explicit PreparedBf16Matmul(const PrepareArgs& args) : k_(args.inputs[0].shape.back()) {
    const ConstView& b = args.inputs[1];
    const size_t r = b.shape.size();
    const int64_t n = b.shape[r - 1], b_k = b.strides[r - 2], b_column = b.strides[r - 1];
    ThreadPool alone(1);
    right_ = args.kept.get(kept_key(KeptForm::Bf16Product, b),
                           [&] { return pack_right_bf16(b.as<uint16_t>(), b_k, b_column, k_, n, alone); });
    if (args.after != nullptr) after_.emplace(*args.after, args.precision);
  }
  [[nodiscard]] Ints order() const override { return {}; }
  void run(std::span<const ConstView> inputs, std::span<const ConstView> operands, const View& out,
           ThreadPool& pool) const override {
    const EvenRows left(inputs[0], pool);
    Bf16Product p{.m = numel(out.shape) / out.shape.back(), .n = out.shape.back(), .k = k_};
    p.a = left.as<uint16_t>();
    p.a_row = left.row();
    p.a_k = left.column();
    p.packed = reinterpret_cast<const uint16_t*>(right_->data());
    p.c_row = p.n;
    const RowMajorResult result(out);
    std::byte* to = result.data();
    if (after_) {
      std::vector<Bf16Follow::Operand> list;
      std::vector<EvenRows> kept;
      kept.reserve(operands.size());
      for (const ConstView& o : operands) {
        const EvenRows& rows = kept.emplace_back(o, pool);
        list.push_back({rows.as<std::byte>(), rows.row(), rows.column()});
      }
      const Bf16Follow follow{*after_, list, to, p.n};
      product(p, pool, &follow);
    } else {
      p.c = reinterpret_cast<uint16_t*>(to);
      product(p, pool);
    }
    result.deliver(pool);
  }

 private:
  int64_t k_;
  Ref<Buffer> right_;
  std::optional<Bf16After> after_;
};

// The bias of a convolution in f32; empty if there is none.
std::vector<float> wide_bias(std::span<const ConstView> inputs, ThreadPool& pool) {
  if (inputs.size() < 3 || inputs[2].data == nullptr) return {};
  const Contiguous bias(inputs[2], pool);
  std::vector<float> wide(static_cast<size_t>(numel(inputs[2].shape)));
  for (size_t i = 0; i < wide.size(); ++i) wide[i] = bf16_to_f32(bias.as<uint16_t>()[i]);
  return wide;
}

class PreparedBf16Conv final : public PreparedKernel {
 public:
  PreparedBf16Conv(const ConvShape& shape, const PrepareArgs& args) : rank_(args.result.shape.size()), conv_(shape) {
    ThreadPool alone(1);
    const ConstView& weight = args.inputs[1];
    packed_ = args.kept.get(kept_key(KeptForm::Bf16Conv, weight),
                            [&] { return conv_.pack(Contiguous(weight, alone).as<uint16_t>(), alone); });
    bias_ = wide_bias(args.inputs, alone);
    if (args.after != nullptr) after_.emplace(*args.after, args.precision);
  }
  [[nodiscard]] Ints order() const override { return channels_last_order(rank_); }
  [[nodiscard]] bool examples_apart() const override { return true; }
  void run(std::span<const ConstView> inputs, std::span<const ConstView> operands, const View& out,
           ThreadPool& pool) const override {
    conv_.run(inputs[0], packed_, bias_.empty() ? nullptr : bias_.data(), after_ ? &*after_ : nullptr, operands, out,
              pool);
  }

 private:
  size_t rank_;
  Bf16Conv conv_;
  Ref<Buffer> packed_;
  std::vector<float> bias_;
  std::optional<Bf16After> after_;
};

}  // namespace

void bf16_conv(const ConvShape& shape, const KernelArgs& args) {
  const Bf16Conv conv(shape);
  const Contiguous weight(args.inputs[1], args.pool);
  const std::vector<float> bias = wide_bias(args.inputs, args.pool);
  conv.run(args.inputs[0], conv.pack(weight.as<uint16_t>(), args.pool), bias.empty() ? nullptr : bias.data(), nullptr,
           {}, args.outputs[0], args.pool);
}

std::unique_ptr<PreparedKernel> prepare_bf16_conv(const ConvShape& shape, const PrepareArgs& args) {
  return std::make_unique<PreparedBf16Conv>(shape, args);
}

std::unique_ptr<PreparedKernel> prepare_bf16_matmul(const PrepareArgs& args) {
  return std::make_unique<PreparedBf16Matmul>(args);
}

}  // namespace tenon::cpu
