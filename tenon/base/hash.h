// A 128-bit hash of a sequence of bytes: MurmurHash3_x64_128 (Austin Appleby, public domain), fed in pieces.
//
// The same on every run and platform, fast (several bytes a cycle), and wide enough that equal hashes mean equal
// content among everything that a program will ever compare. Not for adversaries: it is not cryptographic.
#pragma once

#include <array>
#include <bit>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace tenon {

struct Hash128 {
  uint64_t low = 0;
  uint64_t high = 0;
  auto operator<=>(const Hash128&) const = default;
};
// 32 hexadecimal digits, `high` first.
std::string to_string(const Hash128& hash);

class Hasher {
 public:
  explicit Hasher(uint32_t seed = 0) : h1_(seed), h2_(seed) {}
  void bytes(std::span<const std::byte> data);
  // Fixed width, low byte first on every machine.
  void number(std::integral auto value) { word(static_cast<uint64_t>(value)); }
  void real(double value) { word(std::bit_cast<uint64_t>(value)); }
  // With its length, so that ("ab", "c") differs from ("a", "bc").
  void text(std::string_view value) {
    word(value.size());
    bytes(std::as_bytes(std::span(value)));
  }
  // What was fed so far; more may follow.
  [[nodiscard]] Hash128 finish() const;

 private:
  void word(uint64_t value);
  void block(uint64_t k1, uint64_t k2);

  uint64_t h1_, h2_;
  std::array<std::byte, 16> pending_{};
  size_t length_ = 0;
};

}  // namespace tenon

// For unordered_map<Hash128, …>.
template <>
struct std::hash<tenon::Hash128> {
  size_t operator()(const tenon::Hash128& hash) const noexcept { return static_cast<size_t>(hash.low); }
};
