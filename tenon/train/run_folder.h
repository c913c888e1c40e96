// RunFolder: what a training run leaves behind.
//
//   config.json                  the settings, written once
//   metrics.jsonl                one row per epoch or evaluation, appended
//   samples.jsonl                texts that a language model wrote: {"step": 100, "text": "..."}
//   model.safetensors            the weights to use
//   checkpoint/state.safetensors weights, optimiser, generator and loader state: all that a resume needs
//   events.out.tfevents.*        the same numbers for TensorBoard
//   report.html                  one page to look at
//
// Files appear by rename or grow by whole lines: a reader, or a crash, never sees half of one.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "tenon/train/append_file.h"
#include "tenon/train/config.h"
#include "tenon/train/event_writer.h"
#include "tenon/train/metrics.h"
#include "tenon/train/report.h"

namespace tenon::train {

class RunFolder {
 public:
  // Makes the folder and writes config.json. Throws ValueError if a run is there already.
  static RunFolder create(const std::string& path, const Config& config);

  // Opens a run to read it. Throws FileError if there is none, FormatError if a file is damaged.
  static RunFolder open(const std::string& path);

  // Goes on from a checkpoint taken after `step` steps: rows and samples that came later are forgotten.
  // From here on record() may be called.
  void resume_at(std::int64_t step);

  // Replaces config.json, for a resumed run with more steps.
  void set_config(const Config& config);

  // Adds a row to metrics.jsonl and to the event file.
  void record(const MetricsRow& row);
  // Adds a number to the event file only: what is too fine for a row.
  void record_scalar(std::string_view tag, std::int64_t step, double value);
  void record_sample(const Sample& sample);

  // Adds or replaces a line of the report's settings, such as {"parameters", "801 k"}.
  void set_fact(const std::string& name, const std::string& value);
  void write_report() const;

  [[nodiscard]] const std::string& path() const { return path_; }
  [[nodiscard]] const Config& config() const { return config_; }
  [[nodiscard]] const std::vector<MetricsRow>& rows() const { return rows_; }
  [[nodiscard]] const std::vector<Sample>& samples() const { return samples_; }
  [[nodiscard]] std::string model_path() const { return path_ + "/model.safetensors"; }
  [[nodiscard]] std::string checkpoint_path() const { return path_ + "/checkpoint/state.safetensors"; }
  [[nodiscard]] std::string report_path() const { return path_ + "/report.html"; }
  [[nodiscard]] bool has_checkpoint() const;

 private:
  RunFolder(std::string path, Config config) : path_(std::move(path)), config_(std::move(config)) {}
  void start_writing(std::int64_t resumed_at);
  EventWriter& events(const char* where);

  std::string path_;
  Config config_;
  std::vector<MetricsRow> rows_;
  std::vector<Sample> samples_;
  std::vector<std::pair<std::string, std::string>> facts_;
  std::optional<AppendFile> metrics_file_;
  std::optional<AppendFile> samples_file_;
  std::int64_t resumed_at_ = -1;
  std::optional<EventWriter> events_;  // made when there is something to write: a run that was done gets no empty file
};

}  // namespace tenon::train
