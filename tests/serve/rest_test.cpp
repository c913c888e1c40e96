// Both REST front ends over real sockets.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tenon/serve/http_server.h"
#include "tenon/serve/tfs_rest.h"
#include "tenon/serve/v2_rest.h"
#include "tests/serve/http_client.h"
#include "tests/serve/support.h"

namespace tenon::serve {
namespace {

using namespace testing_support;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;
using Json = nlohmann::json;

CoreOptions quick() {
  CoreOptions options;
  options.scheduler.threads = 2;
  options.repository.poll = milliseconds(20);
  options.repository.settle = milliseconds(40);
  options.version = "test";
  return options;
}

// half_plus_two in two versions, served on both ports.
class RestTest : public testing::Test {
 protected:
  explicit RestTest(CoreOptions options = quick()) : core_(std::move(options)) {
    const fs::path base = fresh_folder("models");
    write_file(base / "half_plus_two" / "123" / "model.onnx", affine_onnx(0.5F, 2));
    write_file(base / "half_plus_two" / "124" / "model.onnx", affine_onnx(0.5F, 3));
    core_.repository().configure({{.name = "half_plus_two",
                                   .base_path = base / "half_plus_two",
                                   .policy = {VersionPolicy::Kind::All, 1, {}},
                                   .labels = {{"stable", 123}, {"next", 999}}}});
    EXPECT_TRUE(core_.repository().settle(seconds(20)));
    server_ = std::make_unique<HttpServer>(HttpServerOptions{.threads = 2}, core_.admission(), core_.metrics());
    tfs_ = server_->listen("tfs", "127.0.0.1", 0, tfs_rest(core_));
    v2_ = server_->listen("v2", "127.0.0.1", 0, v2_rest(core_));
    control_ = server_->listen("control", "127.0.0.1", 0, v2_rest(core_, {.control = true, .control_token = "secret"}));
  }
  Core core_;
  std::unique_ptr<HttpServer> server_;
  uint16_t tfs_ = 0, v2_ = 0, control_ = 0;
};

const std::string kModel = "/v1/models/half_plus_two";

TEST_F(RestTest, TensorFlowServingsAnswersByteForByte) {
  HttpClient client(tfs_);
  const auto predict = client.post(kModel + "/versions/123:predict", R"({"instances": [1.0, 2.0, 5.0]})");
  EXPECT_EQ(predict.status, 200);
  EXPECT_EQ(predict.header("Content-Type"), "application/json");
  EXPECT_EQ(predict.body, "{\n    \"predictions\": [2.5, 3.0, 4.5]\n}");
  // The document's own example is half_plus_three: version 124 here.
  EXPECT_EQ(client.post(kModel + ":predict", R"({"instances": [1.0,2.0,5.0]})").body,
            "{\n    \"predictions\": [3.5, 4.0, 5.5]\n}");
  EXPECT_EQ(client.post(kModel + "/labels/stable:predict", R"({"inputs": {"x": [1.0]}})").body,
            "{\n    \"outputs\": [2.5]\n}");
  EXPECT_EQ(client
                .post(kModel + ":regress",
                      R"({"signature_name": "tensorflow/serving/regress", "examples": [{"x": 1.0}, {"x": 2.0}]})")
                .body,
            "{\n    \"results\": [3.5, 4.0]\n}");
  EXPECT_EQ(client.post(kModel + ":classify", R"({"examples": [{"x": 1.0}]})").body,
            "{\n    \"results\": [[[\"\", 3.5]]]\n}");
  EXPECT_EQ(
      client.get(kModel + "/versions/123").body,
      "{\n \"model_version_status\": [\n  {\n   \"version\": \"123\",\n   \"state\": \"AVAILABLE\",\n   \"status\": "
      "{\n    \"error_code\": \"OK\",\n    \"error_message\": \"\"\n   }\n  }\n ]\n}\n");
  const auto all = Json::parse(client.get(kModel + "/labels/stable").body);  // a label is not looked at here
  EXPECT_EQ(all["model_version_status"].size(), 2U);
  const auto metadata = Json::parse(client.get(kModel + "/versions/123/metadata").body);
  EXPECT_EQ(metadata["model_spec"]["version"], "123");
  EXPECT_EQ(metadata["metadata"]["signature_def"]["signature_def"]["serving_default"]["inputs"]["x"]["dtype"],
            "DT_FLOAT");
}

TEST_F(RestTest, TensorFlowServingsErrors) {
  HttpClient client(tfs_);
  const auto missing = client.post("/v1/models/half:predict", R"({"instances": [1.0,5.0]})");
  EXPECT_EQ(missing.status, 404);
  EXPECT_EQ(missing.body, "{ \"error\": \"Servable not found for request: Latest(half)\" }");
  EXPECT_EQ(client.post("/V1/MODELS/half_plus_two:Predict", R"({"instances": [1]})").status, 200);
  EXPECT_EQ(client.post("/v1/models/half%5Fplus_two:predict", R"({"instances": [1]})").status, 200);
  const auto none = client.get("/v1/models");
  EXPECT_EQ(none.status, 400);
  EXPECT_THAT(none.body, HasSubstr("Missing model name"));
  EXPECT_EQ(client.get("/v1/models/half_plus_two:predict").status, 400);
  EXPECT_THAT(client.get("/v1/models/a/b/c").body, HasSubstr("Malformed request: GET /v1/models/a/b/c"));
  const auto other = client.get("/elsewhere");
  EXPECT_EQ(other.status, 404);
  EXPECT_NE(other.header("Content-Type"), "application/json");
  EXPECT_EQ(client.post(kModel + ":predict", "{\"instances\": [1").status, 400);
  EXPECT_EQ(client.post(kModel + "/labels/next:predict", R"({"instances": [1]})").status, 503);
  EXPECT_EQ(client.post(kModel + "/labels/nope:predict", R"({"instances": [1]})").status, 400);
  client.send("OPTIONS " + kModel + ":predict HTTP/1.1\r\nHost: t\r\n\r\n");
  EXPECT_EQ(client.read().status, 400);
  client.send("OPTIONS " + kModel + ":predict HTTP/1.1\r\nHost: t\r\nOrigin: https://x\r\n\r\n");
  EXPECT_EQ(client.read().status, 200);
}

TEST_F(RestTest, CompressedBodiesNaNAndPipelining) {
  HttpClient client(tfs_);
  const std::string packed = encoded_body(R"({"instances": [1.0, NaN, -Infinity]})", "gzip");
  EXPECT_EQ(client.post(kModel + ":predict", packed, "Content-Encoding: gzip\r\n").body,
            "{\n    \"predictions\": [3.5, NaN, -Infinity]\n}");
  EXPECT_EQ(client.post(kModel + ":predict", "garbage", "Content-Encoding: gzip\r\n").status, 400);
  const std::string one =
      "POST " + kModel + ":predict HTTP/1.1\r\nHost: t\r\nContent-Length: 18\r\n\r\n{\"instances\": [1]}";
  client.send(one + one + one);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(client.read().body, "{\n    \"predictions\": [3.5]\n}");
  client.send("POST " + kModel + ":predict HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n");
  client.send("9\r\n{\"instanc\r\n9\r\nes\": [1]}\r\n0\r\n\r\n");
  EXPECT_EQ(client.read().body, "{\n    \"predictions\": [3.5]\n}");
  client.send("POST " + kModel + ":predict HTTP/1.1\r\nHost: t\r\nContent-Length: 18\r\nExpect: 100-continue\r\n\r\n");
  std::this_thread::sleep_for(milliseconds(20));
  client.send("{\"instances\": [1]}");
  EXPECT_EQ(client.read().body, "{\n    \"predictions\": [3.5]\n}");
  client.send("GET /healthz HTTP/1.0\r\n\r\n");
  EXPECT_EQ(client.read().body, "live\n");
  EXPECT_TRUE(client.closed());
}

TEST_F(RestTest, OpenInferenceProtocol) {
  HttpClient client(v2_);
  EXPECT_EQ(Json::parse(client.get("/v2").body)["name"], "tenon");
  EXPECT_EQ(client.get("/v2/health/live").body, "{\"live\":true}");
  EXPECT_EQ(client.get("/v2/health/ready").status, 200);
  EXPECT_EQ(client.get("/v2/models/half_plus_two/ready").status, 200);
  EXPECT_EQ(client.get("/v2/models/half_plus_two/versions/7/ready").status, 400);
  const auto metadata = Json::parse(client.get("/v2/models/half_plus_two").body);
  EXPECT_EQ(metadata["platform"], "onnx_onnxv1");
  EXPECT_EQ(metadata["versions"], Json({"123", "124"}));
  EXPECT_EQ(metadata["inputs"][0], Json({{"name", "x"}, {"datatype", "FP32"}, {"shape", {-1}}}));
  const auto answer = client.post("/v2/models/half_plus_two/versions/123/infer",
                                  R"({"id": "42", "inputs": [{"name": "x", "data": [[1, 2], [5]], "shape": [3],
                                      "datatype": "FP32"}], "outputs": [{"name": "y"}]})");
  EXPECT_EQ(answer.body,
            R"({"model_name":"half_plus_two","model_version":"123","id":"42","outputs":[{"name":"y","datatype":"FP32",)"
            R"("shape":[3],"data":[2.5,3.0,4.5]}]})");
  const auto config = Json::parse(client.get("/v2/models/half_plus_two/config").body);
  EXPECT_EQ(config["parameters"]["label:next"]["string_value"], "version 999 (pending)");
  // A batch axis alone: without it no dims would be left.
  EXPECT_EQ(config["max_batch_size"], 0);
  EXPECT_EQ(config["input"][0]["dims"], Json({-1}));
  const auto stats = Json::parse(client.get("/v2/models/half_plus_two/versions/123/stats").body);
  EXPECT_EQ(stats["model_stats"][0]["inference_stats"]["success"]["count"], 1);
  EXPECT_EQ(Json::parse(client.get("/v2/models/stats").body)["model_stats"].size(), 2U);
  EXPECT_EQ(Json::parse(client.post("/v2/repository/index", "").body).size(), 2U);
  const auto error = [&](const std::string& inputs) {
    return client.post("/v2/models/half_plus_two/infer", "{\"inputs\": [" + inputs + "]}").body;
  };
  EXPECT_THAT(error(R"({"name": "x", "shape": [2], "datatype": "FP32", "data": [1]})"),
              HasSubstr("has 1 elements; its shape [2] says 2"));
  EXPECT_THAT(error(R"({"name": "x", "shape": [1], "datatype": "INT32", "data": [1]})"),
              HasSubstr("has the datatype INT32, expected FP32"));
  EXPECT_THAT(error(R"({"name": "z", "shape": [1], "datatype": "FP32", "data": [1]})"),
              HasSubstr("unexpected input 'z'"));
  EXPECT_THAT(error(R"({"name": "x", "shape": [1, 1], "datatype": "FP32", "data": [1]})"),
              HasSubstr("has the shape [1,1], expected [-1]"));
  EXPECT_THAT(error(R"({"name": "x", "shape": [-1], "datatype": "FP32", "data": [1]})"), HasSubstr("not negative"));
  EXPECT_THAT(error(R"({"name": "x", "shape": [4000000000, 4000000000, 4000000000], "datatype": "FP32", "data": [1]})"),
              HasSubstr("too large"));
  EXPECT_THAT(error(R"({"name": "x", "shape": [1], "datatype": "FP99", "data": [1]})"), HasSubstr("unknown datatype"));
  EXPECT_EQ(client.post("/v2/models/nope/infer", R"({"inputs": []})").status, 404);
  EXPECT_EQ(client.get("/v2/what").status, 404);
}

TEST_F(RestTest, BinaryTensors) {
  HttpClient client(v2_);
  const std::vector<float> x{1, 2, 5};
  std::string raw(reinterpret_cast<const char*>(x.data()), 12);
  const std::string json =
      R"({"inputs":[{"name":"x","shape":[3],"datatype":"FP32","parameters":{"binary_data_size":12}}],)"
      R"("outputs":[{"name":"y","parameters":{"binary_data":true}}]})";
  const auto answer = client.post("/v2/models/half_plus_two/infer", json + raw,
                                  "Inference-Header-Content-Length: " + std::to_string(json.size()) + "\r\n");
  ASSERT_EQ(answer.status, 200) << answer.body;
  const size_t length = std::stoul(answer.header("Inference-Header-Content-Length"));
  EXPECT_EQ(Json::parse(answer.body.substr(0, length))["outputs"][0]["parameters"]["binary_data_size"], 12);
  std::vector<float> y(3);
  std::memcpy(y.data(), answer.body.data() + length, 12);
  EXPECT_EQ(y, (std::vector<float>{3.5, 4, 5.5}));
  const auto whole = client.post("/v2/models/half_plus_two/infer", raw, "Inference-Header-Content-Length: 0\r\n");
  ASSERT_EQ(whole.status, 200) << whole.body;
  EXPECT_EQ(whole.body.substr(whole.body.size() - 12), answer.body.substr(length));
  EXPECT_THAT(client
                  .post("/v2/models/half_plus_two/infer", json + raw + "x",
                        "Inference-Header-Content-Length: " + std::to_string(json.size()) + "\r\n")
                  .body,
              HasSubstr("1 bytes of binary data belong to no input"));
  EXPECT_THAT(client
                  .post("/v2/models/half_plus_two/infer", json,
                        "Inference-Header-Content-Length: " + std::to_string(json.size()) + "\r\n")
                  .body,
              HasSubstr("0 are left"));
}

TEST_F(RestTest, LoadingByHandIsOffButOnItsOwnPortWithItsToken) {
  HttpClient client(v2_), control(control_);
  EXPECT_EQ(client.post("/v2/repository/models/half_plus_two/unload", "{}").status, 403);
  EXPECT_EQ(control.post("/v2/repository/models/half_plus_two/unload", "{}").status, 401);
  const std::string token = "Authorization: Bearer secret\r\n";
  EXPECT_EQ(control.post("/v2/repository/models/half_plus_two/unload", "{}", token).status, 200);
  EXPECT_EQ(client.get("/v2/models/half_plus_two/ready").status, 400);
  EXPECT_EQ(control.post("/v2/repository/models/half_plus_two/load", "{}", token).status, 200);
  EXPECT_EQ(client.get("/v2/models/half_plus_two/ready").status, 200);
  EXPECT_EQ(control.post("/v2/repository/models/nope/load", "{}", token).status, 404);
}

// Complaint 6: no general health URL.
TEST_F(RestTest, Complaint06HealthTellsTheTruthOnEveryPort) {
  for (uint16_t port : {tfs_, v2_}) {
    HttpClient client(port);
    EXPECT_EQ(client.get("/healthz").status, 200);
    EXPECT_EQ(client.get("/readyz").status, 200);
    EXPECT_THAT(client.get("/metrics").body, HasSubstr("# TYPE tenon_ready gauge\ntenon_ready 1\n"));
  }
  Core starting(quick());
  HttpServer server({.threads = 1}, starting.admission(), starting.metrics());
  HttpClient client(server.listen("v2", "127.0.0.1", 0, v2_rest(starting)));
  EXPECT_EQ(client.get("/readyz").status, 503) << "nothing is configured yet";
  const fs::path nowhere = fresh_folder("nowhere");
  starting.repository().configure({{.name = "late", .base_path = nowhere}});
  EXPECT_FALSE(starting.repository().settle(milliseconds(100)));
  EXPECT_EQ(client.get("/readyz").status, 503);
  EXPECT_EQ(client.get("/readyz").body, "not ready: waits for late\n");
  EXPECT_EQ(client.get("/v2/health/ready").status, 503);
  EXPECT_EQ(client.get("/healthz").status, 200);
  write_file(nowhere / "1" / "model.onnx", affine_onnx(1, 1));
  EXPECT_TRUE(eventually([&] { return client.get("/readyz").status == 200; }));
  starting.leave();
  EXPECT_EQ(client.get("/readyz").status, 503);
}

TEST_F(RestTest, MetricsCountWhatWasAnswered) {
  HttpClient client(tfs_);
  for (int i = 0; i < 5; ++i) client.post(kModel + "/versions/123:predict", R"({"instances": [1.0]})");
  client.post(kModel + "/versions/123:predict", R"({"instances": [[1.0]]})");
  const std::string page = client.get("/metrics").body;
  EXPECT_THAT(
      page,
      HasSubstr("tenon_requests_total{model=\"half_plus_two\",version=\"123\",api=\"tfs_rest\",code=\"OK\"} 5\n"));
  EXPECT_THAT(page, HasSubstr("api=\"tfs_rest\",code=\"INVALID_ARGUMENT\"} 1\n"));
  EXPECT_THAT(client.get("/monitoring/prometheus/metrics").body,
              HasSubstr(":tensorflow:serving:request_count{model_name=\"half_plus_two\",status=\"OK\"} 5\n"));
}

// TensorFlow Serving's own names, as far as they can be told truthfully.
TEST_F(RestTest, LegacyMetricsTellWhatTheOriginalsTell) {
  HttpClient client(tfs_);
  const std::string one = kModel + "/versions/123";
  client.post(one + ":predict", R"({"instances": [1.0]})");
  client.post(one + ":regress", R"({"examples": [{"x": 1.0}, {"x": 2.0}, {"x": 3.0}]})");
  client.post(one + ":classify", R"({"examples": [{"x": 1.0}]})");
  client.post(one + ":predict", R"({"instances": [[1.0]]})");  // refused: no latency
  const std::string page = client.get("/monitoring/prometheus/metrics").body;
  const std::string name = "half_plus_two";
  for (const std::string api : {"predict", "regress", "classify"})
    EXPECT_THAT(page, HasSubstr(":tensorflow:serving:request_latency_count{model_name=\"" + name + "\",API=\"" + api +
                                "\",entrypoint=\"REST\"} 1\n"));
  for (const std::string api : {"Predict", "Regress", "Classify"})
    EXPECT_THAT(page, HasSubstr(":tensorflow:serving:runtime_latency_count{model_name=\"" + name + "\",API=\"" + api +
                                "\",runtime=\"Tenon\"} 1\n"));
  for (const char* bound :
       {"le=\"10\"", "le=\"708235\"", "le=\"1.27482e+06\"", "le=\"+Inf\""})  // as in queries that people wrote
    EXPECT_THAT(page, HasSubstr(bound));
  EXPECT_THAT(page, HasSubstr(":tensorflow:serving:request_example_count_total{model=\"" + name + "\"} 4\n"));
  EXPECT_THAT(page, HasSubstr(":tensorflow:serving:request_example_counts_count{model=\"" + name + "\"} 2\n"));
  EXPECT_THAT(page, HasSubstr(":tensorflow:serving:model_warmup_latency_count{model_path=\""));
  EXPECT_THAT(page, HasSubstr("/half_plus_two/123\",status=\"OK\"} 1\n"));
  EXPECT_THAT(page, testing::Not(HasSubstr("batching_session"))) << "nothing is batched here";
  EXPECT_THAT(page, testing::Not(HasSubstr("request_log_count")));
}

TEST(LegacyMetrics, QueuesAndLogsAreCountedWhereThereAreSome) {
  CoreOptions options = quick();
  RequestLogOptions log;
  log.sampling_rate = 1;
  log.file.prefix = fresh_folder("log") / "requests";
  options.request_log = log;
  Core core(options);
  const fs::path base = fresh_folder("models");
  write_file(base / "1" / "model.onnx", affine_onnx(0.5F, 2));
  LaneOptions lane;
  lane.batching = {.enabled = true, .max_batch_size = 2, .timeout = std::chrono::microseconds(0)};
  core.repository().configure({{.name = "m", .base_path = base, .lane = lane}});
  ASSERT_TRUE(core.repository().settle(seconds(20)));
  HttpServer server({.threads = 1}, core.admission(), core.metrics());
  HttpClient client(server.listen("tfs", "127.0.0.1", 0, tfs_rest(core)));
  for (int i = 0; i < 3; ++i) EXPECT_EQ(client.post("/v1/models/m:predict", R"({"instances": [1.0]})").status, 200);
  std::string page;
  EXPECT_TRUE(eventually([&] {
    page = client.get("/monitoring/prometheus/metrics").body;
    return page.find("request_log_count{model_name=\"m\",status_code=\"OK\"} 3\n") != std::string::npos;
  }));
  EXPECT_THAT(page, HasSubstr(":tensorflow:serving:batching_session:wrapped_run_count 3\n"));
  EXPECT_THAT(page, HasSubstr(":tensorflow:serving:batching_session:queuing_latency_count{thread_pool_name=\"tenon\"} "
                              "3\n"));
}

// What Triton's clients ask beside inference: there are no regions, and nothing can be set.
TEST_F(RestTest, TritonsSettingsAndRegions) {
  HttpClient client(v2_);
  for (const std::string kind : {"/v2/systemsharedmemory", "/v2/cudasharedmemory"}) {
    EXPECT_EQ(client.get(kind + "/status").body, "[]");
    EXPECT_EQ(client.post(kind + "/unregister", "").status, 200);
    EXPECT_EQ(client.get(kind + "/region/r/status").status, 400);
    EXPECT_EQ(client.post(kind + "/region/r/register", "{}").status, 501);
    EXPECT_EQ(client.get(kind).status, 404);
  }
  EXPECT_EQ(Json::parse(client.get("/v2/logging").body)["log_error"], true);
  EXPECT_EQ(client.post("/v2/logging", "{}").status, 501);
  for (const std::string path : {"/v2/trace/setting", "/v2/models/half_plus_two/trace/setting"}) {
    EXPECT_EQ(Json::parse(client.get(path).body)["trace_level"][0], "OFF");
    EXPECT_EQ(client.post(path, R"({"trace_level": ["TIMESTAMPS"]})").status, 501);
  }
}

// Triton's parameters that would change the answer are not passed over in silence.
TEST_F(RestTest, WhatIsNotSupportedIsNamed) {
  HttpClient client(v2_);
  const auto post = [&](const std::string& parameters, const std::string& output) {
    return client.post("/v2/models/half_plus_two/infer",
                       R"({"parameters": {)" + parameters + R"(}, "outputs": [{"name": "y", "parameters": {)" + output +
                           R"(}}], "inputs": [{"name": "x", "shape": [1], "datatype": "FP32", "data": [1]}]})");
  };
  EXPECT_EQ(post("", "").status, 200);
  EXPECT_EQ(post(R"("sequence_id": 0, "sequence_start": false)", R"("classification": 0)").status, 200);
  for (const char* id : {"7", "\"seven\""}) {
    const auto sequence = post(std::string(R"("sequence_start": true, "sequence_id": )") + id, "");
    EXPECT_EQ(sequence.status, 400);
    EXPECT_THAT(sequence.body, HasSubstr("'sequence_id' is not supported"));
  }
  const auto classes = post("", R"("classification": 2)");
  EXPECT_EQ(classes.status, 400);
  EXPECT_THAT(classes.body, HasSubstr("'classification' (class_count) is not supported"));
}

// ---- limits ----

class SmallRestTest : public RestTest {
 protected:
  static CoreOptions small() {
    CoreOptions options = quick();
    options.admission = {.requests = 2, .bytes = 4096, .body = 1000};
    return options;
  }
  SmallRestTest() : RestTest(small()) {}
};

TEST_F(SmallRestTest, RefusesFromTheHeaderAlone) {
  HttpClient large(tfs_);
  large.send("POST " + kModel + ":predict HTTP/1.1\r\nHost: t\r\nContent-Length: 1000000000\r\n\r\n");
  const auto refused = large.read();
  EXPECT_EQ(refused.status, 413);
  EXPECT_EQ(refused.header("Retry-After"), "") << "it would be as large the next time";
  EXPECT_THAT(refused.body, HasSubstr("the body has 1000000000 bytes; at most 1000 are accepted"));
  EXPECT_TRUE(large.closed());
  HttpClient chunked(tfs_);
  chunked.send("POST " + kModel + ":predict HTTP/1.1\r\nHost: t\r\nTransfer-Encoding: chunked\r\n\r\n");
  chunked.send("7d0\r\n" + std::string(2000, ' ') + "\r\n0\r\n\r\n");
  const auto unknown = chunked.read();
  EXPECT_EQ(unknown.status, 413);
  EXPECT_EQ(unknown.header("Retry-After"), "");
  EXPECT_THAT(unknown.body, HasSubstr("the body has more than the 1000 bytes that are accepted"));
  for (const uint16_t port : {tfs_, v2_}) {  // small as it comes, too large when it is unpacked
    HttpClient packed(port);
    const auto grown =
        packed.post(kModel + ":predict", encoded_body(std::string(2000, ' '), "gzip"), "Content-Encoding: gzip\r\n");
    EXPECT_EQ(grown.status, 413);
    EXPECT_EQ(grown.header("Retry-After"), "");
    EXPECT_THAT(grown.body, HasSubstr("the decompressed body has more than the 1000 bytes"));
  }
  EXPECT_THAT(HttpClient(tfs_).get("/metrics").body, HasSubstr("tenon_refused_requests_total{reason=\"body\"} 2\n"));
  // Two that have sent their header only hold the two places.
  HttpClient a(tfs_), b(tfs_), c(tfs_);
  for (auto* slow : {&a, &b})
    slow->send("POST " + kModel + ":predict HTTP/1.1\r\nHost: t\r\nContent-Length: 18\r\n\r\n");
  EXPECT_TRUE(eventually([&] { return core_.admission().requests() == 2; }));
  const auto full = c.post(kModel + ":predict", R"({"instances": [1]})");
  EXPECT_EQ(full.status, 503);
  EXPECT_EQ(full.header("Retry-After"), "1");
  EXPECT_EQ(HttpClient(tfs_).get("/healthz").status, 200);  // health is always answered
  for (auto* slow : {&a, &b}) {
    slow->send(R"({"instances": [1]})");
    EXPECT_EQ(slow->read().status, 200);
  }
  EXPECT_TRUE(eventually([&] { return core_.admission().requests() == 0 && core_.admission().bytes() == 0; }));
  EXPECT_EQ(HttpClient(tfs_).post(kModel + ":predict", R"({"instances": [1]})").status, 200);
}

TEST_F(RestTest, AServerThatWasReadyStaysReadyWhenAnotherModelIsNot) {
  HttpClient client(v2_);
  EXPECT_EQ(client.get("/readyz").status, 200);
  auto models = core_.repository().configuration();
  models.push_back({.name = "late", .base_path = "/nowhere/at/all"});
  core_.repository().configure(models);
  EXPECT_FALSE(core_.repository().settle(milliseconds(200)));
  EXPECT_EQ(client.get("/readyz").status, 200);
  EXPECT_EQ(client.get("/v2/health/ready").status, 200);
  EXPECT_EQ(client.get("/v2/models/late/ready").status, 400);
  EXPECT_EQ(client.get("/v2/models/half_plus_two/ready").status, 200);
  EXPECT_EQ(HttpClient(tfs_).post(kModel + ":predict", R"({"instances": [1]})").status, 200);
  const std::string page = client.get("/metrics").body;
  EXPECT_THAT(page, HasSubstr("tenon_ready 1\n"));
  EXPECT_THAT(page, HasSubstr("tenon_models_not_ready 1\n"));
  core_.leave();
  EXPECT_EQ(client.get("/readyz").status, 503);
}

TEST_F(RestTest, ATimeoutIsAPositiveNumberOfMilliseconds) {
  HttpClient client(tfs_);
  for (const char* text : {"0", "-5", "soon"}) {
    const auto answer =
        client.post(kModel + ":predict", R"({"instances": [1]})", std::string("Tenon-Timeout: ") + text + "\r\n");
    EXPECT_EQ(answer.status, 400);
    EXPECT_THAT(answer.body, HasSubstr("Tenon-Timeout must be a positive number of milliseconds"));
  }
}

TEST_F(SmallRestTest, BrokenHttpIsRefused) {
  for (const char* bytes :
       {"\r\n\r\n\r\n", "GET\r\n\r\n", "GET / HTTP/9.9\r\n\r\n", "POST / HTTP/1.1\r\nContent-Length: x\r\n\r\n",
        "\x16\x03\x01 hello tls", "GET / HTTP/1.1\r\nbroken header\r\n\r\n"}) {
    HttpClient client(tfs_);
    client.send(bytes);
    const auto answer = client.read(seconds(5));
    EXPECT_TRUE(answer.status == 400 || answer.status == 0) << bytes << answer.status;
  }
  HttpClient client(tfs_);
  client.send("GET / HTTP/1.1\r\nX: " + std::string(100000, 'x') + "\r\n\r\n");
  EXPECT_EQ(client.read().status, 431);
  EXPECT_EQ(HttpClient(tfs_).get("/healthz").status, 200);
}

}  // namespace
}  // namespace tenon::serve
