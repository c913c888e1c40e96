#include "tenon/data/csv_table.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "tenon/base/error.h"

namespace tenon::data {
namespace {

// Numbers above this are values, not classes: nobody has a million classes in a table.
constexpr double kMaxClass = 10000;

std::vector<std::string> categories_of(const CsvColumn& column) {
  std::set<std::string> found;
  for (std::size_t i = 0; i < column.texts.size(); ++i) {
    if (!column.missing[i]) found.insert(column.texts[i]);
  }
  return {found.begin(), found.end()};
}

bool are_classes(const CsvColumn& column) {
  return std::ranges::all_of(column.numbers,
                             [](double v) { return std::isnan(v) || (v >= 0 && v < kMaxClass && v == std::floor(v)); });
}

std::vector<std::string> numbered_classes(const CsvColumn& column) {
  double largest = -1;
  for (const double value : column.numbers) largest = std::isnan(value) ? largest : std::max(largest, value);
  std::vector<std::string> names;
  for (int i = 0; i <= static_cast<int>(largest); ++i) names.push_back(std::to_string(i));
  return names;
}

void require_kind(const CsvColumn& column, CsvKind kind, std::string_view where) {
  if (column.kind == kind) return;
  const auto text = [](CsvKind k) { return k == CsvKind::Numeric ? "numbers only" : "text"; };
  throw FormatError({std::string(where), fmt::format("column '{}' has changed its kind", column.name), text(kind),
                     text(column.kind), ""});
}

[[noreturn]] void throw_missing(std::string_view where, const CsvColumn& column, std::size_t row) {
  throw FormatError({std::string(where), fmt::format("column '{}' lacks a value in data row {}", column.name, row + 1),
                     "a value in every row", fmt::format("{} missing in this column", column.missing_count()),
                     "{.missing = MissingValues::Drop} or MissingValues::Mean"});
}

std::ptrdiff_t category_index(const std::vector<std::string>& known, const CsvColumn& column, std::size_t row,
                              std::string_view where) {
  const std::string text = column.kind == CsvKind::Text ? column.texts[row] : fmt::format("{}", column.numbers[row]);
  const auto found = std::ranges::find(known, text);
  if (found == known.end()) {
    const std::size_t shown = std::min<std::size_t>(known.size(), 10);
    throw FormatError({std::string(where),
                       fmt::format("column '{}' has an unknown category in data row {}", column.name, row + 1),
                       fmt::format("one of {}{}", fmt::join(known.begin(), known.begin() + std::ptrdiff_t(shown), ", "),
                                   shown < known.size() ? ", …" : ""),
                       fmt::format("'{}'", text), "fit the encoding on a table that has all categories"});
  }
  return found - known.begin();
}

}  // namespace

TableEncoding TableEncoding::fit(const CsvTable& table, std::string_view label, const TableOptions& options) {
  TableEncoding result;
  result.label_ = label;
  result.options_ = options;
  const CsvColumn& label_column = table.column(label);
  result.text_label_ = label_column.kind == CsvKind::Text;
  if (result.text_label_) {
    result.classes_ = categories_of(label_column);
  } else if (are_classes(label_column)) {
    result.classes_ = numbered_classes(label_column);
  }
  std::vector<std::string> columns = options.features;
  if (columns.empty()) {
    for (const CsvColumn& column : table.columns) {
      if (column.name != label) columns.push_back(column.name);
    }
  }
  for (const std::string& name : columns) {
    const CsvColumn& column = table.column(name);
    Feature feature{name, {}, 0, 1};
    if (column.kind == CsvKind::Text) {
      feature.categories = categories_of(column);
      for (const std::string& category : feature.categories) {
        result.feature_names_.push_back(name);
        result.feature_names_.back().append("=").append(category);
      }
    } else {
      double count = 0;
      for (const double v : column.numbers) {
        if (std::isnan(v)) continue;
        feature.mean += v;
        ++count;
      }
      feature.mean = count > 0 ? feature.mean / count : 0;
      double squares = 0;
      for (const double v : column.numbers) squares += std::isnan(v) ? 0 : (v - feature.mean) * (v - feature.mean);
      const double deviation = count > 0 ? std::sqrt(squares / count) : 0;
      feature.scale = deviation > 0 ? deviation : 1;  // a constant column becomes zero, not NaN
      result.feature_names_.push_back(name);
    }
    result.features_.push_back(std::move(feature));
  }
  return result;
}

bool TableEncoding::encode_feature(const Feature& feature, const CsvColumn& column, std::size_t row,
                                   std::string_view where, std::vector<float>& out) const {
  const bool missing = column.missing[row];
  if (missing && options_.missing == MissingValues::Drop) return false;
  if (missing && options_.missing == MissingValues::Error) throw_missing(where, column, row);
  if (!feature.categories.empty()) {
    const std::size_t start = out.size();
    out.resize(start + feature.categories.size(), 0.0F);
    if (!missing) out[start + static_cast<std::size_t>(category_index(feature.categories, column, row, where))] = 1.0F;
    return true;
  }
  const double value = missing ? feature.mean : column.numbers[row];
  out.push_back(static_cast<float>(options_.standardize ? (value - feature.mean) / feature.scale : value));
  return true;
}

Dataset TableEncoding::encode(const CsvTable& table, std::string_view where) const {
  std::vector<const CsvColumn*> columns;
  for (const Feature& feature : features_) {
    columns.push_back(&table.column(feature.column));
    require_kind(*columns.back(), feature.categories.empty() ? CsvKind::Numeric : CsvKind::Text, where);
  }
  const CsvColumn& label = table.column(label_);
  require_kind(label, text_label_ ? CsvKind::Text : CsvKind::Numeric, where);
  std::vector<float> inputs;
  std::vector<float> values;
  std::vector<std::int64_t> classes;
  std::int64_t rows = 0;
  for (std::size_t row = 0; row < static_cast<std::size_t>(table.rows); ++row) {
    const std::size_t start = inputs.size();
    if (label.missing[row] && options_.missing != MissingValues::Drop) throw_missing(where, label, row);
    bool complete = !label.missing[row];
    for (std::size_t i = 0; complete && i < features_.size(); ++i) {
      complete = encode_feature(features_[i], *columns[i], row, where, inputs);
    }
    if (!complete) {
      inputs.resize(start);
      continue;
    }
    if (classes_.empty()) {
      values.push_back(static_cast<float>(label.numbers[row]));
    } else {
      classes.push_back(category_index(classes_, label, row, where));
    }
    ++rows;
  }
  const auto width = static_cast<std::int64_t>(feature_names_.size());
  Tensor target = classes_.empty() ? from_vector(values, {rows}) : from_vector(classes, {rows});
  return Dataset::from_tensors({{"input", from_vector(inputs, {rows, width})}, {"label", std::move(target)}});
}

Dataset csv_table(const std::filesystem::path& path, std::string_view label, const TableOptions& options,
                  const CsvOptions& csv) {
  const CsvTable table = read_csv(path, csv);
  return TableEncoding::fit(table, label, options).encode(table, path.string());
}

}  // namespace tenon::data
