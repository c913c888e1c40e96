// Moves of elements between layouts, for every dtype.
#pragma once

#include "tenon/base/thread_pool.h"
#include "tenon/tensor/buffer.h"
#include "tenon/tensor/view.h"

namespace tenon::cpu {

// out[i] = in[i]; same dtype and shape, any strides.
void copy(const ConstView& in, const View& out, ThreadPool& pool);

// The elements of a view in row-major order: its own memory if they lie so already, else a copy. Not for dtypes below
// 8 bits.
class Contiguous {
 public:
  Contiguous(const ConstView& view, ThreadPool& pool);
  [[nodiscard]] const std::byte* data() const { return data_; }
  template <class T>
  [[nodiscard]] const T* as() const {
    return reinterpret_cast<const T*>(data_);
  }

 private:
  Ref<Buffer> copy_;
  const std::byte* data_ = nullptr;
};

// n elements of `bytes` bytes (1, 2, 4, 8), `stride` elements apart, to or from neighbours. The pointers are to the
// first element.
void gather(std::byte* to, const std::byte* from, int64_t stride, int64_t n, int bytes);
void scatter(std::byte* to, int64_t stride, const std::byte* from, int64_t n, int bytes);
// The same for dtypes below 8 bits, which stand in whole bytes (signed ones sign-extended) when unpacked;
// `first` is an element number.
void gather_packed(std::byte* to, const std::byte* from, int64_t first, int64_t stride, int64_t n, DType dtype);
void scatter_packed(std::byte* to, int64_t first, int64_t stride, const std::byte* from, int64_t n, DType dtype);

// Row-major memory for a result: where it is wanted, or a copy of its own that goes there in the end.
class RowMajorResult {
 public:
  explicit RowMajorResult(const View& out) : out_(out) {
    if (!out.contiguous()) own_ = Buffer::allocate_scratch(static_cast<size_t>(byte_size(out.dtype, numel(out.shape))));
  }
  [[nodiscard]] std::byte* data() const { return own_ ? own_->data() : out_.first(); }
  void deliver(ThreadPool& pool) const {
    if (own_) copy({own_->data(), out_.dtype, out_.shape, contiguous_strides(out_.shape), 0}, out_, pool);
  }

 private:
  const View& out_;
  Ref<Buffer> own_;
};

}  // namespace tenon::cpu
