// The short way of eager calls against the usual one: the same types and bits whatever the inputs are.
#include <gtest/gtest.h>

#include <cstring>

#include "tenon/base/error.h"
#include "tenon/device/cpu/built.h"
#include "tenon/exec/session.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/reduce.h"
#include "tenon/tensor/variable.h"
#include "tenon/trace/state.h"

namespace tenon::test {
namespace {

using Call = Tensor (*)(const Tensor& a, const Tensor& b, const Tensor& c);

void expect_same(const Tensor& got, const Tensor& want, const std::string& what) {
  ASSERT_EQ(to_string(got.type()), to_string(want.type())) << what;
  EXPECT_EQ(got.impl()->weak, want.impl()->weak) << what;
  const Tensor x = contiguous(got), y = contiguous(want);
  const auto left = x.data<std::byte>(), right = y.data<std::byte>();
  EXPECT_EQ(std::memcmp(left.data(), right.data(), left.size()), 0) << what;
}

// A session without reuse never goes the short way.
Tensor usual(const Call& call, const Tensor& a, const Tensor& b, const Tensor& c) {
  static exec::Session session({.threads = 1, .reuse = false});
  const exec::SessionScope scope(session);
  return call(a, b, c);
}

TEST(PlainCall, GivesTheBitsOfTheUsualWay) {
  ASSERT_TRUE(exec::session().plain_calls());
  const std::vector<std::pair<const char*, Call>> calls{
      {"add", [](const Tensor& a, const Tensor& b, const Tensor&) { return a + b; }},
      {"subtract from", [](const Tensor& a, const Tensor& b, const Tensor&) { return b - a; }},
      {"same twice", [](const Tensor& a, const Tensor&, const Tensor&) { return a * a; }},
      {"divide", [](const Tensor& a, const Tensor& b, const Tensor&) { return a / b; }},
      {"less", [](const Tensor& a, const Tensor& b, const Tensor&) { return less(a, b); }},
      {"exp", [](const Tensor& a, const Tensor&, const Tensor&) { return exp(a); }},
      {"cast", [](const Tensor& a, const Tensor&, const Tensor&) { return cast(a, i32); }},
      {"where", [](const Tensor& a, const Tensor& b, const Tensor& c) { return where(less(a, c), a, b); }},
      {"lerp", [](const Tensor& a, const Tensor& b, const Tensor& c) { return lerp(a, b, c); }},
      {"leaky", [](const Tensor& a, const Tensor&, const Tensor&) { return leaky_relu(a, 0.3) + leaky_relu(a, 0.1); }},
      {"tenth", [](const Tensor& a, const Tensor&, const Tensor&) { return a * 0.1; }},
      {"tenth first", [](const Tensor& a, const Tensor&, const Tensor&) { return 0.1 - a; }},
      {"third", [](const Tensor& a, const Tensor&, const Tensor&) { return a / 3; }},
      {"large", [](const Tensor& a, const Tensor&, const Tensor&) { return a + int64_t{9007199254740993}; }},
      {"true", [](const Tensor& a, const Tensor&, const Tensor&) { return a + true; }},
      {"clamp", [](const Tensor& a, const Tensor& b, const Tensor&) { return maximum(minimum(a, 0.7), b); }},
  };
  int tried = 0;
  for (DType dtype : {f32, f64, f16, bf16, i64, boolean}) {
    const auto make = [&](const Shape& shape, double low) {
      Tensor x = arange(numel(shape)) * 0.37 + low;
      x = reshape(std::move(x), shape);
      return dtype == boolean ? less(x, 0.5) : cast(std::move(x), dtype);
    };
    const std::vector<Tensor> many{make({8}, -1),
                                   make({3, 5}, -2),
                                   transpose(make({5, 3}, -2)),
                                   make({0, 4}, 0),
                                   narrow(make({9}, -1), 0, 1, 8),
                                   make({}, 0.3),
                                   make({1}, 2),
                                   make({3, 1}, 1),
                                   make({5}, -3)};
    for (const auto& [name, call] : calls) {
      for (size_t i = 0; i < many.size(); ++i) {
        for (size_t j = 0; j < many.size(); ++j) {
          const Tensor& c = many[(i + j) % many.size()];
          const std::string what = std::string(name) + " " + std::string(tenon::name(dtype)) + " " + std::to_string(i) +
                                   " " + std::to_string(j);
          Tensor want;
          try {
            want = usual(call, many[i], many[j], c);
          } catch (const Error& error) {
            try {
              (void)call(many[i], many[j], c);
              ADD_FAILURE() << what << ": no error, but in the usual way " << error.what();
            } catch (const Error& same) {
              EXPECT_STREQ(same.what(), error.what()) << what;
            }
            continue;
          }
          expect_same(call(many[i], many[j], c), want, what);
          ++tried;
        }
      }
    }
  }
  EXPECT_GT(tried, 1000);
}

TEST(PlainCall, OtherDTypesMeetAsBefore) {
  const Tensor f = full({4}, 1.5, f32), d = full({4}, 0.1, f64), n = full({4}, 3, i64);
  EXPECT_EQ((f + d).dtype(), f64);
  EXPECT_EQ((f + n).dtype(), f64);
  EXPECT_EQ((n + 0.5).dtype(), f32);
  EXPECT_EQ((n / n).dtype(), f32);
  EXPECT_EQ((d * 0.1).to_vector<double>()[0], 0.1 * 0.1);  // the number as it was written, not the f32 next to it
}

TEST(PlainCall, TakesTheBufferOfADeadInputAndNoOther) {
  Tensor x = full({100}, 1.0), keep = x;
  const std::byte* memory = x.data<std::byte>().data();
  Tensor y = std::move(x) + 1.0;
  EXPECT_NE(y.data<std::byte>().data(), memory);  // `keep` still holds it
  EXPECT_EQ(keep.to_vector<float>()[99], 1.0F);
  keep = std::move(keep) * y;
  EXPECT_EQ(keep.data<std::byte>().data(), memory);
  Tensor truth = less(std::move(keep), 3.0);  // elements of another width
  EXPECT_NE(truth.data<std::byte>().data(), memory);
}

// A number is a constant of the call: memory for the result and for the number, and no more.
TEST(PlainCall, NumbersNeedNoTensorOfTheirDType) {
  const Tensor x = full({1000}, 1.0);
  (void)(x * 2.0);
  const Tensor two = 2.0;
  reset_peak_memory();
  const int64_t before = memory_stats().current;
  const Tensor y = x * two;
  // Without built kernels (a sanitizer, no LLVM) a call has no such constants: the number is a tensor of four bytes.
  EXPECT_EQ(memory_stats().peak - before, cpu::built_kernels().empty() ? 4004 : 4000);
}

TEST(PlainCall, GradientsAreRecordedWhereTheyFlow) {
  const Variable w(full({8}, 2.0));
  EXPECT_TRUE((w.value() * 3.0).requires_grad());
  {
    const NoGrad no_grad;
    EXPECT_FALSE((w.value() * 3.0).requires_grad());
  }
  sum(w.value() * w.value()).backward();
  EXPECT_EQ(w.grad().to_vector<float>(), std::vector<float>(8, 4.0F));
}

}  // namespace
}  // namespace tenon::test
