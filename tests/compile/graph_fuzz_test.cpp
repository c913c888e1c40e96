// Random graphs: eager, compiled by the interpreter and compiled by LLVM agree bit for bit. Seeds that once failed are
// kept in kSeeds.
#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "tenon/compile.h"
#include "tenon/ops/call.h"
#include "tenon/ops/infer.h"
#include "tenon/ops/table.h"
#include "tenon/tenon.h"

namespace tenon {
namespace {

// Elementwise ops and reductions of the table that take f32 and need no attributes of their own.
struct Pool {
  std::vector<const ops::OpDef*> elementwise, reductions;
  Pool() {
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
    static const Pool pool;
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

// The first difference; NaNs are equal to each other.
std::string difference(const Tensors& got, const Tensors& want) {
  if (got.size() != want.size()) return "another number of results";
  for (size_t i = 0; i < got.size(); ++i) {
    if (got[i].type() != want[i].type()) return "type of result " + std::to_string(i);
    const auto a = got[i].to_vector<float>(), b = want[i].to_vector<float>();
    for (size_t k = 0; k < a.size(); ++k) {
      if (std::memcmp(&a[k], &b[k], 4) != 0 && !(a[k] != a[k] && b[k] != b[k]))
        return "result " + std::to_string(i) + " element " + std::to_string(k) + " of " + to_string(got[i].type());
    }
  }
  return "";
}

void check(uint64_t seed, bool interpret) {
  manual_seed(seed);
  const int64_t n = seed % 3 == 0 ? 70 : 6;
  const Tensors inputs{uniform({4, n}, -2, 2), uniform({n}, -2, 2), uniform({4, 1}, -2, 2), uniform({2, 3, n}, -2, 2),
                       transpose(uniform({n, 4}, -2, 2), 0, 1)};
  RandomGraph graph(seed);
  const Tensors want = graph(inputs);
  for (bool fuse : {true, false}) {
    CompileOptions options{.fuse = fuse, .interpret = interpret, .verify = true, .keep_text = true};
    auto fast = compile([&] { return graph(inputs); }, options);
    for (int time = 0; time < 2; ++time)
      ASSERT_EQ(difference(fast(), want), "") << "seed " << seed << (fuse ? "" : ", unfused") << "\n"
                                              << to_string(fast.explain());
  }
}

// One compiled function over many sizes: the first is compiled for itself, the others share general kernels.
void check_sizes(uint64_t seed, bool interpret) {
  manual_seed(seed);
  RandomGraph graph(seed);
  Tensors inputs;
  CompileOptions options{.interpret = interpret, .verify = true, .keep_text = true};
  auto fast = compile([&] { return graph(inputs); }, options);
  for (int64_t n : {6, 9, 70, 64, 128, 7}) {
    inputs = {uniform({4, n}, -2, 2), uniform({n}, -2, 2), uniform({4, 1}, -2, 2), uniform({2, 3, n}, -2, 2),
              transpose(uniform({n, 4}, -2, 2), 0, 1)};
    const Tensors want = graph(inputs);
    ASSERT_EQ(difference(fast(), want), "") << "seed " << seed << " size " << n << "\n" << to_string(fast.explain());
  }
}

constexpr uint64_t kSeeds[] = {1, 2, 3};

TEST(GraphFuzz, KeptSeeds) {
  for (uint64_t seed : kSeeds) check(seed, false);
}
TEST(GraphFuzz, SizesThatChange) {
  for (uint64_t seed = 2000; seed < 2200; ++seed) {
    check_sizes(seed, true);
    if (HasFatalFailure()) return;
  }
  for (uint64_t seed = 3000; seed < 3020; ++seed) {
    check_sizes(seed, false);
    if (HasFatalFailure()) return;
  }
}
TEST(GraphFuzz, CompiledByTheInterpreter) {
  for (uint64_t seed = 100; seed < 500; ++seed) {
    check(seed, true);
    if (HasFatalFailure()) return;
  }
}
TEST(GraphFuzz, CompiledByLlvm) {
  for (uint64_t seed = 1000; seed < 1040; ++seed) {
    check(seed, false);
    if (HasFatalFailure()) return;
  }
}

}  // namespace
}  // namespace tenon
