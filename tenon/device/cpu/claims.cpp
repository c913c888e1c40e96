#include "tenon/device/cpu/claims.h"

#include <array>

#include "tenon/device/cpu/claim_kernels.h"
#include "tenon/device/cpu/i8_finish.h"
#include "tenon/device/cpu/i8_kernels.h"
#include "tenon/device/cpu/kernels.h"
#include "tenon/device/cpu/tile_program.h"
#include "tenon/ops/attention.h"
#include "tenon/ops/convolution.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/cumulative.h"
#include "tenon/ops/gather.h"
#include "tenon/ops/indexing.h"
#include "tenon/ops/interpolate.h"
#include "tenon/ops/linalg.h"
#include "tenon/ops/loss.h"
#include "tenon/ops/matmul.h"
#include "tenon/ops/movement_ops.h"
#include "tenon/ops/normalization.h"
#include "tenon/ops/ordering.h"
#include "tenon/ops/pooling.h"
#include "tenon/ops/random.h"
#include "tenon/ops/softmax.h"

namespace tenon::cpu {

std::span<const Claim> cpu_claims() {
  static const std::array kClaims{
      Claim{&ops::matmul_op(), nullptr, claim_matmul, prepare_matmul, TileProgram::accepts, false, ready_matmul, true},
      Claim{&ops::matmul_integer_op(), nullptr, claim_matmul_integer, prepare_matmul_integer, I8Program::accepts, false,
            ready_matmul_integer},
      Claim{&ops::conv_op(), floats, claim_conv, prepare_conv, TileProgram::accepts, true, ready_conv},
      Claim{&ops::convolution_integer_op(), nullptr, claim_convolution_integer, prepare_convolution_integer,
            I8Program::accepts, false, ready_convolution_integer},
      Claim{&ops::conv_input_gradient_op(), floats, claim_conv_input_gradient},
      Claim{&ops::conv_weight_gradient_op(), floats, claim_conv_weight_gradient},
      Claim{&ops::max_pool_op(), floats, run_max_pool, prepare_max_pool, nullptr, false, ready_max_pool},
      Claim{&ops::average_pool_op(), floats, run_average_pool},
      Claim{&ops::average_pool_gradient_op(), floats, run_average_pool_gradient},
      Claim{&ops::softmax_op(), accepts_last_axis, run_softmax},
      Claim{&ops::softmax_grad_op(), accepts_last_axis, run_softmax_grad},
      Claim{&ops::log_softmax_op(), accepts_last_axis, run_log_softmax},
      Claim{&ops::log_softmax_grad_op(), accepts_last_axis, run_log_softmax_grad},
      Claim{&ops::cross_entropy_op(), accepts_cross_entropy, run_cross_entropy},
      Claim{&ops::cross_entropy_grad_op(), accepts_cross_entropy_grad, run_cross_entropy_grad},
      Claim{&ops::normalize_op(), accepts_normalize, run_normalize},
      Claim{&ops::normalize_grad_op(), accepts_normalize_grad, run_normalize_grad},
      Claim{&ops::attention_op(), accepts_attention, run_attention},
      Claim{&ops::attention_grad_op(), accepts_attention, run_attention_grad},
      Claim{&ops::full_op(), accepts_full, run_full},
      Claim{&ops::iota_op(), accepts_iota, run_iota},
      Claim{&ops::pad_op(), accepts_whole_bytes, run_pad},
      Claim{&ops::concat_op(), nullptr, run_concat, prepare_concat},
      Claim{&ops::take_op(), accepts_whole_bytes, run_take},
      Claim{&ops::interpolate_op(), accepts_interpolate, run_interpolate, prepare_interpolate},
      Claim{&ops::interpolate_op(), accepts_blend, run_blend, prepare_blend},
      Claim{&ops::index_add_op(), accepts_index_add, run_index_add},
      Claim{&ops::embedding_op(), accepts_whole_bytes, run_embedding},
      Claim{&ops::take_along_axis_op(), accepts_whole_bytes, run_take_along_axis},
      Claim{&ops::scatter_along_axis_op(), accepts_scatter, run_scatter},
      Claim{&ops::random_bits_op(), nullptr, run_random_bits},
      Claim{&ops::sort_op(), accepts_sort, run_sort},
      Claim{&ops::cumsum_op(), accepts_accumulate, run_cumsum},
      Claim{&ops::cumprod_op(), accepts_accumulate, run_cumprod},
      Claim{&ops::linear_recurrence_op(), accepts_float_scan, run_linear_recurrence},
      Claim{&ops::logcumsumexp_op(), accepts_float_scan, run_logcumsumexp},
      Claim{&ops::cummax_op(), accepts_extreme, run_cummax},
      Claim{&ops::cummin_op(), accepts_extreme, run_cummin},
      Claim{&ops::cholesky_op(), full_floats, run_cholesky},
      Claim{&ops::solve_op(), full_floats, run_solve},
      Claim{&ops::triangular_solve_op(), full_floats, run_triangular_solve},
      Claim{&ops::qr_op(), full_floats, run_qr},
      Claim{&ops::eigh_op(), full_floats, run_eigh},
      Claim{&ops::svd_op(), full_floats, run_svd},
  };
  return kClaims;
}

}  // namespace tenon::cpu
