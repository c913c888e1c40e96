// The kernels that were made when Tenon was built, against the loops that run block by block: the same bits for every
// program, layout and CPU level.
#include "tenon/device/cpu/built.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <limits>

#include "tenon/device/cpu/level.h"
#include "tests/device/support.h"

namespace tenon::test {
namespace {

// Ordinary values, and now and then one that is not.
void fill(Array& a, uint64_t seed) {
  std::mt19937_64 generator(seed);
  std::uniform_real_distribution<double> uniform(-9, 9);
  const double far = std::numeric_limits<double>::infinity();
  const double odd[] = {0.0,  -0.0, far, -far, std::nan(""), 1e-40, -1e-44, 100,
                        -100, 3e38, 1,   -1,   0.5,          88.5,  -87.9,  65520};
  const DTypeKind kind = info(a.type.dtype).kind;
  a.fill([&](int64_t) -> double {
    if (kind == DTypeKind::Bool) return static_cast<double>(generator() % 2);
    if (kind != DTypeKind::Float) return static_cast<double>(static_cast<int64_t>(generator() % 41) - 20);
    return generator() % 5 == 0 ? odd[generator() % std::size(odd)] : uniform(generator);
  });
}

// Equal in bits; of a NaN only that it is one.
bool same(const Array& a, const Array& b) {
  const std::vector<double> x = a.reals(), y = b.reals();
  for (size_t i = 0; i < x.size(); ++i) {
    const bool both_nan = std::isnan(x[i]) && std::isnan(y[i]);
    if (!both_nan && std::bit_cast<int64_t>(x[i]) != std::bit_cast<int64_t>(y[i])) return false;
  }
  return true;
}

struct Devices {
  std::unique_ptr<Device> built, blocks;
};
Devices devices(int level) {
  return {make_cpu_device({.max_level = level}), make_cpu_device({.max_level = level, .built_kernels = false})};
}

// Rows of `n` elements: along a row an input lies densely or is one element.
std::vector<Array> operands(const ir::ScalarProgram& program, uint32_t layout, const Shape& shape, uint64_t seed) {
  const int64_t n = shape.back(), rows = numel(shape) / n, pitch = n + 3;
  std::vector<Array> arrays;
  for (int i = 0; i < program.inputs; ++i) {
    const bool along = ((layout >> i) & 1U) != 0;
    Shape strides;
    int64_t step = along ? pitch : 1;
    for (size_t d = shape.size() - 1; d-- > 0;) {
      strides.insert(strides.begin(), step);
      step *= shape[d];
    }
    strides.push_back(along ? 1 : 0);
    arrays.emplace_back(program.input(i), shape, strides, 2, 2 + rows * pitch);
    fill(arrays.back(), seed + static_cast<uint64_t>(i));
  }
  return arrays;
}

TEST(Built, EveryKernelGivesTheBitsOfTheBlocks) {
  if (cpu::built_kernels().empty()) GTEST_SKIP() << "this build has no kernels of its own (no LLVM, or a sanitizer)";
  const auto programs = cpu::common_programs();
  ThreadPool pool(2);
  size_t found = 0;
  for (const int level : {2, 3, 4}) {
    if (cpu::best_level(level) != level) continue;
    const Devices on = devices(level);
    for (const ir::ScalarProgram& program : programs) {
      const cpu::BuiltProgram built = cpu::find_built(program, level);
      const auto fast = on.built->prepare(program), slow = on.blocks->prepare(program);
      for (const uint32_t layout : cpu::built_layouts(program)) {
        if (built.by_layout[layout] == nullptr) continue;
        ++found;
        for (const Shape& shape : {Shape{1}, Shape{5}, Shape{201}, Shape{3, 37}, Shape{2, 3, 70}}) {
          const auto in = operands(program, layout, shape, found);
          std::vector<ConstView> views;
          for (const Array& a : in) views.push_back(a.in());
          Array got(program.result(), shape), want(program.result(), shape);
          fast->run(views, got.out(), pool);
          slow->run(views, want.out(), pool);
          ASSERT_TRUE(same(got, want)) << "v" << level << " layout " << layout << ' ' << to_string(shape) << '\n'
                                       << to_string(program);
        }
      }
    }
  }
  EXPECT_GT(found, 500U);
}

// A call in one piece, as most eager ones are, and one that is cut for threads.
TEST(Built, FlatAndLongCallsGiveTheSameBits) {
  if (cpu::built_kernels().empty()) GTEST_SKIP() << "this build has no kernels of its own (no LLVM, or a sanitizer)";
  const auto program = program_of({DType::F32, DType::F32}, [](std::span<const ir::Scalar> x) { return x[0] * x[1]; });
  const Devices on = devices(4);
  const auto fast = on.built->prepare(program), slow = on.blocks->prepare(program);
  ThreadPool pool(2);
  for (const int64_t n : {1, 8, 4099, 200003}) {
    Array a(DType::F32, {n}), b(DType::F32, {n}), got(DType::F32, {n}), want(DType::F32, {n});
    fill(a, 1);
    fill(b, 2);
    const std::array views{a.in(), b.in()};
    slow->run(views, want.out(), pool);
    fast->run(views, got.out(), pool);
    EXPECT_TRUE(same(got, want)) << n;
    Array flat(DType::F32, {n});
    const bool done =
        fast->run_flat(std::array<const std::byte*, 2>{a.memory.data(), b.memory.data()}, 3, flat.memory.data(), n);
    EXPECT_EQ(done, n < 100000);
    if (done) {
      EXPECT_TRUE(same(flat, want)) << n;
    }
  }
}

// The value of a constant is an argument: a program that the build has never seen with this number has a kernel too.
TEST(Built, ConstantsAreArguments) {
  if (cpu::built_kernels().empty()) GTEST_SKIP() << "this build has no kernels of its own (no LLVM, or a sanitizer)";
  const auto leaky = [](double slope) {
    return program_of({DType::F32},
                      [slope](std::span<const ir::Scalar> x) { return ir::select(x[0] < 0.0, x[0] * slope, x[0]); });
  };
  EXPECT_EQ(cpu::structure_of(leaky(0.1)), cpu::structure_of(leaky(0.7)));
  EXPECT_NE(cpu::find_built(leaky(0.1), 2).constants, cpu::find_built(leaky(0.7), 2).constants);
}

}  // namespace
}  // namespace tenon::test
