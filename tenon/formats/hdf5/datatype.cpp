#include "tenon/formats/hdf5/datatype.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <limits>

namespace tenon::formats::hdf5 {
namespace {

enum class Class : std::uint8_t { Integer = 0, Float = 1, Text = 3, Enumeration = 8, Variable = 9 };

struct FloatForm {
  DType dtype;
  unsigned size, exponent_at, exponent_size, mantissa_size;
  std::uint32_t bias;
};
constexpr std::array kFloats{FloatForm{DType::F16, 2, 10, 5, 10, 15}, FloatForm{DType::BF16, 2, 7, 8, 7, 127},
                             FloatForm{DType::F32, 4, 23, 8, 23, 127}, FloatForm{DType::F64, 8, 52, 11, 52, 1023}};

struct IntegerForm {
  std::uint64_t size;
  DType is_unsigned, is_signed;
};
constexpr std::array kIntegers{IntegerForm{1, DType::U8, DType::I8}, IntegerForm{2, DType::U16, DType::I16},
                               IntegerForm{4, DType::U32, DType::I32}, IntegerForm{8, DType::U64, DType::I64}};

void read_integer(Cursor& body, std::uint32_t bits, Datatype& type) {
  const unsigned at = body.u16(), precision = body.u16();
  type.kind = Datatype::Kind::OddNumber;
  type.big_endian = (bits & 1U) != 0;
  for (const auto& form : kIntegers) {
    if (form.size != type.size || at != 0 || precision != 8 * form.size) continue;
    type.kind = Datatype::Kind::Number;
    type.dtype = (bits & 8U) != 0 ? form.is_signed : form.is_unsigned;
  }
}

void read_float(Cursor& body, std::uint32_t bits, Datatype& type) {
  const unsigned at = body.u16(), precision = body.u16();
  const unsigned exponent_at = body.u8(), exponent_size = body.u8(), mantissa_at = body.u8(), mantissa_size = body.u8();
  const std::uint32_t bias = body.u32(), sign_at = bits >> 8 & 0xff;
  type.kind = Datatype::Kind::OddNumber;
  type.big_endian = (bits & 1U) != 0;
  for (const auto& form : kFloats) {
    const bool same = form.size == type.size && at == 0 && precision == 8 * form.size &&
                      exponent_at == form.exponent_at && exponent_size == form.exponent_size && mantissa_at == 0 &&
                      mantissa_size == form.mantissa_size && bias == form.bias && sign_at == precision - 1;
    if (!same || (bits & 0x40U) != 0) continue;  // 0x40: VAX
    type.kind = Datatype::Kind::Number;
    type.dtype = form.dtype;
  }
}

// h5py writes truth values as an enumeration of FALSE and TRUE over a byte.
void read_enumeration(Cursor& body, unsigned version, std::uint32_t bits, Datatype& type) {
  const Datatype base = read_datatype(body.sub(12));  // an integer's message
  if ((bits & 0xffffU) != 2 || base.kind != Datatype::Kind::Number || base.size != 1) return;
  for (const std::string_view name : {"FALSE", "TRUE"}) {
    if (body.text() != name) return;
    if (version < 3) body.skip(std::min<std::size_t>((8 - (name.size() + 1) % 8) % 8, body.remaining()));
  }
  if (body.u8() != 0 || body.u8() != 1) return;
  type.kind = Datatype::Kind::Number;
  type.dtype = DType::Bool;
}

}  // namespace

Datatype read_datatype(Cursor body) {
  const unsigned first = body.u8(), version = first >> 4;
  if (version < 1 || version > 5) body.fail("unknown version of a datatype", "1 to 5", fmt::format("{}", version));
  const auto bits = static_cast<std::uint32_t>(body.number(3));
  Datatype type;
  type.size = body.u32();
  if (type.size == 0) body.fail("a datatype has no size");
  switch (static_cast<Class>(first & 15U)) {
    case Class::Integer:
      read_integer(body, bits, type);
      break;
    case Class::Float:
      read_float(body, bits, type);
      break;
    case Class::Text:
      type.kind = Datatype::Kind::FixedText;
      break;
    case Class::Variable:
      if ((bits & 15U) == 1) type.kind = Datatype::Kind::HeapText;
      break;
    case Class::Enumeration:
      read_enumeration(body, version, bits, type);
      break;
  }
  return type;
}

Dataspace read_dataspace(Cursor body) {
  const unsigned version = body.u8(), rank = body.u8();
  const unsigned flags = body.u8();
  if (version != 1 && version != 2) body.fail("unknown version of a dataspace", "1 or 2", fmt::format("{}", version));
  const unsigned kind = body.u8();
  if (version == 1) body.skip(4);
  if (rank > 32) body.fail("a dataspace has too many axes", "at most 32", fmt::format("{}", rank));
  Dataspace space{.null = version == 2 && kind == 2, .extents = {}, .largest = {}, .count = 1};
  if (space.null) space.count = 0;
  bool empty = false;
  for (unsigned axis = 0; axis < rank; ++axis) {
    const std::uint64_t at = body.address(), extent = body.length();
    if (extent > static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max()) ||
        __builtin_mul_overflow(space.count, std::max<std::uint64_t>(extent, 1), &space.count) ||
        space.count > std::uint64_t{1} << 56)
      body.file().fail(at, "a dataspace has more elements than can be counted");
    empty = empty || extent == 0;
    space.extents.push_back(static_cast<std::int64_t>(extent));
  }
  if (empty) space.count = 0;
  for (unsigned axis = 0; axis < rank; ++axis) {
    const auto extent = static_cast<std::uint64_t>(space.extents[axis]);
    std::uint64_t most = (flags & 1U) != 0 ? body.length() : extent;
    if (!body.file().defined_length(most)) most = kUnlimited;
    if (most < extent)
      body.fail("an extent is larger than it may be", fmt::format("at most {}", most), fmt::format("{}", extent));
    space.largest.push_back(most);
  }
  return space;
}

}  // namespace tenon::formats::hdf5
