#include "tenon/optim/ema.h"

#include <fmt/format.h>

#include "tenon/ops/elementwise.h"
#include "tenon/optim/check.h"
#include "tenon/trace/state.h"

namespace tenon::optim {

EMA::EMA(std::vector<Variable> parameters, double decay) : parameters_(std::move(parameters)), decay_(decay) {
  check_option("EMA", "decay", decay, 0, 1);
  for (const auto& parameter : parameters_) {
    averages_.emplace_back(parameter.cell()->value, /*trainable=*/false, parameter.name());
  }
}

void EMA::update() {
  const NoGrad no_grad;
  for (size_t i = 0; i < parameters_.size(); ++i) {
    averages_[i].set(lerp(averages_[i].take(), parameters_[i].cell()->value, 1.0 - decay_));
  }
}

void EMA::swap() {
  for (size_t i = 0; i < parameters_.size(); ++i) {
    Tensor average = averages_[i].take();
    averages_[i].set(parameters_[i].take());
    parameters_[i].set(std::move(average));
  }
}

std::string EMA::key(size_t i) const {
  const std::string& name = parameters_[i].name();
  return "ema." + (name.empty() ? fmt::format("param.{}", i) : name);
}

StateDict EMA::state_dict() const {
  StateDict dict;
  for (size_t i = 0; i < averages_.size(); ++i) dict.set(key(i), averages_[i].cell()->value);
  return dict;
}

void EMA::load_state_dict(const StateDict& dict) {
  for (size_t i = 0; i < averages_.size(); ++i) (void)dict.at(key(i));
  for (size_t i = 0; i < averages_.size(); ++i) averages_[i].set(dict.at(key(i)));
}

}  // namespace tenon::optim
