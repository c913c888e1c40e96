// Tensor: a value. Immutable, cheap to copy (one pointer), never written through another handle.
//
// `y = x` shares; `x += y` and `x = set(x, …)` rebind x to a new value, and the runtime reuses the
// buffer when nobody else holds it. A tensor is one of four things:
//   - concrete: elements in a buffer, with shape, strides and offset;
//   - lazy: inside compile(fn), elements that are computed when somebody looks at them; it then becomes concrete;
//   - traced: a value inside a graph that is being captured (ir), without elements;
//   - batched: the view of one example that a function under vmap sees.
// Arithmetic lives in ops/, gradients in trace/. Reading elements of a traced or batched tensor is an error.
#pragma once

#include <cstdint>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "tenon/base/ref.h"
#include "tenon/base/small_blocks.h"
#include "tenon/tensor/buffer.h"
#include "tenon/tensor/type.h"

namespace tenon {

// What a tensor remembers of the call that made it, so that gradients can flow; see trace/tape.h.
class TapeLink : public RefCounted {};

struct TensorImpl;

// What stands in place of elements in a traced, batched or lazy tensor; the kinds are defined in trace/.
class Placeholder : public RefCounted {
 public:
  // A lazy value knows the tensors that stand for it, and gives them their elements when it is forced.
  virtual void attach(TensorImpl& /*tensor*/) {}
  virtual void detach(TensorImpl& /*tensor*/) noexcept {}
  // True if force() would give elements.
  [[nodiscard]] virtual bool lazy() const { return false; }
  virtual void force() {}
};

// The shared body of Tensor handles. Users never see it; kernels and transformations do.
struct TensorImpl final : RefCounted, SmallBlock {
  TensorType type;
  bool weak = false;             // came from a C++ number: takes the dtype of what it meets (strengthen)
  double number = 0;             // a weak f32's number as it was written: 0.1 beside an f64 is 0.1, not 0.1f
  Shape strides;                 // in elements
  int64_t offset = 0;            // in elements
  Ref<Buffer> buffer;            // null unless concrete
  Ref<Placeholder> placeholder;  // null if concrete
  Ref<TapeLink> tape;            // null if no gradient flows through this value
  uint32_t tape_output = 0;      // which output of the tape node this value is

  TensorImpl() = default;
  TensorImpl(const TensorImpl&) = delete;
  TensorImpl& operator=(const TensorImpl&) = delete;
  ~TensorImpl() override {
    if (placeholder) placeholder->detach(*this);
  }
  // The one way in which a tensor comes to have a placeholder.
  void stand_for(Ref<Placeholder> value) {
    placeholder = std::move(value);
    if (placeholder) placeholder->attach(*this);
  }
};

class Tensor {
 public:
  // No value; `defined()` is false. Optional inputs of ops are passed so.
  Tensor() = default;
  // 0-d tensors from C++ numbers. They are weak: in `x * 0.5` the number takes x's dtype if that can hold
  // numbers of its kind (a fraction beside an integer tensor gives f32). Alone they are bool, i64 or f32.
  Tensor(bool value);     // NOLINT(google-explicit-constructor): numbers are tensors
  Tensor(int value);      // NOLINT(google-explicit-constructor)
  Tensor(int64_t value);  // NOLINT(google-explicit-constructor)
  Tensor(float value);    // NOLINT(google-explicit-constructor)
  Tensor(double value);   // NOLINT(google-explicit-constructor)
  explicit Tensor(Ref<TensorImpl> impl) : impl_(std::move(impl)) {}

  [[nodiscard]] bool defined() const { return static_cast<bool>(impl_); }
  // These, and whatever else asks for the value: ValueError if there is none.
  [[nodiscard]] const TensorType& type() const { return body().type; }
  [[nodiscard]] const Shape& shape() const { return body().type.shape; }
  // Extent of one axis; negative axes count from the end.
  [[nodiscard]] int64_t shape(int64_t axis) const;
  [[nodiscard]] int64_t ndim() const { return static_cast<int64_t>(body().type.shape.size()); }
  // Number of elements.
  [[nodiscard]] int64_t size() const { return numel(body().type.shape); }
  [[nodiscard]] DType dtype() const { return body().type.dtype; }
  // True if there are elements to read; those of a lazy tensor (inside compile) are computed now.
  [[nodiscard]] bool is_concrete() const {
    const TensorImpl& x = body();
    if (x.placeholder && x.placeholder->lazy()) x.placeholder->force();
    return static_cast<bool>(x.buffer);
  }
  // The same without computing anything.
  [[nodiscard]] bool has_elements() const {
    const TensorImpl& x = body();
    return x.buffer || (x.placeholder && x.placeholder->lazy());
  }
  [[nodiscard]] bool is_contiguous() const;

  // The single element as a C++ number, converted as by a cast op (a fraction is cut towards zero, a value
  // outside of T's range gives the nearest end of it). Errors: ShapeError unless size() is 1;
  // a traced tensor has no elements yet, so reading it inside capture is an error that says so.
  template <class T = double>
  [[nodiscard]] T item() const;
  // All elements in row-major order, converted.
  template <class T = double>
  [[nodiscard]] std::vector<T> to_vector() const;
  // The elements in place, row-major. Errors: DTypeError unless T is the dtype (std::byte: any dtype, the raw
  // bytes); a non-contiguous tensor must go through contiguous(x) first.
  template <class T>
  [[nodiscard]] std::span<const T> data() const;

  // True if a derivative may flow through this value.
  [[nodiscard]] bool requires_grad() const { return impl_ && impl_->tape; }
  // Accumulates d(this)/d(variable) into every Variable that this scalar depends on. `retain_graph`
  // keeps what the pass used, so that backward may be called again. (trace/backward.cpp)
  void backward(bool retain_graph = false) const;
  void backward(const Tensor& gradient, bool retain_graph = false) const;
  // The same value, through which no gradient flows.
  [[nodiscard]] Tensor detach() const;

  // Python-like indexing: x[i] takes one element of the first axis. More in ops/indexing.h.
  Tensor operator[](int64_t i) const;

  [[nodiscard]] TensorImpl* impl() const { return impl_.get(); }
  [[nodiscard]] Ref<TensorImpl> release() && { return std::move(impl_); }
  [[nodiscard]] bool unique() const { return impl_.unique(); }

 private:
  [[nodiscard]] const TensorImpl& body() const {
    if (!impl_) [[unlikely]]
      throw_undefined();
    return *impl_;
  }
  [[noreturn, gnu::cold]] static void throw_undefined();

  Ref<TensorImpl> impl_;
};

using Tensors = std::vector<Tensor>;

// A concrete tensor over fresh memory, row-major, contents undefined: for kernels and readers.
Tensor empty(const Shape& shape, DType dtype);
// A concrete tensor over memory that exists: nothing is copied.
Tensor from_buffer(Ref<Buffer> buffer, const TensorType& type, int64_t offset = 0);
Tensor from_buffer(Ref<Buffer> buffer, const TensorType& type, const Shape& strides, int64_t offset);
// Copies the values. Errors: ShapeError if the count differs from the shape's.
template <class T>
Tensor from_vector(const std::vector<T>& values, const Shape& shape);
template <class T>
Tensor from_span(std::span<const T> values, const Shape& shape);
// tensor({1.f, 2.f}), tensor({{1, 2}, {3, 4}}): 1-d and 2-d literals. As for single numbers, fractions give
// f32 whether they are written 0.5f or 0.5, and integers i64; from_vector keeps double.
// For float, double and int. (Templates, because plain overloads for nested lists are ambiguous to clang.)
template <class T>
Tensor tensor(std::initializer_list<T> values);
template <class T>
Tensor tensor(std::initializer_list<std::initializer_list<T>> rows);

// The number behind a weak tensor as a 0-d tensor of `dtype` that is no longer weak, rounded once from the
// number as the user wrote it. Without dtype: its own.
Tensor strengthen(const Tensor& weak, DType dtype);
Tensor strengthen(const Tensor& weak);

// Mutable bytes of a concrete, contiguous tensor that the caller has just made with empty(). InternalError
// if anybody else holds it: values never change under another handle.
std::byte* mutable_data(Tensor& fresh);

// "tensor([1., 2.], f32)": the elements as NumPy's array2string lays them out with separator ", "; tensors of
// more than 1000 elements show three at each end of every axis. One without elements shows its type only.
std::string to_string(const Tensor& x);

}  // namespace tenon
