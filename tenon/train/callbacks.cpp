#include "tenon/train/callbacks.h"

#include <cmath>
#include <limits>

namespace tenon::train {

void StopCallback::on_step(FitControl& fit) {
  if (!wanted_()) return;
  if (!checkpoint_.empty()) fit.save_checkpoint(checkpoint_);
  if (!weights_.empty()) fit.save_weights(weights_);
  fit.stop();
}

void CheckpointCallback::on_step(FitControl& fit) {
  if (steps_ > 0 && fit.progress().step % steps_ == 0) fit.save_checkpoint(path_);
}

EarlyStopping::EarlyStopping(int patience, double min_delta, const std::vector<MetricsRow>& before)
    : patience_(patience), min_delta_(min_delta), best_(std::numeric_limits<double>::infinity()) {
  for (const auto& row : before) (void)exhausted(row);
}

bool EarlyStopping::exhausted(const MetricsRow& row) {
  if (!row.val_loss) return false;
  if (*row.val_loss < best_ - min_delta_) {
    best_ = *row.val_loss;
    rows_since_ = 0;
  } else {
    ++rows_since_;
  }
  return patience_ > 0 && rows_since_ >= patience_;
}

void EarlyStopping::on_row(FitControl& fit, const MetricsRow& row) {
  if (exhausted(row)) fit.stop();
}

void RunFolderCallback::on_row(FitControl& fit, const MetricsRow& row) {
  run_.record(row);
  fit.save_weights(run_.model_path());
  fit.save_checkpoint(run_.checkpoint_path());
  run_.write_report();
}

void ProfileCallback::on_step(FitControl& fit) {
  ++seen_;
  if (seen_ == skip_) profiler_ = std::make_unique<Profiler>();
  if (seen_ == skip_ + steps_) on_end(fit);
}

void ProfileCallback::on_end(FitControl&) {
  if (!profiler_) return;
  const Profile profile = profiler_->stop();
  profiler_.reset();
  done_(profile);
}

}  // namespace tenon::train
