// report.html: one self-contained page about a run. No network, no library; light and dark.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "tenon/train/config.h"
#include "tenon/train/metrics.h"

namespace tenon::train {

// A text that a language model wrote after `step` steps.
struct Sample {
  std::int64_t step = 0;
  std::string text;
  bool operator==(const Sample&) const = default;
};

struct Report {
  std::string title;
  std::string subtitle;
  Config config;
  std::vector<MetricsRow> rows;
  std::vector<Sample> samples;                             // the last one is shown in full
  std::vector<std::pair<std::string, std::string>> facts;  // further lines, such as {"parameters", "801 k"}
};

[[nodiscard]] std::string render_report(const Report& report);

}  // namespace tenon::train
