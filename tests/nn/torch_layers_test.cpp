// Every layer against PyTorch: its weights load as they are, and outputs, gradients and buffers agree; weights start
// with PyTorch's distributions. The answers are tests/nn/goldens/{layers,init}.json (tools/goldens/torch_layers.py).
#include <functional>
#include <map>

#include "tenon/nn/nn.h"
#include "tenon/ops/random.h"
#include "torch_golden.h"

namespace {

using namespace tenon;
using namespace tenon::test;
using nlohmann::json;

struct Entry {
  std::function<Tensors(const Tensors&)> call;
  std::function<void(const StateDict&)> load;
  std::vector<nn::NamedVariable> variables;
};

template <class Layer, class Call>
Entry entry(Layer layer, Call call) {
  auto shared = std::make_shared<Layer>(std::move(layer));
  return {[shared, call](const Tensors& in) { return Tensors(call(*shared, in)); },
          [shared](const StateDict& dict) { (void)nn::load_state_dict(*shared, dict); }, nn::named_variables(*shared)};
}
// A layer of one input, or of two, with one output.
template <class Layer>
Entry one(Layer layer) {
  return entry(std::move(layer), [](const Layer& l, const Tensors& in) {
    if constexpr (requires { l(in[0], in[1]); } && !requires { l(in[0]); }) {
      return Tensors{l(in[0], in[1])};
    } else {
      return Tensors{l(in[0])};
    }
  });
}
template <class Layer>
Entry recurrent(Layer layer, std::function<nn::RecurrentStart(const Tensors&)> start = {}) {
  return entry(std::move(layer), [start](const Layer& l, const Tensors& in) {
    const RecurrentResult r = l(in[0], start ? start(in) : nn::RecurrentStart{});
    return r.c.defined() ? Tensors{r.y, r.h, r.c} : Tensors{r.y, r.h};
  });
}
template <class Layer>
Entry evaluating(Layer layer) {
  nn::eval(layer);
  return one(std::move(layer));
}
Tensor causal_mask(int64_t n) { return greater(iota({n, n}, 1), iota({n, n}, 0)); }

std::map<std::string, Entry> recurrent_layers() {
  std::map<std::string, Entry> all;
  const auto h0 = [](const Tensors& in) { return nn::RecurrentStart{.h0 = in[1]}; };
  all["RNN"] = recurrent(nn::RNN(2, 3));
  all["RNN_relu_two_layers_both_ways"] =
      recurrent(nn::RNN(2, 3, {.num_layers = 2, .bidirectional = true, .nonlinearity = RnnActivation::Relu}), h0);
  all["LSTM"] = recurrent(nn::LSTM(2, 3));
  all["LSTM_two_layers_both_ways_lengths"] =
      recurrent(nn::LSTM(2, 2, {.num_layers = 2, .bidirectional = true}),
                [](const Tensors& in) { return nn::RecurrentStart{.h0 = in[2], .c0 = in[3], .lengths = in[1]}; });
  all["LSTM_projection_batch_first"] =
      recurrent(nn::LSTM(2, 4, {.num_layers = 2, .batch_first = true, .proj_size = 3}));
  all["LSTM_one_example_without_bias"] = recurrent(nn::LSTM(2, 3, {.bias = false}));
  all["GRU"] = recurrent(nn::GRU(2, 3), h0);
  all["GRU_two_layers_both_ways_lengths"] =
      recurrent(nn::GRU(2, 2, {.num_layers = 2, .batch_first = true, .bidirectional = true}),
                [](const Tensors& in) { return nn::RecurrentStart{.lengths = in[1]}; });
  all["RNNCell"] =
      entry(nn::RNNCell(2, 3), [](const nn::RNNCell& l, const Tensors& in) { return Tensors{l(in[0], in[1])}; });
  all["GRUCell"] =
      entry(nn::GRUCell(2, 3), [](const nn::GRUCell& l, const Tensors& in) { return Tensors{l(in[0], in[1])}; });
  all["LSTMCell"] = entry(nn::LSTMCell(2, 3), [](const nn::LSTMCell& l, const Tensors& in) {
    const LstmState s = l(in[0], {in[1], in[2]});
    return Tensors{s.h, s.c};
  });
  return all;
}

std::map<std::string, Entry> attention_layers() {
  std::map<std::string, Entry> all;
  const auto qkv = [](const nn::MultiheadAttention& l, const Tensors& in) {
    const auto r = l.with_weights(in[0], in[1], in[2]);
    EXPECT_EQ(r.y.shape(), l(in[0], in[1], in[2]).shape());
    return Tensors{r.y, r.weights};
  };
  all["MultiheadAttention"] = entry(nn::MultiheadAttention(4, 2), qkv);
  all["MultiheadAttention_other_widths"] = entry(nn::MultiheadAttention(4, 2, {.kdim = 3, .vdim = 5}), qkv);
  all["MultiheadAttention_masks_batch_first"] =
      entry(nn::MultiheadAttention(4, 2, {.batch_first = true}), [](const auto& l, const Tensors& in) {
        const auto r = l.with_weights(in[0], in[0], in[0], {.attention = in[2], .key_padding = in[1]});
        return Tensors{r.y, r.weights};
      });
  all["MultiheadAttention_more_keys"] =
      entry(nn::MultiheadAttention(4, 2, {.bias = false, .add_bias_kv = true, .add_zero_attn = true}),
            [](const auto& l, const Tensors& in) {
              const auto r = l.with_weights(in[0], in[0], in[0], {.attention = in[1]});
              return Tensors{r.y, r.weights};
            });
  const nn::TransformerOptions small{.dim_feedforward = 5, .dropout = 0};
  all["TransformerEncoderLayer"] = one(nn::TransformerEncoderLayer(4, 2, small));
  all["TransformerEncoderLayer_norm_first_gelu"] =
      one(nn::TransformerEncoderLayer(4, 2,
                                      {.dim_feedforward = 5,
                                       .dropout = 0,
                                       .activation = nn::TransformerOptions::Activation::Gelu,
                                       .batch_first = true,
                                       .norm_first = true,
                                       .bias = false}));
  all["TransformerDecoderLayer"] =
      entry(nn::TransformerDecoderLayer(4, 2, small),
            [](const auto& l, const Tensors& in) { return Tensors{l(in[0], in[1], {.attention = causal_mask(3)})}; });
  all["Transformer"] = one(nn::Transformer({.width = 4, .heads = 2, .encoder_layers = 2, .decoder_layers = 1},
                                           {.dim_feedforward = 3, .dropout = 0}));
  return all;
}

std::map<std::string, Entry> weighted_layers() {
  std::map<std::string, Entry> all;
  all["Conv1d"] = one(nn::Conv1d(4, 2, 3, {.stride = 2, .padding = 1, .groups = 2}));
  all["Conv3d"] = one(nn::Conv3d(2, 2, 2, {.dilation = {1, 2, 1}}));
  all["ConvTranspose1d"] =
      one(nn::ConvTranspose1d(4, 2, 3, {.stride = 2, .padding = 1, .output_padding = 1, .groups = 2}));
  all["ConvTranspose2d"] = one(nn::ConvTranspose2d(2, 3, {2, 3}, {.stride = {2, 1}, .padding = 1, .dilation = {1, 2}}));
  all["ConvTranspose3d"] = one(nn::ConvTranspose3d(2, 2, 2, {.stride = 2, .bias = false}));
  all["Bilinear"] = one(nn::Bilinear(2, 3, 4));
  all["BatchNorm1d"] = one(nn::BatchNorm1d(3));
  all["BatchNorm2d"] = one(nn::BatchNorm2d(2, {.momentum = 0.3}));
  all["BatchNorm3d"] = one(nn::BatchNorm3d(2));
  all["InstanceNorm1d"] = one(nn::InstanceNorm1d(2));
  all["InstanceNorm2d"] = one(nn::InstanceNorm2d(2, {.affine = true, .track_running_stats = true}));
  all["GroupNorm"] = one(nn::GroupNorm(2, 4));
  all["LayerNorm"] = one(nn::LayerNorm(Shape{2, 3}));
  all["LayerNorm_without_bias"] = one(nn::LayerNorm(3, {.bias = false}));
  all["RMSNorm"] = one(nn::RMSNorm(4));
  all["LocalResponseNorm"] = one(nn::LocalResponseNorm{.size = 3, .alpha = 0.3, .beta = 0.6, .k = 1.5});
  all["PReLU"] = one(nn::PReLU());
  all["PReLU_channels"] = one(nn::PReLU(2));
  all["RReLU_evaluating"] = evaluating(nn::RReLU());
  return all;
}

std::map<std::string, Entry> pooling_layers() {
  std::map<std::string, Entry> all;
  all["MaxPool1d"] = one(nn::MaxPool1d{.window = 3, .stride = {2}, .padding = {1}, .ceil_mode = true});
  all["MaxPool2d"] = one(nn::MaxPool2d{.window = {2, 3}, .stride = {1}, .dilation = {2, 1}});
  all["MaxPool3d"] = one(nn::MaxPool3d{.window = 2});
  all["AvgPool1d"] = one(nn::AvgPool1d{.window = 3, .stride = {2}, .padding = {1}, .count_include_pad = false});
  all["AvgPool2d"] = one(nn::AvgPool2d{.window = 2, .stride = {1}, .padding = {1}});
  all["AvgPool3d"] = one(nn::AvgPool3d{.window = 2, .ceil_mode = true});
  all["LPPool1d"] = one(nn::LPPool1d{.p = 3, .window = 2});
  all["LPPool2d"] = one(nn::LPPool2d{.p = 2, .window = {2, 1}, .stride = {1}});
  all["AdaptiveAvgPool1d"] = one(nn::AdaptiveAvgPool1d{3});
  all["AdaptiveAvgPool2d"] = one(nn::AdaptiveAvgPool2d{{2, 3}});
  all["AdaptiveAvgPool3d"] = one(nn::AdaptiveAvgPool3d{2});
  all["AdaptiveMaxPool1d"] = one(nn::AdaptiveMaxPool1d{3});
  all["AdaptiveMaxPool2d"] = one(nn::AdaptiveMaxPool2d{{2, 3}});
  all["AdaptiveMaxPool3d"] = one(nn::AdaptiveMaxPool3d{2});
  all["MaxUnpool2d"] = entry(nn::Identity{}, [](const nn::Identity&, const Tensors& in) {
    const auto r = nn::MaxPool2d{}.with_indices(in[0]);
    return Tensors{nn::MaxUnpool2d{.extents = {4, 5}}(r.values, r.indices)};
  });
  all["ConstantPad1d"] = one(nn::ConstantPad1d{{1, 2}, 0.5});
  all["ConstantPad3d"] = one(nn::ConstantPad3d{{1, 0, 0, 1, 2, -1}, -1.5});
  all["ZeroPad2d"] = one(nn::ZeroPad2d{{1, 0, 2, 1}});
  all["ReflectionPad1d"] = one(nn::ReflectionPad1d{{2, 1}});
  all["ReflectionPad2d"] = one(nn::ReflectionPad2d{{1, 2, 0, 1}});
  all["ReplicationPad2d"] = one(nn::ReplicationPad2d{{1, 2, 0, 1}});
  all["ReplicationPad3d"] = one(nn::ReplicationPad3d{{1}});
  all["CircularPad2d"] = one(nn::CircularPad2d{{1, 2, 0, 1}});
  all["Flatten"] = one(nn::Flatten{.start_axis = 1, .end_axis = 2});
  all["Unflatten"] = one(nn::Unflatten{.axis = 1, .extents = {2, -1}});
  all["PixelShuffle"] = one(nn::PixelShuffle{});
  all["PixelUnshuffle"] = one(nn::PixelUnshuffle{});
  all["ChannelShuffle"] = one(nn::ChannelShuffle{});
  all["CosineSimilarity"] = one(nn::CosineSimilarity{});
  all["PairwiseDistance"] = one(nn::PairwiseDistance{.p = 3});
  return all;
}

std::map<std::string, Entry> activation_layers() {
  std::map<std::string, Entry> all;
  all["Identity"] = one(nn::Identity{});
  all["ReLU"] = one(nn::ReLU{});
  all["ReLU6"] = one(nn::ReLU6{});
  all["LeakyReLU"] = one(nn::LeakyReLU{0.2});
  all["ELU"] = one(nn::ELU{1.3});
  all["SELU"] = one(nn::SELU{});
  all["CELU"] = one(nn::CELU{1.3});
  all["GELU"] = one(nn::GELU{});
  all["GELU_tanh"] = one(nn::GELU{true});
  all["SiLU"] = one(nn::SiLU{});
  all["Mish"] = one(nn::Mish{});
  all["Tanh"] = one(nn::Tanh{});
  all["Sigmoid"] = one(nn::Sigmoid{});
  all["LogSigmoid"] = one(nn::LogSigmoid{});
  all["HardSwish"] = one(nn::HardSwish{});
  all["HardSigmoid"] = one(nn::HardSigmoid{});
  all["HardTanh"] = one(nn::HardTanh{-0.8, 0.7});
  all["Softplus"] = one(nn::Softplus{1.5});
  all["Softsign"] = one(nn::Softsign{});
  all["Tanhshrink"] = one(nn::Tanhshrink{});
  all["Hardshrink"] = one(nn::Hardshrink{0.4});
  all["Softshrink"] = one(nn::Softshrink{0.4});
  all["Threshold"] = one(nn::Threshold{0.3, -2});
  all["Softmin"] = one(nn::Softmin{});
  all["Softmax"] = one(nn::Softmax{});
  all["LogSoftmax"] = one(nn::LogSoftmax{});
  all["GLU"] = one(nn::GLU{});
  all["Softmax2d"] = one(nn::Softmax2d{});
  return all;
}

void check_case(const json& row, Entry& layer) {
  const std::string name = row.at("name");
  StateDict state;
  for (const auto& [key, value] : row.at("state").items()) state.set(key, golden_tensor(value));
  layer.load(state);  // strict: names and shapes are PyTorch's
  Tensors in;
  std::vector<Variable> leaves;
  for (const auto& j : row.at("inputs")) {
    const Tensor x = golden_tensor(j);
    leaves.push_back(is_float(x.dtype()) ? Variable(x) : Variable());
    in.push_back(leaves.back().defined() ? leaves.back().value() : x);
  }
  const Tensors out = layer.call(in);
  ASSERT_EQ(out.size(), row.at("outputs").size()) << name;
  for (size_t i = 0; i < out.size(); ++i)
    expect_close(out[i], row.at("outputs")[i], name + ", output " + std::to_string(i));
  weighted(out).backward();
  for (size_t i = 0; i < leaves.size(); ++i) {
    const json& want = row.at("input_grads")[i];
    if (!want.is_null()) expect_close(leaves[i].grad(), want, name + ", gradient of input " + std::to_string(i), 5e-5);
  }
  size_t compared = 0;
  for (const auto& v : layer.variables) {
    if (v.variable.trainable() && row.at("grads").contains(v.name)) {
      expect_close(v.variable.grad(), row.at("grads").at(v.name), name + ", gradient of " + v.name, 5e-5);
      ++compared;
    }
    if (row.at("after").contains(v.name))
      expect_close(v.variable.value(), row.at("after").at(v.name), name + ", " + v.name);
  }
  EXPECT_EQ(compared, row.at("grads").size()) << name;
}

TEST(TorchLayers, WeightsLoadOutputsAndGradientsAgree) {
  std::map<std::string, Entry> all;
  for (auto& group : {recurrent_layers(), attention_layers(), weighted_layers(), pooling_layers(), activation_layers()})
    all.insert(group.begin(), group.end());
  const json rows = read_golden("layers.json");
  EXPECT_EQ(rows.size(), all.size());
  for (const json& row : rows) {
    const auto found = all.find(row.at("name").get<std::string>());
    ASSERT_NE(found, all.end()) << row.at("name");
    SCOPED_TRACE(found->first);
    ASSERT_NO_THROW(check_case(row, found->second)) << found->first;
  }
}

// Largest magnitude and deviation of fresh weights. A bounded uniform comes close to its bound, a normal has tails.
TEST(TorchLayers, WeightsStartWithPyTorchsDistributions) {
  manual_seed(11);
  std::map<std::string, std::vector<nn::NamedVariable>> all;
  const auto add = [&](const char* name, const auto& layer) { all[name] = nn::named_variables(layer); };
  add("Linear", nn::Linear(60, 50));
  add("Bilinear", nn::Bilinear(20, 15, 12));
  add("Conv1d", nn::Conv1d(24, 32, 5, {.groups = 2}));
  add("Conv2d", nn::Conv2d(12, 32, 5));
  add("Conv3d", nn::Conv3d(8, 16, 3));
  add("ConvTranspose1d", nn::ConvTranspose1d(24, 32, 5, {.groups = 2}));
  add("ConvTranspose2d", nn::ConvTranspose2d(12, 32, 5));
  add("ConvTranspose3d", nn::ConvTranspose3d(8, 16, 3));
  add("Embedding", nn::Embedding(80, 30));
  add("RNN", nn::RNN(30, 40));
  add("LSTM", nn::LSTM(30, 40, {.num_layers = 2, .bidirectional = true}));
  add("LSTM_projection", nn::LSTM(30, 40, {.proj_size = 20}));
  add("GRU", nn::GRU(30, 40));
  add("RNNCell", nn::RNNCell(30, 40));
  add("LSTMCell", nn::LSTMCell(30, 40));
  add("GRUCell", nn::GRUCell(30, 40));
  add("MultiheadAttention", nn::MultiheadAttention(40, 4, {.add_bias_kv = true}));
  add("MultiheadAttention_other_widths", nn::MultiheadAttention(40, 4, {.kdim = 30, .vdim = 20}));
  add("TransformerEncoderLayer", nn::TransformerEncoderLayer(32, 4, {.dim_feedforward = 50}));
  add("TransformerDecoderLayer", nn::TransformerDecoderLayer(32, 4, {.dim_feedforward = 50}));
  add("Transformer",
      nn::Transformer({.width = 32, .heads = 4, .encoder_layers = 1, .decoder_layers = 1}, {.dim_feedforward = 50}));
  add("BatchNorm", nn::BatchNorm2d(8));
  add("InstanceNorm", nn::InstanceNorm1d(8, {.affine = true, .track_running_stats = true}));
  add("LayerNorm", nn::LayerNorm(8));
  add("GroupNorm", nn::GroupNorm(2, 8));
  add("RMSNorm", nn::RMSNorm(8));
  add("PReLU", nn::PReLU(3));
  const json rows = read_golden("init.json");
  EXPECT_EQ(rows.size(), all.size());
  for (const json& row : rows) {
    const std::string name = row.at("name");
    ASSERT_TRUE(all.contains(name)) << name;
    EXPECT_EQ(all[name].size(), row.at("weights").size()) << name;
    for (const auto& v : all[name]) {
      const std::string what = name + ", " + v.name;
      ASSERT_TRUE(row.at("weights").contains(v.name)) << what;
      const json& want = row.at("weights").at(v.name);
      EXPECT_EQ(std::vector<int64_t>(v.variable.shape().begin(), v.variable.shape().end()),
                want.at("shape").get<std::vector<int64_t>>())
          << what;
      double largest = 0, squares = 0;
      const auto values = v.variable.value().to_vector<double>();
      for (const double x : values) {
        largest = std::max(largest, std::abs(x));
        squares += x * x;
      }
      const auto n = static_cast<double>(values.size());
      // Five deviations of the estimates of both sides.
      EXPECT_NEAR(std::sqrt(squares / n), want.at("deviation").get<double>(),
                  5 * want.at("deviation").get<double>() / std::sqrt(n))
          << what;
      EXPECT_NEAR(largest, want.at("largest").get<double>(), want.at("largest").get<double>() * (n < 200 ? 0.6 : 0.3))
          << what;
    }
  }
}

}  // namespace
