// Calls of the device with what follows them: the bits of eager runs, weights that stay and weights that change.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "tenon/compile.h"
#include "tenon/exec/profile.h"
#include "tenon/tenon.h"

namespace tenon {
namespace {

using testing::HasSubstr;

void expect_same_bits(const Tensor& got, const Tensor& want) {
  ASSERT_EQ(got.type(), want.type());
  EXPECT_TRUE(got.is_contiguous()) << "row-major, as an eager run gives it";
  const Tensor a = contiguous(got), b = contiguous(want);
  EXPECT_EQ(std::memcmp(a.data<std::byte>().data(), b.data<std::byte>().data(), a.data<std::byte>().size()), 0)
      << to_string(got.type());
}

// Eager, and compiled on one and three threads: first with weights that are new, then with those that are kept.
void expect_eager_bits(const std::function<Tensor()>& f) {
  const NoGrad no_grad;
  const Tensor want = f();
  for (const int threads : {1, 3}) {
    exec::Session session(exec::SessionOptions{.threads = threads});
    const exec::SessionScope scope(session);
    auto fast = compile(f, {.verify = true});
    for (int run = 0; run < 4; ++run) {
      SCOPED_TRACE(testing::Message() << threads << " threads, run " << run);
      expect_same_bits(fast(), want);
    }
  }
}

template <class F>
std::string explained(const F& f) {
  const NoGrad no_grad;
  auto fast = compile(f);
  (void)fast();
  return to_string(fast.explain());
}

constexpr DType kDtypes[] = {f32, bf16, f16};

struct Normed {
  nn::Conv2d conv;
  nn::BatchNorm2d norm;
  Tensor operator()(const Tensor& x) const { return norm(conv(x)); }
};
Normed normed(int64_t in, int64_t out, int64_t window, nn::ConvLayerOptions<2> options) {
  Normed model{nn::Conv2d(in, out, window, options), nn::BatchNorm2d(out)};
  model.norm.running_mean.set(uniform({out}, -0.1, 0.1));
  model.norm.running_var.set(uniform({out}, 0.5, 1.5));
  nn::eval(model);
  return model;
}

TEST(Join, ConvolutionWithBiasAndRelu) {
  for (const DType dtype : kDtypes) {
    for (const auto& [n, channels, filters, size] :
         {std::array<int64_t, 4>{1, 3, 5, 7}, {2, 8, 16, 12}, {3, 33, 20, 9}, {1, 64, 64, 14}}) {
      SCOPED_TRACE(testing::Message() << to_string(TensorType{dtype, {n, channels, filters, size}}));
      const auto model = nn::Conv2d(channels, filters, 3, {.padding = 1, .dtype = dtype});
      const Tensor x = cast(uniform({n, channels, size, size}, -1, 1), dtype);
      const auto f = [&] { return relu(model(x)); };
      expect_eager_bits(f);
      EXPECT_THAT(explained(f), HasSubstr("called: conv+"));
    }
  }
}

TEST(Join, BlocksWithNormsAndResiduals) {
  manual_seed(3);
  for (const auto& [n, width, size] : {std::array<int64_t, 3>{1, 8, 9}, {2, 24, 14}, {3, 64, 8}}) {
    SCOPED_TRACE(testing::Message() << n << " " << width << " " << size);
    const Normed stem = normed(3, width, 3, {.stride = 2, .padding = 1, .bias = false});
    const Normed wide = normed(width, 2 * width, 1, {.bias = false});
    const Normed depthwise = normed(2 * width, 2 * width, 3, {.padding = 1, .groups = 2 * width, .bias = false});
    const Normed narrow = normed(2 * width, width, 1, {.bias = false});
    const Normed other = normed(width, width, 1, {});
    const Normed grouped = normed(width, width, 3, {.groups = 2});
    const Tensor x = uniform({n, 3, 2 * size + 9, 2 * size + 9}, -1, 1);
    const auto f = [&] {
      Tensor h = max_pool2d(relu(stem(x)), {3}, {.stride = {2}, .padding = {1}});
      h = relu(narrow(relu6(depthwise(silu(wide(h))))) + other(h));  // both sides are convolutions
      h = relu(narrow(relu6(wide(h))) + h);                          // and one is what there was
      return mean(grouped(h), {2, 3});
    };
    expect_eager_bits(f);
    // Values that somebody wants, or reads in another way, lie row-major.
    expect_eager_bits([&] {
      const Tensor h = relu(stem(x)), y = relu(other(h));
      return sum(y + transpose(y, 2, 3), {1}) + sum(narrow(wide(h)), {1}) + mean(h, {1});
    });
    expect_eager_bits([&] { return max_pool2d(relu(stem(x)), {3}, {.stride = {2}, .padding = {1}}); });
    expect_eager_bits([&] { return matmul(relu(stem(x)), ones({stem(x).shape(3), 4})); });
    const std::string text = explained(f);
    EXPECT_THAT(text, HasSubstr("conv+multiply+add+relu"));
    EXPECT_THAT(text, HasSubstr("conv+multiply+add+clamp x2"));
    EXPECT_THAT(text, HasSubstr("conv+multiply+add+add+relu x2"));
  }
}

TEST(Join, LinearWithGeluAndResidual) {
  for (const DType dtype : kDtypes) {
    for (const auto& [rows, in, out] : {std::array<int64_t, 3>{1, 5, 3}, {4, 16, 16}, {33, 48, 72}, {128, 256, 96}}) {
      SCOPED_TRACE(testing::Message() << to_string(TensorType{dtype, {rows, in, out}}));
      const auto model = nn::Linear(in, out, {.dtype = dtype});
      const Tensor x = cast(uniform({2, rows, in}, -1, 1), dtype), r = cast(uniform({2, rows, out}, -1, 1), dtype);
      const auto f = [&] { return gelu(model(x)) + r; };
      expect_eager_bits(f);
      EXPECT_THAT(explained(f), HasSubstr("called: matmul+add+gelu+add"));
      expect_eager_bits([&] { return softmax(model(x) * 0.5); });
      expect_eager_bits([&] {  // the pre-activation is read twice
        const Tensor h = model(x);
        return h * gelu(h);
      });
    }
  }
}

// x * sigmoid(x), of two ops: two read x, so neither could go alone.
TEST(Join, TwoMapsOfWhichTheSecondAloneReadsTheFirst) {
  for (const DType dtype : kDtypes) {
    SCOPED_TRACE(name(dtype));
    const auto conv = nn::Conv2d(8, 16, 3, {.padding = 1, .dtype = dtype});
    const auto linear = nn::Linear(24, 40, {.dtype = dtype});
    const Tensor image = cast(uniform({2, 8, 9, 9}, -1, 1), dtype), rows = cast(uniform({33, 24}, -1, 1), dtype);
    const auto gated = [](const Tensor& x) { return x * sigmoid(x); };
    expect_eager_bits([&] { return gated(conv(image)); });
    expect_eager_bits([&] { return gated(linear(rows)) * 0.5; });
    expect_eager_bits([&] { return sigmoid(linear(rows)) * linear(rows); });
    EXPECT_THAT(explained([&] { return gated(conv(image)); }), HasSubstr("called: conv+sigmoid+multiply"));
    EXPECT_THAT(explained([&] { return gated(linear(rows)) * 0.5; }),
                HasSubstr("called: matmul+add+sigmoid+multiply+multiply"));
    // Somebody else reads what is between, or it lies in another way.
    expect_eager_bits([&] {
      const Tensor x = linear(rows), s = sigmoid(x);
      return x * s + sum(s);
    });
    expect_eager_bits([&] {
      const Tensor x = matmul(rows, reshape(rows, {24, 33}));
      return x * permute(sigmoid(x), {1, 0});
    });
  }
}

// Weights may be others in each run, by all ways in which a Variable gets another value.
TEST(Join, SeesNewWeights) {
  const NoGrad no_grad;
  nn::Linear linear(16, 24);
  nn::Conv2d first(3, 8, 3, {.padding = 1}), second(8, 8, 3);
  const Tensor x = uniform({4, 16}, -1, 1), image = uniform({2, 3, 9, 9}, -1, 1);
  const auto f = [&] { return Tensors{relu(linear(x)), relu(second(relu(first(image))))}; };
  auto fast = compile(f);
  const auto check = [&](const char* what) {
    for (int run = 0; run < 3; ++run) {
      SCOPED_TRACE(testing::Message() << what << ", run " << run);
      const Tensors want = f(), got = fast();
      for (size_t i = 0; i < want.size(); ++i) expect_same_bits(got[i], want[i]);
    }
  };
  check("as made");
  linear.weight.set(uniform({24, 16}, -1, 1));
  check("another weight");
  linear.bias.set(uniform({24}, -1, 1));
  first.bias.set(uniform({8}, -1, 1));
  check("other biases");
  second.weight.set(second.weight.value() * 2.0);
  check("doubled");
  for (int run = 0; run < 6; ++run) {  // in place: memory that nobody else holds is written over
    first.weight.set(first.weight.take() + 1.0);
    linear.weight.set(linear.weight.take() * -1.5);
    const Tensors want = f(), got = fast();
    for (size_t i = 0; i < want.size(); ++i) expect_same_bits(got[i], want[i]);
  }
  check("updated in place");
}

// A program that trains finds its weights alone although another one keeps them: they are given back to be written
// over.
TEST(Join, TrainingGetsTheMemoryOfWeightsBack) {
  manual_seed(5);
  nn::Linear model(64, 64);
  const Tensor x = uniform({8, 64}, -1, 1);
  optim::SGD optimizer(parameters(model), {.lr = 0.1});
  auto evaluate = compile([&] {
    const NoGrad no_grad;
    return relu(model(x));
  });
  auto step = compile([&] {
    optimizer.zero_grad();
    const Tensor loss = mean(square(model(x)));
    loss.backward();
    optimizer.step();
    return loss;
  });
  for (int epoch = 0; epoch < 3; ++epoch) {
    for (int i = 0; i < 3; ++i) {
      const NoGrad no_grad;
      expect_same_bits(evaluate(), relu(model(x)));
    }
    for (int i = 0; i < 2; ++i) (void)step();
  }
  const auto programs = step.explain().programs;
  for (size_t i = 1; i < programs.size(); ++i) EXPECT_EQ(programs[i].donated, programs[0].donated);
  EXPECT_EQ(programs.size(), 1U) << to_string(step.explain());
}

}  // namespace
}  // namespace tenon
