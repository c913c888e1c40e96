// Automatic mixed precision against PyTorch's (tools/goldens/torch_autocast.py).
#include "tenon/trace/autocast.h"

#include <gmock/gmock.h>

#include <cmath>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "tenon/base/error.h"
#include "tenon/exec/evaluate.h"
#include "tenon/exec/program.h"
#include "tenon/ir/text.h"
#include "tenon/ops/catalog.h"
#include "tenon/tenon.h"
#include "tests/support/difference.h"

namespace tenon {
namespace {

using testing::HasSubstr;
using Call = std::function<Tensor(DType)>;

nlohmann::json goldens() {
  std::ifstream file(TENON_SOURCE_DIR "/tests/trace/goldens/torch_autocast.json");
  return nlohmann::json::parse(file);
}

Tensor x(const Shape& shape, DType dtype) { return full(shape, 0.5, dtype); }

// PyTorch's names; each call makes its inputs in the dtype given.
const std::map<std::string, Call>& calls() {
  static const Shape m{3, 3};
  static const std::map<std::string, Call> table{
      {"matmul", [](DType t) { return matmul(x(m, t), x(m, t)); }},
      {"mm", [](DType t) { return matmul(x(m, t), x(m, t)); }},
      {"mv", [](DType t) { return matmul(x(m, t), x({3}, t)); }},
      {"bmm", [](DType t) { return matmul(x({2, 3, 3}, t), x({2, 3, 3}, t)); }},
      {"batched matmul", [](DType t) { return matmul(x({2, 3, 3}, t), x({2, 3, 3}, t)); }},
      {"linear", [](DType t) { return nn::Linear(3, 2)(x(m, t)); }},
      {"einsum", [](DType t) { return einsum("ij,jk->ik", {x(m, t), x(m, t)}); }},
      {"conv1d", [](DType t) { return conv1d(x({1, 2, 5}, t), x({3, 2, 2}, t)); }},
      {"conv2d", [](DType t) { return conv2d(x({1, 2, 5, 5}, t), x({3, 2, 2, 2}, t), x({3}, t)); }},
      {"conv3d", [](DType t) { return conv3d(x({1, 2, 3, 3, 3}, t), x({3, 2, 2, 2, 2}, t)); }},
      {"conv_transpose1d", [](DType t) { return conv_transpose1d(x({1, 2, 5}, t), x({2, 3, 2}, t)); }},
      {"conv_transpose2d", [](DType t) { return conv_transpose2d(x({1, 2, 5, 5}, t), x({2, 3, 2, 2}, t)); }},
      {"conv_transpose3d", [](DType t) { return conv_transpose3d(x({1, 2, 3, 3, 3}, t), x({2, 3, 2, 2, 2}, t)); }},
      {"attention",
       [](DType t) {
         return scaled_dot_product_attention(x({1, 2, 3, 4}, t), x({1, 2, 3, 4}, t), x({1, 2, 3, 4}, t));
       }},
      {"prelu", [](DType t) { return prelu(x(m, t), x({1}, t)); }},
      {"relu", [](DType t) { return relu(x(m, t)); }},
      {"tanh", [](DType t) { return tanh(x(m, t)); }},
      {"add", [](DType t) { return x(m, t) + x(m, t); }},
      {"max", [](DType t) { return max(x(m, t)); }},
      {"acos", [](DType t) { return acos(x(m, t)); }},
      {"asin", [](DType t) { return asin(x(m, t)); }},
      {"cosh", [](DType t) { return cosh(x(m, t)); }},
      {"sinh", [](DType t) { return sinh(x(m, t)); }},
      {"tan", [](DType t) { return tan(x(m, t)); }},
      {"erfinv", [](DType t) { return erfinv(x(m, t)); }},
      {"exp", [](DType t) { return exp(x(m, t)); }},
      {"expm1", [](DType t) { return expm1(x(m, t)); }},
      {"log", [](DType t) { return log(x(m, t)); }},
      {"log10", [](DType t) { return log10(x(m, t)); }},
      {"log2", [](DType t) { return log2(x(m, t)); }},
      {"log1p", [](DType t) { return log1p(x(m, t)); }},
      {"reciprocal", [](DType t) { return reciprocal(x(m, t)); }},
      {"rsqrt", [](DType t) { return rsqrt(x(m, t)); }},
      {"pow", [](DType t) { return power(x(m, t), 1.7); }},
      {"softplus", [](DType t) { return softplus(x(m, t)); }},
      {"softmax", [](DType t) { return softmax(x(m, t), -1); }},
      {"log_softmax", [](DType t) { return log_softmax(x(m, t), -1); }},
      {"logsumexp", [](DType t) { return logsumexp(x(m, t), {1}); }},
      {"layer_norm", [](DType t) { return layer_norm(x(m, t), ones({3}, t)); }},
      {"rms_norm", [](DType t) { return rms_norm(x(m, t), ones({3}, t)); }},
      {"group_norm", [](DType t) { return group_norm(x({2, 4, 3}, t), 2); }},
      {"norm", [](DType t) { return norm(x(m, t)); }},
      {"sum", [](DType t) { return sum(x(m, t)); }},
      {"prod", [](DType t) { return prod(x(m, t)); }},
      {"cumsum", [](DType t) { return cumsum(x(m, t), 0); }},
      {"cumprod", [](DType t) { return cumprod(x(m, t), 0); }},
      {"cosine_similarity", [](DType t) { return cosine_similarity(x(m, t), x(m, t)); }},
      {"mse_loss", [](DType t) { return mse_loss(x(m, t), x(m, t)); }},
      {"l1_loss", [](DType t) { return l1_loss(x(m, t), x(m, t)); }},
      {"huber_loss", [](DType t) { return huber_loss(x(m, t), x(m, t)); }},
      {"smooth_l1_loss", [](DType t) { return smooth_l1_loss(x(m, t), x(m, t)); }},
      {"bce_with_logits", [](DType t) { return bce_with_logits(x(m, t), x(m, t)); }},
      {"binary_cross_entropy_with_logits", [](DType t) { return bce_with_logits(x(m, t), x(m, t)); }},
      {"nll_loss", [](DType t) { return nll_loss(x(m, t), tensor({0, 1, 2})); }},
      {"poisson_nll_loss", [](DType t) { return poisson_nll_loss(x(m, t), x(m, t)); }},
      {"kl_div", [](DType t) { return kl_div(x(m, t), x(m, t)); }},
      {"soft_margin_loss", [](DType t) { return soft_margin_loss(x(m, t), ones(m, t)); }},
      {"hinge_embedding_loss", [](DType t) { return hinge_embedding_loss(x(m, t), ones(m, t)); }},
      {"margin_ranking_loss", [](DType t) { return margin_ranking_loss(x(m, t), x(m, t), ones(m, t)); }},
      {"cosine_embedding_loss", [](DType t) { return cosine_embedding_loss(x(m, t), x(m, t), ones({3}, t)); }},
      {"triplet_margin_loss", [](DType t) { return triplet_margin_loss(x(m, t), ones(m, t), zeros(m, t)); }},
      {"multi_margin_loss", [](DType t) { return multi_margin_loss(x(m, t), tensor({0, 1, 2})); }},
      {"multilabel_margin_loss", [](DType t) { return multilabel_margin_loss(x(m, t), zeros(m, i64)); }},
  };
  return table;
}

DType dtype_named(const std::string& name) { return name == "bf16" ? bf16 : f32; }

TEST(Autocast, ResultDtypesAreThoseOfPyTorchOnTheCpu) {
  const auto json = goldens();
  const Autocast scope(bf16);
  int checked = 0;
  for (const auto& [name, want] : json["cpu"].items()) {
    if (!want.is_array()) continue;
    ASSERT_TRUE(calls().contains(name)) << name;
    EXPECT_EQ(calls().at(name)(f32).dtype(), dtype_named(want[0])) << name << " of f32";
    EXPECT_EQ(calls().at(name)(bf16).dtype(), dtype_named(want[1])) << name << " of bf16";
    ++checked;
  }
  EXPECT_EQ(checked, 24);
  EXPECT_EQ((ones({2}) + ones({2}, bf16)).dtype(), f32);
  EXPECT_EQ(concat({ones({2}), ones({2}, bf16)}, 0).dtype(), f32);
  EXPECT_EQ(matmul(ones({2, 2}, f64), ones({2, 2}, f64)).dtype(), f64);
}

// The longer lists of CUDA's autocast. Left out: ops that Tenon has under another name or not at all.
TEST(Autocast, ListsAreThoseOfPyTorchOnCuda) {
  const std::set<std::string> absent{"addbmm",
                                     "addmm",
                                     "addmv",
                                     "addr",
                                     "baddbmm",
                                     "chain_matmul",
                                     "conv_tbc",
                                     "convolution",
                                     "cudnn_convolution",
                                     "cudnn_convolution_transpose",
                                     "gru_cell",
                                     "lstm_cell",
                                     "rnn_relu_cell",
                                     "rnn_tanh_cell",
                                     "cdist",
                                     "dist",
                                     "nll_loss2d",
                                     "pdist",
                                     "renorm"};
  const auto json = goldens();
  const Autocast scope(f16);
  int checked = 0;
  for (const char* list : {"lower", "full"}) {
    for (const std::string name : json["cuda"][list]) {
      if (absent.contains(name)) continue;
      ASSERT_TRUE(calls().contains(name)) << name;
      const bool lower = std::string(list) == "lower";
      EXPECT_EQ(calls().at(name)(lower ? f32 : f16).dtype(), lower ? f16 : f32) << name;
      ++checked;
    }
  }
  EXPECT_EQ(checked, 55);
}

TEST(Autocast, HoldsForItsScopeAndThread) {
  EXPECT_EQ(autocast_dtype(), f32);
  {
    const Autocast outer(bf16);
    EXPECT_EQ(autocast_dtype(), bf16);
    {
      const Autocast off(bf16, false);
      EXPECT_EQ(calls().at("matmul")(f32).dtype(), f32);
    }
    EXPECT_EQ(calls().at("matmul")(f32).dtype(), bf16);
  }
  EXPECT_EQ(calls().at("matmul")(f32).dtype(), f32);
  EXPECT_THROW(Autocast{f64}, DTypeError);
}

TEST(Autocast, GradientsHaveTheParametersDtype) {
  const Variable w(full({4, 4}, 0.25)), b(zeros({4}));
  Tensor loss;
  {
    const Autocast scope(bf16);
    const Tensor y = matmul(full({2, 4}, 1.0), w);
    EXPECT_EQ(y.dtype(), bf16);
    loss = mse_loss(y + cast(b, bf16), zeros({2, 4}));
    loss.backward();  // inside or outside the scope is the same
  }
  EXPECT_EQ(loss.dtype(), f32);
  EXPECT_EQ(w.grad().dtype(), f32);
  EXPECT_EQ(b.grad().dtype(), f32);
  EXPECT_EQ(w.grad().to_vector<float>()[0], 0.5f);
}

TEST(Autocast, ACheckpointRunsAgainInItsPrecision) {
  const auto gradient = [](bool checkpointed) {
    const Variable w(full({3, 3}, 0.3));
    const trace::Function f = [&](const Tensors& in) { return Tensors{tanh(matmul(in[0], w))}; };
    Tensor y;
    {
      const Autocast scope(bf16);
      y = (checkpointed ? checkpoint(f) : f)({full({2, 3}, 0.7)})[0];
    }
    EXPECT_EQ(y.dtype(), bf16);
    sum(cast(y, f32)).backward();
    return w.grad().to_vector<float>();
  };
  EXPECT_EQ(gradient(true), gradient(false));
}

TEST(Autocast, ACaptureHoldsTheCasts) {
  const Autocast scope(bf16);
  const ir::Graph graph = capture([](const Tensors& in) { return Tensors{softmax(matmul(in[0], in[1]), -1)}; },
                                  {{"a", f32, {2, 3}}, {"b", f32, {3, 4}}});
  EXPECT_THAT(ir::to_text(graph, ops::catalog()), HasSubstr("bf16"));
  EXPECT_EQ(graph.type(graph.outputs[0]).dtype, f32);
}

// A graph's nodes have their dtypes, wherever it runs.
TEST(Autocast, ARunOfAGraphIsTheSameInAScope) {
  const NoGrad no_grad;
  const Tensor x = cast(sin(cast(reshape(arange(600), {2, 300}), f32)), bf16);
  const auto graph = std::make_shared<const ir::Graph>(
      capture([](const Tensors& in) { return Tensors{mean(in[0], {1})}; }, {{"x", bf16, {2, 300}}}));
  const std::vector<float> want = cast(exec::run(*graph, {x})[0], f32).to_vector<float>();
  const Autocast scope(bf16);
  const Tensor y = exec::run(*graph, {x})[0], z = exec::Program(graph).run({x})[0];
  EXPECT_EQ(y.dtype(), bf16);
  EXPECT_EQ(y.type(), graph->type(graph->outputs[0]));
  EXPECT_EQ(cast(y, f32).to_vector<float>(), want);
  EXPECT_EQ(cast(z, f32).to_vector<float>(), want);
}

// ---- training ------------------------------------------------------------------------------
struct Net {
  nn::Conv2d conv{1, 4, 3, {.padding = 1}};
  nn::Linear fc1{4 * 6 * 6, 16};
  nn::LayerNorm norm{16};
  nn::Linear fc2{16, 5};
  Tensor operator()(const Tensor& input) const { return fc2(tanh(norm(fc1(flatten(relu(conv(input)), 1))))); }
};

Tensor wave(const Shape& shape, double k) {
  const Tensor positions = reshape(iota({numel(shape)}, 0, f64) + 1.0, shape);
  return cast(sin(positions * k), f32);
}

std::vector<double> train(DType precision) {
  const Net net;
  double k = 0.7;
  for (auto& [name, p] : named_parameters(net)) {
    const Shape shape = p.shape();
    k += 0.1;
    if (name.ends_with("bias")) p.set(zeros(shape));
    if (shape.size() < 2) continue;
    const auto each = static_cast<double>(numel(shape) / shape[0]);
    p.set(wave(shape, k - 0.1) / std::sqrt(each));
  }
  const Tensor images = wave({8, 1, 6, 6}, 0.37), labels = tensor({0, 1, 2, 3, 4, 0, 1, 2});
  auto optimizer = optim::SGD(parameters(net), {.lr = 0.01, .momentum = 0.9});
  std::vector<double> losses;
  for (int step = 0; step < 20; ++step) {
    optimizer.zero_grad();
    Tensor loss;
    {
      const Autocast scope(precision == f32 ? bf16 : precision, precision != f32);
      loss = cross_entropy(net(images), labels);
    }
    loss.backward();
    optimizer.step();
    losses.push_back(loss.item());
  }
  return losses;
}

TEST(Autocast, ATrainingRunFollowsPyTorchs) {
  const auto want = goldens()["losses"];
  EXPECT_LT(testing_support::largest_difference(train(f32), want["f32"].get<std::vector<double>>()), 1e-5);
  const auto got = train(bf16);
  EXPECT_LT(testing_support::largest_difference(got, want["bf16"].get<std::vector<double>>()), 0.003);
  EXPECT_GT(testing_support::largest_difference(got, want["f32"].get<std::vector<double>>()),
            0.004);  // bf16 is another run
}

TEST(GradScaler, SkipsShrinksAndGrowsAsPyTorchs) {
  const Variable w(tensor({1.0f, -2.0f}));
  auto optimizer = optim::SGD({w}, {.lr = 0.1});
  optim::GradScaler scaler({.init_scale = 1024, .growth_interval = 3});
  const nlohmann::json rows = goldens()["scaler"];
  for (const auto& row : rows) {
    optimizer.zero_grad();
    const Tensor loss = sum(w.value() * w.value()) * row["factor"].get<double>();
    scaler.scale(loss).backward();
    const bool stepped = scaler.step(optimizer);
    scaler.update();
    EXPECT_EQ(stepped, row["factor"].get<double>() < 1e30);
    EXPECT_EQ(scaler.scale_now(), row["scale"].get<double>());
    const auto values = w.value().to_vector<float>();
    for (size_t i = 0; i < 2; ++i) EXPECT_FLOAT_EQ(values[i], row["w"][i].get<float>());
  }
}

TEST(GradScaler, StateSurvives) {
  optim::GradScaler one({.init_scale = 256, .growth_interval = 2}), two;
  const Variable w(tensor({1.0f}));
  auto optimizer = optim::SGD({w}, {.lr = 0.1});
  one.scale(sum(w)).backward();
  EXPECT_TRUE(one.step(optimizer));
  one.update();
  two.load_state_dict(one.state_dict());
  EXPECT_EQ(two.scale_now(), 256);
  EXPECT_EQ(two.state_dict().find("growth_tracker")->item<int64_t>(), 1);
  EXPECT_THROW(two.load_state_dict(StateDict()), ValueError);
}

TEST(GradScaler, SaysWhatIsWrong) {
  const Variable w(tensor({1.0f}));
  auto optimizer = optim::SGD({w}, {.lr = 0.1});
  optim::GradScaler scaler;
  EXPECT_THROW(scaler.update(), ValueError);
  scaler.scale(sum(w)).backward();
  scaler.unscale(optimizer);
  EXPECT_THROW(scaler.unscale(optimizer), ValueError);
  (void)scaler.step(optimizer);
  EXPECT_THROW((void)scaler.step(optimizer), ValueError);
  EXPECT_THROW(optim::GradScaler({.growth_factor = 1}), ValueError);
  EXPECT_THROW(optim::GradScaler({.backoff_factor = 2}), ValueError);
}

}  // namespace
}  // namespace tenon
