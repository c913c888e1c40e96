#include "tenon/cli/run.h"

#include <fmt/format.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <exception>
#include <filesystem>

#include "tenon/base/error.h"
#include "tenon/cli/commands.h"
#include "tenon/models/pretrained_folder.h"
#include "tenon/train/run_folder.h"

namespace tenon::cli {
namespace {

// The settings of the run that --resume names, so that they stand in for the table's defaults.
train::Config earlier_settings(const std::vector<std::string>& words) {
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (words[i] == "--resume" && i + 1 < words.size()) return open_run(words[i + 1]).config();
    if (words[i].starts_with("--resume=")) return open_run(words[i].substr(9)).config();
  }
  return {};
}

// This process becomes the project's other program, which lies beside this one: same words, same process id, so that
// signals and exit codes are those of the command.
[[noreturn]] void become(const std::string& program, std::vector<std::string> words) {
  std::error_code unknown;
  const auto self = std::filesystem::read_symlink("/proc/self/exe", unknown);
  const std::string path = unknown ? program : (self.parent_path() / program).string();
  words.insert(words.begin(), path);
  std::vector<char*> argv;
  for (auto& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  ::execv(path.c_str(), argv.data());
  const int reason = errno;
  std::string target = program == "tenon" ? "tenon_cli" : program;
  std::replace(target.begin(), target.end(), '-', '_');
  throw FileError({.where = "tenon " + words[1],
                   .problem = fmt::format("cannot start {}: {}", path, std::strerror(reason)),
                   .expected = fmt::format("the program {} beside this one", program),
                   .got = {},
                   .hint = "in a build folder: cmake --build build/release --target " + target});
}

int dispatch(const std::vector<std::string>& words, const Console& console, std::span<const Subcommand> bodies) {
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
  for (const auto& subcommand : bodies)
    if (subcommand.name == command.name && (subcommand.is_mine == nullptr || subcommand.is_mine(arguments)))
      return subcommand.body(arguments, console);
  become(command.program, words);
}

void write_all(std::FILE* file, std::string_view text) {
  std::fwrite(text.data(), 1, text.size(), file);
  std::fflush(file);
}

}  // namespace

bool is_no_published_model(const Arguments& arguments) {
  return !models::is_pretrained_folder(arguments.positionals.at(0));
}

bool is_run(const Arguments& arguments) {
  return std::filesystem::is_directory(arguments.positionals.at(0)) && is_no_published_model(arguments);
}

int run(const std::vector<std::string>& words, const Console& console, std::span<const Subcommand> bodies) {
  try {
    return dispatch(words, console, bodies);
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
