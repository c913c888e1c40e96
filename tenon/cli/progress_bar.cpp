#include "tenon/cli/progress_bar.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace tenon::cli {

std::string clock_text(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0) return "-:--";
  const auto whole = static_cast<std::int64_t>(std::min(seconds + 0.5, 3.6e8));
  if (whole >= 3600) return fmt::format("{}:{:02}:{:02}", whole / 3600, whole / 60 % 60, whole % 60);
  return fmt::format("{}:{:02}", whole / 60, whole % 60);
}

std::string count_text(double count) {
  if (count >= 999'500) return fmt::format("{:.2f}M", count / 1e6);
  if (count >= 9'995) return fmt::format("{:.1f}k", count / 1e3);
  return fmt::format("{:.0f}", count);
}

std::string row_text(const train::MetricsRow& row) {
  std::string out = fmt::format("step {}  epoch {:.2f}", row.step, row.epoch);
  if (row.train_loss) out += fmt::format("  train loss {:.4f}", *row.train_loss);
  if (row.val_loss) out += fmt::format("  val loss {:.4f}", *row.val_loss);
  if (row.val_accuracy) out += fmt::format("  val accuracy {:.2f} %", 100 * *row.val_accuracy);
  if (row.tokens_per_second) out += fmt::format("  {} tokens/s", count_text(*row.tokens_per_second));
  if (row.examples_per_second) out += fmt::format("  {} examples/s", count_text(*row.examples_per_second));
  return out;
}

void ProgressBar::update(const train::Progress& progress) {
  const bool last = progress.step >= progress.steps;
  const double pause = options_.terminal ? options_.redraw_seconds : options_.line_seconds;
  if (!last && progress.seconds - last_ < pause) return;
  last_ = progress.seconds;
  const std::string numbers =
      fmt::format("{}/{}  loss {:.4f}  {} {}/s  ETA {}", progress.step, progress.steps, progress.loss,
                  count_text(progress.per_second), progress.unit, clock_text(progress.remaining_seconds));
  if (!options_.terminal) {
    write_(numbers + "\n");
    return;
  }
  const double share =
      progress.steps > 0 ? static_cast<double>(progress.step) / static_cast<double>(progress.steps) : 0;
  const int room = std::clamp(options_.columns - static_cast<int>(numbers.size()) - 10, 0, 40);
  std::string bar;
  if (room >= 5) {
    const int full = static_cast<int>(share * room);
    bar = fmt::format("[{}{}{}] ", std::string(static_cast<std::size_t>(full), '='), full < room ? ">" : "",
                      std::string(static_cast<std::size_t>(std::max(0, room - full - 1)), ' '));
  }
  drawn_ = fmt::format("{}{:3.0f} % {}", bar, std::floor(100 * share), numbers);
  if (options_.columns > 1 && drawn_.size() >= static_cast<std::size_t>(options_.columns))
    drawn_.resize(static_cast<std::size_t>(options_.columns) - 1);
  write_("\r\x1b[K" + drawn_);
}

void ProgressBar::note(std::string_view line) {
  if (drawn_.empty()) {
    write_(std::string(line) + "\n");
    return;
  }
  write_("\r\x1b[K" + std::string(line) + "\n" + drawn_);
}

void ProgressBar::finish() {
  if (!drawn_.empty()) write_("\n");
  drawn_.clear();
}

}  // namespace tenon::cli
