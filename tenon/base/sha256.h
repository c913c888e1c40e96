// SHA-256 (FIPS 180-4): the checksum in files, because every language has it. For hashes in memory use base/hash.h.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace tenon {

class Sha256 {
 public:
  void bytes(std::span<const std::byte> data);
  // 64 hexadecimal digits. Nothing may be fed afterwards.
  [[nodiscard]] std::string finish();

 private:
  void block(const std::byte* data);

  std::array<uint32_t, 8> state_{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
                                 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19};
  std::array<std::byte, 64> pending_{};
  uint64_t length_ = 0;  // in bytes
};

std::string sha256(std::span<const std::byte> data);

}  // namespace tenon
