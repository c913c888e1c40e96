#include "tenon/train/run_folder.h"

#include <fmt/format.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "tenon/base/error.h"
#include "tenon/base/file.h"

namespace tenon::train {
namespace {

namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

void make_folder(const fs::path& path) {
  std::error_code error;
  fs::create_directories(path, error);
  if (error || !fs::is_directory(path))
    throw FileError({.where = path.string(),
                     .problem = "cannot make the folder",
                     .got = error ? error.message() : "a file of that name"});
}

// Without a name the files would lie in the root of the file system.
void expect_path(const std::string& path) {
  if (path.empty())
    throw ValueError({.where = "run folder", .problem = "the path is empty", .hint = "--out runs/name"});
}

std::string to_json_line(const Sample& sample) {
  return Json{{"step", sample.step}, {"text", sample.text}}.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::vector<Sample> parse_samples(std::string_view text, const std::string& path) {
  std::vector<Sample> samples;
  for (auto end = text.find('\n'); end != std::string_view::npos; end = text.find('\n')) {
    const Json object = Json::parse(text.substr(0, end), nullptr, false);
    const bool good = object.is_object() && object.contains("step") && object["step"].is_number_integer() &&
                      object.contains("text") && object["text"].is_string();
    if (!good)
      throw FormatError({.where = fmt::format("{}:{}", path, samples.size() + 1),
                         .problem = "not a sample",
                         .expected = R"({"step":100,"text":"..."})"});
    samples.push_back({.step = object["step"].get<std::int64_t>(), .text = object["text"].get<std::string>()});
    text.remove_prefix(end + 1);
  }
  return samples;
}

template <typename Rows>
void rewrite(const std::string& path, Rows& rows, std::int64_t step) {
  std::erase_if(rows, [&](const auto& row) { return row.step > step; });
  std::string text;
  for (const auto& row : rows) text += to_json_line(row);
  write_file_atomic(path, text);
}

}  // namespace

RunFolder RunFolder::create(const std::string& path, const Config& config) {
  expect_path(path);
  if (fs::exists(fs::path(path) / "config.json")) {
    // One that ended before its first checkpoint cannot be gone on with.
    const bool resumable = fs::exists(fs::path(path) / "checkpoint" / "state.safetensors");
    throw ValueError({.where = path,
                      .problem = resumable ? "a run is already in this folder"
                                           : "a run that ended before its first checkpoint is in this folder",
                      .hint = fmt::format("{1}, or another folder, such as --out {0}-2", path,
                                          resumable ? "--resume " + path + " to go on with it" : "rm -r " + path)});
  }
  make_folder(fs::path(path) / "checkpoint");
  RunFolder run(path, config);
  write_file_atomic(path + "/config.json", config.to_json());
  run.start_writing(-1);
  return run;
}

RunFolder RunFolder::open(const std::string& path) {
  expect_path(path);
  const std::string config_path = path + "/config.json";
  if (!fs::exists(config_path))
    throw FileError(
        {.where = path,
         .problem = fs::is_directory(path) ? "no run in this folder (config.json is missing)" : "no such run",
         .expected = "a folder that `tenon train --out` made"});
  RunFolder run(path, Config::parse(read_text_file(config_path), config_path));
  const std::string metrics = path + "/metrics.jsonl";
  if (fs::exists(metrics)) run.rows_ = parse_metrics(read_text_file(metrics), metrics);
  const std::string samples = path + "/samples.jsonl";
  if (fs::exists(samples)) run.samples_ = parse_samples(read_text_file(samples), samples);
  return run;
}

void RunFolder::resume_at(std::int64_t step) {
  rewrite(path_ + "/metrics.jsonl", rows_, step);
  if (!samples_.empty()) rewrite(path_ + "/samples.jsonl", samples_, step);
  make_folder(fs::path(path_) / "checkpoint");
  start_writing(step + 1);
}

void RunFolder::set_config(const Config& config) {
  write_file_atomic(path_ + "/config.json", config.to_json());
  config_ = config;
}

void RunFolder::start_writing(std::int64_t resumed_at) {
  metrics_file_.emplace(path_ + "/metrics.jsonl");
  resumed_at_ = resumed_at;
  if (resumed_at < 0) events("start_writing").text("config", 0, "```\n" + config_.to_json() + "```");
}

EventWriter& RunFolder::events(const char* where) {
  if (!metrics_file_) throw InternalError(fmt::format("RunFolder::{} on a run that was opened to read", where));
  if (!events_) events_.emplace(path_, resumed_at_);
  return *events_;
}

void RunFolder::record(const MetricsRow& row) {
  if (!metrics_file_) throw InternalError("RunFolder::record on a run that was opened to read");
  metrics_file_->append(to_json_line(row));
  rows_.push_back(row);
  for (const auto& column : metrics_columns())
    if (const auto& value = row.*column.member) events("record").scalar(column.name, row.step, *value);
}

void RunFolder::record_scalar(std::string_view tag, std::int64_t step, double value) {
  events("record_scalar").scalar(tag, step, value);
}

void RunFolder::record_sample(const Sample& sample) {
  EventWriter& to = events("record_sample");
  if (!samples_file_) samples_file_.emplace(path_ + "/samples.jsonl");
  samples_file_->append(to_json_line(sample));
  to.text("sample", sample.step, "```\n" + sample.text + "\n```");
  samples_.push_back(sample);
}

void RunFolder::set_fact(const std::string& name, const std::string& value) {
  for (auto& fact : facts_)
    if (fact.first == name) {
      fact.second = value;
      return;
    }
  facts_.emplace_back(name, value);
}

void RunFolder::write_report() const {
  const auto entry = [&](std::string_view name) {
    const auto* value = config_.find(name);
    return value == nullptr ? std::string() : to_text(*value);
  };
  fs::path folder = fs::absolute(path_).lexically_normal();
  if (folder.filename().empty()) folder = folder.parent_path();
  std::string subtitle = entry("task");
  for (const char* name : {"model", "data"})
    if (const auto text = entry(name); !text.empty()) subtitle += (subtitle.empty() ? "" : " · ") + text;
  write_file_atomic(report_path(), render_report({.title = folder.filename().string(),
                                                  .subtitle = subtitle,
                                                  .config = config_,
                                                  .rows = rows_,
                                                  .samples = samples_,
                                                  .facts = facts_}));
}

bool RunFolder::has_checkpoint() const { return fs::exists(checkpoint_path()); }

}  // namespace tenon::train
