// ONNX's own test cases: folders with model.onnx and test_data_set_N/{input_i.pb, output_i.pb}
// (https://onnx.ai/onnx/repo-docs/OnnxBackendTest.html).
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace tenon::formats::onnx {

struct CaseResult {
  std::string name;  // the folder, relative to where the search began
  enum class Outcome : uint8_t { Passed, Failed, Skipped } outcome = Outcome::Passed;
  std::string reason;         // why not passed
  bool program = false;       // it ran as a program too, with the same bits as node by node
  std::string node_reason{};  // why not (prepared_model.h)
};

// Every folder below `root` that holds a model.onnx with test data, in the order of their names. Values agree within
// the tolerances of the ONNX backend, 1e-3 relative and 1e-7 absolute, without an exception. Outputs of random
// operators are compared in type, shape, mean and deviation. A case is skipped if the model uses what is not supported.
// Each model runs node by node and prepared, and both must give the same bits. `each` sees each result as it comes.
std::vector<CaseResult> run_backend_tests(const std::filesystem::path& root,
                                          const std::function<void(const CaseResult&)>& each = {});

}  // namespace tenon::formats::onnx
