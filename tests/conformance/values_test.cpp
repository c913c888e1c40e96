// Kernels against the reference evaluator; layouts, sizes of nothing, dtypes of few bits; the switches of a session.
#include "support.h"
#include "tenon/base/error.h"
#include "tenon/exec/evaluate.h"
#include "tenon/ir/text.h"
#include "tenon/ir/verify.h"
#include "tenon/ops/call.h"
#include "tenon/ops/catalog.h"
#include "tenon/ops/movement.h"
#include "tenon/trace/capture.h"

namespace tenon::test {
namespace {

using namespace ops;

TEST_P(Conformance, Values) {
  for (const Case& c : cases(op())) {
    for (DType t : dtype_choices(op(), c.sample)) {
      const Outcome got = run(kKernels, op(), make_inputs(op(), c, t), c.sample.attrs);
      EXPECT_EQ(got.error, "") << where(op(), c, t);
      EXPECT_EQ(difference_within_tolerance(op(), got, run(kReference, op(), make_inputs(op(), c, t), c.sample.attrs)),
                "")
          << where(op(), c, t, "kernels against the reference");
    }
  }
}

// The first axis of extent above 1 of each input as a view of stride 0, and the same values in memory.
std::pair<Tensors, Tensors> repeated(const Tensors& in) {
  Tensors views, copies;
  const exec::SessionScope scope(session_with(kReference));
  for (const Tensor& x : in) {
    if (!x.defined() || x.ndim() == 0 || x.shape()[0] < 2) {
      views.push_back(x);
      copies.push_back(x);
      continue;
    }
    views.push_back(expand(narrow(x, 0, 0, 1), x.shape()));
    copies.push_back(exec::contiguous(views.back()));
  }
  return {views, copies};
}

TEST_P(Conformance, Layouts) {
  for (const Case& c : cases(op())) {
    for (DType t : dtype_choices(op(), c.sample)) {
      for (const auto& options : {kKernels, kReference}) {
        const char* path = options.reference ? "reference" : "kernels";
        const Outcome want = run(options, op(), make_inputs(op(), c, t), c.sample.attrs);
        for (Layout layout : kViews) {
          EXPECT_EQ(difference_in_bits(run(options, op(), make_inputs(op(), c, t, layout), c.sample.attrs), want), "")
              << where(op(), c, t, name(layout)) << ", " << path;
        }
        const auto [views, copies] = repeated(make_inputs(op(), c, t));
        EXPECT_EQ(
            difference_in_bits(run(options, op(), views, c.sample.attrs), run(options, op(), copies, c.sample.attrs)),
            "")
            << where(op(), c, t, "broadcast, ") << path;
      }
    }
  }
}

// An axis of every input without extent: a result as by the reference, or an error of the user's kind.
TEST_P(Conformance, Empty) {
  for (const Case& c : cases(op())) {
    for (const bool first : {true, false}) {
      Case e = c;
      bool any = false;
      for (auto& in : e.sample.inputs) {
        if (in.shape.empty()) continue;
        (first ? in.shape.front() : in.shape.back()) = 0;
        in.values.clear();
        any = true;
      }
      if (!any) continue;
      const DType t = best_choice(op(), e.sample);
      EXPECT_EQ(difference_within_tolerance(op(), run(kKernels, op(), make_inputs(op(), e, t), e.sample.attrs),
                                            run(kReference, op(), make_inputs(op(), e, t), e.sample.attrs)),
                "")
          << where(op(), e, t, "empty");
    }
  }
}

// f16 and bf16 against f32 on the same numbers, rounded.
TEST_P(Conformance, LowPrecision) {
  if (!has_gradient(op())) GTEST_SKIP() << "not a function of real numbers";
  for (const Case& c : cases(op())) {
    for (DType t : dtype_choices(op(), c.sample)) {
      if (t != DType::F16 && t != DType::BF16) continue;
      const Tensors narrow = make_inputs(op(), c, t);
      Tensors wide;
      for (const Tensor& x : narrow) {
        const bool widen = x.defined() && x.dtype() == t;
        wide.push_back(widen ? lay_out(x.to_vector<double>(), {DType::F32, x.shape()}, Layout::Contiguous) : x);
      }
      const Outcome got = run(kKernels, op(), narrow, c.sample.attrs),
                    want = run(kReference, op(), wide, c.sample.attrs);
      ASSERT_EQ(got.out.size(), want.out.size()) << where(op(), c, t) << got.error << want.error;
      for (size_t r = 0; r < got.out.size(); ++r) {
        if (want.out[r].dtype() != DType::F32 || got.out[r].dtype() != t) continue;
        const Tensor rounded = lay_out(want.out[r].to_vector<double>(), {t, want.out[r].shape()}, Layout::Contiguous);
        const double floor = std::holds_alternative<Elementwise>(op().meaning) ? 1 : largest(rounded);
        EXPECT_EQ(difference(got.out[r], rounded, op().tolerance.epsilons * epsilon(t), floor), "")
            << where(op(), c, t, "against f32");
      }
    }
  }
}

// Samples of a size at which kernels are cut into parts for threads.
std::vector<Case> large(const OpDef& op) {
  std::vector<Case> list;
  if (op.samples) return list;
  for (Case c : cases(op)) {
    if (c.sample.inputs[0].shape.size() != 3) continue;
    for (auto& in : c.sample.inputs) {
      if (in.shape.size() != 3) continue;
      in.shape = {in.shape[0], in.shape[1] == 1 ? 1 : 120, in.shape[2] * 160};
    }
    if (c.sample.inputs[0].shape[1] == 1) continue;
    c.number += 100;
    list.push_back(std::move(c));
  }
  return list;
}

TEST_P(Conformance, Switches) {
  struct Switch {
    const char* what;
    exec::SessionOptions options;
  };
  const std::vector<Switch> switches{{"reuse off", {.threads = 1, .reuse = false}},
                                     {"poisoned", {.threads = 1, .poison = true}},
                                     {"2 threads", {.threads = 2}},
                                     {"CPU level 2", {.threads = 1, .cpu_level = 2}},
                                     {"CPU level 3", {.threads = 2, .cpu_level = 3}}};
  auto list = cases(op());
  for (auto& c : large(op())) list.push_back(std::move(c));
  for (const Case& c : list) {
    for (DType t : dtype_choices(op(), c.sample)) {
      if (c.number >= 100 && t != DType::F32 && t != DType::F64 && t != DType::I32 && t != DType::BF16) continue;
      const Outcome want = run(kKernels, op(), make_inputs(op(), c, t), c.sample.attrs);
      for (const Switch& s : switches) {
        if (c.number >= 100 && s.options.threads == 1 && s.options.cpu_level == 4) continue;
        // Inputs that nobody else holds: their buffers may be taken.
        EXPECT_EQ(difference_in_bits(run(s.options, op(), make_inputs(op(), c, t), c.sample.attrs), want), "")
            << where(op(), c, t, s.what);
      }
      const Tensors kept = make_inputs(op(), c, t);
      (void)run({.threads = 1, .poison = true}, op(), kept, c.sample.attrs);
      const Tensors again = make_inputs(op(), c, t);
      for (size_t i = 0; i < kept.size(); ++i)
        EXPECT_EQ(difference_in_bits(kept[i], again[i]), "") << where(op(), c, t, "an input that is held has changed");
    }
  }
}

// ---- graphs ----
TEST_P(Conformance, Types) {
  if (std::holds_alternative<DataDependent>(op().meaning)) GTEST_SKIP() << "types depend on values";
  for (const Case& c : cases(op())) {
    for (DType t : dtype_choices(op(), c.sample)) {
      const Tensors in = make_inputs(op(), c, t);
      const Outcome real = run(kKernels, op(), in, c.sample.attrs);
      const ir::Graph graph = graph_of(op(), in, c.sample.attrs);
      ASSERT_EQ(graph.outputs.size(), real.out.size()) << where(op(), c, t);
      for (size_t r = 0; r < real.out.size(); ++r)
        EXPECT_EQ(to_string(graph.type(graph.outputs[r])), to_string(real.out[r].type()))
            << where(op(), c, t, "inferred against real");
    }
  }
}

// Recorded, printed, parsed, checked and run: the same bits.
TEST_P(Conformance, Captured) {
  if (std::holds_alternative<DataDependent>(op().meaning)) GTEST_SKIP() << "types depend on values";
  for (const Case& c : cases(op())) {
    for (DType t : dtype_choices(op(), c.sample)) {
      const Tensors in = make_inputs(op(), c, t);
      const Outcome want = run(kKernels, op(), in, c.sample.attrs);
      Tensors table;
      const ir::TextOptions options{.table = &table};
      const std::string text = ir::to_text(graph_of(op(), in, c.sample.attrs), catalog(), options);
      try {
        const ir::Graph graph = ir::parse(text, catalog(), table);
        EXPECT_EQ(ir::find_defect(graph, catalog(), type_rule()), "") << where(op(), c, t) << "\n" << text;
        Tensors second;
        EXPECT_EQ(ir::to_text(graph, catalog(), {.table = &second}), text) << where(op(), c, t);
        const exec::SessionScope scope(session_with(kKernels));
        EXPECT_EQ(difference_in_bits(Outcome{exec::run(graph, present(in)), {}}, want), "")
            << where(op(), c, t, "captured") << "\n"
            << text;
      } catch (const std::exception& e) {
        ADD_FAILURE() << where(op(), c, t) << ": " << e.what() << "\n" << text;
      }
    }
  }
}

}  // namespace
}  // namespace tenon::test
