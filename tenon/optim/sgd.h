// Stochastic gradient descent with momentum, as torch.optim.SGD computes it.
#pragma once

#include "tenon/optim/optimizer.h"

namespace tenon::optim {

struct SGDOptions {
  double lr = 1e-2;
  double momentum = 0;
  double dampening = 0;
  double weight_decay = 0;
  bool nesterov = false;  // needs momentum and no dampening
};

// g += weight_decay * p; m = momentum * m + (1 - dampening) * g (the first m is g); p -= lr * m, or with Nesterov's
// momentum p -= lr * (g + momentum * m). Row-sparse gradients update only their rows, momentum included.
// Errors: ValueError for options out of range.
class SGD final : public OptimizerOf<SGDOptions> {
 public:
  SGD() : SGD(SGDOptions{}) {}
  explicit SGD(SGDOptions options);
  explicit SGD(std::span<const Variable> parameters, SGDOptions options = {});
  SGD(std::initializer_list<Variable> parameters, SGDOptions options = {}) : SGD(std::span(parameters), options) {}
  explicit SGD(std::span<const GroupOf<SGDOptions>> groups);
  SGD(std::initializer_list<GroupOf<SGDOptions>> groups) : SGD(std::span(groups)) {}

 protected:
  [[nodiscard]] std::string_view name() const override { return "SGD"; }
  [[nodiscard]] std::vector<std::string_view> state_names(size_t group) const override;
  [[nodiscard]] Rule rule(size_t index, const Group& group) override;
};

}  // namespace tenon::optim
