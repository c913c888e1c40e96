// What language models that write from left to right share: the memory of what they have read, and writing.
#pragma once

#include <cstdint>
#include <functional>
#include <vector>

#include "tenon/tensor/tensor.h"

namespace tenon::models {

// Keys and values of every layer for all positions so far: [N, heads, length, width].
class KeyValueCache {
 public:
  [[nodiscard]] std::int64_t length() const { return length_; }
  // Appends to a layer and gives all of it.
  struct Pair {
    Tensor keys, values;
  };
  Pair extend(std::size_t layer, Tensor keys, Tensor values);
  // What a layer holds, or nullptr.
  [[nodiscard]] const Pair* find(std::size_t layer) const {
    return layer < layers_.size() && layers_[layer].keys.defined() ? &layers_[layer] : nullptr;
  }
  // After the last layer: `count` more positions have been read.
  void advance(std::int64_t count) { length_ += count; }

 private:
  std::vector<Pair> layers_;
  std::int64_t length_ = 0;
};

// Token numbers [N, length] -> logits [N, length, vocabulary]. With a cache the tokens go on from what it holds.
using CausalModel = std::function<Tensor(const Tensor& tokens, KeyValueCache* cache)>;

struct GenerateOptions {
  std::int64_t max_new_tokens = 100;
  double temperature = 1;  // 0: always the likeliest
  std::int64_t top_k = 0;  // among the k likeliest; 0: all
  double top_p = 1;        // among the likeliest whose probabilities add up to this
  double repetition_penalty = 1;
  std::vector<std::int64_t> end_tokens{};  // writing stops behind one of them
  std::uint64_t seed = 1;
};

// The tokens written after `tokens` (at least one). `on_token` hears of each as it comes; it returns false to stop.
// Errors: ValueError for an empty beginning.
std::vector<std::int64_t> generate(const CausalModel& model, const std::vector<std::int64_t>& tokens,
                                   const GenerateOptions& options,
                                   const std::function<bool(std::int64_t)>& on_token = {});

// The next token by the logits of one position and what was written so far. `draw` in [0, 1) decides.
std::int64_t choose_token(std::vector<double> logits, const std::vector<std::int64_t>& so_far,
                          const GenerateOptions& options, double draw);

}  // namespace tenon::models
