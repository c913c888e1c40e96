#include "tenon/tensor/dtype.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "tenon/base/error.h"

namespace tenon {
namespace {

using testing::HasSubstr;
using testing::ThrowsMessage;

TEST(DType, PromotesAsNumpyDoes) {
  std::ifstream golden(TENON_SOURCE_DIR "/tests/tensor/goldens/promotion.txt");
  std::string a, b, expected;
  int pairs = 0;
  while (golden >> a >> b >> expected) {
    EXPECT_EQ(name(promote(dtype_from_name(a), dtype_from_name(b))), expected) << a << " with " << b;
    ++pairs;
  }
  EXPECT_EQ(pairs, 144);
}

TEST(DType, Bfloat16PromotesAsFloat16DoesBesideIntegers) {
  for (DType t : {boolean, u8, i8}) EXPECT_EQ(promote(t, bf16), bf16) << name(t);
  for (DType t : {u16, i16, f16, f32}) EXPECT_EQ(promote(bf16, t), f32) << name(t);
  for (DType t : {u32, i32, u64, i64, f64}) EXPECT_EQ(promote(t, bf16), f64) << name(t);
}

TEST(DType, PromotionIsSymmetricAndKeepsADTypeItself) {
  for (const DTypeInfo& a : all_dtypes()) {
    EXPECT_EQ(promote(a.dtype, a.dtype), a.dtype);
    for (const DTypeInfo& b : all_dtypes()) {
      if (a.dtype == b.dtype) continue;
      if (a.storage_only || b.storage_only) {
        EXPECT_THROW((void)promote(a.dtype, b.dtype), DTypeError) << a.name << " with " << b.name;
      } else {
        EXPECT_EQ(promote(a.dtype, b.dtype), promote(b.dtype, a.dtype)) << a.name << " with " << b.name;
      }
    }
  }
}

TEST(DType, NamesRoundTrip) {
  for (const DTypeInfo& row : all_dtypes()) EXPECT_EQ(dtype_from_name(row.name), row.dtype);
}

TEST(DType, PackedSizesRoundUp) {
  EXPECT_EQ(byte_size(i4, 3), 2);
  EXPECT_EQ(byte_size(i2, 5), 2);
  EXPECT_EQ(byte_size(i2, 4), 1);
  EXPECT_EQ(byte_size(f64, 3), 24);
  EXPECT_EQ(byte_size(u4, 0), 0);
}

TEST(DTypeErrors, StorageTypesNameTheCastThatHelps) {
  EXPECT_THAT([] { (void)promote(f32, f8e4m3); },
              ThrowsMessage<DTypeError>(HasSubstr("f8e4m3 is a storage type and mixes with no other dtype; got f32 and "
                                                  "f8e4m3\n  try: cast the f8e4m3 tensor to f32 first")));
}

TEST(DTypeErrors, UnknownNamesSuggestTheNearest) {
  EXPECT_THAT([] { (void)dtype_from_name("float32"); },
              ThrowsMessage<DTypeError>(AllOf(HasSubstr("got \"float32\""), HasSubstr("try: f32"))));
  EXPECT_THAT([] { (void)dtype_from_name("bfloat16"); }, ThrowsMessage<DTypeError>(HasSubstr("try: bf16")));
  EXPECT_THAT([] { (void)dtype_from_name("F64"); }, ThrowsMessage<DTypeError>(HasSubstr("try: f64")));
  EXPECT_THAT([] { (void)dtype_from_name("bol"); }, ThrowsMessage<DTypeError>(HasSubstr("try: bool")));
  EXPECT_THAT([] { (void)dtype_from_name("complex128"); },
              ThrowsMessage<DTypeError>(AllOf(HasSubstr("one of bool, u8"), Not(HasSubstr("try:")))));
}

}  // namespace
}  // namespace tenon
