#include "tenon/device/cpu/tile_program.h"

#include <gtest/gtest.h>

#include <array>
#include <bit>
#include <cmath>
#include <optional>

#include "tenon/device/cpu/elementwise.h"
#include "tenon/device/cpu/widen.h"
#include "tenon/ir/compose.h"
#include "tenon/tensor/low_precision.h"
#include "tests/device/tile_support.h"

namespace tenon::test {
namespace {

// (x + bias) times its sigmoid.
ir::ScalarProgram swish() {
  const DType f = DType::F32;
  return program_of({f, f}, [](auto x) {
    const ir::Scalar y = x[0] + x[1];
    return y * (1.0 / (1.0 + ir::apply_op(ir::ScalarOp::Exp, std::array{-y})));
  });
}

TEST(TileProgram, KnowsChains) {
  const DType f = DType::F32;
  EXPECT_FALSE(cpu::chain_of(what_follows()));
  const auto steps = cpu::chain_of(what_follows_in_steps());
  ASSERT_TRUE(steps);
  ASSERT_EQ(steps->size(), 3U);
  EXPECT_EQ((*steps)[0].input, 1);
  EXPECT_EQ((*steps)[1].input, 2);
  EXPECT_EQ((*steps)[2].op, cpu::TileOp::Larger);
  const auto number = cpu::chain_of(program_of({f}, [](auto x) { return x[0] * 2.5; }));
  ASSERT_TRUE(number);
  EXPECT_EQ((*number)[0].input, 0);
  EXPECT_EQ((*number)[0].number, 2.5F);
  using enum cpu::TileOp;
  const auto ops = [](const ir::ScalarProgram& program) {
    std::vector<cpu::TileOp> list;
    const auto chain = cpu::chain_of(program);
    for (const cpu::ChainStep& step : chain.value_or(std::vector<cpu::ChainStep>{})) list.push_back(step.op);
    return list;
  };
  using Ops = std::vector<cpu::TileOp>;
  EXPECT_EQ(ops(program_of({f, f}, [](auto x) { return x[1] - x[0]; })), Ops{SubtractFrom});
  EXPECT_EQ(ops(program_of({f}, [](auto x) { return x[0] / 3.0; })), Ops{Divide});
  // One value that is used later is kept; a second one, once the first is done with.
  EXPECT_EQ(ops(program_of({f}, [](auto x) { return x[0] * x[0]; })), (Ops{Keep, Multiply}));
  EXPECT_EQ(ops(swish()), (Ops{Add, Keep, Negate, Exp, Add, DivideInto, Multiply}));
  EXPECT_EQ(ops(program_of({f},
                           [](auto x) {
                             const ir::Scalar a = x[0] * -x[0], b = a + 1.0;
                             return b / (b + 2.0);
                           })),
            (Ops{Keep, Negate, Multiply, Add, Keep, Add, DivideInto}));
  EXPECT_FALSE(cpu::chain_of(program_of({f}, [](auto x) {
    const ir::Scalar a = x[0] + 1.0, b = a * 2.0;
    return (b + 1.0) * x[0] - a;
  })));
  EXPECT_FALSE(cpu::chain_of(program_of({f, f}, [](auto x) { return (x[0] + x[1]) * (x[0] - x[1]); })));
  // Of 0 and -0 the larger is the second.
  const auto larger = [](int a, int b) {
    return program_of({DType::F32, DType::F32},
                      [=](auto x) { return ir::apply_op(ir::ScalarOp::Max, std::array{x[a], x[b]}); });
  };
  EXPECT_EQ(ops(larger(0, 1)), Ops{Larger});
  EXPECT_FALSE(cpu::chain_of(larger(1, 0)));
}

TEST(TileProgram, RoundingToAHalfAndBackIsAStep) {
  const auto rounding = [](DType to) {
    ir::ScalarBuilder builder;
    const ir::Scalar sum = builder.input(DType::F32), bias = builder.input(DType::F32);
    return builder.finish(apply_op(ir::ScalarOp::Max, std::array{builder.cast(sum + bias, to), ir::Scalar(0.0)}),
                          DType::F32);
  };
  for (const DType half : {DType::F16, DType::BF16}) {
    const auto steps = cpu::chain_of(rounding(half));
    ASSERT_TRUE(steps);
    ASSERT_EQ(steps->size(), 3U);
    EXPECT_EQ((*steps)[0].op, cpu::TileOp::Add);
    EXPECT_EQ((*steps)[1].op, half == DType::F16 ? cpu::TileOp::Half : cpu::TileOp::Short);
    EXPECT_EQ((*steps)[2].op, cpu::TileOp::Larger);
  }
}

// Programs over halves as programs over f32 that hold the same numbers.
TEST(TileProgram, WidenedProgramsRoundWhereTheResultsOfOpsDo) {
  const DType h = DType::F16;
  const auto relu =
      program_of({h}, [](auto x) { return apply_op(ir::ScalarOp::Max, std::array{x[0], ir::Scalar(0.0)}); }, h);
  EXPECT_EQ(ir::to_string(cpu::widened_program(relu, Precision::Strict)),
            "%0: f32 = input 0\n%1: f16 = cast %0\n%2: f32 = cast %1\n%3: f32 = const 0\n%4: f32 = max %2, %3\n");
  // Scaled, then the residual: two roundings, that of the result is the writer's.
  const auto scaled = program_of({h, h}, [](auto x) { return x[0] * x[1]; }, h);
  const auto sum = program_of({h, h}, [](auto x) { return x[0] + x[1]; }, h);
  const auto both = cpu::widened_program(ir::compose(scaled, sum, std::array{0}), Precision::Strict);
  const auto steps = cpu::chain_of(both);
  ASSERT_TRUE(steps);
  ASSERT_EQ(steps->size(), 4U);
  EXPECT_EQ((*steps)[0].op, cpu::TileOp::Half);
  EXPECT_EQ((*steps)[1].op, cpu::TileOp::Multiply);
  EXPECT_EQ((*steps)[2].op, cpu::TileOp::Half);
  EXPECT_EQ((*steps)[3].op, cpu::TileOp::Add);
  // The program as it was, element by element on the device, gives the bits.
  std::vector<uint16_t> a(4000), b(a.size()), c(a.size()), want(a.size());
  std::vector<float> wide[3];
  for (size_t i = 0; i < a.size(); ++i) {
    const auto n = static_cast<float>(i);
    a[i] = f32_to_f16(std::sin(n) * 40), b[i] = f32_to_f16(std::cos(n * 1.7F)), c[i] = f32_to_f16(std::sin(n * 0.3F));
    want[i] = f32_to_f16(f16_to_f32(f32_to_f16(f16_to_f32(a[i]) * f16_to_f32(b[i]))) + f16_to_f32(c[i]));
    wide[0].push_back(f16_to_f32(a[i])), wide[1].push_back(f16_to_f32(b[i])), wide[2].push_back(f16_to_f32(c[i]));
  }
  for (int level : {2, 3, 4}) {
    if (cpu::best_level() < level) continue;
    const cpu::LevelTable& table = cpu::level_table(level);
    std::vector<cpu::TileStep> list;
    for (const auto& s : *steps) list.push_back({s.op, false, s.input == 0 ? nullptr : wide[s.input].data(), 0});
    std::vector<float> got(a.size());
    table.tiles.finish({wide[0].data(), 0, 1, 4000, list.data(), 4, got.data(), 0});
    for (size_t i = 0; i < a.size(); ++i) ASSERT_EQ(f32_to_f16(got[i]), want[i]) << i;
  }
}

// Each step gives the bits of the device's own loop, whatever the numbers and the level are.
TEST(TileProgram, StepsAreTheLoopsOfTheirOps) {
  constexpr int64_t kPlaces = 11, kColumns = 37;
  const float nan = std::nanf("");
  const float special[] = {0.0F, -0.0F, nan, INFINITY, -INFINITY, 1e-45F, 3e38F, 6.0F};
  std::vector<float> a(kPlaces * kColumns), b(a.size());
  for (size_t i = 0; i < a.size(); ++i) {
    a[i] = i % 3 == 0 ? special[i / 3 % 8] : static_cast<float>(i) * 0.37F - 50;
    b[i] = i % 4 == 0 ? special[i / 24 % 8] : 20 - static_cast<float>(i) * 0.11F;
  }
  for (int level : {2, 3, 4}) {
    if (cpu::best_level() < level) continue;
    const cpu::LevelTable& table = cpu::level_table(level);
    for (const auto& [step_op, op] :
         {std::pair{cpu::TileOp::Add, ir::ScalarOp::Add}, std::pair{cpu::TileOp::Subtract, ir::ScalarOp::Sub},
          std::pair{cpu::TileOp::SubtractFrom, ir::ScalarOp::Sub}, std::pair{cpu::TileOp::Multiply, ir::ScalarOp::Mul},
          std::pair{cpu::TileOp::Divide, ir::ScalarOp::Div}, std::pair{cpu::TileOp::DivideInto, ir::ScalarOp::Div},
          std::pair{cpu::TileOp::Larger, ir::ScalarOp::Max}, std::pair{cpu::TileOp::Smaller, ir::ScalarOp::Min}}) {
      const bool turned = step_op == cpu::TileOp::SubtractFrom || step_op == cpu::TileOp::DivideInto;
      for (const int reach : {0, 1, 2}) {  // of b: every place, the same for all, one number
        std::vector<float> other = b, want(a.size()), got(a.size(), 99.0F);
        for (size_t i = 0; i < b.size(); ++i) {
          if (reach == 1) other[i] = b[i % kColumns];
          if (reach == 2) other[i] = b[24];
        }
        table.loop[static_cast<size_t>(op)][static_cast<size_t>(DType::F32)](
            want.data(), turned ? other.data() : a.data(), turned ? a.data() : other.data(), nullptr,
            kPlaces * kColumns);
        const cpu::TileStep step{step_op, reach == 2, reach == 2 ? &b[24] : b.data(), reach == 0 ? kColumns : 0};
        table.tiles.finish({a.data(), kColumns, kPlaces, kColumns, &step, 1, got.data(), kColumns});
        for (size_t i = 0; i < a.size(); ++i) {
          if (std::isnan(want[i])) {
            EXPECT_TRUE(std::isnan(got[i])) << i;
          } else {
            EXPECT_EQ(std::bit_cast<uint32_t>(got[i]), std::bit_cast<uint32_t>(want[i])) << a[i] << ' ' << other[i];
          }
        }
      }
    }
  }
}

// Negation, exponentials, roundings and what is kept, likewise.
TEST(TileProgram, StepsWithoutOperandsAreTheLoopsOfTheirOps) {
  std::vector<float> a{0.0F,     -0.0F,     std::nanf(""), std::bit_cast<float>(0x7fffffffU),
                       INFINITY, -INFINITY, 1e-45F,        3e-39F,
                       3.4e38F,  3e38F,     -104.5F,       -104.0F,
                       -103.9F,  -87.4F,    88.8F,         89.5F};
  for (int i = 0; i < 20000; ++i) a.push_back(static_cast<float>(i - 10000) * 0.0113F);
  const auto n = static_cast<int64_t>(a.size());
  constexpr auto kF32 = static_cast<size_t>(DType::F32);
  for (int level : {2, 3, 4}) {
    if (cpu::best_level() < level) continue;
    const cpu::LevelTable& table = cpu::level_table(level);
    const auto loop = [&](ir::ScalarOp op, const std::vector<float>& x, const std::vector<float>& y = {}) {
      std::vector<float> out(x.size());
      table.loop[static_cast<size_t>(op)][kF32](out.data(), x.data(), y.data(), nullptr, n);
      return out;
    };
    const auto steps = [&](const std::vector<cpu::TileStep>& list) {
      std::vector<float> out(a.size());
      // In rows of 37, so that there are parts of vectors, then what is left.
      const int64_t rows = n / 37;
      table.tiles.finish({a.data(), 37, rows, 37, list.data(), static_cast<int>(list.size()), out.data(), 37});
      table.tiles.finish({a.data() + rows * 37, 0, 1, n - rows * 37, list.data(), static_cast<int>(list.size()),
                          out.data() + rows * 37, 0});
      return out;
    };
    const auto alone = [](cpu::TileOp op) { return cpu::TileStep{op, false, nullptr, 0}; };
    EXPECT_TRUE(same_numbers(steps({alone(cpu::TileOp::Negate)}), loop(ir::ScalarOp::Neg, a))) << level;
    EXPECT_TRUE(same_numbers(steps({alone(cpu::TileOp::Exp)}), loop(ir::ScalarOp::Exp, a))) << level;
    for (const auto& [step, half] :
         {std::pair{cpu::TileOp::Half, DType::F16}, std::pair{cpu::TileOp::Short, DType::BF16}}) {
      std::vector<uint16_t> halves(a.size());
      std::vector<float> rounded(a.size());
      table.cast[kF32][static_cast<size_t>(half)](halves.data(), a.data(), nullptr, nullptr, n);
      table.cast[static_cast<size_t>(half)][kF32](rounded.data(), halves.data(), nullptr, nullptr, n);
      EXPECT_TRUE(same_numbers(steps({alone(step)}), rounded)) << level;
    }
    EXPECT_TRUE(same_numbers(steps({alone(cpu::TileOp::Keep), alone(cpu::TileOp::Exp), alone(cpu::TileOp::Subtract)}),
                             loop(ir::ScalarOp::Sub, loop(ir::ScalarOp::Exp, a), a)))
        << level;
  }
}

// Inverses are those of a division: of every fraction there is, and of numbers of every size.
TEST(TileProgram, InversesAreRoundedAsByDivision) {
  std::vector<float> x, got;
  const auto check = [&](const cpu::LevelTable& table) {
    const float one = 1;
    const cpu::TileStep step{cpu::TileOp::DivideInto, true, &one, 0};
    got.assign(x.size(), 0);
    table.tiles.finish({x.data(), 64, static_cast<int64_t>(x.size()) / 64, 64, &step, 1, got.data(), 64});
    int64_t wrong = 0;
    for (size_t i = 0; i < x.size(); ++i) {
      const float want = 1.0F / x[i];
      wrong += std::bit_cast<uint32_t>(got[i]) != std::bit_cast<uint32_t>(want) && !std::isnan(want) ? 1 : 0;
      wrong += std::isnan(got[i]) != std::isnan(want) ? 1 : 0;
    }
    EXPECT_EQ(wrong, 0) << table.name;
  };
  for (int level : {2, 3, 4}) {
    if (cpu::best_level() < level) continue;
    x.clear();
    for (uint32_t i = 0; i < 1U << 23; ++i) x.push_back(std::bit_cast<float>(0x3f800000U | i));
    check(cpu::level_table(level));
    x.clear();  // tiles of one exponent each: some are computed in one way, some in the other
    for (uint32_t exponent = 0; exponent < 512; ++exponent) {
      for (uint32_t i = 0; i < 64 * 16; ++i)
        x.push_back(std::bit_cast<float>((exponent << 23) | (i % 5 == 0 ? 0x7fffffU - i / 5 : i * 8179U % 0x7fffffU)));
    }
    check(cpu::level_table(level));
  }
}

// The same of steps in the registers of a tile, which are also joined.
TEST(TileProgram, StepsInTilesAreTheLoopsOfTheirOps) {
  using cpu::TileOp;
  using ir::ScalarOp;
  constexpr int64_t kColumns = 64;
  const float special[] = {0.0F, -0.0F, std::nanf(""), INFINITY, -INFINITY, 1e-45F, 3e38F, 6.0F};
  std::vector<float> a(cpu::kTileRows * kColumns), b(a.size()), c(a.size());
  for (size_t i = 0; i < a.size(); ++i) {
    a[i] = i % 3 == 0 ? special[i / 3 % 8] : static_cast<float>(i % 300) * 0.37F - 50;
    b[i] = i % 4 == 0 ? special[i / 4 % 8] : 20 - static_cast<float>(i % 300) * 0.11F;
    c[i] = i % 5 == 0 ? special[i / 5 % 8] : static_cast<float>(i % 200) - 60;
  }
  const float zero = 0, six = 6;
  struct Case {
    std::vector<cpu::TileStep> steps;
  };
  std::vector<Case> cases{
      {{{TileOp::Add, false, b.data(), 0}}},
      {{{TileOp::Add, true, &b[5], 0}}},
      {{{TileOp::Add, false, b.data(), kColumns}}},
      {{{TileOp::Subtract, false, b.data(), 0}}},
      {{{TileOp::Multiply, false, b.data(), 0}}},
      {{{TileOp::AboveZero, true, &zero, 0}}},
      {{{TileOp::Below, true, &six, 0}}},
      {{{TileOp::AboveZeroThenBelow, true, &zero, 0}, {TileOp::Below, true, &six, 0}}},
      {{{TileOp::MultiplyThenAdd, false, b.data(), 0}, {TileOp::Add, false, c.data(), 0}}},
      {{{TileOp::MultiplyThenAdd, true, &b[7], 0},
        {TileOp::Add, false, c.data(), 0},
        {TileOp::Add, false, b.data(), kColumns},
        {TileOp::AboveZero, true, &zero, 0}}},
  };
  const auto op_of = [](TileOp op) {
    if (op == TileOp::Add) return ScalarOp::Add;
    if (op == TileOp::Subtract) return ScalarOp::Sub;
    if (op == TileOp::Multiply || op == TileOp::MultiplyThenAdd) return ScalarOp::Mul;
    return op == TileOp::Below ? ScalarOp::Min : ScalarOp::Max;
  };
  for (int level : {2, 3, 4}) {
    if (cpu::best_level() < level) continue;
    const cpu::LevelTable& table = cpu::level_table(level);
    for (size_t i = 0; i < cases.size(); ++i) {
      std::vector<float> want = a;
      for (const cpu::TileStep& step : cases[i].steps) {
        std::vector<float> other(a.size());
        for (size_t k = 0; k < a.size(); ++k)
          other[k] = step.one ? *step.data : step.data[step.place != 0 ? k : k % kColumns];
        table.loop[static_cast<size_t>(op_of(step.op))][static_cast<size_t>(DType::F32)](
            want.data(), want.data(), other.data(), nullptr, static_cast<int64_t>(a.size()));
      }
      for (int vectors = 1; vectors <= cpu::kTileVectors; ++vectors) {
        for (int rows = 1; rows <= table.tiles.most_rows[vectors]; ++rows) {
          for (const int last : {1, table.tiles.lanes}) {
            std::vector<float> got(a.size(), 99.0F);
            cpu::Tile tile{};
            tile.x = tile.weight = tile.next = &zero;
            tile.from = a.data();
            tile.y = got.data();
            tile.y_step = kColumns;
            tile.last = last;
            tile.steps = cases[i].steps.data();
            tile.step_count = static_cast<int>(cases[i].steps.size());
            table.tiles.tile[vectors][rows](tile);
            for (size_t k = 0; k < a.size(); ++k) {
              const auto column = static_cast<int>(k % kColumns), row = static_cast<int>(k / kColumns);
              const bool inside = row < rows && column < (vectors - 1) * table.tiles.lanes + last;
              const float is = inside ? want[k] : 99.0F;
              ASSERT_TRUE(std::isnan(is) ? std::isnan(got[k])
                                         : std::bit_cast<uint32_t>(got[k]) == std::bit_cast<uint32_t>(is))
                  << level << ' ' << i << ' ' << vectors << ' ' << rows << ' ' << k << ' ' << got[k] << ' ' << is;
            }
          }
        }
      }
    }
  }
}

TEST(TileProgram, RunsEveryInstructionAsTheDeviceDoes) {
  const DType f = DType::F32;
  const auto apply = [](ir::ScalarOp op, const ir::Scalar& x) { return ir::apply_op(op, std::array{x}); };
  const std::vector<ir::ScalarProgram> programs{
      program_of({f}, [&](auto x) { return x[0] / (1.0 + apply(ir::ScalarOp::Exp, -x[0])); }),
      program_of({f, f}, [](auto x) { return (x[0] * x[1] + x[0]) * (x[0] - x[1]); }),
      program_of({f, f},
                 [&](auto x) { return select(x[1] < x[0], x[0] * 2.0, apply(ir::ScalarOp::Tanh, x[1]) + x[0]); }),
  };
  ThreadPool pool(1);
  for (const auto& program : programs) {
    ASSERT_TRUE(cpu::TileProgram::accepts(program));
    Array a(f, {77}), b(f, {77}), want(f, {77});
    a.fill_random(1);
    b.fill_random(2);
    const std::vector<ConstView> in{a.in(), b.in()};
    const auto& level = cpu::level_table(cpu::best_level());
    cpu::elementwise(level, program, std::span(in).first(static_cast<size_t>(program.inputs)), want.out(), pool);
    const cpu::TileProgram tile(level, program);
    cpu::TileProgram::Room room(tile, 80);
    if (program.inputs > 1) std::copy_n(b.data<float>(), 77, room.input(1));
    const float* got = tile.run(room, a.data<float>(), 77);
    EXPECT_TRUE(same_bits({got, got + 77}, floats(want))) << to_string(program);
  }
  EXPECT_FALSE(cpu::TileProgram::accepts(program_of({f}, [](auto x) { return x[0]; })));
  EXPECT_FALSE(cpu::TileProgram::accepts(program_of({DType::F64}, [](auto x) { return x[0] + x[0]; })));
}

}  // namespace
}  // namespace tenon::test
