// The recipes follow level_rows.h instruction by instruction; whoever changes one changes the other, and tests/compile
// compares the bits. To add one: a function, and a row in recipe_of.
#include "tenon/device/cpu/recipes.h"

#include <limits>

#include "tenon/device/cpu/kernels.h"
#include "tenon/ops/infer.h"

namespace tenon::cpu {
namespace {

using Along = RowRecipe::Along;
using ir::Scalar;
using X = std::span<const Scalar>;

class Recipe {
 public:
  Recipe(Types in, int64_t n, std::vector<Along> along) : dtype_(in[0].dtype) {
    r_.n = n;
    r_.inputs = std::move(along);
  }
  static int input(int i) { return -1 - i; }
  int fold(ir::ScalarOp op, int x) {
    const bool most = op == ir::ScalarOp::Max;
    r_.steps.push_back({.fold = true,
                        .of_row = true,
                        .operands = {x},
                        .program = {},
                        .combine = op,
                        .empty = most ? -std::numeric_limits<double>::infinity() : 0});
    return last();
  }
  int sum(int x) { return fold(ir::ScalarOp::Add, x); }
  int max(int x) { return fold(ir::ScalarOp::Max, x); }
  template <class F>
  int elements(std::vector<int> operands, const F& f) {
    return map(false, std::move(operands), f);
  }
  template <class F>
  int row(std::vector<int> operands, const F& f) {
    return map(true, std::move(operands), f);
  }
  RowRecipe finish(std::vector<int> results) {
    r_.results = std::move(results);
    return std::move(r_);
  }
  // A number in the dtype of the rows, as the kernels round it.
  [[nodiscard]] double number(double x) const { return dtype_ == DType::F32 ? static_cast<float>(x) : x; }

 private:
  [[nodiscard]] int last() const { return static_cast<int>(r_.steps.size()) - 1; }
  template <class F>
  int map(bool of_row, std::vector<int> operands, const F& f) {
    ir::ScalarBuilder b;
    std::vector<Scalar> x;
    for (size_t i = 0; i < operands.size(); ++i) x.push_back(b.input(dtype_));
    // A constant stands first, so that a map without operands is a program too.
    x.push_back(b.constant(dtype_, 0, 0));
    RowRecipe::Step s;
    s.of_row = of_row;
    s.operands = std::move(operands);
    s.program = b.finish(f(X(x)), dtype_);
    r_.steps.push_back(std::move(s));
    return last();
  }
  RowRecipe r_;
  DType dtype_;
};

Scalar exp_of(const Scalar& x) { return ir::apply_op(ir::ScalarOp::Exp, std::array{x}); }
Scalar log_of(const Scalar& x) { return ir::apply_op(ir::ScalarOp::Log, std::array{x}); }
Scalar sqrt_of(const Scalar& x) { return ir::apply_op(ir::ScalarOp::Sqrt, std::array{x}); }

RowRecipe softmax_recipe(Types in, const ir::Attrs&) {
  Recipe r(in, in[0].shape.back(), {Along::Elements});
  const int x = Recipe::input(0);
  const int most = r.max(x);
  const int e = r.elements({x, most}, [](X v) { return exp_of(v[0] - v[1]); });
  const int scale = r.row({r.sum(e)}, [](X v) { return 1 / v[0]; });
  return r.finish({r.elements({e, scale}, [](X v) { return v[0] * v[1]; })});
}

RowRecipe log_softmax_recipe(Types in, const ir::Attrs&) {
  Recipe r(in, in[0].shape.back(), {Along::Elements});
  const int x = Recipe::input(0);
  const int most = r.max(x);
  const int e = r.elements({x, most}, [](X v) { return exp_of(v[0] - v[1]); });
  const int total = r.row({r.sum(e)}, [](X v) { return log_of(v[0]); });
  return r.finish({r.elements({x, most, total}, [](X v) { return (v[0] - v[1]) - v[2]; })});
}

RowRecipe softmax_grad_recipe(Types in, const ir::Attrs&) {
  Recipe r(in, in[0].shape.back(), {Along::Elements, Along::Elements});
  const int ct = Recipe::input(0), y = Recipe::input(1);
  const int total = r.sum(r.elements({ct, y}, [](X v) { return v[0] * v[1]; }));
  return r.finish({r.elements({ct, y, total}, [](X v) { return v[1] * (v[0] - v[2]); })});
}

RowRecipe log_softmax_grad_recipe(Types in, const ir::Attrs&) {
  Recipe r(in, in[0].shape.back(), {Along::Elements, Along::Elements});
  const int ct = Recipe::input(0), y = Recipe::input(1);
  const int total = r.sum(ct);
  return r.finish({r.elements({ct, y, total}, [](X v) { return v[0] - exp_of(v[1]) * v[2]; })});
}

Ints axes_of_normalize(const Shape& shape, const ir::Attrs& attrs) {
  return ops::reduction_axes("normalize", attrs.ints(0), static_cast<int64_t>(shape.size()));
}

RowRecipe normalize_recipe(Types in, const ir::Attrs& attrs) {
  const Shape& shape = in[0].shape;
  const Ints axes = axes_of_normalize(shape, attrs);
  int64_t n = 1;
  for (int64_t axis : axes) n *= shape[static_cast<size_t>(axis)];
  // Statistics of channels go through memory in another order.
  const bool rows = axes.size() < shape.size() && axes[0] == static_cast<int64_t>(shape.size() - axes.size());
  if (!rows) return {};
  Recipe r(in, n, {Along::Elements, Along::Columns, Along::Columns});
  const int x = Recipe::input(0);
  const double count = r.number(static_cast<double>(n)), epsilon = r.number(attrs.real(1));
  const bool center = attrs.flag(2);
  const int mean = center ? r.row({r.sum(x)}, [=](X v) { return v[0] / count; }) : r.row({}, [](X v) { return v[0]; });
  const int squares = r.sum(r.elements({x, mean}, [](X v) { return (v[0] - v[1]) * (v[0] - v[1]); }));
  const int rstd = r.row({squares}, [=](X v) { return 1 / sqrt_of(v[0] / count + epsilon); });
  int y = r.elements({x, mean, rstd}, [](X v) { return (v[0] - v[1]) * v[2]; });
  const auto given = [&](size_t i) { return i < in.size() && !in[i].shape.empty(); };
  if (given(1)) y = r.elements({y, Recipe::input(1)}, [](X v) { return v[0] * v[1]; });
  if (given(2)) y = r.elements({y, Recipe::input(2)}, [](X v) { return v[0] + v[1]; });
  return r.finish({y, mean, rstd});
}

// (x - mean) * rstd * weight + bias of a channel, as RowLoops::standardize has it also where these are absent.
ElementRecipe normalize_elements(Types in, const ir::Attrs& attrs) {
  const Ints axes = axes_of_normalize(in[0].shape, attrs);
  if (axes.size() >= in[0].shape.size() || axes[0] != 0) return {};  // statistics of rows
  ElementRecipe r;
  ir::ScalarBuilder b;
  const auto operand = [&](int number) {
    r.operands.push_back(number);
    return b.input(in[0].dtype);
  };
  const auto given = [&](size_t i) { return i < in.size() && !in[i].shape.empty(); };
  const Scalar x = operand(-1), mean = operand(1), rstd = operand(2);
  Scalar y = (x - mean) * rstd;
  if (given(1)) y = y * operand(-2);
  y = y + (given(2) ? operand(-3) : b.constant(in[0].dtype, 0, 0));
  r.program = b.finish(y, in[0].dtype);
  return r;
}

}  // namespace

ElementRecipe elements_of(const Claim& claim, std::span<const TensorType> in, const ir::Attrs& attrs) {
  return claim.run == run_normalize ? normalize_elements(in, attrs) : ElementRecipe();
}

RecipeFn recipe_of(const Claim& claim) {
  const struct {
    void (*run)(const KernelArgs& args);
    RecipeFn recipe;
  } rows[] = {
      {run_softmax, softmax_recipe},         {run_softmax_grad, softmax_grad_recipe},
      {run_log_softmax, log_softmax_recipe}, {run_log_softmax_grad, log_softmax_grad_recipe},
      {run_normalize, normalize_recipe},
  };
  for (const auto& row : rows) {
    if (row.run == claim.run) return row.recipe;
  }
  return nullptr;
}

}  // namespace tenon::cpu
