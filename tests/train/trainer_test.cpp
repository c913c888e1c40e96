#include "tenon/train/trainer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "tenon/base/error.h"
#include "tenon/base/file.h"
#include "tenon/data/random.h"
#include "tenon/exec/session.h"
#include "tenon/formats/safetensors.h"
#include "tenon/nn/nn.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/random.h"
#include "tenon/optim/adam.h"
#include "tenon/optim/sgd.h"
#include "tenon/train/checkpoint.h"
#include "tenon/train/model.h"
#include "tests/support/error_text.h"
#include "tests/support/temp_folder.h"

namespace tenon::train {
namespace {

using testing::HasSubstr;
using testing_support::error_text;

// Points in the plane; the label says on which side of a circle a point lies.
data::Dataset circles(std::int64_t count, std::uint64_t seed = 3) {
  std::vector<float> points;
  std::vector<int64_t> labels;
  data::Random random(data::stream_key(seed, 0, 0));
  for (std::int64_t i = 0; i < count; ++i) {
    const double x = random.uniform(-1, 1), y = random.uniform(-1, 1);
    points.push_back(static_cast<float>(x));
    points.push_back(static_cast<float>(y));
    labels.push_back(x * x + y * y < 0.6 ? 1 : 0);
  }
  return data::Dataset::from_tensors(
      {{"input", from_vector(points, {count, 2})}, {"label", from_vector(labels, {count})}});
}

auto network(std::uint64_t seed = 1, std::int64_t width = 16, double dropout = 0) {
  manual_seed(seed);
  return nn::Sequential(nn::Linear(2, width), nn::ReLU(), nn::Dropout(dropout), nn::Linear(width, 2));
}

auto compiled(double dropout = 0, double lr = 1e-2) {
  auto model = Model(network(1, 16, dropout));
  model.compile({.optimizer = optim::Adam({.lr = lr}), .loss = nn::CrossEntropyLoss{}, .metrics = {"accuracy"}});
  return model;
}

std::string fresh(const std::string& name) {
  const auto folder = testing_support::temp_folder() + "/tenon_trainer_" + name;
  std::filesystem::remove_all(folder);
  std::filesystem::create_directories(folder);
  return folder;
}

template <typename M>
std::vector<std::byte> weights_of(const M& model) {
  const auto path = fresh("weights") + "/w.safetensors";
  model.save_weights(path);
  return read_file(path);
}

TEST(Trainer, Learns) {
  auto model = compiled();
  const auto before = model.evaluate(circles(500, 9));
  const auto result = model.fit(circles(2000), {.epochs = 12, .batch_size = 50, .validation = circles(500, 9)});
  ASSERT_EQ(result.rows.size(), 12u);
  EXPECT_EQ(result.step, 12 * 40);
  EXPECT_FALSE(result.stopped);
  const auto& last = result.rows.back();
  EXPECT_EQ(last.step, 480);
  EXPECT_EQ(last.epoch, 12);
  EXPECT_LT(*last.val_loss, before.loss / 2);
  EXPECT_GT(*last.val_accuracy, 0.95);
  EXPECT_GT(*last.examples_per_second, 0);
  EXPECT_FALSE(last.tokens_per_second.has_value());
  // evaluate() is what the last row says.
  EXPECT_EQ(model.evaluate(circles(500, 9), 50).loss, *last.val_loss);
  EXPECT_EQ(model.predict(circles(30)).shape(), (Shape{30, 2}));
}

TEST(Trainer, EvaluationDoesNotDependOnTheBatchSize) {
  const auto model = compiled();
  const auto a = model.evaluate(circles(103), 103), b = model.evaluate(circles(103), 10);
  EXPECT_NEAR(a.loss, b.loss, 1e-6);
  EXPECT_EQ(a.accuracy, b.accuracy);
  EXPECT_EQ(b.examples, 103);
}

TEST(Trainer, ScheduleAndClippingAreApplied) {
  auto model = Model(network());
  model.compile({.optimizer = optim::SGD({.lr = 123}), .loss = nn::CrossEntropyLoss{}});
  const auto before = model.network();
  const StateDict start = nn::state_dict(nn::clone(before));
  // One step of length lr * |clipped gradient| at most.
  const auto result = model.fit(
      circles(10), {.steps = 1, .batch_size = 10, .schedule = [](std::int64_t) { return 0.5; }, .clip_norm = 1e-3});
  EXPECT_EQ(*result.rows.at(0).learning_rate, 0.5);
  double moved = 0;
  for (const auto& [name, tensor] : nn::state_dict(model.network())) {
    const auto a = start.at(name).to_vector(), b = tensor.to_vector();
    for (std::size_t i = 0; i < a.size(); ++i) moved += (a[i] - b[i]) * (a[i] - b[i]);
  }
  EXPECT_GT(std::sqrt(moved), 0.4e-3);
  EXPECT_LT(std::sqrt(moved), 0.51e-3);
}

// The heart of it: stop anywhere, go on in another process, end with the same bits. Dropout makes the random
// generator part of it, 7 examples in the last batch the loader's state in mid-epoch.
TEST(Trainer, ResumedRunsEndWithTheSameBits) {
  const auto folder = fresh("resume");
  const FitOptions options{.epochs = 3,
                           .batch_size = 20,
                           .seed = 5,
                           .validation = circles(50, 9),
                           .schedule = cosine_schedule({.peak = 1e-2, .warmup = 3, .steps = 33}),
                           .clip_norm = 1.0};
  auto whole = compiled(0.3);
  const auto rows = whole.fit(circles(207), options).rows;
  for (const int stop_at : {1, 10, 11, 12, 27}) {
    const std::string path = folder + "/" + std::to_string(stop_at);
    int steps = 0;
    auto first = compiled(0.3);
    FitOptions part = options;
    part.callbacks = {std::make_shared<StopCallback>([&] { return ++steps == stop_at; }, path)};
    const auto stopped = first.fit(circles(207), part);
    EXPECT_TRUE(stopped.stopped);
    EXPECT_EQ(stopped.step, stop_at);

    auto second = Model(network(77, 16, 0.3));  // other weights and another place of the generator
    second.compile({.optimizer = optim::Adam({.lr = 1e-2}), .loss = nn::CrossEntropyLoss{}, .metrics = {"accuracy"}});
    FitOptions rest = options;
    rest.resume = path;
    const auto resumed = second.fit(circles(207), rest);
    EXPECT_EQ(weights_of(second), weights_of(whole)) << "stopped at " << stop_at;
    EXPECT_EQ(*resumed.rows.back().train_loss, *rows.back().train_loss);
    EXPECT_EQ(*resumed.rows.back().val_loss, *rows.back().val_loss);
    EXPECT_EQ(*resumed.rows.front().train_loss, *rows.at(rows.size() - resumed.rows.size()).train_loss);
  }
}

TEST(Trainer, ThreadsDoNotChangeABit) {
  std::vector<std::vector<std::byte>> weights;
  for (const int threads : {1, 2, 3}) {
    set_num_threads(threads);
    auto model = compiled(0.1);
    model.fit(circles(400), {.epochs = 2, .batch_size = 64, .seed = 2});
    weights.push_back(weights_of(model));
  }
  set_num_threads(0);
  EXPECT_EQ(weights[0], weights[1]);
  EXPECT_EQ(weights[0], weights[2]);
}

TEST(Trainer, SeedsMatter) {
  auto a = compiled(), b = compiled(), c = compiled();
  a.fit(circles(100), {.seed = 1});
  b.fit(circles(100), {.seed = 1});
  c.fit(circles(100), {.seed = 2});
  EXPECT_EQ(weights_of(a), weights_of(b));
  EXPECT_NE(weights_of(a), weights_of(c));
}

TEST(Trainer, EarlyStoppingWaitsForItsPatience) {
  auto model = compiled(0, 0.0);  // nothing is learnt, so no row is better than the first
  const auto result = model.fit(circles(64), {.epochs = 50,
                                              .batch_size = 64,
                                              .validation = circles(64, 9),
                                              .callbacks = {std::make_shared<EarlyStopping>(3)}});
  EXPECT_TRUE(result.stopped);
  EXPECT_EQ(result.rows.size(), 4u);
}

TEST(Trainer, CallbacksSeeStepsAndRows) {
  auto model = compiled();
  std::vector<std::int64_t> steps;
  int rows = 0;
  const auto checkpoint = fresh("every") + "/c";
  model.fit(circles(100), {.epochs = 2,
                           .batch_size = 40,
                           .callbacks = {std::make_shared<ProgressCallback>([&](const Progress& p) {
                                           steps.push_back(p.step);
                                           EXPECT_EQ(p.steps, 6);
                                           EXPECT_EQ(p.unit, "examples");
                                           EXPECT_TRUE(std::isfinite(p.loss));
                                         }),
                                         std::make_shared<RowCallback>([&](const MetricsRow&) { ++rows; }),
                                         std::make_shared<CheckpointCallback>(checkpoint, 4)}});
  EXPECT_THAT(steps, testing::ElementsAre(1, 2, 3, 4, 5, 6));
  EXPECT_EQ(rows, 2);
  EXPECT_EQ(load_checkpoint(checkpoint).loop.step, 4);
}

TEST(Trainer, ARunFolderIsKept) {
  const auto path = fresh("run") + "/run";
  auto run = RunFolder::create(path, {});
  auto model = compiled();
  model.fit(circles(100), {.epochs = 3, .batch_size = 50, .callbacks = {std::make_shared<RunFolderCallback>(run)}});
  EXPECT_EQ(RunFolder::open(path).rows().size(), 3u);
  EXPECT_TRUE(run.has_checkpoint());
  EXPECT_EQ(read_file(run.model_path()), weights_of(model));
  EXPECT_THAT(read_text_file(run.report_path()), HasSubstr("<svg"));
  auto loaded = Model(network(5));
  loaded.load_weights(run.model_path());
  EXPECT_EQ(weights_of(loaded), weights_of(model));
}

TEST(Trainer, MistakesHaveTypedErrors) {
  auto model = Model(network());
  EXPECT_EQ(error_text<ValueError>([&] { (void)model.fit(circles(10), {}); }),
            "fit: the model has no optimizer and no loss yet\n  try: model.compile({.optimizer = optim::Adam{}, .loss "
            "= nn::CrossEntropyLoss{}})");
  EXPECT_THAT(error_text<ValueError>([&] { (void)model.evaluate(circles(10)); }),
              HasSubstr("evaluate: the model has no loss yet"));
  EXPECT_THAT(error_text<ValueError>([&] { model.compile({.loss = nn::CrossEntropyLoss{}}); }),
              HasSubstr("compile: no optimizer"));
  EXPECT_THAT(error_text<ValueError>([&] { model.compile({.optimizer = optim::Adam{}}); }),
              HasSubstr("compile: no loss"));
  EXPECT_EQ(error_text<ValueError>([&] {
              model.compile({.optimizer = optim::Adam{}, .loss = nn::CrossEntropyLoss{}, .metrics = {"acuracy"}});
            }),
            "compile: unknown metric; expected accuracy, got \"acuracy\"\n  try: .metrics = {\"accuracy\"}");
  const auto named = data::Dataset::from_tensors({{"x", tenon::zeros({4, 2})}, {"y", tenon::zeros({4}, DType::I64)}});
  EXPECT_THAT(
      error_text<ValueError>([&] { (void)compiled().fit(named, {.epochs = 1}); }),
      testing::AllOf(HasSubstr("fit: the examples have no field 'label'; expected 'input' and 'label', got x, y"),
                     HasSubstr("Dataset::from_tensors({{\"input\", x}, {\"label\", y}})")));
  EXPECT_THAT(error_text<ValueError>([&] { (void)compiled().evaluate(named); }),
              HasSubstr("evaluate: the examples have no field 'label'; expected 'input' and 'label', got x, y"));
  EXPECT_EQ(error_text<ValueError>([&] { (void)compiled().predict(named); }),
            "predict: the examples have no field 'input'; expected 'input', got x, y\n  try: "
            "Dataset::from_tensors({{\"input\", x}})");
}

TEST(Trainer, ALossThatIsNotFiniteStops) {
  auto model = compiled(0, 1e30);
  EXPECT_THAT(error_text<NumericError>([&] { (void)model.fit(circles(100), {.epochs = 20, .batch_size = 10}); }),
              HasSubstr("fit: the loss is not finite at step"));
}

TEST(Trainer, CheckpointsOfOthersAreRefused) {
  const auto folder = fresh("others");
  auto small = compiled();
  int steps = 0;
  (void)small.fit(
      circles(100),
      {.batch_size = 10, .callbacks = {std::make_shared<StopCallback>([&] { return ++steps == 1; }, folder + "/c")}});
  auto large = Model(network(1, 32));
  large.compile({.optimizer = optim::Adam{}, .loss = nn::CrossEntropyLoss{}});
  const auto fit = [&](auto& model, const std::string& path, std::int64_t count) {
    (void)model.fit(circles(count), {.batch_size = 10, .resume = path});
  };
  try {
    fit(large, folder + "/c", 100);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.parts().where, folder + "/c");
    EXPECT_THAT(error.what(), HasSubstr("the weights of another model"));
  }
  EXPECT_THAT(
      error_text<ValueError>([&] { fit(small, folder + "/c", 90); }),
      HasSubstr(
          "a checkpoint of training with other data; expected 90 examples in batches of 10, got 100 in batches of 10"));
  EXPECT_THROW(fit(small, folder + "/none", 100), FileError);
  small.save_weights(folder + "/w");
  EXPECT_THAT(error_text<FormatError>([&] { fit(small, folder + "/w", 100); }),
              HasSubstr("not a checkpoint of a training run"));
  EXPECT_THAT(error_text([&] { large.load_weights(folder + "/w"); }), HasSubstr("/w: the weights of another model"));
  formats::save_safetensors(folder + "/j", {}, {{"tenon.checkpoint", "{\"step\":1}"}});
  EXPECT_THAT(error_text<FormatError>([&] { (void)load_checkpoint(folder + "/j"); }),
              HasSubstr("no number \"loader_seed\""));
  const auto whole = read_file(folder + "/c");
  write_file_atomic(folder + "/t", std::span(whole).first(whole.size() / 2));
  EXPECT_THAT(error_text<FormatError>([&] { fit(small, folder + "/t", 100); }), HasSubstr("truncated"));
}

TEST(Checkpoint, RoundTripsExactly) {
  const auto path = fresh("roundtrip") + "/c";
  const Checkpoint checkpoint{.model = {{"a.weight", tensor({1.5F})}},
                              .optimizer = {{"a.weight", tensor({2.5F})}},
                              .loop = {.step = 7,
                                       .loader_seed = ~std::uint64_t{0},
                                       .random_seed = std::uint64_t{1} << 63,
                                       .loss_sum = 0.1 + 0.2,
                                       .seconds = 1.0 / 3}};
  save_checkpoint(path, checkpoint);
  const auto again = load_checkpoint(path);
  EXPECT_EQ(again.loop, checkpoint.loop);
  EXPECT_EQ(again.model.at("a.weight").item(), 1.5);
  EXPECT_EQ(again.optimizer.at("a.weight").item(), 2.5);
}

}  // namespace
}  // namespace tenon::train
