#include "tenon/models/gpt.h"

#include <fmt/format.h>

#include <cmath>

#include "tenon/base/error.h"
#include "tenon/nn/init.h"
#include "tenon/nn/module.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/elementwise.h"

namespace tenon::models {
namespace {

void normal_weight(nn::Linear& layer, double std) {
  layer.weight.set(nn::init::normal(layer.weight.shape(), 0, std));
  if (layer.bias.defined()) layer.bias.set(zeros(layer.bias.shape()));
}

}  // namespace

GPTBlock::GPTBlock(const GPTConfig& c)
    : ln1(c.width),
      attn(c.width, c.heads, {.causal = true, .bias = c.bias, .dropout = c.dropout}),
      ln2(c.width),
      mlp(c.width, {.tanh_gelu = true, .bias = c.bias, .dropout = c.dropout}) {
  const double spread = 0.02 * std::sqrt(768.0 / static_cast<double>(c.width));
  // Projections back into the residual stream are smaller, so that its variance does not grow with depth.
  const double residual = spread / std::sqrt(2.0 * static_cast<double>(c.layers));
  normal_weight(attn.qkv, spread);
  normal_weight(attn.out, residual);
  normal_weight(mlp.fc1, spread);
  normal_weight(mlp.fc2, residual);
}

Tensor GPTBlock::operator()(Tensor x) const {
  x = x + attn(ln1(x));
  return x + mlp(ln2(x));
}

GPT::GPT(GPTConfig given)
    : config(given),
      wte(config.vocabulary, config.width),
      wpe(config.context, config.width),
      dropout(config.dropout),
      ln_f(config.width),
      lm_head(config.width, config.vocabulary, {.bias = false}) {
  wte.weight.set(nn::init::normal(wte.weight.shape(), 0, 0.02));
  wpe.weight.set(nn::init::normal(wpe.weight.shape(), 0, 0.02));
  for (int64_t i = 0; i < config.layers; ++i) blocks.emplace_back(config);
  normal_weight(lm_head, 0.02);
  if (config.tie_weights) lm_head.weight = wte.weight;
}

Tensor GPT::operator()(const Tensor& tokens) const {
  if (tokens.ndim() != 2 || tokens.shape(1) > config.context)
    throw ShapeError({"GPT",
                      "the tokens do not fit the model",
                      fmt::format("[N, length], length up to {}", config.context),
                      to_string(tokens.shape()),
                      {}});
  Tensor x = dropout(wte(tokens) + wpe(arange(tokens.shape(1))));
  for (const auto& block : blocks) x = block(std::move(x));
  return lm_head(ln_f(x));
}

}  // namespace tenon::models
