#include "tenon/tensor/number.h"

#include <fmt/format.h>

#include <cmath>

#include "tenon/base/error.h"
#include "tenon/tensor/element.h"

namespace tenon {
namespace {

[[noreturn]] void does_not_fit(std::string_view where, std::string number, DType dtype) {
  const DTypeInfo& row = info(dtype);
  const int bits = row.kind == DTypeKind::Signed ? row.bits - 1 : row.bits;
  const double end = std::ldexp(1.0, bits);
  std::string range =
      bits > 52
          ? fmt::format("{}2^{} - 1", row.kind == DTypeKind::Signed ? fmt::format("-2^{} to ", bits) : "0 to ", bits)
          : fmt::format("{} to {}", row.kind == DTypeKind::Signed ? -end : 0.0, end - 1);
  throw ValueError(
      {.where = std::string(where),
       .problem = fmt::format("the number does not fit {}", row.name),
       .expected = std::move(range),
       .got = std::move(number),
       .hint = "cast the tensor to a wider dtype, or the number itself if it should wrap: cast(Tensor(n), dtype)"});
}

}  // namespace

bool holds_integer(DType dtype, int64_t value) {
  if (dtype == DType::U64) return value >= 0;
  return wrap_integer(dtype, value) == value;
}

void expect_integer_fits(std::string_view where, int64_t value, DType dtype) {
  if (is_integer(dtype) && !holds_integer(dtype, value)) does_not_fit(where, std::to_string(value), dtype);
}

void expect_number_fits(std::string_view where, const Tensor& number, DType dtype) {
  const TensorImpl& x = *number.impl();
  if (x.weak && x.buffer && x.type.dtype == DType::I64) expect_integer_fits(where, number.item<int64_t>(), dtype);
}

void expect_real_fits(std::string_view where, double value, DType dtype) {
  if (!is_integer(dtype)) return;
  const double held = integer_to_real(DType::F64, real_to_integer(dtype, value), dtype == DType::U64);
  if (held != std::trunc(value)) does_not_fit(where, fmt::format("{}", value), dtype);
}

}  // namespace tenon
