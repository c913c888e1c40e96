// Logged requests sent again: by every protocol, from both kinds of file.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <fstream>
#include <limits>

#include "tenon/base/file.h"
#include "tenon/serve/replay.h"
#include "tenon/serve/server.h"
#include "tests/serve/http_client.h"
#include "tests/serve/support.h"

namespace tenon::serve {
namespace {

using namespace testing_support;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;

class ReplayLogTest : public testing::TestWithParam<LogFormat> {
 protected:
  // A server whose only model adds `add`; it logs to `log` if that is given.
  std::unique_ptr<Server> start(int add, const fs::path& log = {}) {
    const fs::path base = fresh_folder("models");
    write_file(base / "1" / "model", "x");
    ServerOptions o;
    o.address = "127.0.0.1";
    o.tfs_rest_port = o.v2_rest_port = o.v2_grpc_port = o.tfs_grpc_port = 0;
    o.core.scheduler.threads = 2;
    o.core.repository.poll = milliseconds(20);
    o.core.repository.settle = milliseconds(0);
    o.core.repository.loader = [add](const fs::path&, Precision) -> ModelPtr {
      return std::make_shared<FakeModel>(add);
    };
    o.http.threads = 2;
    ModelConfig model{.name = "m", .base_path = base};
    if (!log.empty()) model.request_log = RequestLogOptions{.format = GetParam(), .file = {.prefix = log}};
    auto server = std::make_unique<Server>(o, std::vector<ModelConfig>{model});
    EXPECT_TRUE(server->core().repository().settle(seconds(20)));
    return server;
  }
  static std::vector<std::string> urls(const Server& server) {
    const auto& p = server.ports();
    return {"http://127.0.0.1:" + std::to_string(p.v2_rest) + "/v2/models/m",
            "http://127.0.0.1:" + std::to_string(p.tfs_rest) + "/v1/models/m",
            "grpc://127.0.0.1:" + std::to_string(p.v2_grpc) + "/m",
            "grpc://127.0.0.1:" + std::to_string(p.tfs_grpc) + "/tensorflow/m"};
  }
};

TEST_P(ReplayLogTest, TheSameModelAnswersTheSameAndAnotherDoesNot) {
  const fs::path log = fresh_folder("log") / "m";
  {
    auto server = start(1, log);
    HttpClient v2(server->ports().v2_rest);
    for (const char* x : {"0.1", "1e-30", "3.4e38", "-7", "NaN"})
      EXPECT_EQ(
          v2.post("/v2/models/m/infer",
                  std::string(R"({"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[)") + x + ",2]}]}")
              .status,
          200);
  }
  auto requests =
      read_request_log(log.string() + (GetParam() == LogFormat::JsonLines ? ".000001.jsonl" : ".000001.tfrecord"));
  ASSERT_EQ(requests.size(), 5U);
  const auto given = [](const auto& r) { return std::get<Tensor>(r.inputs[0].value).template to_vector<float>()[0]; };
  // A request is noted once it is answered: the next one may be noted before it.
  std::ranges::stable_partition(requests, [&](const auto& r) { return given(r) == 0.1F; });
  EXPECT_EQ(requests[0].model, "m");
  EXPECT_TRUE(requests[0].answered);
  EXPECT_EQ(given(requests[0]), 0.1F);
  auto same = start(1), other = start(2);
  for (const auto& url : urls(*same)) {
    const auto r = run_replay(requests, {.url = url, .connections = 2});
    EXPECT_EQ(r.same, 5U) << url << testing::PrintToString(r.differences) << testing::PrintToString(r.errors);
    EXPECT_EQ(r.sent, 5U);
    EXPECT_EQ(r.latency.count(), 5U);
  }
  for (const auto& url : urls(*other)) {
    const auto r = run_replay(requests, {.url = url, .rate = 1000});
    EXPECT_EQ(r.different, 5U) << url << testing::PrintToString(r.errors);
    EXPECT_THAT(r.differences.at(0), HasSubstr("request 1: 'y'[0] is 2.09")) << url;
  }
  const auto elsewhere = run_replay(requests, {.url = urls(*same)[0] + "2"});
  EXPECT_EQ(elsewhere.skipped, 5U);
  EXPECT_EQ(elsewhere.sent, 0U);
  EXPECT_EQ(run_replay(requests, {.url = urls(*other)[0], .tolerance = {.relative = 0, .absolute = 1.5}}).same, 5U);
  EXPECT_EQ(run_replay(requests, {.url = urls(*other)[0] + "/versions/9"}).errors.at("404"), 5U);
}

INSTANTIATE_TEST_SUITE_P(Formats, ReplayLogTest, testing::Values(LogFormat::JsonLines, LogFormat::PredictionLog),
                         [](const auto& info) {
                           return info.param == LogFormat::JsonLines ? "JsonLines" : "PredictionLog";
                         });

TEST(ReplayLogErrorsTest, NameTheLine) {
  const fs::path path = fresh_folder("log") / "a.jsonl";
  std::ofstream(path)
      << "{\"model\":\"m\",\"request\":{\"inputs\":[]}}\n{\"model\":\"m\",\"request\":{\"inputs\":[{}]}}\n";
  try {
    (void)read_request_log(path);
    ADD_FAILURE() << "no error";
  } catch (const FormatError& error) {
    EXPECT_THAT(error.what(), HasSubstr("line 2: an input has no 'name'"));
  }
}

}  // namespace
}  // namespace tenon::serve
