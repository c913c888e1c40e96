#include "tenon/device/cpu/i8_kernels.h"

#include <algorithm>
#include <optional>

#include "tenon/device/cpu/claim_kernels.h"
#include "tenon/device/cpu/conv_i8.h"
#include "tenon/device/cpu/copy.h"
#include "tenon/device/cpu/gemm.h"
#include "tenon/device/cpu/i8_finish.h"
#include "tenon/device/cpu/kept_key.h"
#include "tenon/device/cpu/product_i8.h"

namespace tenon::cpu {
namespace {

// The step along axes [begin, end) where they are as one.
std::optional<int64_t> step_of(const ConstView& v, size_t begin, size_t end) {
  int64_t step = 0, next = 0;
  for (size_t d = end; d-- > begin;) {
    if (v.shape[d] == 1) continue;
    if (next != 0 && v.strides[d] != next * step) return std::nullopt;
    if (next == 0) step = v.strides[d];
    next = (next == 0 ? 1 : next) * v.shape[d];
  }
  return step;
}

// What follows a product, for one run whose result's axes are `images` ones, `rows` ones and columns.
class Follow {
 public:
  Follow(const I8Program& program, std::span<const ConstView> operands, const Shape& shape, size_t images, size_t rows,
         std::byte* y, ThreadPool& pool) {
    std::vector<I8Follow::Operand> list;
    copies_.reserve(operands.size());
    const auto add = [&](const ConstView& o) {
      const auto image = step_of(o, 0, images), row = step_of(o, images, images + rows);
      const auto column = step_of(o, images + rows, shape.size());
      if (!image || !row || !column) return false;
      list.push_back({o.first(), o.dtype, *image, *row, *column});
      return true;
    };
    for (const ConstView& o : operands) {
      if (add(o)) continue;
      const auto* data = copies_.emplace_back(o, pool).data();
      add({data, o.dtype, o.shape, contiguous_strides(o.shape), 0});
    }
    const auto count = [&](size_t begin, size_t end) {
      return numel(Shape(shape.begin() + static_cast<int64_t>(begin), shape.begin() + static_cast<int64_t>(end)));
    };
    follow_.emplace(program, std::move(list), y, count(0, images), count(images, images + rows),
                    count(images + rows, shape.size()));
  }
  [[nodiscard]] const I8Follow* get() const { return &*follow_; }

 private:
  std::vector<Contiguous> copies_;  // of operands whose steps are no such
  std::optional<I8Follow> follow_;
};

std::optional<I8Program> program_after(const PrepareArgs& args) {
  return args.after == nullptr ? std::nullopt : std::optional<I8Program>(*args.after);
}

class PreparedI8Matmul final : public PreparedKernel {
 public:
  explicit PreparedI8Matmul(const PrepareArgs& args) : loops_(i8_loops()), after_(program_after(args)) {
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
  [[nodiscard]] bool examples_apart() const override { return true; }
  void run(std::span<const ConstView> inputs, std::span<const ConstView> operands, const View& out,
           ThreadPool& pool) const override {
    const EvenRows left(inputs[0], pool);
    I8Product p = product_;
    p.m = numel(out.shape) / p.n;
    p.a = left.as<uint8_t>();
    p.a_row = left.row();
    p.a_k = left.column();
    p.c_row = p.n;
    const RowMajorResult y(out);
    std::optional<Follow> follow;
    if (after_) follow.emplace(*after_, operands, out.shape, 0, out.shape.size() - 1, y.data(), pool);
    p.c = reinterpret_cast<int32_t*>(y.data());
    p.follow = follow ? follow->get() : nullptr;
    product(p, loops_, pool);
    y.deliver(pool);
  }

 private:
  const I8Loops& loops_;
  I8Product product_;
  Ref<Buffer> right_;
  std::optional<I8Program> after_;
};

// Zero points, as numbers; none if there is no such input.
std::vector<int32_t> zeros_of(std::span<const ConstView> inputs, size_t i) {
  if (inputs.size() <= i || inputs[i].data == nullptr) return {};
  const ConstView& view = inputs[i];
  const int64_t step = view.shape.empty() ? 0 : view.strides[0];
  std::vector<int32_t> zeros;
  for (int64_t k = 0; k < numel(view.shape); ++k) {
    const uint8_t byte = view.as<uint8_t>()[k * step];
    zeros.push_back(view.dtype == DType::I8 ? static_cast<int8_t>(byte) : static_cast<int32_t>(byte));
  }
  return zeros;
}

I8Conv i8_conv(const TensorType& x, const ConstView& weight, const Shape& y, const ir::Attrs& attrs) {
  return {conv_shape(x.shape, weight.shape, y, attrs), x.dtype == DType::I8, weight.dtype == DType::I8, i8_loops()};
}

void run_i8_conv(const I8Conv& conv, const ConstView& given, std::span<const int32_t> x_zero, const std::byte* packed,
                 std::span<const int32_t> weight_zeros, const View& out, ThreadPool& pool,
                 const I8Program* after = nullptr, std::span<const ConstView> operands = {}) {
  const Contiguous x(given, pool);
  const RowMajorResult y(out);
  std::optional<Follow> follow;
  if (after != nullptr) follow.emplace(*after, operands, out.shape, 1, 1, y.data(), pool);
  conv.run({out.shape[0], x.as<uint8_t>(), x_zero.empty() ? 0 : x_zero[0], packed, weight_zeros,
            reinterpret_cast<int32_t*>(y.data()), follow ? follow->get() : nullptr},
           pool);
  y.deliver(pool);
}

class PreparedI8Conv final : public PreparedKernel {
 public:
  explicit PreparedI8Conv(const PrepareArgs& args)
      : conv_(i8_conv({args.inputs[0].dtype, args.inputs[0].shape}, args.inputs[1], args.result.shape, args.attrs)),
        x_zero_(zeros_of(args.inputs, 2)),
        weight_zeros_(zeros_of(args.inputs, 3)),
        after_(program_after(args)) {
    const ConstView& weight = args.inputs[1];
    ThreadPool alone(1);
    std::vector<int64_t> key = kept_key(KeptForm::I8Conv, weight);
    // Which way it goes is the geometry's to say: it is a part of the key.
    for (const int64_t number : conv_.packing()) key.push_back(number);
    packed_ = args.kept.get(key, [&] { return conv_.pack(Contiguous(weight, alone).as<uint8_t>()); });
  }
  [[nodiscard]] Ints order() const override { return {}; }
  [[nodiscard]] bool examples_apart() const override { return true; }
  void run(std::span<const ConstView> inputs, std::span<const ConstView> operands, const View& out,
           ThreadPool& pool) const override {
    run_i8_conv(conv_, inputs[0], x_zero_.empty() ? zeros_of(inputs, 2) : x_zero_, packed_->data(), weight_zeros_, out,
                pool, after_ ? &*after_ : nullptr, operands);
  }

 private:
  I8Conv conv_;
  std::vector<int32_t> x_zero_;  // empty: there is none, or it changes
  std::vector<int32_t> weight_zeros_;
  Ref<Buffer> packed_;
  std::optional<I8Program> after_;
};

}  // namespace

void claim_convolution_integer(const KernelArgs& args) {
  const ConstView &x = args.inputs[0], &weight = args.inputs[1];
  const View& y = args.outputs[0];
  if (numel(y.shape) == 0) return;
  const I8Conv conv = i8_conv({x.dtype, x.shape}, weight, y.shape, args.attrs);
  const Ref<Buffer> packed = conv.pack(Contiguous(weight, args.pool).as<uint8_t>());
  run_i8_conv(conv, x, zeros_of(args.inputs, 2), packed->data(), zeros_of(args.inputs, 3), y, args.pool);
}

std::optional<Ints> ready_convolution_integer(std::span<const ConstView> /*inputs*/) { return Ints{}; }

std::unique_ptr<PreparedKernel> prepare_convolution_integer(const PrepareArgs& args) {
  // An input that is there has the dtype of the tensor whose zero point it is, one that is absent has not.
  const auto changes = [&](size_t i) {
    return i < args.inputs.size() && args.inputs[i].data == nullptr && args.inputs[i].dtype != DType::F32;
  };
  if (changes(1) || changes(3) || numel(args.result.shape) == 0) return nullptr;
  return std::make_unique<PreparedI8Conv>(args);
}

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
