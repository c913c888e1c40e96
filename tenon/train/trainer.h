// Trainer: the fit loop, for a network of which it knows only what Network says. Users meet it as train::Model.
//
// A step is: forward, loss, backward, clip, learning rate, update. A row of metrics is recorded after every epoch or
// every `eval_every` steps. Everything that decides the result is in the checkpoint, so a resumed fit ends with the
// same bits. Batches are Examples with the fields "input" and "label".
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "tenon/data/dataset.h"
#include "tenon/nn/module.h"
#include "tenon/optim/grad_scaler.h"
#include "tenon/optim/optimizer.h"
#include "tenon/train/callbacks.h"
#include "tenon/train/schedule.h"

namespace tenon::train {

using LossFunction = std::function<Tensor(const Tensor& prediction, const Tensor& label)>;

struct CompileOptions {
  optim::AnyOptimizer optimizer{};     // optim::Adam{}, or one that has its parameters
  LossFunction loss{};                 // nn::CrossEntropyLoss{}
  std::vector<std::string> metrics{};  // "accuracy": how often the largest output is the label
  // bf16 or f16: the network and the loss run in an Autocast scope; weights and their updates stay as they are. f16
  // also scales the loss (optim/grad_scaler.h), and the scaler's state is in the checkpoint.
  DType precision = DType::F32;
};

struct FitOptions {
  std::int64_t epochs = 1;
  std::int64_t steps = 0;  // more than 0: this many steps instead of epochs
  std::int64_t batch_size = 32;
  bool shuffle = true;
  std::uint64_t seed = 0;  // of the order of the examples
  std::optional<data::Dataset> validation{};
  std::int64_t validation_batch_size = 0;  // 0: batch_size
  std::int64_t eval_every = 0;             // steps between rows; 0: a row after each epoch
  Schedule schedule{};                     // the learning rate; empty: the optimiser's own throughout
  double clip_norm = 0;                    // largest norm of all gradients together; 0: no limit
  bool count_tokens = false;               // rates count labels, not examples
  Callbacks callbacks{};
  std::string resume{};  // a checkpoint to go on from
};

struct FitResult {
  std::vector<MetricsRow> rows;
  std::int64_t step = 0;
  bool stopped = false;  // by a callback, before the end
};

struct Evaluation {
  double loss = 0;
  std::optional<double> accuracy{};  // if asked for in compile()
  std::int64_t examples = 0;
  double seconds = 0;
};

// What the loop needs of a network.
struct Network {
  std::function<Tensor(const Tensor&)> forward;
  std::function<std::vector<Variable>()> parameters;
  std::function<StateDict()> state;
  std::function<void(const StateDict&)> load;
  std::function<void(bool)> set_training;
};

// Copies are handles of the same network and optimiser.
class Trainer {
 public:
  explicit Trainer(Network network) : network_(std::move(network)) {}

  // Gives the optimiser the network's parameters, unless it has some. Fits one after another go on with its state.
  // Errors: ValueError for a missing part or an unknown metric.
  void compile(CompileOptions options);

  // Errors: ValueError before compile(), NumericError if the loss is not finite, what the checkpoint's file or a
  // callback throws. The network is as the last step left it.
  FitResult fit(const data::Dataset& dataset, const FitOptions& options);
  Evaluation evaluate(const data::Dataset& dataset, std::int64_t batch_size = 32) const;
  // The network's outputs for all examples, stacked along the first axis, computed in batches.
  Tensor predict(const data::Dataset& dataset, std::int64_t batch_size = 32) const;
  Tensor predict(const Tensor& input) const;

  // Texts that are saved with the weights and with checkpoints, such as a vocabulary.
  void set_metadata(std::map<std::string, std::string> metadata) { metadata_ = std::move(metadata); }
  void save_weights(const std::string& path) const;
  // Errors: FileError, FormatError; ValueError naming the file if it holds another model's weights.
  void load_weights(const std::string& path) const;

 private:
  class Fit;
  struct Outcome {
    Tensor prediction, loss;
  };
  // In the precision of compile().
  [[nodiscard]] Outcome forward(const Tensor& input, const Tensor& label) const;
  Network network_;
  CompileOptions options_;
  std::shared_ptr<optim::GradScaler> scaler_;  // of f16
  std::map<std::string, std::string> metadata_;
  bool accuracy_ = false;
  bool compiled_ = false;
};

}  // namespace tenon::train
