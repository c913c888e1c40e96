// Ref<T>: an owning pointer to a RefCounted object, one word wide.
//
// Used where an object is shared by many handles and its sharing must be cheap to ask for
// (`unique()` decides whether a buffer may be reused). Counting is thread-safe.
#pragma once

#include <atomic>
#include <cstdint>
#include <utility>

namespace tenon {

class RefCounted {
 public:
  RefCounted() = default;
  RefCounted(const RefCounted&) = delete;
  RefCounted& operator=(const RefCounted&) = delete;
  virtual ~RefCounted() = default;

  void retain() const noexcept { count_.fetch_add(1, std::memory_order_relaxed); }
  // True when this was the last owner: the caller deletes.
  [[nodiscard]] bool release() const noexcept { return count_.fetch_sub(1, std::memory_order_acq_rel) == 1; }
  [[nodiscard]] uint32_t use_count() const noexcept { return count_.load(std::memory_order_acquire); }

 private:
  mutable std::atomic<uint32_t> count_{0};
};

template <class T>
class Ref {
 public:
  Ref() = default;
  Ref(std::nullptr_t) {}  // NOLINT(google-explicit-constructor): reads as a null pointer
  explicit Ref(T* p) noexcept : p_(p) { retain(); }
  Ref(const Ref& o) noexcept : p_(o.p_) { retain(); }
  Ref(Ref&& o) noexcept : p_(std::exchange(o.p_, nullptr)) {}
  template <class U>
    requires std::is_convertible_v<U*, T*>
  Ref(Ref<U> o) noexcept : p_(o.detach()) {}  // NOLINT(google-explicit-constructor): as for raw pointers
  Ref& operator=(Ref o) noexcept {
    std::swap(p_, o.p_);
    return *this;
  }
  ~Ref() {
    if (p_ && p_->release()) delete p_;
  }

  [[nodiscard]] T* get() const noexcept { return p_; }
  T* operator->() const noexcept { return p_; }
  T& operator*() const noexcept { return *p_; }
  explicit operator bool() const noexcept { return p_ != nullptr; }
  [[nodiscard]] bool unique() const noexcept { return p_ && p_->use_count() == 1; }
  bool operator==(const Ref&) const = default;
  // Gives up the pointer without releasing it.
  [[nodiscard]] T* detach() noexcept { return std::exchange(p_, nullptr); }

 private:
  void retain() const noexcept {
    if (p_) p_->retain();
  }
  T* p_ = nullptr;
};

template <class T, class... A>
Ref<T> make_ref(A&&... args) {
  return Ref<T>(new T(std::forward<A>(args)...));
}

}  // namespace tenon
