// Each op in files: as a package and as an ONNX model, back again, the same results.
#include "tenon/formats/onnx/export.h"

#include <algorithm>

#include "support.h"
#include "tenon/base/error.h"
#include "tenon/exec/evaluate.h"
#include "tenon/formats/onnx/model.h"
#include "tenon/package.h"
#include "tests/support/exported_case.h"
#include "tests/support/temp_folder.h"

namespace tenon::test {
namespace {

using namespace ops;

bool in_no_graph(const OpDef& op) { return std::holds_alternative<DataDependent>(op.meaning); }

// Saved, loaded and run: the same bits.
TEST_P(Conformance, Packaged) {
  if (in_no_graph(op())) GTEST_SKIP() << "types depend on values";
  const std::string path = testing_support::temp_folder() + "/" + std::string(op().name) + ".tenon";
  for (const Case& c : cases(op())) {
    const DType t = best_choice(op(), c.sample);
    const Tensors in = make_inputs(op(), c, t);
    const exec::SessionScope scope(session_with(kKernels));
    const ir::Graph graph = graph_of(op(), in, c.sample.attrs);
    save(path, graph);
    EXPECT_EQ(difference_in_bits(Outcome{load(path)(present(in)), {}}, run(kKernels, op(), in, c.sample.attrs)), "")
        << where(op(), c, t, "packaged");
  }
}

// Exported to ONNX, imported and run: the same up to rounding, in the newest opset and in the oldest. An op without a
// form says so before anything is written, and the table says why.
TEST_P(Conformance, Exported) {
  if (in_no_graph(op())) GTEST_SKIP() << "types depend on values";
  for (const Case& c : cases(op())) {
    // f32 where it may be: ONNX's own operators compute in it.
    DType t = best_choice(op(), c.sample);
    for (const DType choice : dtype_choices(op(), c.sample)) t = choice == DType::F32 ? choice : t;
    const Tensors in = make_inputs(op(), c, t);
    // Of nothing: before opset 14 a Reshape cannot say 0, and rows of a loop without steps have no shape.
    const bool nothing =
        std::any_of(in.begin(), in.end(), [](const Tensor& x) { return x.defined() && x.size() == 0; });
    if (nothing) continue;
    const exec::SessionScope scope(session_with(kKernels));
    const ir::Graph graph = graph_of(op(), in, c.sample.attrs);
    const Outcome want = run(kKernels, op(), in, c.sample.attrs);
    for (const int64_t opset : {formats::onnx::kNewestExportOpset, formats::onnx::kOldestExportOpset}) {
      std::string bytes;
      try {
        bytes = formats::onnx::export_bytes(graph, {.opset = opset});
      } catch (const UnsupportedError& error) {
        EXPECT_NE(std::string(error.what()).find("have no form in opset"), std::string::npos) << error.what();
        RecordProperty("unsupported", error.what());
        continue;
      }
      testing_support::keep_exported(
          std::string(op().name) + "_" + std::to_string(c.number) + "_opset" + std::to_string(opset), bytes,
          present(in), want.out);
      const auto model = formats::onnx::Model::parse(bytes, nullptr, "exported.onnx");
      const Outcome got{model(present(in)), {}};
      ASSERT_EQ(got.out.size(), want.out.size());
      for (size_t i = 0; i < want.out.size(); ++i) {
        ASSERT_EQ(to_string(got.out[i].type()), to_string(want.out[i].type())) << where(op(), c, t, "exported");
        EXPECT_EQ(difference(got.out[i], want.out[i], 4e-6, std::max(1.0, largest(want.out[i]))), "")
            << where(op(), c, t, "exported") << " result " << i << ", opset " << opset;
      }
    }
  }
}

}  // namespace
}  // namespace tenon::test
