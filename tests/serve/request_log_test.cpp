// Logs on disk: framing, rotation, bounds, a full disk; the same bytes as TensorFlow's own tools write.
#include "tenon/serve/request_log.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <algorithm>
#include <csignal>
#include <nlohmann/json.hpp>

#include "tenon/base/file.h"
#include "tenon/base/tfrecord.h"
#include "tenon/serve/server.h"
#include "tests/serve/http_client.h"
#include "tests/serve/support.h"

namespace tenon::serve {
namespace {

using namespace testing_support;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;
using Json = nlohmann::json;

std::vector<fs::path> files_in(const fs::path& folder) {
  std::vector<fs::path> out;
  for (const auto& entry : fs::directory_iterator(folder)) out.push_back(entry.path());
  std::sort(out.begin(), out.end());
  return out;
}
std::vector<std::string> lines_of(const fs::path& path) {
  std::vector<std::string> out;
  std::istringstream in(read_text_file(path.string()));
  for (std::string line; std::getline(in, line);) out.push_back(line);
  return out;
}
int counted(const Metrics& metrics, const std::string& line) {
  const std::string page = metrics.text();
  const size_t at = page.find(line);
  return at == std::string::npos ? -1 : std::stoi(page.substr(at + line.size() + 1));
}
std::string result(const std::string& log, const std::string& what) {
  return "tenon_log_records_total{log=\"" + log + "\",result=\"" + what + "\"}";
}
void push(LogFile& file, const std::string& text) {
  file.push([text] { return text; }, static_cast<int64_t>(text.size()));
}

LoggedRequest sample() {
  LoggedRequest r;
  r.time = std::chrono::system_clock::time_point(std::chrono::microseconds(1700000000123456));
  r.model = "half \"plus\" two";
  r.version = 124;
  r.api = Api::V2Grpc;
  r.trace_id = "4bf92f3577b34da6a3ce929d0e0e4736";
  r.inputs = {{"x", from_vector(std::vector<float>{1, 2.5F, -0.0F, 1e30F}, {2, 2})},
              {"s", Strings{{2}, {"ä\n", std::string("\xff\0", 2)}}}};
  r.outputs = {{"y", from_vector(std::vector<int64_t>{-1, int64_t{1} << 60}, {2})}};
  r.duration = std::chrono::microseconds(140);
  return r;
}

TEST(RequestLogTest, AJsonLine) {
  const std::string line = json_line(sample());
  EXPECT_EQ(line.back(), '\n');
  const Json json = Json::parse(line);
  EXPECT_EQ(json["time"], "2023-11-14T22:13:20.123456Z");
  EXPECT_EQ(json["model"], "half \"plus\" two");
  EXPECT_EQ(json["version"], 124);
  EXPECT_EQ(json["api"], "v2_grpc");
  EXPECT_EQ(json["status"], "OK");
  EXPECT_EQ(json["duration_us"], 140);
  EXPECT_EQ(json["request"]["inputs"][0]["data"], Json::parse("[1.0,2.5,-0.0,1e30]"));
  EXPECT_EQ(json["request"]["inputs"][0]["shape"], Json::parse("[2,2]"));
  EXPECT_EQ(json["request"]["inputs"][1]["data"], Json::parse(R"([{"b64":"w6QK"},{"b64":"/wA="}])"));
  EXPECT_EQ(json["response"]["outputs"][0]["data"], Json::parse("[-1,1152921504606846976]"));
  LoggedRequest failed = sample();
  failed.status = {Code::Internal, "no \"way\"", 0};
  const Json other = Json::parse(json_line(failed));
  EXPECT_EQ(other["error"], "no \"way\"");
  EXPECT_FALSE(other.contains("response"));
}

// goldens/prediction_log.tfrecord was written by TensorFlow's own classes (tools/goldens/prediction_log.py).
TEST(RequestLogTest, APredictionLogIsWhatTensorFlowWrites) {
  LoggedRequest r = sample();
  r.model = "half";
  r.wanted = {"y"};
  const std::string golden = read_text_file(TENON_SOURCE_DIR "/tests/serve/goldens/prediction_log.tfrecord");
  std::reverse(r.inputs.begin(), r.inputs.end());  // as maps are written: by key
  EXPECT_EQ(tfrecord(prediction_log(r, 0.25)), golden);
}

TEST(LogFileTest, RotatesBySizeAndKeepsTheNewest) {
  Metrics metrics;
  const fs::path folder = fresh_folder("log");
  const std::string line(99, 'x');
  for (int start = 0; start < 2; ++start) {
    LogFile file({.prefix = folder / "a", .max_file_bytes = 1000, .max_files = 3}, "a", metrics, {});
    for (int i = 0; i < 25; ++i) push(file, line + "\n");
    push(file, std::string(5000, 'y') + "\n");  // larger than a file: has one of its own
    file.flush();
  }
  const auto files = files_in(folder);
  ASSERT_EQ(files.size(), 3U);
  EXPECT_EQ(files.back().filename(), "a.000008.jsonl");  // four of each start
  EXPECT_EQ(fs::file_size(files[0]), 1000U);
  EXPECT_EQ(fs::file_size(files[1]), 500U);
  EXPECT_EQ(fs::file_size(files[2]), 5001U);
  EXPECT_EQ(counted(metrics, result("a", "written")), 52);
}

TEST(LogFileTest, TheQueueIsBoundedAndDropsAreCounted) {
  Metrics metrics;
  Gate gate;
  LogFile file({.prefix = fresh_folder("log") / "a", .max_queued_bytes = 100}, "a", metrics, {});
  file.push(
      [&] {
        gate.wait();
        return std::string("first\n");
      },
      6);
  gate.wait_for_waiting(1);
  int taken = 0;
  for (int i = 0; i < 50; ++i) taken += file.push([] { return std::string("later\n"); }, 10) ? 1 : 0;
  EXPECT_EQ(taken, 9);  // and the six bytes of the one that is being written
  gate.open();
  file.flush();
  EXPECT_EQ(counted(metrics, result("a", "written")), 10);
  EXPECT_EQ(counted(metrics, result("a", "dropped")), 41);
  EXPECT_EQ(lines_of(file.path()).size(), 10U);
}

// The kernel itself refuses to let the file grow, in the middle of a record.
TEST(LogFileTest, AFullDiskSwitchesTheLogOffWithWholeRecordsLeft) {
  Metrics metrics;
  std::vector<std::string> events;
  std::mutex mutex;
  const auto before = std::signal(SIGXFSZ, SIG_IGN);
  rlimit old{};
  ::getrlimit(RLIMIT_FSIZE, &old);
  const rlimit small{1050, old.rlim_max};
  ::setrlimit(RLIMIT_FSIZE, &small);
  fs::path path;
  {
    LogFile file({.prefix = fresh_folder("log") / "a"}, "a", metrics,
                 [&](std::string_view level, std::string_view event, const Labels& fields) {
                   const std::lock_guard lock(mutex);
                   events.push_back(std::string(level) + " " + std::string(event) + " " + fields.at(1).second);
                 });
    for (int i = 0; i < 30; ++i) push(file, std::string(99, 'x') + "\n");
    file.flush();
    EXPECT_TRUE(file.off());
    push(file, "after\n");
    path = file.path();
  }
  ::setrlimit(RLIMIT_FSIZE, &old);
  std::signal(SIGXFSZ, before);
  EXPECT_EQ(fs::file_size(path), 1000U);  // the half of the eleventh was taken back
  EXPECT_EQ(counted(metrics, result("a", "written")), 10);
  EXPECT_EQ(counted(metrics, result("a", "failed")), 21);
  EXPECT_THAT(events, testing::ElementsAre("warning log_switched_off File too large"));
  EXPECT_EQ(counted(metrics, "tenon_log_off{log=\"a\"}"), 1);
}

// ---- a whole server ----

class LoggingServerTest : public testing::Test {
 protected:
  void start(RequestLogOptions log, int64_t rows = 1) {
    rows_ = rows;
    base_ = fresh_folder("models");
    write_file(base_ / "7" / "model", "7");
    ServerOptions o;
    o.address = "127.0.0.1";
    o.tfs_rest_port = o.v2_rest_port = 0;
    o.core.scheduler.threads = 2;
    o.core.repository.poll = milliseconds(20);
    o.core.repository.settle = milliseconds(0);
    o.core.repository.loader = [](const fs::path&, Precision) -> ModelPtr {
      return std::make_shared<FakeModel>(7, std::vector<int64_t>{-1, 2}, [](const Tensor& x) {
        if (x.to_vector<float>()[0] == 1300) throw std::runtime_error("broken");
      });
    };
    o.http.threads = 2;
    server_ = std::make_unique<Server>(
        o, std::vector<ModelConfig>{{.name = "m", .base_path = base_, .request_log = std::move(log)}});
    EXPECT_TRUE(server_->core().repository().settle(seconds(20)));
  }
  std::string body(int value) const {
    return R"({"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[)" + std::to_string(value) + ",0]}]}";
  }
  fs::path base_;
  int64_t rows_ = 1;
  std::unique_ptr<Server> server_;
};

TEST_F(LoggingServerTest, EveryProtocolIsLoggedAsItWasAnswered) {
  const fs::path folder = fresh_folder("log");
  start({.file = {.prefix = folder / "m"}});
  HttpClient v2(server_->ports().v2_rest), tfs(server_->ports().tfs_rest);
  EXPECT_EQ(v2.post("/v2/models/m/infer", body(1)).status, 200);
  EXPECT_EQ(tfs.post("/v1/models/m:predict", R"({"instances": [[2, 0]]})",
                     "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\n")
                .status,
            200);
  EXPECT_EQ(
      v2.post("/v2/models/m/infer", R"({"inputs":[{"name":"z","datatype":"FP32","shape":[1],"data":[0]}]})").status,
      400);  // never reached the model: not logged
  server_.reset();
  const auto lines = lines_of(folder / "m.000001.jsonl");
  ASSERT_EQ(lines.size(), 2U);
  const Json a = Json::parse(lines[0]), b = Json::parse(lines[1]);
  EXPECT_EQ(a["api"], "v2_rest");
  EXPECT_EQ(a["version"], 7);
  EXPECT_EQ(a["request"]["inputs"][0]["data"], Json::parse("[1.0,0.0]"));
  EXPECT_EQ(a["response"]["outputs"][0]["data"], Json::parse("[8.0,7.0]"));
  EXPECT_EQ(a["trace_id"].get<std::string>().size(), 32U);
  EXPECT_EQ(b["api"], "tfs_rest");
  EXPECT_EQ(b["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
}

// A request that failed is no record of a prediction log, and so none that was lost either.
TEST_F(LoggingServerTest, PredictionLogsHoldAnsweredRequests) {
  const fs::path folder = fresh_folder("log");
  start({.format = LogFormat::PredictionLog, .file = {.prefix = folder / "m"}});
  HttpClient tfs(server_->ports().tfs_rest);
  EXPECT_EQ(tfs.post("/v1/models/m:predict", R"({"instances": [[1, 0]]})").status, 200);
  EXPECT_EQ(tfs.post("/v1/models/m:predict", R"({"instances": [[1300, 0]]})").status, 500);
  Core& core = server_->core();
  EXPECT_TRUE(eventually([&] { return counted(core.metrics(), result("requests/m", "written")) == 1; }));
  EXPECT_EQ(counted(core.metrics(), result("requests/m", "dropped")), 0);
  const std::string page = core.legacy_metrics().text();
  EXPECT_THAT(page, HasSubstr(":tensorflow:serving:request_log_count{model_name=\"m\",status_code=\"OK\"} 1\n"));
  EXPECT_THAT(page, testing::Not(HasSubstr("status_code=\"UNAVAILABLE\"")));
}

TEST_F(LoggingServerTest, TheSampleIsTheSeeds) {
  const auto logged = [&](double rate, uint64_t seed) {
    const fs::path folder = fresh_folder("log");
    start({.sampling_rate = rate, .seed = seed, .file = {.prefix = folder / "m"}});
    HttpClient v2(server_->ports().v2_rest);
    for (int i = 0; i < 200; ++i) EXPECT_EQ(v2.post("/v2/models/m/infer", body(i)).status, 200);
    server_.reset();
    std::vector<float> out;
    if (fs::exists(folder / "m.000001.jsonl")) {
      for (const auto& line : lines_of(folder / "m.000001.jsonl"))
        out.push_back(Json::parse(line)["request"]["inputs"][0]["data"][0].get<float>());
    }
    std::sort(out.begin(), out.end());  // lines are written after the answers, by several threads
    return out;
  };
  const auto some = logged(0.25, 3);
  EXPECT_NEAR(static_cast<double>(some.size()), 50, 31);  // five standard deviations
  EXPECT_EQ(logged(0.25, 3), some);
  EXPECT_NE(logged(0.25, 4), some);
  EXPECT_TRUE(logged(0, 3).empty());
}

TEST_F(LoggingServerTest, ServingGoesOnWhenTheDiskIsFull) {
  const auto before = std::signal(SIGXFSZ, SIG_IGN);
  rlimit old{};
  ::getrlimit(RLIMIT_FSIZE, &old);
  const fs::path folder = fresh_folder("log");
  start({.format = LogFormat::PredictionLog, .file = {.prefix = folder / "m"}});
  const rlimit small{1000, old.rlim_max};
  ::setrlimit(RLIMIT_FSIZE, &small);
  HttpClient v2(server_->ports().v2_rest);
  for (int i = 0; i < 50; ++i) EXPECT_EQ(v2.post("/v2/models/m/infer", body(i)).status, 200);
  const auto& metrics = server_->core().metrics();
  EXPECT_TRUE(eventually([&] {
    return counted(metrics, result("requests/m", "written")) + counted(metrics, result("requests/m", "failed")) == 50;
  }));
  const int written = counted(metrics, result("requests/m", "written"));
  EXPECT_GT(written, 0);
  server_.reset();
  ::setrlimit(RLIMIT_FSIZE, &old);
  std::signal(SIGXFSZ, before);
  const auto bytes = read_file((folder / "m.000001.tfrecord").string());
  EXPECT_EQ(read_tfrecords(bytes, "log").size(), static_cast<size_t>(written));
}

TEST(RequestLogConfigTest, TensorFlowServingsMessage) {
  const auto parse = [](const std::string& logging) {
    return parse_model_config(
               "model_config_list { config { name: \"m\" base_path: \"b\" logging_config { " + logging + " } } }", "f")
        .at(0)
        .request_log;
  };
  const auto log = parse(R"(log_collector_config { type: "prediction_log" filename_prefix: "/tmp/x" }
                            sampling_config { sampling_rate: 0.5 } max_files: 3)");
  ASSERT_TRUE(log);
  EXPECT_EQ(log->format, LogFormat::PredictionLog);
  EXPECT_EQ(log->sampling_rate, 0.5);
  EXPECT_EQ(log->file.prefix, "/tmp/x");
  EXPECT_EQ(log->file.max_files, 3);
  // A collector of somebody else's is left alone.
  EXPECT_FALSE(parse(R"(log_collector_config { type: "my_plugin" filename_prefix: "x" })"));
  try {
    (void)parse(R"(log_collector_config { type: "json_lines" } sampling_config { sampling_rate: 2 })");
    ADD_FAILURE() << "no error";
  } catch (const FormatError& error) {
    EXPECT_THAT(error.what(),
                testing::AllOf(HasSubstr("the log has no file name"), HasSubstr("the sampling_rate is 2")));
  }
}

}  // namespace
}  // namespace tenon::serve
