// Losses against PyTorch, in every reduction, with gradients: tests/nn/goldens/losses.json, made by
// tools/goldens/torch_layers.py. And what is wrong with wrong arguments.
#include <gmock/gmock.h>

#include <functional>
#include <map>

#include "tenon/base/error.h"
#include "tenon/nn/loss.h"
#include "tenon/ops/softmax.h"
#include "torch_golden.h"

namespace {

using namespace tenon;
using namespace tenon::test;
using nlohmann::json;
using testing::HasSubstr;

using Loss = std::function<Tensor(const Tensors&, LossReduction)>;

std::map<std::string, Loss> losses() {
  using R = LossReduction;
  return {
      {"mse", [](const Tensors& t, R r) { return nn::MSELoss{r}(t[0], t[1]); }},
      {"l1", [](const Tensors& t, R r) { return nn::L1Loss{r}(t[0], t[1]); }},
      {"huber", [](const Tensors& t, R r) { return nn::HuberLoss{0.7, r}(t[0], t[1]); }},
      {"smooth_l1", [](const Tensors& t, R r) { return nn::SmoothL1Loss{0.6, r}(t[0], t[1]); }},
      {"bce", [](const Tensors& t, R r) { return nn::BCELoss{r}(t[0], t[1]); }},
      {"bce_with_logits", [](const Tensors& t, R r) { return nn::BCEWithLogitsLoss{r}(t[0], t[1]); }},
      {"bce_with_logits_weights",
       [](const Tensors& t, R r) { return nn::BCEWithLogitsLoss{r, t[2], t[2]}(t[0], t[1]); }},
      {"kl_div", [](const Tensors& t, R r) { return nn::KLDivLoss{false, r}(t[0], t[1]); }},
      {"kl_div_log", [](const Tensors& t, R r) { return nn::KLDivLoss{true, r}(t[0], t[1]); }},
      {"soft_margin", [](const Tensors& t, R r) { return nn::SoftMarginLoss{r}(t[0], t[1]); }},
      {"hinge_embedding", [](const Tensors& t, R r) { return nn::HingeEmbeddingLoss{0.8, r}(t[0], t[1]); }},
      {"margin_ranking", [](const Tensors& t, R r) { return nn::MarginRankingLoss{0.3, r}(t[0], t[1], t[2]); }},
      {"poisson_nll",
       [](const Tensors& t, R r) { return nn::PoissonNLLLoss{{.full = true, .reduction = r}}(t[0], t[1]); }},
      {"poisson_nll_rate",
       [](const Tensors& t, R r) { return nn::PoissonNLLLoss{{.log_input = false, .reduction = r}}(t[0], t[1]); }},
      {"gaussian_nll",
       [](const Tensors& t, R r) { return nn::GaussianNLLLoss{{.full = true, .reduction = r}}(t[0], t[1], t[2]); }},
      {"cosine_embedding", [](const Tensors& t, R r) { return nn::CosineEmbeddingLoss{-0.6, r}(t[0], t[1], t[2]); }},
      {"triplet", [](const Tensors& t, R r) { return nn::TripletMarginLoss{1.5, 2, false, r}(t[0], t[1], t[2]); }},
      {"triplet_swap", [](const Tensors& t, R r) { return nn::TripletMarginLoss{2, 3, true, r}(t[0], t[1], t[2]); }},
      {"multi_margin", [](const Tensors& t, R r) { return nn::MultiMarginLoss{.reduction = r}(t[0], t[1]); }},
      {"multi_margin_squared", [](const Tensors& t, R r) { return nn::MultiMarginLoss{2, 0.8, t[2], r}(t[0], t[1]); }},
      {"multilabel_margin", [](const Tensors& t, R r) { return nn::MultiLabelMarginLoss{r}(t[0], t[1]); }},
      {"multilabel_soft_margin", [](const Tensors& t, R r) { return nn::MultiLabelSoftMarginLoss{{}, r}(t[0], t[1]); }},
      {"cross_entropy", [](const Tensors& t, R r) { return nn::CrossEntropyLoss{0.1, -100, r}(t[0], t[1]); }},
      {"cross_entropy_weights",
       [](const Tensors& t, R r) { return nn::CrossEntropyLoss{0.2, -100, r, t[2]}(t[0], t[1]); }},
      {"nll", [](const Tensors& t, R r) { return nn::NLLLoss{-100, r}(t[0], t[1]); }},
      {"nll_weights", [](const Tensors& t, R r) { return nn::NLLLoss{-100, r, t[2]}(t[0], t[1]); }},
      {"ctc", [](const Tensors& t, R r) { return nn::CTCLoss{{.reduction = r}}(log_softmax(t[0]), t[1], t[2], t[3]); }},
      {"ctc_concatenated",
       [](const Tensors& t, R r) {
         return nn::CTCLoss{{.blank = 3, .reduction = r}}(log_softmax(t[0]), t[1], t[2], t[3]);
       }},
      {"ctc_impossible",
       [](const Tensors& t, R r) {
         return nn::CTCLoss{{.zero_infinity = true, .reduction = r}}(log_softmax(t[0]), t[1], t[2], t[3]);
       }},
  };
}

TEST(TorchLosses, ValuesAndGradientsAgreeInEveryReduction) {
  const std::map<std::string, LossReduction> reductions{
      {"mean", LossReduction::Mean}, {"sum", LossReduction::Sum}, {"none", LossReduction::None}};
  const auto all = losses();
  const json rows = read_golden("losses.json");
  EXPECT_EQ(rows.size(), 3 * all.size());
  for (const json& row : rows) {
    const std::string name = row.at("name"), what = name + ", " + row.at("reduction").get<std::string>();
    ASSERT_TRUE(all.contains(name)) << name;
    Tensors in;
    std::vector<Variable> leaves;
    for (size_t i = 0; i < row.at("inputs").size(); ++i) {
      in.push_back(golden_tensor(row.at("inputs")[i]));
      leaves.push_back(row.at("grads")[i].is_null() ? Variable() : Variable(in.back()));
      if (leaves.back().defined()) in.back() = leaves.back().value();
    }
    const Tensor out = all.at(name)(in, reductions.at(row.at("reduction")));
    expect_close(out, row.at("output"), what);
    weighted({out}).backward();
    for (size_t i = 0; i < leaves.size(); ++i) {
      if (leaves[i].defined())
        expect_close(leaves[i].grad(), row.at("grads")[i], what + ", gradient of input " + std::to_string(i), 5e-5);
    }
  }
}

TEST(Losses, BatchMeanDividesByTheFirstExtent) {
  const Tensor x = tensor({{1.0, 2.0, 3.0}, {0.0, 1.0, 1.0}}), y = tensor({{1.0, 1.0, 1.0}, {1.0, 1.0, 1.0}});
  EXPECT_FLOAT_EQ(mse_loss(x, y, LossReduction::BatchMean).item<float>(), 3.0F);
}

TEST(Losses, BinaryCrossEntropyIsFiniteAtTheEnds) {
  const Variable x(tensor({0.0, 1.0, 0.0, 1.0}));
  const Tensor loss = binary_cross_entropy(x, tensor({1.0, 0.0, 0.0, 1.0}), LossReduction::None);
  EXPECT_EQ(loss.to_vector<float>(), (std::vector<float>{100, 100, 0, 0}));
  sum(loss).backward();
  for (const double g : x.grad().to_vector<double>()) EXPECT_TRUE(std::isfinite(g)) << g;
}

TEST(Losses, CtcOfAnImpossibleTargetIsInfinite) {
  const Tensor x = log_softmax(zeros({2, 1, 3}));
  const auto loss = [&](bool zero) {
    return ctc_loss(x, from_vector<int64_t>({1, 1}, {1, 2}), from_vector<int64_t>({2}, {1}),
                    from_vector<int64_t>({2}, {1}), {.zero_infinity = zero})
        .item<double>();
  };
  EXPECT_TRUE(std::isinf(loss(false)));
  EXPECT_EQ(loss(true), 0);
}

template <class ErrorType, class F>
void expect_error(F&& f, const std::string& text) {
  try {
    (void)f();
    ADD_FAILURE() << "no error; wanted '" << text << "'";
  } catch (const ErrorType& e) {
    EXPECT_THAT(e.what(), HasSubstr(text));
  }
}

// It is a position from the end elsewhere; as a label PyTorch refuses it too.
TEST(Losses, ANegativeLabelIsNoClass) {
  const Tensor labels = from_vector<int64_t>({0, -1}, {2});
  // Everything anew each time: in a recording, what stands beside a failed call is lost with it.
  const auto expect_refused = [](const std::function<Tensor(const Tensor& x)>& loss) {
    expect_error<IndexError>([&] { return Tensor(loss(zeros({2, 3})).item()); }, "out of range");
  };
  expect_refused([&](const Tensor& x) { return cross_entropy(x, labels); });
  expect_refused([&](const Tensor& x) { return cross_entropy(x, labels, {.weight = ones({3})}); });
  expect_refused([&](const Tensor& x) { return nll_loss(x, labels); });
  expect_refused([&](const Tensor& x) { return multi_margin_loss(x, labels); });
  EXPECT_EQ(cross_entropy(zeros({2, 3}), labels, {.ignore_index = -1}).item(),
            cross_entropy(zeros({2, 3}), zeros({2}, i64)).item());
}

TEST(Losses, MistakesAreNamed) {
  const Tensor x = zeros({2, 3}), y = zeros({3, 2});
  expect_error<ShapeError>([&] { return mse_loss(x, y); }, "input and target differ in shape");
  expect_error<ShapeError>([&] { return soft_margin_loss(x, y); }, "input and target differ in shape");
  expect_error<ValueError>([&] { return huber_loss(x, x, -1); }, "delta is not positive");
  const Tensor p = log_softmax(zeros({4, 2, 3})), lengths = from_vector<int64_t>({4, 5}, {2}),
               one = from_vector<int64_t>({1, 1}, {2}), targets = from_vector<int64_t>({1, 2}, {2, 1});
  expect_error<ValueError>([&] { return ctc_loss(p, targets, lengths, one); }, "a number in input_lengths");
  expect_error<ValueError>([&] { return ctc_loss(p, targets, one, lengths); }, "a number in target_lengths");
  expect_error<ShapeError>([&] { return ctc_loss(p, from_vector<int64_t>({1, 2, 1}, {3}), one, one); },
                           "do not sum to the number of targets");
}

}  // namespace
