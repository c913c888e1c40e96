// Kernels of the user's: values, gradients, tiles, and what is said of mistakes. The fused softmax is an example
// program.
#include "tenon/compile/user_kernel.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tenon/base/error.h"
#include "tenon/compile.h"
#include "tenon/tenon.h"

namespace tenon {
namespace {

using kernel::Builder;
using kernel::Place;

// y = x[:, j] * w[j] + row maximum.
struct ScaleAndPeak {
  static constexpr const char* kName = "scale_and_peak";
  static constexpr int64_t kTiles[] = {8, 16, 128};
  static std::vector<TensorType> infer(const ops::InferArgs& a) {
    return {a.in[0], {a.in[0].dtype, {a.in[0].shape[0]}}};
  }
  static void body(Builder& k) {
    const auto x = k.input(0), w = k.input(1), y = k.output(0), peak = k.output(1);
    const int64_t n = x.extent(-1);
    k.parallel(x.extent(0), [&](Place row) {
      const auto m = k.fold(kernel::Fold::Max, n, [&](Place j) { return x.load(row * n + j); });
      k.each(n, [&](Place j) { y.store(row * n + j, x.load(row * n + j) * w.load(j) + m); });
      peak.store(row, m);
    });
  }
};

TEST(UserKernel, ValuesForManySizesAndLayouts) {
  for (int64_t n : {1, 5, 16, 63, 64, 65, 200}) {
    for (DType t : {DType::F32, DType::F64, DType::BF16, DType::F16}) {
      const Tensor x = cast(transpose(uniform({n, 9}, -2, 2), 0, 1), t), w = cast(uniform({n}, -2, 2), t);
      const Tensors got = kernel::call<ScaleAndPeak>({x, w});
      const Tensor peak = max(x, {1}, true), want = x * w + peak;
      EXPECT_EQ(contiguous(cast(got[0], DType::F64)).to_vector<double>(),
                contiguous(cast(want, DType::F64)).to_vector<double>());
      EXPECT_EQ(cast(got[1], DType::F64).to_vector<double>(), cast(reshape(peak, {9}), DType::F64).to_vector<double>());
      EXPECT_GT(kernel::chosen_tile("scale_and_peak", std::vector<TensorType>{x.type(), w.type()}), 0);
    }
  }
}

TEST(UserKernel, IsOneNodeOfACompiledFunction) {
  const Tensor x = uniform({9, 40}), w = uniform({40});
  const auto f = [&] { return kernel::call<ScaleAndPeak>({x * 2.0, w})[0] + 1.0; };
  auto fast = compile(f, {.verify = true});
  EXPECT_EQ(fast().to_vector<float>(), f().to_vector<float>());
  const Explanation e = fast.explain();
  ASSERT_EQ(e.programs.size(), 1U);
  EXPECT_EQ(e.programs[0].called.at("scale_and_peak"), 1);
}

TEST(UserKernel, WithoutARuleItIsNotDifferentiable) {
  const auto loss = [](const Tensor& x) { return sum(kernel::call<ScaleAndPeak>({x, x[0]})[0]); };
  try {
    static_cast<void>(grad(UnaryFunction(loss))(uniform({3, 4})));
    FAIL();
  } catch (const GradientError& e) {
    EXPECT_THAT(e.what(), testing::HasSubstr("give it a static vjp"));
  }
}

// 1 / tile is another number for each tile.
struct TileInTheResult {
  static constexpr const char* kName = "tile_in_the_result";
  static constexpr int64_t kTiles[] = {4, 8};
  static std::vector<TensorType> infer(const ops::InferArgs& a) { return {a.in[0]}; }
  static void body(Builder& k) {
    const auto x = k.input(0), y = k.output(0);
    k.parallel(
        1, [&](Place) { k.each(x.size(), [&](Place j) { y.store(j, x.load(j) / static_cast<double>(k.tile())); }); });
  }
};
struct TileInTheResultAndSaysSo : TileInTheResult {
  static constexpr const char* kName = "tile_in_the_result_and_says_so";
  static constexpr bool kTilesChangeBits = true;
};

TEST(UserKernel, TilesThatChangeBitsMustBeStated) {
  const Tensor x = tensor({8.0, 16.0});
  try {
    static_cast<void>(kernel::call<TileInTheResult>({x}));
    FAIL();
  } catch (const ValueError& e) {
    EXPECT_THAT(e.what(), testing::HasSubstr("tile 8 gives other bits than tile 4"));
    EXPECT_THAT(e.what(), testing::HasSubstr("kTilesChangeBits"));
  }
  EXPECT_EQ(kernel::call<TileInTheResultAndSaysSo>({x})[0].to_vector<float>(), (std::vector<float>{2, 4}));
}

template <class F>
std::string problem(const F& body) {
  const std::vector<TensorType> in{{DType::F32, {8}}}, out{{DType::F32, {8}}};
  Builder k(in, out, 4);
  try {
    body(k);
    static_cast<void>(k.finish("k"));
  } catch (const ValueError& e) {
    return e.what();
  }
  return "";
}

TEST(UserKernel, MistakesAreNamed) {
  using testing::HasSubstr;
  EXPECT_THAT(problem([](Builder&) {}), HasSubstr("without a parallel loop"));
  EXPECT_THAT(problem([](Builder& k) { static_cast<void>(k.input(0).load(0)); }), HasSubstr("outside of parallel"));
  EXPECT_THAT(
      problem([](Builder& k) { k.parallel(8, [&](Place i) { k.output(0).store(i + 1, k.input(0).load(i)); }); }),
      HasSubstr("indices 1 to 8 of a buffer of 8 elements"));
  EXPECT_THAT(problem([](Builder& k) { k.parallel(8, [&](Place i) { k.input(0).store(i, k.input(0).load(i)); }); }),
              HasSubstr("a store to an input"));
  EXPECT_THAT(problem([](Builder& k) {
                k.parallel(8, [&](Place i) { k.output(0).store(i, k.input(0).load(i) + k.constant(1, DType::F64)); });
              }),
              HasSubstr("add of f32 and f64"));
  EXPECT_THAT(problem([](Builder& k) { k.parallel(1, [&](Place) { k.parallel(1, [](Place) {}); }); }),
              HasSubstr("a second parallel loop"));
  EXPECT_THAT(problem([](Builder& k) { static_cast<void>(k.input(3)); }), HasSubstr("input 3 of 1"));
  EXPECT_THAT(problem([](Builder& k) { k.parallel(8, [&](Place i) { k.output(0).store(i, kernel::Value{}); }); }),
              HasSubstr("a Value that has no value is read"));
  EXPECT_THAT(problem([](Builder& k) {
                k.parallel(8, [&](Place i) { k.output(0).store(i, kernel::Value{} * 2.0 + k.input(0).load(i)); });
              }),
              HasSubstr("a Value that has no value is read"));
  EXPECT_THAT(
      problem([](Builder& k) { k.parallel(8, [&](Place i) { k.output(0).store(i, kernel::Array{}.load(i)); }); }),
      HasSubstr("an Array that is none is read or written"));
  const std::vector<TensorType> one{{DType::F32, {8}}};
  Builder other(one, one, 4);
  kernel::Value kept;
  other.parallel(8, [&](Place i) { kept = other.input(0).load(i); });
  EXPECT_THAT(
      problem([&](Builder& k) { k.parallel(8, [&](Place i) { k.output(0).store(i, k.input(0).load(i) + kept); }); }),
      HasSubstr("a Value of another kernel is read"));
}

// A copy whose gradient rule is wrong, by `Rule`.
template <int Rule>
struct WrongRule {
  static constexpr const char* kName = Rule == 0 ? "too_many_cotangents" : "another_shape";
  static constexpr size_t kInputs = 1;
  static std::vector<TensorType> infer(const ops::InferArgs& a) { return {a.in[0]}; }
  static void body(Builder& k) {
    k.parallel(k.input(0).size(), [&](Place i) { k.output(0).store(i, k.input(0).load(i)); });
  }
  static Tensors vjp(const ops::VjpArgs& a) {
    if (Rule == 0) return {a.ct[0], a.ct[0]};
    return {sum(a.ct[0])};
  }
  static constexpr uint32_t kSavesInputs = 0, kSavesOutputs = 0;
};

template <class E>
std::string what(const std::function<void()>& work) {
  try {
    work();
  } catch (const E& e) {
    return e.what();
  }
  return "";
}

TEST(UserKernel, WrongRulesAndCallsAreNamed) {
  using testing::HasSubstr;
  const auto backward_of = [](const Tensors& y) { sum(y[0]).backward(); };
  const Variable x(ones({3}));
  EXPECT_THAT(
      what<GradientError>([&] { backward_of(kernel::call<WrongRule<0>>({x})); }),
      HasSubstr("too_many_cotangents: the gradient rule gave the wrong number of cotangents; expected 1, one for "
                "each input (undefined: none), got 2"));
  EXPECT_THAT(
      what<GradientError>([&] { backward_of(kernel::call<WrongRule<1>>({x})); }),
      HasSubstr("another_shape: the gradient rule gave input 0 another shape than it has; expected [3], got []"));
  EXPECT_THAT(what<ValueError>([&] { static_cast<void>(kernel::call<WrongRule<1>>({x, x})); }),
              HasSubstr("another_shape: wrong number of inputs; expected 1, got 2"));
  EXPECT_THAT(what<ValueError>([&] { static_cast<void>(kernel::call<WrongRule<1>>({})); }), HasSubstr("got 0"));
}

}  // namespace
}  // namespace tenon
