// The commands' bodies: each takes its arguments and returns the exit code. Errors are thrown.
// To add a command: a row in commands.cpp, a function here, a line in main.cpp. Those that know every format of files
// are in tenon/files, those that need the network in tenon/server.
#pragma once

#include <functional>
#include <string_view>

#include "tenon/cli/arguments.h"
#include "tenon/cli/progress_bar.h"

namespace tenon::cli {

// Where a command writes: results to `out`, everything else to `err`.
struct Console {
  std::function<void(std::string_view)> out;
  std::function<void(std::string_view)> err;
  bool err_is_terminal = false;
  int err_columns = 80;
};

int train_command(const Arguments& arguments, const Console& console);
int eval_command(const Arguments& arguments, const Console& console);
int generate_command(const Arguments& arguments, const Console& console);
int info_command(const Arguments& arguments, const Console& console);  // of runs

}  // namespace tenon::cli
