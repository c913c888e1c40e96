#include "tenon/train/metrics.h"

#include <fmt/format.h>

#include <array>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "tenon/base/error.h"

namespace tenon::train {
namespace {

using Json = nlohmann::ordered_json;

constexpr std::array columns{
    MetricsColumn{"train_loss", &MetricsRow::train_loss},
    MetricsColumn{"train_accuracy", &MetricsRow::train_accuracy},
    MetricsColumn{"val_loss", &MetricsRow::val_loss},
    MetricsColumn{"val_accuracy", &MetricsRow::val_accuracy},
    MetricsColumn{"learning_rate", &MetricsRow::learning_rate},
    MetricsColumn{"examples_per_second", &MetricsRow::examples_per_second},
    MetricsColumn{"tokens_per_second", &MetricsRow::tokens_per_second},
    MetricsColumn{"seconds", &MetricsRow::seconds},
};

double number(const Json& object, std::string_view key, const std::string& where) {
  const Json& value = object.at(std::string(key));
  if (value.is_null()) return std::numeric_limits<double>::quiet_NaN();
  if (!value.is_number())
    throw FormatError({.where = where,
                       .problem = fmt::format("\"{}\" is not a number", key),
                       .expected = "a number",
                       .got = value.dump()});
  return value.get<double>();
}

MetricsRow parse_row(std::string_view line, const std::string& where) {
  const Json object = Json::parse(line, nullptr, false);
  if (!object.is_object())
    throw FormatError({.where = where,
                       .problem = "not a row of metrics",
                       .expected = R"(a JSON object such as {"step":100,"epoch":1.0,"train_loss":0.5})",
                       .got = fmt::format(
                           "\"{}\"", line.size() > 60 ? fmt::format("{}...", line.substr(0, 60)) : std::string(line))});
  for (const char* key : {"step", "epoch"})
    if (!object.contains(key))
      throw FormatError({.where = where, .problem = fmt::format("a row of metrics without \"{}\"", key)});
  if (!object["step"].is_number_integer())
    throw FormatError({.where = where,
                       .problem = "\"step\" is not an integer",
                       .expected = "an integer",
                       .got = object["step"].dump()});
  MetricsRow row{.step = object["step"].get<std::int64_t>(), .epoch = number(object, "epoch", where)};
  for (const auto& column : columns)
    if (object.contains(column.name)) row.*column.member = number(object, column.name, where);
  return row;
}

}  // namespace

std::span<const MetricsColumn> metrics_columns() { return columns; }

std::string to_json_line(const MetricsRow& row) {
  Json object;
  object["step"] = row.step;
  object["epoch"] = row.epoch;
  for (const auto& column : columns)
    if (const auto& value = row.*column.member) object[std::string(column.name)] = *value;
  return object.dump() + "\n";
}

std::vector<MetricsRow> parse_metrics(std::string_view text, std::string_view where) {
  std::vector<MetricsRow> rows;
  for (int line = 1; !text.empty(); ++line) {
    const auto end = text.find('\n');
    if (end == std::string_view::npos) break;
    rows.push_back(parse_row(text.substr(0, end), fmt::format("{}:{}", where, line)));
    text.remove_prefix(end + 1);
  }
  return rows;
}

}  // namespace tenon::train
