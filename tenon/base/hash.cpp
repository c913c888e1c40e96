#include "tenon/base/hash.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

namespace tenon {
namespace {

constexpr uint64_t kC1 = 0x87c37b91114253d5, kC2 = 0x4cf5ad432745937f;

// Eight bytes, low byte first.
uint64_t load(const std::byte* data) {
  uint64_t value;
  std::memcpy(&value, data, 8);
  if constexpr (std::endian::native == std::endian::big) value = __builtin_bswap64(value);
  return value;
}

uint64_t mix(uint64_t k) {
  k = (k ^ (k >> 33)) * 0xff51afd7ed558ccd;
  k = (k ^ (k >> 33)) * 0xc4ceb9fe1a85ec53;
  return k ^ (k >> 33);
}

uint64_t scramble1(uint64_t k) { return std::rotl(k * kC1, 31) * kC2; }
uint64_t scramble2(uint64_t k) { return std::rotl(k * kC2, 33) * kC1; }

}  // namespace

std::string to_string(const Hash128& hash) { return fmt::format("{:016x}{:016x}", hash.high, hash.low); }

void Hasher::block(uint64_t k1, uint64_t k2) {
  h1_ = (std::rotl(h1_ ^ scramble1(k1), 27) + h2_) * 5 + 0x52dce729;
  h2_ = (std::rotl(h2_ ^ scramble2(k2), 31) + h1_) * 5 + 0x38495ab5;
}

void Hasher::bytes(std::span<const std::byte> data) {
  const size_t filled = length_ % 16;
  length_ += data.size();
  if (filled + data.size() < 16) {
    std::copy(data.begin(), data.end(), pending_.begin() + filled);
    return;
  }
  if (filled > 0) {
    const size_t taken = 16 - filled;
    std::copy_n(data.begin(), taken, pending_.begin() + filled);
    block(load(pending_.data()), load(pending_.data() + 8));
    data = data.subspan(taken);
  }
  for (; data.size() >= 16; data = data.subspan(16)) block(load(data.data()), load(data.data() + 8));
  std::copy(data.begin(), data.end(), pending_.begin());
}

void Hasher::word(uint64_t value) {
  if constexpr (std::endian::native == std::endian::big) value = __builtin_bswap64(value);
  bytes(std::as_bytes(std::span(&value, 1)));
}

Hash128 Hasher::finish() const {
  uint64_t h1 = h1_, h2 = h2_;
  std::array<std::byte, 16> tail{};
  std::copy_n(pending_.begin(), length_ % 16, tail.begin());
  h2 ^= scramble2(load(tail.data() + 8));  // zero bytes scramble to zero
  h1 ^= scramble1(load(tail.data()));
  h1 ^= length_;
  h2 ^= length_;
  h1 += h2;
  h2 += h1;
  h1 = mix(h1);
  h2 = mix(h2);
  h1 += h2;
  h2 += h1;
  return {h1, h2};
}

}  // namespace tenon
