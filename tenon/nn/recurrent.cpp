#include "tenon/nn/recurrent.h"

#include <fmt/format.h>

#include <cmath>

#include "tenon/base/error.h"
#include "tenon/nn/check.h"
#include "tenon/nn/init.h"
#include "tenon/ops/creation.h"
#include "tenon/trace/layer_scope.h"

namespace tenon::nn {
namespace {

Tensor value_or_none(const Variable& v) { return v.defined() ? v.value() : Tensor(); }

// "_l1_reverse"
std::string suffix(int64_t layer, bool reverse) { return fmt::format("_l{}{}", layer, reverse ? "_reverse" : ""); }

}  // namespace

RecurrentCells::RecurrentCells(const char* layer, int64_t gates, int64_t in, int64_t hidden,
                               const RecurrentLayerOptions& given)
    : options(given) {
  require_at_least(layer, "in", in, 1);
  require_at_least(layer, "hidden", hidden, 1);
  require_at_least(layer, "num_layers", options.num_layers, 1);
  require_at_least(layer, "proj_size", options.proj_size, 0);
  require_probability(layer, options.dropout);
  if (options.proj_size >= hidden || (options.proj_size > 0 && gates != 4))
    throw ValueError({layer,
                      "proj_size does not fit",
                      gates == 4 ? fmt::format("less than {}", hidden) : "0: only LSTM projects",
                      std::to_string(options.proj_size),
                      {}});
  const int64_t out = options.proj_size > 0 ? options.proj_size : hidden, directions = options.bidirectional ? 2 : 1;
  const double bound = 1 / std::sqrt(static_cast<double>(hidden));
  const auto cell = [&](const std::string& name, const Shape& shape) {
    cells.value.emplace(name, Variable(init::uniform(shape, -bound, bound, options.dtype)));
  };
  for (int64_t l = 0; l < options.num_layers; ++l) {
    for (int64_t d = 0; d < directions; ++d) {
      const std::string end = suffix(l, d == 1);
      cell("weight_ih" + end, {gates * hidden, l == 0 ? in : out * directions});
      cell("weight_hh" + end, {gates * hidden, out});
      if (options.bias) cell("bias_ih" + end, {gates * hidden});
      if (options.bias) cell("bias_hh" + end, {gates * hidden});
      if (options.proj_size > 0) cell("weight_hr" + end, {out, hidden});
    }
  }
}

std::vector<RecurrentWeights> RecurrentCells::weights() const {
  const auto find = [&](const std::string& name) {
    const auto found = cells.value.find(name);
    return found == cells.value.end() ? Tensor() : found->second.value();
  };
  std::vector<RecurrentWeights> list;
  for (int64_t l = 0; l < options.num_layers; ++l) {
    for (int64_t d = 0; d < (options.bidirectional ? 2 : 1); ++d) {
      const std::string end = suffix(l, d == 1);
      list.push_back({find("weight_ih" + end), find("weight_hh" + end), find("bias_ih" + end), find("bias_hh" + end),
                      find("weight_hr" + end)});
    }
  }
  return list;
}

RecurrentOptions RecurrentCells::options_for(const RecurrentStart& start) const {
  return {.bidirectional = options.bidirectional,
          .batch_first = options.batch_first,
          .dropout = mode.training() ? options.dropout : 0,
          .lengths = start.lengths};
}

RNN::RNN(int64_t in, int64_t hidden, const RecurrentLayerOptions& options)
    : cells{RecurrentCells("RNN", 1, in, hidden, options)} {}
RecurrentResult RNN::operator()(const Tensor& x, const RecurrentStart& start) const {
  const trace::LayerScope scope(cells.value.cells.value.begin()->second);
  const RecurrentCells& own = cells.value;
  return rnn(x, own.weights(), start.h0, own.options_for(start), own.options.nonlinearity);
}

LSTM::LSTM(int64_t in, int64_t hidden, const RecurrentLayerOptions& options)
    : cells{RecurrentCells("LSTM", 4, in, hidden, options)} {}
RecurrentResult LSTM::operator()(const Tensor& x, const RecurrentStart& start) const {
  const trace::LayerScope scope(cells.value.cells.value.begin()->second);
  return lstm(x, cells.value.weights(), start.h0, start.c0, cells.value.options_for(start));
}

GRU::GRU(int64_t in, int64_t hidden, const RecurrentLayerOptions& options)
    : cells{RecurrentCells("GRU", 3, in, hidden, options)} {}
RecurrentResult GRU::operator()(const Tensor& x, const RecurrentStart& start) const {
  const trace::LayerScope scope(cells.value.cells.value.begin()->second);
  return gru(x, cells.value.weights(), start.h0, cells.value.options_for(start));
}

namespace {

template <class Cell>
void make_cell(Cell& cell, const char* layer, int64_t gates, int64_t in, int64_t hidden,
               const RecurrentCellOptions& options) {
  require_at_least(layer, "in", in, 1);
  require_at_least(layer, "hidden", hidden, 1);
  const double bound = 1 / std::sqrt(static_cast<double>(hidden));
  const auto fresh = [&](const Shape& shape) { return Variable(init::uniform(shape, -bound, bound, options.dtype)); };
  cell.weight_ih = fresh({gates * hidden, in});
  cell.weight_hh = fresh({gates * hidden, hidden});
  if (!options.bias) return;
  cell.bias_ih = fresh({gates * hidden});
  cell.bias_hh = fresh({gates * hidden});
}

template <class Cell>
RecurrentWeights weights_of(const Cell& cell) {
  return {cell.weight_ih, cell.weight_hh, value_or_none(cell.bias_ih), value_or_none(cell.bias_hh), Tensor()};
}

// The state to start from, after a check of x.
template <class Cell>
Tensor state_for(const Cell& cell, const char* layer, const Tensor& x, const Tensor& given) {
  const int64_t in = cell.weight_ih.shape()[1], hidden = cell.weight_hh.shape()[1];
  const std::string label = layer_label(layer, cell.weight_ih);
  require_rank(label, x, 1, 2, fmt::format("[N, {}]", in));
  require_extent(label, x, -1, in, fmt::format("[N, {}]", in));
  Shape shape = x.shape();
  shape.back() = hidden;
  if (!given.defined()) return zeros(shape, x.dtype());
  if (given.shape() != shape)
    throw ShapeError({label, "the state does not fit", to_string(shape), to_string(given.shape()), {}});
  return given;
}

}  // namespace

RNNCell::RNNCell(int64_t in, int64_t hidden, RecurrentCellOptions options) : nonlinearity(options.nonlinearity) {
  make_cell(*this, "RNNCell", 1, in, hidden, options);
}
Tensor RNNCell::operator()(const Tensor& x, const Tensor& h) const {
  const trace::LayerScope scope(weight_ih);
  return rnn_cell(x, state_for(*this, "RNNCell", x, h), weights_of(*this), nonlinearity);
}

LSTMCell::LSTMCell(int64_t in, int64_t hidden, RecurrentCellOptions options) {
  make_cell(*this, "LSTMCell", 4, in, hidden, options);
}
LstmState LSTMCell::operator()(const Tensor& x, const LstmState& state) const {
  const trace::LayerScope scope(weight_ih);
  return lstm_cell(x, {state_for(*this, "LSTMCell", x, state.h), state_for(*this, "LSTMCell", x, state.c)},
                   weights_of(*this));
}

GRUCell::GRUCell(int64_t in, int64_t hidden, RecurrentCellOptions options) {
  make_cell(*this, "GRUCell", 3, in, hidden, options);
}
Tensor GRUCell::operator()(const Tensor& x, const Tensor& h) const {
  const trace::LayerScope scope(weight_ih);
  return gru_cell(x, state_for(*this, "GRUCell", x, h), weights_of(*this));
}

}  // namespace tenon::nn
