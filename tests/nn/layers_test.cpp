// What layers do beside the arithmetic that tests/nn/torch_layers_test.cpp compares: modes, copies, keys, mistakes.
#include <gmock/gmock.h>

#include <functional>

#include "tenon/base/error.h"
#include "tenon/nn/nn.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/random.h"
#include "tenon/ops/reduce.h"
#include "tests/support/error_text.h"

namespace {

using namespace tenon;
using testing::ElementsAre;
using testing::HasSubstr;
using testing_support::error_text;

TEST(Dropout, ChannelsAreDroppedWhole) {
  manual_seed(5);
  nn::Dropout2d layer(0.4);
  const auto y = layer(ones({50, 8, 3, 2})).to_vector<double>();
  int dropped = 0;
  for (size_t c = 0; c < y.size(); c += 6) {
    dropped += y[c] == 0 ? 1 : 0;
    for (size_t k = 0; k < 6; ++k) ASSERT_EQ(y[c + k], y[c]);
    ASSERT_TRUE(y[c] == 0 || std::abs(y[c] - 1 / 0.6) < 1e-6);
  }
  EXPECT_NEAR(dropped, 160, 4 * std::sqrt(400 * 0.24));
  nn::eval(layer);
  EXPECT_EQ(layer(ones({1, 2, 2, 2})).to_vector<double>(), std::vector<double>(8, 1));
  EXPECT_THAT(error_text([&] { (void)layer(ones({2, 2})); }), HasSubstr("Dropout2d"));
}

TEST(Dropout, AlphaKeepsMeanAndVariance) {
  manual_seed(6);
  const Tensor x = normal({200000});
  for (const double p : {0.1, 0.5}) {
    const Tensor y = nn::AlphaDropout(p)(x);
    EXPECT_NEAR(mean(y).item<double>(), 0, 0.02) << p;
    EXPECT_NEAR(var(y).item<double>(), 1, 0.03) << p;
  }
  const auto z = nn::FeatureAlphaDropout(0.5)(ones({20, 4, 5})).to_vector<double>();
  for (size_t c = 0; c < z.size(); c += 5) {
    for (size_t k = 0; k < 5; ++k) ASSERT_EQ(z[c + k], z[c]);
  }
}

TEST(Dropout, RandomSlopesLieBetweenTheBounds) {
  manual_seed(7);
  const auto y = nn::RReLU(0.1, 0.3)(full({10000}, -1)).to_vector<double>();
  for (const double v : y) ASSERT_TRUE(v <= -0.1 + 1e-6 && v >= -0.3 - 1e-6) << v;
  EXPECT_EQ(nn::RReLU(0.1, 0.3)(ones({3})).to_vector<double>(), std::vector<double>(3, 1));
}

TEST(Recurrent, KeysArePyTorchsAndCopiesAreIndependent) {
  const nn::LSTM lstm(2, 3, {.bidirectional = true, .proj_size = 2});
  std::vector<std::string> keys;
  for (const auto& v : nn::named_parameters(lstm)) keys.push_back(v.name);
  EXPECT_THAT(keys, testing::UnorderedElementsAre("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0",
                                                  "weight_hr_l0", "weight_ih_l0_reverse", "weight_hh_l0_reverse",
                                                  "bias_ih_l0_reverse", "bias_hh_l0_reverse", "weight_hr_l0_reverse"));
  const nn::LSTM copy = nn::clone(lstm);
  const Tensor x = ones({2, 1, 2}), before = copy(x).y;
  for (auto& v : nn::parameters(lstm)) v.set(zeros(v.shape()));
  EXPECT_EQ(copy(x).y.to_vector<double>(), before.to_vector<double>());
  EXPECT_EQ(lstm(x).y.to_vector<double>(), std::vector<double>(8, 0));
}

TEST(Recurrent, DropoutFollowsTheMode) {
  manual_seed(8);
  nn::GRU gru(3, 4, {.num_layers = 2, .dropout = 0.5});
  const Tensor x = normal({5, 2, 3});
  EXPECT_NE(gru(x).y.to_vector<double>(), gru(x).y.to_vector<double>());
  nn::eval(gru);
  EXPECT_EQ(gru(x).y.to_vector<double>(), gru(x).y.to_vector<double>());
}

TEST(Transformer, StackedLayersHaveWeightsOfTheirOwn) {
  const nn::TransformerEncoderLayer layer(4, 2, {.dim_feedforward = 8});
  nn::TransformerEncoder encoder(layer, 2);
  const auto all = nn::named_parameters(encoder);
  EXPECT_EQ(all.size(), 24U);
  EXPECT_EQ(all[0].name, "layers.0.self_attn.in_proj_weight");
  EXPECT_FALSE(encoder.layers[0].linear1.weight == encoder.layers[1].linear1.weight);
  EXPECT_EQ(encoder.layers[0].linear1.weight.value().to_vector<float>(),
            encoder.layers[1].linear1.weight.value().to_vector<float>());
}

TEST(Layers, ASequenceOfThemIsAModel) {
  manual_seed(9);
  const auto model = nn::Sequential(nn::ReflectionPad2d{{1}}, nn::Conv2d(1, 4, 3), nn::BatchNorm2d(4), nn::PReLU(4),
                                    nn::MaxPool2d{}, nn::ConvTranspose2d(4, 2, 2, {.stride = 2}), nn::Dropout2d(0.1),
                                    nn::AdaptiveAvgPool2d{2}, nn::Flatten(), nn::Unflatten{1, {2, 4}}, nn::GLU());
  EXPECT_EQ(model(ones({3, 1, 6, 6})).shape(), (Shape{3, 2, 2}));
  const auto names = nn::state_dict(model).keys();
  EXPECT_THAT(std::vector<std::string>(names.begin(), names.end()),
              ElementsAre("1.weight", "1.bias", "2.weight", "2.bias", "2.running_mean", "2.running_var",
                          "2.num_batches_tracked", "3.weight", "5.weight", "5.bias"));
}

TEST(Layers, MistakesAreNamed) {
  EXPECT_THAT(error_text([] { nn::MultiheadAttention(10, 3); }), HasSubstr("the heads do not divide the width"));
  EXPECT_THAT(error_text([] { nn::ConvTranspose2d(4, 3, 2, {.groups = 2}); }),
              HasSubstr("do not divide into the groups"));
  EXPECT_THAT(error_text([] { (void)nn::ConvTranspose1d(4, 2, 2)(ones({1, 3, 5})); }), HasSubstr("ConvTranspose1d"));
  EXPECT_THAT(error_text([] { nn::LSTM(2, 3, {.proj_size = 3}); }), HasSubstr("proj_size does not fit"));
  EXPECT_THAT(error_text([] { nn::GRU(2, 3, {.proj_size = 2}); }), HasSubstr("only LSTM projects"));
  EXPECT_THAT(error_text([] { nn::RNN(0, 3); }), HasSubstr("in is too small"));
  EXPECT_THAT(error_text([] { (void)nn::LSTMCell(2, 3)(ones({4, 5})); }), HasSubstr("[N, 2]"));
  EXPECT_THAT(error_text([] { (void)nn::GRUCell(2, 3)(ones({4, 2}), ones({4, 2})); }),
              HasSubstr("the state does not fit"));
  EXPECT_THAT(error_text([] { (void)nn::GLU{}(ones({2, 3})); }), HasSubstr("no two halves"));
  EXPECT_THAT(error_text([] { (void)nn::Unflatten{1, {2, 2}}(ones({2, 3})); }), HasSubstr("do not multiply"));
  EXPECT_THAT(error_text([] { (void)nn::ZeroPad2d{{1, 2, 3}}(ones({1, 1, 2, 2})); }), HasSubstr("1 or 4 numbers"));
  EXPECT_THAT(error_text([] { (void)nn::InstanceNorm2d(2)(ones({3, 2, 1, 1})); }), HasSubstr("no variance"));
  EXPECT_THAT(error_text([] { nn::RReLU(0.5, 0.1); }), HasSubstr("lower <= upper"));
}

}  // namespace
