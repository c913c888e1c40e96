// The bodies of the commands that know every format of files (tenon/cli/subcommands.h says what a body is).
#pragma once

#include "tenon/cli/run.h"

namespace tenon::files {

using cli::Arguments;
using cli::Console;
using cli::exit_done;
using cli::exit_error;
using cli::UsageError;

int info_command(const Arguments& arguments, const Console& console);      // of files and published models
int generate_command(const Arguments& arguments, const Console& console);  // with a published language model
int convert_command(const Arguments& arguments, const Console& console);
int run_command(const Arguments& arguments, const Console& console);
int diff_command(const Arguments& arguments, const Console& console);
int conformance_command(const Arguments& arguments, const Console& console);

}  // namespace tenon::files
