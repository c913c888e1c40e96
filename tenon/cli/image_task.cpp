// --task image-classification: a folder of IDX files (MNIST and its kin), a convolutional network or a perceptron.
#include <fmt/format.h>

#include <cmath>
#include <numeric>

#include "tenon/base/error.h"
#include "tenon/cli/task.h"
#include "tenon/data/idx_images.h"
#include "tenon/models/lenet.h"
#include "tenon/models/mlp.h"
#include "tenon/models/resnet.h"
#include "tenon/nn/loss.h"
#include "tenon/ops/reduce.h"
#include "tenon/train/model.h"

namespace tenon::cli {
namespace {

// What the network must know of the images. Kept in the settings, so that eval needs no training data.
struct Images {
  std::int64_t channels = 1, height = 28, width = 28, classes = 10;
  double mean = 0, stddev = 1;
};

Images read_facts(const train::Config& config) {
  return {.channels = config.get<std::int64_t>("channels"),
          .height = config.get<std::int64_t>("height"),
          .width = config.get<std::int64_t>("image-width"),
          .classes = config.get<std::int64_t>("classes"),
          .mean = config.get<double>("mean"),
          .stddev = config.get<double>("stddev")};
}

void write_facts(train::Config& config, const Images& images) {
  config.set("channels", images.channels);
  config.set("height", images.height);
  config.set("image-width", images.width);
  config.set("classes", images.classes);
  config.set("mean", images.mean);
  config.set("stddev", images.stddev);
}

// Mean and deviation of the pixels of the first images: a sample is enough to bring inputs to unit scale.
Images measure(const std::string& folder) {
  const data::Dataset raw = data::idx_images(folder, data::Split::Train);
  std::vector<std::int64_t> some(static_cast<std::size_t>(std::min<std::int64_t>(raw.size(), 10'000)));
  if (some.empty()) throw ValueError({.where = folder, .problem = "no training images"});
  std::iota(some.begin(), some.end(), std::int64_t{0});
  const Tensor pixels = raw.gather(some)["input"];
  // Four digits: the settings stay readable, and a run does not depend on the last bit of a sum.
  const auto rounded = [](double v) { return std::round(v * 1e4) / 1e4; };
  const double deviation = rounded(tenon::std(pixels).item());
  return {.channels = pixels.shape(1),
          .height = pixels.shape(2),
          .width = pixels.shape(3),
          .classes = data::class_count(raw),
          .mean = rounded(mean(pixels).item()),
          .stddev = deviation > 0 ? deviation : 1.0};
}

data::Dataset load(const std::string& folder, data::Split split, const Images& images) {
  return data::idx_images(folder, split,
                          {.mean = {static_cast<float>(images.mean)}, .stddev = {static_cast<float>(images.stddev)}});
}

struct Built {
  train::Trainer trainer;
  std::vector<Variable> parameters;
};
template <class Net>
Built built(const Net& network) {
  return {.trainer = train::Trainer(train::network_of(std::make_shared<Net>(network))),
          .parameters = nn::parameters(network)};
}

Built make_network(const train::Config& config, const Images& images) {
  const auto name = config.get<std::string>("model");
  if (name == "lenet")
    return built(models::LeNet(
        {.channels = images.channels, .height = images.height, .width = images.width, .classes = images.classes}));
  if (name == "mlp")
    return built(models::MLP({.inputs = images.channels * images.height * images.width, .outputs = images.classes}));
  if (name == "resnet18")
    return built(
        models::ResNet18({.channels = images.channels, .classes = images.classes, .small_images = images.height < 64}));
  throw FormatError({.where = "config.json",
                     .problem = "unknown model",
                     .expected = "lenet, mlp or resnet18",
                     .got = "\"" + name + "\""});
}

void check_same_images(const std::string& folder, const data::Dataset& dataset, const Images& images) {
  const Shape wanted{images.channels, images.height, images.width};
  if (dataset.size() == 0) throw ValueError({.where = folder, .problem = "no test images"});
  const Tensor input = dataset.get(0)["input"];
  if (input.shape() != wanted)
    throw ShapeError({.where = folder,
                      .problem = "images of another size than the model was trained with",
                      .expected = to_string(wanted),
                      .got = to_string(input.shape())});
}

// Before training, not at the end of its first epoch.
void check_classes(const std::string& folder, const data::Dataset& tests, const Images& images) {
  const std::int64_t classes = data::class_count(tests);
  if (classes > images.classes)
    throw ValueError(
        {.where = folder,
         .problem = "the file of the test labels (t10k-labels) has a class that the training labels have not",
         .expected = fmt::format("0 to {}", images.classes - 1),
         .got = fmt::format("{}", classes - 1)});
}

}  // namespace

Task make_image_task(const train::Config& config, const TaskRequest& request) {
  const std::string folder = request.data.empty() ? config.get<std::string>("data") : request.data;
  const bool training = request.use == TaskUse::train;
  const Images images = training ? measure(folder) : read_facts(config);
  Built network = make_network(config, images);
  Task task{.trainer = network.trainer,
            .training = {},
            .validation = {},
            .fit = {},
            .config = config,
            .parameters = 0,
            .write = {}};
  write_facts(task.config, images);
  for (const auto& parameter : network.parameters) task.parameters += numel(parameter.shape());

  const double smoothing = config.get<double>("label-smoothing");
  task.trainer.compile({.optimizer = make_optimizer(config, network.parameters),
                        .loss = nn::CrossEntropyLoss({.label_smoothing = smoothing}),
                        .metrics = {"accuracy"},
                        .precision = read_precision(config)});
  if (!request.model_path.empty()) task.trainer.load_weights(request.model_path);
  if (request.use == TaskUse::write) return task;

  task.validation = load(folder, data::Split::Test, images);
  check_same_images(folder, *task.validation, images);
  check_classes(folder, *task.validation, images);
  if (!training) return task;
  task.training = load(folder, data::Split::Train, images);
  const auto epochs = config.get<std::int64_t>("epochs"), batch = config.get<std::int64_t>("batch-size");
  const std::int64_t steps = epochs * ((task.training->size() + batch - 1) / batch);
  task.fit = {.epochs = epochs,
              .batch_size = batch,
              .seed = static_cast<std::uint64_t>(config.get<std::int64_t>("seed")),
              .validation = task.validation,
              .validation_batch_size = 256,
              .schedule = make_schedule(config, steps),
              .clip_norm = config.get<double>("grad-clip")};
  return task;
}

}  // namespace tenon::cli
