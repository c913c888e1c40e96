#include "tenon/models/causal.h"

#include <algorithm>
#include <cmath>
#include <numeric>
#include <set>

#include "tenon/base/error.h"
#include "tenon/data/random.h"
#include "tenon/ops/movement.h"
#include "tenon/trace/state.h"

namespace tenon::models {

KeyValueCache::Pair KeyValueCache::extend(std::size_t layer, Tensor keys, Tensor values) {
  if (layers_.size() <= layer) layers_.resize(layer + 1);
  Pair& held = layers_[layer];
  if (held.keys.defined()) {
    keys = concat({std::move(held.keys), std::move(keys)}, 2);
    values = concat({std::move(held.values), std::move(values)}, 2);
  }
  held = {keys, values};
  return held;
}

std::int64_t choose_token(std::vector<double> logits, const std::vector<std::int64_t>& so_far,
                          const GenerateOptions& options, double draw) {
  if (options.repetition_penalty != 1) {
    for (const std::int64_t token : std::set<std::int64_t>(so_far.begin(), so_far.end())) {
      double& logit = logits.at(static_cast<std::size_t>(token));
      logit = logit < 0 ? logit * options.repetition_penalty : logit / options.repetition_penalty;
    }
  }
  if (options.temperature <= 0) return std::max_element(logits.begin(), logits.end()) - logits.begin();
  std::vector<std::size_t> order(logits.size());
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return logits[a] > logits[b]; });
  if (options.top_k > 0) order.resize(std::min(order.size(), static_cast<std::size_t>(options.top_k)));
  std::vector<double> weights;
  for (const auto token : order) weights.push_back(std::exp((logits[token] - logits[order[0]]) / options.temperature));
  double total = std::accumulate(weights.begin(), weights.end(), 0.0);
  if (options.top_p < 1) {
    // The shortest list of the likeliest that reaches the share; always the first.
    double sum = 0;
    std::size_t kept = 0;
    while (kept < weights.size() && sum < options.top_p * total) sum += weights[kept++];
    weights.resize(std::max<std::size_t>(kept, 1));
    total = std::accumulate(weights.begin(), weights.end(), 0.0);
  }
  double left = draw * total;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    left -= weights[i];
    if (left < 0) return static_cast<std::int64_t>(order[i]);
  }
  return static_cast<std::int64_t>(order[weights.size() - 1]);
}

std::vector<std::int64_t> generate(const CausalModel& model, const std::vector<std::int64_t>& tokens,
                                   const GenerateOptions& options, const std::function<bool(std::int64_t)>& on_token) {
  if (tokens.empty())
    throw ValueError({.where = "generate",
                      .problem = "there is no token to begin with",
                      .hint = "give a prompt, or the tokenizer's token for the beginning of a text"});
  const NoGrad no_grad;
  data::Random random(data::stream_key(options.seed, 0, 0));
  KeyValueCache cache;
  std::vector<std::int64_t> all = tokens, written, next = tokens;
  while (static_cast<std::int64_t>(written.size()) < options.max_new_tokens) {
    const auto length = static_cast<std::int64_t>(next.size());
    const Tensor logits = model(from_vector(next, {1, length}), &cache);
    const std::int64_t token =
        choose_token(select(select(logits, 0, 0), 0, length - 1).to_vector(), all, options, random.uniform());
    all.push_back(token);
    written.push_back(token);
    next = {token};
    if (on_token && !on_token(token)) break;
    if (std::find(options.end_tokens.begin(), options.end_tokens.end(), token) != options.end_tokens.end()) break;
  }
  return written;
}

}  // namespace tenon::models
