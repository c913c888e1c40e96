// The bodies of the server program's commands (tenon/cli/subcommands.h says what a body is).
#pragma once

#include "tenon/cli/run.h"

namespace tenon::server {

using cli::Arguments;
using cli::Console;

int serve_command(const Arguments& arguments, const Console& console);
int publish_command(const Arguments& arguments, const Console& console);
int loadtest_command(const Arguments& arguments, const Console& console);

}  // namespace tenon::server
