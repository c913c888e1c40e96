// The tables of the commands: every option with its type, default, range and help.
#pragma once

#include <span>

#include "tenon/cli/arguments.h"

namespace tenon::cli {

[[nodiscard]] std::span<const Command> commands();

}  // namespace tenon::cli
