#include "tenon/ops/index.h"

#include <fmt/format.h>

#include <algorithm>

#include "tenon/base/error.h"
#include "tenon/ops/broadcast.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/indexing.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/ordering.h"
#include "tenon/ops/reduce.h"
#include "tenon/tensor/number.h"

namespace tenon {
namespace {

// An index tensor and the axis (of the sliced tensor) that it consumes.
struct Pick {
  int64_t axis;
  Tensor positions;
};

class Reader {
 public:
  explicit Reader(Tensor x, const Indices& indices) : x_(std::move(x)), source_rank_(x_.ndim()) {
    const auto consumed = consumed_axes(indices);
    const int64_t missing = source_rank_ - consumed;
    if (missing < 0)
      throw IndexError(
          {"index", "more indices than axes", fmt::format("at most {}", source_rank_), std::to_string(consumed), {}});
    // An integer beside index tensors counts as one of them.
    advanced_ = std::any_of(indices.begin(), indices.end(),
                            [](const Index& i) { return std::holds_alternative<Tensor>(i.entry()); });
    for (const Index& entry : indices) {
      std::visit([&](const auto& e) { take_entry(e, missing); }, entry.entry());
    }
  }

  Tensor read() {
    if (picks_.empty()) return x_;
    return gather();
  }

 private:
  static int64_t consumed_axes(const Indices& indices) {
    int64_t axes = 0, ellipses = 0;
    for (const Index& i : indices) {
      if (const auto* t = std::get_if<Tensor>(&i.entry())) {
        axes += t->defined() && t->dtype() == DType::Bool ? t->ndim() : 1;
      } else if (std::holds_alternative<Ellipsis>(i.entry())) {
        ++ellipses;
      } else if (!std::holds_alternative<NewAxis>(i.entry())) {
        ++axes;
      }
    }
    if (ellipses > 1)
      throw IndexError({"index", "more than one ellipsis", "one at most", std::to_string(ellipses), {}});
    return axes;
  }

  void take_entry(int64_t i, int64_t) {
    const int64_t extent = x_.shape(axis_);
    if (i < -extent || i >= extent) out_of_range(i, extent);
    if (advanced_) {
      pick(from_vector<int64_t>({i < 0 ? i + extent : i}, {}));
    } else {
      x_ = select(x_, axis_, i);
      ++source_axis_;
    }
  }
  void take_entry(const Slice& s, int64_t) {
    if (s.step == 0) throw ValueError({"index", "the step of a slice is 0", "any other number", "0", {}});
    const int64_t far = s.step > 0 ? kEnd : -kEnd;
    const int64_t near = s.step > 0 ? 0 : kEnd;
    x_ = slice(x_, {axis_}, {s.start.value_or(near)}, {s.stop.value_or(far)}, {s.step});
    ++axis_;
    ++source_axis_;
    between();
  }
  void take_entry(NewAxis, int64_t) {
    x_ = unsqueeze(x_, {axis_});
    ++axis_;
    between();
  }
  void take_entry(Ellipsis, int64_t missing) {
    axis_ += missing;
    source_axis_ += missing;
    between();
  }
  void take_entry(const Tensor& t, int64_t) {
    if (!t.defined()) throw ValueError({"index", "an index has no value", {}, {}, {}});
    if (t.dtype() != DType::Bool) {
      if (!is_integer(t.dtype()))
        throw DTypeError({"index", "an index is neither integer nor boolean", "i64 or bool",
                          std::string(name(t.dtype())), "cast(i, tenon::i64)"});
      pick(normal(t, x_.shape(axis_)));
      return;
    }
    for (int64_t k = 0; k < t.ndim(); ++k) {
      if (t.shape(k) != x_.shape(axis_ + k))
        throw IndexError({"index",
                          fmt::format("a mask does not fit axis {}", source_axis_ + k),
                          std::to_string(x_.shape(axis_ + k)),
                          std::to_string(t.shape(k)),
                          {}});
    }
    if (t.ndim() == 0) throw IndexError({"index", "a mask without axes", "at least one axis", "[]", {}});
    const Tensor places = nonzero(t);
    for (int64_t k = 0; k < t.ndim(); ++k) pick(select(places, 1, k));
  }

  void pick(Tensor positions) {
    if (separated_) apart_ = true;
    picks_.push_back({axis_, std::move(positions)});
    ++axis_;
    ++source_axis_;
  }
  // Something else than an index tensor: those before and after it are no neighbours.
  void between() { separated_ = separated_ || !picks_.empty(); }

  [[noreturn]] void out_of_range(int64_t i, int64_t extent) const {
    throw IndexError({"index",
                      fmt::format("position out of range on axis {}", source_axis_),
                      extent == 0 ? "none, the axis is empty" : fmt::format("{} to {}", -extent, extent - 1),
                      std::to_string(i),
                      {}});
  }

  // Positions as i64 from 0 on.
  [[nodiscard]] Tensor normal(const Tensor& t, int64_t extent) const {
    Tensor i = cast(t, i64);
    if (i.is_concrete() && i.size() > 0) {
      const auto low = min(i).item<int64_t>(), high = max(i).item<int64_t>();
      if (low < -extent) out_of_range(low, extent);
      if (high >= extent) out_of_range(high, extent);
      if (low >= 0) return i;
    }
    return where(i < 0, i + extent, i);
  }

  // The picked axes go to the front and become one, along which single positions are taken.
  Tensor gather() {
    Ints front, rest;
    int64_t before_first = 0;
    for (int64_t k = 0; k < x_.ndim(); ++k) {
      const bool picked = std::any_of(picks_.begin(), picks_.end(), [&](const Pick& p) { return p.axis == k; });
      (picked ? front : rest).push_back(k);
      if (!picked && k < picks_.front().axis) ++before_first;
    }
    Ints order = front;
    for (int64_t k : rest) order.push_back(k);
    Tensor position = zeros({}, i64);
    Shape flat{1};
    for (const Pick& p : picks_) {
      position = position * x_.shape(p.axis) + p.positions;
      flat[0] *= x_.shape(p.axis);
    }
    for (int64_t k : rest) flat.push_back(x_.shape(k));
    const int64_t new_axes = position.ndim();
    Tensor y = take(reshape(permute(x_, order), flat), position, 0);
    if (apart_ || before_first == 0) return y;
    Ints back;
    for (int64_t k = 0; k < before_first; ++k) back.push_back(new_axes + k);
    for (int64_t k = 0; k < new_axes; ++k) back.push_back(k);
    for (int64_t k = new_axes + before_first; k < y.ndim(); ++k) back.push_back(k);
    return permute(y, back);
  }

  Tensor x_;
  int64_t source_rank_;
  int64_t axis_ = 0, source_axis_ = 0;  // the next axis of x_, and of the tensor as it was
  std::vector<Pick> picks_;
  bool advanced_ = false, separated_ = false, apart_ = false;
};

}  // namespace

Tensor index(const Tensor& x, const Indices& indices) { return Reader(x, indices).read(); }

Tensor set(const Tensor& x, const Indices& indices, const Tensor& value, ScatterMode mode) {
  if (info(x.dtype()).storage_only)
    throw DTypeError({"set", "the elements of this dtype are for storage only", "a dtype that ops compute with",
                      std::string(name(x.dtype())), "set(cast(x, …), …), and cast the result back"});
  expect_number_fits("set", value, x.dtype());
  // A whole mask needs no positions: this form is also captured.
  if (indices.size() == 1 && mode == ScatterMode::Set) {
    const auto* mask = std::get_if<Tensor>(&indices[0].entry());
    if (mask && mask->defined() && mask->dtype() == DType::Bool && mask->shape() == x.shape() && value.ndim() == 0)
      return cast(where(*mask, value, x), x.dtype());
  }
  // The elements' own numbers, read by the same indices, say where the values go.
  const Tensor places = index(reshape(arange(x.size()), x.shape()), indices);
  if (!broadcasts_to(value.shape(), places.shape()))
    throw ShapeError({"set",
                      "the values do not fit the elements that the indices name",
                      fmt::format("what broadcasts to {}", to_string(places.shape())),
                      to_string(value.shape()),
                      {}});
  const Tensor values = expand(cast(value, x.dtype()), places.shape());
  return reshape(scatter_along_axis(reshape(x, {-1}), reshape(places, {-1}), reshape(values, {-1}), 0, mode),
                 x.shape());
}

}  // namespace tenon
