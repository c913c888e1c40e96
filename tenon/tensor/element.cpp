#include "tenon/tensor/element.h"

#include <cmath>
#include <limits>

#include "tenon/tensor/low_precision.h"

namespace tenon {
namespace {

template <class T>
T load(const std::byte* data, int64_t element) {
  T value;
  __builtin_memcpy(&value, data + element * static_cast<int64_t>(sizeof(T)), sizeof(T));
  return value;
}

template <class T>
void store(std::byte* data, int64_t element, T value) {
  __builtin_memcpy(data + element * static_cast<int64_t>(sizeof(T)), &value, sizeof(T));
}

uint32_t load_packed(const std::byte* data, int bits, int64_t element) {
  const int64_t at = element * bits;
  return (std::to_integer<uint32_t>(data[at >> 3]) >> (at & 7)) & ((1u << bits) - 1u);
}

void store_packed(std::byte* data, int bits, int64_t element, uint32_t value) {
  const int64_t at = element * bits;
  const uint32_t mask = ((1u << bits) - 1u) << (at & 7);
  const uint32_t old = std::to_integer<uint32_t>(data[at >> 3]);
  data[at >> 3] = static_cast<std::byte>((old & ~mask) | ((value << (at & 7)) & mask));
}

int64_t sign_extend(uint64_t value, int bits) {
  const int unused = 64 - bits;
  return static_cast<int64_t>(value << unused) >> unused;
}

double load_float(const ConstView& from, int64_t element) {
  switch (from.dtype) {
    case DType::F16:
      return f16_to_f32(load<uint16_t>(from.data, element));
    case DType::BF16:
      return bf16_to_f32(load<uint16_t>(from.data, element));
    case DType::F32:
      return load<float>(from.data, element);
    case DType::F8E4M3:
      return f8e4m3_to_f32(load<uint8_t>(from.data, element));
    case DType::F8E5M2:
      return f8e5m2_to_f32(load<uint8_t>(from.data, element));
    default:
      return load<double>(from.data, element);
  }
}

void store_float(const View& to, int64_t element, double value) {
  switch (to.dtype) {
    case DType::F16:
      return store(to.data, element, f64_to_f16(value));
    case DType::BF16:
      return store(to.data, element, f64_to_bf16(value));
    case DType::F32:
      return store(to.data, element, static_cast<float>(value));
    case DType::F8E4M3:
      return store(to.data, element, f64_to_f8e4m3(value));
    case DType::F8E5M2:
      return store(to.data, element, f64_to_f8e5m2(value));
    default:
      return store(to.data, element, value);
  }
}

}  // namespace

double integer_to_real(DType dtype, int64_t value, bool is_unsigned) {
  if (dtype == DType::F64)
    return is_unsigned ? static_cast<double>(static_cast<uint64_t>(value)) : static_cast<double>(value);
  // Through a double that is rounded to odd where it is inexact: that rounds correctly to anything narrower.
  const bool negative = !is_unsigned && value < 0;
  uint64_t magnitude = static_cast<uint64_t>(value);
  if (negative) magnitude = ~magnitude + 1;
  constexpr uint64_t kExact = uint64_t{1} << 53;
  if (magnitude >= kExact) {
    const int drop = 11 - __builtin_clzll(magnitude);  // bits beyond the 53 of a double
    const uint64_t lost = magnitude & ((uint64_t{1} << drop) - 1);
    magnitude = (magnitude >> drop | (lost != 0 ? 1u : 0u)) << drop;
  }
  const double real = static_cast<double>(magnitude);
  return round_to(dtype, negative ? -real : real);
}

int64_t real_to_integer(DType dtype, double value) {
  const DTypeInfo& row = info(dtype);
  if (row.kind == DTypeKind::Bool) return value != 0 ? 1 : 0;
  if (std::isnan(value)) return 0;
  if (row.kind == DTypeKind::Unsigned) {
    if (value <= 0) return 0;
    const uint64_t last = row.bits == 64 ? ~uint64_t{0} : (uint64_t{1} << row.bits) - 1;
    const double limit = std::ldexp(1.0, row.bits);
    return static_cast<int64_t>(value >= limit ? last : static_cast<uint64_t>(value));
  }
  const double limit = std::ldexp(1.0, row.bits - 1);
  if (value >= limit) return static_cast<int64_t>((uint64_t{1} << (row.bits - 1)) - 1);
  if (value <= -limit) return sign_extend(uint64_t{1} << (row.bits - 1), row.bits);
  return static_cast<int64_t>(value);
}

int64_t wrap_integer(DType dtype, int64_t value) {
  const DTypeInfo& row = info(dtype);
  if (row.kind == DTypeKind::Bool) return value != 0 ? 1 : 0;
  if (row.bits == 64) return value;
  if (row.kind == DTypeKind::Signed) return sign_extend(static_cast<uint64_t>(value), row.bits);
  return static_cast<int64_t>(static_cast<uint64_t>(value) & ((uint64_t{1} << row.bits) - 1));
}

double round_to(DType dtype, double value) {
  switch (dtype) {
    case DType::F16:
      return f16_to_f32(f64_to_f16(value));
    case DType::BF16:
      return bf16_to_f32(f64_to_bf16(value));
    case DType::F32:
      return static_cast<float>(value);
    case DType::F8E4M3:
      return f8e4m3_to_f32(f64_to_f8e4m3(value));
    case DType::F8E5M2:
      return f8e5m2_to_f32(f64_to_f8e5m2(value));
    default:
      return value;
  }
}

double load_real(const ConstView& from, int64_t element) {
  if (is_float(from.dtype)) return load_float(from, element);
  const int64_t value = load_integer(from, element);
  return from.dtype == DType::U64 ? static_cast<double>(static_cast<uint64_t>(value)) : static_cast<double>(value);
}

int64_t load_integer(const ConstView& from, int64_t element) {
  switch (from.dtype) {
    case DType::Bool:
      return load<uint8_t>(from.data, element) != 0 ? 1 : 0;
    case DType::U8:
      return load<uint8_t>(from.data, element);
    case DType::U16:
      return load<uint16_t>(from.data, element);
    case DType::U32:
      return load<uint32_t>(from.data, element);
    case DType::U64:
    case DType::I64:
      return load<int64_t>(from.data, element);
    case DType::I8:
      return load<int8_t>(from.data, element);
    case DType::I16:
      return load<int16_t>(from.data, element);
    case DType::I32:
      return load<int32_t>(from.data, element);
    case DType::U4:
      return load_packed(from.data, 4, element);
    case DType::I4:
      return sign_extend(load_packed(from.data, 4, element), 4);
    case DType::I2:
      return sign_extend(load_packed(from.data, 2, element), 2);
    default:
      return real_to_integer(DType::I64, load_float(from, element));
  }
}

void store_real(const View& to, int64_t element, double value) {
  if (is_float(to.dtype)) return store_float(to, element, value);
  store_integer(to, element, real_to_integer(to.dtype, value));
}

void store_integer(const View& to, int64_t element, int64_t value) {
  const int bits = info(to.dtype).bits;
  if (is_float(to.dtype)) return store_float(to, element, integer_to_real(to.dtype, value, false));
  if (to.dtype == DType::Bool) return store(to.data, element, static_cast<uint8_t>(value != 0));
  if (bits < 8) return store_packed(to.data, bits, element, static_cast<uint32_t>(value));
  switch (bits) {
    case 8:
      return store(to.data, element, static_cast<uint8_t>(value));
    case 16:
      return store(to.data, element, static_cast<uint16_t>(value));
    case 32:
      return store(to.data, element, static_cast<uint32_t>(value));
    default:
      return store(to.data, element, value);
  }
}

void convert_element(const ConstView& from, int64_t i, const View& to, int64_t j) {
  if (is_float(from.dtype)) return store_real(to, j, load_float(from, i));
  const int64_t value = load_integer(from, i);
  if (is_float(to.dtype)) return store_float(to, j, integer_to_real(to.dtype, value, from.dtype == DType::U64));
  store_integer(to, j, value);
}

}  // namespace tenon
