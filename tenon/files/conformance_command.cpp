// tenon conformance onnx DIR: ONNX's own test cases.
#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include "tenon/base/file.h"
#include "tenon/files/commands.h"
#include "tenon/formats/onnx/backend_test.h"

namespace tenon::files {

int conformance_command(const Arguments& arguments, const Console& console) {
  using Outcome = formats::onnx::CaseResult::Outcome;
  if (arguments.positionals.at(0) != "onnx")
    throw UsageError({"conformance", "no such set of cases", "onnx", arguments.positionals.at(0), {}});
  const auto text_of = [](Outcome outcome) {
    return outcome == Outcome::Passed ? "passed" : outcome == Outcome::Failed ? "failed" : "skipped";
  };
  int passed = 0, failed = 0, skipped = 0, programs = 0;
  nlohmann::json rows = nlohmann::json::array();
  formats::onnx::run_backend_tests(arguments.positionals.at(1), [&](const formats::onnx::CaseResult& result) {
    ++(result.outcome == Outcome::Passed ? passed : result.outcome == Outcome::Failed ? failed : skipped);
    console.out(fmt::format("{:<8}{}{}{}\n", text_of(result.outcome), result.name, result.reason.empty() ? "" : ": ",
                            result.reason));
    rows.push_back({{"name", result.name}, {"outcome", text_of(result.outcome)}, {"reason", result.reason}});
    programs += result.program ? 1 : 0;
    if (!result.node_reason.empty()) rows.back()["node_by_node"] = result.node_reason;
  });
  console.out(fmt::format("{} passed, {} failed, {} skipped\n", passed, failed, skipped));
  if (arguments.has("json")) {
    const nlohmann::json document{
        {"passed", passed}, {"failed", failed}, {"skipped", skipped}, {"programs", programs}, {"cases", rows}};
    write_file_atomic(arguments.get<std::string>("json"),
                      document.dump(2, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
  }
  return failed == 0 ? exit_done : exit_error;
}

}  // namespace tenon::files
