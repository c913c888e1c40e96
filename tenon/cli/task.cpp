#include "tenon/cli/task.h"

#include "tenon/base/error.h"
#include "tenon/ops/random.h"
#include "tenon/optim/adam.h"
#include "tenon/optim/sgd.h"

namespace tenon::cli {
namespace {

double real_or(const train::Config& config, std::string_view name, double fallback) {
  return config.find(name) != nullptr ? config.get<double>(name) : fallback;
}

// Weight decay shrinks matrices only: biases and norms have one axis.
template <class Options>
std::vector<optim::GroupOf<Options>> decay_groups(const std::vector<Variable>& parameters, Options options) {
  optim::GroupOf<Options> decayed{.parameters = {}, .options = options};
  options.weight_decay = 0;
  optim::GroupOf<Options> others{.parameters = {}, .options = options};
  for (const auto& parameter : parameters)
    (parameter.shape().size() >= 2 ? decayed : others).parameters.push_back(parameter);
  std::vector<optim::GroupOf<Options>> groups;
  for (auto& group : {decayed, others})
    if (!group.parameters.empty()) groups.push_back(group);
  return groups;
}

}  // namespace

Task make_task(const train::Config& config, const TaskRequest& request) {
  manual_seed(static_cast<std::uint64_t>(config.get<std::int64_t>("seed")));
  const auto task = config.get<std::string>("task");
  if (task == "image-classification") return make_image_task(config, request);
  if (task == "language-model") return make_language_task(config, request);
  throw FormatError({.where = "config.json",
                     .problem = "unknown task",
                     .expected = "image-classification or language-model",
                     .got = "\"" + task + "\""});
}

optim::AnyOptimizer make_optimizer(const train::Config& config, const std::vector<Variable>& parameters) {
  const auto name = config.get<std::string>("optimizer");
  const double lr = config.get<double>("lr");
  const double decay = config.get<double>("weight-decay");
  const double beta1 = real_or(config, "beta1", 0.9), beta2 = real_or(config, "beta2", 0.999);
  if (name == "sgd")
    return optim::SGD(decay_groups(
        parameters, optim::SGDOptions{.lr = lr, .momentum = real_or(config, "momentum", 0.9), .weight_decay = decay}));
  if (name == "adam")
    return optim::Adam(
        decay_groups(parameters, optim::AdamOptions{.lr = lr, .beta1 = beta1, .beta2 = beta2, .weight_decay = decay}));
  if (name == "adamw")
    return optim::AdamW(
        decay_groups(parameters, optim::AdamWOptions{.lr = lr, .beta1 = beta1, .beta2 = beta2, .weight_decay = decay}));
  throw FormatError({.where = "config.json",
                     .problem = "unknown optimizer",
                     .expected = "sgd, adam or adamw",
                     .got = "\"" + name + "\""});
}

DType read_precision(const train::Config& config) {
  if (config.find("precision") == nullptr) return DType::F32;  // a run of an earlier version
  const auto name = config.get<std::string>("precision");
  return name == "bf16" ? DType::BF16 : name == "f16" ? DType::F16 : DType::F32;
}

train::Schedule make_schedule(const train::Config& config, std::int64_t steps) {
  const double lr = config.get<double>("lr");
  return train::schedule_from_name(config.get<std::string>("schedule"),
                                   {.peak = lr,
                                    .floor = std::min(lr, config.get<double>("min-lr")),
                                    .warmup = config.get<std::int64_t>("warmup"),
                                    .steps = steps});
}

}  // namespace tenon::cli
