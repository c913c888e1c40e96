#include "tenon/tensor/tensor.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "tenon/base/error.h"
#include "tenon/tensor/element.h"
#include "tenon/tensor/sparse_rows.h"
#include "tenon/tensor/tensor_view.h"

namespace tenon {
namespace {

[[noreturn]] void no_elements(std::string_view where, const Tensor& x) {
  if (!x.defined()) {
    throw ValueError({.where = std::string(where),
                      .problem = "the tensor is undefined: it was default-constructed and never given a value"});
  }
  if (sparse_rows(x)) {
    throw ValueError({.where = std::string(where),
                      .problem = "the tensor is a row-sparse gradient, which has elements of some rows only",
                      .got = to_string(x),
                      .hint = "to_dense(x)"});
  }
  throw ValueError({.where = std::string(where),
                    .problem = "the tensor has no elements to read: it stands for a value inside a captured or "
                               "batched function",
                    .got = to_string(x.type()),
                    .hint = "return the tensor from the function and read it outside, or use where(…) or cond(…) "
                            "to decide by its value"});
}

void require_elements(std::string_view where, const Tensor& x) {
  if (!x.defined() || !x.is_concrete()) no_elements(where, x);
}

// Number of elements; ShapeError for a negative extent or more bytes than can be counted. That holds for the other
// extents of an empty tensor too: strides and sizes of its parts are products of them.
int64_t checked_numel(std::string_view where, const Shape& shape) {
  int64_t n = 1;
  bool is_empty = false, overflow = false;
  for (int64_t extent : shape) {
    if (extent < 0) {
      throw ShapeError({.where = std::string(where), .problem = "negative extent", .got = "shape " + to_string(shape)});
    }
    is_empty = is_empty || extent == 0;
    overflow = __builtin_mul_overflow(n, std::max<int64_t>(extent, 1), &n) || overflow;
  }
  if (overflow || n > std::numeric_limits<int64_t>::max() / 64) {
    throw ShapeError({.where = std::string(where),
                      .problem = "more elements than fit in any memory",
                      .got = "shape " + to_string(shape)});
  }
  return is_empty ? 0 : n;
}

template <class T>
T to_number(const ConstView& x, int64_t element) {
  if constexpr (std::is_same_v<T, bool>) {
    return is_float(x.dtype) ? load_real(x, element) != 0 : load_integer(x, element) != 0;
  } else if constexpr (std::is_floating_point_v<T>) {
    return static_cast<T>(is_float(x.dtype)
                              ? load_real(x, element)
                              : integer_to_real(dtype_of<T>, load_integer(x, element), x.dtype == DType::U64));
  } else {
    return static_cast<T>(is_float(x.dtype) ? real_to_integer(dtype_of<T>, load_real(x, element))
                                            : load_integer(x, element));
  }
}

template <class T>
Ref<TensorImpl> scalar(T value, bool weak) {
  auto impl = make_ref<TensorImpl>();
  impl->type.dtype = dtype_of<T>;
  impl->weak = weak;
  impl->number = static_cast<double>(value);
  impl->buffer = Buffer::allocate(sizeof(T));
  std::memcpy(impl->buffer->data(), &value, sizeof(T));
  return impl;
}

template <class T>
using StoredLiteral =
    std::conditional_t<std::is_same_v<T, bool>, bool, std::conditional_t<std::is_integral_v<T>, int64_t, float>>;
template <class T>
Tensor literal(std::initializer_list<T> values) {
  using Stored = StoredLiteral<T>;
  Tensor x = empty({static_cast<int64_t>(values.size())}, dtype_of<Stored>);
  auto* to = reinterpret_cast<Stored*>(mutable_data(x));
  for (T value : values) *to++ = static_cast<Stored>(value);
  return x;
}

template <class T>
Tensor literal(std::initializer_list<std::initializer_list<T>> rows) {
  using Stored = StoredLiteral<T>;
  const size_t columns = rows.size() == 0 ? 0 : rows.begin()->size();
  Tensor x = empty({static_cast<int64_t>(rows.size()), static_cast<int64_t>(columns)}, dtype_of<Stored>);
  auto* to = reinterpret_cast<Stored*>(mutable_data(x));
  for (const auto& row : rows) {
    if (row.size() != columns) {
      throw ShapeError({.where = "tensor",
                        .problem = "the rows differ in length",
                        .expected = std::to_string(columns) + " values, as in the first row",
                        .got = std::to_string(row.size())});
    }
    for (T value : row) *to++ = static_cast<Stored>(value);
  }
  return x;
}

}  // namespace

Tensor::Tensor(bool value) : impl_(scalar(value, true)) {}
Tensor::Tensor(int value) : impl_(scalar(int64_t{value}, true)) {}
Tensor::Tensor(int64_t value) : impl_(scalar(value, true)) {}
Tensor::Tensor(float value) : impl_(scalar(value, true)) {}
Tensor::Tensor(double value) : impl_(scalar(static_cast<float>(value), true)) { impl_->number = value; }

int64_t Tensor::shape(int64_t axis) const {
  return body().type.shape[static_cast<size_t>(normalize_axis("shape", axis, ndim()))];
}

void Tensor::throw_undefined() {
  throw ValueError({.where = "Tensor",
                    .problem = "the tensor is undefined: it has no value to ask for",
                    .hint = "give it one first: w.grad() has none until backward() has reached w, and a Tensor that is "
                            "default-constructed or moved from never has one (x.defined() tells)"});
}

bool Tensor::is_contiguous() const {
  if (!is_concrete()) return true;
  const Shape& extents = impl_->type.shape;
  int64_t expected = 1;
  for (size_t i = extents.size(); i-- > 0;) {
    if (extents[i] != 1 && impl_->strides[i] != expected) return extents.empty() || size() == 0;
    expected *= extents[i];
  }
  return true;
}

template <class T>
T Tensor::item() const {
  require_elements("item", *this);
  if (size() != 1) {
    throw ShapeError({.where = "item",
                      .problem = "only a tensor of one element is a number",
                      .got = std::to_string(size()) + " elements in " + to_string(type()),
                      .hint = "to_vector() for all elements, or x[i].item()"});
  }
  if constexpr (std::is_same_v<T, double>) {
    if (impl_->weak && dtype() == DType::F32) return impl_->number;
  }
  return to_number<T>(view(*this), impl_->offset);
}

template <class T>
std::vector<T> Tensor::to_vector() const {
  require_elements("to_vector", *this);
  const ConstView x = view(*this);
  const int64_t n = size();
  std::vector<T> values(static_cast<size_t>(n));
  if constexpr (!std::is_same_v<T, bool>) {
    if (dtype() == dtype_of<T> && is_contiguous()) {
      if (n > 0) std::memcpy(values.data(), x.as<T>(), values.size() * sizeof(T));
      return values;
    }
  }
  ElementCursor cursor(x);
  for (int64_t i = 0; i < n; ++i, cursor.next()) values[static_cast<size_t>(i)] = to_number<T>(x, cursor.element());
  return values;
}

template <class T>
std::span<const T> Tensor::data() const {
  require_elements("data", *this);
  if constexpr (!std::is_same_v<T, std::byte>) {
    if (dtype() != dtype_of<T>) {
      throw DTypeError({.where = "data",
                        .problem = "the elements have another type",
                        .expected = "data<T>() with the C++ type of " + std::string(tenon::name(dtype())),
                        .got = std::string(tenon::name(dtype_of<T>)),
                        .hint = "to_vector<T>() converts, or cast the tensor first"});
    }
  }
  if (!is_contiguous()) {
    throw ValueError({.where = "data",
                      .problem = "the elements are not in row-major order in memory",
                      .got = to_string(type()) + " with strides " + to_string(impl_->strides),
                      .hint = "contiguous(x).data<T>()"});
  }
  if constexpr (std::is_same_v<T, std::byte>) {
    const int64_t bit = impl_->offset * info(dtype()).bits;
    if (bit % 8 != 0) {
      throw ValueError({.where = "data",
                        .problem = "the elements do not start on a whole byte",
                        .got = to_string(type()) + " at element " + std::to_string(impl_->offset),
                        .hint = "contiguous(x) makes a copy that does"});
    }
    return {impl_->buffer->data() + bit / 8, static_cast<size_t>(byte_size(dtype(), size()))};
  } else {
    return {reinterpret_cast<const T*>(impl_->buffer->data()) + impl_->offset, static_cast<size_t>(size())};
  }
}

Tensor empty(const Shape& shape, DType dtype) {
  auto impl = make_ref<TensorImpl>();
  impl->type.dtype = dtype;
  impl->type.shape = shape;
  impl->strides = shape;  // overwritten at once
  // The usual shapes are counted on the way; what is odd about the others, checked_numel says.
  int64_t n = 1;
  bool plain = true;
  for (size_t i = shape.size(); i-- > 0;) {
    impl->strides[i] = n;
    plain = plain && shape[i] > 0 && shape[i] < (int64_t{1} << 31) && n < (int64_t{1} << 27);
    n *= plain ? shape[i] : 1;
  }
  if (!plain) {
    n = checked_numel("empty", shape);
    impl->strides = contiguous_strides(shape);
  }
  impl->buffer = Buffer::allocate(static_cast<size_t>(byte_size(dtype, n)));
  return Tensor(std::move(impl));
}

Tensor from_buffer(Ref<Buffer> buffer, const TensorType& type, int64_t offset) {
  (void)checked_numel("from_buffer", type.shape);  // before strides are computed
  return from_buffer(std::move(buffer), type, contiguous_strides(type.shape), offset);
}

Tensor from_buffer(Ref<Buffer> buffer, const TensorType& type, const Shape& strides, int64_t offset) {
  int64_t first = offset, last = offset;
  const int64_t n = checked_numel("from_buffer", type.shape);
  for (size_t i = 0; n > 0 && i < type.shape.size(); ++i) {
    const int64_t reach = (type.shape[i] - 1) * strides[i];
    (reach < 0 ? first : last) += reach;
  }
  if (n > 0 && (first < 0 || byte_size(type.dtype, last + 1) > static_cast<int64_t>(buffer->size()))) {
    throw ShapeError(
        {.where = "from_buffer",
         .problem = "the tensor reaches beyond its memory",
         .expected = "elements within " + std::to_string(buffer->size()) + " bytes",
         .got = to_string(type) + " at elements " + std::to_string(first) + " to " + std::to_string(last)});
  }
  auto impl = make_ref<TensorImpl>();
  impl->type = type;
  impl->strides = strides;
  impl->offset = offset;
  impl->buffer = std::move(buffer);
  return Tensor(std::move(impl));
}

namespace {

template <class T, class Values>
Tensor from_values(const Values& values, const Shape& shape) {
  const int64_t n = checked_numel("from_vector", shape);
  if (n != static_cast<int64_t>(values.size())) {
    throw ShapeError({.where = "from_vector",
                      .problem = "the number of values is not the shape's",
                      .expected = std::to_string(n) + " values for shape " + to_string(shape),
                      .got = std::to_string(values.size())});
  }
  Tensor x = empty(shape, dtype_of<T>);
  std::copy(values.begin(), values.end(), reinterpret_cast<T*>(mutable_data(x)));
  return x;
}

}  // namespace

template <class T>
Tensor from_vector(const std::vector<T>& values, const Shape& shape) {
  return from_values<T>(values, shape);
}
template <class T>
Tensor from_span(std::span<const T> values, const Shape& shape) {
  return from_values<T>(values, shape);
}

template <class T>
Tensor tensor(std::initializer_list<T> values) {
  return literal(values);
}
template <class T>
Tensor tensor(std::initializer_list<std::initializer_list<T>> rows) {
  return literal(rows);
}
template Tensor tensor(std::initializer_list<float> values);
template Tensor tensor(std::initializer_list<double> values);
template Tensor tensor(std::initializer_list<int> values);
template Tensor tensor(std::initializer_list<int64_t> values);
template Tensor tensor(std::initializer_list<bool> values);
template Tensor tensor(std::initializer_list<std::initializer_list<float>> rows);
template Tensor tensor(std::initializer_list<std::initializer_list<double>> rows);
template Tensor tensor(std::initializer_list<std::initializer_list<int>> rows);
template Tensor tensor(std::initializer_list<std::initializer_list<int64_t>> rows);
template Tensor tensor(std::initializer_list<std::initializer_list<bool>> rows);

Tensor strengthen(const Tensor& weak, DType dtype) {
  require_elements("strengthen", weak);
  Tensor x = empty({}, dtype);
  const View to = mutable_view(x);
  const TensorImpl& impl = *weak.impl();
  if (impl.weak && weak.dtype() == DType::F32) {
    store_real(to, 0, impl.number);
  } else {
    convert_element(view(weak), impl.offset, to, 0);
  }
  return x;
}

Tensor strengthen(const Tensor& weak) { return strengthen(weak, weak.dtype()); }

std::byte* mutable_data(Tensor& fresh) {
  if (!fresh.unique() || !fresh.impl()->buffer.unique() || !fresh.impl()->buffer->writable() ||
      !fresh.is_contiguous() || fresh.impl()->offset != 0) {
    throw InternalError("mutable_data: the tensor is not fresh; somebody may hold its elements");
  }
  return fresh.impl()->buffer->data();
}

ConstView view(const Tensor& x) {
  if (!x.defined()) return {};
  if (!x.is_concrete()) no_elements("view", x);
  const TensorImpl& impl = *x.impl();
  return {impl.buffer->data(), impl.type.dtype, impl.type.shape, impl.strides, impl.offset};
}

View mutable_view(Tensor& fresh) {
  std::byte* data = mutable_data(fresh);
  return {data, fresh.dtype(), fresh.shape(), fresh.impl()->strides, 0};
}

// The C++ types that stand for dtypes.
template std::span<const std::byte> Tensor::data<std::byte>() const;
#define TENON_FOR_TYPE(T)                                              \
  template T Tensor::item<T>() const;                                  \
  template std::vector<T> Tensor::to_vector<T>() const;                \
  template std::span<const T> Tensor::data<T>() const;                 \
  template Tensor from_vector<T>(const std::vector<T>&, const Shape&); \
  template Tensor from_span<T>(std::span<const T>, const Shape&);
TENON_FOR_TYPE(bool)
TENON_FOR_TYPE(uint8_t)
TENON_FOR_TYPE(uint16_t)
TENON_FOR_TYPE(uint32_t)
TENON_FOR_TYPE(uint64_t)
TENON_FOR_TYPE(int8_t)
TENON_FOR_TYPE(int16_t)
TENON_FOR_TYPE(int32_t)
TENON_FOR_TYPE(int64_t)
TENON_FOR_TYPE(float)
TENON_FOR_TYPE(double)
#undef TENON_FOR_TYPE

}  // namespace tenon
