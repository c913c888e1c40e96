#include "tenon/device/cpu/claims.h"

#include <array>

#include "tenon/device/cpu/claim_kernels.h"
#include "tenon/ops/convolution.h"
#include "tenon/ops/matmul.h"

namespace tenon::cpu {

std::span<const Claim> cpu_claims() {
  static const std::array kClaims{
      Claim{&ops::matmul_op(), nullptr, claim_matmul},
      Claim{&ops::conv_op(), full_floats, claim_conv},
      Claim{&ops::conv_input_gradient_op(), full_floats, claim_conv_input_gradient},
      Claim{&ops::conv_weight_gradient_op(), full_floats, claim_conv_weight_gradient},
  };
  return kClaims;
}

}  // namespace tenon::cpu
