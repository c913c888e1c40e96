#include "tenon/device/cpu/i8_kernels.h"

#include <algorithm>
#include <optional>

#include "tenon/device/cpu/copy.h"
#include "tenon/device/cpu/gemm.h"
#include "tenon/device/cpu/kept_key.h"
#include "tenon/device/cpu/product_i8.h"

namespace tenon::cpu {
namespace {

class PreparedI8Matmul final : public PreparedKernel {
 public:
  explicit PreparedI8Matmul(const PrepareArgs& args) : loops_(i8_loops()) {
    const ConstView& b = args.inputs[1];
    const size_t r = b.shape.size();
    product_.n = b.shape[r - 1];
    product_.k = b.shape[r - 2];
    product_.b = b.as<uint8_t>();
    product_.b_k = b.strides[r - 2];
    product_.b_column = b.strides[r - 1];
    product_.a_signed = args.inputs[0].dtype == DType::I8;
    product_.b_signed = b.dtype == DType::I8;
    ThreadPool alone(1);
    std::vector<int64_t> key = kept_key(KeptForm::I8Product, b);
    key.push_back(static_cast<int64_t>(product_.b_signed));
    right_ = args.kept.get(key, [&] { return pack_right_i8(product_, loops_, alone); });
    product_.packed = right_->data();
  }
  [[nodiscard]] Ints order() const override { return {}; }
  void run(std::span<const ConstView> inputs, std::span<const ConstView> /*operands*/, const View& out,
           ThreadPool& pool) const override {
    const auto rows = row_step(inputs[0]);
    std::optional<Contiguous> copied;
    if (!rows) copied.emplace(inputs[0], pool);
    I8Product p = product_;
    p.m = numel(out.shape) / p.n;
    p.a = rows ? inputs[0].as<uint8_t>() : copied->as<uint8_t>();
    p.a_row = rows ? *rows : p.k;
    p.a_k = rows ? inputs[0].strides.back() : 1;
    p.c_row = p.n;
    // A result in another order is made row-major first.
    const bool plain = contiguous_strides(out.shape) == out.strides;
    const Ref<Buffer> result =
        plain ? Ref<Buffer>() : Buffer::allocate(static_cast<size_t>(p.m * p.n) * sizeof(int32_t));
    p.c = plain ? out.as<int32_t>() : reinterpret_cast<int32_t*>(result->data());
    product(p, loops_, pool);
    if (!plain) copy({result->data(), out.dtype, out.shape, contiguous_strides(out.shape), 0}, out, pool);
  }

 private:
  const I8Loops& loops_;
  I8Product product_;
  Ref<Buffer> right_;
};

}  // namespace

void claim_matmul_integer(const KernelArgs& args) {
  matmul_integer(args.inputs[0], args.inputs[1], args.outputs[0], args.pool);
}

std::optional<Ints> ready_matmul_integer(std::span<const ConstView> inputs) {
  const Shape& b = inputs[1].shape;
  const bool one = std::all_of(b.begin(), b.end() - 2, [](int64_t e) { return e == 1; });
  return one && inputs[0].shape.back() != 0 ? std::optional(Ints{}) : std::nullopt;
}

std::unique_ptr<PreparedKernel> prepare_matmul_integer(const PrepareArgs& args) {
  if (args.inputs[1].data == nullptr || numel(args.result.shape) == 0 || !ready_matmul_integer(args.inputs))
    return nullptr;
  return std::make_unique<PreparedI8Matmul>(args);
}

}  // namespace tenon::cpu
