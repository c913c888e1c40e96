// Recurrent networks: Elman's (tanh or relu), LSTM (Hochreiter and Schmidhuber, 1997), GRU (Cho et al., arXiv
// 1406.1078).
//
// Semantics, weight layout and order of gates are PyTorch's: x is [T, N, in] ([N, T, in] with batch_first, or one
// example [T, in]), weights of a layer and direction are
//   input [gates * hidden, in]   hidden [gates * hidden, out]   biases [gates * hidden]   projection [out, hidden]
//   (LSTM)
// with gates i, f, g, o (LSTM) and r, z, n (GRU). Layer 0 comes first, of each layer the forward direction. The
// projection of all steps is one matrix product before the loop over time.
// Errors: ShapeError naming the layer's weight that does not fit; ValueError for options.
#pragma once

#include <functional>

#include "tenon/ops/opdef.h"

namespace tenon {

struct RecurrentWeights {
  Tensor input, hidden;
  Tensor input_bias, hidden_bias;  // undefined: none
  Tensor projection;               // LSTM with a narrower output; undefined: none
};
struct RecurrentOptions {
  bool bidirectional = false;
  bool batch_first = false;
  double dropout = 0;   // of the outputs of every layer but the last; pass 0 to evaluate
  Tensor lengths = {};  // [N]: examples end there; later outputs are 0, the last state is that of the last step
};
struct RecurrentResult {
  Tensor y;     // [T, N, directions * out], or as x was given
  Tensor h, c;  // last states [layers * directions, N, out] and, for LSTM, [layers * directions, N, hidden]
};
enum class RnnActivation : uint8_t { Tanh, Relu };
// `weights` has one entry for each layer and direction. States start at h0, c0 (shapes of the result's h, c) or at 0.
RecurrentResult rnn(const Tensor& x, const std::vector<RecurrentWeights>& weights, const Tensor& h0 = {},
                    const RecurrentOptions& options = {}, RnnActivation activation = RnnActivation::Tanh);
RecurrentResult lstm(const Tensor& x, const std::vector<RecurrentWeights>& weights, const Tensor& h0 = {},
                     const Tensor& c0 = {}, const RecurrentOptions& options = {});
RecurrentResult gru(const Tensor& x, const std::vector<RecurrentWeights>& weights, const Tensor& h0 = {},
                    const RecurrentOptions& options = {});

// One step: x [N, in] and the state [N, out] give the next state.
Tensor rnn_cell(const Tensor& x, const Tensor& h, const RecurrentWeights& weights,
                RnnActivation activation = RnnActivation::Tanh);
struct LstmState {
  Tensor h, c;
};
LstmState lstm_cell(const Tensor& x, const LstmState& state, const RecurrentWeights& weights);
Tensor gru_cell(const Tensor& x, const Tensor& h, const RecurrentWeights& weights);

// Any recurrence over the first axis of x: step(x[t], states) gives the next states, the first of which is the output
// of the step. With lengths [N], an example's state stays and its output is 0 from there on.
struct RecurrenceResult {
  Tensor y;
  Tensors states;
};
using RecurrenceStep = std::function<Tensors(const Tensor& x, const Tensors& states)>;
RecurrenceResult recurrence(const RecurrenceStep& step, const Tensor& x, Tensors states, const Tensor& lengths = {},
                            bool reverse = false);

namespace ops {
// One layer in one direction. Inputs x [T, N, in], hidden state, (LSTM: cell state,) input and hidden weight, their
// biases (optional), (LSTM: projection (optional),) lengths (optional). Results: y, last hidden (and cell) state.
// Attributes: reverse; of rnn also relu.
const OpDef& rnn_op();
const OpDef& lstm_op();
const OpDef& gru_op();
std::vector<const OpDef*> recurrent_ops();
}  // namespace ops

}  // namespace tenon
