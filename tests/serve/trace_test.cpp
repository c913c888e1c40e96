// Trace ids by the rules of W3C Trace Context, and how they and the access log look from outside.
#include "tenon/serve/trace.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <set>

#include "tenon/base/file.h"
#include "tenon/serve/grpc_client.h"
#include "tenon/serve/server.h"
#include "tenon/serve/v2_wire.h"
#include "tests/serve/http_client.h"
#include "tests/serve/support.h"

namespace tenon::serve {
namespace {

using namespace testing_support;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;
using testing::MatchesRegex;
using Json = nlohmann::json;

constexpr const char* kForm = "00-[0-9a-f]{32}-[0-9a-f]{16}-0[01]";
// The standard's own example.
const std::string kGiven = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

TEST(TraceTest, AGivenTraceGoesOn) {
  TraceIds ids;
  const Trace trace = ids.begin(kGiven);
  EXPECT_EQ(trace.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
  EXPECT_EQ(trace.parent_id(), "00f067aa0ba902b7");
  EXPECT_NE(trace.span_id(), "00f067aa0ba902b7");
  EXPECT_THAT(std::string(trace.traceparent()), MatchesRegex(kForm));
  EXPECT_EQ(trace.traceparent().substr(53), "01");
  EXPECT_FALSE(Trace());
  EXPECT_EQ(Trace().trace_id(), "");
}

// Section 3.2 of the standard.
TEST(TraceTest, WhatIsValid) {
  TraceIds ids;
  const std::string trace = "4bf92f3577b34da6a3ce929d0e0e4736", parent = "00f067aa0ba902b7";
  const auto goes_on = [&](const std::string& header) { return ids.begin(header).trace_id() == trace; };
  EXPECT_TRUE(goes_on("00-" + trace + "-" + parent + "-00"));
  EXPECT_TRUE(goes_on("00-" + trace + "-" + parent + "-ff")) << "flags nobody knows are no mistake";
  EXPECT_TRUE(goes_on("cc-" + trace + "-" + parent + "-01")) << "a version that comes later";
  EXPECT_TRUE(goes_on("cc-" + trace + "-" + parent + "-01-what-the-future-will-be-like"));
  EXPECT_FALSE(goes_on("cc-" + trace + "-" + parent + "-01.what"));
  EXPECT_FALSE(goes_on("00-" + trace + "-" + parent + "-01-more"));
  EXPECT_FALSE(goes_on("ff-" + trace + "-" + parent + "-01"));
  EXPECT_FALSE(goes_on("0-" + trace + "-" + parent + "-01"));
  EXPECT_FALSE(goes_on("00-4BF92F3577B34DA6A3CE929D0E0E4736-" + parent + "-01")) << "upper case";
  EXPECT_FALSE(goes_on("00-" + trace + "-0000000000000000-01"));
  EXPECT_FALSE(goes_on("00-" + trace + "-" + parent));
  EXPECT_FALSE(goes_on("00-" + trace + "-" + parent + "-0x"));
  for (const std::string header : {"", "nonsense", "00-00000000000000000000000000000000-00f067aa0ba902b7-01"}) {
    const Trace fresh = ids.begin(header);
    EXPECT_THAT(std::string(fresh.traceparent()), MatchesRegex(kForm));
    EXPECT_EQ(fresh.parent_id(), "");
    EXPECT_NE(fresh.trace_id(), std::string(32, '0'));
  }
  EXPECT_EQ(ids.begin("00-" + trace + "-" + parent + "-03").traceparent().substr(53), "01") << "only 'sampled' is ours";
}

TEST(TraceTest, IdsAreNewEachTime) {
  TraceIds ids, others;
  std::set<std::string> seen;
  for (int i = 0; i < 10000; ++i) {
    seen.insert(std::string(ids.begin("").trace_id()));
    seen.insert(std::string(others.begin("").trace_id()));
  }
  EXPECT_EQ(seen.size(), 20000U);
}

class TraceServerTest : public testing::Test {
 protected:
  TraceServerTest() : base_(fresh_folder("models")), log_(fresh_folder("log") / "access") {
    write_file(base_ / "7" / "model", "7");
    ServerOptions o;
    o.address = "127.0.0.1";
    o.tfs_rest_port = o.v2_rest_port = o.v2_grpc_port = 0;
    o.core.scheduler.threads = 2;
    o.core.repository.poll = milliseconds(20);
    o.core.repository.settle = milliseconds(0);
    o.core.repository.loader = [](const fs::path&, Precision) -> ModelPtr { return std::make_shared<FakeModel>(7); };
    o.http.threads = 2;
    o.access_log = LogFileOptions{.prefix = log_};
    server_ = std::make_unique<Server>(o, std::vector<ModelConfig>{{.name = "m", .base_path = base_}});
    EXPECT_TRUE(server_->core().repository().settle(seconds(20)));
  }
  std::vector<Json> lines() {
    server_.reset();
    std::vector<Json> out;
    std::istringstream in(read_text_file(log_.string() + ".000001.jsonl"));
    for (std::string line; std::getline(in, line);) out.push_back(Json::parse(line));
    return out;
  }
  fs::path base_, log_;
  std::unique_ptr<Server> server_;
};

const std::string kBody = R"({"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[0,0]}]})";

TEST_F(TraceServerTest, AnswersSayTheTrace) {
  HttpClient v2(server_->ports().v2_rest), tfs(server_->ports().tfs_rest);
  const auto given = v2.post("/v2/models/m/infer", kBody, "traceparent: " + kGiven + "\r\n");
  EXPECT_EQ(given.header("traceparent").substr(3, 32), "4bf92f3577b34da6a3ce929d0e0e4736");
  EXPECT_NE(given.header("traceparent"), kGiven);
  const auto fresh = tfs.get("/v1/models/m");
  EXPECT_THAT(fresh.header("traceparent"), MatchesRegex(kForm));
  EXPECT_THAT(v2.get("/nowhere").header("traceparent"), MatchesRegex(kForm));
}

TEST_F(TraceServerTest, TheAccessLogHasALineForEachAnswer) {
  HttpClient v2(server_->ports().v2_rest), tfs(server_->ports().tfs_rest);
  EXPECT_EQ(v2.post("/v2/models/m/infer", kBody, "traceparent: " + kGiven + "\r\ntracestate: congo=t61\r\n").status,
            200);
  EXPECT_EQ(tfs.post("/v1/models/m:predict", "{").status, 400);
  EXPECT_EQ(tfs.post("/v1/models/none:predict", "{}").status, 404);
  EXPECT_EQ(v2.get("/v2/health/ready").status, 200);
  GrpcClient grpc("127.0.0.1:" + std::to_string(server_->ports().v2_grpc));
  const V2Message message{.ref = {.name = "m"}, .id = {}, .inputs = {{"x", rows_of(1)}}, .outputs = {}};
  (void)grpc.call("/inference.GRPCInferenceService/ModelInfer", write_infer(message).to_string());
  EXPECT_THROW((void)grpc.call("/inference.GRPCInferenceService/ModelInfer", bytes_field(1, "none")), RequestError);
  const auto all = lines();
  ASSERT_EQ(all.size(), 6U);
  const Json& first = all[0];
  EXPECT_EQ(first["level"], "info");
  EXPECT_EQ(first["event"], "request");
  EXPECT_EQ(first["listener"], "v2_rest");
  EXPECT_EQ(first["method"], "POST");
  EXPECT_EQ(first["target"], "/v2/models/m/infer");
  EXPECT_EQ(first["http_status"], 200);
  EXPECT_EQ(first["model"], "m");
  EXPECT_EQ(first["version"], 7);
  EXPECT_EQ(first["bytes_in"], kBody.size());
  EXPECT_GT(first["bytes_out"], 0);
  EXPECT_GE(first["duration_us"], 0);
  EXPECT_EQ(first["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
  EXPECT_EQ(first["parent_id"], "00f067aa0ba902b7");
  EXPECT_EQ(first["tracestate"], "congo=t61");
  EXPECT_EQ(all[1]["level"], "warning");
  EXPECT_EQ(all[1]["http_status"], 400);
  EXPECT_NE(all[1]["error"], "");
  EXPECT_EQ(all[2]["status"], "NOT_FOUND");
  EXPECT_EQ(all[2]["error"], "Servable not found for request: Latest(none)");
  EXPECT_FALSE(all[2].contains("model"));
  EXPECT_EQ(all[3]["target"], "/v2/health/ready");
  EXPECT_EQ(all[4]["listener"], "grpc");
  EXPECT_EQ(all[4]["target"], "/inference.GRPCInferenceService/ModelInfer");
  EXPECT_EQ(all[4]["status"], "OK");
  EXPECT_EQ(all[4]["version"], 7);
  EXPECT_EQ(all[5]["status"], "NOT_FOUND");
  EXPECT_EQ(all[5]["level"], "warning");
}

}  // namespace
}  // namespace tenon::serve
