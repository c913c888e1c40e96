#include "tenon/device/cpu/claims.h"

#include <array>

#include "tenon/device/cpu/gemm.h"
#include "tenon/ops/matmul.h"

namespace tenon::cpu {
namespace {

void run_matmul(const KernelArgs& a) { matmul(a.inputs[0], a.inputs[1], a.outputs[0], a.pool); }

}  // namespace

std::span<const Claim> cpu_claims() {
  static const std::array kClaims{
      Claim{&ops::matmul_op(), nullptr, run_matmul},
  };
  return kClaims;
}

}  // namespace tenon::cpu
