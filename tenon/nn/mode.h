// Mode: does a layer train or evaluate? Layers that behave differently (Dropout, BatchNorm) hold one.
//
// Like a Variable it is a handle: a copy of a layer follows the same switch, so nn::eval(model) reaches a model that
// was copied into a lambda or into two places. clone(model) makes new switches. New layers train.
#pragma once

#include <memory>

namespace tenon::nn {

class Mode {
 public:
  explicit Mode(bool training = true) : training_(std::make_shared<bool>(training)) {}
  [[nodiscard]] bool training() const { return *training_; }
  void set_training(bool training) const { *training_ = training; }
  [[nodiscard]] Mode clone() const { return Mode(*training_); }

 private:
  std::shared_ptr<bool> training_;
};

}  // namespace tenon::nn
