// vmap against a loop over the examples, for every set of batched inputs; and of the gradient.
#include "tenon/trace/vmap.h"

#include "support.h"
#include "tenon/base/error.h"
#include "tenon/ops/call.h"
#include "tenon/ops/movement.h"
#include "tenon/trace/transforms.h"

namespace tenon::test {
namespace {

using namespace ops;
constexpr uint64_t kBatch = 3;

Tensor stacked(const Tensors& rows) {
  const exec::SessionScope scope(session_with(kReference));
  return stack(rows, 0);
}

// fn of the examples under vmap against one call for each example. `draws[b]` are the inputs of example b.
std::string check_vmap(const OpDef& op, const trace::Function& fn, const std::vector<Tensors>& draws, uint32_t subset,
                       double factor) {
  Tensors batched;
  VmapOptions options;
  for (size_t i = 0; i < draws[0].size(); ++i) {
    const bool in_batch = ((subset >> i) & 1u) != 0;
    Tensors rows;
    for (const auto& draw : draws) rows.push_back(draw[i]);
    batched.push_back(in_batch ? stacked(rows) : draws[0][i]);
    options.in_axes.push_back(in_batch ? 0 : kNotBatched);
  }
  Outcome got{vmap(fn, options)(batched), {}}, want;
  std::vector<Tensors> rows;
  for (uint64_t b = 0; b < kBatch; ++b) {
    Tensors in;
    for (size_t i = 0; i < draws[0].size(); ++i) in.push_back(((subset >> i) & 1u) != 0 ? draws[b][i] : draws[0][i]);
    const Tensors out = fn(in);
    rows.resize(out.size());
    for (size_t r = 0; r < out.size(); ++r) rows[r].push_back(out[r]);
  }
  for (const Tensors& r : rows) want.out.push_back(stacked(r));
  return difference_within_tolerance(op, got, want, factor);
}

std::vector<uint32_t> subsets(size_t inputs) {
  std::vector<uint32_t> list;
  const uint32_t all = (1u << inputs) - 1;
  if (inputs <= 4) {
    for (uint32_t s = 1; s <= all; ++s) list.push_back(s);
  } else {
    for (size_t i = 0; i < inputs; ++i) list.push_back(1u << i);
    list.push_back(all);
  }
  return list;
}

TEST_P(Conformance, Batched) {
  const exec::SessionScope scope(session_with(kKernels));
  for (const Case& c : cases(op())) {
    const DType t = best_choice(op(), c.sample);
    std::vector<Tensors> draws;
    std::vector<size_t> which;
    for (uint64_t b = 0; b < kBatch; ++b) draws.push_back(make_inputs(op(), c, t, Layout::Contiguous, b));
    for (size_t i = 0; i < draws[0].size(); ++i) {
      if (draws[0][i].defined()) which.push_back(i);
    }
    if (which.empty()) continue;
    const size_t inputs = draws[0].size();
    for (auto& draw : draws) {
      Tensors given;
      for (size_t i : which) given.push_back(draw[i]);
      draw = given;
    }
    const trace::Function fn = [&](const Tensors& in) {
      Tensors full(inputs);
      for (size_t k = 0; k < which.size(); ++k) full[which[k]] = in[k];
      return call(op(), full, c.sample.attrs);
    };
    for (uint32_t subset : subsets(which.size())) {
      const std::string place = where(op(), c, t, "vmap of inputs, by bit ") + std::to_string(subset);
      try {
        EXPECT_EQ(check_vmap(op(), fn, draws, subset, 4), "") << place;
        EXPECT_FALSE(std::holds_alternative<NoBatching>(op().batching)) << place << ": against its definition";
      } catch (const UnsupportedError& e) {
        EXPECT_TRUE(std::holds_alternative<NoBatching>(op().batching)) << place << ": " << e.what();
      } catch (const std::exception& e) {
        ADD_FAILURE() << place << ": " << e.what();
      }
    }
  }
}

TEST_P(Conformance, BatchedGradients) {
  if (!has_gradient(op()) || std::holds_alternative<NoBatching>(op().batching))
    GTEST_SKIP() << "no gradient or batching";
  const exec::SessionScope scope(session_with(kKernels));
  for (const Case& c : cases(op())) {
    const DType t = best_choice(op(), c.sample);
    try {
      const Differentiable d = differentiable_part(op(), c);
      if (d.at.empty()) continue;
      std::vector<Tensors> draws;
      for (uint64_t b = 0; b < kBatch; ++b) draws.push_back(differentiable_part(op(), c, b).at);
      const trace::Function gradient = [&](const Tensors& in) {
        const tenon::Vjp reverse = vjp(d.fn, in);
        Tensors ct;
        for (size_t r = 0; r < reverse.outputs.size(); ++r) ct.push_back(random_like(reverse.outputs[r], 99 + r));
        Tensors grads = reverse.pullback(ct), given;
        for (auto& g : grads) {
          if (g.defined()) given.push_back(g);
        }
        return given;
      };
      EXPECT_EQ(check_vmap(op(), gradient, draws, (1u << d.at.size()) - 1, 64), "")
          << where(op(), c, t, "vmap of the gradient");
    } catch (const std::exception& e) {
      ADD_FAILURE() << where(op(), c, t, "vmap of the gradient") << ": " << e.what();
    }
  }
}

}  // namespace
}  // namespace tenon::test
