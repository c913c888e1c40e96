// CSV: RFC 4180's rules, inference of types, real tables, and errors that name the line.
#include "tenon/data/csv.h"

#include <cmath>

#include "tests/data/support.h"

namespace tenon::data::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

TEST(Csv, QuotingLineEndsAndTypes) {
  const auto table = parse_csv("name,age,\"note\"\r\nAda,36,\"said \"\"hi\"\", then\nleft\"\r\nBob,-4.5e1,\r\n", "x");
  EXPECT_EQ(table.rows, 2);
  EXPECT_EQ(table.column("name").kind, CsvKind::Text);
  EXPECT_THAT(table.column("age").numbers, ElementsAre(36, -45));
  EXPECT_THAT(table.column("note").texts, ElementsAre("said \"hi\", then\nleft", ""));
  EXPECT_EQ(table.column("note").missing_count(), 1);
}

TEST(Csv, MissingValuesAndQuotedEmptyFields) {
  const auto table = parse_csv("a,b,c\n1,NA,\"\"\n,x,\"NA\"\n+3,?,z\n", "x");
  EXPECT_EQ(table.column("a").kind, CsvKind::Numeric);
  EXPECT_TRUE(std::isnan(table.column("a").numbers[1]));
  EXPECT_EQ(table.column("a").numbers[2], 3);
  EXPECT_THAT(table.column("b").texts, ElementsAre("", "x", ""));
  EXPECT_THAT(table.column("b").missing, ElementsAre(true, false, true));
  EXPECT_EQ(table.column("c").missing_count(), 0) << "a quoted field is never missing";
}

TEST(Csv, OptionsForFilesWithoutAHeader) {
  CsvOptions options;
  options.header = false;
  options.delimiter = ';';
  options.trim = true;
  options.comment = '#';
  const auto table = parse_csv("# made by hand\n 1 ; a b \n\n2;c\n", "x", options);
  EXPECT_THAT(table.column("column_0").numbers, ElementsAre(1, 2));
  EXPECT_THAT(table.column("column_1").texts, ElementsAre("a b", "c"));
  options.names = {"n", "t"};
  EXPECT_EQ(parse_csv("1;a", "x", options).column("t").texts[0], "a");
}

TEST(Csv, ByteOrderMarkAndExtremeNumbers) {
  const auto table = parse_csv(
      "\xEF\xBB\xBF"
      "a\n1e-400\n1e400\ninf\n",
      "x");
  EXPECT_THAT(table.column("a").numbers, ElementsAre(0.0, INFINITY, INFINITY));
}

TEST(Csv, RealTables) {
  if (!std::filesystem::exists(shared("penguins"))) GTEST_SKIP() << "needs the shared tables";
  const auto penguins = read_csv(shared("penguins/inst/extdata/penguins.csv"));
  EXPECT_EQ(penguins.rows, 344);
  EXPECT_EQ(penguins.columns.size(), 8U);
  EXPECT_EQ(penguins.column("bill_length_mm").kind, CsvKind::Numeric);
  EXPECT_EQ(penguins.column("bill_length_mm").missing_count(), 2);
  EXPECT_EQ(penguins.column("sex").missing_count(), 11);
  EXPECT_EQ(penguins.column("species").texts[0], "Adelie");
  const auto raw = read_csv(shared("penguins/inst/extdata/penguins_raw.csv"));
  EXPECT_EQ(raw.rows, 344) << "quoted fields with commas";

  CsvOptions options;
  options.header = false;
  options.trim = true;
  const auto adult = read_csv(shared("adult/data/adult.data"), options);
  EXPECT_EQ(adult.rows, 32561);
  EXPECT_EQ(adult.columns.size(), 15U);
  EXPECT_EQ(adult.column("column_0").numbers[0], 39);
  EXPECT_EQ(adult.column("column_1").missing_count(), 1836);
}

TEST(Csv, BadInputNamesLineAndOffset) {
  const auto error = [](std::string_view text, const CsvOptions& options = {}) {
    return error_text<FormatError>([&] { (void)parse_csv(text, "t.csv", options); });
  };
  EXPECT_EQ(error(""), "t.csv: the file has no records; expected a header line, got an empty file");
  EXPECT_EQ(error("a,b\n1,2\n3\n"),
            "t.csv: line 3: another number of fields than the first record at byte 8; expected 2 fields, got 1 fields\n"
            "  try: put fields that contain the delimiter in quotes");
  EXPECT_EQ(error("a\n\"x\ny"),
            "t.csv: line 2: a quoted field does not end at byte 2; expected a closing quote, got the "
            "end of the file");
  EXPECT_THAT(error("a\n\"x\"y\n"), HasSubstr("line 2: text follows a closing quote at byte 5; expected ','"));
  EXPECT_THAT(error("a,b\n1,x\"y\"\n"), HasSubstr("line 2: a quote inside an unquoted field at byte 7"));
  EXPECT_THAT(error("a,b\n\"1\n2\",3\n4\n"), HasSubstr("line 4: another number of fields"))
      << "lines inside quotes count";
  EXPECT_THAT(error("a,a\n"), HasSubstr("two columns have the same name; expected names that differ, got 'a' twice"));
  EXPECT_EQ(error("a\nb\xff\n"),
            "t.csv: the text is not UTF-8 at byte 3; expected a UTF-8 sequence, got byte FF\n"
            "  try: iconv -f ISO-8859-1 -t UTF-8 FILE");
  CsvOptions named;
  named.header = false;
  named.names = {"a"};
  EXPECT_THAT(error("1,2\n", named), HasSubstr("another number of fields than CsvOptions::names"));
  EXPECT_THAT(error_text<FileError>([] { (void)read_csv("/nowhere/t.csv"); }),
              HasSubstr("/nowhere/t.csv: cannot open"));
}

TEST(Csv, AWrongColumnNameIsAnsweredWithTheNearest) {
  const auto table = parse_csv("species,island,year\na,b,1\n", "x");
  EXPECT_EQ(error_text<IndexError>([&] { (void)table.column("specie"); }),
            "CsvTable::column: no such column; expected one of species, island, year, got 'specie'\n"
            "  try: column(\"species\")");
}

}  // namespace
}  // namespace tenon::data::testing
