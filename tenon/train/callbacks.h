// Callbacks: what happens beside the training itself: saving, showing, stopping.
//
// A callback derives from Callback and overrides what it cares about. It sees the fit through FitControl.
// To add one: a class here, or anywhere else; FitOptions::callbacks takes a list.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "tenon/exec/profile.h"
#include "tenon/train/metrics.h"
#include "tenon/train/progress.h"
#include "tenon/train/run_folder.h"

namespace tenon::train {

// What a callback may ask of the fit that calls it.
class FitControl {
 public:
  virtual ~FitControl() = default;
  [[nodiscard]] virtual const Progress& progress() const = 0;
  // Everything that FitOptions::resume needs to go on bit for bit. The file appears by rename.
  virtual void save_checkpoint(const std::string& path) const = 0;
  // The weights alone.
  virtual void save_weights(const std::string& path) const = 0;
  // No step after this one.
  virtual void stop() = 0;
};

class Callback {
 public:
  virtual ~Callback() = default;
  virtual void on_step(FitControl&) {}                    // after each optimiser step
  virtual void on_row(FitControl&, const MetricsRow&) {}  // after each epoch or evaluation, before its step's on_step
  virtual void on_end(FitControl&) {}                     // after the last step, or when stopped
};
using Callbacks = std::vector<std::shared_ptr<Callback>>;

// Calls `watch` after each step.
class ProgressCallback final : public Callback {
 public:
  explicit ProgressCallback(std::function<void(const Progress&)> watch) : watch_(std::move(watch)) {}
  void on_step(FitControl& fit) override { watch_(fit.progress()); }

 private:
  std::function<void(const Progress&)> watch_;
};

// Records `steps` steps of the fit after the first `skip`, or as many as there are, and hands them to `done`.
class ProfileCallback final : public Callback {
 public:
  ProfileCallback(int64_t skip, int64_t steps, std::function<void(const Profile&)> done)
      : skip_(skip), steps_(steps), done_(std::move(done)) {}
  void on_step(FitControl& fit) override;
  void on_end(FitControl& fit) override;

 private:
  int64_t skip_, steps_, seen_ = 0;
  std::function<void(const Profile&)> done_;
  std::unique_ptr<Profiler> profiler_;
};

// Calls `watch` with each row.
class RowCallback final : public Callback {
 public:
  explicit RowCallback(std::function<void(const MetricsRow&)> watch) : watch_(std::move(watch)) {}
  void on_row(FitControl&, const MetricsRow& row) override { watch_(row); }

 private:
  std::function<void(const MetricsRow&)> watch_;
};

// Stops when `wanted` says so, after saving a checkpoint (no path: without).
class StopCallback final : public Callback {
 public:
  explicit StopCallback(std::function<bool()> wanted, std::string checkpoint = {}, std::string weights = {})
      : wanted_(std::move(wanted)), checkpoint_(std::move(checkpoint)), weights_(std::move(weights)) {}
  void on_step(FitControl& fit) override;

 private:
  std::function<bool()> wanted_;
  std::string checkpoint_, weights_;
};

// Saves a checkpoint every `steps` steps, always to the same path.
class CheckpointCallback final : public Callback {
 public:
  CheckpointCallback(std::string path, std::int64_t steps) : path_(std::move(path)), steps_(steps) {}
  void on_step(FitControl& fit) override;

 private:
  std::string path_;
  std::int64_t steps_;
};

// Stops when the validation loss has not fallen by more than min_delta for `patience` rows. `before` are the rows
// of a run that is resumed, so that the decision does not depend on the interruption.
class EarlyStopping final : public Callback {
 public:
  explicit EarlyStopping(int patience, double min_delta = 0, const std::vector<MetricsRow>& before = {});
  void on_row(FitControl& fit, const MetricsRow& row) override;

 private:
  bool exhausted(const MetricsRow& row);

  int patience_;
  double min_delta_;
  double best_;
  int rows_since_ = 0;
};

// Keeps a run folder: each row, with weights, a checkpoint and the report after each.
class RunFolderCallback final : public Callback {
 public:
  explicit RunFolderCallback(RunFolder& run) : run_(run) {}
  void on_row(FitControl& fit, const MetricsRow& row) override;

 private:
  RunFolder& run_;
};

}  // namespace tenon::train
