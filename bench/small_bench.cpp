// The small pieces, by Google Benchmark: what one call costs, one step of a tiny model, transposes, and blocks of bf16
// products with what follows them. One thread.
//   small_bench [--benchmark_filter=eager_add_8] [--benchmark_repetitions=5]
// bench/run.py compares rows of the same names with peers.
#include <benchmark/benchmark.h>

#include <array>
#include <string>
#include <vector>

#include "tenon/compile.h"
#include "tenon/device/cpu/bf16_blocks.h"
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

// A matrix of this many rows and columns, made row-major from its transpose.
void transposed(benchmark::State& state, DType dtype) {
  const Tensor x = transpose(cast(uniform({state.range(1), state.range(0)}, 0, 1), dtype));
  for (auto unused : state) benchmark::DoNotOptimize(contiguous(x));
  state.SetItemsProcessed(state.iterations() * x.size());
}

// 32 x 32 sums of bf16 products, then nothing but rounding, or a convolution's scale, shift and relu, or these with a
// residual between; all in the first cache.
enum class After { Nothing, Scaled, Added };
void bf16_block(benchmark::State& state, After after) {
  using namespace cpu::bf16_blocks;
  using enum cpu::TileOp;
  if (!available()) return state.SkipWithError("this CPU multiplies no bf16, or TENON_CPU_LEVEL names a level");
  constexpr int64_t kRow = 256;
  const int64_t k = state.range(0);
  const auto numbers = [](int64_t n) {
    return std::vector<uint16_t>(static_cast<size_t>(n), uint16_t{0x3f81});  // a little more than 1
  };
  const auto a = numbers(kSide * k), b = numbers(kSide * k), residual = numbers(kSide * kRow);
  auto y = numbers(kSide * kRow);
  const Ref<Buffer> packed = Buffer::allocate(static_cast<size_t>(2 * packed_size(k)) * sizeof(uint16_t));
  auto *left = reinterpret_cast<uint16_t*>(packed->data()), *right = left + packed_size(k);
  pack_left(a.data(), k, 1, kSide, k, left);
  pack_right(b.data(), kSide, 1, k, kSide, right);
  const std::vector<float> columns(kSide, 1.5F);
  const Step scale{Multiply, false, false, columns.data(), 0}, shift{Add, false, false, columns.data(), 0},
      rounds{Short, true, false, nullptr, 0}, add{Add, false, true, residual.data(), kRow},
      relu{AboveZero, true, false, nullptr, 0};
  const std::array scaled{scale, shift, rounds, relu};
  const std::array added{scale, shift, rounds, add, rounds, relu};
  Finish finish;
  if (after == After::Scaled) finish.steps = scaled.data(), finish.step_count = scaled.size();
  if (after == After::Added) finish.steps = added.data(), finish.step_count = added.size();
  const Tiles tiles;
  Left rows;
  rows.at = left;
  const Right panel{right, steps(k)};
  for (auto unused : state) {
    finished_block(rows, panel, finish, kSide, y.data(), kRow);
    benchmark::ClobberMemory();
  }
  state.counters["operations"] =
      benchmark::Counter(static_cast<double>(2 * kSide * kSide * k), benchmark::Counter::kIsIterationInvariantRate);
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
  for (const DType dtype : {DType::F32, DType::BF16})
    benchmark::RegisterBenchmark(("transpose_" + std::string(name(dtype))).c_str(), transposed, dtype)
        ->Args({2048, 49})
        ->Args({1024, 1024})
        ->Args({1000, 1000})
        ->Args({50176, 3});
  for (const auto& [what, after] :
       {std::pair{"", After::Nothing}, {"_scaled", After::Scaled}, {"_added", After::Added}})
    benchmark::RegisterBenchmark((std::string("bf16_block") + what).c_str(), bf16_block, after)->Arg(64)->Arg(224);
  benchmark::Initialize(&argc, argv);
  if (benchmark::ReportUnrecognizedArguments(argc, argv)) return 2;
  benchmark::RunSpecifiedBenchmarks();
  benchmark::Shutdown();
  return 0;
}
