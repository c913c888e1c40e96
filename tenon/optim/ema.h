// EMA: an exponential moving average of parameters, for evaluation.
#pragma once

#include <vector>

#include "tenon/tensor/state_dict.h"
#include "tenon/tensor/variable.h"

namespace tenon::optim {

// After each step: average = decay * average + (1 - decay) * parameter. Starts at the present values.
// Errors: ValueError unless 0 <= decay < 1.
class EMA {
 public:
  explicit EMA(std::vector<Variable> parameters, double decay = 0.999);
  void update();
  // Exchanges the parameters' values with the averages; a second call changes them back. Evaluate in between.
  void swap();
  [[nodiscard]] const std::vector<Variable>& averages() const { return averages_; }
  // "ema.fc1.weight" …
  [[nodiscard]] StateDict state_dict() const;
  // Errors: IndexError naming a missing key; ShapeError or DTypeError from a tensor that does not fit.
  void load_state_dict(const StateDict& dict);

 private:
  [[nodiscard]] std::string key(size_t i) const;
  std::vector<Variable> parameters_;
  std::vector<Variable> averages_;
  double decay_;
};

}  // namespace tenon::optim
