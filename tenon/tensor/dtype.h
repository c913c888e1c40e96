// Element types.
//
// One table (dtype.cpp) says everything about a dtype: name, width, kind, and whether arithmetic is
// defined on it. The storage types (8-bit floats, 4- and 2-bit integers) have exact casts and layout
// operations only. To add a dtype: one enumerator, one row.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace tenon {

enum class DType : uint8_t {
  Bool,
  U8,
  U16,
  U32,
  U64,
  I8,
  I16,
  I32,
  I64,
  F16,
  BF16,
  F32,
  F64,
  F8E4M3,
  F8E5M2,
  I4,
  U4,
  I2
};

// The names users write: zeros({2, 3}, tenon::f32).
inline constexpr DType boolean = DType::Bool, u8 = DType::U8, u16 = DType::U16, u32 = DType::U32, u64 = DType::U64,
                       i8 = DType::I8, i16 = DType::I16, i32 = DType::I32, i64 = DType::I64, f16 = DType::F16,
                       bf16 = DType::BF16, f32 = DType::F32, f64 = DType::F64, f8e4m3 = DType::F8E4M3,
                       f8e5m2 = DType::F8E5M2, i4 = DType::I4, u4 = DType::U4, i2 = DType::I2;

enum class DTypeKind : uint8_t { Bool, Unsigned, Signed, Float };

struct DTypeInfo {
  DType dtype;
  std::string_view name;  // as in the text form of a graph: "f32", "bool"
  int bits;               // bits of one element; below 8, elements are packed, low bits first
  DTypeKind kind;
  bool storage_only;
};

const DTypeInfo& info(DType dtype);
std::span<const DTypeInfo> all_dtypes();
std::string_view name(DType dtype);
// Throws DTypeError naming the nearest name.
DType dtype_from_name(std::string_view name);

inline bool is_float(DType t) { return info(t).kind == DTypeKind::Float; }
inline bool is_integer(DType t) { return info(t).kind == DTypeKind::Signed || info(t).kind == DTypeKind::Unsigned; }
// Bytes of one element; 0 where several share a byte.
inline int element_size(DType t) { return info(t).bits / 8; }
// Bytes that `n` elements take (packed dtypes round up to whole bytes).
int64_t byte_size(DType dtype, int64_t n);

// The dtype of a result that mixes a and b: NumPy's promotion table for its dtypes. bfloat16 and
// float16 together give f32; bf16 with an integer behaves as float16 does there. Storage types
// promote only with themselves: DTypeError otherwise.
DType promote(DType a, DType b);

// C++ types of dtypes: dtype_of<float> is f32.
template <class T>
struct DTypeOf;
template <>
struct DTypeOf<bool> {
  static constexpr DType value = DType::Bool;
};
template <>
struct DTypeOf<uint8_t> {
  static constexpr DType value = DType::U8;
};
template <>
struct DTypeOf<uint16_t> {
  static constexpr DType value = DType::U16;
};
template <>
struct DTypeOf<uint32_t> {
  static constexpr DType value = DType::U32;
};
template <>
struct DTypeOf<uint64_t> {
  static constexpr DType value = DType::U64;
};
template <>
struct DTypeOf<int8_t> {
  static constexpr DType value = DType::I8;
};
template <>
struct DTypeOf<int16_t> {
  static constexpr DType value = DType::I16;
};
template <>
struct DTypeOf<int32_t> {
  static constexpr DType value = DType::I32;
};
template <>
struct DTypeOf<int64_t> {
  static constexpr DType value = DType::I64;
};
template <>
struct DTypeOf<float> {
  static constexpr DType value = DType::F32;
};
template <>
struct DTypeOf<double> {
  static constexpr DType value = DType::F64;
};
template <class T>
inline constexpr DType dtype_of = DTypeOf<T>::value;

}  // namespace tenon
