// fit() in mixed precision: it learns, its weights stay f32, and a resumed run of f16 has the scaler's state.
#include <gmock/gmock.h>

#include <filesystem>

#include "tenon/base/error.h"
#include "tenon/tenon.h"
#include "tests/support/temp_folder.h"

namespace tenon::train {
namespace {

data::Dataset stripes(int64_t count) {
  manual_seed(5);
  const Tensor x = uniform({count, 4}, -1, 1);
  return data::Dataset::from_tensors({{"input", x}, {"label", cast(greater(sum(x, {1}), 0), i64)}});
}

auto model(DType precision) {
  manual_seed(1);
  auto m = Model(nn::Sequential(nn::Linear(4, 16), nn::ReLU(), nn::Linear(16, 2)));
  m.compile({.optimizer = optim::Adam(optim::AdamOptions{.lr = 1e-2}),
             .loss = nn::CrossEntropyLoss{},
             .metrics = {"accuracy"},
             .precision = precision});
  return m;
}

TEST(Precision, LearnsAndKeepsWeightsInF32) {
  const data::Dataset data = stripes(256);
  for (const DType precision : {bf16, f16}) {
    auto m = model(precision);
    const FitResult result = m.fit(data, {.epochs = 12, .batch_size = 32});
    EXPECT_GT(*result.rows.back().train_accuracy, 0.95);
    EXPECT_EQ(m.evaluate(data).accuracy > 0.95, true);
    for (const auto& p : parameters(m.network())) EXPECT_EQ(p.dtype(), f32);
    // It was another run than that of f32.
    auto plain = model(f32);
    EXPECT_NE(*plain.fit(data, {.epochs = 12, .batch_size = 32}).rows.back().train_loss,
              *result.rows.back().train_loss);
  }
}

TEST(Precision, AResumedRunOfF16EndsWithTheSameBits) {
  const data::Dataset data = stripes(128);
  const std::string path = testing_support::temp_folder() + "/f16.checkpoint";
  struct Save final : Callback {
    std::string path;
    void on_step(FitControl& fit) override {
      if (fit.progress().step == 6) fit.save_checkpoint(path);
    }
  };
  auto save = std::make_shared<Save>();
  save->path = path;
  auto whole = model(f16);
  (void)whole.fit(data, {.epochs = 3, .batch_size = 32, .callbacks = {save}});
  auto rest = model(f16);
  (void)rest.fit(data, {.epochs = 3, .batch_size = 32, .resume = path});
  const auto a = parameters(whole.network()), b = parameters(rest.network());
  for (size_t i = 0; i < a.size(); ++i) EXPECT_EQ(a[i].value().to_vector<float>(), b[i].value().to_vector<float>());
}

TEST(Precision, OnlyShortFloats) { EXPECT_THROW((void)model(f64), DTypeError); }

TEST(ProfileCallback, RecordsTheStepsAskedFor) {
  int calls = 0;
  Profile seen;
  auto m = model(f32);
  const auto profile = std::make_shared<ProfileCallback>(2, 3, [&](const Profile& p) {
    ++calls;
    seen = p;
  });
  (void)m.fit(stripes(256), {.epochs = 1, .batch_size = 32, .callbacks = {profile}});
  EXPECT_EQ(calls, 1);
  int losses = 0;
  for (const auto& e : seen.events) losses += e.name == "cross_entropy" && e.kind == "op" ? 1 : 0;
  EXPECT_EQ(losses, 3);
}

}  // namespace
}  // namespace tenon::train
