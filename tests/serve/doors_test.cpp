// What every door of the server must do alike: services on both gRPC ports, and the codes of quotas and of the drain.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <thread>

#include "tenon/serve/grpc_client.h"
#include "tenon/serve/v2_wire.h"
#include "tests/serve/http_client.h"
#include "tests/serve/server_support.h"
#include "tests/serve/support.h"

namespace tenon::serve {
namespace {

using namespace testing_support;
using std::chrono::seconds;
using testing::HasSubstr;

// Models "m", whose runs wait for the gate, with a quota of one request, and "free".
class DoorsTest : public testing::Test {
 protected:
  DoorsTest() {
    ServerOptions options = quick_server();
    options.core.repository.warm_up = false;
    options.core.repository.loader = [this](const fs::path& path, Precision) -> ModelPtr {
      const bool waits = path.parent_path().filename() == "m";
      return std::make_shared<FakeModel>(1, std::vector<int64_t>{-1, 2}, [this, waits](const Tensor&) {
        if (waits) gate_.wait();
      });
    };
    const fs::path base = fresh_folder("doors");
    std::vector<ModelConfig> models;
    for (const char* name : {"m", "free"}) {
      write_file(base / name / "1" / "model.onnx", "never read");
      models.push_back({.name = name, .base_path = base / name});
    }
    models[0].max_in_flight = 1;
    server_ = std::make_unique<Server>(options, models);
    EXPECT_TRUE(server_->core().repository().settle(seconds(20)));
  }
  static std::string path(bool v2, const std::string& model) {
    return v2 ? "/v2/models/" + model + "/infer" : "/v1/models/" + model + ":predict";
  }
  static std::string body(bool v2) {
    return v2 ? R"({"inputs":[{"name":"x","datatype":"FP32","shape":[1,2],"data":[0,0]}]})"
              : R"({"instances": [[0, 0]]})";
  }
  HttpAnswer ask(bool v2, const std::string& model) {
    HttpClient client(v2 ? server_->ports().v2_rest : server_->ports().tfs_rest);
    return client.post(path(v2, model), body(v2));
  }
  Status call(uint16_t port, const std::string& model) {
    const V2Message message{.ref = {.name = model}, .id = {}, .inputs = {{"x", rows_of(1)}}, .outputs = {}};
    try {
      GrpcClient("127.0.0.1:" + std::to_string(port))
          .call("/inference.GRPCInferenceService/ModelInfer", write_infer(message).to_string());
    } catch (const RequestError& error) {
      return {error.status_code, error.what()};
    }
    return {};
  }
  Gate gate_;
  std::unique_ptr<Server> server_;
};

TEST_F(DoorsTest, AllServicesAreOnBothGrpcPorts) {
  const std::string spec = bytes_field(1, bytes_field(1, "free"));
  for (const uint16_t port : {server_->ports().tfs_grpc, server_->ports().v2_grpc}) {
    GrpcClient client("127.0.0.1:" + std::to_string(port));
    EXPECT_EQ(client.call("/grpc.health.v1.Health/Check", ""), int_field(1, 1));
    EXPECT_EQ(client.call("/inference.GRPCInferenceService/ServerReady", ""), int_field(1, 1));
    EXPECT_THAT(client.call("/tensorflow.serving.ModelService/GetModelStatus", spec), HasSubstr(int_field(2, 30)));
    EXPECT_THAT(
        client.call("/tensorflow.serving.PredictionService/GetModelMetadata", spec + bytes_field(2, "signature_def")),
        HasSubstr("SignatureDefMap"));
    EXPECT_THAT(client.call("/grpc.reflection.v1.ServerReflection/ServerReflectionInfo", bytes_field(7, "*")),
                HasSubstr("inference.GRPCInferenceService"));
    EXPECT_TRUE(call(port, "free").ok());
  }
}

TEST_F(DoorsTest, OverItsQuotaAModelAnswers429AndTheOthersDoNotKnow) {
  std::thread first([&] { EXPECT_EQ(ask(true, "m").status, 200); });
  gate_.wait_for_waiting(1);
  for (const bool v2 : {false, true}) {
    const auto over = ask(v2, "m");
    EXPECT_EQ(over.status, 429);
    EXPECT_EQ(over.header("Retry-After"), "1");
    EXPECT_THAT(over.body, HasSubstr("'m' is over its quota of 1 requests"));
    EXPECT_EQ(ask(v2, "free").status, 200);
  }
  const Status over = call(server_->ports().v2_grpc, "m");
  EXPECT_EQ(over.code, Code::ResourceExhausted);
  EXPECT_THAT(over.message, HasSubstr("over its quota"));
  gate_.open();
  first.join();
  for (const bool v2 : {false, true}) EXPECT_EQ(ask(v2, "m").status, 200);
  const std::string page = server_->core().metrics().text();
  for (const char* api : {"tfs_rest", "v2_rest", "v2_grpc"})
    EXPECT_THAT(page, HasSubstr("tenon_requests_total{model=\"m\",version=\"1\",api=\"" + std::string(api) +
                                "\",code=\"RESOURCE_EXHAUSTED\"} 1\n"));
}

TEST(Doors, BytesInsideAreLimitedToo) {
  ServerOptions options = quick_server();
  options.core.admission = {.requests = 100, .bytes = 1500, .body = 1000};
  Server server(options, {});
  const uint16_t port = server.ports().v2_rest;
  HttpClient first(port);
  first.send("POST /v2/models/m/infer HTTP/1.1\r\nHost: t\r\nContent-Length: 1000\r\n\r\n");
  EXPECT_TRUE(eventually([&] { return server.core().admission().bytes() == 1000; }));
  HttpClient second(port);
  second.send("POST /v2/models/m/infer HTTP/1.1\r\nHost: t\r\nContent-Length: 501\r\n\r\n");
  const auto full = second.read();  // of its header alone
  EXPECT_EQ(full.status, 503);
  EXPECT_EQ(full.header("Retry-After"), "1");
  EXPECT_THAT(full.body, HasSubstr("its 1500 bytes for bodies are taken"));
  EXPECT_EQ(HttpClient(port).post("/v2/models/m/infer", std::string(500, ' ')).status, 404) << "what fits comes in";
  EXPECT_THAT(server.core().metrics().text(), HasSubstr("tenon_refused_requests_total{reason=\"bytes\"} 1\n"));
}

// Triton's priorities: 1 goes first, whatever door it comes through; who says nothing waits for all who do.
TEST(Doors, PrioritiesAreTritons) {
  Gate gate;
  std::vector<float> order;
  ServerOptions options = quick_server();
  options.core.scheduler.threads = 1;
  options.core.repository.warm_up = false;
  options.core.repository.loader = [&](const fs::path&, Precision) {
    return std::make_shared<FakeModel>(0, std::vector<int64_t>{-1, 2}, [&](const Tensor& x) {
      order.push_back(x.to_vector<float>()[0]);
      if (order.size() == 1) gate.wait();
    });
  };
  const fs::path base = fresh_folder("priorities");
  write_file(base / "1" / "model.onnx", "never read");
  Server server(options, {{.name = "m", .base_path = base}});
  ASSERT_TRUE(server.core().repository().settle(seconds(20)));
  const LanePtr lane = server.core().repository().resolve({"m"});
  GrpcClient grpc("127.0.0.1:" + std::to_string(server.ports().v2_grpc));
  std::vector<std::thread> clients;
  const auto ask = [&](int priority, bool by_grpc) {
    clients.emplace_back([&, priority, by_grpc] {
      if (by_grpc) {  // ModelInferRequest.parameters {key, value {uint64_param}}, as Triton's client writes it
        const V2Message message{
            .ref = {.name = "m"}, .id = {}, .inputs = {{"x", rows_of(1, static_cast<float>(priority))}}, .outputs = {}};
        const std::string parameter =
            bytes_field(4, bytes_field(1, "priority") + bytes_field(2, int_field(5, static_cast<uint64_t>(priority))));
        EXPECT_NO_THROW(
            grpc.call("/inference.GRPCInferenceService/ModelInfer", write_infer(message).to_string() + parameter));
        return;
      }
      const std::string p = std::to_string(priority);
      const std::string parameters = priority == 0 ? "" : R"("parameters":{"priority":)" + p + "},";
      const auto answer = HttpClient(server.ports().v2_rest)
                              .post("/v2/models/m/infer",
                                    "{" + parameters + R"("inputs":[{"name":"x","datatype":"FP32","shape":[1,2],)" +
                                        R"("data":[)" + p + ",0]}]}");
      EXPECT_EQ(answer.status, 200) << answer.body;
    });
    EXPECT_TRUE(eventually([&] { return lane->pending() == std::ssize(clients); }));
  };
  ask(99, false);
  gate.wait_for_waiting(1);
  ask(0, false);
  ask(3, true);
  ask(2, false);
  ask(1, true);
  gate.open();
  for (auto& client : clients) client.join();
  EXPECT_EQ(order, (std::vector<float>{99, 1, 2, 3, 0}));
}

TEST_F(DoorsTest, WhoComesDuringTheDrainIsSentElsewhere) {
  std::thread first([&] { EXPECT_EQ(ask(true, "m").status, 200) << "what is under way is answered"; });
  gate_.wait_for_waiting(1);
  std::thread drain([&] { EXPECT_TRUE(server_->core().drain(seconds(60))); });
  EXPECT_TRUE(eventually([&] { return server_->core().admission().draining(); }));
  for (const bool v2 : {false, true}) {
    const auto late = ask(v2, "free");
    EXPECT_EQ(late.status, 503);
    EXPECT_EQ(late.header("Retry-After"), "1");
    HttpClient client(v2 ? server_->ports().v2_rest : server_->ports().tfs_rest);
    EXPECT_EQ(client.get("/healthz").status, 200);
    EXPECT_EQ(client.get("/readyz").status, 503);
    EXPECT_THAT(client.get("/metrics").body, HasSubstr("tenon_ready 0\n"));
  }
  for (const uint16_t port : {server_->ports().tfs_grpc, server_->ports().v2_grpc}) {
    EXPECT_EQ(call(port, "free").code, Code::Unavailable);
    GrpcClient client("127.0.0.1:" + std::to_string(port));
    EXPECT_EQ(client.call("/grpc.health.v1.Health/Check", ""), int_field(1, 2));
  }
  EXPECT_THAT(server_->core().metrics().text(), HasSubstr("tenon_refused_requests_total{reason=\"draining\"} 4\n"));
  gate_.open();
  first.join();
  drain.join();
}

}  // namespace
}  // namespace tenon::serve
