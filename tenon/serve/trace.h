// Trace ids as W3C Trace Context has them: the header traceparent, "00-TRACEID-PARENTID-FLAGS" in lower-case hex.
//
// A request keeps the trace that it came with; its own span is new, and the answer says both. What came without a
// trace, or with one that the standard calls invalid, begins one.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <string>
#include <string_view>

namespace tenon::serve {

class Trace {
 public:
  Trace() = default;
  [[nodiscard]] explicit operator bool() const { return text_[0] != '\0'; }
  // What the answer says: this trace, with our span in the place of the parent.
  [[nodiscard]] std::string_view traceparent() const { return part(0, kLength); }
  [[nodiscard]] std::string_view trace_id() const { return part(3, 32); }
  [[nodiscard]] std::string_view span_id() const { return part(36, 16); }
  // The caller's span; "" if the trace began here.
  [[nodiscard]] std::string_view parent_id() const {
    return {parent_.data(), parent_[0] == '\0' ? size_t{0} : parent_.size()};
  }

 private:
  friend class TraceIds;
  static constexpr size_t kLength = 55;
  [[nodiscard]] std::string_view part(size_t at, size_t n) const {
    return *this ? std::string_view(text_.data() + at, n) : std::string_view();
  }
  std::array<char, kLength> text_{};
  std::array<char, 16> parent_{};
};

// Gives out ids that nobody else has; thread-safe.
class TraceIds {
 public:
  TraceIds();  // of random bits of the system
  explicit TraceIds(uint64_t seed) : seed_(seed) {}
  // The trace of a request with this header ("" if it has none).
  Trace begin(std::string_view traceparent);

 private:
  uint64_t seed_;
  std::atomic<uint64_t> next_{0};
};

}  // namespace tenon::serve
