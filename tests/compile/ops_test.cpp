// Every op of the table, compiled: the same bits (or the same error) as an eager run.
#include "../conformance/support.h"
#include "tenon/base/error.h"
#include "tenon/compile/engine.h"
#include "tenon/ops/call.h"

namespace tenon::test {
namespace {

Outcome run_compiled(compiler::Engine& engine, const ops::OpDef& op, Tensors in, const ir::Attrs& attrs) {
  const exec::SessionScope scope(session_with(kKernels));
  Outcome outcome;
  try {
    compiler::Recording recording(engine);
    outcome.out = ops::call(op, std::move(in), attrs);
    recording.finish();
  } catch (const Error& e) {
    outcome.out.clear();
    outcome.error = e.what();
  }
  return outcome;
}

void compare(const ops::OpDef& op, compiler::Engine& engine, const Case& c, DType t, Layout layout) {
  const Outcome want = run(kKernels, op, make_inputs(op, c, t, layout), c.sample.attrs);
  for (int time = 0; time < 2; ++time) {
    const Outcome got = run_compiled(engine, op, make_inputs(op, c, t, layout), c.sample.attrs);
    ASSERT_EQ(difference_in_bits(got, want), "") << where(op, c, t, name(layout)) << to_string(engine.explain());
  }
}

TEST_P(Conformance, CompiledByInterpreter) {
  if (op().random) GTEST_SKIP() << "random without a key";
  for (const Case& c : cases(op())) {
    for (DType t : dtype_choices(op(), c.sample)) {
      compiler::Engine engine({.interpret = true, .verify = true, .keep_text = true});
      for (Layout layout : {Layout::Contiguous, Layout::Transposed, Layout::Strided, Layout::Reversed})
        compare(op(), engine, c, t, layout);
    }
  }
}

TEST_P(Conformance, CompiledByLlvm) {
  if (op().random) GTEST_SKIP() << "random without a key";
  compiler::Engine engine({.verify = true, .keep_text = true, .most_programs = 100000});
  for (const Case& c : cases(op())) {
    for (DType t : dtype_choices(op(), c.sample)) compare(op(), engine, c, t, Layout::Contiguous);
    compare(op(), engine, c, best_choice(op(), c.sample), Layout::Reversed);
  }
}

}  // namespace
}  // namespace tenon::test
