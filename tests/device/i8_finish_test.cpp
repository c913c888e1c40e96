// What follows 8-bit products, in their blocks: the bits of the scalar program on the sums in memory.
#include "tenon/device/cpu/i8_finish.h"

#include <gtest/gtest.h>

#include <array>
#include <cmath>
#include <limits>

#include "tenon/device/cpu/conv_i8.h"
#include "tenon/device/cpu/elementwise.h"
#include "tenon/device/cpu/product_i8.h"
#include "tests/device/support.h"

namespace tenon::test {
namespace {

using cpu::I8Follow;
using ir::Scalar;
using ir::ScalarOp;

Scalar both(ScalarOp op, const Scalar& a, const Scalar& b) { return ir::apply_op(op, std::array{a, b}); }

// As QLinearConv: a number to the sum, times a factor, rounded, a zero point to it, cut to the range of `to`.
ir::ScalarProgram to_bytes(DType to, double low, double high) {
  ir::ScalarBuilder b;
  const Scalar sum = b.input(DType::I32), bias = b.input(DType::I32), factor = b.input(DType::F64),
               zero = b.input(DType::F64);
  const Scalar q = ir::apply_op(ScalarOp::Round, std::array{b.cast(sum + bias, DType::F64) * factor}) + zero;
  return b.finish(b.cast(both(ScalarOp::Min, both(ScalarOp::Max, q, low), high), DType::F32), to);
}
// As QLinearMatMul: two numbers off, times a scale, divided by another.
ir::ScalarProgram to_bytes_by_quotient() {
  ir::ScalarBuilder b;
  const Scalar sum = b.input(DType::I32), first = b.input(DType::I32), scale = b.input(DType::F64),
               second = b.input(DType::I32), divisor = b.input(DType::F64);
  const Scalar q =
      ir::apply_op(ScalarOp::Round, std::array{b.cast(sum - first - second, DType::F64) * scale / divisor});
  return b.finish(both(ScalarOp::Min, both(ScalarOp::Max, q, -128.0), 127.0), DType::I8);
}
// As MatMulInteger in models quantised as they run: to f32, times a scale, plus a bias.
ir::ScalarProgram to_floats() {
  return program_of({DType::I32, DType::F32, DType::F32},
                    [](auto x) { return x[0].builder()->cast(x[0], DType::F32) * x[1] + x[2]; });
}
// No chain: the sum is used twice.
ir::ScalarProgram to_halves() {
  return program_of(
      {DType::I32, DType::F64, DType::I32},
      [](auto x) {
        const Scalar y = x[0].builder()->cast(x[0], DType::F64) * x[1];
        return x[0].builder()->cast(select(x[0] < x[2], y, y + 0.5), DType::F16);
      },
      DType::F16);
}

TEST(I8Finish, KnowsTheWayToBytes) {
  const auto conv = cpu::rescaling_of(to_bytes(DType::U8, 0, 255));
  ASSERT_TRUE(conv);
  ASSERT_EQ(conv->of_sums.size(), 1U);
  EXPECT_EQ(conv->of_sums[0].input, 1);
  ASSERT_EQ(conv->of_reals.size(), 1U);
  EXPECT_EQ(conv->of_reals[0].input, 2);
  ASSERT_TRUE(conv->zero);
  EXPECT_EQ(conv->zero->input, 3);
  EXPECT_EQ(conv->high.number, 255);
  const auto matmul = cpu::rescaling_of(to_bytes_by_quotient());
  ASSERT_TRUE(matmul);
  ASSERT_EQ(matmul->of_sums.size(), 2U);
  EXPECT_TRUE(matmul->of_sums[1].inverse);
  EXPECT_TRUE(matmul->of_reals[1].inverse);
  EXPECT_FALSE(matmul->zero);
  EXPECT_FALSE(cpu::rescaling_of(to_floats()));
  EXPECT_FALSE(cpu::rescaling_of(to_halves()));
  EXPECT_FALSE(cpu::rescaling_of(program_of({DType::I32, DType::F64}, [](auto x) {
    const Scalar y = x[1] / x[0].builder()->cast(x[0], DType::F64);  // into, not by
    return x[0].builder()->cast(
        both(ScalarOp::Min, both(ScalarOp::Max, ir::apply_op(ScalarOp::Round, std::array{y}), 0.0), 9.0), DType::U8);
  })));
}

// How an operand lies: one number, one for each of the rows (or channels), columns, or elements, these also in another
// order than row-major.
enum class Reach { One, Rows, Columns, All, Turned };

struct Followed {
  std::string name;
  ir::ScalarProgram program;
  std::vector<Reach> reach;  // of its operands
  std::vector<double> low = {}, high = {};
};

// Programs and operands: usual ones, and those that go instruction by instruction because of their layout or numbers.
std::vector<Followed> followed() {
  using enum Reach;
  const double inf = std::numeric_limits<double>::infinity();
  const ir::ScalarProgram u8 = to_bytes(DType::U8, 0, 255), i8 = to_bytes(DType::I8, -128, 127);
  return {
      {"a factor for each row", u8, {Rows, Rows, One}, {-3e4, 1e-5, 130}, {3e4, 3e-3, 130}},
      {"signed", i8, {Rows, Rows, One}, {-3e4, -3e-3, -7}, {3e4, 3e-3, -7}},
      {"halves", i8, {One, One, One}, {3, 1.0 / 64, 1}, {3, 1.0 / 64, 1}},
      {"for each column", u8, {Columns, Columns, One}, {-3e4, 1e-5, 255}, {3e4, 3e-3, 255}},
      {"for each element", u8, {All, Rows, One}, {-3e4, 1e-5, 100}, {3e4, 3e-3, 100}},
      {"turned", u8, {Turned, Turned, One}, {-3e4, 1e-5, 100}, {3e4, 3e-3, 100}},
      {"narrower", to_bytes(DType::U8, 3, 17), {Rows, One, One}, {-3e4, 1e-4, 10}, {3e4, 1e-4, 10}},
      {"far away", i8, {Rows, One, One}, {-2e9, 1e80, 0}, {2e9, 1e80, 0}},
      {"wrapping", u8, {Rows, One, One}, {2147483647, 1e-7, 128}, {2147483647, 1e-7, 128}},
      {"infinite", u8, {Rows, One, One}, {0, inf, 128}, {0, inf, 128}},
      {"no whole zero point", u8, {Rows, Rows, One}, {-3e4, 1e-5, 0.25}, {3e4, 3e-3, 0.25}},
      {"too wide", to_bytes(DType::U8, -300, 300), {Rows, Rows, One}, {-3e4, 1e-5, 0}, {3e4, 3e-3, 0}},
      {"quotient", to_bytes_by_quotient(), {Columns, Columns, Rows, One}, {-3e4, 1e-5, -300, 0.1}, {3e4, 3e-3, 300, 7}},
      {"halves of a quotient",
       to_bytes_by_quotient(),
       {Columns, One, Rows, One},
       {-300, 1.0 / 256, -30, 6},
       {300, 1.0 / 256, 30, 6}},
      {"by nothing", to_bytes_by_quotient(), {One, One, One, One}, {0, 1, 0, 0}, {0, 1, 0, 0}},
      {"floats", to_floats(), {One, Columns}, {0.01, -3}, {0.01, 3}},
      {"floats of channels", to_floats(), {Rows, All}, {0.01, -3}, {0.01, 3}},
      {"halves of floats", to_halves(), {Turned, One}, {-0.1, 200}, {0.1, 200}},
  };
}

// The operand in memory, and how it meets a result [images, rows, columns].
struct Placed {
  std::optional<Array> data;
  ConstView view;
};
Placed place(const Followed& f, size_t k, const Shape& shape, uint64_t seed) {
  const DType dtype = f.program.input(static_cast<int>(k) + 1);
  const Reach reach = f.reach[k];
  const auto at = [&](size_t axis) { return shape[axis]; };
  Placed p;
  Shape own = reach == Reach::One       ? Shape{1, 1, 1}
              : reach == Reach::Rows    ? Shape{1, at(1), 1}
              : reach == Reach::Columns ? Shape{1, 1, at(2)}
                                        : shape;
  Shape strides = contiguous_strides(own);
  if (reach == Reach::Turned) strides = {at(1) * at(2), 1, at(1)};
  p.data.emplace(dtype, own, strides, 0, numel(own));
  if (f.low[k] == f.high[k])
    p.data->fill([&](int64_t) { return f.low[k]; });
  else
    p.data->fill_random(seed, f.low[k], f.high[k]);
  for (size_t a = 0; a < 3; ++a) {
    if (own[a] == 1) strides[a] = 0;
  }
  p.view = {p.data->memory.data(), dtype, shape, strides, 0};
  return p;
}

// The program over sums that lie in memory, as ops node by node run it.
std::vector<std::byte> unfused(const ir::ScalarProgram& program, const std::vector<int32_t>& sums, const Shape& shape,
                               const std::vector<Placed>& operands) {
  ThreadPool one(1);
  Array out(program.result(), shape);
  std::vector<ConstView> in{
      {reinterpret_cast<const std::byte*>(sums.data()), DType::I32, shape, contiguous_strides(shape), 0}};
  for (const Placed& p : operands) in.push_back(p.view);
  make_cpu_device()->elementwise(program, in, out.out(), one);
  out.memory.resize(static_cast<size_t>(byte_size(program.result(), numel(shape))));
  return out.memory;
}

std::vector<I8Follow::Operand> list_of(const std::vector<Placed>& operands) {
  std::vector<I8Follow::Operand> list;
  for (const Placed& p : operands)
    list.push_back({p.view.first(), p.view.dtype, p.view.strides[0], p.view.strides[1], p.view.strides[2]});
  return list;
}

std::vector<Placed> place_all(const Followed& f, const Shape& shape) {
  std::vector<Placed> operands;
  for (size_t k = 0; k < f.reach.size(); ++k) operands.push_back(place(f, k, shape, 7 + k));
  return operands;
}

// Sums whose product with the factor is a half, or next to one: neighbours of the factor, too.
TEST(I8Finish, NumbersCloseToHalvesAreRoundedAsInFull) {
  const int64_t columns = 4001;
  std::vector<double> factors;
  for (const double factor : {0.05, 1.0 / 64, 0.1, 0.5 / 3, 0.5, 1e-3, 0.0}) {
    for (const double next : {-1.0, 1.0, 0.0}) factors.push_back(std::nextafter(factor, next));
    factors.push_back(factor * (1 + 1e-7));
    factors.push_back(-factor * (1 - 3e-5));
  }
  const auto rows = static_cast<int64_t>(factors.size());
  const Shape shape{1, rows, columns};
  std::vector<int32_t> sums;
  for (int64_t i = 0; i < rows * columns; ++i) sums.push_back(static_cast<int32_t>(i % columns - columns / 2));
  for (const double zero : {0.0, 7.0, -3.0}) {
    std::vector<Placed> operands(3);
    operands[0].data.emplace(Array::of<int32_t>({1}, {1}));
    operands[1].data.emplace(Array::of<double>(factors, {rows}));
    operands[2].data.emplace(Array::of<double>({zero}, {1}));
    for (size_t k = 0; k < 3; ++k) {
      const Array& data = *operands[k].data;
      operands[k].view = {data.memory.data(), data.type.dtype, shape, {0, k == 1 ? 1 : 0, 0}, 0};
    }
    const cpu::I8Program program(to_bytes(DType::I8, -128, 127));
    const auto expected = unfused(to_bytes(DType::I8, -128, 127), sums, shape, operands);
    for (const cpu::I8Loops* loops : cpu::all_i8_loops()) {
      std::vector<std::byte> y(expected.size());
      const I8Follow follow(program, list_of(operands), y.data(), 1, rows, columns);
      cpu::I8Finish finish(follow, *loops);
      finish({sums.data(), columns, nullptr, 0, 0, rows, 0, columns});
      EXPECT_EQ(y, expected) << loops->name << ", zero point " << zero;
    }
  }
}

TEST(I8Finish, ProductsFinishWithTheBitsOfThePrograms) {
  ThreadPool one(1), three(3);
  for (const auto& [m, n, k] : std::vector<std::array<int64_t, 3>>{
           {1, 1, 1}, {13, 33, 65}, {32, 32, 64}, {45, 100, 63}, {7, 1100, 20}, {330, 260, 400}}) {
    const auto a = draw_bytes(m * k, 1), b = draw_bytes(n * k, 2);
    for (const Followed& f : followed()) {
      if (m > 300 && f.name != "floats" && f.name != "a factor for each row") continue;
      const Shape shape{1, m, n};
      const auto operands = place_all(f, shape);
      const cpu::I8Program program(f.program);
      for (const cpu::I8Loops* loops : cpu::all_i8_loops()) {
        for (int signs = 0; signs < 4; ++signs) {
          SCOPED_TRACE(testing::Message() << f.name << ", " << loops->name << ": " << m << " x " << n << " x " << k
                                          << ", signs " << signs);
          cpu::I8Product p{.m = m, .n = n, .k = k, .a = a.data(), .a_row = k, .a_k = 1, .a_signed = signs % 2 == 1};
          p.b = b.data();
          p.b_k = n;
          p.b_column = 1;
          p.b_signed = signs / 2 == 1;
          std::vector<int32_t> sums(static_cast<size_t>(m * n));
          p.c = sums.data();
          p.c_row = n;
          product(p, *loops);
          const auto expected = unfused(f.program, sums, shape, operands);
          for (ThreadPool* pool : {&one, &three}) {
            std::vector<std::byte> y(expected.size(), std::byte{0x55});
            const I8Follow follow(program, list_of(operands), y.data(), 1, m, n);
            p.c = nullptr;
            p.follow = &follow;
            product(p, *loops, *pool);
            ASSERT_EQ(y, expected);
          }
        }
      }
    }
  }
}

TEST(I8Finish, ConvolutionsFinishWithTheBitsOfThePrograms) {
  ThreadPool one(1), three(3);
  // images, channels, filters, groups, side, window
  for (const auto& [images, channels, filters, groups, side, window] :
       std::vector<std::array<int64_t, 6>>{{1, 5, 7, 1, 3, 3},
                                           {2, 64, 33, 1, 7, 1},
                                           {3, 20, 70, 1, 14, 3},
                                           {2, 9, 9, 9, 37, 3},
                                           {5, 12, 20, 2, 6, 3}}) {
    cpu::ConvShape s;
    s.axes = 2;
    s.n = images;
    s.channels = channels;
    s.filters = filters;
    s.groups = groups;
    s.in = {side, side, 1};
    s.out = s.in;
    s.window = {window, window, 1};
    s.low = s.high = {window / 2, window / 2, 0};
    const Shape shape{images, filters, side * side};
    for (const Followed& f : followed()) {
      const auto operands = place_all(f, shape);
      const cpu::I8Program program(f.program);
      for (int signs = 0; signs < 2; ++signs) {
        const auto x = draw_bytes(s.n * s.x_size(), 1), weight = draw_bytes(s.weight_size(), 2);
        for (const cpu::I8Loops* loops : cpu::all_i8_loops()) {
          const cpu::I8Conv conv(s, signs == 1, true, *loops);
          const auto packed = conv.pack(weight.data());
          for (const std::vector<int32_t>& zeros : {std::vector<int32_t>{}, std::vector<int32_t>{-3}}) {
            SCOPED_TRACE(testing::Message() << f.name << ", " << loops->name << ": " << channels << " to " << filters
                                            << ", signs " << signs << ", zero points " << zeros.size());
            std::vector<int32_t> sums(static_cast<size_t>(numel(shape)));
            conv.run({images, x.data(), 100, packed->data(), zeros, sums.data()}, one);
            const auto expected = unfused(f.program, sums, shape, operands);
            for (ThreadPool* pool : {&one, &three}) {
              std::vector<std::byte> y(expected.size(), std::byte{0x55});
              const I8Follow follow(program, list_of(operands), y.data(), images, filters, side * side);
              conv.run({images, x.data(), 100, packed->data(), zeros, nullptr, &follow}, *pool);
              ASSERT_EQ(y, expected);
            }
          }
        }
      }
    }
  }
}

}  // namespace
}  // namespace tenon::test
