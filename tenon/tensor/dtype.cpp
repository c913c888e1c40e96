#include "tenon/tensor/dtype.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string>
#include <vector>

#include "tenon/base/error.h"
#include "tenon/base/nearest.h"

namespace tenon {
namespace {

// In the order of the enumerators.
constexpr DTypeInfo kTable[] = {
    {DType::Bool, "bool", 8, DTypeKind::Bool, false},     {DType::U8, "u8", 8, DTypeKind::Unsigned, false},
    {DType::U16, "u16", 16, DTypeKind::Unsigned, false},  {DType::U32, "u32", 32, DTypeKind::Unsigned, false},
    {DType::U64, "u64", 64, DTypeKind::Unsigned, false},  {DType::I8, "i8", 8, DTypeKind::Signed, false},
    {DType::I16, "i16", 16, DTypeKind::Signed, false},    {DType::I32, "i32", 32, DTypeKind::Signed, false},
    {DType::I64, "i64", 64, DTypeKind::Signed, false},    {DType::F16, "f16", 16, DTypeKind::Float, false},
    {DType::BF16, "bf16", 16, DTypeKind::Float, false},   {DType::F32, "f32", 32, DTypeKind::Float, false},
    {DType::F64, "f64", 64, DTypeKind::Float, false},     {DType::F8E4M3, "f8e4m3", 8, DTypeKind::Float, true},
    {DType::F8E5M2, "f8e5m2", 8, DTypeKind::Float, true}, {DType::I4, "i4", 4, DTypeKind::Signed, true},
    {DType::U4, "u4", 4, DTypeKind::Unsigned, true},      {DType::I2, "i2", 2, DTypeKind::Signed, true},
};
constexpr bool in_order() {
  for (size_t i = 0; i < std::size(kTable); ++i) {
    if (static_cast<size_t>(kTable[i].dtype) != i) return false;
  }
  return true;
}
static_assert(in_order());

// "float32", "uint8", "bfloat16", "boolean": what other libraries call our dtypes.
std::string translate(std::string_view name) {
  constexpr std::array<std::pair<std::string_view, std::string_view>, 5> kPrefixes = {
      {{"bfloat", "bf"}, {"float", "f"}, {"uint", "u"}, {"int", "i"}, {"boolean", "bool"}}};
  for (const auto& [theirs, ours] : kPrefixes) {
    if (name.starts_with(theirs)) return std::string(ours) + std::string(name.substr(theirs.size()));
  }
  return std::string(name);
}

// The narrowest float that NumPy considers to hold an integer dtype, starting from `least`.
DType float_with_integer(DType least, DType integer) {
  const int bits = integer == DType::Bool ? 8 : info(integer).bits;
  if (bits == 8) return least;
  const DType needed = bits == 16 ? DType::F32 : DType::F64;
  return info(least).bits >= info(needed).bits ? least : needed;
}

DType promote_floats(DType a, DType b) {
  const int bits_a = info(a).bits, bits_b = info(b).bits;
  if (bits_a == bits_b) return DType::F32;  // f16 and bf16
  return bits_a > bits_b ? a : b;
}

DType promote_integers(DType a, DType b) {
  const DTypeInfo &x = info(a), &y = info(b);
  if (x.kind == y.kind) return x.bits >= y.bits ? a : b;
  const DTypeInfo& plain = x.kind == DTypeKind::Unsigned ? x : y;
  const DTypeInfo& with_sign = x.kind == DTypeKind::Unsigned ? y : x;
  if (with_sign.bits > plain.bits) return with_sign.dtype;
  switch (plain.bits) {
    case 8:
      return DType::I16;
    case 16:
      return DType::I32;
    case 32:
      return DType::I64;
    default:
      return DType::F64;
  }
}

}  // namespace

const DTypeInfo& info(DType dtype) { return kTable[static_cast<size_t>(dtype)]; }

std::span<const DTypeInfo> all_dtypes() { return kTable; }

std::string_view name(DType dtype) { return info(dtype).name; }

DType dtype_from_name(std::string_view name) {
  std::vector<std::string_view> names;
  for (const DTypeInfo& row : kTable) {
    if (row.name == name) return row.dtype;
    names.push_back(row.name);
  }
  const std::string translated = translate(name);
  const bool alias = std::find(names.begin(), names.end(), translated) != names.end();
  const std::string suggestion = alias ? translated : std::string(nearest_name(name, names));
  std::string known;
  for (std::string_view n : names) known += (known.empty() ? "" : ", ") + std::string(n);
  throw DTypeError({.where = "dtype",
                    .problem = "there is no dtype of this name",
                    .expected = "one of " + known,
                    .got = fmt::format("\"{}\"", name),
                    .hint = suggestion.empty() ? "" : suggestion});
}

int64_t byte_size(DType dtype, int64_t n) { return (n * info(dtype).bits + 7) / 8; }

DType promote(DType a, DType b) {
  if (a == b) return a;
  const DTypeInfo &x = info(a), &y = info(b);
  if (x.storage_only || y.storage_only) {
    const std::string storage(x.storage_only ? x.name : y.name), other(x.storage_only ? y.name : x.name);
    throw DTypeError({.where = "promote",
                      .problem = storage + " is a storage type and mixes with no other dtype",
                      .got = std::string(x.name) + " and " + std::string(y.name),
                      .hint = "cast the " + storage + " tensor to " + other + " first"});
  }
  if (x.kind == DTypeKind::Bool) return b;
  if (y.kind == DTypeKind::Bool) return a;
  const bool float_a = x.kind == DTypeKind::Float, float_b = y.kind == DTypeKind::Float;
  if (float_a && float_b) return promote_floats(a, b);
  if (float_a) return float_with_integer(a, b);
  if (float_b) return float_with_integer(b, a);
  return promote_integers(a, b);
}

}  // namespace tenon
