// Recurrent layers and cells. The maths is in ops/recurrent.h; weights, their names and their order are PyTorch's:
// weight_ih_l0, weight_hh_l0, bias_ih_l0, bias_hh_l0, weight_hr_l0 (LSTM with proj_size), and the same with _reverse.
// All start uniform in ±1/sqrt(hidden).
#pragma once

#include <map>
#include <string>

#include "tenon/nn/members.h"
#include "tenon/nn/mode.h"
#include "tenon/ops/recurrent.h"
#include "tenon/tensor/variable.h"

namespace tenon::nn {

struct RecurrentLayerOptions {
  int64_t num_layers = 1;
  bool bias = true;
  bool batch_first = false;  // [N, T, in] instead of [T, N, in]
  double dropout = 0;        // between layers, while training
  bool bidirectional = false;
  int64_t proj_size = 0;                             // of LSTM: width of the output, 0: as the hidden state
  RnnActivation nonlinearity = RnnActivation::Tanh;  // of RNN
  DType dtype = DType::F32;
};
// Initial states (undefined: zeros) and lengths of the examples (undefined: all steps).
struct RecurrentStart {
  Tensor h0 = {}, c0 = {};
  Tensor lengths = {};
};

// The weights of all layers and directions. Errors: ValueError for sizes below 1 and a projection that is not narrower.
struct RecurrentCells {
  RecurrentCells(const char* layer, int64_t gates, int64_t in, int64_t hidden, const RecurrentLayerOptions& options);
  [[nodiscard]] std::vector<RecurrentWeights> weights() const;
  [[nodiscard]] RecurrentOptions options_for(const RecurrentStart& start) const;

  RecurrentLayerOptions options;
  Inline<std::map<std::string, Variable>> cells;
  Mode mode;
  using Members = nn::Members<&RecurrentCells::cells, &RecurrentCells::mode>;
};

// x [T, N, in] -> y [T, N, directions * out] and the last states (ops/recurrent.h).
class RNN {
 public:
  RNN(int64_t in, int64_t hidden, const RecurrentLayerOptions& options = {});
  [[nodiscard]] RecurrentResult operator()(const Tensor& x, const RecurrentStart& start = {}) const;
  Inline<RecurrentCells> cells;
  using Members = nn::Members<&RNN::cells>;
};
class LSTM {
 public:
  LSTM(int64_t in, int64_t hidden, const RecurrentLayerOptions& options = {});
  [[nodiscard]] RecurrentResult operator()(const Tensor& x, const RecurrentStart& start = {}) const;
  Inline<RecurrentCells> cells;
  using Members = nn::Members<&LSTM::cells>;
};
class GRU {
 public:
  GRU(int64_t in, int64_t hidden, const RecurrentLayerOptions& options = {});
  [[nodiscard]] RecurrentResult operator()(const Tensor& x, const RecurrentStart& start = {}) const;
  Inline<RecurrentCells> cells;
  using Members = nn::Members<&GRU::cells>;
};

struct RecurrentCellOptions {
  bool bias = true;
  RnnActivation nonlinearity = RnnActivation::Tanh;  // of RNNCell
  DType dtype = DType::F32;
};
// One step: x [N, in] or [in] and the state (undefined: zeros) give the next state.
class RNNCell {
 public:
  RNNCell(int64_t in, int64_t hidden, RecurrentCellOptions options = {});
  [[nodiscard]] Tensor operator()(const Tensor& x, const Tensor& h = {}) const;
  RnnActivation nonlinearity;
  Variable weight_ih, weight_hh, bias_ih, bias_hh;
  using Members = nn::Members<&RNNCell::weight_ih, &RNNCell::weight_hh, &RNNCell::bias_ih, &RNNCell::bias_hh>;
};
class LSTMCell {
 public:
  LSTMCell(int64_t in, int64_t hidden, RecurrentCellOptions options = {});
  [[nodiscard]] LstmState operator()(const Tensor& x, const LstmState& state = {}) const;
  Variable weight_ih, weight_hh, bias_ih, bias_hh;
  using Members = nn::Members<&LSTMCell::weight_ih, &LSTMCell::weight_hh, &LSTMCell::bias_ih, &LSTMCell::bias_hh>;
};
class GRUCell {
 public:
  GRUCell(int64_t in, int64_t hidden, RecurrentCellOptions options = {});
  [[nodiscard]] Tensor operator()(const Tensor& x, const Tensor& h = {}) const;
  Variable weight_ih, weight_hh, bias_ih, bias_hh;
  using Members = nn::Members<&GRUCell::weight_ih, &GRUCell::weight_hh, &GRUCell::bias_ih, &GRUCell::bias_hh>;
};

}  // namespace tenon::nn
