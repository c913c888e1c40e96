// CSV as RFC 4180 has it: a header, quoted fields with doubled quotes and line breaks inside, CRLF or LF.
//
// A column whose every present value is a number is Numeric (f64), any other is Text. Which unquoted
// fields count as missing is an option; a quoted field is never missing. The text must be UTF-8; a byte
// order mark at its start is skipped, and so are empty lines.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace tenon::data {

struct CsvOptions {
  char delimiter = ',';
  bool header = true;                   // the first record has the names; otherwise they are column_0, column_1, …
  std::vector<std::string> names = {};  // names to use instead, for files without a header
  bool trim = false;                    // drop spaces around unquoted fields, as in "a, b"
  char comment = '\0';                  // lines that start with it are skipped
  std::vector<std::string> missing = {"", "NA", "N/A", "NaN", "nan", "null", "?"};
};

enum class CsvKind : std::uint8_t { Numeric, Text };

struct CsvColumn {
  std::string name;
  CsvKind kind = CsvKind::Numeric;
  std::vector<double> numbers;     // Numeric: one for each row, NaN where missing
  std::vector<std::string> texts;  // Text: one for each row, "" where missing
  std::vector<bool> missing;       // one for each row
  [[nodiscard]] std::int64_t missing_count() const;
};

struct CsvTable {
  std::vector<CsvColumn> columns;
  std::int64_t rows = 0;
  // Errors: IndexError naming the columns there are, the nearest first.
  [[nodiscard]] const CsvColumn& column(std::string_view name) const;
};

// Errors: FormatError naming `where`, the line and the byte offset.
CsvTable parse_csv(std::string_view text, std::string_view where, const CsvOptions& options = {});
CsvTable read_csv(const std::filesystem::path& path, const CsvOptions& options = {});

}  // namespace tenon::data
