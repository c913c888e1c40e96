// tenon info RUN: what a run folder holds.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "tenon/cli/run.h"
#include "tenon/cli/subcommands.h"
#include "tenon/formats/safetensors.h"
#include "tenon/train/run_folder.h"

namespace tenon::cli {
namespace {

std::string row_table(const std::vector<train::MetricsRow>& rows) {
  constexpr std::size_t limit = 10;
  std::string out;
  if (rows.size() > limit) out += fmt::format("  ... {} earlier rows\n", rows.size() - limit);
  for (std::size_t i = rows.size() > limit ? rows.size() - limit : 0; i < rows.size(); ++i)
    out += "  " + row_text(rows[i]) + "\n";
  return out;
}

std::string weight_table(const formats::SafeTensors& file) {
  std::size_t widest = 8;
  for (const auto& [name, tensor] : file.tensors) widest = std::max(widest, name.size());
  std::string out;
  for (const auto& [name, tensor] : file.tensors)
    out += fmt::format("  {:<{}}  {}\n", name, widest, to_string(tensor.type()));
  return out;
}

}  // namespace

int info_command(const Arguments& arguments, const Console& console) {
  const auto run = train::RunFolder::open(arguments.positionals.at(0));
  std::string out = fmt::format("run {}\n\nsettings\n", run.path());
  for (const auto& [name, value] : run.config().entries())
    out += fmt::format("  {:<16}{}\n", name, train::to_text(value));

  if (std::filesystem::exists(run.model_path())) {
    const auto file = formats::load_safetensors(run.model_path());
    std::int64_t elements = 0;
    for (const auto& [name, tensor] : file.tensors) elements += tensor.size();
    out += fmt::format("\nweights: {} tensors, {} elements\n{}", file.tensors.size(), elements, weight_table(file));
  } else {
    out += "\nweights: none yet\n";
  }

  out += fmt::format("\nmetrics: {} rows\n{}", run.rows().size(), row_table(run.rows()));
  const train::MetricsRow* best = nullptr;
  for (const auto& row : run.rows())
    if (row.val_loss && std::isfinite(*row.val_loss) && (best == nullptr || *row.val_loss < *best->val_loss))
      best = &row;
  if (best != nullptr) out += "best\n  " + row_text(*best) + "\n";
  if (run.has_checkpoint()) out += fmt::format("\ngo on with: tenon train --resume {}\n", run.path());
  console.out(out);
  return 0;
}

}  // namespace tenon::cli
