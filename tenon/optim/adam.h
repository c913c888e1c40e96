// Adam (Kingma and Ba, arXiv 1412.6980) and AdamW (Loshchilov and Hutter, arXiv 1711.05101), as PyTorch computes them.
//
//   m = beta1 * m + (1 - beta1) * g;  v = beta2 * v + (1 - beta2) * g * g
//   p -= lr / (1 - beta1^t) * m / (sqrt(v) / sqrt(1 - beta2^t) + eps)
// Adam adds weight_decay * p to g; AdamW first shrinks p by 1 - lr * weight_decay. With amsgrad the largest v so far
// takes the place of v. A row-sparse gradient updates only its rows, moments included (as torch.optim.SparseAdam).
#pragma once

#include "tenon/optim/optimizer.h"

namespace tenon::optim {

struct AdamOptions {
  double lr = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 0;
  bool amsgrad = false;
};
struct AdamWOptions {
  double lr = 1e-3;
  double beta1 = 0.9;
  double beta2 = 0.999;
  double eps = 1e-8;
  double weight_decay = 1e-2;
  bool amsgrad = false;
};

// Errors: ValueError for options out of range.
class Adam final : public OptimizerOf<AdamOptions> {
 public:
  Adam() : Adam(AdamOptions{}) {}
  explicit Adam(AdamOptions options);
  explicit Adam(std::span<const Variable> parameters, AdamOptions options = {});
  Adam(std::initializer_list<Variable> parameters, AdamOptions options = {}) : Adam(std::span(parameters), options) {}
  explicit Adam(std::span<const GroupOf<AdamOptions>> groups);
  Adam(std::initializer_list<GroupOf<AdamOptions>> groups) : Adam(std::span(groups)) {}

 protected:
  [[nodiscard]] std::string_view name() const override { return "Adam"; }
  [[nodiscard]] std::vector<std::string_view> state_names(size_t group) const override;
  [[nodiscard]] Rule rule(size_t index, const Group& group) override;
};

class AdamW final : public OptimizerOf<AdamWOptions> {
 public:
  AdamW() : AdamW(AdamWOptions{}) {}
  explicit AdamW(AdamWOptions options);
  explicit AdamW(std::span<const Variable> parameters, AdamWOptions options = {});
  AdamW(std::initializer_list<Variable> parameters, AdamWOptions options = {})
      : AdamW(std::span(parameters), options) {}
  explicit AdamW(std::span<const GroupOf<AdamWOptions>> groups);
  AdamW(std::initializer_list<GroupOf<AdamWOptions>> groups) : AdamW(std::span(groups)) {}

 protected:
  [[nodiscard]] std::string_view name() const override { return "AdamW"; }
  [[nodiscard]] std::vector<std::string_view> state_names(size_t group) const override;
  [[nodiscard]] Rule rule(size_t index, const Group& group) override;
};

}  // namespace tenon::optim
