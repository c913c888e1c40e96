// Tables as datasets: numeric columns become numbers, text columns one number per category.
//
//   auto table = data::read_csv("penguins.csv");
//   auto encoding = data::TableEncoding::fit(table, "species", {.missing = MissingValues::Drop});
//   auto set = encoding.encode(table);            // "input" f32 [features], "label" i64 []
//   auto test = encoding.encode(other_table);     // the same columns, categories and scales
//
// A text label, or a numeric one of small whole numbers from 0 on, is a class (i64); any other numeric label is a value
// (f32).
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "tenon/data/csv.h"
#include "tenon/data/dataset.h"

namespace tenon::data {

// What becomes of a row with a missing feature. A row without a label is an error, or dropped with Drop.
enum class MissingValues : std::uint8_t {
  Error,  // FormatError naming column and row
  Drop,   // the row is left out
  Mean    // the column's mean; for text, no category (all zero)
};

struct TableOptions {
  MissingValues missing = MissingValues::Error;
  bool standardize = true;                 // numeric features to mean 0 and standard deviation 1
  std::vector<std::string> features = {};  // columns to use; default: all but the label
};

class TableEncoding {
 public:
  // Learns categories, means and scales. Errors: IndexError for a column that is not there.
  static TableEncoding fit(const CsvTable& table, std::string_view label, const TableOptions& options = {});

  // Errors: FormatError for missing values (unless the options allow them), for a category or class that
  // fit() did not see; IndexError for a missing column.
  [[nodiscard]] Dataset encode(const CsvTable& table, std::string_view where = "table") const;

  // "age", "sex=female", …: what each element of "input" means.
  [[nodiscard]] const std::vector<std::string>& feature_names() const { return feature_names_; }
  // The classes' names in order; empty if the label is a value.
  [[nodiscard]] const std::vector<std::string>& classes() const { return classes_; }

 private:
  struct Feature {
    std::string column;
    std::vector<std::string> categories;  // empty: numeric
    double mean = 0;
    double scale = 1;
  };
  [[nodiscard]] bool encode_feature(const Feature& feature, const CsvColumn& column, std::size_t row,
                                    std::string_view where, std::vector<float>& out) const;

  std::string label_;
  TableOptions options_;
  std::vector<Feature> features_;
  std::vector<std::string> feature_names_;
  std::vector<std::string> classes_;
  bool text_label_ = false;
};

// Reads, fits and encodes in one go.
Dataset csv_table(const std::filesystem::path& path, std::string_view label, const TableOptions& options = {},
                  const CsvOptions& csv = {});

}  // namespace tenon::data
