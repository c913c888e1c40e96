#include "tenon/cli/run.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cstdio>
#include <exception>

#include "tenon/cli/commands.h"
#include "tenon/train/run_folder.h"

namespace tenon::cli {
namespace {

struct Subcommand {
  std::string_view name;
  int (*body)(const Arguments&, const Console&);
};
constexpr Subcommand subcommands[] = {{"train", train_command},
                                      {"eval", eval_command},
                                      {"generate", generate_command},
                                      {"info", info_command},
                                      {"convert", convert_command},
                                      {"run", run_command},
                                      {"diff", diff_command},
                                      {"serve", serve_command},
                                      {"publish", publish_command},
                                      {"loadtest", loadtest_command},
                                      {"conformance", conformance_command}};

// The settings of the run that --resume names, so that they stand in for the table's defaults.
train::Config earlier_settings(const std::vector<std::string>& words) {
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (words[i] == "--resume" && i + 1 < words.size()) return train::RunFolder::open(words[i + 1]).config();
    if (words[i].starts_with("--resume=")) return train::RunFolder::open(words[i].substr(9)).config();
  }
  return {};
}

int dispatch(const std::vector<std::string>& words, const Console& console) {
  if (words.empty()) {
    console.err(help_for(commands()));
    return exit_usage;
  }
  if (words[0] == "--help" || words[0] == "-h" || words[0] == "help") {
    console.out(words.size() > 1 && words[0] == "help" ? help_for(find_command(commands(), words[1]))
                                                       : help_for(commands()));
    return exit_done;
  }
  if (words[0] == "--version") {
    console.out("tenon " TENON_VERSION "\n");
    return exit_done;
  }
  const Command& command = find_command(commands(), words[0]);
  std::vector<std::string> rest(words.begin() + 1, words.end());
  if (command.name == "serve") rest = serve_words(rest);
  const Arguments arguments =
      parse_arguments(command, rest, command.name == "train" ? earlier_settings(rest) : train::Config());
  if (arguments.help) {
    console.out(help_for(command));
    return exit_done;
  }
  for (const auto& subcommand : subcommands)
    if (subcommand.name == command.name) return subcommand.body(arguments, console);
  throw InternalError("no body for the command " + command.name);
}

void write_all(std::FILE* file, std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), file);
  std::fflush(file);
}

}  // namespace

int run(const std::vector<std::string>& words, const Console& console) {
  try {
    return dispatch(words, console);
  } catch (const UsageError& error) {
    console.err(fmt::format("{}\n", error.what()));
    return exit_usage;
  } catch (const Error& error) {
    console.err(fmt::format("error: {}\n", error.what()));
    return exit_error;
  } catch (const std::bad_alloc&) {
    console.err("error: out of memory\n");
    return exit_error;
  } catch (const std::exception& error) {
    console.err(fmt::format("{}\n", error.what()));
    return exit_error;
  }
}

Console standard_console() {
  Console console{.out = [](std::string_view text) { write_all(stdout, text); },
                  .err = [](std::string_view text) { write_all(stderr, text); }};
  console.err_is_terminal = ::isatty(STDERR_FILENO) != 0;
  winsize size{};
  if (::ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0) console.err_columns = size.ws_col;
  return console;
}

}  // namespace tenon::cli
