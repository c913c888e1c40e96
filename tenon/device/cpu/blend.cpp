// Interpolation by few weighted elements: sums in the order of the op's body, each product and each sum rounded.
#include <algorithm>
#include <array>
#include <memory>
#include <vector>

#include "tenon/device/cpu/around.h"
#include "tenon/device/cpu/conv.h"
#include "tenon/device/cpu/copy.h"
#include "tenon/device/cpu/kernels.h"
#include "tenon/device/cpu/level.h"
#include "tenon/ops/interpolate.h"

namespace tenon::cpu {
namespace {

constexpr int64_t kShortRow = 8;  // below it a call of a loop takes longer than the loop

// One axis of a contiguous tensor.
template <class T>
class Blend final {
 public:
  Blend(int64_t extent, const ir::Attrs& attrs) {
    const ops::InterpolationTerms terms = *ops::interpolate_terms(extent, attrs);
    count_ = terms.count;
    out_ = static_cast<int64_t>(terms.positions.size() / count_);
    // Those of one element beside each other.
    for (size_t o = 0; o < static_cast<size_t>(out_); ++o) {
      for (size_t k = 0; k < count_; ++k) {
        positions_.push_back(terms.positions[k * static_cast<size_t>(out_) + o]);
        weights_.push_back(static_cast<T>(terms.weights[k * static_cast<size_t>(out_) + o]));
      }
    }
  }

  void run(const T* x, T* y, const Around& shape, ThreadPool& pool) const {
    const int64_t inner = shape.inner;
    if (inner < kShortRow) {
      for_units(pool, shape.outer, out_ * inner,
                [&](int64_t u) { short_rows(x + u * shape.extent * inner, y + u * out_ * inner, inner); });
      return;
    }
    const RowLoops& loops = level_table(best_level()).rows(sizeof(T) == sizeof(double) ? DType::F64 : DType::F32);
    for_units(pool, shape.outer * out_, inner, [&](int64_t u) {
      const T* from = x + u / out_ * shape.extent * inner;
      const size_t first = static_cast<size_t>(u % out_) * count_;
      std::array<const void*, 4> rows{};
      for (size_t k = 0; k < count_; ++k) rows[k] = from + positions_[first + k] * inner;
      loops.blend(y + u * inner, rows.data(), &weights_[first], count_, inner);
    });
  }

 private:
  void short_rows(const T* x, T* y, int64_t inner) const {
    if (count_ == 1) return short_rows_of<1>(x, y, inner);
    if (count_ == 2) return short_rows_of<2>(x, y, inner);
    if (count_ == 3) return short_rows_of<3>(x, y, inner);
    short_rows_of<4>(x, y, inner);
  }
  template <size_t N>
  void short_rows_of(const T* x, T* y, int64_t inner) const {
    const int64_t* at = positions_.data();
    const T* weight = weights_.data();
    for (int64_t o = 0; o < out_; ++o, at += N, weight += N) {
      for (int64_t j = 0; j < inner; ++j) {
        T sum = x[at[0] * inner + j] * weight[0];
        for (size_t k = 1; k < N; ++k) sum += x[at[k] * inner + j] * weight[k];
        *y++ = sum;
      }
    }
  }

  size_t count_ = 0;
  int64_t out_ = 0;
  std::vector<int64_t> positions_;
  std::vector<T> weights_;
};

// Of a tensor whose axes lie in this order, as those of the result do.
template <class T>
class PreparedBlend final : public PreparedKernel {
 public:
  PreparedBlend(const Shape& x, int64_t axis, const ir::Attrs& attrs, Ints order)
      : blend_(x[static_cast<size_t>(axis)], attrs), axis_(axis), order_(std::move(order)) {}
  [[nodiscard]] Ints order() const override { return order_; }
  [[nodiscard]] bool examples_apart() const override { return axis_ != 0; }
  void run(std::span<const ConstView> inputs, std::span<const ConstView>, const View& out,
           ThreadPool& pool) const override {
    ConstView x = inputs[0];
    int64_t axis = axis_;
    if (!order_.empty()) {
      for (size_t i = 0; i < order_.size(); ++i) {
        const auto from = static_cast<size_t>(order_[i]);
        x.shape[i] = inputs[0].shape[from];
        x.strides[i] = inputs[0].strides[from];
        if (order_[i] == axis_) axis = static_cast<int64_t>(i);
      }
    }
    const Contiguous from(x, pool);
    blend_.run(from.as<T>(), reinterpret_cast<T*>(out.first()), Around(x.shape, axis), pool);
  }

 private:
  Blend<T> blend_;
  int64_t axis_;
  Ints order_;
};

template <class T>
void run_as(const KernelArgs& a) {
  const ConstView& x = a.inputs[0];
  const Around shape(x.shape, a.attrs.integer(0));
  if (numel(a.outputs[0].shape) == 0) return;
  const Contiguous from(x, a.pool);
  Blend<T>(shape.extent, a.attrs).run(from.as<T>(), reinterpret_cast<T*>(a.outputs[0].first()), shape, a.pool);
}

}  // namespace

bool accepts_blend(Types in, const ir::Attrs& attrs) {
  return (in[0].dtype == DType::F32 || in[0].dtype == DType::F64) && ops::interpolates_by_few_terms(attrs);
}
void run_blend(const KernelArgs& a) { a.inputs[0].dtype == DType::F64 ? run_as<double>(a) : run_as<float>(a); }
std::unique_ptr<PreparedKernel> prepare_blend(const PrepareArgs& args) {
  const ConstView& x = args.inputs[0];
  if (x.data != nullptr || numel(args.result.shape) == 0) return nullptr;
  const int64_t axis = Around(x.shape, args.attrs.integer(0)).number;
  const Ints last = x.shape.size() > 2 ? channels_last_order(x.shape.size()) : Ints{};
  const Ints order = lies_in(x, last) ? last : Ints{};
  if (x.dtype == DType::F64) return std::make_unique<PreparedBlend<double>>(x.shape, axis, args.attrs, order);
  return std::make_unique<PreparedBlend<float>>(x.shape, axis, args.attrs, order);
}

}  // namespace tenon::cpu
