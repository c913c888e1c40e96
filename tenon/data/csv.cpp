#include "tenon/data/csv.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <limits>
#include <optional>
#include <set>

#include "tenon/base/error.h"
#include "tenon/base/file.h"
#include "tenon/base/nearest.h"
#include "tenon/data/byte_reader.h"
#include "tenon/data/utf8.h"

namespace tenon::data {
namespace {

struct Field {
  std::string text;
  bool quoted = false;
};

struct Record {
  std::vector<Field> fields;
  std::size_t offset = 0;
  std::int64_t line = 0;
};

// Splits the text into records, one at a time.
class Scanner {
 public:
  Scanner(std::string_view text, std::string_view where, const CsvOptions& options)
      : text_(text), where_(where), options_(options) {}

  // False at the end of the text.
  bool next(Record& record) {
    skip_empty_lines();
    if (at_ == text_.size()) return false;
    record.fields.clear();
    record.offset = at_;
    record.line = line_;
    while (true) {
      record.fields.push_back(field());
      if (at_ == text_.size()) return true;
      if (text_[at_] != options_.delimiter) break;
      ++at_;
    }
    end_line();
    return true;
  }

  [[noreturn]] void fail(std::size_t offset, std::int64_t line, std::string_view problem, std::string expected,
                         std::string got, std::string hint = {}) const {
    throw_format_error(where_, offset, fmt::format("line {}: {}", line, problem), std::move(expected), std::move(got),
                       std::move(hint));
  }

 private:
  [[nodiscard]] bool at_line_end() const { return at_ == text_.size() || text_[at_] == '\n' || text_[at_] == '\r'; }

  void end_line() {
    if (at_ < text_.size() && text_[at_] == '\r') ++at_;
    if (at_ < text_.size() && text_[at_] == '\n') ++at_;
    ++line_;
  }

  void skip_empty_lines() {
    while (at_ < text_.size()) {
      if (options_.comment != '\0' && text_[at_] == options_.comment) {
        while (!at_line_end()) ++at_;
      } else if (!at_line_end()) {
        return;
      }
      if (at_ < text_.size()) end_line();
    }
  }

  void skip_spaces() {
    while (options_.trim && at_ < text_.size() && text_[at_] == ' ' && options_.delimiter != ' ') ++at_;
  }

  Field field() {
    skip_spaces();
    if (at_ < text_.size() && text_[at_] == '"') return quoted_field();
    const std::size_t start = at_;
    while (!at_line_end() && text_[at_] != options_.delimiter) {
      if (text_[at_] == '"') {
        fail(at_, line_, "a quote inside an unquoted field", "the whole field in quotes, with \"\" for each quote",
             fmt::format("'{}'", text_.substr(start, std::min<std::size_t>(at_ - start + 1, 30))));
      }
      ++at_;
    }
    std::size_t end = at_;
    while (options_.trim && end > start && text_[end - 1] == ' ') --end;
    return {std::string(text_.substr(start, end - start)), false};
  }

  Field quoted_field() {
    const std::size_t start = at_++;
    const std::int64_t start_line = line_;
    Field result{"", true};
    while (true) {
      const std::size_t quote = text_.find('"', at_);
      if (quote == std::string_view::npos) {
        fail(start, start_line, "a quoted field does not end", "a closing quote", "the end of the file");
      }
      const auto part = text_.substr(at_, quote - at_);
      line_ += std::ranges::count(part, '\n');
      result.text += part;
      at_ = quote + 1;
      if (at_ == text_.size() || text_[at_] != '"') break;
      result.text += '"';
      ++at_;
    }
    skip_spaces();
    if (!at_line_end() && text_[at_] != options_.delimiter) {
      fail(at_, line_, "text follows a closing quote", fmt::format("'{}' or the end of the line", options_.delimiter),
           fmt::format("'{}'", text_.substr(at_, 10)), "double the quotes inside a quoted field");
    }
    return result;
  }

  std::string_view text_;
  std::string_view where_;
  const CsvOptions& options_;
  std::size_t at_ = 0;
  std::int64_t line_ = 1;
};

std::optional<double> parse_number(std::string_view text) {
  if (text.starts_with('+') && !text.starts_with("+-")) text.remove_prefix(1);
  double value = 0;
  const auto [end, code] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (end != text.data() + text.size() || text.empty()) return std::nullopt;
  if (code == std::errc::result_out_of_range) {  // from_chars leaves the value alone; strtod rounds to 0 or infinity
    return std::strtod(std::string(text).c_str(), nullptr);
  }
  return code == std::errc() ? std::optional(value) : std::nullopt;
}

// Collects one column; it turns from numbers to texts at the first present value that is no number.
class ColumnBuilder {
 public:
  explicit ColumnBuilder(std::string name) { column_.name = std::move(name); }

  void add(Field&& field, const std::vector<std::string>& missing_words) {
    const bool missing = !field.quoted && std::ranges::find(missing_words, field.text) != missing_words.end();
    column_.missing.push_back(missing);
    if (column_.kind == CsvKind::Numeric) {
      const auto number = missing ? std::numeric_limits<double>::quiet_NaN() : parse_number(field.text);
      if (number) {
        column_.numbers.push_back(*number);
      } else {
        column_.kind = CsvKind::Text;
        column_.numbers = {};
      }
    }
    // The texts are kept until the last row has been seen: only then is the kind certain.
    column_.texts.push_back(missing ? std::string() : std::move(field.text));
  }

  CsvColumn finish() && {
    if (column_.kind == CsvKind::Numeric) column_.texts = {};
    return std::move(column_);
  }

 private:
  CsvColumn column_;
};

std::vector<std::string> column_names(Scanner& scanner, const CsvOptions& options, std::string_view where,
                                      Record& first) {
  std::vector<std::string> names = options.names;
  if (names.empty()) {
    for (std::size_t i = 0; i < first.fields.size(); ++i) {
      names.push_back(options.header ? first.fields[i].text : fmt::format("column_{}", i));
    }
  } else if (names.size() != first.fields.size()) {
    scanner.fail(first.offset, first.line, "another number of fields than CsvOptions::names",
                 fmt::format("{} fields", names.size()), fmt::format("{} fields", first.fields.size()));
  }
  std::set<std::string_view> seen;
  for (const std::string& name : names) {
    if (!seen.insert(name).second) {
      throw FormatError({std::string(where), "two columns have the same name", "names that differ",
                         fmt::format("'{}' twice", name), "set CsvOptions::names"});
    }
  }
  return names;
}

}  // namespace

std::int64_t CsvColumn::missing_count() const { return std::ranges::count(missing, true); }

const CsvColumn& CsvTable::column(std::string_view name) const {
  std::vector<std::string_view> names;
  for (const CsvColumn& column : columns) {
    if (column.name == name) return column;
    names.emplace_back(column.name);
  }
  const std::string_view nearest = nearest_name(name, names);
  throw IndexError({"CsvTable::column", "no such column", fmt::format("one of {}", fmt::join(names, ", ")),
                    fmt::format("'{}'", name), nearest.empty() ? "" : fmt::format("column(\"{}\")", nearest)});
}

CsvTable parse_csv(std::string_view text, std::string_view where, const CsvOptions& options) {
  require_utf8(text, where);
  if (text.starts_with("\xEF\xBB\xBF")) text.remove_prefix(3);
  Scanner scanner(text, where, options);
  Record record;
  if (!scanner.next(record)) {
    throw FormatError({std::string(where), "the file has no records", options.header ? "a header line" : "a record",
                       "an empty file", ""});
  }
  std::vector<ColumnBuilder> builders;
  for (std::string& name : column_names(scanner, options, where, record)) builders.emplace_back(std::move(name));

  CsvTable table;
  bool more = options.header ? scanner.next(record) : true;
  for (; more; more = scanner.next(record)) {
    if (record.fields.size() != builders.size()) {
      scanner.fail(record.offset, record.line, "another number of fields than the first record",
                   fmt::format("{} fields", builders.size()), fmt::format("{} fields", record.fields.size()),
                   "put fields that contain the delimiter in quotes");
    }
    for (std::size_t i = 0; i < builders.size(); ++i) builders[i].add(std::move(record.fields[i]), options.missing);
    ++table.rows;
  }
  for (ColumnBuilder& builder : builders) table.columns.push_back(std::move(builder).finish());
  return table;
}

CsvTable read_csv(const std::filesystem::path& path, const CsvOptions& options) {
  return parse_csv(read_text_file(path), path.string(), options);
}

}  // namespace tenon::data
