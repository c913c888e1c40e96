#include <algorithm>
#include <array>
#include <cstring>

#include "tenon/device/cpu/conv.h"
#include "tenon/device/cpu/copy.h"
#include "tenon/device/cpu/kernels.h"
#include "tenon/tensor/element.h"

namespace tenon::cpu {
namespace {

// All of a contiguous output becomes the element to which `value` points.
void fill(const View& out, const std::byte* value, ThreadPool& pool) {
  constexpr int64_t kPiece = 32768;
  const int bytes = element_size(out.dtype);
  const int64_t n = numel(out.shape);
  std::byte* to = out.data + out.offset * bytes;
  for_units(pool, (n + kPiece - 1) / kPiece, kPiece,
            [&](int64_t i) { gather(to + i * kPiece * bytes, value, 0, std::min(kPiece, n - i * kPiece), bytes); });
}

}  // namespace

bool accepts_whole_bytes(Types in, const ir::Attrs& /*attrs*/) { return !in.empty() && info(in[0].dtype).bits >= 8; }
bool accepts_full(Types /*in*/, const ir::Attrs& attrs) { return info(attrs.dtype(2)).bits >= 8; }
bool accepts_iota(Types /*in*/, const ir::Attrs& attrs) { return info(attrs.dtype(2)).bits >= 8; }

void run_full(const KernelArgs& a) {
  const View& out = a.outputs[0];
  std::byte value[8];
  store_real(View{value, out.dtype, {}, {}, 0}, 0, a.attrs.real(1));
  fill(out, value, a.pool);
}

void run_iota(const KernelArgs& a) {
  const View& out = a.outputs[0];
  const auto rank = static_cast<int64_t>(out.shape.size());
  const auto axis = static_cast<size_t>(a.attrs.integer(1) < 0 ? a.attrs.integer(1) + rank : a.attrs.integer(1));
  int64_t inner = 1;
  for (size_t d = axis + 1; d < out.shape.size(); ++d) inner *= out.shape[d];
  const int64_t extent = out.shape[axis];
  const int bytes = element_size(out.dtype);
  std::byte* to = out.data + out.offset * bytes;
  const int64_t period = extent * inner;
  // One period by elements, the others are its copies.
  for (int64_t i = 0; i < extent; ++i) {
    std::byte value[8];
    store_integer(View{value, out.dtype, {}, {}, 0}, 0, i);
    gather(to + i * inner * bytes, value, 0, inner, bytes);
  }
  for_units(a.pool, numel(out.shape) / period - 1, period,
            [&](int64_t i) { std::memcpy(to + (i + 1) * period * bytes, to, static_cast<size_t>(period * bytes)); });
}

void run_pad(const KernelArgs& a) {
  const ConstView& x = a.inputs[0];
  const ConstView& value = a.inputs[1];
  const View& out = a.outputs[0];
  fill(out, value.first(), a.pool);
  // The part of x that is not cut, and its place in the result.
  ConstView from = x;
  View to = out;
  for (size_t d = 0; d < x.shape.size(); ++d) {
    const int64_t low = a.attrs.ints(0)[d];
    const int64_t step = a.attrs.ints(2)[d] + 1;
    const int64_t first = low >= 0 ? 0 : (-low + step - 1) / step;
    const int64_t end = std::min(x.shape[d], (out.shape[d] - low + step - 1) / step);
    if (end <= first) return;
    from.shape[d] = to.shape[d] = end - first;
    from.offset += first * x.strides[d];
    to.offset += (low + first * step) * out.strides[d];
    to.strides[d] = out.strides[d] * step;
  }
  copy(from, to, a.pool);
}

namespace {

bool is_same_place(const ConstView& x, const View& y) {
  if (x.first() != y.first()) return false;
  for (size_t d = 0; d < x.shape.size(); ++d) {
    if (x.shape[d] != 1 && x.strides[d] != y.strides[d]) return false;
  }
  return true;
}

// The inputs one after the other along an axis of `out`, which may lie in any way. What is there already stays.
void concat(std::span<const ConstView> inputs, size_t axis, const View& out, ThreadPool& pool) {
  View to = out;
  for (const ConstView& part : inputs) {
    to.shape = part.shape;
    if (!is_same_place(part, to)) copy(part, to, pool);
    to.offset += part.shape[axis] * out.strides[axis];
  }
}
size_t axis_of(const ir::Attrs& attrs, const Shape& shape) {
  const int64_t axis = attrs.integer(0);
  return static_cast<size_t>(axis < 0 ? axis + static_cast<int64_t>(shape.size()) : axis);
}

class PreparedConcat final : public PreparedKernel {
 public:
  // `changing`: whether every input changes from run to run; of a constant there are all examples in each.
  PreparedConcat(size_t axis, Ints order, bool changing)
      : axis_(axis), order_(std::move(order)), apart_(changing && axis != 0) {}
  [[nodiscard]] Ints order() const override { return order_; }
  [[nodiscard]] bool examples_apart() const override { return apart_; }
  [[nodiscard]] bool writes_parts() const override { return true; }
  [[nodiscard]] std::optional<size_t> joins_along() const override { return axis_; }
  void run(std::span<const ConstView> inputs, std::span<const ConstView>, const View& out,
           ThreadPool& pool) const override {
    concat(inputs, axis_, out, pool);
  }

 private:
  size_t axis_;
  Ints order_;
  bool apart_;
};

}  // namespace

void run_concat(const KernelArgs& a) { concat(a.inputs, axis_of(a.attrs, a.outputs[0].shape), a.outputs[0], a.pool); }

std::unique_ptr<PreparedKernel> prepare_concat(const PrepareArgs& args) {
  const Shape& shape = args.result.shape;
  if (info(args.result.dtype).bits < 8) return nullptr;
  const Ints last = shape.size() > 2 ? channels_last_order(shape.size()) : Ints{};
  int64_t there = 0;
  for (const ConstView& x : args.inputs) there += x.data == nullptr && lies_in(x, last) ? numel(x.shape) : 0;
  const bool changing = std::ranges::all_of(args.inputs, [](const ConstView& x) { return x.data == nullptr; });
  return std::make_unique<PreparedConcat>(axis_of(args.attrs, shape),
                                          2 * there >= numel(shape) && there > 0 ? last : Ints{}, changing);
}

}  // namespace tenon::cpu
