// --task language-model: a GPT over the characters of a text file.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <numeric>

#include "tenon/base/error.h"
#include "tenon/base/file.h"
#include "tenon/cli/task.h"
#include "tenon/data/char_text.h"
#include "tenon/data/random.h"
#include "tenon/formats/safetensors.h"
#include "tenon/models/gpt.h"
#include "tenon/nn/loss.h"
#include "tenon/ops/movement.h"
#include "tenon/train/model.h"

namespace tenon::cli {
namespace {

constexpr const char* vocabulary_key = "vocabulary";  // in the metadata of model.safetensors

models::GPT make_network(const train::Config& config, std::int64_t vocabulary) {
  return models::GPT({.vocabulary = vocabulary,
                      .context = config.get<std::int64_t>("context"),
                      .layers = config.get<std::int64_t>("layers"),
                      .heads = config.get<std::int64_t>("heads"),
                      .width = config.get<std::int64_t>("width"),
                      .dropout = config.get<double>("dropout"),
                      // A table of characters is small: of its own, the output projection learns faster (a validation
                      // loss of 1.87 instead of 1.91 after 2000 steps on tinyshakespeare, here and in PyTorch).
                      .tie_weights = false});
}

data::CharVocabulary saved_vocabulary(const std::string& model_path) {
  const auto file = formats::load_safetensors(model_path);
  const auto found = file.metadata.find(vocabulary_key);
  if (found == file.metadata.end())
    throw FormatError({.where = model_path,
                       .problem = "no vocabulary in the metadata",
                       .expected = "the weights of a character model"});
  return data::CharVocabulary(found->second, model_path);
}

// One of the likeliest tokens, drawn by the model's probabilities; temperature 0 takes the likeliest.
std::int64_t draw_token(const std::vector<double>& logits, const WriteOptions& options, data::Random& random) {
  std::vector<std::size_t> order(logits.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return logits[a] > logits[b]; });
  if (options.temperature <= 0) return static_cast<std::int64_t>(order[0]);
  if (options.top_k > 0) order.resize(std::min(order.size(), static_cast<std::size_t>(options.top_k)));
  std::vector<double> weights;
  for (const auto token : order) weights.push_back(std::exp((logits[token] - logits[order[0]]) / options.temperature));
  double left = random.uniform() * std::accumulate(weights.begin(), weights.end(), 0.0);
  for (std::size_t i = 0; i < order.size(); ++i) {
    left -= weights[i];
    if (left < 0) return static_cast<std::int64_t>(order[i]);
  }
  return static_cast<std::int64_t>(order.back());
}

std::string write_text(const train::Trainer& trainer, const data::CharVocabulary& vocabulary, std::int64_t context,
                       const WriteOptions& options) {
  // A text without line ends has no newline to begin with: then its first character does.
  const std::string all = vocabulary.characters();
  const bool default_prompt = options.prompt == WriteOptions{}.prompt;
  std::vector<std::int64_t> tokens = default_prompt && all.find(options.prompt) == std::string::npos
                                         ? std::vector<std::int64_t>{0}
                                         : vocabulary.encode(options.prompt, "generate --prompt");
  if (tokens.empty())
    throw ValueError({.where = "generate", .problem = "the prompt is empty", .hint = "--prompt TEXT"});
  data::Random random(data::stream_key(options.seed, 0, 0));
  for (std::int64_t i = 0; i < options.length; ++i) {
    const auto seen = std::min<std::int64_t>(context, static_cast<std::int64_t>(tokens.size()));
    const std::vector<std::int64_t> window(tokens.end() - seen, tokens.end());
    const Tensor logits = trainer.predict(from_vector(window, {1, seen}));
    tokens.push_back(draw_token(select(select(logits, 0, 0), 0, seen - 1).to_vector(), options, random));
  }
  return vocabulary.decode(tokens);
}

// Cross-entropy over all positions of all sequences.
Tensor token_loss(const Tensor& logits, const Tensor& label) {
  return nn::CrossEntropyLoss{}(reshape(logits, {-1, logits.shape(-1)}), reshape(label, {-1}));
}

}  // namespace

Task make_language_task(const train::Config& config, const TaskRequest& request) {
  const std::int64_t context = config.get<std::int64_t>("context"), batch = config.get<std::int64_t>("batch-size");
  const std::string path = request.data.empty() ? config.get<std::string>("data") : request.data;
  std::optional<data::Dataset> training, validation;
  data::CharVocabulary vocabulary;
  if (request.use != TaskUse::train) vocabulary = saved_vocabulary(request.model_path);
  if (request.use == TaskUse::train) {
    const data::CharText text(path, context);
    vocabulary = text.vocabulary();
    // An epoch sees the text once on average; whole batches.
    const auto windows = static_cast<std::int64_t>(text.train_tokens()->size()) / context;
    training = text.train((windows + batch - 1) / batch * batch);
    validation = text.validation();
  } else if (request.use == TaskUse::evaluate && request.data.empty()) {
    validation = data::CharText(path, context, {.vocabulary = vocabulary}).validation();
  } else if (request.use == TaskUse::evaluate) {
    // Other text than the run's is all there to be measured.
    auto tokens = std::make_shared<const std::vector<std::int64_t>>(vocabulary.encode(read_text_file(path), path));
    if (tokens->size() < 2)
      throw ValueError({.where = path,
                        .problem = "too short to measure anything",
                        .expected = "2 characters or more",
                        .got = fmt::format("{}", tokens->size())});
    validation = data::sequential_windows(std::move(tokens), context);
  }

  const auto held = std::make_shared<models::GPT>(make_network(config, vocabulary.size()));
  const models::GPT& network = *held;
  train::Trainer trainer(train::network_of(held));
  trainer.compile({.optimizer = make_optimizer(config, nn::parameters(network)),
                   .loss = token_loss,
                   .precision = read_precision(config)});
  trainer.set_metadata({{vocabulary_key, vocabulary.characters()}});
  if (!request.model_path.empty()) trainer.load_weights(request.model_path);

  const std::int64_t steps = config.get<std::int64_t>("steps");
  Task task{.trainer = trainer,
            .training = training,
            .validation = validation,
            .fit = {},
            .config = config,
            .parameters = nn::num_parameters(network),
            .write = {}};
  task.config.set("vocabulary-size", vocabulary.size());
  task.fit = {.steps = steps,
              .batch_size = batch,
              .shuffle = false,  // the windows are random already
              .seed = static_cast<std::uint64_t>(config.get<std::int64_t>("seed")),
              .validation = validation,
              .validation_batch_size = 64,
              .eval_every = config.get<std::int64_t>("eval-every"),
              .schedule = make_schedule(config, steps),
              .clip_norm = config.get<double>("grad-clip"),
              .count_tokens = true};
  task.write = [trainer, vocabulary, context](const WriteOptions& options) {
    return write_text(trainer, vocabulary, context, options);
  };
  return task;
}

}  // namespace tenon::cli
