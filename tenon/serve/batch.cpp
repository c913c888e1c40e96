#include "tenon/serve/batch.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "tenon/serve/status.h"

namespace tenon::serve {
namespace {

// Calls fn(from, to, n): `n` elements lie one after the other at `from` in `small` and go to `to` in `large`.
template <class Fn>
void each_run(const Shape& small, const Shape& large, Fn&& fn) {
  if (numel(small) == 0) return;
  const int64_t run = small.back();
  const Shape strides = contiguous_strides(large);
  Shape at;
  for (size_t i = 0; i + 1 < small.size(); ++i) at.push_back(0);
  for (int64_t from = 0;; from += run) {
    int64_t to = 0;
    for (size_t i = 0; i < at.size(); ++i) to += at[i] * strides[i];
    fn(from, to, run);
    size_t axis = at.size();
    while (axis > 0 && ++at[axis - 1] == small[axis - 1]) at[--axis] = 0;
    if (axis == 0) return;
  }
}

}  // namespace

int64_t batch_rows(std::span<const Value> inputs, std::span<const TensorSpec> specs) {
  int64_t rows = -1;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const Shape& shape = shape_of(inputs[i]);
    if (shape.empty())
      throw RequestError(Code::InvalidArgument, fmt::format("input '{}' has no batch axis", specs[i].name));
    if (rows >= 0 && shape[0] != rows)
      throw RequestError(Code::InvalidArgument,
                         fmt::format("input '{}' has {} rows, input '{}' has {}: a batch has one number of rows",
                                     specs[0].name, rows, specs[i].name, shape[0]));
    rows = shape[0];
  }
  return std::max<int64_t>(rows, 0);
}

int64_t padded_rows(int64_t rows, std::span<const int64_t> allowed) {
  if (rows == 0) return rows;
  for (int64_t size : allowed) {
    if (size >= rows) return size;
  }
  return rows;
}

bool same_batch(std::span<const Value> a, std::span<const Value> b, bool any_length) {
  for (size_t i = 0; i < a.size(); ++i) {
    const Shape &x = shape_of(a[i]), &y = shape_of(b[i]);
    if (!(type_of(a[i]) == type_of(b[i])) || x.size() != y.size()) return false;
    for (size_t axis = 1; axis < x.size(); ++axis) {
      if (x[axis] != y[axis] && !any_length) return false;
    }
  }
  return true;
}

Value padded_to(const Value& value, const Shape& shape) {
  const Shape& small = shape_of(value);
  if (small == shape) return value;
  if (const auto* strings = std::get_if<Strings>(&value)) {
    Strings out{shape, std::vector<std::string>(static_cast<size_t>(numel(shape)))};
    each_run(small, shape, [&](int64_t from, int64_t to, int64_t n) {
      std::copy_n(strings->values.begin() + from, n, out.values.begin() + to);
    });
    return out;
  }
  const auto& tensor = std::get<Tensor>(value);
  Tensor out = empty(shape, tensor.dtype());
  if (out.size() == 0) return out;
  std::byte* base = mutable_data(out);
  std::memset(base, 0, static_cast<size_t>(byte_size(tensor.dtype(), out.size())));
  const std::byte* source = tensor.size() == 0 ? nullptr : bytes_of(tensor).data();
  const int64_t width = info(tensor.dtype()).bits / 8;
  each_run(small, shape, [&](int64_t from, int64_t to, int64_t n) {
    std::memcpy(base + to * width, source + from * width, static_cast<size_t>(n * width));
  });
  return out;
}

std::vector<Value> joined_inputs(const std::vector<const std::vector<Value>*>& requests, int64_t total,
                                 bool any_length) {
  std::vector<Value> out;
  for (size_t input = 0; input < requests[0]->size(); ++input) {
    std::vector<Value> padded;
    std::vector<const Value*> parts;
    Shape largest = shape_of((*requests[0])[input]);
    for (const auto* request : requests) {
      const Shape& shape = shape_of((*request)[input]);
      for (size_t axis = 1; axis < shape.size(); ++axis) largest[axis] = std::max(largest[axis], shape[axis]);
    }
    padded.reserve(requests.size());
    for (const auto* request : requests) {
      const Value& value = (*request)[input];
      Shape shape = largest;
      shape[0] = shape_of(value)[0];
      if (any_length) padded.push_back(padded_to(value, shape));
      parts.push_back(any_length ? &padded.back() : &value);
    }
    out.push_back(concat_rows(parts, total));
  }
  return out;
}

std::vector<std::vector<Value>> split_outputs(const std::vector<Value>& outputs, const std::vector<int64_t>& counts,
                                              int64_t total, std::span<const TensorSpec> specs) {
  std::vector<std::vector<Value>> parts(counts.size());
  for (size_t o = 0; o < outputs.size(); ++o) {
    const Shape& shape = shape_of(outputs[o]);
    if (shape.empty() || shape[0] != total)
      throw RequestError(Code::Internal, fmt::format("output '{}' of a batch of {} rows has the shape {}: the model "
                                                     "cannot be batched",
                                                     specs[o].name, total, to_string(shape)));
    int64_t at = 0;
    for (size_t i = 0; i < counts.size(); ++i) {
      parts[i].push_back(rows(outputs[o], at, at + counts[i]));
      at += counts[i];
    }
  }
  return parts;
}

}  // namespace tenon::serve
