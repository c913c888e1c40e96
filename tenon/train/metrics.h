// Metrics: one row per epoch or evaluation, and metrics.jsonl, which holds a row per line.
//
// A row always has step and epoch; the other members are there where they apply and absent (not zero)
// where they do not. A value that is not finite is written as null and read back as NaN.
// To add a column: a member here and a line in the table of metrics.cpp; report and TensorBoard follow.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace tenon::train {

struct MetricsRow {
  std::int64_t step = 0;  // optimiser steps taken so far
  double epoch = 0;       // passes over the training data so far
  std::optional<double> train_loss{};
  std::optional<double> train_accuracy{};
  std::optional<double> val_loss{};
  std::optional<double> val_accuracy{};
  std::optional<double> learning_rate{};
  std::optional<double> examples_per_second{};
  std::optional<double> tokens_per_second{};
  std::optional<double> seconds{};  // training time since the run began, over all its sessions

  bool operator==(const MetricsRow&) const = default;
};

// The optional columns, in the order in which they are written.
struct MetricsColumn {
  std::string_view name;
  std::optional<double> MetricsRow::* member;
};
[[nodiscard]] std::span<const MetricsColumn> metrics_columns();

[[nodiscard]] std::string to_json_line(const MetricsRow& row);  // ends with a newline

// Reads the text of a metrics.jsonl; `where` names the file in errors. A last line without its newline (a
// crash of the machine) is left out; anything else that is not a row throws FormatError with the line number.
[[nodiscard]] std::vector<MetricsRow> parse_metrics(std::string_view text, std::string_view where);

}  // namespace tenon::train
