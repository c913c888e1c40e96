// The whole command, without its main(): parses the words, does the work, prints, returns the exit code.
#pragma once

#include <string>
#include <vector>

#include "tenon/cli/subcommands.h"

namespace tenon::cli {

inline constexpr int exit_done = 0, exit_error = 1, exit_usage = 2, exit_interrupted = 130;

int run(const std::vector<std::string>& words, const Console& console);

// Standard output and standard error of this process.
[[nodiscard]] Console standard_console();

}  // namespace tenon::cli
