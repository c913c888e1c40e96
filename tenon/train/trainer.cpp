#include "tenon/train/trainer.h"

#include <fmt/format.h>

#include <chrono>
#include <cmath>

#include "tenon/base/error.h"
#include "tenon/base/nearest.h"
#include "tenon/data/loader.h"
#include "tenon/formats/safetensors.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/random.h"
#include "tenon/ops/reduce.h"
#include "tenon/optim/clip.h"
#include "tenon/trace/autocast.h"
#include "tenon/trace/state.h"
#include "tenon/train/checkpoint.h"

namespace tenon::train {
namespace {

double now() {
  using namespace std::chrono;
  return duration<double>(steady_clock::now().time_since_epoch()).count();
}

// How many labels are the class with the largest output.
std::int64_t count_correct(const Tensor& prediction, const Tensor& label) {
  return sum(equal(argmax(prediction, -1), label)).item<std::int64_t>();
}

// The field of that name of a batch that `where` reads.
const Tensor& field(const data::Example& batch, const char* name, const char* where,
                    const char* expected = "'input' and 'label'",
                    const char* hint = "Dataset::from_tensors({{\"input\", x}, {\"label\", y}})") {
  if (batch.contains(name)) return batch[name];
  std::string names;
  for (const auto& [other, value] : batch) names += (names.empty() ? "" : ", ") + other;
  throw ValueError({.where = where,
                    .problem = fmt::format("the examples have no field '{}'", name),
                    .expected = expected,
                    .got = std::move(names),
                    .hint = hint});
}

// What predict() reads: it needs no labels.
const Tensor& input_of(const data::Example& batch) {
  return field(batch, "input", "predict", "'input'", "Dataset::from_tensors({{\"input\", x}})");
}

// The keys of the scaler's state among the optimiser's, in a checkpoint.
constexpr std::string_view kScaler = "scaler.";

// Weights or a checkpoint of another model: the text gets the file's name.
template <typename Load>
void naming_file(const std::string& path, Load&& load) {
  const auto renamed = [&](const Error& error) {
    ErrorParts parts = error.parts();
    parts.where = path;
    parts.problem = "the weights of another model: " + parts.problem;
    if (parts.hint.starts_with("load_state_dict(")) parts.hint.clear();  // nobody called that
    return parts;
  };
  try {
    load();
  } catch (const ValueError& error) {
    throw ValueError(renamed(error));
  } catch (const ShapeError& error) {
    throw ShapeError(renamed(error));
  }
}

// Evaluation mode while it lives.
class EvaluationMode {
 public:
  explicit EvaluationMode(const Network& network) : network_(network) { network_.set_training(false); }
  ~EvaluationMode() { network_.set_training(true); }
  EvaluationMode(const EvaluationMode&) = delete;
  EvaluationMode& operator=(const EvaluationMode&) = delete;

 private:
  const Network& network_;
  NoGrad no_grad_;
};

}  // namespace

// One call of fit().
class Trainer::Fit final : public FitControl {
 public:
  Fit(const Trainer& trainer, const data::Dataset& dataset, const FitOptions& options);
  FitResult run();

  [[nodiscard]] const Progress& progress() const override { return progress_; }
  void save_checkpoint(const std::string& path) const override;
  void save_weights(const std::string& path) const override { trainer_.save_weights(path); }
  void stop() override { stopped_ = true; }

 private:
  void resume();
  void step(const data::Example& batch);
  void record_row();
  void update_progress(double loss, double seconds);
  [[nodiscard]] bool row_is_due() const;

  const Trainer& trainer_;
  const FitOptions& options_;
  data::DataLoader loader_;
  std::vector<Variable> parameters_;
  optim::AnyOptimizer optimizer_;
  LoopState loop_;
  std::int64_t total_ = 0;
  Progress progress_;
  double smooth_loss_ = 0, smooth_seconds_ = 0, smooth_units_ = 0;
  double began_ = now();
  std::int64_t first_step_ = 0;
  bool stopped_ = false;
  FitResult result_;
};

Trainer::Fit::Fit(const Trainer& trainer, const data::Dataset& dataset, const FitOptions& options)
    : trainer_(trainer),
      options_(options),
      loader_(dataset, {.batch_size = options.batch_size, .shuffle = options.shuffle, .seed = options.seed}),
      parameters_(trainer.network_.parameters()),
      optimizer_(trainer.options_.optimizer) {
  if (loader_.size() == 0) throw ValueError({.where = "fit", .problem = "the dataset is empty"});
  total_ = options.steps > 0 ? options.steps : options.epochs * loader_.size();
  loop_.dataset_size = dataset.size();
  loop_.batch_size = options.batch_size;
  progress_.unit = options.count_tokens ? "tokens" : "examples";
  progress_.steps = total_;
  if (!options.resume.empty()) resume();
  first_step_ = loop_.step;
}

void Trainer::Fit::resume() {
  const Checkpoint checkpoint = load_checkpoint(options_.resume);
  if (checkpoint.loop.batch_size != options_.batch_size || checkpoint.loop.dataset_size != loop_.dataset_size)
    throw ValueError(
        {.where = options_.resume,
         .problem = "a checkpoint of training with other data",
         .expected = fmt::format("{} examples in batches of {}", loop_.dataset_size, options_.batch_size),
         .got = fmt::format("{} in batches of {}", checkpoint.loop.dataset_size, checkpoint.loop.batch_size)});
  naming_file(options_.resume, [&] {
    trainer_.network_.load(checkpoint.model);
    StateDict own, scaler;
    for (const auto& [key, tensor] : checkpoint.optimizer) {
      if (key.starts_with(kScaler)) {
        scaler.set(key.substr(kScaler.size()), tensor);
      } else {
        own.set(key, tensor);
      }
    }
    optimizer_->load_state_dict(own);
    if (trainer_.scaler_) trainer_.scaler_->load_state_dict(scaler);
  });
  loop_ = checkpoint.loop;
  set_random_state({.seed = loop_.random_seed, .counter = loop_.random_counter});
  loader_.restore({.seed = loop_.loader_seed,
                   .epoch = loop_.loader_epoch,
                   .position = loop_.loader_position,
                   .dataset_size = loop_.dataset_size});
}

void Trainer::Fit::save_checkpoint(const std::string& path) const {
  Checkpoint checkpoint{.model = trainer_.network_.state(), .optimizer = optimizer_->state_dict(), .loop = loop_};
  const data::LoaderState state = loader_.state();
  if (trainer_.scaler_) {
    for (const auto& [key, tensor] : trainer_.scaler_->state_dict())
      checkpoint.optimizer.set(std::string(kScaler) + key, tensor);
  }
  checkpoint.loop.loader_seed = state.seed;
  checkpoint.loop.loader_epoch = state.epoch;
  checkpoint.loop.loader_position = state.position;
  const RandomState random = random_state();
  checkpoint.loop.random_seed = random.seed;
  checkpoint.loop.random_counter = random.counter;
  train::save_checkpoint(path, checkpoint);
}

FitResult Trainer::Fit::run() {
  trainer_.network_.set_training(true);
  while (loop_.step < total_ && !stopped_) {
    for (const auto& batch : loader_) {
      step(batch);
      if (row_is_due()) record_row();
      for (const auto& callback : options_.callbacks) callback->on_step(*this);
      if (loop_.step >= total_ || stopped_) break;
    }
  }
  for (const auto& callback : options_.callbacks) callback->on_end(*this);
  result_.step = loop_.step;
  result_.stopped = stopped_ && loop_.step < total_;
  return std::move(result_);
}

void Trainer::Fit::step(const data::Example& batch) {
  const double began = now();
  const Tensor& label = field(batch, "label", "fit");
  optimizer_->zero_grad();
  const auto [prediction, loss] = trainer_.forward(field(batch, "input", "fit"), label);
  const double value = loss.item();
  if (!std::isfinite(value))
    throw NumericError({.where = "fit",
                        .problem = fmt::format("the loss is not finite at step {}", loop_.step + 1),
                        .got = std::isnan(value) ? "nan" : fmt::format("{}", value),
                        .hint = "a smaller learning rate, or a limit to the gradient: .clip_norm = 1"});
  optim::GradScaler* const scaler = trainer_.scaler_.get();
  (scaler != nullptr ? scaler->scale(loss) : loss).backward();
  if (scaler != nullptr) scaler->unscale(*optimizer_);
  if (options_.clip_norm > 0) (void)optim::clip_grad_norm_(parameters_, options_.clip_norm);
  if (options_.schedule) optimizer_->set_lr(options_.schedule(loop_.step));
  if (scaler != nullptr) {
    (void)scaler->step(*optimizer_);
    scaler->update();
  } else {
    optimizer_->step();
  }

  const std::int64_t examples = label.shape(0);
  loop_.step += 1;
  loop_.loss_sum += value * static_cast<double>(examples);
  loop_.examples += examples;
  loop_.labels += label.size();
  if (trainer_.accuracy_) {
    const NoGrad no_grad;
    loop_.correct += count_correct(prediction.detach(), label);
  }
  const double seconds = now() - began;
  loop_.row_seconds += seconds;
  loop_.seconds += seconds;
  progress_.epoch = static_cast<double>(loop_.step) / static_cast<double>(loader_.size());
  smooth_units_ = 0.95 * smooth_units_ + 0.05 * static_cast<double>(options_.count_tokens ? label.size() : examples);
  update_progress(value, seconds);
}

void Trainer::Fit::update_progress(double loss, double seconds) {
  // Exponential averages, corrected for their beginning.
  constexpr double keep = 0.95;
  smooth_loss_ = keep * smooth_loss_ + (1 - keep) * loss;
  smooth_seconds_ = keep * smooth_seconds_ + (1 - keep) * seconds;
  const double weight = 1 - std::pow(keep, static_cast<double>(loop_.step - first_step_));
  progress_.step = loop_.step;
  progress_.loss = smooth_loss_ / weight;
  progress_.per_second = smooth_seconds_ > 0 ? smooth_units_ / smooth_seconds_ : 0;
  progress_.seconds = now() - began_;
  // The estimate counts everything, evaluations too.
  progress_.remaining_seconds =
      progress_.seconds / static_cast<double>(loop_.step - first_step_) * static_cast<double>(total_ - loop_.step);
}

bool Trainer::Fit::row_is_due() const {
  const std::int64_t every = options_.eval_every > 0 ? options_.eval_every : loader_.size();
  return loop_.step % every == 0 || loop_.step == total_;
}

void Trainer::Fit::record_row() {
  MetricsRow row{.step = loop_.step, .epoch = progress_.epoch};
  row.train_loss = loop_.loss_sum / static_cast<double>(loop_.examples);
  if (trainer_.accuracy_) row.train_accuracy = static_cast<double>(loop_.correct) / static_cast<double>(loop_.labels);
  if (options_.validation) {
    const Evaluation evaluation =
        trainer_.evaluate(*options_.validation,
                          options_.validation_batch_size > 0 ? options_.validation_batch_size : options_.batch_size);
    row.val_loss = evaluation.loss;
    row.val_accuracy = evaluation.accuracy;
  }
  row.learning_rate = optimizer_->lr();
  const double units = static_cast<double>(options_.count_tokens ? loop_.labels : loop_.examples);
  (options_.count_tokens ? row.tokens_per_second : row.examples_per_second) = units / loop_.row_seconds;
  row.seconds = loop_.seconds;
  loop_.loss_sum = 0;
  loop_.examples = loop_.labels = loop_.correct = 0;
  loop_.row_seconds = 0;
  for (const auto& callback : options_.callbacks) callback->on_row(*this, row);
  result_.rows.push_back(row);
}

void Trainer::compile(CompileOptions options) {
  if (!options.optimizer)
    throw ValueError(
        {.where = "compile", .problem = "no optimizer", .hint = "model.compile({.optimizer = optim::Adam{}, ...})"});
  if (!options.loss)
    throw ValueError(
        {.where = "compile", .problem = "no loss", .hint = "model.compile({..., .loss = nn::CrossEntropyLoss{}})"});
  accuracy_ = false;
  for (const auto& metric : options.metrics) {
    constexpr std::string_view known[] = {"accuracy"};
    if (metric != known[0]) {
      const auto near = nearest_name(metric, known);
      throw ValueError({.where = "compile",
                        .problem = "unknown metric",
                        .expected = std::string(known[0]),
                        .got = "\"" + metric + "\"",
                        .hint = near.empty() ? "" : fmt::format(".metrics = {{\"{}\"}}", near)});
    }
    accuracy_ = true;
  }
  if (options.precision != DType::F32) const Autocast check(options.precision);
  scaler_ = options.precision == DType::F16 ? std::make_shared<optim::GradScaler>() : nullptr;
  options_ = std::move(options);
  if (!options_.optimizer->bound()) options_.optimizer->bind(network_.parameters());
  compiled_ = true;
}

Trainer::Outcome Trainer::forward(const Tensor& input, const Tensor& label) const {
  const Autocast scope(options_.precision == DType::F32 ? DType::BF16 : options_.precision,
                       options_.precision != DType::F32);
  Outcome outcome{network_.forward(input), {}};
  outcome.loss = options_.loss(outcome.prediction, label);
  return outcome;
}

FitResult Trainer::fit(const data::Dataset& dataset, const FitOptions& options) {
  if (!compiled_)
    throw ValueError({.where = "fit",
                      .problem = "the model has no optimizer and no loss yet",
                      .hint = "model.compile({.optimizer = optim::Adam{}, .loss = nn::CrossEntropyLoss{}})"});
  return Fit(*this, dataset, options).run();
}

Evaluation Trainer::evaluate(const data::Dataset& dataset, std::int64_t batch_size) const {
  if (!compiled_)
    throw ValueError({.where = "evaluate", .problem = "the model has no loss yet", .hint = "model.compile({...})"});
  const EvaluationMode mode(network_);
  const double began = now();
  Evaluation result;
  double loss_sum = 0;
  std::int64_t correct = 0, labels = 0;
  data::DataLoader loader(dataset, {.batch_size = batch_size});
  for (const auto& batch : loader) {
    const Tensor& label = field(batch, "label", "evaluate");
    const auto [prediction, loss] = forward(field(batch, "input", "evaluate"), label);
    loss_sum += loss.item() * static_cast<double>(label.shape(0));
    result.examples += label.shape(0);
    labels += label.size();
    if (accuracy_) correct += count_correct(prediction, label);
  }
  if (result.examples == 0) throw ValueError({.where = "evaluate", .problem = "the dataset is empty"});
  result.loss = loss_sum / static_cast<double>(result.examples);
  if (accuracy_) result.accuracy = static_cast<double>(correct) / static_cast<double>(labels);
  result.seconds = now() - began;
  return result;
}

Tensor Trainer::predict(const data::Dataset& dataset, std::int64_t batch_size) const {
  const EvaluationMode mode(network_);
  Tensors parts;
  data::DataLoader loader(dataset, {.batch_size = batch_size});
  for (const auto& batch : loader) parts.push_back(network_.forward(input_of(batch)));
  if (parts.empty()) throw ValueError({.where = "predict", .problem = "the dataset is empty"});
  return concat(parts, 0);
}

Tensor Trainer::predict(const Tensor& input) const {
  const EvaluationMode mode(network_);
  return network_.forward(input);
}

void Trainer::save_weights(const std::string& path) const {
  formats::save_safetensors(path, network_.state(), metadata_);
}

void Trainer::load_weights(const std::string& path) const {
  const auto file = formats::load_safetensors(path);
  naming_file(path, [&] { network_.load(file.tensors); });
}

}  // namespace tenon::train
