// How many requests of one model may be inside the server at one time. All its versions share one.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <string>
#include <utility>

namespace tenon::serve {

class Quota {
 public:
  // Given back when it dies.
  class Place {
   public:
    Place() = default;
    Place(Place&&) = default;
    Place& operator=(Place&& other) noexcept {
      std::swap(of_, other.of_);
      return *this;
    }
    ~Place() {
      if (of_) of_->taken_.fetch_sub(1, std::memory_order_acq_rel);
    }

   private:
    friend class Quota;
    explicit Place(std::shared_ptr<Quota> of) : of_(std::move(of)) {}
    std::shared_ptr<Quota> of_;
  };

  void set(int64_t most) { most_.store(most, std::memory_order_relaxed); }
  // RequestError RESOURCE_EXHAUSTED if all are taken.
  [[nodiscard]] static Place take(const std::shared_ptr<Quota>& quota, const std::string& model);

 private:
  std::atomic<int64_t> most_{0}, taken_{0};
};
using QuotaPtr = std::shared_ptr<Quota>;

}  // namespace tenon::serve
