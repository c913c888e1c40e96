// InlineVector<T, N>: a vector of trivially copyable T that keeps up to N elements in itself.
//
// Shapes, strides and axes are this: they are copied on every op call, and almost all have at most
// six elements, so almost none allocates.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <initializer_list>
#include <span>
#include <type_traits>

namespace tenon {

template <class T, size_t N>
class InlineVector {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  using value_type = T;
  using iterator = T*;
  using const_iterator = const T*;

  InlineVector() = default;
  InlineVector(std::initializer_list<T> values) { assign(values.begin(), values.end()); }
  explicit InlineVector(std::span<const T> values) { assign(values.data(), values.data() + values.size()); }
  explicit InlineVector(size_t n, T value = T{}) { resize(n, value); }
  template <class It>
    requires(!std::is_integral_v<It>)
  InlineVector(It first, It last) {
    for (; first != last; ++first) push_back(static_cast<T>(*first));
  }
  InlineVector(const InlineVector& o) { copy(o); }
  InlineVector(InlineVector&& o) noexcept { steal(o); }
  InlineVector& operator=(const InlineVector& o) {
    if (this != &o) copy(o);
    return *this;
  }
  InlineVector& operator=(InlineVector&& o) noexcept {
    if (this != &o) {
      if (capacity_ > N) delete[] data_;
      steal(o);
    }
    return *this;
  }
  ~InlineVector() {
    if (capacity_ > N) delete[] data_;
  }

  [[nodiscard]] size_t size() const { return size_; }
  [[nodiscard]] bool empty() const { return size_ == 0; }
  T* data() { return data_; }
  const T* data() const { return data_; }
  T* begin() { return data_; }
  T* end() { return data_ + size_; }
  const T* begin() const { return data_; }
  const T* end() const { return data_ + size_; }
  T& operator[](size_t i) { return data_[i]; }
  const T& operator[](size_t i) const { return data_[i]; }
  T& front() { return data_[0]; }
  const T& front() const { return data_[0]; }
  T& back() { return data_[size_ - 1]; }
  const T& back() const { return data_[size_ - 1]; }

  void push_back(T value) {
    reserve(size_ + 1);
    data_[size_++] = value;
  }
  void pop_back() { --size_; }
  void clear() { size_ = 0; }
  void resize(size_t n, T value = T{}) {
    reserve(n);
    for (size_t i = size_; i < n; ++i) data_[i] = value;
    size_ = n;
  }
  T* insert(const T* where, T value) {
    const size_t i = static_cast<size_t>(where - data_);
    push_back(value);
    std::rotate(data_ + i, data_ + size_ - 1, data_ + size_);
    return data_ + i;
  }
  T* erase(const T* where) {
    const size_t i = static_cast<size_t>(where - data_);
    std::copy(data_ + i + 1, data_ + size_, data_ + i);
    --size_;
    return data_ + i;
  }
  void reserve(size_t n) {
    if (n <= capacity_) return;
    const size_t grown = std::max(n, 2 * capacity_);
    T* fresh = new T[grown];
    std::copy(begin(), end(), fresh);
    if (capacity_ > N) delete[] data_;
    data_ = fresh;
    capacity_ = grown;
  }
  operator std::span<const T>() const { return {data_, size_}; }  // NOLINT(google-explicit-constructor)

  friend bool operator==(const InlineVector& a, const InlineVector& b) {
    if (a.size_ != b.size_) return false;
    for (size_t i = 0; i < a.size_; ++i) {  // a call of memcmp costs more than the few elements
      if (!(a.data_[i] == b.data_[i])) return false;
    }
    return true;
  }

 private:
  void assign(const T* first, const T* last) {
    size_ = 0;
    reserve(static_cast<size_t>(last - first));
    std::copy(first, last, data_);
    size_ = static_cast<size_t>(last - first);
  }
  // All of the elements' room at once: a size that the compiler knows.
  void copy(const InlineVector& o) {
    if (capacity_ == N && o.capacity_ == N) {
      std::memcpy(static_cast<void*>(own_), static_cast<const void*>(o.own_), sizeof(own_));
      size_ = o.size_;
    } else {
      assign(o.begin(), o.end());
    }
  }
  void steal(InlineVector& o) noexcept {
    if (o.capacity_ > N) {
      data_ = o.data_;
      capacity_ = o.capacity_;
    } else {
      data_ = own_;
      capacity_ = N;
      std::memcpy(static_cast<void*>(own_), static_cast<const void*>(o.own_), sizeof(own_));
    }
    size_ = o.size_;
    o.data_ = o.own_;
    o.capacity_ = N;
    o.size_ = 0;
  }

  T* data_ = own_;
  size_t size_ = 0;
  size_t capacity_ = N;
  T own_[N]{};
};

}  // namespace tenon
