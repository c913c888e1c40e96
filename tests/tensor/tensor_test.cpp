#include "tenon/tensor/tensor.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <thread>

#include "tenon/base/error.h"
#include "tenon/base/small_blocks.h"
#include "tenon/tensor/element.h"
#include "tenon/tensor/tensor_view.h"
#include "tenon/tensor/variable.h"

namespace tenon {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::ThrowsMessage;

// A traced tensor, as trace/ makes them.
Tensor traced(DType dtype, const Shape& shape) {
  auto impl = make_ref<TensorImpl>();
  impl->type = {dtype, shape};
  impl->placeholder = make_ref<Placeholder>();
  return Tensor(std::move(impl));
}

Tensor strided(const Tensor& base, const Shape& shape, const Shape& strides, int64_t offset) {
  return from_buffer(base.impl()->buffer, {base.dtype(), shape}, strides, offset);
}

TEST(Tensor, NumbersAreWeakScalars) {
  EXPECT_EQ(Tensor(true).dtype(), boolean);
  EXPECT_EQ(Tensor(3).dtype(), i64);
  EXPECT_EQ(Tensor(int64_t{1} << 40).item<int64_t>(), int64_t{1} << 40);
  EXPECT_EQ(Tensor(2.5f).dtype(), f32);
  const Tensor tenth = 0.1;
  EXPECT_EQ(tenth.dtype(), f32);
  EXPECT_EQ(tenth.ndim(), 0);
  EXPECT_TRUE(tenth.impl()->weak);
  EXPECT_EQ(tenth.item<float>(), 0.1f);
  EXPECT_EQ(tenth.item(), 0.1) << "the number as it was written";
  EXPECT_EQ(strengthen(tenth, f64).item(), 0.1);
  EXPECT_EQ(strengthen(tenth).item(), static_cast<double>(0.1f));
  EXPECT_FALSE(strengthen(tenth).impl()->weak);
  EXPECT_EQ(strengthen(tenth, f16).item(), 0.0999755859375);
  EXPECT_EQ(strengthen(Tensor(3), f32).item<float>(), 3.0f);
}

TEST(Tensor, LiteralsAndVectors) {
  const Tensor x = tensor({{1, 2}, {3, 4}});
  EXPECT_EQ(x.dtype(), i64);
  EXPECT_EQ(x.shape(), (Shape{2, 2}));
  EXPECT_THAT(x.to_vector<int>(), ElementsAre(1, 2, 3, 4));
  EXPECT_EQ(tensor({0.5, 1.5}).dtype(), f32);
  EXPECT_EQ(tensor({{0.5f, 1.f, 2.f}, {1.5f, 1.f, 2.f}}).shape(), (Shape{2, 3}));
  EXPECT_EQ(tensor({true, false}).dtype(), boolean);
  EXPECT_THAT(tensor({{true, false}, {false, true}}).to_vector<int>(), ElementsAre(1, 0, 0, 1));
  EXPECT_THAT(tensor({int64_t{1} << 40, int64_t{2}}).to_vector<int64_t>(), ElementsAre(int64_t{1} << 40, 2));
  EXPECT_EQ(from_vector<double>({1, 2, 3}, {3}).dtype(), f64);
  EXPECT_THAT(from_vector<bool>({true, false}, {2}).to_vector<bool>(), ElementsAre(true, false));
  const std::array<uint16_t, 4> raw{1, 2, 3, 4};
  EXPECT_THAT(from_span<uint16_t>(raw, {2, 2}).to_vector<float>(), ElementsAre(1, 2, 3, 4));
  EXPECT_EQ(from_vector<float>({}, {0, 3}).to_vector().size(), 0u);
}

TEST(Tensor, ReadsEveryLayout) {
  const Tensor base = from_vector<int32_t>({0, 1, 2, 3, 4, 5}, {2, 3});
  EXPECT_THAT(strided(base, {3, 2}, {1, 3}, 0).to_vector<int>(), ElementsAre(0, 3, 1, 4, 2, 5));
  EXPECT_THAT(strided(base, {3}, {-1}, 2).to_vector<int>(), ElementsAre(2, 1, 0));
  EXPECT_THAT(strided(base, {2, 2}, {0, 1}, 4).to_vector<int>(), ElementsAre(4, 5, 4, 5));
  EXPECT_THAT(strided(base, {}, {}, 3).item<int>(), 3);
  EXPECT_FALSE(strided(base, {3, 2}, {1, 3}, 0).is_contiguous());
  EXPECT_TRUE(strided(base, {1, 3}, {77, 1}, 3).is_contiguous());
  EXPECT_TRUE(empty({0, 3}, f32).is_contiguous());
  EXPECT_EQ(base.shape(-1), 3);
  EXPECT_THAT(base.data<int32_t>(), ElementsAre(0, 1, 2, 3, 4, 5));
  EXPECT_EQ(base.data<std::byte>().size(), 24u);
}

TEST(Tensor, ReadsConvertAsCastsDo) {
  const Tensor x = from_vector<double>({-1.7, 300.2, NAN, 1e300}, {4});
  EXPECT_THAT(x.to_vector<uint8_t>(), ElementsAre(0, 255, 0, 255));
  EXPECT_THAT(x.to_vector<int>(), ElementsAre(-1, 300, 0, INT32_MAX));
  EXPECT_THAT(x.to_vector<bool>(), ElementsAre(true, true, true, true));
  EXPECT_EQ(from_vector<uint64_t>({~uint64_t{0}}, {}).item<double>(), 0x1p64);
  EXPECT_EQ(from_vector<uint64_t>({~uint64_t{0}}, {}).item<uint64_t>(), ~uint64_t{0});
  // 2^24 + 1 + a little beyond what a double holds: one rounding gives 2^24 + 2.
  EXPECT_EQ(from_vector<int64_t>({(int64_t{1} << 60) + (int64_t{1} << 36) + 1}, {}).item<float>(), 0x1.000002p60f);
}

TEST(Tensor, StorageTypesAreReadAndWritten) {
  for (DType dtype : {i4, u4, i2, f8e4m3, f8e5m2, f16, bf16}) {
    Tensor x = empty({5}, dtype);
    const View to = mutable_view(x);
    for (int i = 0; i < 5; ++i) store_real(to, i, i - 2);
    const std::vector<int> expected = dtype == u4   ? std::vector{0, 0, 0, 1, 2}
                                      : dtype == i2 ? std::vector{-2, -1, 0, 1, 1}
                                                    : std::vector{-2, -1, 0, 1, 2};
    EXPECT_EQ(x.to_vector<int>(), expected) << name(dtype);
    EXPECT_EQ(x.data<std::byte>().size(), static_cast<size_t>(byte_size(dtype, 5)));
  }
  Tensor packed = empty({2}, i4);
  const View to = mutable_view(packed);
  store_integer(to, 0, 7);
  store_integer(to, 1, -8);
  EXPECT_EQ(packed.data<std::byte>()[0], std::byte{0x87}) << "low bits first";
  store_integer(to, 0, 9);
  EXPECT_EQ(packed.to_vector<int>()[0], -7) << "integers wrap";
}

TEST(Tensor, CopiesShareAndNeverChange) {
  Tensor a = tensor({1, 2});
  const Tensor b = a;
  EXPECT_FALSE(a.unique());
  EXPECT_THROW((void)mutable_data(a), InternalError);
  a = tensor({3, 4});
  EXPECT_THAT(b.to_vector<int>(), ElementsAre(1, 2));
}

TEST(Variable, CopiesAreTheSameCell) {
  Variable w(tensor({1.f, 2.f}), true, "w");
  Variable same = w;
  const Variable other = w.clone();
  same.set(tensor({3.f, 4.f}));
  EXPECT_EQ(w, same);
  EXPECT_FALSE(w == other);
  EXPECT_THAT(w.cell()->value.to_vector<float>(), ElementsAre(3, 4));
  EXPECT_THAT(other.cell()->value.to_vector<float>(), ElementsAre(1, 2));
}

TEST(Variable, TakeLeavesTheTypeAndGivesTheOnlyHandle) {
  Variable w(tensor({1.f, 2.f}));
  Tensor value = w.take();
  EXPECT_TRUE(value.unique());
  EXPECT_EQ(w.type(), (TensorType{f32, {2}}));
  w.set(value);
  EXPECT_EQ(Variable(Tensor(0.5)).cell()->value.impl()->weak, false);
}

TEST(Buffer, StatisticsFollowTheBlocks) {
  const int64_t before = memory_stats().current;
  reset_peak_memory();
  {
    const auto small = Buffer::allocate(100), large = Buffer::allocate(1 << 20);
    EXPECT_EQ(memory_stats().current - before, 100 + (1 << 20));
    EXPECT_EQ(reinterpret_cast<uintptr_t>(small->data()) % 64, 0u);
    EXPECT_EQ(reinterpret_cast<uintptr_t>(large->data()) % 64, 0u);
  }
  EXPECT_EQ(memory_stats().current, before);
  EXPECT_GE(memory_stats().peak - before, 100 + (1 << 20));
  release_cached_memory();
}

// Blocks of up to four times the size serve as scratch memory; tensors get their own size.
TEST(Buffer, ScratchOfOtherSizesSharesABlock) {
  if (!kKeepsBlocks) GTEST_SKIP() << "under a sanitizer nothing is kept";
  release_cached_memory();
  const std::byte* freed = Buffer::allocate(size_t{8} << 20)->data();
  const int64_t before = memory_stats().current;
  for (const size_t bytes : {size_t{8} << 20, size_t{5} << 20, size_t{2} << 20}) {
    const auto scratch = Buffer::allocate_scratch(bytes);
    EXPECT_EQ(scratch->data(), freed);
    EXPECT_GE(scratch->size(), bytes);
    EXPECT_EQ(memory_stats().current, before + static_cast<int64_t>(scratch->size()));
    std::fill_n(scratch->data(), scratch->size(), std::byte{1});
  }
  EXPECT_EQ(memory_stats().current, before);
  EXPECT_NE(Buffer::allocate_scratch(size_t{1} << 20)->data(), freed);
  EXPECT_EQ(Buffer::allocate_scratch(100)->size(), 100U);
}

TEST(Buffer, BlocksOfAllSizesComeBackWholeFromManyThreads) {
  const auto work = [](unsigned seed) {
    std::vector<Ref<Buffer>> held;
    for (unsigned i = 0; i < 3000; ++i) {
      seed = seed * 1664525u + 1013904223u;
      const size_t bytes = (seed >> 8) % (i % 10 == 0 ? 300000 : 5000);
      held.push_back(Buffer::allocate(bytes));
      std::fill_n(held.back()->data(), bytes, static_cast<std::byte>(seed >> 24));
      if (bytes > 0) {
        ASSERT_EQ(held.back()->data()[bytes - 1], static_cast<std::byte>(seed >> 24));
      }
      if (held.size() > 20) held.erase(held.begin() + (seed >> 4) % 20);
    }
  };
  const int64_t before = memory_stats().current;
  std::thread a(work, 1), b(work, 2);
  Ref<Buffer> crossed;
  std::thread([&] { crossed = Buffer::allocate(200); }).join();  // freed by another thread than took it
  a.join();
  b.join();
  crossed = nullptr;
  EXPECT_EQ(memory_stats().current, before);
}

TEST(Shape, BroadcastsAsNumpyDoes) {
  EXPECT_EQ(broadcast_shapes("add", {3, 1}, {2}), (Shape{3, 2}));
  EXPECT_EQ(broadcast_shapes("add", {}, {2, 0}), (Shape{2, 0}));
  EXPECT_EQ(broadcast_shapes("add", {1}, {0}), (Shape{0}));
  EXPECT_EQ(broadcast_shapes("add", {8, 1, 6, 1}, {7, 1, 5}), (Shape{8, 7, 6, 5}));
  EXPECT_EQ(contiguous_strides({2, 3, 4}), (Shape{12, 4, 1}));
  EXPECT_EQ(normalize_axis("sum", -1, 3), 2);
  EXPECT_EQ(normalize_axes("sum", {-1, 0}, 3), (Ints{2, 0}));
  EXPECT_EQ(to_string(TensorType{bf16, {2, 3}}), "bf16[2, 3]");
}

TEST(TensorErrors, SayWhatToWriteInstead) {
  EXPECT_THAT(
      [] { (void)broadcast_shapes("add", {2, 3}, {2}); },
      ThrowsMessage<ShapeError>("add: the operands cannot be broadcast together: 3 against 2 on axis -1; "
                                "expected extents that are equal or 1, aligned at the right, "
                                "got shapes [2, 3] and [2]\n  try: reshape the operand of shape [2] to {2, 1}"));
  EXPECT_THAT([] { (void)normalize_axis("sum", 2, 2); },
              ThrowsMessage<IndexError>("sum: axis out of range; expected -2 to 1 for 2 dimensions, got 2"));
  EXPECT_THAT([] { (void)normalize_axis("sum", 0, 0); },
              ThrowsMessage<IndexError>(HasSubstr("no axis, because the tensor is 0-d")));
  EXPECT_THAT([] { (void)normalize_axes("sum", {0, -2}, 2); }, ThrowsMessage<ValueError>(HasSubstr("given twice")));
  EXPECT_THAT([] { (void)tensor({1, 2}).item(); },
              ThrowsMessage<ShapeError>(AllOf(HasSubstr("2 elements in i64[2]"), HasSubstr("try: to_vector()"))));
  EXPECT_THAT([] { (void)tensor({1, 2}).data<float>(); },
              ThrowsMessage<DTypeError>(AllOf(HasSubstr("type of i64, got f32"), HasSubstr("to_vector<T>()"))));
  EXPECT_THAT([] { (void)strided(tensor({1, 2, 3, 4}), {2}, {2}, 0).data<int64_t>(); },
              ThrowsMessage<ValueError>(HasSubstr("contiguous(x).data<T>()")));
  EXPECT_THAT([] { (void)from_vector<float>({1, 2, 3}, {2, 2}); },
              ThrowsMessage<ShapeError>(HasSubstr("expected 4 values for shape [2, 2], got 3")));
  EXPECT_THAT([] { (void)tensor({{1, 2}, {3}}); }, ThrowsMessage<ShapeError>(HasSubstr("rows differ in length")));
  EXPECT_THAT([] { (void)empty({2, -1}, f32); }, ThrowsMessage<ShapeError>(HasSubstr("negative extent")));
  EXPECT_THAT([] { (void)empty({int64_t{1} << 40, int64_t{1} << 40}, f32); },
              ThrowsMessage<ShapeError>(HasSubstr("more elements than fit")));
  EXPECT_THAT([] { (void)empty({0, int64_t{1} << 40, int64_t{1} << 40}, f32); },
              ThrowsMessage<ShapeError>(HasSubstr("more elements than fit")))
      << "its strides cannot be counted";
  EXPECT_EQ(empty({0, int64_t{1} << 40}, f32).size(), 0);
  EXPECT_THAT([] { (void)Buffer::allocate(size_t{1} << 60); },
              ThrowsMessage<MemoryError>(HasSubstr("1152921504606846976 bytes asked")));
  EXPECT_THAT([] { (void)strided(tensor({1, 2}), {3}, {1}, 0); },
              ThrowsMessage<ShapeError>(HasSubstr("reaches beyond its memory")));
  EXPECT_THAT([] { (void)strided(tensor({1, 2}), {2}, {-1}, 0); },
              ThrowsMessage<ShapeError>(HasSubstr("elements -1 to 0")));
  EXPECT_THAT([] { (void)traced(f32, {2}).to_vector(); },
              ThrowsMessage<ValueError>(
                  AllOf(HasSubstr("to_vector: the tensor has no elements to read"), HasSubstr("f32[2]"))));
  EXPECT_THAT([] { (void)Tensor().item(); }, ThrowsMessage<ValueError>(HasSubstr("the tensor is undefined")));
  EXPECT_THAT([] { (void)tensor({1, 2}).shape(1); }, ThrowsMessage<IndexError>(HasSubstr("shape: axis out of range")));
}

TEST(TensorErrors, VariablesKeepTheirType) {
  Variable w(tensor({1.f, 2.f}), true, "layer.weight");
  EXPECT_THAT([&] { w.set(tensor({1, 2})); },
              ThrowsMessage<DTypeError>(
                  AllOf(HasSubstr("layer.weight: a variable keeps its dtype; expected f32[2], got i64[2]"),
                        HasSubstr("try: cast the new value to f32"))));
  EXPECT_THAT([&] { w.set(tensor({1.f})); }, ThrowsMessage<ShapeError>(HasSubstr("expected f32[2], got f32[1]")));
  EXPECT_THAT([] { Variable v{Tensor()}; }, ThrowsMessage<ValueError>(HasSubstr("needs a defined tensor")));
}

}  // namespace
}  // namespace tenon
