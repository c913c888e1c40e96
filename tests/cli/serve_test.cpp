// tenon serve and tenon loadtest as a user runs them.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <chrono>
#include <csignal>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <regex>
#include <set>

#include "tenon/base/file.h"
#include "tenon/cli/commands.h"
#include "tenon/cli/run.h"
#include "tests/cli/process.h"
#include "tests/support/temp_folder.h"

namespace tenon::cli {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

const std::string kModels = std::string(TENON_SOURCE_DIR) + "/tests/serve/goldens/models";
const std::string kModel = kModels + "/half_plus_two", kPicture = kModels + "/picture/1";

std::string scratch(const std::string& name) { return tenon::testing_support::temp_folder() + "/serve-" + name; }

TEST(ServeCommand, AcceptsTensorFlowServingsSpellings) {
  EXPECT_THAT(serve_words({"--rest_api_port=8501", "--enable_batching", "--enable_model_warmup", "false", "--model",
                           "a=b", "--model=c=d", "--config", "f", "--port", "1"}),
              ElementsAre("--rest-api-port=8501", "--enable-batching=true", "--enable-model-warmup=false",
                          "--model-config-file", "f", "--port", "1", "--model=a=b\nc=d"));
}

TEST(ServeCommand, ServesUntilASignalAndDrains) {
  const std::string folder = scratch("drain");
  std::string seen;
  Finished load;
  const auto finished = run_process(
      {"serve", "--model", "half_plus_two=" + kModel, "--free-ports", "--address", "127.0.0.1"}, folder,
      [&](pid_t pid) {
        std::ifstream out(folder + "/stdout");
        seen.assign(std::istreambuf_iterator<char>(out), {});
        if (seen.find("curl") == std::string::npos) return false;
        const size_t at = seen.find("http://127.0.0.1:", seen.find("(v2), REST"));
        const std::string url = seen.substr(at, seen.find('\n', at) - at) + "/v2/models/half_plus_two";
        load = run_process({"loadtest", url, "--rate", "100", "--seconds", "1", "--warm-up", "0"}, folder + "/load");
        kill(pid, SIGTERM);
        return true;
      });
  EXPECT_EQ(finished.code, 0) << finished.err;
  EXPECT_THAT(finished.out, HasSubstr("TensorFlow Serving, REST"));
  EXPECT_THAT(finished.out, HasSubstr("curl -d '{\"inputs\": {\"x\": [1]}}' http://127.0.0.1:"));
  EXPECT_THAT(finished.err, HasSubstr("version_available"));
  EXPECT_THAT(finished.err, HasSubstr("drained"));
  EXPECT_EQ(load.code, 0) << load.err;
  EXPECT_THAT(load.out, HasSubstr("p99.9"));
  EXPECT_THAT(load.out, testing::Not(HasSubstr("error")));
}

// A published model's folder (config.json and SafeTensors) is served as it lies there.
TEST(ServeCommand, ServesThePublishedModelsFolder) {
  const std::string folder = scratch("published");
  const std::string model = std::string(TENON_SOURCE_DIR) + "/tests/models/goldens/bert_sequenceclassification";
  Finished load;
  const auto finished = run_process(
      {"serve", "--model", "bert=" + model, "--free-ports", "--address", "127.0.0.1"}, folder, [&](pid_t pid) {
        std::ifstream out(folder + "/stdout");
        const std::string seen(std::istreambuf_iterator<char>(out), {});
        if (seen.find("curl") == std::string::npos) return false;
        const size_t at = seen.find("http://127.0.0.1:", seen.find("(v2), REST"));
        const std::string url = seen.substr(at, seen.find('\n', at) - at) + "/v2/models/bert";
        load = run_process({"loadtest", url, "--rate", "20", "--seconds", "1", "--warm-up", "0", "--extent", "4"},
                           folder + "/load");
        kill(pid, SIGTERM);
        return true;
      });
  EXPECT_EQ(finished.code, 0) << finished.err;
  EXPECT_EQ(load.code, 0) << load.err;
  EXPECT_THAT(load.out, testing::Not(HasSubstr("error"))) << finished.err;
}

TEST(PublishCommand, PutsTheNextVersionThereAllAtOnce) {
  const std::string folder = scratch("publish"), base = folder + "/models/m";
  const std::string model = kModel + "/123/model.onnx";
  EXPECT_EQ(run_process({"publish", model, base}, folder + "/1").out, base + "/1\n");
  EXPECT_EQ(run_process({"publish", kModel + "/124", base}, folder + "/2").out, base + "/2\n");
  EXPECT_EQ(run_process({"publish", model, base, "--version", "7"}, folder + "/7").out, base + "/7\n");
  const auto again = run_process({"publish", model, base, "--version", "7"}, folder + "/again");
  EXPECT_NE(again.code, 0);
  EXPECT_THAT(again.err, HasSubstr("this version exists already"));
  EXPECT_THAT(run_process({"publish", TENON_SOURCE_DIR "/README.md", base}, folder + "/no").err,
              HasSubstr("not a model that can be served"));
  std::vector<std::string> left;
  for (const auto& entry : std::filesystem::directory_iterator(base)) left.push_back(entry.path().filename());
  EXPECT_THAT(left, testing::UnorderedElementsAre("1", "2", "7")) << "nothing half done stays";
  for (const auto* version : {"1", "2", "7"})
    EXPECT_TRUE(std::filesystem::exists(base + "/" + version + "/manifest.json")) << version;
}

// The server and what knows all files are programs beside the command; where only the command was built, it says what
// is missing.
TEST(ServeCommand, SaysWhichProgramIsNotThere) {
  const std::string folder = scratch("alone");
  std::filesystem::create_directories(folder);
  std::filesystem::copy_file(TENON_COMMAND, folder + "/tenon");
  const auto finished = run_process({"serve", "--model", "m=" + kModel}, folder, {}, folder + "/tenon");
  EXPECT_EQ(finished.code, 1);
  EXPECT_THAT(finished.err, HasSubstr("cannot start " + folder + "/tenon-server: No such file or directory"));
  EXPECT_THAT(finished.err, HasSubstr("--target tenon_server"));
  const auto info = run_process({"info", kModel + "/123/model.onnx"}, folder, {}, folder + "/tenon");
  EXPECT_EQ(info.code, 1);
  EXPECT_THAT(info.err, HasSubstr("cannot start " + folder + "/tenon-files: No such file or directory"));
  EXPECT_THAT(info.err, HasSubstr("--target tenon_files"));
  const auto help = run_process({"serve", "--help"}, folder, {}, folder + "/tenon");
  EXPECT_EQ(help.code, 0);
  EXPECT_THAT(help.out, HasSubstr("--rest-api-port"));
}

// Every flag that the pages and the manifests name is one of the server's commands. What else begins with two hyphens
// there is listed here, with whose it is.
TEST(ServeCommand, ThePagesNameNoFlagThatIsNotThere) {
  // tf2onnx; torchserve; scripts/soak; systemctl; cmake; TensorFlow Serving's, which is not accepted
  const std::set<std::string> others{"saved-model", "output",    "start",
                                     "model-store", "models",    "now",
                                     "install",     "sanitizer", "tensorflow-session-parallelism"};
  std::set<std::string> known{"config", "help"};
  for (const Command& command : commands()) {
    if (command.name != "serve" && command.name != "publish" && command.name != "loadtest") continue;
    for (const Option& option : command.options) known.insert(option.name);
  }
  size_t seen = 0;
  for (const char* page : {"docs/serving.md", "docs/migration.md", "deploy/kubernetes.yaml",
                           "deploy/kserve-runtime.yaml", "deploy/tenon.service"}) {
    const std::string text = read_text_file(std::string(TENON_SOURCE_DIR) + "/" + page);
    const std::regex flag("(?:^|[^-A-Za-z0-9])--([A-Za-z][A-Za-z0-9_-]*)");
    for (std::sregex_iterator it(text.begin(), text.end(), flag), end; it != end; ++it) {
      std::string name = (*it)[1];
      std::replace(name.begin(), name.end(), '_', '-');
      EXPECT_TRUE(known.contains(name) || others.contains(name)) << page << " names --" << name;
      ++seen;
    }
  }
  EXPECT_GT(seen, 80U);
}

// TensorFlow Serving's own flags, as the reference lists them, are all taken.
TEST(ServeCommand, TakesTensorFlowServingsFlags) {
  const Command& serve = find_command(commands(), "serve");
  std::vector<std::string> words;
  for (const char* name : {"port", "rest_api_port", "rest_api_num_threads", "rest_api_timeout_in_ms",
                           "grpc_max_threads", "model_config_file_poll_wait_seconds", "file_system_poll_wait_seconds",
                           "num_load_threads", "num_unload_threads", "max_num_load_retries",
                           "load_retry_interval_micros", "num_request_iterations_for_warmup"})
    words.push_back(std::string("--") + name + "=2");
  for (const char* name : {"rest_api_enable_cors_support", "enable_batching", "enable_per_model_batching_parameters",
                           "enable_model_warmup", "allow_version_labels_for_unavailable_models",
                           "enable_grpc_healthcheck_service", "enable_serialization_as_tensor_content", "version"})
    words.push_back(std::string("--") + name);
  for (const char* name :
       {"grpc_socket_path", "grpc_channel_arguments", "model_name", "model_base_path", "model_config_file",
        "batching_parameters_file", "monitoring_config_file", "ssl_config_file"})
    words.push_back(std::string("--") + name + "=x");
  EXPECT_NO_THROW((void)parse_arguments(serve, serve_words(words)));
}

// Where clients of the two protocols look when nobody tells them.
TEST(ServeCommand, ListensWhereTheOriginalsDo) {
  const auto a = parse_arguments(find_command(commands(), "serve"), {});
  EXPECT_EQ(a.get<std::int64_t>("port"), 8500);
  EXPECT_EQ(a.get<std::int64_t>("rest-api-port"), 8501);
  EXPECT_EQ(a.get<std::int64_t>("http-port"), 8000);
  EXPECT_EQ(a.get<std::int64_t>("grpc-port"), 8001);
  EXPECT_FALSE(a.has("control-port"));
}

// With per-model parameters the file for all counts no more, and the folder's is told in the log.
TEST(ServeCommand, ReadsTheBatchingParametersOfAVersion) {
  if (std::system("command -v curl > /dev/null") != 0) GTEST_SKIP() << "curl is needed to ask the server";
  const std::string folder = scratch("batching"), base = folder + "/m";
  std::filesystem::create_directories(base);
  for (const char* version : {"1", "2"})
    std::filesystem::copy(kPicture, base + "/" + version, std::filesystem::copy_options::recursive);
  std::ofstream(base + "/2/batching_params.pbtxt") << "max_batch_size { value: 10 }";
  std::ofstream(folder + "/all.config") << "max_batch_size { value: 64 }";
  std::ofstream(folder + "/models.config")
      << "model_config_list { config { name: \"m\" base_path: \"" << base << "\" model_version_policy { all {} } } }";
  std::string one, two;
  const auto finished = run_process(
      {"serve", "--model_config_file=" + folder + "/models.config", "--free-ports", "--address", "127.0.0.1",
       "--enable_batching", "--batching_parameters_file=" + folder + "/all.config",
       "--enable_per_model_batching_parameters"},
      folder, [&](pid_t pid) {
        std::ifstream out(folder + "/stdout");
        const std::string seen(std::istreambuf_iterator<char>(out), {});
        if (seen.find("ready; try") == std::string::npos) return false;
        const size_t at = seen.find("http://127.0.0.1:", seen.find("(v2), REST"));
        const std::string url = seen.substr(at, seen.find('\n', at) - at) + "/v2/models/m/versions/";
        const auto config = [&](const std::string& version) {
          (void)std::system(("curl -s " + url + version + "/config > " + folder + "/" + version + ".json").c_str());
          return read_text_file(folder + "/" + version + ".json");
        };
        one = config("1");
        two = config("2");
        if (two.find("\"error\"") != std::string::npos) return false;  // ready is who has one version
        kill(pid, SIGTERM);
        return true;
      });
  EXPECT_EQ(finished.code, 0) << finished.err;
  EXPECT_THAT(finished.err, HasSubstr("\"event\":\"version_batching\",\"model\":\"m\",\"version\":\"2\",\"file\":\"" +
                                      base + "/2/batching_params.pbtxt\",\"max_batch_size\":\"10\""));
  EXPECT_THAT(two, HasSubstr("\"max_batch_size\":10"));
  EXPECT_THAT(one, HasSubstr("batching is not switched on for this model"));
}

// --fast is for all models whose configuration does not say otherwise; the log tells which are.
TEST(ServeCommand, ServesFastWhatShallBeFast) {
  const std::string folder = scratch("fast");
  std::filesystem::create_directories(folder);
  const auto model = [](const std::string& name, const std::string& more) {
    return "config { name: \"" + name + "\" base_path: \"" + kModel + "\" " + more + " } ";
  };
  std::ofstream(folder + "/models.config")
      << "model_config_list { " << model("plain", "") << model("strict", "fast: false") << "}";
  const auto finished =
      run_process({"serve", "--config", folder + "/models.config", "--fast", "--free-ports", "--address", "127.0.0.1"},
                  folder, [&](pid_t pid) {
                    std::ifstream out(folder + "/stdout");
                    const std::string seen(std::istreambuf_iterator<char>(out), {});
                    if (seen.find("ready; try") == std::string::npos) return false;
                    kill(pid, SIGTERM);
                    return true;
                  });
  EXPECT_EQ(finished.code, 0) << finished.err;
  EXPECT_THAT(finished.err, HasSubstr("\"event\":\"version_available\",\"model\":\"plain\",\"version\":\"124\","
                                      "\"execution\":\"as a program, fast\"}"));
  EXPECT_THAT(finished.err, HasSubstr("\"event\":\"version_available\",\"model\":\"strict\",\"version\":\"124\"}"));
}

// What the file becomes is taken; what is no configuration, or says nothing (an editor has just emptied it), changes
// nothing and is told of once, as an event like all others.
TEST(ServeCommand, FollowsItsConfigurationFile) {
  const std::string folder = scratch("follows"), file = folder + "/models.config";
  std::filesystem::create_directories(folder);
  const auto write = [&](const std::string& text) { write_file_atomic(file, text); };
  const auto models = [](const std::string& more) {
    return "model_config_list { config { name: \"one\" base_path: \"" + kModel + "\" } " + more + "}";
  };
  write("");  // as the original: a server without models
  const std::vector<std::pair<std::string, std::string>> steps{
      // what is written, and what the log says then
      {models(""), R"("event":"configuration_taken","file":")" + file + R"(","models":"1"})"},
      {"", "there is no model_config_list"},
      {"model_config_list { config { name:", "line 1"},
      {models("config { name: \"two\" base_path: \"" + kModel + "\" }"), R"("models":"2"})"},
      {"model_config_list {}", R"("models":"0"})"}};
  size_t at = 0;
  const auto finished = run_process(
      {"serve", "--config", file, "--model_config_file_poll_wait_seconds=1", "--free-ports", "--address", "127.0.0.1"},
      folder, [&](pid_t pid) {
        if (read_text_file(folder + "/stdout").find("ready\n") == std::string::npos) return false;
        const std::string log = read_text_file(folder + "/stderr");
        if (at > 0 && log.find(steps[at - 1].second) == std::string::npos) return false;
        if (at < steps.size()) {
          write(steps[at++].first);
          return false;
        }
        kill(pid, SIGINT);  // as Ctrl-C does
        return true;
      });
  EXPECT_EQ(finished.code, 0) << finished.err;
  EXPECT_THAT(finished.err, HasSubstr("\"event\":\"drained\""));
  size_t refused = 0, unloaded = 0;
  std::istringstream lines(finished.err);
  for (std::string line; std::getline(lines, line);) {
    EXPECT_THAT(line, testing::AllOf(testing::StartsWith("{\"time\":"), testing::EndsWith("}"))) << "an event each";
    refused += line.find("\"configuration_refused\"") != std::string::npos ? 1 : 0;
    if (line.find("\"models\":\"0\"") != std::string::npos) break;
    unloaded += line.find("\"version_unloading\"") != std::string::npos ? 1 : 0;
  }
  EXPECT_EQ(refused, 2U) << finished.err;
  EXPECT_EQ(unloaded, 0U) << "nobody said that a model shall go: " << finished.err;
}

TEST(ServeCommand, TellsItsVersionAsTensorFlowServingDoes) {
  for (const char* word : {"--version", "--version=true"}) {
    const auto finished = run_process({"serve", word}, scratch("version"));
    EXPECT_EQ(finished.code, 0) << finished.err;
    EXPECT_THAT(finished.out, testing::StartsWith("tenon "));
    EXPECT_EQ(finished.out, run_process({"--version"}, scratch("version")).out);
  }
}

TEST(ServeCommand, SaysWhatIsWrong) {
  EXPECT_THAT(run_process({"serve"}, scratch("nothing")).err, HasSubstr("nothing to serve"));
  EXPECT_THAT(run_process({"serve", "--model", "nonsense"}, scratch("name")).err, HasSubstr("expected NAME=PATH"));
  EXPECT_THAT(run_process({"serve", "--model", "m=/nowhere/at/all"}, scratch("path")).err,
              HasSubstr("there is no such file or folder"));
  EXPECT_THAT(run_process({"serve", "--model", "m=" + kModel, "--control-port", "1234"}, scratch("token")).err,
              HasSubstr("a token of at least 8 characters"));
  EXPECT_THAT(run_process({"serve", "--model", "m=s3://bucket/m"}, scratch("s3")).err,
              HasSubstr("s3://bucket/m: only local paths are read"));
  // Two that say what to serve: neither is dropped without a word.
  const std::string config = scratch("both") + ".config";
  std::ofstream(config) << "model_config_list { config { name: \"m\" base_path: \"gs://bucket/m\" } }";
  const auto both = run_process({"serve", "--config", config, "--model", "a=" + kModel}, scratch("both"));
  EXPECT_EQ(both.code, 2);
  EXPECT_THAT(both.err, HasSubstr("--model and --config both say what to serve"));
  const auto remote =
      run_process({"serve", "--config", config, "--free-ports", "--model_base_path=/models/model"}, scratch("remote"));
  EXPECT_EQ(remote.code, 1);
  EXPECT_THAT(remote.err, HasSubstr("gs://bucket/m: only local paths are read"));
  EXPECT_THAT(remote.err, HasSubstr("--model-base-path /models/model is not looked at"));
  const auto deaf = run_process(
      {"serve", "--model", "m=" + kModel, "--port=0", "--rest_api_port=0", "--http-port=0", "--grpc-port=0"},
      scratch("deaf"));
  EXPECT_EQ(deaf.code, 2);
  EXPECT_THAT(deaf.err, HasSubstr("every port is 0"));
  EXPECT_THAT(run_process({"loadtest", "ftp://x"}, scratch("url")).err, HasSubstr("the URL has another form"));
  EXPECT_THAT(run_process({"loadtest", "http://127.0.0.1:1/v2/models/m"}, scratch("port")).err,
              HasSubstr("127.0.0.1:1"));
}

}  // namespace
}  // namespace tenon::cli
