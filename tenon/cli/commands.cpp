#include "tenon/cli/commands.h"

#include "tenon/formats/onnx/export.h"

namespace tenon::cli {
namespace {

using std::int64_t;

Option integer(std::string name, std::string help, std::vector<train::ConfigValue> fallback, double low,
               double high = 1e9) {
  return {.name = std::move(name),
          .kind = OptionKind::integer,
          .value_name = "N",
          .help = std::move(help),
          .fallback = std::move(fallback),
          .choices = {},
          .low = low,
          .high = high};
}

Option real(std::string name, std::string help, std::vector<train::ConfigValue> fallback, double low,
            double high = 1e9) {
  return {.name = std::move(name),
          .kind = OptionKind::real,
          .value_name = "X",
          .help = std::move(help),
          .fallback = std::move(fallback),
          .choices = {},
          .low = low,
          .high = high};
}

Option text(std::string name, std::string value_name, std::string help, std::vector<train::ConfigValue> fallback = {}) {
  return {.name = std::move(name),
          .kind = OptionKind::text,
          .value_name = std::move(value_name),
          .help = std::move(help),
          .fallback = std::move(fallback)};
}

Option choice(std::string name, std::string help, std::vector<std::string> choices,
              std::vector<train::ConfigValue> fallback = {}) {
  const std::string value_name = name == "task" ? "TASK" : "NAME";
  return {.name = std::move(name),
          .kind = OptionKind::choice,
          .value_name = value_name,
          .help = std::move(help),
          .fallback = std::move(fallback),
          .choices = std::move(choices)};
}

Option threads() {
  return integer("threads", "threads to compute with; 0: one per CPU. The result does not depend on it", {int64_t{0}},
                 0, 4096);
}
Option seed() { return integer("seed", "seed of everything random", {int64_t{1}}, 0, 9e15); }

Command train_command() {
  Command command{.name = "train", .summary = "train a model and leave a run folder"};
  command.options = {
      choice("task", "what to learn", {"image-classification", "language-model"}),
      text("data", "PATH", "the data: a folder of IDX files, or a text file"),
      text("out", "RUN", "the run folder to make"),
      text("resume", "RUN", "go on with an interrupted run, with the settings that it began with"),
      text("profile", "FILE",
           "record steps 11 to 20: a Chrome trace in FILE (chrome://tracing, ui.perfetto.dev), a table of ops printed"),
      seed(),
      threads(),
  };
  command.selector = "task";
  const std::vector<std::string> optimizers{"sgd", "adam", "adamw"};
  const std::vector<std::string> schedules{"constant", "cosine", "linear", "step"};
  command.variants = {
      {.value = "image-classification",
       .options = {choice("model", "the network", {"lenet", "mlp", "resnet18"}, {std::string("lenet")}),
                   integer("epochs", "passes over the training data", {int64_t{5}}, 1),
                   integer("batch-size", "examples per step", {int64_t{64}}, 1),
                   choice("optimizer", "the update rule", optimizers, {std::string("adam")}),
                   real("lr", "learning rate", {1e-3}, 0),
                   choice("schedule", "how the learning rate falls", schedules, {std::string("cosine")}),
                   integer("warmup", "steps over which the learning rate rises", {int64_t{0}}, 0),
                   real("min-lr", "where the learning rate ends", {1e-5}, 0),
                   real("momentum", "momentum of sgd", {0.9}, 0, 1), real("weight-decay", "weight decay", {0.0}, 0),
                   real("grad-clip", "largest norm of the gradient; 0: no limit", {0.0}, 0),
                   choice("precision", "of products: f32, or bf16 or f16 with weights in f32 (f16 scales the loss)",
                          {"f32", "bf16", "f16"}, {std::string("f32")}),
                   real("label-smoothing", "label smoothing of the loss", {0.0}, 0, 0.999),
                   integer("patience", "stop after this many epochs without a better validation loss; 0: never",
                           {int64_t{0}}, 0)}},
      {.value = "language-model",
       .options = {choice("model", "the network", {"gpt"}, {std::string("gpt")}),
                   integer("layers", "transformer blocks", {int64_t{4}}, 1, 1000),
                   integer("heads", "attention heads", {int64_t{4}}, 1, 1000),
                   integer("width", "width of the residual stream", {int64_t{128}}, 1, 1e6),
                   integer("context", "characters that the model sees", {int64_t{64}}, 1, 1e6),
                   integer("steps", "optimiser steps", {int64_t{2000}}, 1),
                   integer("batch-size", "sequences per step", {int64_t{12}}, 1),
                   choice("optimizer", "the update rule", optimizers, {std::string("adamw")}),
                   real("lr", "learning rate", {1e-3}, 0),
                   choice("schedule", "how the learning rate falls", schedules, {std::string("cosine")}),
                   integer("warmup", "steps over which the learning rate rises", {int64_t{100}}, 0),
                   real("min-lr", "where the learning rate ends", {1e-4}, 0),
                   real("beta1", "decay of the optimiser's first moment", {0.9}, 0, 0.999999),
                   real("beta2", "decay of the optimiser's second moment", {0.99}, 0, 0.999999),
                   real("weight-decay", "weight decay of matrices", {0.1}, 0),
                   real("grad-clip", "largest norm of the gradient; 0: no limit", {1.0}, 0),
                   choice("precision", "of products: f32, or bf16 or f16 with weights in f32 (f16 scales the loss)",
                          {"f32", "bf16", "f16"}, {std::string("f32")}),
                   real("dropout", "dropout", {0.0}, 0, 0.999),
                   integer("eval-every", "steps between evaluations on the validation text, the last tenth",
                           {int64_t{250}}, 1),
                   integer("sample-length", "characters of the sample at each evaluation; 0: none", {int64_t{300}}, 0,
                           1e6)}},
  };
  command.examples = {
      "tenon train --task image-classification --data mnist --model lenet --epochs 5 --out runs/lenet",
      "tenon train --task language-model --data input.txt --model gpt --steps 2000 --out runs/gpt",
      "tenon train --resume runs/gpt",
  };
  return command;
}

Command serve_command() {
  Command command{.name = "serve",
                  .summary = "serve models to TensorFlow Serving's and Open Inference Protocol clients"};
  const auto flag = [](std::string name, std::string help, const char* fallback) {
    return choice(std::move(name), std::move(help), {"true", "false"}, {std::string(fallback)});
  };
  command.options = {
      text("model", "NAME=PATH",
           "a model: an .onnx file, a folder with model.onnx, or a folder of version folders; "
           "may come several times"),
      text("model-config-file", "FILE", "TensorFlow Serving's model_config_file; also --config FILE"),
      integer("model-config-file-poll-wait-seconds", "seconds between looks at that file; 0: one look", {int64_t{0}},
              0),
      text("model-name", "NAME", "name of the model at --model-base-path", {std::string("default")}),
      text("model-base-path", "PATH", "one model, as --model"),
      text("address", "IP", "address to listen on", {std::string("0.0.0.0")}),
      integer("port", "TensorFlow Serving's gRPC; 0: off", {int64_t{8500}}, 0, 65535),
      integer("rest-api-port", "TensorFlow Serving's REST; 0: off", {int64_t{8501}}, 0, 65535),
      integer("http-port", "Open Inference Protocol's REST; 0: off", {int64_t{8000}}, 0, 65535),
      integer("grpc-port", "Open Inference Protocol's gRPC; 0: off", {int64_t{8001}}, 0, 65535),
      flag("free-ports", "take any free port where none is named, and print it", "false"),
      text("grpc-socket-path", "PATH", "also listen for gRPC on this Unix socket"),
      text("grpc-channel-arguments", "KEY=VALUE,…",
           "by gRPC's names: grpc.max_concurrent_streams, grpc.keepalive_time_ms, grpc.max_connection_age_ms, …"),
      text("ssl-config-file", "FILE",
           "TensorFlow Serving's SSLConfig: TLS for gRPC, with clients' certificates if asked for"),
      integer("control-port", "REST port on which models can be loaded and unloaded", {}, 1, 65535),
      text("control-token", "TOKEN", "what calls of the control port must show: Authorization: Bearer TOKEN"),
      flag("grpc-control", "models can be loaded and unloaded over gRPC too, with the same token", "false"),
      text("tls-certificate", "FILE", "PEM chain; all ports then speak TLS"),
      text("tls-key", "FILE", "PEM key of the certificate"),
      integer("threads", "batches that run at the same time; 0: one for each CPU", {int64_t{0}}, 0, 4096),
      integer("threads-per-run", "threads of each batch", {int64_t{1}}, 1, 4096),
      flag("fast", "models round less often and fold factors into weights: answers may differ in the last digits",
           "false"),
      real("stuck-run-seconds", "a run that takes longer is told of in the log, once; 0: never", {60.0}, 0, 1e6),
      integer("rest-api-num-threads", "loops of the REST listeners; 0: one for each CPU", {int64_t{0}}, 0, 4096),
      integer("grpc-max-threads", "loops of the gRPC listeners; 0: one for each CPU", {int64_t{0}}, 0, 4096),
      integer("rest-api-timeout-in-ms", "how long a TensorFlow Serving REST request may take", {int64_t{30000}}, 0),
      flag("enable-batching", "join requests into batches", "false"),
      text("batching-parameters-file", "FILE", "TensorFlow Serving's BatchingParameters; switches batching on"),
      integer("max-batch-size", "rows of a batch; switches batching on", {}, 1),
      integer("batch-timeout-micros", "how long the first request of a batch waits for others", {}, 0),
      integer("max-queued", "requests of a model that may wait; more get 503", {int64_t{1024}}, 1),
      text("access-log", "PREFIX", "log every answer as JSON lines to PREFIX.000001.jsonl …; '-' is the error output"),
      text("request-log", "PREFIX", "log requests with their answers, of models that have no log of their own"),
      choice("request-log-format", "lines of JSON, or TFRecords of PredictionLog", {"json_lines", "prediction_log"},
             {std::string("json_lines")}),
      real("request-log-rate", "which part of the requests is logged, 0 to 1", {0.01}, 0, 1),
      integer("request-log-seed", "chooses which requests", {int64_t{1}}, 0, 9e15),
      integer("log-max-bytes", "begin a new file of a log before it is larger", {int64_t{64} << 20}, 1, 9e15),
      integer("log-max-files", "remove the oldest file of a log beyond so many; 0: none", {int64_t{16}}, 0, 1e6),
      integer("max-requests", "requests inside the server; more get 503", {int64_t{4096}}, 1),
      integer("max-bytes", "bytes of bodies inside the server; more get 503", {int64_t{1} << 30}, 1, 9e15),
      integer("max-body-bytes", "bytes of one body; a larger one gets 413", {int64_t{256} << 20}, 1, 9e15),
      integer("file-system-poll-wait-seconds", "seconds between looks for new versions; 0: one look", {int64_t{1}}, -1),
      integer("num-load-threads", "versions loaded at the same time", {int64_t{1}}, 0, 256),
      integer("num-unload-threads", "accepted; unloading needs no thread of its own", {int64_t{0}}, 0, 256),
      integer("max-num-load-retries", "tries after a failed load", {int64_t{5}}, 0),
      integer("load-retry-interval-micros", "time between them", {int64_t{60000000}}, 0),
      flag("enable-model-warmup", "run each version before it becomes available", "true"),
      integer("num-request-iterations-for-warmup", "how often each recorded request runs in the warm-up", {int64_t{1}},
              0, 1e6),
      text("monitoring-config-file", "FILE", "TensorFlow Serving's MonitoringConfig: the path of the legacy metrics"),
      flag("rest-api-enable-cors-support", "send CORS headers", "false"),
      flag("enable-serialization-as-tensor-content", "gRPC tensors as tensor_content, which Python reads fast", "true"),
      flag("enable-grpc-healthcheck-service", "accepted: health is always on", "true"),
      flag("enable-per-model-batching-parameters",
           "batching_params.pbtxt in a version's folder says how that version is batched; of "
           "--batching-parameters-file only the threads count then",
           "false"),
      flag("allow-version-labels-for-unavailable-models", "accepted: labels may always come first", "true"),
      flag("allow-reload-config", "accept HandleReloadConfigRequest, which lets callers name any path", "false"),
      integer("drain-grace-ms", "after a signal: how long to answer not-ready and still take requests", {int64_t{0}},
              0),
      integer("drain-timeout-ms", "and then wait for answers under way", {int64_t{30000}}, 0),
      flag("version", "print the version and end", "false"),
  };
  command.examples = {
      "tenon serve --model half_plus_two=models/half_plus_two.onnx",
      "tenon serve --config models.config --enable_batching",
      "tenon serve --rest_api_port=8501 --model_name=half_plus_two --model_base_path=/models/half_plus_two",
  };
  command.program = "tenon-server";
  return command;
}

Command publish_command() {
  Command command{.name = "publish",
                  .summary = "put a version into a served model's folder, all of it at once",
                  .positionals = {{.name = "MODEL", .help = "a .tenon or .onnx file, or a folder"},
                                  {.name = "BASE", .help = "the folder of version folders"}}};
  command.options = {integer("version", "its number; 0: one more than the newest there", {int64_t{0}}, 0, 9e15)};
  command.examples = {"tenon publish classifier.onnx /models/classifier"};
  command.program = "tenon-server";
  return command;
}

Command loadtest_command() {
  Command command{
      .name = "loadtest",
      .summary = "send requests at a steady rate and measure the answers",
      .positionals = {
          {.name = "URL",
           .help =
               "http://HOST:PORT/v2/models/NAME, …/v1/models/NAME, grpc://HOST:PORT/NAME (Open Inference Protocol) or "
               "grpc://HOST:PORT/tensorflow/NAME; https:// and grpcs:// with TLS"}}};
  command.options = {
      real("rate", "requests a second, at random times (Poisson)", {100.0}, 0.001, 1e7),
      real("seconds", "how long", {10.0}, 0.01, 1e6),
      real("warm-up", "seconds before that which are not counted", {1.0}, 0, 1e6),
      integer("connections", "connections", {int64_t{16}}, 1, 10000),
      integer("rows", "rows of each request", {int64_t{1}}, 1),
      integer("extent", "extent of other axes of any size", {int64_t{1}}, 1),
      text("ca", "FILE", "with TLS: believe these certificates (PEM), not the system's"),
      {.name = "insecure", .kind = OptionKind::flag, .value_name = {}, .help = "with TLS: believe every certificate"},
      {.name = "json-tensors", .kind = OptionKind::flag, .value_name = {}, .help = "v2 REST: numbers as JSON"},
      text("json", "FILE", "also write the results as JSON"),
      text("replay", "LOG", "send the requests of a request log (JSON lines or TFRecord) and compare the answers"),
      real("relative-tolerance", "of floats that are compared", {1e-4}, 0, 1e9),
      real("absolute-tolerance", "of floats that are compared", {1e-5}, 0, 1e9),
      seed()};
  command.examples = {"tenon loadtest http://localhost:8000/v2/models/half_plus_two --rate 500 --seconds 10"};
  command.program = "tenon-server";
  return command;
}

std::vector<Command> make_commands() {
  const Positional run{.name = "RUN", .help = "a run folder"};
  Command eval{.name = "eval", .summary = "measure a trained model on its validation data", .positionals = {run}};
  eval.options = {text("data", "PATH", "other data than the run was made with"),
                  integer("batch-size", "examples or sequences at a time", {int64_t{64}}, 1), threads()};
  eval.examples = {"tenon eval runs/lenet --data mnist"};

  Command generate{
      .name = "generate",
      .summary = "let a language model write",
      .positionals = {{.name = "RUN", .help = "a run folder, or the folder of a published language model"}}};
  generate.options = {text("prompt", "TEXT", "how the text begins", {std::string("\n")}),
                      integer("length", "characters (a published model: tokens) to write", {int64_t{500}}, 1, 1e7),
                      real("temperature", "0: always the likeliest character; 1: as the model says", {0.8}, 0, 100),
                      integer("top-k", "choose among the k likeliest; 0: among all", {int64_t{0}}, 0),
                      seed(),
                      threads()};
  generate.program = "tenon-files";
  generate.examples = {"tenon generate runs/gpt --prompt 'ROMEO:' --length 500 --temperature 0.8 --seed 1",
                       "tenon generate models/llama --prompt 'Once upon a time' --length 100 --temperature 0"};

  Command info{.name = "info",
               .summary = "show what a run folder or a file holds",
               .positionals = {{.name = "PATH",
                                .help = "a run folder, a model's folder, or a file of any format that can be read"}}};
  info.program = "tenon-files";
  info.examples = {"tenon info runs/gpt", "tenon info model.onnx"};

  const Positional model{.name = "MODEL", .help = "a package, an ONNX or Keras model, or a published model's folder"};
  const Option sizes = text("sizes", "SIZES", "numbers for extents that an ONNX model leaves open: batch=1,seq=8");
  Option input = text("input", "NAME=FILE", "an input and the NPY file that it comes from; once for each");
  input.repeated = true;

  Command convert{
      .name = "convert",
      .summary = "write a model or weights in another format",
      .positionals = {{.name = "IN", .help = "a file of any format that info knows, or a published model's folder"},
                      {.name = "OUT", .help = "the new file: .tenon, .onnx, .safetensors, .gguf, .npz or .npy"}}};
  convert.options = {integer("opset", "the ONNX opset to write", {int64_t{formats::onnx::kNewestExportOpset}},
                             formats::onnx::kOldestExportOpset, formats::onnx::kNewestExportOpset),
                     sizes};
  convert.program = "tenon-files";
  convert.examples = {"tenon convert model.onnx model.tenon", "tenon convert model.tenon model.onnx --opset 17",
                      "tenon convert model.tenon weights.safetensors", "tenon convert models/bert bert.onnx"};

  Command run_model{.name = "run", .summary = "run a model on arrays from files", .positionals = {model}};
  run_model.options = {
      input,
      text("output", "DIR", "a folder for the results, NAME.npy each; without it they are shown"),
      text("function", "NAME", "which of a package's functions to run"),
      {.name = "compile",
       .kind = OptionKind::flag,
       .value_name = {},
       .help = "run it as a compiled program: the same results"},
      {.name = "fast",
       .kind = OptionKind::flag,
       .value_name = {},
       .help = "round less often and fold factors into weights: results may differ in the last digits"},
      {.name = "profile",
       .kind = OptionKind::flag,
       .value_name = {},
       .help = "show what each op took in a second run; with --output also as DIR/profile.json, for "
               "ui.perfetto.dev"},
      threads()};
  run_model.program = "tenon-files";
  run_model.examples = {"tenon run model.tenon --input image=cat.npy --output results"};

  Command diff{.name = "diff",
               .summary = "compare two models on the same inputs",
               .positionals = {{.name = "A", .help = "a package or an ONNX model"}, {.name = "B", .help = "another"}}};
  diff.options = {input, real("tolerance", "the relative difference from which on they part", {1e-4}, 0), sizes,
                  integer("seed", "seed of the random inputs, where none are given", {int64_t{1}}, 0, 9e15)};
  diff.program = "tenon-files";
  diff.examples = {"tenon diff model.tenon model.onnx"};

  Command conformance{.name = "conformance",
                      .summary = "run a standard's own test cases",
                      .positionals = {{.name = "SET", .help = "onnx: folders in the layout of the ONNX backend tests"},
                                      {.name = "DIR", .help = "where the cases are"}}};
  conformance.options = {text("json", "FILE", "also write the results as JSON")};
  conformance.program = "tenon-files";
  conformance.examples = {"tenon conformance onnx onnx/backend/test/data/node --json results.json"};
  return {train_command(),
          eval,
          generate,
          info,
          convert,
          run_model,
          diff,
          conformance,
          serve_command(),
          publish_command(),
          loadtest_command()};
}

}  // namespace

std::span<const Command> commands() {
  static const std::vector<Command> list = make_commands();
  return list;
}

train::RunFolder open_run(const std::string& path) {
  auto run = train::RunFolder::open(path);
  check_settings(find_command(commands(), "train"), run.config(), path + "/config.json");
  return run;
}

}  // namespace tenon::cli
