// The whole command, without its main(): parses the words, does the work, prints, returns the exit code.
//
// There are three programs: `tenon` trains, `tenon-files` knows every format of files, `tenon-server` the network. All
// know the one table of commands, and each has the bodies of its own. A command of another one is started there:
// `tenon serve` becomes `tenon-server serve`.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "tenon/cli/subcommands.h"

namespace tenon::cli {

inline constexpr int exit_done = 0, exit_error = 1, exit_usage = 2, exit_interrupted = 130;

struct Subcommand {
  std::string_view name;
  int (*body)(const Arguments&, const Console&);
  bool (*is_mine)(const Arguments&) = nullptr;  // where the other program does the command for some arguments
};

// Of the first positional: a folder, which is not a published model's; anything but a published model's folder.
[[nodiscard]] bool is_run(const Arguments& arguments);
[[nodiscard]] bool is_no_published_model(const Arguments& arguments);

// `bodies`: the commands that this program has itself, `is_mine` of them.
int run(const std::vector<std::string>& words, const Console& console, std::span<const Subcommand> bodies);

// The words of `tenon serve` as the table has them: TensorFlow Serving's spellings (--rest_api_port, --enable_batching)
// and several --model are accepted.
[[nodiscard]] std::vector<std::string> serve_words(const std::vector<std::string>& words);

// Standard output and standard error of this process.
[[nodiscard]] Console standard_console();

}  // namespace tenon::cli
