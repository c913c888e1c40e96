// tenon serve: the model server. tenon publish: a version into a served model's folder.
#include <fmt/chrono.h>
#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <thread>

#include "tenon/base/file.h"
#include "tenon/cli/interrupt.h"
#include "tenon/cli/run.h"
#include "tenon/files/model_file.h"
#include "tenon/serve/server.h"
#include "tenon/serve/version_folder.h"
#include "tenon/server/commands.h"

namespace tenon::server {
namespace {

namespace fs = std::filesystem;
using namespace cli;
using std::chrono::milliseconds;

bool yes(const Arguments& a, std::string_view name) { return a.has(name) && a.get<std::string>(name) == "true"; }
std::string text_or(const Arguments& a, std::string_view name) {
  return a.has(name) ? a.get<std::string>(name) : std::string();
}

std::optional<uint16_t> port_of(const Arguments& a, std::string_view name) {
  const auto port = a.get<std::int64_t>(name);
  if (yes(a, "free-ports") && !a.was_given(name)) return 0;
  if (port <= 0) return {};
  return static_cast<uint16_t>(port);
}

std::vector<serve::ModelConfig> models_of(const Arguments& a, const serve::LaneOptions& lane, const Console& console) {
  if (a.has("model-config-file")) {
    const std::string path = a.get<std::string>("model-config-file");
    if (a.has("model"))
      throw UsageError({"tenon serve",
                        "--model and --config both say what to serve",
                        "one of them",
                        {},
                        "config { name: \"classifier\" base_path: \"models/classifier\" } in " + path});
    // As the original, whose container image always names a model.
    if (a.has("model-base-path"))
      console.err(fmt::format("--model-base-path {} is not looked at: --model-config-file says what to serve\n",
                              a.get<std::string>("model-base-path")));
    return serve::parse_model_config(read_text_file(path), path, lane);
  }
  std::vector<serve::ModelConfig> out;
  if (a.has("model-base-path"))
    out.push_back(
        {.name = a.get<std::string>("model-name"), .base_path = a.get<std::string>("model-base-path"), .lane = lane});
  std::string list = text_or(a, "model");
  while (!list.empty()) {
    const std::string item = list.substr(0, list.find('\n'));
    list.erase(0, item.size() + 1);
    const size_t equals = item.find('=');
    if (equals == std::string::npos || equals == 0 || equals + 1 == item.size())
      throw UsageError({"tenon serve --model", "not a name and a path", "NAME=PATH", "\"" + item + "\"",
                        "--model classifier=models/classifier.onnx"});
    out.push_back({.name = item.substr(0, equals), .base_path = item.substr(equals + 1), .lane = lane});
  }
  for (const auto& config : out) {
    serve::check_local(config.base_path);
    if (!fs::exists(config.base_path))
      throw FileError({config.base_path.string(), "there is no such file or folder", {}, {}, {}});
  }
  if (out.empty())
    throw UsageError({"tenon serve",
                      "nothing to serve",
                      "--model NAME=PATH or --config FILE",
                      {},
                      "tenon serve --model classifier=models/classifier.onnx"});
  return out;
}

serve::LaneOptions lane_of(const Arguments& a, serve::ServerOptions& options) {
  const bool per_version = yes(a, "enable-per-model-batching-parameters");
  serve::LaneOptions plain;
  plain.max_queued = a.get<std::int64_t>("max-queued");
  if (yes(a, "fast")) plain.precision = Precision::Fast;
  serve::LaneOptions lane = plain;
  if (a.has("batching-parameters-file")) {
    int threads = 0;
    const std::string path = a.get<std::string>("batching-parameters-file");
    (void)serve::parse_batching(read_text_file(path), path, lane, threads);
    if (threads > 0) options.core.scheduler.threads = threads;
    if (per_version) lane = plain;  // as the original: then only the threads are for all models
  }
  if (a.has("max-batch-size")) {
    lane.batching.enabled = true;
    lane.batching.max_batch_size = a.get<std::int64_t>("max-batch-size");
  }
  if (a.was_given("enable-batching"))
    lane.batching.enabled = yes(a, "enable-batching") && (!per_version || a.has("max-batch-size"));
  if (a.has("batch-timeout-micros"))
    lane.batching.timeout = std::chrono::microseconds(a.get<std::int64_t>("batch-timeout-micros"));
  return lane;
}

// "KEY=VALUE,KEY=VALUE", as TensorFlow Serving takes them.
std::vector<std::pair<std::string, std::string>> channel_arguments(std::string_view text) {
  std::vector<std::pair<std::string, std::string>> out;
  while (!text.empty()) {
    const std::string_view one = text.substr(0, text.find(','));
    text.remove_prefix(std::min(text.size(), one.size() + 1));
    const size_t equal = one.find('=');
    if (equal == std::string_view::npos || equal == 0)
      throw UsageError({"tenon serve --grpc-channel-arguments", "every argument is KEY=VALUE", "KEY=VALUE,KEY=VALUE",
                        std::string(one), "grpc.keepalive_time_ms=60000"});
    out.emplace_back(one.substr(0, equal), one.substr(equal + 1));
  }
  return out;
}

// What the server loads by itself, and the folders of published models (config.json and SafeTensors), which become a
// package first: the server knows packages, this program knows the families of models.
serve::ModelPtr load_any(const fs::path& path, Precision precision) {
  bool has_weights = false, has_model = false;
  if (fs::is_directory(path)) {
    for (const auto& entry : fs::directory_iterator(path)) {
      has_weights = has_weights || entry.path().extension() == ".safetensors";
      has_model = has_model || entry.path().extension() == ".onnx" || entry.path().extension() == ".tenon";
    }
  }
  if (has_model || !has_weights || !files::holds_model(path.string())) return serve::load_model(path, precision);
  files::ModelFile model = files::read_model(path.string());
  model.notes.weights = std::move(model.weights);
  const fs::path package = fs::temp_directory_path() / fmt::format("tenon-{}-{}.tenon", ::getpid(), ::gettid());
  try {
    save(package, model.graph, model.notes);
    model = {};
    auto loaded = serve::load_model(package, precision);
    fs::remove(package);  // its pages stay mapped
    return loaded;
  } catch (...) {
    std::error_code ignored;
    fs::remove(package, ignored);
    throw;
  }
}

// Where it listens, how those connections are secured, and who may load by hand.
void read_listeners(const Arguments& a, serve::ServerOptions& o) {
  o.address = a.get<std::string>("address");
  o.tfs_grpc_port = port_of(a, "port");
  o.tfs_rest_port = port_of(a, "rest-api-port");
  o.v2_rest_port = port_of(a, "http-port");
  o.v2_grpc_port = port_of(a, "grpc-port");
  o.grpc_socket_path = text_or(a, "grpc-socket-path");
  if (!o.tfs_grpc_port && !o.tfs_rest_port && !o.v2_rest_port && !o.v2_grpc_port && o.grpc_socket_path.empty())
    throw UsageError(
        {"tenon serve", "every port is 0: nobody could ask anything", "at least one port", {}, "--rest_api_port 8501"});
  if (a.has("control-port")) o.control_port = static_cast<uint16_t>(a.get<std::int64_t>("control-port"));
  o.grpc_control = yes(a, "grpc-control");
  if (o.control_port || o.grpc_control) {
    o.control_token = text_or(a, "control-token");
    if (o.control_token.size() < 8)
      throw UsageError({o.control_port ? "tenon serve --control-port" : "tenon serve --grpc-control",
                        "loading by hand needs a token of at least 8 characters",
                        {},
                        {},
                        "--control-token TOKEN"});
  }
  if (a.has("tls-certificate"))
    o.tls = serve::TlsFiles{a.get<std::string>("tls-certificate"), text_or(a, "tls-key"), {}};
  if (a.has("ssl-config-file")) {
    const std::string path = a.get<std::string>("ssl-config-file");
    o.grpc_tls = serve::parse_ssl_config(read_text_file(path), path);
  }
}

void read_logs(const Arguments& a, const Console& console, serve::ServerOptions& o) {
  serve::LogFileOptions file;
  file.max_file_bytes = a.get<std::int64_t>("log-max-bytes");
  file.max_files = static_cast<int>(a.get<std::int64_t>("log-max-files"));
  if (a.has("request-log")) {
    const auto format = a.get<std::string>("request-log-format");
    file.prefix = a.get<std::string>("request-log");
    o.core.request_log = serve::RequestLogOptions{
        .format = format == "json_lines" ? serve::LogFormat::JsonLines : serve::LogFormat::PredictionLog,
        .sampling_rate = a.get<double>("request-log-rate"),
        .seed = static_cast<std::uint64_t>(a.get<std::int64_t>("request-log-seed")),
        .file = file};
  }
  if (text_or(a, "access-log") == "-") {
    o.access = [&console](const serve::AccessRecord& record) { console.err(serve::json_line(record)); };
  } else if (a.has("access-log")) {
    file.prefix = a.get<std::string>("access-log");
    o.access_log = file;
  }
  o.core.repository.log = [&console](std::string_view level, std::string_view event, const serve::Labels& fields) {
    nlohmann::ordered_json line{{"time", fmt::format("{:%FT%TZ}", fmt::gmtime(std::chrono::system_clock::now()))},
                                {"level", level},
                                {"event", event}};
    for (const auto& [key, value] : fields) line[key] = value;
    console.err(line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
  };
}

void read_loading(const Arguments& a, serve::RepositoryOptions& r) {
  r.loader = load_any;
  r.poll = milliseconds(1000 * a.get<std::int64_t>("file-system-poll-wait-seconds"));
  r.load_threads = std::max(1, static_cast<int>(a.get<std::int64_t>("num-load-threads")));
  r.load_retries = static_cast<int>(a.get<std::int64_t>("max-num-load-retries"));
  r.retry_interval = milliseconds(a.get<std::int64_t>("load-retry-interval-micros") / 1000);
  r.warm_up = yes(a, "enable-model-warmup");
  r.warm_iterations = std::max(1, static_cast<int>(a.get<std::int64_t>("num-request-iterations-for-warmup")));
  r.version_batching =
      yes(a, "enable-per-model-batching-parameters") && (!a.was_given("enable-batching") || yes(a, "enable-batching"));
}

serve::ServerOptions options_of(const Arguments& a, const Console& console) {
  serve::ServerOptions o;
  read_listeners(a, o);
  if (a.has("grpc-channel-arguments"))
    o.grpc.channel_arguments = channel_arguments(a.get<std::string>("grpc-channel-arguments"));
  o.tfs_rest.cors = yes(a, "rest-api-enable-cors-support");
  o.tfs_rest.timeout = milliseconds(a.get<std::int64_t>("rest-api-timeout-in-ms"));
  if (a.has("monitoring-config-file")) {
    const std::string path = a.get<std::string>("monitoring-config-file");
    o.tfs_rest.metrics_path = serve::parse_monitoring(read_text_file(path), path);
  }
  o.tfs_grpc.typed_lists = !yes(a, "enable-serialization-as-tensor-content");
  o.tfs_grpc.reload_config = yes(a, "allow-reload-config");
  o.http.threads = static_cast<int>(a.get<std::int64_t>("rest-api-num-threads"));
  o.grpc.max_threads = static_cast<int>(a.get<std::int64_t>("grpc-max-threads"));
  o.core.version = TENON_VERSION;
  o.core.scheduler.threads = static_cast<int>(a.get<std::int64_t>("threads"));
  o.core.scheduler.threads_per_run = static_cast<int>(a.get<std::int64_t>("threads-per-run"));
  o.core.scheduler.stuck_after = milliseconds(static_cast<std::int64_t>(1e3 * a.get<double>("stuck-run-seconds")));
  o.core.admission.requests = a.get<std::int64_t>("max-requests");
  o.core.admission.bytes = a.get<std::int64_t>("max-bytes");
  o.core.admission.body = a.get<std::int64_t>("max-body-bytes");
  read_logs(a, console, o);
  read_loading(a, o.core.repository);
  return o;
}

// A body that the model takes, for the line to try: zeros, if they are few.
std::string sample_line(serve::Server& server, const std::string& model, const std::string& host) {
  const auto ready = server.core().repository().ready_versions(model);
  if (ready.empty()) return {};
  const bool tfs = server.ports().tfs_rest != 0;
  std::string inputs;
  for (const auto& spec : ready.back()->model().inputs()) {
    std::int64_t count = 1;
    std::string value = spec.type.strings() ? "\"text\"" : spec.type.dtype == DType::Bool ? "true" : "1";
    std::string shape;
    for (size_t i = spec.dims.size(); i-- > 0;) {
      const std::int64_t extent = spec.dims[i] < 0 ? 1 : spec.dims[i];
      count *= extent;
      if (count > 64) return {};
      std::string list = value;
      for (std::int64_t j = 1; j < extent; ++j) list += "," + value;
      value = "[" + list + "]";
      shape = fmt::format("{}{}{}", extent, shape.empty() ? "" : ",", shape);
    }
    if (spec.dims.empty()) value = fmt::format("[{}]", value);
    inputs += inputs.empty() ? "" : ", ";
    inputs += tfs ? fmt::format("\"{}\": {}", spec.name, value)
                  : fmt::format("{{\"name\": \"{}\", \"datatype\": \"{}\", \"shape\": [{}], \"data\": {}}}", spec.name,
                                serve::v2_name(spec.type), shape, value);
  }
  const std::string& scheme = host;
  if (tfs)
    return fmt::format("curl -d '{{\"inputs\": {{{}}}}}' {}:{}/v1/models/{}:predict", inputs, scheme,
                       server.ports().tfs_rest, model);
  if (server.ports().v2_rest == 0) return {};
  return fmt::format("curl -d '{{\"inputs\": [{}]}}' {}:{}/v2/models/{}/infer", inputs, scheme, server.ports().v2_rest,
                     model);
}

std::string where_text(serve::Server& server, const std::string& host) {
  const auto& p = server.ports();
  std::string out;
  const auto line = [&](std::string_view what, const std::string& prefix, uint16_t port) {
    if (port != 0) out += fmt::format("  {:<28}{}:{}\n", what, prefix, port);
  };
  const std::string bare = host.substr(host.find("//") + 2);
  line("TensorFlow Serving, REST", host, p.tfs_rest);
  line("TensorFlow Serving, gRPC", bare, p.tfs_grpc);
  line("Open Inference (v2), REST", host, p.v2_rest);
  line("Open Inference (v2), gRPC", bare, p.v2_grpc);
  line("loading by hand", host, p.control);
  return out;
}

// The file of --model-config-file, read again every now and then. What cannot be read, or lists no models (a file that
// is just being written, say), changes nothing and is told of once.
class ConfigFile {
 public:
  ConfigFile(const Arguments& a, serve::LaneOptions lane, serve::LogSink log)
      : path_(text_or(a, "model-config-file")),
        lane_(std::move(lane)),
        log_(std::move(log)),
        every_(path_.empty() ? 0 : a.get<std::int64_t>("model-config-file-poll-wait-seconds")) {
    if (every_.count() > 0) now_ = read_text_file(path_);
  }
  void look(serve::Repository& repository) {
    if (every_.count() <= 0 || std::chrono::steady_clock::now() < next_) return;
    next_ = std::chrono::steady_clock::now() + every_;
    try {
      std::string text = read_text_file(path_);
      if (text == now_) {
        refused_.clear();
        return;
      }
      if (!serve::lists_models(text, path_))
        throw FormatError({path_, "there is no model_config_list", {}, {}, "model_config_list {}, to serve none"});
      auto models = serve::parse_model_config(text, path_, lane_);
      const size_t count = models.size();
      repository.configure(std::move(models));
      now_ = std::move(text);
      refused_.clear();
      log_("info", "configuration_taken", {{"file", path_}, {"models", std::to_string(count)}});
    } catch (const Error& error) {  // the last good configuration stays
      if (refused_ == error.what()) return;
      refused_ = error.what();
      log_("error", "configuration_refused", {{"file", path_}, {"error", refused_}});
    }
  }

 private:
  std::string path_;
  serve::LaneOptions lane_;
  serve::LogSink log_;
  std::chrono::seconds every_;
  std::chrono::steady_clock::time_point next_ = std::chrono::steady_clock::now() + every_;
  std::string now_, refused_;  // the text that is in force; why the one after it is not
};

}  // namespace

int serve_command(const Arguments& a, const Console& console) {
  if (yes(a, "version")) {
    console.out("tenon " TENON_VERSION "\n");
    return exit_done;
  }
  Interrupt interrupt;  // before any thread
  serve::ServerOptions options = options_of(a, console);
  const serve::LaneOptions lane = lane_of(a, options);
  options.tfs_grpc.lane = lane;
  const serve::LogSink log = options.core.repository.log;
  ConfigFile config(a, lane, log);  // before the models are read from it: what changes in between is seen
  const auto models = models_of(a, lane, console);
  const std::string shown = options.address == "0.0.0.0" ? "localhost" : options.address;
  const std::string host = fmt::format("http{}://{}", options.tls ? "s" : "", shown);
  serve::Server server(std::move(options), models);
  console.out(fmt::format("tenon {} serves {} model{}\n{}", TENON_VERSION, models.size(), models.size() == 1 ? "" : "s",
                          where_text(server, host)));
  bool told = false;
  while (!interrupt.requested()) {
    std::this_thread::sleep_for(milliseconds(20));
    if (!told && server.core().repository().ready()) {
      told = true;
      const std::string line = models.empty() ? std::string() : sample_line(server, models[0].name, host);
      console.out(line.empty() ? "ready\n" : fmt::format("ready; try\n  {}\n", line));
    }
    config.look(server.core().repository());
  }
  log("info", "draining", {{"note", "no new requests; a second signal ends at once"}});
  const bool clean = server.stop({.grace = milliseconds(a.get<std::int64_t>("drain-grace-ms")),
                                  .patience = milliseconds(a.get<std::int64_t>("drain-timeout-ms"))});
  log(clean ? "info" : "error", clean ? "drained" : "drain_timeout",
      clean ? serve::Labels() : serve::Labels{{"note", "some requests were not answered"}});
  return clean ? exit_done : exit_error;
}

int publish_command(const Arguments& a, const Console& console) {
  const fs::path model = a.positionals.at(0), base = a.positionals.at(1);
  (void)load_any(model, Precision::Strict);  // what cannot be served is not published
  std::error_code error;
  fs::create_directories(base, error);
  if (error) throw FileError({base.string(), error.message(), {}, {}, {}});
  std::int64_t version = a.get<std::int64_t>("version");
  if (version == 0) {
    const auto there = serve::find_versions(base);
    version = there.empty() ? 1 : there.rbegin()->first + 1;
  }
  serve::publish_version(model, base, version);
  console.out(fmt::format("{}\n", (base / std::to_string(version)).string()));
  return exit_done;
}

}  // namespace tenon::server
