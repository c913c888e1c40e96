// ProgressBar: shows training on a terminal, or as a line every few seconds where there is none.
//
// On a terminal one line is drawn again and again; note() prints a line that stays, above it. What it writes
// goes through `write`, and time is what the Progress says, so tests need neither.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>

#include "tenon/train/metrics.h"
#include "tenon/train/progress.h"

namespace tenon::cli {

class ProgressBar {
 public:
  struct Options {
    bool terminal = false;
    int columns = 80;
    double redraw_seconds = 0.1;  // on a terminal
    double line_seconds = 5;      // elsewhere
  };
  ProgressBar(std::function<void(std::string_view)> write, Options options)
      : write_(std::move(write)), options_(options) {}

  void update(const train::Progress& progress);
  void note(std::string_view line);
  // Ends the drawn line, so that other output begins on a fresh one.
  void finish();

 private:
  std::function<void(std::string_view)> write_;
  Options options_;
  double last_ = -1e9;
  std::string drawn_;
};

// "0:07", "12:30", "1:02:03"
[[nodiscard]] std::string clock_text(double seconds);
// "843", "51.2k", "1.30M"
[[nodiscard]] std::string count_text(double count);
// "step 250  epoch 0.19  train loss 2.3412  val loss 2.3611  51.2k tokens/s"
[[nodiscard]] std::string row_text(const train::MetricsRow& row);

}  // namespace tenon::cli
