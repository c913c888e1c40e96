// docs/onnx.md: what of ONNX is read and written, from the tables that read and write it.
//
//   onnx_doc RESULTS.json > docs/onnx.md     RESULTS: `tenon conformance onnx DIR --json RESULTS.json`
//   onnx_doc --check docs/onnx.md            ends with 1 if the page is not what the tables say; the results, which
//                                            need the cases, are taken from the page
#include <fmt/format.h>

#include <cstdio>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>

#include "tenon/base/file.h"
#include "tenon/formats/onnx/call.h"
#include "tenon/formats/onnx/export.h"

namespace {

using namespace tenon;
namespace onnx = formats::onnx;

constexpr std::string_view kResults = "## ONNX's own cases\n";

std::string results(const nlohmann::json& json) {
  std::string text = fmt::format("\nOf ONNX's backend test cases {} pass, {} fail and {} are skipped. ",
                                 json["passed"].get<int>(), json["failed"].get<int>(), json["skipped"].get<int>());
  text += fmt::format(
      "Each runs node by node and prepared, with the same bits;\n{} run as programs, the rest have texts, sequences or "
      "optionals, draw numbers at random, or look at values that are inputs.\nThose that do not pass:\n\n",
      json["programs"].get<int>());
  text += "| Case | Outcome | Reason |\n|---|---|---|\n";
  for (const auto& row : json["cases"]) {
    if (row["outcome"] == "passed") continue;
    std::string reason = row["reason"].get<std::string>();
    if (const auto at = reason.find("model.onnx: "); at != std::string::npos) reason = reason.substr(at + 12);
    reason = reason.substr(0, reason.find('\n'));
    for (std::size_t at = 0; (at = reason.find('|', at)) != std::string::npos; at += 2) reason.replace(at, 1, "\\|");
    text +=
        fmt::format("| {} | {} | {} |\n", row["name"].get<std::string>(), row["outcome"].get<std::string>(), reason);
  }
  return text;
}

std::string page(const std::string& results_section) {
  std::string text =
      "# ONNX\n\nMade by `build/release/bin/onnx_doc RESULTS.json > docs/onnx.md`; a test checks that the page is "
      "current.\n\n"
      "## Import\n\n`formats::onnx::Model` reads ai.onnx opsets 6 and later. A run calls Tenon's functions node by "
      "node: on "
      "concrete\ntensors it computes, in a capture it records (`formats::onnx::capture_model`, `tenon convert`), and "
      "gradients "
      "flow to inputs\nand parameters. `formats::onnx::PreparedModel`, which is what `tenon serve` and `tenon run` "
      "use, "
      "makes a program of the captured graph\nfor each kind of inputs, and runs node by node, with the reason, where "
      "there is none.\nThese operators are known:\n";
  std::string_view domain = "?";
  for (const onnx::Rule* rule : onnx::all_rules()) {
    if (rule->domain != domain) {
      domain = rule->domain;
      text += fmt::format("\n### {}\n\n", domain.empty() ? "ai.onnx" : domain);
    } else {
      text += ", ";
    }
    text += fmt::format("{}{}", rule->name, rule->random ? " (random: other numbers than elsewhere)" : "");
  }
  text += fmt::format(
      "\n\nModel-local functions, If, Loop, Scan, sequences and optionals are read too. In a capture an If becomes a "
      "branch of "
      "the\ngraph, Scan and Loop become loops of it. A Loop whose shapes change from step to step is unrolled; its "
      "number "
      "of\nsteps must then follow from shapes or constants, as it must where a Loop gathers rows.\n\n"
      "## Export\n\n`formats::onnx::export_model` writes opsets {} to {}; the newest is the newest that ONNX Runtime "
      "runs. A "
      "composite or\nelementwise op without an operator of its own is written as a function with its body (domain "
      "`tenon`), or as the\none operator that its body is. Named sizes become "
      "dim_params, and "
      "numbers that\nfollow from them are computed in the model.\n\n| Op | ONNX |\n|---|---|\n",
      onnx::kOldestExportOpset, onnx::kNewestExportOpset);
  std::string without =
      "\nThese have no ONNX form; a graph that holds one is refused before anything is written, all of them at "
      "once:\n\n| Op | Reason |\n|---|---|\n";
  for (const auto& row : onnx::export_table()) {
    if (row.reason.empty()) {
      text += fmt::format("| {} | {} |\n", row.op, row.onnx);
    } else {
      without += fmt::format("| {} | {} |\n", row.op, row.reason);
    }
  }
  return text + without + "\n" + std::string(kResults) + results_section;
}

int run(int argc, char** argv) {
  if (argc == 3 && std::string(argv[1]) == "--check") {
    const std::string old = read_text_file(argv[2]);
    const auto at = old.find(kResults);
    const std::string section = at == std::string::npos ? "" : old.substr(at + kResults.size());
    if (old == page(section)) return 0;
    std::fprintf(stderr, "%s is not current: onnx_doc RESULTS.json > docs/onnx.md\n", argv[2]);
    return 1;
  }
  if (argc != 2) {
    std::fprintf(stderr, "usage: onnx_doc RESULTS.json | onnx_doc --check PAGE\n");
    return 2;
  }
  const std::string text = page(results(nlohmann::json::parse(read_text_file(argv[1]))));
  std::fwrite(text.data(), 1, text.size(), stdout);
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  try {
    return run(argc, argv);
  } catch (const std::exception& error) {
    std::fprintf(stderr, "%s\n", error.what());
    return 1;
  }
}
