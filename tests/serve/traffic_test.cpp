// Splits, sticky keys, rollback: the parts alone, and through a whole server with all four protocols.
#include "tenon/serve/traffic.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <map>
#include <nlohmann/json.hpp>

#include "tenon/serve/grpc_client.h"
#include "tenon/serve/server.h"
#include "tenon/serve/tfs_wire.h"
#include "tenon/serve/v2_wire.h"
#include "tests/serve/http_client.h"
#include "tests/serve/support.h"
#include "tests/support/error_text.h"

namespace tenon::serve {
namespace {

using namespace testing_support;
using std::chrono::microseconds;
using std::chrono::milliseconds;
using std::chrono::seconds;
using tenon::testing_support::error_text;
using testing::HasSubstr;
using Json = nlohmann::json;

const auto kAllReady = [](const SplitTarget&) { return true; };

// Written by a Python program of four lines from the header's words.
TEST(TrafficTest, StickyBucketsAreTheDocumentedOnes) {
  EXPECT_EQ(sticky_bucket("m", "alice"), 0.2969032991575554);
  EXPECT_EQ(sticky_bucket("m", "bob"), 0.18111178338770673);
  EXPECT_EQ(sticky_bucket("resnet", "user-42"), 0.46498396836445544);
  EXPECT_EQ(sticky_bucket("m", ""), 0.5914898043017831);
}

TEST(TrafficTest, SharesAreTheWeights) {
  Metrics metrics;
  Traffic traffic("m", {.split = {{.version = 1, .weight = 90}, {.label = "canary", .weight = 10}}}, metrics, {});
  std::map<std::string, int> count;
  constexpr int kN = 100000;
  for (int i = 0; i < kN; ++i) ++count[traffic.choose({}, kAllReady)->options.name()];
  EXPECT_NEAR(count["canary"], kN / 10, 5 * std::sqrt(kN * 0.09));  // five standard deviations
  EXPECT_EQ(count["1"] + count["canary"], kN);
  EXPECT_THAT(metrics.text(), HasSubstr("tenon_split_requests_total{model=\"m\",target=\"canary\"} " +
                                        std::to_string(count["canary"]) + "\n"));
  EXPECT_THAT(metrics.text(), HasSubstr("tenon_split_share{model=\"m\",target=\"canary\"} 0.1\n"));
}

TEST(TrafficTest, StickyKeysStayAndMoveOnlyWhereWeightGoes) {
  Metrics metrics;
  Traffic traffic("m", {.split = {{.version = 1, .weight = 90}, {.version = 2, .weight = 10}}, .sticky_key = "user"},
                  metrics, {});
  const auto where = [&](int user, const std::function<bool(const SplitTarget&)>& ready = kAllReady) {
    const std::string name = "user" + std::to_string(user);
    return traffic.choose([&](std::string_view key) { return key == "user" ? name : std::string_view(); }, ready)
        ->options.name();
  };
  constexpr int kUsers = 20000;
  std::vector<std::string> before;
  int canary = 0;
  for (int i = 0; i < kUsers; ++i) {
    before.push_back(where(i));
    EXPECT_EQ(where(i), before.back());
    canary += before.back() == "2" ? 1 : 0;
  }
  EXPECT_NEAR(canary, kUsers / 10, 5 * std::sqrt(kUsers * 0.09));
  traffic.set({.split = {{.version = 1, .weight = 75}, {.version = 2, .weight = 25}}, .sticky_key = "user"});
  for (int i = 0; i < kUsers; ++i) {
    if (before[static_cast<size_t>(i)] != "2") continue;
    EXPECT_EQ(where(i), "2");  // nobody leaves a growing canary
  }
  // With three targets of which one is away, only those who were there move, and to both others.
  traffic.set({.split = {{.version = 1, .weight = 1}, {.version = 2, .weight = 1}, {.version = 3, .weight = 1}},
               .sticky_key = "user"});
  std::map<std::string, int> moved;
  for (int i = 0; i < kUsers; ++i) {
    const std::string home = where(i);
    const std::string away = where(i, [](const SplitTarget& t) { return t.version != 2; });
    if (home == "2") {
      ++moved[away];
    } else {
      EXPECT_EQ(away, home);
    }
  }
  EXPECT_NEAR(moved["1"], kUsers / 6, 5 * std::sqrt(kUsers / 3 * 0.25));
  EXPECT_EQ(moved.count("2"), 0U);
}

TEST(TrafficTest, AllFaultsAreTold) {
  Metrics metrics;
  const std::string text = error_text([&] {
    Traffic traffic("m",
                    {.split = {{.weight = 1},
                               {.version = 2, .weight = -1},
                               {.version = 2, .weight = 0, .rollback = RollbackOptions{}}}},
                    metrics, {});
  });
  for (const char* part : {"split 1 needs either a version or a label", "split 2 has the weight -1",
                           "split 3 names '2' again", "split 3 has a rollback without a bound"})
    EXPECT_THAT(text, HasSubstr(part));
  EXPECT_THAT(
      error_text([] { (void)traffic_from_json(R"({"split": [{"version": "1", "wieght": 3}], "x": 1})"); }),
      testing::AllOf(HasSubstr("split 1: 'version' must be an integer"), HasSubstr("split 1: there is no 'wieght'"),
                     HasSubstr("traffic: there is no 'x'"), HasSubstr("the weights add up to 0")));
}

TEST(TrafficTest, ConfigurationFile) {
  const auto models = parse_model_config(R"(model_config_list { config {
    name: "m" base_path: "b"
    version_labels { key: "canary" value: 2 }
    traffic {
      split { version: 1 weight: 95 }
      split { label: "canary" weight: 5
              rollback { max_error_rate: 0.02 max_p99_millis: 50 window_seconds: 30 min_requests: 20 } }
      sticky_key: "x-user"
    } } config { name: "plain" base_path: "b" } })",
                                         "x");
  const TrafficOptions expected{.split = {{.version = 1, .weight = 95},
                                          {.label = "canary",
                                           .weight = 5,
                                           .rollback = RollbackOptions{.max_error_rate = 0.02,
                                                                       .max_p99 = milliseconds(50),
                                                                       .window = seconds(30),
                                                                       .min_requests = 20}}},
                                .sticky_key = "x-user"};
  EXPECT_EQ(models.at(0).traffic, expected);
  EXPECT_EQ(models.at(1).traffic, TrafficOptions());
  Metrics metrics;
  Traffic traffic("m", expected, metrics, {});
  EXPECT_EQ(traffic_from_json(traffic_json("m", traffic)), expected);  // what is shown can be sent back
  EXPECT_THAT(error_text([] {
                (void)parse_model_config(
                    "model_config_list { config { name: \"m\" base_path: \"b\" traffic { split { weight: 1 } } } }",
                    "f");
              }),
              HasSubstr("the traffic of model 'm': split 1 needs either a version or a label"));
}

// ---- rollback ----

const Clock::time_point kStart = Clock::time_point(std::chrono::hours(1));

class RollbackTest : public testing::Test {
 protected:
  RollbackTest() {
    const RollbackOptions bounds{
        .max_error_rate = 0.1, .max_p99 = milliseconds(50), .window = seconds(10), .min_requests = 100};
    traffic_ = std::make_unique<Traffic>(
        "m", TrafficOptions{.split = {{.version = 1, .weight = 50}, {.version = 2, .weight = 50, .rollback = bounds}}},
        metrics_, [this](std::string_view level, std::string_view event, const Labels& fields) {
          log_.push_back(std::string(level) + " " + std::string(event));
          for (const auto& [key, value] : fields) log_.back() += " " + key + "=" + value;
        });
    while (!canary_) {
      auto t = traffic_->choose({}, kAllReady);
      if (t->options.version == 2) canary_ = t;
    }
  }
  void observe(int n, Code code, milliseconds took, Clock::time_point at = kStart) {
    for (int i = 0; i < n; ++i) traffic_->observe(canary_, code, took, at);
  }
  bool out() { return traffic_->status().at(1).rolled_back.has_value(); }
  Metrics metrics_;
  std::vector<std::string> log_;
  std::unique_ptr<Traffic> traffic_;
  Traffic::TargetPtr canary_;
};

TEST_F(RollbackTest, ErrorRate) {
  observe(50, Code::Internal, milliseconds(1));
  EXPECT_FALSE(out()) << "too few requests to say";
  observe(49, Code::Ok, milliseconds(1));
  EXPECT_FALSE(out());
  observe(1, Code::Ok, milliseconds(1));  // the hundredth: 50 % errors
  ASSERT_TRUE(out());
  const auto status = traffic_->status(kStart);
  EXPECT_EQ(status[1].share, 0);
  EXPECT_EQ(status[0].share, 1);
  EXPECT_EQ(status[1].rolled_back->reason, "error_rate");
  EXPECT_EQ(status[1].rolled_back->window.requests, 100);
  EXPECT_EQ(status[1].rolled_back->window.errors, 50);
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(traffic_->choose({}, kAllReady)->options.version, 1);
  EXPECT_THAT(log_, testing::ElementsAre("warning canary_rolled_back model=m target=2 reason=error_rate "
                                         "window_requests=100 window_errors=50 window_slow=0 max_error_rate=0.1 "
                                         "max_p99_millis=50 min_requests=100 window_seconds=10"));
  EXPECT_THAT(metrics_.text(), HasSubstr("tenon_rollbacks_total{model=\"m\",target=\"2\",reason=\"error_rate\"} 1\n"));
  EXPECT_THAT(metrics_.text(), HasSubstr("tenon_split_share{model=\"m\",target=\"2\"} 0\n"));
  const auto json = Json::parse(traffic_json("m", *traffic_));
  EXPECT_EQ(json["split"][1]["rolled_back"]["reason"], "error_rate");
  EXPECT_EQ(json["split"][1]["rolled_back"]["window"]["errors"], 50);
  traffic_->set(traffic_->options());  // a new try
  EXPECT_FALSE(out());
}

TEST_F(RollbackTest, NinetyNinthPercentile) {
  observe(990, Code::Ok, milliseconds(50));  // at the bound is within it
  observe(10, Code::Ok, milliseconds(51));   // 1 %: the 990th of 1000 is still 50 ms
  EXPECT_FALSE(out());
  observe(1, Code::Ok, milliseconds(51));  // rank ceil(0.99 * 1001) = 991 is 51 ms
  ASSERT_TRUE(out());
  EXPECT_EQ(traffic_->status()[1].rolled_back->reason, "p99");
  EXPECT_EQ(traffic_->status()[1].rolled_back->window.slow, 11);
}

TEST_F(RollbackTest, WhatDoesNotCount) {
  observe(500, Code::Cancelled, milliseconds(900));
  observe(500, Code::InvalidArgument, milliseconds(1));
  EXPECT_FALSE(out());
  EXPECT_EQ(traffic_->status(kStart)[1].window.requests, 500);  // those who left do not count at all
  // Errors that are older than the window are forgotten.
  observe(60, Code::Internal, milliseconds(1), kStart + seconds(20));
  EXPECT_FALSE(out());
  EXPECT_EQ(traffic_->status(kStart + seconds(20))[1].window.requests, 60);
  observe(60, Code::Internal, milliseconds(1), kStart + seconds(40));
  EXPECT_FALSE(out());
}

TEST_F(RollbackTest, TheLastTargetStays) {
  traffic_->set({.split = {{.version = 2, .weight = 1, .rollback = RollbackOptions{.max_error_rate = 0}}}});
  canary_ = traffic_->choose({}, kAllReady);
  observe(200, Code::Internal, milliseconds(1));
  EXPECT_TRUE(traffic_->choose({}, kAllReady));
}

// ---- comparing ----

TEST(CompareTest, Tolerances) {
  const auto floats = [](std::vector<float> v) {
    return std::vector<NamedValue>{{"y", from_vector(v, {static_cast<int64_t>(v.size())})}};
  };
  const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();
  const Tolerance t{.relative = 0.01, .absolute = 0.001};
  EXPECT_EQ(difference(floats({100, 0, nan, inf}), floats({101, 0.0009F, nan, inf}), t), "");
  EXPECT_EQ(difference(floats({100}), floats({101.01F}), t), "'y'[0] is 101.01000213623047, was 100");
  EXPECT_EQ(difference(floats({0}), floats({0.0011F}), t).substr(0, 6), "'y'[0]");
  EXPECT_NE(difference(floats({inf}), floats({-inf}), t), "");
  EXPECT_NE(difference(floats({nan}), floats({1}), t), "");
  EXPECT_EQ(difference(floats({1, 2}), floats({1}), t), "'y' has the shape [1], had [2]");
  EXPECT_EQ(difference(floats({1}), {}, t), "'y' is missing");
  const auto numbers = [](std::vector<int64_t> v) {
    return std::vector<NamedValue>{{"y", from_vector(v, {static_cast<int64_t>(v.size())})}};
  };
  EXPECT_EQ(difference(numbers({1000}), numbers({1001}), t), "'y'[0] is 1001, was 1000");
  EXPECT_EQ(difference(numbers({1}), floats({1}), t), "'y' is FP32, was INT64");
  const std::vector<NamedValue> a{{"s", Strings{{2}, {"x", "y"}}}}, b{{"s", Strings{{2}, {"x", "z"}}}};
  EXPECT_EQ(difference(a, a, t), "");
  EXPECT_EQ(difference(a, b, t), "'s'[1] is another text");
}

// ---- a whole server ----

class SplitServerTest : public testing::Test {
 protected:
  SplitServerTest() : base_(fresh_folder("models")) {
    for (const char* v : {"1", "2", "3"}) write_file(base_ / v / "model", v);
    ServerOptions o;
    o.address = "127.0.0.1";
    o.tfs_grpc_port = o.tfs_rest_port = o.v2_rest_port = o.v2_grpc_port = o.control_port = 0;
    o.control_token = "a secret token";
    o.core.scheduler.threads = 2;
    o.core.repository.poll = milliseconds(20);
    o.core.repository.settle = milliseconds(0);
    o.core.repository.loader = [this](const fs::path& path, Precision) -> ModelPtr {
      const int version = std::stoi(path.filename().string());
      return std::make_shared<FakeModel>(version, std::vector<int64_t>{-1, 2}, [this, version](const Tensor&) {
        if (version == broken_) throw std::runtime_error("broken");
        if (version == held_) gate_.wait();
      });
    };
    o.http.threads = 2;
    server_ = std::make_unique<Server>(
        o, std::vector<ModelConfig>{{.name = "m",
                                     .base_path = base_,
                                     .policy = {VersionPolicy::Kind::All, 1, {}},
                                     .labels = {{"stable", 1}, {"canary", 2}},
                                     .traffic = TrafficOptions{.split = {{.label = "stable", .weight = 50},
                                                                         {.label = "canary", .weight = 50}},
                                                               .sticky_key = "x-user"}}});
    EXPECT_TRUE(server_->core().repository().settle(seconds(20)));
  }
  static std::string body(const std::string& parameters = "") {
    return R"({)" + parameters + R"("inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[0,0]}]})";
  }
  std::string expected(const std::string& user) { return sticky_bucket("m", user) < 0.5 ? "1" : "2"; }
  int counted(const std::string& line) {
    const std::string page = server_->core().metrics().text();
    const size_t at = page.find(line);
    return at == std::string::npos ? 0 : std::stoi(page.substr(at + line.size() + 1));
  }
  fs::path base_;
  void set(const std::string& json) {
    HttpClient control(server_->ports().control);
    const auto answer =
        control.post("/v2/repository/models/m/traffic", json, "Authorization: Bearer a secret token\r\n");
    ASSERT_EQ(answer.status, 200) << answer.body;
  }
  Json shadow() {
    HttpClient v2(server_->ports().v2_rest);
    return Json::parse(v2.get("/v2/models/m/traffic").body)["shadow"]["requests"];
  }
  std::atomic<int> broken_{0}, held_{0};
  Gate gate_;
  std::unique_ptr<Server> server_;
};

TEST_F(SplitServerTest, AllDoorsAgreeOnASticyKey) {
  HttpClient v2(server_->ports().v2_rest), tfs(server_->ports().tfs_rest);
  GrpcClient grpc("127.0.0.1:" + std::to_string(server_->ports().v2_grpc));
  int ones = 0;
  for (int i = 0; i < 40; ++i) {
    const std::string user = "user" + std::to_string(i);
    const std::string header = "X-User: " + user + "\r\n", want = expected(user);
    ones += want == "1" ? 1 : 0;
    EXPECT_EQ(Json::parse(v2.post("/v2/models/m/infer", body(), header).body)["model_version"], want);
    EXPECT_EQ(
        Json::parse(
            v2.post("/v2/models/m/infer", body(R"("parameters":{"x-user":")" + user + R"("},)")).body)["model_version"],
        want);
    EXPECT_EQ(
        Json::parse(tfs.post("/v1/models/m:predict", R"({"instances": [[0, 0]]})", header).body)["predictions"][0][0],
        std::stoi(want));
    const V2Message message{
        .ref = {.name = "m"}, .id = {}, .inputs = {{"x", rows_of(1)}}, .outputs = {}, .texts = {{"x-user", user}}};
    const std::string answer =
        grpc.call("/inference.GRPCInferenceService/ModelInfer", write_infer(message).to_string());
    const std::span<const std::byte> bytes = std::as_bytes(std::span(answer));
    EXPECT_EQ(std::get<Tensor>(read_infer_answer(WireReader(bytes), nullptr).at(0).value).to_vector<float>()[0],
              std::stof(want));
  }
  EXPECT_GT(ones, 5);
  EXPECT_LT(ones, 35);
}

TEST_F(SplitServerTest, AnExplicitVersionOrLabelWins) {
  HttpClient v2(server_->ports().v2_rest), tfs(server_->ports().tfs_rest);
  for (int i = 0; i < 10; ++i) {
    EXPECT_EQ(Json::parse(v2.post("/v2/models/m/versions/3/infer", body()).body)["model_version"], "3");
    EXPECT_EQ(Json::parse(tfs.post("/v1/models/m/labels/canary:predict", R"({"instances": [[0, 0]]})").body),
              Json::parse(R"({"predictions": [[2, 2]]})"));
  }
  EXPECT_EQ(counted(R"(tenon_split_requests_total{model="m",target="canary"})"), 0);
}

TEST_F(SplitServerTest, TheSplitChangesAtRunTime) {
  HttpClient control(server_->ports().control), v2(server_->ports().v2_rest);
  const std::string path = "/v2/repository/models/m/traffic", token = "Authorization: Bearer a secret token\r\n";
  EXPECT_EQ(control.post(path, R"({"split": []})").status, 401);
  EXPECT_EQ(v2.post(path, R"({"split": []})", token).status, 403);
  const auto wrong = control.post(path, R"({"split": [{"version": 3, "weight": -1}]})", token);
  EXPECT_EQ(wrong.status, 400);
  EXPECT_THAT(wrong.body, HasSubstr("split 1 has the weight -1"));
  EXPECT_EQ(control.post("/v2/repository/models/nope/traffic", "{}", token).status, 404);
  // A version that is not there would give all its share to the others: most likely a slip.
  const std::string before = v2.get("/v2/models/m/traffic").body;
  const std::string absent = R"({"split": [{"version": 3, "weight": 1}, {"version": 33, "weight": 1}],
                                 "shadow": {"label": "nobody"})";
  const auto slip = control.post(path, absent + "}", token);
  EXPECT_EQ(slip.status, 409);
  EXPECT_THAT(slip.body, HasSubstr("'m' has no version 33, label 'nobody' ready, so nothing was changed"));
  EXPECT_EQ(v2.get("/v2/models/m/traffic").body, before);
  EXPECT_EQ(control.post(path, absent + R"(, "force": true})", token).status, 200);
  EXPECT_EQ(Json::parse(v2.get("/v2/models/m/traffic").body)["split"][1]["version"], 33);
  const auto set = control.post(path, R"({"split": [{"version": 3, "weight": 1}]})", token);
  EXPECT_EQ(set.status, 200) << set.body;
  for (int i = 0; i < 10; ++i) EXPECT_EQ(Json::parse(v2.post("/v2/models/m/infer", body()).body)["model_version"], "3");
  const auto shown = Json::parse(v2.get("/v2/models/m/traffic").body);
  EXPECT_EQ(shown["split"][0]["share"], 1.0);
  EXPECT_EQ(shown["split"][0]["requests"], 10);
  // The same configuration again (a poll) leaves what was set by hand; another one replaces it.
  auto models = server_->core().repository().configuration();
  server_->core().repository().configure(models);
  EXPECT_EQ(Json::parse(v2.post("/v2/models/m/infer", body()).body)["model_version"], "3");
  models[0].traffic = TrafficOptions{};
  server_->core().repository().configure(models);
  EXPECT_EQ(Json::parse(v2.post("/v2/models/m/infer", body(), "X-User: a\r\n").body)["model_version"], "3");
  EXPECT_EQ(Json::parse(v2.get("/v2/models/m/traffic").body)["split"], Json::array());
  models[0].traffic = TrafficOptions{.split = {{.version = 7, .weight = 1}}};
  server_->core().repository().configure(models);
  const auto none = v2.post("/v2/models/m/infer", body());
  EXPECT_EQ(none.status, 503);
  EXPECT_THAT(none.body, HasSubstr("no version that 'm' splits its requests to is ready"));
}

TEST_F(SplitServerTest, ABrokenCanaryGoesAndTheCountersSayWhy) {
  HttpClient control(server_->ports().control), v2(server_->ports().v2_rest);
  const auto set = control.post("/v2/repository/models/m/traffic",
                                R"({"split": [{"version": 1, "weight": 50}, {"version": 2, "weight": 50,
                                    "rollback": {"max_error_rate": 0.05, "min_requests": 20}}]})",
                                "Authorization: Bearer a secret token\r\n");
  ASSERT_EQ(set.status, 200) << set.body;
  broken_ = 2;
  int failed = 0;
  for (int i = 0; i < 300; ++i) failed += v2.post("/v2/models/m/infer", body()).status == 200 ? 0 : 1;
  EXPECT_EQ(failed, 20);  // as many as it takes to decide, and none after
  const auto shown = Json::parse(v2.get("/v2/models/m/traffic").body)["split"][1];
  EXPECT_EQ(shown["share"], 0.0);
  EXPECT_EQ(shown["requests"], 20);
  EXPECT_EQ(shown["rolled_back"]["window"], Json::parse(R"({"requests": 20, "errors": 20, "slow": 0})"));
  EXPECT_EQ(counted(R"(tenon_rollbacks_total{model="m",target="2",reason="error_rate"})"), 1);
  EXPECT_EQ(counted(R"(tenon_requests_total{model="m",version="2",api="v2_rest",code="INTERNAL"})"), 20);
  const auto config = Json::parse(v2.get("/v2/models/m/config").body);
  EXPECT_THAT(config["parameters"]["traffic"]["string_value"].get<std::string>(), HasSubstr("\"rolled_back\""));
}

// A canary whose inputs are others than clients send: its requests end before the model is asked, and count all the
// same.
TEST_F(SplitServerTest, ACanaryThatNobodyCanCallGoesByEveryDoor) {
  HttpClient v2(server_->ports().v2_rest), tfs(server_->ports().tfs_rest);
  GrpcClient grpc("127.0.0.1:" + std::to_string(server_->ports().tfs_grpc));
  // tensorflow.serving.RegressionRequest: model_spec {name}, input {example_list {examples {}}}
  const std::string regress = bytes_field(1, bytes_field(1, "m")) + bytes_field(2, bytes_field(1, bytes_field(1, "")));
  const std::vector<std::function<void()>> doors{
      [&] { tfs.post("/v1/models/m:predict", R"({"instances": ["text"]})"); },
      [&] { tfs.post("/v1/models/m:regress", R"({"examples": [{}]})"); },
      [&] { v2.post("/v2/models/m/infer", body(), "Tenon-Timeout: soon\r\n"); },
      [&] { EXPECT_THROW(grpc.call("/tensorflow.serving.PredictionService/Regress", regress), RequestError); }};
  for (const auto& ask : doors) {
    set(R"({"split": [{"version": 1, "weight": 50}, {"version": 2, "weight": 50,
            "rollback": {"max_error_rate": 0.05, "min_requests": 5, "count_invalid_arguments": true}}]})");
    for (int i = 0; i < 60; ++i) ask();
    const auto shown = Json::parse(v2.get("/v2/models/m/traffic").body)["split"][1];
    EXPECT_EQ(shown["share"], 0.0) << "door " << &ask - doors.data();
    EXPECT_EQ(shown["rolled_back"]["window"], Json::parse(R"({"requests": 5, "errors": 5, "slow": 0})"));
  }
}

TEST_F(SplitServerTest, TheShadowIsComparedAndNeverReturned) {
  // Version 2 adds 2 where version 1 adds 1: within an absolute tolerance of 1, not of 0.5.
  const auto with = [](const std::string& tolerance) {
    return R"({"split": [{"version": 1, "weight": 1}], "shadow": {"version": 2, "relative_tolerance": 0,
              "max_in_flight": 64, "absolute_tolerance": )" +
           tolerance + "}}";
  };
  HttpClient v2(server_->ports().v2_rest), tfs(server_->ports().tfs_rest);
  set(with("0.5"));
  for (int i = 0; i < 20; ++i) EXPECT_EQ(Json::parse(v2.post("/v2/models/m/infer", body()).body)["model_version"], "1");
  EXPECT_TRUE(eventually([&] { return shadow()["different"] == 20; })) << shadow();
  // Who names a version gets just that.
  EXPECT_EQ(v2.post("/v2/models/m/versions/3/infer", body()).status, 200);
  set(with("1"));
  EXPECT_EQ(tfs.post("/v1/models/m:predict", R"({"instances": [[0, 0]]})").status, 200);
  EXPECT_TRUE(eventually([&] { return shadow()["same"] == 1; })) << shadow();
  broken_ = 2;
  EXPECT_EQ(v2.post("/v2/models/m/infer", body()).status, 200);
  EXPECT_TRUE(eventually([&] { return shadow()["failed"] == 1; })) << shadow();
  broken_ = 1;
  EXPECT_EQ(v2.post("/v2/models/m/infer", body()).status, 500);
  EXPECT_TRUE(eventually([&] { return shadow()["unpaired"] == 1; })) << shadow();
  broken_ = 0;
  EXPECT_EQ(counted(R"(tenon_shadow_requests_total{model="m",target="2",result="different"})"), 20);
  EXPECT_EQ(counted(R"(tenon_requests_total{model="m",version="2",api="shadow",code="OK"})"), 22);
  EXPECT_EQ(counted(R"(tenon_requests_total{model="m",version="1",api="v2_rest",code="OK"})"), 21);
  set(R"({"shadow": {"version": 9}, "force": true})");  // not there
  EXPECT_EQ(v2.post("/v2/models/m/infer", body()).status, 200);
  EXPECT_TRUE(eventually([&] { return shadow()["dropped"] == 1; })) << shadow();
}

TEST_F(SplitServerTest, ABusyShadowDropsAndHoldsNobodyUp) {
  set(R"({"split": [{"version": 1, "weight": 1}], "shadow": {"version": 2, "max_in_flight": 1, "timeout_millis": 60000,
          "absolute_tolerance": 1}})");
  held_ = 2;
  HttpClient v2(server_->ports().v2_rest);
  for (int i = 0; i < 30; ++i) EXPECT_EQ(v2.post("/v2/models/m/infer", body()).status, 200);
  EXPECT_EQ(shadow()["dropped"], 29);  // one is in the model, and nobody waits for it
  gate_.open();
  EXPECT_TRUE(eventually([&] { return shadow()["same"] == 1; })) << shadow();
}

TEST_F(SplitServerTest, TheShadowSamples) {
  set(R"({"split": [{"version": 1, "weight": 1}], "seed": 5, "shadow": {"version": 2, "sample_rate": 0.25,
          "max_in_flight": 1000, "absolute_tolerance": 1}})");
  HttpClient v2(server_->ports().v2_rest);
  for (int i = 0; i < 400; ++i) EXPECT_EQ(v2.post("/v2/models/m/infer", body()).status, 200);
  EXPECT_TRUE(eventually([&] { return std::abs(shadow()["same"].get<int>() - 100) <= 45; })) << shadow();
}

}  // namespace
}  // namespace tenon::serve
