#include "tenon/cli/arguments.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <iterator>
#include <optional>

#include "tenon/base/error.h"
#include "tenon/base/nearest.h"

namespace tenon::cli {
namespace {

using train::Config;
using train::ConfigValue;
using train::to_text;

std::string nearest(std::string_view word, const std::vector<std::string>& candidates) {
  // A beginning of a name counts as near: --task image.
  for (const auto& candidate : candidates)
    if (!word.empty() && candidate.starts_with(word)) return candidate;
  const std::vector<std::string_view> views(candidates.begin(), candidates.end());
  return std::string(nearest_name(word, views));
}

std::string where(const Command& command) { return "tenon " + command.name; }

std::string quoted_list(const std::vector<std::string>& words) { return fmt::format("{}", fmt::join(words, ", ")); }

std::string range_text(const Option& option) {
  std::string kind = option.kind == OptionKind::integer ? "an integer" : "a number";
  if (std::isfinite(option.low) && std::isfinite(option.high))
    return fmt::format("{} from {} to {}", kind, option.low, option.high);
  if (std::isfinite(option.low)) return fmt::format("{} of at least {}", kind, option.low);
  return kind;
}

template <typename Number>
std::optional<Number> parse_number(std::string_view text) {
  Number value{};
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return {};
  return value;
}

ConfigValue parse_value(const Command& command, const Option& option, const std::string& text) {
  const std::string place = where(command) + " --" + option.name;
  const auto check = [&](double value) {
    if (!(value >= option.low && value <= option.high))
      throw UsageError({.where = place, .problem = "out of range", .expected = range_text(option), .got = text});
  };
  switch (option.kind) {
    case OptionKind::integer: {
      const auto value = parse_number<std::int64_t>(text);
      if (!value)
        throw UsageError(
            {.where = place, .problem = "not an integer", .expected = range_text(option), .got = "\"" + text + "\""});
      check(static_cast<double>(*value));
      return *value;
    }
    case OptionKind::real: {
      const auto value = parse_number<double>(text);
      if (!value || !std::isfinite(*value))
        throw UsageError(
            {.where = place, .problem = "not a number", .expected = range_text(option), .got = "\"" + text + "\""});
      check(*value);
      return *value;
    }
    case OptionKind::choice: {
      if (std::find(option.choices.begin(), option.choices.end(), text) != option.choices.end()) return text;
      const auto near = nearest(text, option.choices);
      throw UsageError({.where = place,
                        .problem = "unknown value",
                        .expected = quoted_list(option.choices),
                        .got = "\"" + text + "\"",
                        .hint = near.empty() ? "" : fmt::format("--{} {}", option.name, near)});
    }
    case OptionKind::text:
      // Only a text to write on may be empty; paths and names may not.
      if (text.empty() && option.value_name != "TEXT")
        throw UsageError({.where = place,
                          .problem = "the value is empty",
                          .hint = fmt::format("--{} {}", option.name, option.value_name)});
      break;
    case OptionKind::flag:
      break;
  }
  return text;
}

const Option* find_option(std::span<const Option> options, std::string_view name) {
  const auto found = std::find_if(options.begin(), options.end(), [&](const Option& o) { return o.name == name; });
  return found == options.end() ? nullptr : &*found;
}

// The value that the words give to the selecting option, looked up before the others are understood.
std::optional<std::string> selected(const Command& command, std::span<const std::string> words, const Config& earlier) {
  if (command.selector.empty()) return {};
  const std::string option = "--" + command.selector;
  for (std::size_t i = 0; i < words.size(); ++i) {
    if (words[i] == option && i + 1 < words.size()) return words[i + 1];
    if (words[i].starts_with(option + "=")) return words[i].substr(option.size() + 1);
  }
  if (const auto* value = earlier.find(command.selector)) return to_text(*value);
  return {};
}

// The options that hold for these words: the common ones and those of the chosen variant.
std::vector<Option> options_for(const Command& command, const std::optional<std::string>& choice) {
  std::vector<Option> options = command.options;
  for (const auto& variant : command.variants)
    if (choice == variant.value) options.insert(options.end(), variant.options.begin(), variant.options.end());
  return options;
}

[[noreturn]] void unknown_option(const Command& command, const std::vector<Option>& options, const std::string& name,
                                 const std::optional<std::string>& choice) {
  for (const auto& variant : command.variants)
    if (find_option(variant.options, name) != nullptr)
      throw UsageError(
          {.where = where(command),
           .problem = choice ? fmt::format("--{} is not an option of --{} {}", name, command.selector, *choice)
                             : fmt::format("--{} needs --{} first", name, command.selector),
           .hint = fmt::format("--{} {}", command.selector, variant.value)});
  std::vector<std::string> names;
  for (const auto& option : options) names.push_back(option.name);
  const auto near = nearest(name, names);
  throw UsageError({.where = where(command),
                    .problem = fmt::format("unknown option --{}", name),
                    .hint = near.empty() ? fmt::format("tenon {} --help", command.name) : "--" + near});
}

}  // namespace

bool Arguments::was_given(std::string_view name) const {
  return std::find(given.begin(), given.end(), name) != given.end();
}

std::vector<std::string> Arguments::all(std::string_view name) const {
  std::vector<std::string> values;
  for (const auto& [option, value] : lists) {
    if (option == name) values.push_back(value);
  }
  return values;
}

Arguments parse_arguments(const Command& command, std::span<const std::string> words, const Config& earlier) {
  Arguments out;
  if (std::any_of(words.begin(), words.end(), [](const auto& w) { return w == "--help" || w == "-h"; })) {
    out.help = true;
    return out;
  }
  const auto choice = selected(command, words, earlier);
  const auto options = options_for(command, choice);
  Config read;
  for (std::size_t i = 0; i < words.size(); ++i) {
    const std::string& word = words[i];
    if (!word.starts_with("--")) {
      if (word.size() > 1 && word[0] == '-' && std::isdigit(static_cast<unsigned char>(word[1])) == 0)
        throw UsageError({.where = where(command),
                          .problem = fmt::format("unknown option {}", word),
                          .hint = fmt::format("tenon {} --help", command.name)});
      out.positionals.push_back(word);
      continue;
    }
    const auto equals = word.find('=');
    const std::string name = word.substr(2, equals == std::string::npos ? std::string::npos : equals - 2);
    const Option* option = find_option(options, name);
    if (option == nullptr) unknown_option(command, options, name, choice);
    if (out.was_given(name) && !option->repeated)
      throw UsageError({.where = where(command), .problem = fmt::format("--{} is given twice", name)});
    out.given.push_back(name);
    if (option->kind == OptionKind::flag) {
      if (equals != std::string::npos)
        throw UsageError({.where = where(command), .problem = fmt::format("--{} takes no value", name)});
      read.set(name, true);
      continue;
    }
    if (equals == std::string::npos && i + 1 == words.size())
      throw UsageError({.where = where(command),
                        .problem = fmt::format("--{} needs a value", name),
                        .hint = fmt::format("--{} {}", name, option->value_name)});
    const std::string value = equals == std::string::npos ? words[++i] : word.substr(equals + 1);
    if (option->repeated) {
      out.lists.emplace_back(name, value);
    } else {
      read.set(name, parse_value(command, *option, value));
    }
  }
  for (const auto& option : options) {
    if (const auto* value = read.find(option.name))
      out.values.set(option.name, *value);
    else if (const auto* before = earlier.find(option.name))
      out.values.set(option.name, *before);
    else if (!option.fallback.empty())
      out.values.set(option.name, option.fallback.front());
    else if (option.kind == OptionKind::flag)
      out.values.set(option.name, false);
  }
  if (out.positionals.size() > command.positionals.size())
    throw UsageError({.where = where(command),
                      .problem = "a word too many",
                      .got = "\"" + out.positionals[command.positionals.size()] + "\""});
  if (out.positionals.size() < command.positionals.size()) {
    const auto& missing = command.positionals[out.positionals.size()];
    throw UsageError({.where = where(command),
                      .problem = fmt::format("{} is missing ({})", missing.name, missing.help),
                      .hint = fmt::format("tenon {} {}", command.name, missing.name)});
  }
  return out;
}

void check_settings(const Command& command, const Config& settings, const std::string& file) {
  const auto* choice = settings.find(command.selector);
  for (const auto& option : options_for(command, choice ? std::optional(to_text(*choice)) : std::nullopt)) {
    const auto* value = settings.find(option.name);
    if (value == nullptr) continue;
    const auto* whole = std::get_if<std::int64_t>(value);
    const auto* real = std::get_if<double>(value);
    if (whole == nullptr && real == nullptr) continue;
    const double number = whole != nullptr ? static_cast<double>(*whole) : *real;
    if (!(number >= option.low && number <= option.high))
      throw FormatError({.where = file,
                         .problem = fmt::format("\"{}\" is out of range", option.name),
                         .expected = range_text(option),
                         .got = to_text(*value)});
  }
}

const Command& find_command(std::span<const Command> commands, const std::string& name) {
  std::vector<std::string> names;
  for (const auto& command : commands) {
    if (command.name == name) return command;
    names.push_back(command.name);
  }
  const auto near = nearest(name, names);
  throw UsageError({.where = "tenon",
                    .problem = fmt::format("unknown command \"{}\"", name),
                    .expected = quoted_list(names),
                    .hint = near.empty() ? "tenon --help" : "tenon " + near});
}

namespace {

// Breaks text into lines of at most `width` characters; the first line begins at column `indent` already.
std::string wrapped(std::string_view text, std::size_t indent, std::size_t width) {
  std::string out;
  std::size_t column = indent;
  while (!text.empty()) {
    const auto end = std::min(text.find(' '), text.size());
    if (column > indent && column + 1 + end > width) {
      out += "\n" + std::string(indent, ' ');
      column = indent;
    } else if (column > indent) {
      out += ' ';
      ++column;
    }
    out += text.substr(0, end);
    column += end;
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return out;
}

std::string default_text(const Option& option) {
  std::string text = to_text(option.fallback.front());
  for (auto at = text.find('\n'); at != std::string::npos; at = text.find('\n')) text.replace(at, 1, "\\n");
  return text;
}

void describe(std::string& out, std::span<const Option> options) {
  constexpr std::size_t column = 24;
  for (const auto& option : options) {
    std::string left = fmt::format("  --{}{}{}", option.name, option.value_name.empty() ? "" : " ", option.value_name);
    left += left.size() + 2 > column ? "\n" + std::string(column, ' ') : std::string(column - left.size(), ' ');
    std::string text = option.help;
    if (!option.choices.empty()) text += ": " + quoted_list(option.choices);
    if (!option.fallback.empty()) text += fmt::format(" (default {})", default_text(option));
    out += left + wrapped(text, column, 100) + "\n";
  }
}

}  // namespace

std::string help_for(const Command& command) {
  std::string out = fmt::format("tenon {}: {}\n\nUsage: tenon {}", command.name, command.summary, command.name);
  for (const auto& positional : command.positionals) out += " " + positional.name;
  out += " [options]\n\n";
  for (const auto& positional : command.positionals)
    out += fmt::format("  {:<22}{}\n", positional.name, wrapped(positional.help, 24, 100));
  describe(out, command.options);
  out += "  --help                show this text\n";
  for (const auto& variant : command.variants) {
    out += fmt::format("\nWith --{} {}:\n", command.selector, variant.value);
    describe(out, variant.options);
  }
  if (!command.examples.empty()) out += "\nExamples:\n";
  for (const auto& example : command.examples) out += "  " + example + "\n";
  return out;
}

std::string help_for(std::span<const Command> commands) {
  std::string out = "tenon: train models, look at runs, generate text\n\nUsage: tenon COMMAND [options]\n\n";
  for (const auto& command : commands) out += fmt::format("  {:<12}{}\n", command.name, command.summary);
  return out +
         "\n`tenon COMMAND --help` lists a command's options.\n"
         "Exit codes: 0 done, 1 an error, 2 a wrong command line, 130 interrupted (a checkpoint was saved).\n";
}

}  // namespace tenon::cli
