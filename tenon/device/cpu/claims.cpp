#include "tenon/device/cpu/claims.h"

#include <array>

namespace tenon::cpu {

std::span<const Claim> cpu_claims() {
  static const std::array<Claim, 0> kClaims{};
  return kClaims;
}

}  // namespace tenon::cpu
