// Indexing as NumPy does it: x[2:, None, ..., [0, 3], mask], for reading and for functional update.
//
//   index(x, {Slice{2, {}}, newaxis, ellipsis, tensor({0, 3})})     set(x, {x < 0}, 0)
//
// One entry consumes one axis: an integer (the axis disappears; negative ones count from the end), a Slice, or a tensor
// of integers. A boolean tensor consumes as many axes as it has and stands for the positions where it is true.
// `newaxis` adds an axis of extent 1, `ellipsis` stands for all axes that are left over, and axes at the end may be
// left out. Index tensors broadcast against each other; their axes take the place of the ones that they consume if
// these are neighbours, else they come first (NumPy's rule, numpy.org/doc/stable/user/basics.indexing.html). Errors:
// IndexError for too many entries, two ellipses, a position out of range or a mask of another shape (positions in a
// traced tensor are checked when it is known); ShapeError if index tensors do not broadcast; DTypeError for an index
// that is neither integer nor boolean.
#pragma once

#include <optional>
#include <variant>
#include <vector>

#include "tenon/ops/gather.h"

namespace tenon {

// start:stop:step; what is absent is the end that the direction suggests.
struct Slice {
  std::optional<int64_t> start{}, stop{};
  int64_t step = 1;
};
struct NewAxis {};
struct Ellipsis {};
inline constexpr NewAxis newaxis{};
inline constexpr Ellipsis ellipsis{};

class Index {
 public:
  Index(int i) : entry_(static_cast<int64_t>(i)) {}  // NOLINT(google-explicit-constructor): written in a list
  Index(int64_t i) : entry_(i) {}                    // NOLINT(google-explicit-constructor)
  Index(Slice s) : entry_(s) {}                      // NOLINT(google-explicit-constructor)
  Index(NewAxis n) : entry_(n) {}                    // NOLINT(google-explicit-constructor)
  Index(Ellipsis e) : entry_(e) {}                   // NOLINT(google-explicit-constructor)
  Index(Tensor t) : entry_(std::move(t)) {}          // NOLINT(google-explicit-constructor)
  [[nodiscard]] const std::variant<int64_t, Slice, NewAxis, Ellipsis, Tensor>& entry() const { return entry_; }

 private:
  std::variant<int64_t, Slice, NewAxis, Ellipsis, Tensor> entry_;
};
using Indices = std::vector<Index>;

// The elements that the indices name. Only integers, slices, newaxis and ellipsis: the same buffer; else a copy.
Tensor index(const Tensor& x, const Indices& indices);
// x with `value` (which broadcasts) at those elements; of several values for one element the last stays. With another
// mode the values are combined with what is there: every one of them, in order. x itself does not change; its buffer is
// reused if nobody else holds it.
Tensor set(const Tensor& x, const Indices& indices, const Tensor& value, ScatterMode mode = ScatterMode::Set);

}  // namespace tenon
