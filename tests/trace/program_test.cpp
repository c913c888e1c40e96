// Programs: the bits of a run node by node, in other layouts.
#include "tenon/exec/program.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <thread>

#include "tenon/base/error.h"
#include "tenon/exec/evaluate.h"
#include "tenon/exec/profile.h"
#include "tenon/exec/session.h"
#include "tenon/ops/call.h"
#include "tenon/tenon.h"
#include "tests/support/error_text.h"

namespace tenon {
namespace {

using testing_support::error_text;

// Convolutions with all that may stand behind them, values that two read, and readers that want another layout.
struct Network {
  nn::Conv2d first{3, 20, 3, {.stride = 2, .padding = 1, .bias = false}};
  nn::BatchNorm2d norm{20};
  nn::Conv2d wide{20, 36, 1};
  nn::Conv2d depthwise{36, 36, 3, {.padding = 1, .groups = 36}};
  nn::Conv2d narrow{36, 20, 1};
  nn::Conv2d grouped{20, 12, 3, {.groups = 4}};
  nn::Linear head{12, 5};

  Tensors operator()(const Tensor& x) const {
    Tensor h = relu(norm(first(x)));
    const Tensor kept = max_pool2d(h, {3}, {.stride = {2}, .padding = {1}});
    h = narrow(silu(depthwise(relu6(wide(kept)))));
    h = relu(h + kept);                               // the residual
    const Tensor shown = h * 0.5;                     // an elementwise op that two read
    const Tensor other = h + transpose(shown, 2, 3);  // another layout
    h = grouped(concat({narrow_half(other), narrow_half(shown)}, 1));
    return {head(mean(leaky_relu(h, 0.1), {2, 3})), shown, other + 1.0};
  }
  static Tensor narrow_half(const Tensor& x) { return slice(x, {1}, {0}, {10}); }
};

std::shared_ptr<const ir::Graph> graph_of(const Network& model, int64_t n) {
  return std::make_shared<const ir::Graph>(
      capture([&](const Tensors& in) { return model(in[0]); }, {{"image", f32, {n, 3, 29, 29}}}));
}

Network evaluating() {
  manual_seed(3);
  Network model;
  model.norm.running_mean.set(uniform({20}, -0.1, 0.1));
  model.norm.running_var.set(uniform({20}, 0.5, 1.5));
  nn::eval(model);
  return model;
}

void expect_same(const Tensors& got, const Tensors& want) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_EQ(got[i].type(), want[i].type());
    EXPECT_TRUE(got[i].is_contiguous()) << i;
    EXPECT_EQ(got[i].to_vector<float>(), contiguous(want[i]).to_vector<float>()) << i;
  }
}

TEST(Program, HasTheBitsOfARunNodeByNode) {
  const NoGrad no_grad;
  const Network model = evaluating();
  for (const int64_t n : {1, 3}) {
    const auto graph = graph_of(model, n);
    const exec::Program program(graph);
    EXPECT_EQ(program.summary().prepared, 8) << "five convolutions, the pooling, the concat and the product";
    EXPECT_GE(program.summary().fused, 8);
    EXPECT_GT(program.summary().arena_bytes, 0);
    const Tensor x = uniform({n, 3, 29, 29}, -1, 1);
    const Tensors eager = model(x);
    expect_same(exec::run(*graph, {x}), eager);
    expect_same(program.run({x}), eager);
    for (const exec::SessionOptions& options :
         {exec::SessionOptions{.threads = 1}, exec::SessionOptions{.threads = 4}, exec::SessionOptions{.poison = true},
          exec::SessionOptions{.threads = 1, .reuse = false},
          exec::SessionOptions{.threads = 2, .built_kernels = false}}) {
      exec::Session session(options);
      const exec::SessionScope scope(session);
      expect_same(program.run({x}), eager);
      expect_same(exec::Program(graph).run({x}), eager);
    }
    // By the ops' own meanings: nothing is made ready.
    exec::Session plain(exec::SessionOptions{.claims = false});
    const exec::SessionScope scope(plain);
    expect_same(program.run({x}), exec::run(*graph, {x}));
    EXPECT_EQ(exec::Program(graph).summary().prepared, 0);
  }
}

// 8-bit products with the way from their sums to 8 bits in them, by examples, too; and to f32.
TEST(Program, TakesWhatFollowsProductsOfBytes) {
  const NoGrad no_grad;
  manual_seed(6);
  const auto bytes = [](const Shape& shape) { return randint(0, 256, shape, u8); };
  const Tensor weight = randint(-128, 128, {20, 12, 3, 3}, i8), matrix = randint(-128, 128, {30, 25}, i8);
  const Tensor bias = randint(-9000, 9000, {20, 1, 1}, i32), factor = cast(uniform({20, 1, 1}, 1e-4, 1e-3), f64);
  const Tensor scale = cast(uniform({25}, 1e-4, 1e-3), f64), more = uniform({25}, -1, 1);
  const auto cut = [](const Tensor& q) {
    return cast(cast(minimum(maximum(q + cast(Tensor(117), f64), 0.0), 255.0), f32), u8);
  };
  const auto product = [&](const Tensor& x) { return ops::call1(ops::matmul_integer_op(), {x, matrix}); };
  const auto model = [&](const Tensors& in) {
    const Tensor sums = convolution_integer(in[0], weight, {.x = cast(Tensor(131), u8)}, {.padding = {1}});
    return Tensors{cut(round(cast(sums + bias, f64) * factor)),
                   cut(round(cast(product(in[1]) - in[2], f64) * scale / 0.7)),
                   cast(product(in[1]), f32) * in[3] + more};
  };
  for (const int64_t n : {1, 3}) {
    const Tensors in{bytes({n, 12, 11, 9}), bytes({n, 7, 30}), randint(-900, 900, {n, 7, 1}, i32), Tensor(0.25F)};
    std::vector<InputSpec> specs;
    for (const Tensor& x : in) specs.emplace_back("x" + std::to_string(specs.size()), x.type());
    const auto graph = std::make_shared<const ir::Graph>(capture(model, specs));
    const exec::Program program(graph);
    EXPECT_EQ(program.summary().prepared, 3);
    EXPECT_EQ(program.summary().others, 0) << "all else goes with them";
    const Tensors want = exec::run(*graph, in);
    for (const int threads : {1, 4}) {
      exec::Session session(exec::SessionOptions{.threads = threads});
      const exec::SessionScope scope(session);
      const Tensors got = program.run(in);
      for (size_t i = 0; i < 2; ++i) EXPECT_EQ(got[i].to_vector<uint8_t>(), want[i].to_vector<uint8_t>());
      EXPECT_EQ(got[2].to_vector<float>(), want[2].to_vector<float>());
    }
  }
}

// Convolutions whose results are large and read once run together; what another reads, too, stays a value.
TEST(Program, RunsConvolutionsTogether) {
  const NoGrad no_grad;
  manual_seed(5);
  const nn::Conv2d wide{16, 96, 1}, apart{96, 96, 3, {.stride = 2, .padding = 1, .groups = 96}}, narrow{96, 16, 1},
      other{96, 96, 3, {.padding = 1, .groups = 96}};
  const auto model = [&](const Tensors& in) {
    const Tensor scale = in[1];
    Tensor h = narrow(relu6(apart(relu(wide(in[0])) * scale))) + in[2];
    const Tensor kept = relu6(wide(h));
    return Tensors{narrow(silu(other(kept)) * scale), kept};
  };
  const Tensors in{uniform({1, 16, 112, 104}, -1, 1), uniform({96, 1, 1}, -1, 1), uniform({1, 16, 56, 52}, -1, 1)};
  const auto graph = std::make_shared<const ir::Graph>(
      capture(model, {{"x", in[0].type()}, {"scale", in[1].type()}, {"residual", in[2].type()}}));
  const exec::Program program(graph);
  EXPECT_EQ(program.summary().prepared, 6);
  EXPECT_EQ(program.summary().joined, 3) << "three in front, and the last two: `kept` is a result, too";
  for (const int threads : {1, 4}) {
    exec::Session session(exec::SessionOptions{.threads = threads});
    const exec::SessionScope scope(session);
    expect_same(program.run(in), exec::run(*graph, in));
  }
}

// Examples whose values fill a cache go one after the other through steps that follow each other, with what reads or is
// read by others, operands that every example has of its own, and a last time with fewer examples.
TEST(Program, RunsStepsExampleByExample) {
  const NoGrad no_grad;
  manual_seed(8);
  for (const DType dtype : {f32, f16, bf16}) {
    const auto made = [&](const Shape& shape) { return contiguous(cast(uniform(shape, -0.3, 0.3), dtype)); };
    const Tensor first = made({32, 16, 3, 3}), bias = made({32}), second = made({32, 32, 1, 1}),
                 third = made({32, 32, 3, 3}), last = made({8, 64, 1, 1}), fixed = made({5, 32, 48, 48});
    const auto model = [&](const Tensors& in) {
      const Tensor pooled = max_pool2d(relu(conv2d(in[0], first, bias, {.padding = {1}})), {2});
      const Tensor s = relu(conv2d(pooled, second) + in[1]);
      const Tensor t = conv2d(s, third, {}, {.padding = {1}}) * in[2] + fixed;
      return Tensors{relu(conv2d(concat({s, t}, 1), last)), t};
    };
    const Tensors in{made({5, 16, 96, 96}), made({5, 32, 48, 48}), made({32, 1, 1})};
    const auto graph = std::make_shared<const ir::Graph>(
        capture(model, {{"x", in[0].type()}, {"y", in[1].type()}, {"z", in[2].type()}}));
    const Tensors want = exec::run(*graph, in);
    expect_same(want, model(in));
    for (const exec::SessionOptions& options : {exec::SessionOptions{.threads = 1}, exec::SessionOptions{.threads = 3},
                                                exec::SessionOptions{.poison = true}}) {
      exec::Session session(options);
      const exec::SessionScope scope(session);
      const exec::Program program(graph);
      EXPECT_EQ(program.summary().by_example, 6) << "four convolutions, the pooling and the concat";
      expect_same(program.run(in), want);
      expect_same(program.run(in), want);
    }
  }
}

// A constant that a concat joins to them has all examples; it does not go apart.
TEST(Program, ConstantsOfAllExamplesStayWhole) {
  const NoGrad no_grad;
  manual_seed(9);
  const Tensor first = uniform({32, 16, 3, 3}, -0.3, 0.3), second = uniform({8, 34, 1, 1}, -0.3, 0.3),
               fixed = uniform({5, 2, 96, 96}, -1, 1);
  const auto model = [&](const Tensors& in) {
    const Tensor h = relu(conv2d(in[0], first, {}, {.padding = {1}}));
    return Tensors{conv2d(concat({h, fixed}, 1), second)};
  };
  const Tensors in{uniform({5, 16, 96, 96}, -1, 1)};
  const auto graph = std::make_shared<const ir::Graph>(capture(model, {{"x", in[0].type()}}));
  const exec::Program program(graph);
  expect_same(program.run(in), exec::run(*graph, in));
  expect_same(program.run(in), model(in));
}

// Between convolutions nothing goes back to row-major order: resampling, concats and pooling take the channels last.
TEST(Program, MovesKeepTheChannelsLast) {
  const NoGrad no_grad;
  manual_seed(6);
  const nn::Conv2d small{3, 12, 3, {.stride = 2, .padding = 1}}, large{3, 8, 3, {.padding = 1}}, last{20, 5, 1};
  const auto model = [&](const Tensors& in) {
    const Tensor grown = interpolate(small(in[0]), {.scale = {2}});
    const Tensor uneven = interpolate(small(in[0]), {.size = {7, 5}, .mode = InterpolateMode::NearestExact});
    const Tensor h = concat({grown, large(in[0])}, 1);
    return Tensors{last(h), max_pool2d(h, {2}), uneven};
  };
  const Tensors in{uniform({2, 3, 18, 14}, -1, 1)};
  const auto graph = std::make_shared<const ir::Graph>(capture(model, {{"x", in[0].type()}}));
  const exec::Program program(graph);
  expect_same(program.run(in), exec::run(*graph, in));
  expect_same(program.run(in), model(in));
  EXPECT_EQ(program.summary().others, 0);
}

// Neighbours are weighted in the order in which the values lie, by sums that are those of the op's body.
TEST(Program, ResamplesWithWeightsInAnyOrder) {
  const NoGrad no_grad;
  manual_seed(8);
  const nn::Conv2d first{3, 12, 3, {.stride = 2, .padding = 1}}, few{3, 3, 1}, last{12, 5, 1};
  const auto model = [&](const Tensors& in) {
    const Tensor h = relu(first(in[0]));
    const Tensor grown = interpolate(h, {.scale = {2}, .mode = InterpolateMode::Linear});
    const Tensor corners = interpolate(h, {.size = {23, 4}, .mode = InterpolateMode::Linear, .align_corners = true});
    const Tensor cubic = interpolate(few(in[0]), {.size = {7, 31}, .mode = InterpolateMode::Cubic});
    const Tensor row = interpolate(in[1], {.size = {40}, .mode = InterpolateMode::Cubic});
    const Tensor space = interpolate(in[2], {.scale = {1.5}, .mode = InterpolateMode::Linear});
    return Tensors{last(grown), corners, cubic, row, space};
  };
  const Tensors in{uniform({2, 3, 18, 14}, -1, 1), uniform({2, 3, 9}, -1, 1, f64), uniform({1, 2, 3, 4, 5}, -1, 1)};
  const auto graph = std::make_shared<const ir::Graph>(
      capture(model, {{"x", in[0].type()}, {"y", in[1].type()}, {"z", in[2].type()}}));
  const exec::Program program(graph);
  EXPECT_EQ(program.summary().others, 0);
  const auto expect_program = [&](const Tensors& want) {
    const Tensors got = program.run(in);
    ASSERT_EQ(got.size(), want.size());
    for (size_t i = 0; i < got.size(); ++i) EXPECT_EQ(got[i].to_vector<double>(), want[i].to_vector<double>()) << i;
  };
  for (const int threads : {1, 3}) {
    exec::Session session(exec::SessionOptions{.threads = threads, .poison = threads > 1});
    const exec::SessionScope scope(session);
    expect_program(exec::run(*graph, in));
    expect_program(model(in));
  }
  // By the bodies alone, from the same elements.
  const Tensor x = uniform({2, 3, 18, 14}, -1, 1);
  for (const auto mode : {InterpolateMode::Linear, InterpolateMode::Cubic}) {
    const InterpolateOptions options{.size = {37, 9}, .mode = mode};
    const auto fast = interpolate(x, options).to_vector<float>();
    exec::Session plain(exec::SessionOptions{.claims = false});
    const exec::SessionScope scope(plain);
    EXPECT_EQ(interpolate(x, options).to_vector<float>(), fast);
  }
}

TEST(Program, RunsInSeveralThreadsAtOnce) {
  const NoGrad no_grad;
  const Network model = evaluating();
  const exec::Program program(graph_of(model, 1));
  const Tensor x = uniform({1, 3, 29, 29}, -1, 1);
  const Tensors want = program.run({x});
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t) {
    threads.emplace_back([&] {
      for (int i = 0; i < 10; ++i) expect_same(program.run({x}), want);
    });
  }
  for (auto& thread : threads) thread.join();
}

TEST(Program, SizesShareWhatIsKeptOfWeights) {
  const NoGrad no_grad;
  const Network model = evaluating();
  const auto kept = std::make_shared<KeptConstants>();
  const auto graph = graph_of(model, 1);  // its constants have elements, also where ops are recorded
  for (const auto& [name, weight] : nn::state_dict(model)) kept->hold(weight.impl()->buffer);
  const exec::Program one(graph, kept);
  const int64_t bytes = kept->bytes();
  EXPECT_GT(bytes, 0);
  const exec::Program two(graph_of(model, 2), kept);
  EXPECT_EQ(kept->bytes(), bytes);
}

// A constant that goes with its program leaves its address to others.
TEST(Program, NothingIsKeptOfConstantsThatDoNotStay) {
  const NoGrad no_grad;
  const auto kept = std::make_shared<KeptConstants>();
  const Tensor x = uniform({3, 40}, -1, 1);
  for (int i = 0; i < 8; ++i) {
    const Tensor right = contiguous(full({40, 20}, i));
    const auto graph = std::make_shared<const ir::Graph>(
        capture([&](const Tensors& in) { return Tensors{matmul(in[0], right)}; }, {{"x", x.type()}}));
    const exec::Program program(graph, kept);
    EXPECT_EQ(program.summary().prepared, 1);
    expect_same(program.run({x}), exec::run(*graph, {x}));
  }
  EXPECT_EQ(kept->bytes(), 0);
}

// x * sigmoid(x) and its like, written as two ops, as most exporters do: both readers of x go into the convolution.
TEST(Program, TwoOpsThatReadOneValueGoIntoTheCallTogether) {
  const NoGrad no_grad;
  manual_seed(5);
  const nn::Conv2d first(3, 20, 3), second(20, 24, 1);
  const auto model = [&](const Tensors& in) {
    Tensor h = first(in[0]);
    h = h * sigmoid(h);
    h = second(h);
    const Tensor gate = clamp(h + 3.0, 0.0, 6.0);
    h = in[1] - h * gate;
    const Tensor other = second(slice(h, {1}, {0}, {20}));
    return Tensors{h, other * tanh(other), tanh(other * 2.0) + other, other};  // which three read
  };
  const Tensors in{uniform({2, 3, 12, 12}, -2, 2), uniform({2, 24, 10, 10}, -1, 1)};
  const auto graph = std::make_shared<const ir::Graph>(capture(model, {{"x", in[0].type()}, {"y", in[1].type()}}));
  const exec::Program program(graph);
  EXPECT_GE(program.summary().fused, 2);
  expect_same(program.run(in), exec::run(*graph, in));
  expect_same(program.run(in), model(in));
  Profiler profiler;
  (void)program.run(in);
  const Profile profile = profiler.stop();
  EXPECT_TRUE(std::any_of(profile.events.begin(), profile.events.end(),
                          [](const ProfileEvent& event) { return event.name.ends_with("sigmoid+multiply"); }));
}

// Layers of more than two axes make rows of them and cut these again behind the product, where bias, activation and
// residual follow. What two rows have together cannot follow a cut between them.
TEST(Program, ReshapesThatLeaveRowsAsTheyAreGoIntoTheProduct) {
  const NoGrad no_grad;
  manual_seed(5);
  const nn::Linear up{12, 20}, down{20, 12};
  const Tensor weight = uniform({12, 8}, -1, 1), rows = uniform({6, 8}, -1, 1), pages = uniform({2, 3, 8}, -1, 1);
  const Tensor of_row = uniform({2, 3, 1}, -1, 1);
  const auto run = [&](const exec::Program::Summary& expected, const auto& f) {
    const auto graph = std::make_shared<const ir::Graph>(
        capture([&](const Tensors& in) { return Tensors{f(in[0])}; }, {{"x", f32, {2, 3, 12}}}));
    const exec::Program program(graph);
    EXPECT_EQ(program.summary().prepared, expected.prepared);
    EXPECT_EQ(program.summary().fused, expected.fused);
    const Tensor x = uniform({2, 3, 12}, -1, 1);
    expect_same(program.run({x}), exec::run(*graph, {x}));
  };
  run({.prepared = 2, .fused = 7}, [&](const Tensor& x) { return down(gelu(up(x))) + x; });
  run({.prepared = 1, .fused = 3}, [&](const Tensor& x) { return matmul(x, weight) * of_row + pages; });
  const auto product = [&](const Tensor& x) { return matmul(reshape(x, {6, 12}), weight); };
  run({.prepared = 1, .fused = 1}, [&](const Tensor& x) { return reshape(product(x) + rows, {2, 3, 8}) * pages; });
  run({.prepared = 1, .fused = 1}, [&](const Tensor& x) { return reshape(product(x) * 0.5, {2, 24}) + 1.0; });
}

// What is put together stays in the order in which most of it lies.
TEST(Program, ConcatsKeepTheOrderOfTheirInputs) {
  const NoGrad no_grad;
  manual_seed(9);
  const nn::Conv2d left(3, 10, 1), right(3, 23, 3, {.padding = 1}), after(39, 8, 3);
  const auto model = [&](const Tensors& in) {
    const Tensor a = relu(left(in[0])), b = right(in[0]);
    const Tensor all = concat({a, b, in[1]}, 1);
    const Tensor rows = concat({a, left(in[0] * 0.5)}, -2);
    const Tensor little = concat({in[1], in[1], left(in[0]), in[1]}, 1);  // row-major
    return Tensors{after(max_pool2d(all, {5}, {.stride = {1}, .padding = {2}})), rows, little, concat({all, all}, 0)};
  };
  const Tensors in{uniform({2, 3, 9, 11}, -2, 2), uniform({2, 6, 9, 11}, -1, 1)};
  const auto graph = std::make_shared<const ir::Graph>(capture(model, {{"x", in[0].type()}, {"y", in[1].type()}}));
  const exec::Program program(graph);
  EXPECT_EQ(program.summary().prepared, 10) << "five convolutions, the pooling and four concats";
  for (const exec::SessionOptions& options :
       {exec::SessionOptions{.threads = 3}, exec::SessionOptions{.poison = true}}) {
    exec::Session session(options);
    const exec::SessionScope scope(session);
    expect_same(program.run(in), model(in));
    expect_same(exec::Program(graph).run(in), model(in));
  }
}

// A convolution that only a concat reads writes its part of the whole; so does a concat in another.
TEST(Program, WritesPartsWhereTheConcatHasThem) {
  const NoGrad no_grad;
  manual_seed(10);
  const nn::Conv2d point(3, 13, 1), winograd(16, 19, 3, {.padding = 1}), wide(3, 5, 5, {.padding = 2}),
      depthwise(16, 16, 3, {.padding = 1, .groups = 16}), grouped(16, 6, 3, {.padding = 1, .groups = 2}),
      squeeze(3, 16, 1), after(78, 7, 1), both(12, 4, 1), rows(7, 3, 1);
  const auto model = [&](const Tensors& in) {
    const Tensor narrow = relu(squeeze(in[0]));
    const Tensor inner = concat({relu(winograd(narrow)), silu(depthwise(narrow))}, 1);
    const Tensor twice = wide(in[0]);  // which two read
    const Tensor all = concat({point(in[0]), inner, in[1], grouped(narrow) + 1.0, twice,
                               max_pool2d(narrow, {3}, {.stride = {1}, .padding = {1}})},
                              1);
    const Tensor h = after(all);
    const Tensor examples = concat({rows(h), rows(h * 0.5)}, 0);
    const Tensor end = concat({point(in[0]), twice}, 1);  // a result
    const Tensor mixed = rows(concat({rows(h), both(concat({h, twice}, 1))}, 1));
    return Tensors{rows(concat({h, h}, 2)), relu(mixed), max_pool2d(examples, {2}), end};
  };
  for (const int64_t n : {1, 3}) {
    const Tensors in{uniform({n, 3, 20, 17}, -2, 2), uniform({n, 3, 20, 17}, -1, 1)};
    const auto graph = std::make_shared<const ir::Graph>(capture(model, {{"x", in[0].type()}, {"y", in[1].type()}}));
    const exec::Program program(graph);
    EXPECT_EQ(program.summary().parts, 9);
    for (const exec::SessionOptions& options :
         {exec::SessionOptions{.threads = 1}, exec::SessionOptions{.threads = 3, .poison = true}}) {
      exec::Session session(options);
      const exec::SessionScope scope(session);
      expect_same(program.run(in), model(in));
      expect_same(program.run(in), exec::run(*graph, in));
    }
  }
}

// The same where a few examples run at a time: wholes that only such steps see, and wholes and parts that others do.
TEST(Program, WritesPartsOfSomeExamplesAtATime) {
  const NoGrad no_grad;
  manual_seed(11);
  const nn::Conv2d point(16, 13, 1), window(16, 19, 3, {.padding = 1}), more(13, 8, 1), after(40, 16, 1), end(32, 4, 1);
  const auto model = [&](const Tensors& in) {
    Tensor h = relu(after(concat({relu(point(in[0])), concat({window(in[0]), more(point(in[0]))}, 1)}, 1)));
    const Tensor apart = sum(h, {0}, true);  // ends what runs example by example
    const Tensor whole = concat({relu(after(concat({point(h), window(h), more(point(h))}, 1))),
                                 after(concat({point(h + apart), window(h), more(point(h))}, 1))},
                                1);
    return Tensors{sum(end(whole), {0}), max_pool2d(whole, {2})};
  };
  const Tensors in{uniform({5, 16, 96, 96}, -1, 1)};
  const auto graph = std::make_shared<const ir::Graph>(capture(model, {{"x", in[0].type()}}));
  for (const exec::SessionOptions& options :
       {exec::SessionOptions{.threads = 1}, exec::SessionOptions{.threads = 3, .poison = true}}) {
    exec::Session session(options);
    const exec::SessionScope scope(session);
    const exec::Program program(graph);
    EXPECT_GT(program.summary().by_example, 6);
    EXPECT_GT(program.summary().parts, 6);
    const Tensors want = model(in);
    expect_same(program.run(in), want);
    expect_same(program.run(in), want);
  }
}

// In f16 and bf16 likewise: weights are packed once, each op rounds its own result.
TEST(Program, HalvesHaveTheBitsOfARunNodeByNode) {
  const NoGrad no_grad;
  manual_seed(7);
  for (const DType half : {f16, bf16}) {
    const auto weight = [&](const Shape& shape) { return contiguous(cast(uniform(shape, -0.5, 0.5), half)); };
    const Tensor first = weight({20, 3, 3, 3}), bias = weight({20}), wide = weight({24, 20, 1, 1}),
                 depthwise = weight({24, 1, 3, 3}), head = weight({24, 5}), scale = weight({24, 1, 1});
    const auto model = [&](const Tensors& in) {
      Tensor h = relu(conv2d(in[0], first, bias, {.stride = {2}, .padding = {1}}));
      h = max_pool2d(h, {3}, {.stride = {2}});
      h = conv2d(h, wide) * scale + in[1];
      const Tensor gate = conv2d(silu(h), depthwise, {}, {.padding = {1}, .groups = 24});
      h = relu(h + gate);
      const Tensor shown = avg_pool2d(h, {2});
      return Tensors{cast(matmul(reshape(mean(h, {2, 3}), {2, 24}), head), f32), cast(shown, f32),
                     cast(conv2d(in[0], first), f32)};
    };
    const Tensors in{cast(uniform({2, 3, 31, 31}, -2, 2), half), cast(uniform({2, 24, 7, 7}, -1, 1), half)};
    const auto graph = std::make_shared<const ir::Graph>(capture(model, {{"x", in[0].type()}, {"y", in[1].type()}}));
    const exec::Program program(graph);
    EXPECT_EQ(program.summary().prepared, 6) << "four convolutions, the pooling and the product";
    EXPECT_GE(program.summary().fused, 5);
    expect_same(program.run(in), model(in));
    for (const exec::SessionOptions& options :
         {exec::SessionOptions{.threads = 3}, exec::SessionOptions{.poison = true},
          exec::SessionOptions{.threads = 1, .reuse = false, .built_kernels = false}}) {
      exec::Session session(options);
      const exec::SessionScope scope(session);
      expect_same(program.run(in), exec::run(*graph, in));
      expect_same(exec::Program(graph).run(in), exec::run(*graph, in));
    }
    // By the ops' own meanings, but for the order of sums.
    exec::Session plain(exec::SessionOptions{.claims = false});
    const exec::SessionScope scope(plain);
    const Tensors want = exec::run(*graph, in), got = program.run(in);
    for (size_t i = 0; i < want.size(); ++i)
      EXPECT_LT(max(abs(got[i] - want[i])).item<float>(), half == f16 ? 0.02F : 0.15F) << i;
  }
}

TEST(Program, InputsMustFit) {
  const NoGrad no_grad;
  const exec::Program program(graph_of(evaluating(), 1));
  EXPECT_EQ(
      error_text<ShapeError>([&] { (void)program.run({uniform({2, 3, 29, 29}, 0, 1)}); }),
      error_text<ShapeError>([&] { (void)exec::run(*graph_of(evaluating(), 1), {uniform({2, 3, 29, 29}, 0, 1)}); }));
  EXPECT_THROW((void)program.run({}), ValueError);
}

TEST(Program, ProfilesSayWhatIsFused) {
  const NoGrad no_grad;
  const exec::Program program(graph_of(evaluating(), 1));
  const Tensor x = uniform({1, 3, 29, 29}, -1, 1);
  Profiler profiler;
  (void)program.run({x});
  const Profile profile = profiler.stop();
  EXPECT_TRUE(std::any_of(profile.events.begin(), profile.events.end(), [](const ProfileEvent& event) {
    return event.name.starts_with("conv+") && event.name.ends_with("+relu") && event.flops > 0;
  }));
}

// The sum of squares of what a program's result is away from the same graph in f64, relative to the result's.
double error_of(const Tensor& got, const Tensor& want) {
  return (sum(square(cast(got, f64) - want)) / sum(square(want))).item<double>();
}

// Convolutions whose batch normalisation goes into the weights, with and without a bias and with groups, one factor for
// all filters, and a multiplication that cannot go there, because two read what it multiplies.
TEST(Program, FastPutsFactorsOfFiltersIntoTheWeights) {
  const NoGrad no_grad;
  manual_seed(11);
  const Tensor first = normal({20, 3, 3, 3}, 0, 0.3), second = normal({24, 20, 1, 1}, 0, 0.3),
               depthwise = normal({24, 1, 3, 3}, 0, 0.3), bias = normal({24}), mean = normal({20}),
               variance = uniform({20}, 0.5, 2), weight = normal({20}), shift = normal({20});
  const auto model = [&](const Tensors& in) {
    const DType t = in[0].dtype();
    const auto as = [&](const Tensor& x) { return cast(x, t); };
    Tensor h = relu(batch_norm_infer(conv2d(in[0], as(first), {}, {.padding = {1}}), as(mean), as(variance), as(weight),
                                     as(shift), 1e-5));
    h = conv2d(h, as(second), as(bias)) * as(reshape(slice(bias, {0}, {0}, {24}), {24, 1, 1}));
    h = conv2d(h, as(depthwise), {}, {.padding = {1}, .groups = 24}) * full({}, 0.25, t);
    const Tensor two = conv2d(h, as(depthwise), {}, {.groups = 24});
    return Tensors{two * as(reshape(bias, {24, 1, 1})) + two};
  };
  const Tensor x = normal({2, 3, 17, 19});
  const auto graph = std::make_shared<const ir::Graph>(capture(model, {{"x", x.type()}}));
  const exec::Program strict(graph), fast(graph, nullptr, Precision::Fast);
  EXPECT_EQ(strict.summary().scaled, 0);
  EXPECT_EQ(fast.summary().scaled, 3);
  EXPECT_EQ(fast.summary().prepared, strict.summary().prepared);
  const Tensor want = model({cast(x, f64)})[0], got = fast.run({x})[0];
  EXPECT_LT(error_of(got, want), 4 * error_of(strict.run({x})[0], want)) << "as good as the other way round, about";
  EXPECT_LT(error_of(got, want), 1e-12);
  EXPECT_NE(got.to_vector<float>(), strict.run({x})[0].to_vector<float>());
  for (const int threads : {1, 3}) {
    exec::Session session(exec::SessionOptions{.threads = threads});
    const exec::SessionScope scope(session);
    expect_same(exec::Program(graph, nullptr, Precision::Fast).run({x}), {got});
  }
}

TEST(Program, FastProgramsOfSeveralSizesShareScaledWeights) {
  const NoGrad no_grad;
  const Network model = evaluating();
  const auto kept = std::make_shared<KeptConstants>();
  const auto graph = graph_of(model, 1);
  for (const auto& [name, weight] : nn::state_dict(model)) kept->hold(weight.impl()->buffer);
  const exec::Program strict(graph, kept), one(graph, kept, Precision::Fast);
  EXPECT_EQ(one.summary().scaled, 1);
  const int64_t bytes = kept->bytes();
  const exec::Program two(graph_of(model, 2), kept, Precision::Fast);
  EXPECT_EQ(kept->bytes(), bytes);
  // Strict and fast programs of the same constants do not take each other's.
  const Tensor x = uniform({1, 3, 29, 29}, -1, 1);
  expect_same(strict.run({x}), exec::run(*graph, {x}));
  const Tensors fast = one.run({x}), want = strict.run({x});
  for (size_t i = 0; i < fast.size(); ++i) EXPECT_LT(max(abs(fast[i] - want[i])).item<float>(), 1e-5F);
}

// What follows a product in halves is not rounded in between: nearer to the same model in f64.
TEST(Program, FastHalvesRoundLess) {
  const NoGrad no_grad;
  manual_seed(13);
  for (const DType half : {f16, bf16}) {
    const auto short_one = [&](const Tensor& x) { return contiguous(cast(x, half)); };
    const Tensor filters = short_one(normal({40, 32, 3, 3}, 0, 0.06)), scale = short_one(uniform({40, 1, 1}, 0.5, 2)),
                 shift = short_one(normal({40, 1, 1})), head = short_one(normal({40, 24}, 0, 0.2)),
                 bias = short_one(normal({24}));
    const auto model = [&](const Tensors& in) {
      const auto as = [&](const Tensor& x) { return cast(x, in[0].dtype()); };
      const Tensor h = relu(conv2d(in[0], as(filters), {}, {.padding = {1}}) * as(scale) + as(shift)) + in[1];
      return Tensors{h, tanh(matmul(mean(h, {2, 3}), as(head)) * as(full({}, 0.5, half)) + as(bias))};
    };
    const Tensors in{short_one(normal({2, 32, 9, 9})), short_one(normal({2, 40, 9, 9}))};
    const auto graph = std::make_shared<const ir::Graph>(capture(model, {{"x", in[0].type()}, {"y", in[1].type()}}));
    const Tensors want = model({cast(in[0], f64), cast(in[1], f64)});
    const Tensors strict = exec::Program(graph).run(in), fast = exec::Program(graph, nullptr, Precision::Fast).run(in);
    EXPECT_LT(error_of(fast[0], want[0]), 0.7 * error_of(strict[0], want[0])) << name(half);
    EXPECT_LT(error_of(fast[1], want[1]), 1.5 * error_of(strict[1], want[1])) << name(half);
  }
}

}  // namespace
}  // namespace tenon
