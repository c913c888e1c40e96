// A function of random calls of the table's ops, the same for the same seed: what fuzz tests run in several ways.
#pragma once

#include <algorithm>
#include <random>

#include "tenon/ops/call.h"
#include "tenon/ops/infer.h"
#include "tenon/ops/table.h"
#include "tenon/tenon.h"

namespace tenon::testing_support {

// Elementwise ops and reductions of the table that take f32 and need no attributes of their own.
struct OpPool {
  std::vector<const ops::OpDef*> elementwise, reductions;
  OpPool() {
    for (const ops::OpDef* op : ops::table()) {
      const auto takes_f32 = [&](const ops::Arg& a) {
        return a.dtypes.has(DType::F32) && a.kind == ops::ArgKind::Required;
      };
      if (!std::all_of(op->inputs.begin(), op->inputs.end(), takes_f32) || op->inputs.empty() || op->random) continue;
      if (std::holds_alternative<ops::Elementwise>(op->meaning) && op->attrs.empty()) elementwise.push_back(op);
      if (std::holds_alternative<ops::Reduction>(op->meaning)) reductions.push_back(op);
    }
  }
};

class RandomGraph {
 public:
  explicit RandomGraph(uint64_t seed) : seed_(seed) {}

  // What it is made to be called with.
  static Tensors inputs(int64_t n) {
    return {uniform({4, n}, -2, 2), uniform({n}, -2, 2), uniform({4, 1}, -2, 2), uniform({2, 3, n}, -2, 2),
            transpose(uniform({n, 4}, -2, 2), 0, 1)};
  }
  // The same calls every time; the results that are kept.
  Tensors operator()(const Tensors& inputs) {
    random_.seed(seed_);
    Tensors values = inputs;
    for (int i = 0; i < 30; ++i) {
      Tensor y = step(values);
      if (!y.defined() || y.size() > 20000) continue;
      if (!is_float(y.dtype())) y = cast(y, DType::F32);
      // Keeps values in a range in which they still say something, but not by an op of a single meaning.
      values.push_back(pick(4) == 0 ? sin(y) : y);
      if (pick(5) == 0 && values.size() > 4) values.erase(values.begin() + pick(static_cast<int64_t>(values.size())));
    }
    Tensors kept;
    for (const auto& v : values) {
      if (pick(3) == 0) kept.push_back(v);
    }
    kept.push_back(values.back());
    return kept;
  }

 private:
  int64_t pick(int64_t n) { return static_cast<int64_t>(random_() % static_cast<uint64_t>(n)); }
  const Tensor& any(const Tensors& values) {
    return values[static_cast<size_t>(pick(static_cast<int64_t>(values.size())))];
  }

  Tensor step(const Tensors& values) {
    static const OpPool pool;
    const Tensor& x = any(values);
    switch (pick(12)) {
      case 0: {  // any axes
        Ints axes;
        for (int64_t a = 0; a < x.ndim(); ++a) {
          if (pick(2) == 0) axes.push_back(a);
        }
        const auto* op = pool.reductions[static_cast<size_t>(pick(static_cast<int64_t>(pool.reductions.size())))];
        const auto kind = std::get<ops::Reduction>(op->meaning).kind;
        if (kind == ops::ReduceKind::ArgMax || kind == ops::ReduceKind::ArgMin) return sum(x, axes, true);
        return ops::call1(*op, {x}, {axes, pick(2) == 0});
      }
      case 1:
        return x.ndim() < 2 ? x : transpose(x, pick(x.ndim()), pick(x.ndim()));
      case 2:
        return reshape(x, {-1});
      case 3:
        return x.ndim() == 0 ? x : narrow(x, 0, pick(x.shape(0)), 1);
      case 4:
        return x.ndim() == 0 ? x : flip(x, {pick(x.ndim())});
      case 5:
        return x.ndim() == 0 ? x : softmax(x);
      case 6:
        return x.ndim() < 2 || x.shape(-1) < 2 ? x : layer_norm(x, Tensor(), Tensor());
      case 7:
        return x.ndim() == 2 ? matmul(x, transpose(x, 0, 1)) : x * 0.5;
      default:
        break;
    }
    const auto* op = pool.elementwise[static_cast<size_t>(pick(static_cast<int64_t>(pool.elementwise.size())))];
    Tensors in{x};
    while (in.size() < op->inputs.size()) {
      // Something that broadcasts: the same shape, a row, a column, a number.
      Tensor other;
      for (int tries = 0; tries < 8 && !other.defined(); ++tries) {
        const Tensor& y = any(values);
        bool fits = y.ndim() <= x.ndim();
        for (int64_t a = 1; fits && a <= y.ndim(); ++a) fits = y.shape(-a) == x.shape(-a) || y.shape(-a) == 1;
        if (fits) other = y;
      }
      in.push_back(other.defined() ? other : Tensor(0.75));
    }
    return ops::call1(*op, std::move(in));
  }

  uint64_t seed_;
  std::mt19937_64 random_;
};

}  // namespace tenon::testing_support
