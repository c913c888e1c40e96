// The small pieces, by Google Benchmark: what one call costs, and one step of a tiny model. One thread.
//   small_bench [--benchmark_filter=eager_add_8] [--benchmark_repetitions=5]
// bench/run.py compares rows of the same names with peers.
#include <benchmark/benchmark.h>

#include "tenon/compile.h"
#include "tenon/tenon.h"
#include "tenon/trace/lazy.h"

namespace {

using namespace tenon;

void eager_add_8(benchmark::State& state) {
  const Tensor a = uniform({8}, 0, 1), b = uniform({8}, 0, 1);
  for (auto unused : state) benchmark::DoNotOptimize(a + b);
}

// Recording alone: nobody wants the results, so that nothing is compiled or run.
void record_op(benchmark::State& state) {
  constexpr int kOps = 1000;
  class Nothing final : public trace::LazyEngine {
    Tensors run(trace::Segment&) override { return {}; }
  };
  const Tensor x = uniform({8}, 0, 1);
  while (state.KeepRunningBatch(kOps)) {
    Nothing engine;
    trace::LazyRecorder recorder(engine);
    Tensor y = x;
    for (int i = 0; i < kOps; ++i) y = y + x;
  }
}

template <class Optimizer>
void mlp_step(benchmark::State& state, bool compiled) {
  models::MLP model({64, 64, 10});
  Optimizer optimizer(parameters(model), {.lr = 1e-3});
  const Tensor x = uniform({16, 64}, -1, 1), target = remainder(arange(16) * 7, 10);
  const auto step = [&] {
    optimizer.zero_grad();
    const Tensor loss = cross_entropy(model(x), target);
    loss.backward();
    optimizer.step();
    return loss;
  };
  auto fast = compile(step);
  for (int i = 0; i < 3; ++i) benchmark::DoNotOptimize(compiled ? fast() : step());
  for (auto unused : state) benchmark::DoNotOptimize(compiled ? fast() : step());
}

}  // namespace

int main(int argc, char** argv) {
  set_num_threads(1);
  benchmark::RegisterBenchmark("eager_add_8", eager_add_8);
  benchmark::RegisterBenchmark("record_op", record_op);
  benchmark::RegisterBenchmark("mlp_step_sgd", mlp_step<optim::SGD>, false);
  benchmark::RegisterBenchmark("mlp_step_adam", mlp_step<optim::Adam>, false);
  benchmark::RegisterBenchmark("mlp_step_sgd_compiled", mlp_step<optim::SGD>, true);
  benchmark::RegisterBenchmark("mlp_step_adam_compiled", mlp_step<optim::Adam>, true);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
