// The command line's arguments: a table says what a command takes; parsing, defaults, checks and --help follow.
//
// An option is --name VALUE or --name=VALUE, or --name alone for a flag. A command may have variants, chosen by
// the value of one option (--task), each with options of its own; the same name may then have other defaults.
// To add an option: one row in commands.cpp. Mistakes throw UsageError, which names the nearest right thing.
#pragma once

#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "tenon/base/error.h"
#include "tenon/train/config.h"

namespace tenon::cli {

// The command line is wrong: exit code 2.
struct UsageError final : Error {
  using Error::Error;
};

enum class OptionKind { text, choice, integer, real, flag };

struct Option {
  std::string name;
  OptionKind kind = OptionKind::text;
  std::string value_name;  // how --help calls the value: N, DIR
  std::string help;
  std::vector<train::ConfigValue> fallback{};  // the default; empty: the option may stay absent
  std::vector<std::string> choices{};          // choice only
  double low = -std::numeric_limits<double>::infinity();
  double high = std::numeric_limits<double>::infinity();
  bool repeated = false;  // text only: may stand several times; see Arguments::all
};

struct Positional {
  std::string name;
  std::string help;
};

struct Variant {
  std::string value;  // of the selecting option
  std::vector<Option> options;
};

struct Command {
  std::string name;
  std::string summary;
  std::vector<Positional> positionals{};  // all required
  std::vector<Option> options{};
  std::string selector{};  // the option that chooses a variant
  std::vector<Variant> variants{};
  std::vector<std::string> examples{};
  std::string program = "tenon";  // which has the body where this program does not
};

// What was given, with the defaults filled in.
struct Arguments {
  bool help = false;  // --help was there; nothing else is filled in
  std::vector<std::string> positionals;
  train::Config values;            // in the order of the table
  std::vector<std::string> given;  // names of the options that the user wrote

  [[nodiscard]] bool has(std::string_view name) const { return values.find(name) != nullptr; }
  std::vector<std::pair<std::string, std::string>> lists;  // values of repeated options, in order

  // The values of a repeated option.
  [[nodiscard]] std::vector<std::string> all(std::string_view name) const;
  [[nodiscard]] bool was_given(std::string_view name) const;
  template <typename T>
  [[nodiscard]] T get(std::string_view name) const {
    return values.get<T>(name);
  }
};

// `earlier` stands in for the table's defaults where it has an entry: the settings of a run to resume.
[[nodiscard]] Arguments parse_arguments(const Command& command, std::span<const std::string> words,
                                        const train::Config& earlier = {});

// Numbers of settings that were read from a file: FormatError naming the file for one that its option would refuse.
void check_settings(const Command& command, const train::Config& settings, const std::string& file);

[[nodiscard]] const Command& find_command(std::span<const Command> commands, const std::string& name);

[[nodiscard]] std::string help_for(const Command& command);
[[nodiscard]] std::string help_for(std::span<const Command> commands);

}  // namespace tenon::cli
