#include <gtest/gtest.h>

#include "tests/device/support.h"

namespace tenon::test {
namespace {

struct Case {
  const char* name;
  Shape shape;
  Shape strides;
  int64_t offset;
};

// Every dtype through every layout: the elements arrive in order.
TEST(Copy, AnyLayoutOfAnyDtype) {
  const Case cases[] = {
      {"plain", {1000}, {1}, 5},
      {"0-d", {}, {}, 3},
      {"matrix transpose", {65, 130}, {1, 65}, 0},
      {"batch of transposes", {3, 40, 50}, {2000, 1, 40}, 0},
      {"NCHW to NHWC", {2, 9, 9, 8}, {648, 9, 1, 81}, 0},
      {"two channels to the end", {9, 70, 2}, {140, 1, 70}, 3},
      {"three channels to the end", {2, 7, 11, 3}, {231, 11, 1, 77}, 0},
      {"four channels to the end", {301, 4}, {1, 301}, 0},
      {"tiny transposes", {200, 3, 4}, {12, 1, 3}, 0},
      {"rows", {30, 20}, {40, 1}, 2},
      {"broadcast rows", {50, 20}, {0, 1}, 0},
      {"broadcast columns", {50, 20}, {1, 0}, 0},
      {"flipped", {50, 20}, {-20, -1}, 999},
      {"every third", {400}, {3}, 1},
      {"reversed axes", {5, 6, 7, 8}, {1, 5, 30, 210}, 0},
      {"empty", {3, 0}, {1, 1}, 0},
  };
  const auto cpu = make_cpu_device();
  ThreadPool pool(2);
  for (const DTypeInfo& type : all_dtypes()) {
    for (const Case& c : cases) {
      Array x(type.dtype, c.shape, c.strides, c.offset, 20000);
      for (size_t i = 0; i < x.memory.size(); ++i)
        x.memory[i] = static_cast<std::byte>(type.bits == 1 ? 1 : (i * 7 + i / 251) % 113);
      if (type.dtype == DType::Bool) {
        for (std::byte& b : x.memory) b &= std::byte{1};
      }
      Array y(type.dtype, c.shape);
      cpu->copy(x.in(), y.out(), pool);
      EXPECT_EQ(y.reals(), x.reals()) << type.name << ", " << c.name;
      // And back into a strided place.
      if (numel(c.shape) == 0 || c.strides == Shape{0, 1} || c.strides == Shape{1, 0}) continue;
      Array z(type.dtype, c.shape, c.strides, c.offset, 20000);
      cpu->copy(y.in(), z.out(), pool);
      EXPECT_EQ(z.reals(), x.reals()) << type.name << ", " << c.name;
    }
  }
}

TEST(Copy, LargeTransposeInParallel) {
  const int64_t n = 700;
  Array x(DType::F32, {n, n}, {1, n}, 0, n * n);
  for (int64_t i = 0; i < n * n; ++i) x.data<float>()[i] = static_cast<float>(i);
  const auto cpu = make_cpu_device();
  for (int threads : {1, 2, 4}) {
    ThreadPool pool(threads);
    Array y(DType::F32, {n, n});
    cpu->copy(x.in(), y.out(), pool);
    for (int64_t i = 0; i < n; ++i) {
      for (int64_t j = 0; j < n; ++j) ASSERT_EQ(y.data<float>()[i * n + j], static_cast<float>(j * n + i));
    }
  }
}

}  // namespace
}  // namespace tenon::test
