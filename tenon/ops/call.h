// The call of an op: the one door through which every op goes.
//
// Declared here because bodies and gradients of ops call other ops; defined in trace/call.cpp, which
// decides whether the call is evaluated at once, recorded in a graph, batched, or kept for a gradient.
#pragma once

#include <array>
#include <concepts>
#include <iterator>
#include <span>
#include <utility>

#include "tenon/ops/opdef.h"

namespace tenon::ops {

// The inputs of a call, written as a list: call1(op, {std::move(x), y}). Unlike std::vector's own list it moves what it
// may: the last handle of a temporary arrives as the last handle, so that the result may take its buffer. The usual few
// need no memory.
class Inputs {
 public:
  Inputs() = default;
  Inputs(Tensors list)  // NOLINT(google-explicit-constructor): a list is a list
      : many_(std::move(list)), size_(many_.size()) {}
  template <class... T>
    requires(sizeof...(T) > 0 && (std::convertible_to<T, Tensor> && ...))
  // NOLINTNEXTLINE(google-explicit-constructor,bugprone-forwarding-reference-overload): as in a vector's list
  Inputs(T&&... x) : size_(sizeof...(T)) {
    if constexpr (sizeof...(T) <= kFew) {
      size_t i = 0;
      ((few_[i++] = Tensor(std::forward<T>(x))), ...);
    } else {
      many_.reserve(sizeof...(T));
      (many_.emplace_back(std::forward<T>(x)), ...);
    }
  }

  [[nodiscard]] std::span<Tensor> tensors() { return many_.empty() ? std::span(few_).first(size_) : std::span(many_); }
  // As a vector.
  [[nodiscard]] Tensors list() && {
    if (!many_.empty()) return std::move(many_);
    return {std::make_move_iterator(few_.begin()), std::make_move_iterator(few_.begin() + size_)};
  }

 private:
  static constexpr size_t kFew = 3;
  std::array<Tensor, kFew> few_;  // unless there are more, or they came as a vector
  Tensors many_;
  size_t size_ = 0;
};

// Errors: DTypeError, ShapeError, ValueError … naming the op; GradientError if a gradient is wanted that
// the op has no rule for. `attrs` has one value for each of op.attrs, in order.
Tensors call(const OpDef& op, Inputs in, const ir::Attrs& attrs = {});
// The same for an op with one result.
Tensor call1(const OpDef& op, Inputs in, const ir::Attrs& attrs = {});

}  // namespace tenon::ops
