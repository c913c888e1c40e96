// The tables of the commands: every option with its type, default, range and help.
#pragma once

#include <span>

#include "tenon/cli/arguments.h"
#include "tenon/train/run_folder.h"

namespace tenon::cli {

[[nodiscard]] std::span<const Command> commands();
// A run's folder whose settings are such as `train` takes. Errors: FileError, FormatError that names config.json.
[[nodiscard]] train::RunFolder open_run(const std::string& path);

}  // namespace tenon::cli
