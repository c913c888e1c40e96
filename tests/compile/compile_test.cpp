// compile(fn): the bits of eager runs, splits, recompilation, the plan, explain().
#include "tenon/compile.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <cstring>
#include <functional>
#include <thread>

#include "tenon/base/error.h"
#include "tenon/exec/evaluate.h"
#include "tenon/exec/plan.h"
#include "tenon/tenon.h"

namespace tenon {
namespace {

using testing::HasSubstr;

void expect_same_bits(const Tensors& got, const Tensors& want) {
  ASSERT_EQ(got.size(), want.size());
  for (size_t i = 0; i < got.size(); ++i) {
    ASSERT_EQ(got[i].defined(), want[i].defined()) << i;
    if (!got[i].defined()) continue;
    ASSERT_EQ(got[i].type(), want[i].type()) << i;
    const Tensor a = contiguous(got[i]), b = contiguous(want[i]);
    EXPECT_EQ(std::memcmp(a.data<std::byte>().data(), b.data<std::byte>().data(), a.data<std::byte>().size()), 0)
        << "tensor " << i << " " << to_string(got[i].type());
  }
}

const CompileOptions kChecked{.verify = true, .keep_text = true};

// Parameters, gradients and losses after a few steps.
template <class MakeModel, class Loss>
Tensors train(const MakeModel& make, const Loss& loss_of, bool compiled, Explanation* explanation, int steps = 3) {
  manual_seed(7);
  auto model = make();
  auto optimizer = optim::AdamW(parameters(model), {.lr = 1e-2, .weight_decay = 0.1});
  const auto step = [&](int i) {
    optimizer.zero_grad();
    Tensor loss = loss_of(model, i);
    loss.backward();
    optimizer.step();
    return loss;
  };
  auto fast = compile(step, kChecked);
  Tensors results;
  for (int i = 0; i < steps; ++i) results.push_back(compiled ? fast(i) : step(i));
  if (explanation) *explanation = fast.explain();
  for (const auto& p : parameters(model)) {
    results.push_back(p.value());
    results.push_back(p.grad());
  }
  for (const auto& entry : optimizer.state_dict()) results.push_back(entry.second);
  return results;
}

template <class MakeModel, class Loss>
Explanation expect_same_training(const MakeModel& make, const Loss& loss_of) {
  Explanation e;
  const Tensors got = train(make, loss_of, true, &e), want = train(make, loss_of, false, nullptr);
  expect_same_bits(got, want);
  // The first step differs from the later ones: gradients come into being.
  EXPECT_LE(e.programs.size(), 2U) << to_string(e);
  EXPECT_EQ(e.segments, 3) << "a step is one graph\n" << to_string(e);
  return e;
}

TEST(Compile, MlpTrainStepIsOneProgramWithTheBitsOfEager) {
  const Tensor x = uniform({16, 64}, -1, 1), target = remainder(arange(16), 10);
  const Explanation e = expect_same_training([] { return models::MLP({64, 64, 10}); },
                                             [&](auto& m, int) { return cross_entropy(m(x), target); });
  const auto& r = e.programs.back();
  EXPECT_GT(r.fused.size(), 3U);
  EXPECT_LT(r.kernels * 3, r.maps + r.folds) << to_string(e);
  EXPECT_GT(r.donated, 10) << "parameters and moments are updated in place\n" << to_string(e);
  EXPECT_LE(r.arena_bytes, r.unplanned_bytes);
}

// y = x w' with w made short, as a layer in an Autocast scope: w is read in the order of its memory, and its gradient
// is made in that order, so that no kernel goes across rows.
TEST(Compile, AWeightThatIsTurnedIsReadAndUpdatedAsItLies) {
  const Tensor x = normal({24, 40}, 0, 1, f32, random_key(1)), w = normal({56, 40}, 0, 1, f32, random_key(2));
  for (const DType dtype : {bf16, f16, f32}) {
    const auto layer = [&](const Tensor& w) { return matmul(cast(x, dtype), cast(permute(w, {1, 0}), dtype)); };
    const auto step = [&](const Tensor& w) {
      const Vjp y = vjp([&](const Tensors& in) { return Tensors{layer(in[0])}; }, {w});
      const Tensor gradient = y.pullback({ones_like(y.outputs[0])})[0];
      return Tensors{y.outputs[0], gradient, w - 0.5 * gradient};
    };
    auto fast = compile(step, kChecked);
    const Tensors got = fast(w);
    expect_same_bits(got, step(w));
    EXPECT_TRUE(got[1].is_contiguous());
    for (const auto& program : fast.explain().programs) {
      for (const std::string& text : program.loop_ir)
        EXPECT_THAT(text, testing::Not(testing::ContainsRegex("[0-9]\\*i1[],]"))) << name(dtype);
    }
  }
  // What somebody wants who is no product is row-major, as in an eager run.
  auto turned = compile([](const Tensor& w) { return cast(permute(w, {1, 0}), bf16); });
  EXPECT_TRUE(turned(w).is_contiguous());
}

TEST(Compile, FastRoundsLessAndContracts) {
  manual_seed(17);
  const Tensor x = normal({40, 70}), a = normal({70}), b = normal({70});
  // f32: a product and the addition that reads it.
  const auto line = [](const Tensor& x, const Tensor& a, const Tensor& b) { return x * a + b; };
  auto strict = compile(line, kChecked),
       fast = compile(line, {.verify = true, .keep_text = true, .precision = Precision::Fast});
  expect_same_bits({strict(x, a, b)}, {line(x, a, b)});
  const Tensor exact = line(cast(x, f64), cast(a, f64), cast(b, f64)), got = fast(x, a, b);
  const auto error = [](const Tensor& y, const Tensor& want) {
    return sum(square(cast(y, f64) - want)).item<double>();
  };
  if (fast.explain().programs[0].loop_ir[0].find(" fma ") != std::string::npos) {  // not below x86-64-v3
    EXPECT_LT(error(got, exact), error(line(x, a, b), exact)) << "one rounding of two";
  }
  EXPECT_THAT(strict.explain().programs[0].loop_ir[0], testing::Not(HasSubstr(" fma ")));
  // Halves: f32 between the first read and the last write.
  const auto chain = [](const Tensor& x, const Tensor& a, const Tensor& b) {
    return (x * a + b) * a + square(x * 1.5);
  };
  for (const DType half : {bf16, f16}) {
    const Tensor s = cast(x, half), t = cast(a, half), u = cast(b, half);
    auto shorter = compile(chain, {.verify = true, .keep_text = true, .precision = Precision::Fast});
    const Tensor want = chain(cast(s, f64), cast(t, f64), cast(u, f64)), y = shorter(s, t, u);
    EXPECT_EQ(y.dtype(), half);
    EXPECT_LT(error(y, want), 0.5 * error(chain(s, t, u), want)) << name(half);
    const std::string text = shorter.explain().programs[0].loop_ir[0];
    size_t casts = 0;
    for (size_t at = text.find(std::string(name(half)) + " = cast"); at != std::string::npos;
         at = text.find(std::string(name(half)) + " = cast", at + 1))
      ++casts;
    EXPECT_EQ(casts, 1U) << text;
    // The interpreter and LLVM agree, and so do one thread and three.
    auto interpreted = compile(chain, {.interpret = true, .precision = Precision::Fast});
    expect_same_bits({interpreted(s, t, u)}, {y});
    exec::Session session(exec::SessionOptions{.threads = 3});
    const exec::SessionScope scope(session);
    auto threaded = compile(chain, {.precision = Precision::Fast});
    expect_same_bits({threaded(s, t, u)}, {y});
  }
}

TEST(Compile, LeNetTrainStep) {
  const Tensor x = uniform({4, 1, 28, 28}, 0, 1), target = remainder(arange(4), 10);
  expect_same_training([] { return models::LeNet(); }, [&](auto& m, int) { return cross_entropy(m(x), target); });
}

TEST(Compile, GptTrainStep) {
  const Tensor tokens = remainder(reshape(arange(2 * 12) * 7, {2, 12}), 50);
  const Tensor target = remainder(arange(24) * 5, 50);
  const auto make = [] { return models::GPT({.vocabulary = 50, .context = 16, .layers = 2, .heads = 2, .width = 32}); };
  const Explanation e =
      expect_same_training(make, [&](auto& m, int) { return cross_entropy(reshape(m(tokens), {24, 50}), target); });
  EXPECT_LT(e.programs.back().distinct_kernels, e.programs.back().kernels) << "equal blocks share kernels";
  EXPECT_LT(e.programs.back().launches * 3, e.programs.back().kernels * 2) << "updates run together";
}

TEST(Compile, SoftmaxAndNormsOfManySizes) {
  for (int64_t n : {2, 10, 33, 64, 100, 1000, 5000}) {
    for (DType t : {DType::F32, DType::F64}) {
      const Tensor x = cast(uniform({3, n}, -4, 4), t), w = cast(uniform({n}), t), b = cast(uniform({n}), t);
      const auto f = [&] {
        const Tensor h = softmax(x * 2.0 + b) * w;
        const Tensor m = mean(x, {1}, true);
        const Tensor v = mean(square(x - m), {1}, true);
        return Tensors{h,
                       relu(layer_norm(x * b, w, b)),
                       rms_norm(gelu(x), w) + x,
                       log_softmax(x - b),
                       (x - m) * rsqrt(v + 1e-5) * w,
                       sum(exp(x), {0}),
                       max(x * w, {0, 1}),
                       sum(x)};
      };
      const Tensors want = f();
      auto fast = compile(f, kChecked);
      expect_same_bits(fast(), want);
      const Explanation e = fast.explain();
      EXPECT_LE(e.programs[0].kernels, 14) << to_string(e);
    }
  }
}

// Small ones are made on the way down the columns; large ones row by row, together with what else reads them so.
TEST(Compile, ColumnSumsReadLargeResultsThatAreWantedAgain) {
  for (const int64_t size : {64, 512}) {
    const bool large = size == 512;
    const Tensor x = uniform({size, size}, -1, 1), w = uniform({size}, -1, 1);
    const auto kernels = [&](const std::function<Tensors()>& f) {
      const Tensors want = f();
      auto fast = compile(f, kChecked);
      expect_same_bits(fast(), want);
      return fast.explain().programs[0].kernels;
    };
    const auto y = [&] { return tanh(x) * w; };
    EXPECT_EQ(kernels([&] { return Tensors{sum(y(), {0})}; }), 1) << size;
    EXPECT_EQ(kernels([&] {
                const Tensor t = y();
                return Tensors{t, sum(t, {0})};
              }),
              large ? 2 : 1)
        << size;
    EXPECT_EQ(kernels([&] {
                const Tensor t = y();
                return Tensors{t, sum(t, {0}), sum(t * x, {0}), relu(t) + 1.0};
              }),
              large ? 2 : 1)
        << size;
  }
}

TEST(Compile, MovementCostsNothing) {
  const Tensor x = uniform({4, 6, 5}, -1, 1), row = uniform({5}, -1, 1);
  const auto f = [&] {
    const Tensor y = transpose(exp(x), 1, 2) * 2.0;  // [4, 5, 6]
    const Tensor z = reshape(y, {20, 6}) + reshape(narrow(x, 1, 1, 1), {20, 1});
    return Tensors{z, flip(z, {0}) * 3.0, expand(row, {3, 5}) - 1.0, sum(transpose(x, 0, 2), {1})};
  };
  const Tensors want = f();
  auto fast = compile(f, kChecked);
  expect_same_bits(fast(), want);
}

TEST(Compile, ConditionsAndLooksKeepTheirMeaning) {
  std::vector<double> seen;
  auto f = compile([&](const Tensor& x) {
    const Tensor s = sum(x * x);
    seen.push_back(s.item());
    return s.item() > 10 ? x * 2.0 : x + 1.0;
  });
  EXPECT_EQ(f(tensor({1.0, 2.0})).to_vector<float>(), (std::vector<float>{2, 3}));
  EXPECT_EQ(f(tensor({3.0, 4.0})).to_vector<float>(), (std::vector<float>{6, 8}));
  EXPECT_EQ(f(tensor({1.0, 1.0})).to_vector<float>(), (std::vector<float>{2, 2}));
  EXPECT_EQ(seen, (std::vector<double>{5, 25, 2}));
  const Explanation e = f.explain();
  EXPECT_EQ(e.calls, 3);
  EXPECT_EQ(e.segments, 6);
  EXPECT_EQ(e.programs.size(), 3U) << "the sum, and each branch";
  EXPECT_THAT(e.programs[0].ended, testing::StartsWith("a value was looked at"));
  EXPECT_THAT(to_string(e), HasSubstr("3 calls, 6 segments run, 3 of them known"));
}

TEST(Compile, NumbersAreInputsAndShapesAreNot) {
  double factor = 0;
  auto f = compile([&](const Tensor& x) { return x * factor + 1.0; });
  for (int i = 0; i < 5; ++i) {
    factor = i;
    EXPECT_EQ(f(tensor({2.0, 3.0})).to_vector<float>(), (std::vector<float>{2.F * i + 1, 3.F * i + 1}));
  }
  EXPECT_EQ(f.explain().programs.size(), 1U);
  EXPECT_EQ(f(tensor({1.0, 1.0, 1.0})).to_vector<float>(), (std::vector<float>{5, 5, 5}));
  EXPECT_EQ(f.explain().programs.size(), 2U);
}

TEST(Compile, OfTooManyProgramsTheLeastRecentlyUsedGoes) {
  CompileOptions options;
  options.most_programs = 2;
  auto f = compile([](const Tensor& x) { return exp(x) + x; }, options);
  const auto expect_same = [&](int64_t n) {
    const Tensor x = uniform({n}, -1, 1);
    expect_same_bits({f(x)}, {exp(x) + x});
  };
  for (int64_t n = 1; n < 6; ++n) expect_same(n);
  EXPECT_EQ(f.explain().programs.size(), 2U);
  EXPECT_EQ(f.explain().dropped, 3);
  for (int time = 0; time < 3; ++time) expect_same(4);  // kept, and now the one that was used last
  expect_same(6);
  expect_same(4);
  EXPECT_EQ(f.explain().dropped, 4) << "5 went, not 4";
  EXPECT_EQ(f.explain().programs.size(), 2U);
  // A step is 1 … 6 and 4; all is compiled as often as it was not there, and nothing runs op by op.
  EXPECT_EQ(f.explain().segments, 10);
  EXPECT_EQ(f.explain().found, 4);
}

TEST(Compile, MovedFunctionsKeepTheirPrograms) {
  auto first = compile([](const Tensor& x) { return relu(x) * 2.0; });
  const Tensor x = tensor({-1.0, 3.0});
  const std::vector<float> want{0, 6};
  EXPECT_EQ(first(x).to_vector<float>(), want);
  auto second = std::move(first);
  EXPECT_EQ(second(x).to_vector<float>(), want);
  EXPECT_EQ(second.explain().programs.size(), 1U);
  EXPECT_EQ(first(x).to_vector<float>(), want);  // NOLINT(bugprone-use-after-move): a lambda without state
  EXPECT_EQ(first.explain().programs.size(), 1U);
}

TEST(Compile, ThreadsMayMakeAndDropProgramsAtTheSameTime) {
  CompileOptions options;
  options.most_programs = 2;
  auto f = compile([](const Tensor& x) { return tanh(x) * 2.0 + x; }, options);
  std::vector<std::thread> threads;
  std::atomic<int> wrong = 0;
  for (int t = 0; t < 3; ++t) {
    threads.emplace_back([&, t] {
      for (int i = 0; i < 30; ++i) {
        const Tensor x = reshape(arange(6 + 6 * ((i + t) % 4)), {6, -1}) * 0.01;
        const Tensor want = tanh(x) * 2.0 + x;
        if (f(x).to_vector<float>() != want.to_vector<float>()) ++wrong;
      }
    });
  }
  for (auto& thread : threads) thread.join();
  EXPECT_EQ(wrong, 0);
  const Explanation e = f.explain();
  EXPECT_EQ(e.segments, 90);
  EXPECT_LE(e.programs.size(), 2U);
}

// Composites without a kernel of their own are recorded as their bodies, also where no gradient is wanted.
TEST(Compile, LossesAndStatisticsDoNotSplit) {
  const Tensor x = uniform({6, 8}, -1, 1), y = uniform({6, 8}, 0.1, 1);
  const Tensor key = random_key(5);
  const auto f = [&] {
    const Tensor h = x * 2.0;
    return Tensors{mse_loss(h, y),    huber_loss(h, y),     kl_div(h, y),
                   mean(h, {1}),      var(h, {1}),          norm(h),
                   logsumexp(h, {1}), dropout(h, 0.5, key), einsum("ij,kj->ik", {h, y})};
  };
  const Tensors want = f();
  auto fast = compile(f, kChecked);
  expect_same_bits(fast(), want);
  EXPECT_EQ(fast.explain().segments, 1) << to_string(fast.explain());
}

TEST(Compile, GptStepWithDropoutClippingAndAutocastIsOneGraph) {
  const Tensor tokens = remainder(reshape(arange(2 * 12) * 7, {2, 12}), 50);
  const Tensor target = remainder(arange(24) * 5, 50);
  const auto run = [&](bool compiled, Explanation* explanation) {
    manual_seed(7);
    models::GPT model({.vocabulary = 50, .context = 16, .layers = 2, .heads = 2, .width = 32, .dropout = 0.1});
    auto optimizer = optim::AdamW(parameters(model), {.lr = 1e-2});
    const auto step = [&] {
      optimizer.zero_grad();
      Tensor loss;
      {
        const Autocast scope(bf16);
        loss = cross_entropy(reshape(model(tokens), {24, 50}), target);
      }
      loss.backward();
      optim::clip_grad_norm_(parameters(model), 1.0);
      optimizer.step();
      return loss;
    };
    auto fast = compile(step, kChecked);
    Tensors results;
    for (int i = 0; i < 3; ++i) results.push_back(compiled ? fast() : step());
    for (const auto& p : parameters(model)) results.push_back(p.value());
    if (explanation != nullptr) *explanation = fast.explain();
    return results;
  };
  Explanation e;
  const Tensors got = run(true, &e);
  expect_same_bits(got, run(false, nullptr));
  EXPECT_EQ(e.segments, 3) << "a step is one graph\n" << to_string(e);
  EXPECT_LE(e.programs.size(), 2U);
}

// Attention in an Autocast scope, where the inputs are f32: one kernel forward and one back, and the bits of eager
// runs.
TEST(Compile, AttentionInAnAutocastScopeIsOneKernelEachWay) {
  for (const DType dtype : {bf16, f16}) {
    const Variable q(normal({1, 2, 70, 32})), k(normal({1, 2, 90, 32})), v(normal({1, 2, 90, 32}));
    const auto step = [&] {
      for (const Variable& x : {q, k, v}) Variable(x).zero_grad();
      Tensor y;
      {
        const Autocast scope(dtype);
        y = scaled_dot_product_attention(q, k, v, {}, {.causal = true});
      }
      sum(y * 0.5).backward();
      return y;
    };
    const Tensor y = step();
    EXPECT_EQ(y.dtype(), dtype);
    const Tensors want{y, q.grad(), k.grad(), v.grad()};
    for (const int threads : {1, 2}) {
      exec::Session session(exec::SessionOptions{.threads = threads});
      const exec::SessionScope scope(session);
      auto fast = compile(step, kChecked);
      (void)fast();
      Profiler profiler;
      const Tensor again = fast();
      const Profile profile = profiler.stop();
      expect_same_bits({again, q.grad(), k.grad(), v.grad()}, want);
      int forward = 0, backward = 0;
      for (const auto& e : profile.events) {
        if (e.kind != "kernel") continue;
        forward += static_cast<int>(e.name == "attention");
        backward += static_cast<int>(e.name == "attention_grad");
        EXPECT_EQ(e.name.find("exp"), std::string::npos) << e.name;
      }
      EXPECT_EQ(forward, 1);
      EXPECT_EQ(backward, 1);
    }
  }
}

TEST(Compile, LossScalingMakesNoProgramForEachStep) {
  manual_seed(1);
  models::MLP model({8, 16, 2});
  auto optimizer = optim::Adam(parameters(model), {.lr = 1e-2});
  optim::GradScaler scaler({.growth_interval = 40});
  Tensor x = normal({16, 8});
  const Tensor label = cast(greater(sum(x, {1}), 0), i64);
  auto step = compile([&] {
    optimizer.zero_grad();
    Tensor loss;
    {
      const Autocast scope(f16);
      loss = cross_entropy(model(x), label);
    }
    scaler.scale(loss).backward();
    scaler.step(optimizer);
    scaler.update();
    return loss;
  });
  for (int i = 0; i < 300; ++i) static_cast<void>(step());
  const Explanation e = step.explain();
  EXPECT_NE(scaler.scale_now(), 65536) << "the scale has changed on the way";
  EXPECT_LE(e.programs.size(), 3U) << to_string(e);
  EXPECT_EQ(e.dropped, 0);
}

TEST(Compile, ErrorsOfValuesComeFromTheRun) {
  auto f = compile([](const Tensor& x, const Tensor& i) { return take(x * 2.0, i, 0); });
  EXPECT_THROW(f(tensor({1.0, 2.0}), tensor({5})), IndexError);
  EXPECT_EQ(f(tensor({1.0, 2.0}), tensor({1})).to_vector<float>(), (std::vector<float>{4}));
}

TEST(Compile, ErrorsOfShapesComeFromTheCall) {
  auto f = compile([](const Tensor& x) {
    try {
      return x + tensor({1.0, 2.0, 3.0});
    } catch (const ShapeError&) {
      return x;
    }
  });
  EXPECT_EQ(f(tensor({1.0, 2.0})).to_vector<float>(), (std::vector<float>{1, 2}));
}

TEST(Compile, ThreadsAndLevelsDoNotChangeBits) {
  const Tensor x = uniform({300, 700}, -2, 2), b = uniform({700}, -1, 1);
  const auto f = [&] {
    const Tensor y = gelu(x + b);
    return Tensors{y, sum(y, {0}), sum(y, {1}), softmax(y), mean(y)};
  };
  const Tensors want = f();
  for (int threads : {1, 2, 5}) {
    for (int level : {2, 3, 4}) {
      exec::Session session({.threads = threads, .cpu_level = level});
      const exec::SessionScope scope(session);
      auto fast = compile(f, kChecked);
      expect_same_bits(fast(), want);
    }
  }
}

// A graph (what a package holds) run inside: its inputs and what its composites' bodies give are lazy there.
TEST(Compile, GraphsCanBeRunInside) {
  const Tensor x = uniform({5, 3}, -1, 1);
  const ir::Graph graph = capture([](const Tensors& in) { return Tensors{transpose(softmax(in[0] * 2), 0, 1), in[0]}; },
                                  {{"x", f32, {5, 3}}});
  const auto f = [&] {
    Tensors out = exec::run(graph, {exp(x)});
    return Tensors{out[0] + 1, out[1]};
  };
  const Tensors want = f();
  auto fast = compile(f, kChecked);
  expect_same_bits(fast(), want);
  EXPECT_THROW((void)capture([&](const Tensors& in) { return exec::run(graph, in); }, {{"x", f32, {5, 3}}}), Error);
}

TEST(Compile, GradAndVmapInside) {
  const Tensor x = uniform({5, 3}, -1, 1), w = uniform({3}, -1, 1);
  const auto f = [&] {
    const auto loss = [&](const Tensors& in) { return sum(tanh(in[0] * w)); };
    return Tensors{grad(loss)({x})[0], vmap([&](const Tensors& in) { return Tensors{softmax(in[0] * w)}; })({x})[0]};
  };
  const Tensors want = f();
  auto fast = compile(f, kChecked);
  expect_same_bits(fast(), want);
}

TEST(Compile, TheCheckOfAPlanFindsWhatIsWrong) {
  const std::vector<exec::Lifetime> values{{100, 0, 2}, {60, 2, 3}, {100, 3, 4}};
  const exec::MemoryPlan good = exec::plan_memory(values);
  EXPECT_EQ(exec::problem_of(values, good), "");
  EXPECT_EQ(exec::problem_of(values, {{0, 64, 128}, 256, 0}), "values 0 and 1 live at the same time in the same place");
  EXPECT_EQ(exec::problem_of(values, {{0, 128, 0}, 256, 0}), "");
  EXPECT_EQ(exec::problem_of(values, {{0, 128, 200}, 256, 0}), "value 2 lies outside of the arena");
  EXPECT_EQ(exec::problem_of(values, {{0, 128}, 256, 0}), "not every value has a place");
  // The second value is written over the first, the third over the second.
  const std::vector<exec::Lifetime> chain{{100, 0, 2}, {100, 2, 3, 0}, {100, 3, 4, 1}};
  EXPECT_EQ(exec::plan_memory(chain).size, 128);
  EXPECT_EQ(exec::problem_of(chain, exec::plan_memory(chain)), "");
  EXPECT_EQ(exec::problem_of(chain, {{0, 64, 128}, 256, 0}), "values 0 and 1 live at the same time in the same place");
  EXPECT_EQ(exec::problem_of({{100, 0, 3}, {100, 2, 3, 0}}, {{0, 0}, 128, 0}),
            "values 0 and 1 live at the same time in the same place")
      << "it is read once more";
  EXPECT_EQ(exec::problem_of({{100, 0, 2}, {60, 2, 3, 0}}, {{0, 0}, 128, 0}),
            "values 0 and 1 live at the same time in the same place")
      << "of another size";
  EXPECT_EQ(exec::problem_of({{100, 0, 2}, {100, 2, 3, 0}, {100, 2, 3, 0}}, {{0, 0, 0}, 128, 0}),
            "values 1 and 2 live at the same time in the same place")
      << "taken twice";
}

TEST(Compile, ExplainTellsThePeakOfMemory) {
  const Tensor x = uniform({256, 256}), w = uniform({256, 256});
  auto f = compile([&] { return matmul(matmul(x, w), w) * 2.0; }, kChecked);
  static_cast<void>(f());
  const Explanation e = f.explain();
  constexpr int64_t kMatrix = 256 * 256 * 4;
  // Two matrices come in, one goes out, one product lies between: the second one is doubled where it is made.
  EXPECT_GE(e.programs[0].peak_bytes, 4 * kMatrix) << to_string(e);
  EXPECT_LE(e.programs[0].peak_bytes, 4 * kMatrix + 4096) << to_string(e);
  EXPECT_THAT(to_string(e), HasSubstr("memory: peak 1048.6 kB: inputs "));
}

}  // namespace
}  // namespace tenon
