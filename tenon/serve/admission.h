// Admission: who may come in, decided before a body is read or parsed.
//
// Requests and bytes are reserved in one step and given back when the ticket dies, so the limits hold at any moment.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <utility>

namespace tenon::serve {

class Metrics;
class Counter;
struct Status;

struct AdmissionLimits {
  int64_t requests = 4096;
  int64_t bytes = int64_t{1} << 30;
  int64_t body = int64_t{256} << 20;  // of one request
};

class Admission {
 public:
  Admission(AdmissionLimits limits, Metrics& metrics);
  Admission(const Admission&) = delete;
  Admission& operator=(const Admission&) = delete;

  class Ticket {
   public:
    Ticket() = default;
    Ticket(Ticket&& other) noexcept
        : owner_(std::exchange(other.owner_, nullptr)), bytes_(std::exchange(other.bytes_, 0)) {}
    Ticket& operator=(Ticket&& other) noexcept {
      std::swap(owner_, other.owner_);
      std::swap(bytes_, other.bytes_);
      return *this;
    }
    ~Ticket();
    explicit operator bool() const { return owner_ != nullptr; }

   private:
    friend class Admission;
    Ticket(Admission* owner, int64_t bytes) : owner_(owner), bytes_(bytes) {}
    Admission* owner_ = nullptr;
    int64_t bytes_ = 0;
  };

  // RequestError: RESOURCE_EXHAUSTED if one body is too large; UNAVAILABLE, with a time to try again, if the server is
  // full or draining.
  [[nodiscard]] Ticket reserve(int64_t bytes);
  // Counts a chunked body that turned out too large; what to answer.
  [[nodiscard]] Status refuse_chunked();

  // From now on nobody comes in.
  void drain() { draining_.store(true, std::memory_order_release); }
  [[nodiscard]] bool draining() const { return draining_.load(std::memory_order_acquire); }
  [[nodiscard]] int64_t requests() const { return requests_.load(std::memory_order_relaxed); }
  [[nodiscard]] int64_t bytes() const { return bytes_.load(std::memory_order_relaxed); }
  [[nodiscard]] const AdmissionLimits& limits() const { return limits_; }

 private:
  AdmissionLimits limits_;
  std::atomic<int64_t> requests_{0}, bytes_{0};
  std::atomic<bool> draining_{false};
  Counter& refused_count_;
  Counter& refused_bytes_;
  Counter& refused_body_;
  Counter& refused_draining_;
};

}  // namespace tenon::serve
