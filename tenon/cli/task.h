// Task: what a run's settings mean: a network to train, its data and how.
//
// make_task is the one place that knows the tasks; train, eval and generate all begin there. To add a task: a
// variant in commands.cpp, a make_ function in a file of its own, a line in task.cpp.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "tenon/data/dataset.h"
#include "tenon/train/config.h"
#include "tenon/train/trainer.h"

namespace tenon::cli {

struct WriteOptions {
  std::string prompt = "\n";
  std::int64_t length = 500;
  double temperature = 0.8;
  std::int64_t top_k = 0;
  std::uint64_t seed = 1;
};

struct Task {
  train::Trainer trainer;  // compiled
  std::optional<data::Dataset> training;
  std::optional<data::Dataset> validation;
  train::FitOptions fit;  // without callbacks and resume
  train::Config config;   // the settings, with what the data decided (classes, vocabulary size)
  std::int64_t parameters = 0;
  // A language model's text; empty for other tasks.
  std::function<std::string(const WriteOptions&)> write;
};

enum class TaskUse {
  train,     // training and validation data
  evaluate,  // validation data; `data` may be other than the run was made with
  write      // no data
};
struct TaskRequest {
  TaskUse use = TaskUse::train;
  std::string data;        // evaluate: other data; empty: the run's
  std::string model_path;  // evaluate, write: the weights
};

// Errors: FileError, FormatError and others that name the data, FormatError for settings of another version.
[[nodiscard]] Task make_task(const train::Config& config, const TaskRequest& request);
[[nodiscard]] Task make_image_task(const train::Config& config, const TaskRequest& request);
[[nodiscard]] Task make_language_task(const train::Config& config, const TaskRequest& request);

// What both tasks share: the optimiser and the schedule that the settings name.
[[nodiscard]] optim::AnyOptimizer make_optimizer(const train::Config& config, const std::vector<Variable>& parameters);
[[nodiscard]] DType read_precision(const train::Config& config);
[[nodiscard]] train::Schedule make_schedule(const train::Config& config, std::int64_t steps);

}  // namespace tenon::cli
