// Both gRPC services over real channels, with messages written here by field number.
#include <gmock/gmock.h>
#include <grpcpp/generic/generic_stub.h>
#include <grpcpp/grpcpp.h>
#include <gtest/gtest.h>

#include <future>

#include "tenon/serve/grpc_client.h"
#include "tenon/serve/loadtest.h"
#include "tenon/serve/tfs_wire.h"
#include "tenon/serve/v2_wire.h"
#include "tests/serve/grpc_steps.h"
#include "tests/serve/server_support.h"
#include "tests/serve/support.h"

namespace tenon::serve {
namespace {

using namespace testing_support;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;

ServerOptions reloadable() {
  ServerOptions options = quick_server();
  options.core.repository.settle = milliseconds(40);
  options.core.version = "test";
  options.tfs_grpc.reload_config = true;
  return options;
}

class GrpcTest : public testing::Test {
 protected:
  GrpcTest() : base_(fresh_folder("models")) {
    write_file(base_ / "half" / "123" / "model.onnx", affine_onnx(0.5F, 2));
    server_ =
        std::make_unique<Server>(reloadable(), std::vector<ModelConfig>{{.name = "half", .base_path = base_ / "half"}});
    EXPECT_TRUE(server_->core().repository().settle(seconds(20)));
    tfs_ = std::make_unique<GrpcClient>("127.0.0.1:" + std::to_string(server_->ports().tfs_grpc));
    v2_ = std::make_unique<GrpcClient>("127.0.0.1:" + std::to_string(server_->ports().v2_grpc));
  }
  std::string tfs(const std::string& method, const std::string& message) {
    return tfs_->call("/tensorflow.serving." + method, message);
  }
  std::string v2(const std::string& method, const std::string& message) {
    return v2_->call("/inference.GRPCInferenceService/" + method, message);
  }
  static Status failing(const std::function<void()>& fn) {
    try {
      fn();
    } catch (const RequestError& error) {
      return {error.status_code, error.what(), 0};
    }
    return {};
  }
  fs::path base_;
  std::unique_ptr<Server> server_;
  std::unique_ptr<GrpcClient> tfs_, v2_;
};

std::string floats(const std::vector<float>& v) { return {reinterpret_cast<const char*>(v.data()), v.size() * 4}; }
// TensorProto{dtype: DT_FLOAT, tensor_shape{dim{size}}, tensor_content or float_val}
std::string tensor_proto(const std::vector<float>& values, bool content, int64_t size) {
  return int_field(1, 1) + bytes_field(2, bytes_field(2, int_field(1, static_cast<uint64_t>(size)))) +
         bytes_field(content ? 4 : 5, floats(values));
}
std::string predict_request(const std::string& tensor, const std::string& spec = bytes_field(1, "half")) {
  return bytes_field(1, spec) + bytes_field(2, bytes_field(1, "x") + bytes_field(2, tensor));
}
std::vector<float> values_of(const std::vector<NamedValue>& outputs) {
  return std::get<Tensor>(outputs.at(0).value).to_vector<float>();
}
WireReader reader(const std::string& bytes, std::span<const std::byte>& keep) {
  keep = std::as_bytes(std::span(bytes));
  return WireReader(keep);
}

TEST_F(GrpcTest, PredictReadsBothEncodings) {
  for (bool content : {true, false}) {
    const std::string answer = tfs("PredictionService/Predict", predict_request(tensor_proto({1, 2, 5}, content, 3)));
    std::span<const std::byte> keep;
    EXPECT_EQ(values_of(read_predict_answer(reader(answer, keep), nullptr)), (std::vector<float>{2.5, 3, 4.5}));
    // outputs is field 1, model_spec field 2 {name 1, version 2 {value 1}, signature_name 3}
    EXPECT_THAT(answer, HasSubstr(bytes_field(2, bytes_field(1, "half") + bytes_field(2, int_field(1, 123)) +
                                                     bytes_field(3, "serving_default"))));
  }
  // The last value of a typed list repeats.
  const std::string answer = tfs("PredictionService/Predict", predict_request(tensor_proto({4}, false, 3)));
  std::span<const std::byte> keep;
  EXPECT_EQ(values_of(read_predict_answer(reader(answer, keep), nullptr)), (std::vector<float>{4, 4, 4}));
}

TEST_F(GrpcTest, PredictErrors) {
  const auto predict = [&](const std::string& message) {
    return failing([&] { tfs("PredictionService/Predict", message); });
  };
  EXPECT_EQ(predict(predict_request(tensor_proto({1}, true, 1), bytes_field(1, "nope"))).code, Code::NotFound);
  EXPECT_THAT(predict(predict_request(tensor_proto({1}, true, 2))).message, HasSubstr("has 4 bytes; its shape"));
  EXPECT_EQ(
      predict(predict_request(tensor_proto({1, 2}, true, 3), bytes_field(1, "half") + bytes_field(2, int_field(1, 9))))
          .code,
      Code::InvalidArgument);
  EXPECT_EQ(predict("\xff\xff\xff").code, Code::InvalidArgument);
  EXPECT_EQ(predict(std::string(1, '\x0a')).code, Code::InvalidArgument);
  EXPECT_EQ(predict("").code, Code::InvalidArgument);
  EXPECT_EQ(failing([&] { tfs("SessionService/SessionRun", ""); }).code, Code::Unimplemented);
}

TEST_F(GrpcTest, ClassifyRegressAndMultiInference) {
  const auto example = [](float x) {
    const std::string feature = bytes_field(2, bytes_field(1, floats({x})));
    return bytes_field(1, bytes_field(1, bytes_field(1, bytes_field(1, "x") + bytes_field(2, feature))));
  };
  const std::string input = bytes_field(2, bytes_field(1, example(1) + example(2)));
  const std::string spec = bytes_field(1, bytes_field(1, "half"));
  const std::string value = [](float v) { return bytes_field(1, std::string(1, '\x0d') + floats({v})); }(2.5F);
  EXPECT_THAT(tfs("PredictionService/Regress", spec + input), HasSubstr(value));
  EXPECT_THAT(tfs("PredictionService/Classify", spec + input), HasSubstr(std::string(1, '\x15') + floats({3})));
  const std::string task =
      bytes_field(1, bytes_field(1, bytes_field(1, "half")) + bytes_field(2, "tensorflow/serving/regress"));
  EXPECT_THAT(tfs("PredictionService/MultiInference", task + input), HasSubstr(value));
}

TEST_F(GrpcTest, StatusMetadataReloadAndHealth) {
  const std::string spec = bytes_field(1, bytes_field(1, "half"));
  EXPECT_EQ(tfs("ModelService/GetModelStatus", spec),
            bytes_field(1, int_field(1, 123) + int_field(2, 30) + bytes_field(3, "")));
  const std::string metadata = tfs("PredictionService/GetModelMetadata", spec + bytes_field(2, "signature_def"));
  EXPECT_THAT(metadata, HasSubstr("type.googleapis.com/tensorflow.serving.SignatureDefMap"));
  EXPECT_THAT(metadata, HasSubstr("tensorflow/serving/predict"));
  EXPECT_EQ(failing([&] { tfs("PredictionService/GetModelMetadata", spec); }).code, Code::InvalidArgument);
  EXPECT_EQ(failing([&] { tfs("PredictionService/GetModelMetadata", bytes_field(2, "signature_def")); }).message,
            "Missing ModelSpec");
  EXPECT_EQ(tfs_->call("/grpc.health.v1.Health/Check", ""), int_field(1, 1));
  EXPECT_EQ(failing([&] { tfs_->call("/grpc.health.v1.Health/Check", bytes_field(1, "nope")); }).code, Code::NotFound);
  write_file(base_ / "more" / "7" / "model.onnx", affine_onnx(1, 1));
  const auto config = [&](const std::string& name, const std::string& folder) {
    return bytes_field(1, bytes_field(1, name) + bytes_field(2, (base_ / folder).string()));
  };
  // What says nothing of models does not mean that there are none.
  for (const std::string& nothing : {std::string(), bytes_field(1, ""), bytes_field(1, bytes_field(2, ""))})
    EXPECT_EQ(failing([&] { tfs("ModelService/HandleReloadConfigRequest", nothing); }).code, Code::InvalidArgument);
  EXPECT_NO_THROW(tfs("PredictionService/Predict", predict_request(tensor_proto({1}, true, 1))));
  const std::string both = bytes_field(1, bytes_field(1, config("half", "half") + config("more", "more")));
  EXPECT_EQ(tfs("ModelService/HandleReloadConfigRequest", both), bytes_field(1, ""));
  EXPECT_THAT(tfs("ModelService/GetModelStatus", bytes_field(1, bytes_field(1, "more"))), HasSubstr(int_field(1, 7)));
  EXPECT_EQ(tfs("ModelService/HandleReloadConfigRequest", bytes_field(1, bytes_field(1, config("more", "more")))),
            bytes_field(1, ""));
  EXPECT_TRUE(eventually([&] {
    return failing([&] { tfs("PredictionService/Predict", predict_request(tensor_proto({1}, true, 1))); }).code ==
           Code::NotFound;
  }));
}

TEST_F(GrpcTest, HealthOfEachServiceByName) {
  for (const std::string service : {"", "ModelService", "PredictionService", "tensorflow.serving.PredictionService",
                                    "inference.GRPCInferenceService", "grpc.health.v1.Health"})
    EXPECT_EQ(v2_->call("/grpc.health.v1.Health/Check", service.empty() ? "" : bytes_field(1, service)),
              int_field(1, 1))
        << service;
  server_->core().leave();
  EXPECT_EQ(v2_->call("/grpc.health.v1.Health/Check", ""), int_field(1, 2));
}

// As grpc.health.v1 has it: the status at once, each change, SERVICE_UNKNOWN (3) for what is not known, no end.
TEST_F(GrpcTest, HealthIsWatched) {
  grpc::GenericStub stub(
      grpc::CreateChannel("127.0.0.1:" + std::to_string(server_->ports().v2_grpc), grpc::InsecureChannelCredentials()));
  GrpcSteps step;
  const auto begun = [&](grpc::ClientContext& context, const std::string& service) {
    auto stream = stub.PrepareCall(&context, "/grpc.health.v1.Health/Watch", &step.queue);
    const grpc::Slice slice(service.empty() ? "" : bytes_field(1, service));
    EXPECT_TRUE(step([&] { stream->StartCall(nullptr); }));
    EXPECT_TRUE(step([&] { stream->WriteLast(grpc::ByteBuffer(&slice, 1), {}, nullptr); }));
    return stream;
  };
  grpc::ClientContext all, one, none, gone;
  const auto server = begun(all, ""), service = begun(one, "inference.GRPCInferenceService"),
             unknown = begun(none, "no.such.Service"), left = begun(gone, "");
  grpc::ByteBuffer answer;
  const auto next = [&](auto& stream) {
    EXPECT_TRUE(step([&] { stream->Read(&answer, nullptr); }));
    return text_of(answer);
  };
  EXPECT_EQ(next(server), int_field(1, 1));
  EXPECT_EQ(next(service), int_field(1, 1));
  EXPECT_EQ(next(unknown), int_field(1, 3));
  EXPECT_EQ(next(left), int_field(1, 1));
  gone.TryCancel();
  server_->core().leave();
  EXPECT_EQ(next(server), int_field(1, 2));
  EXPECT_EQ(next(service), int_field(1, 2));
  // The streams hold nobody up when the server stops: they end, and say why.
  auto stopped = std::async(std::launch::async, [&] { return server_->stop({.patience = seconds(20)}); });
  for (const auto* stream : {&server, &service, &unknown}) {
    EXPECT_FALSE(step([&] { (*stream)->Read(&answer, nullptr); }));
    grpc::Status status;
    EXPECT_TRUE(step([&] { (*stream)->Finish(&status, nullptr); }));
    EXPECT_EQ(status.error_code(), grpc::StatusCode::UNAVAILABLE) << status.error_message();
  }
  EXPECT_TRUE(stopped.get());
  step.queue.Shutdown();
}

TEST_F(GrpcTest, OpenInferenceProtocol) {
  EXPECT_EQ(v2("ServerLive", ""), int_field(1, 1));
  EXPECT_EQ(v2("ServerReady", ""), int_field(1, 1));
  EXPECT_EQ(v2("ModelReady", bytes_field(1, "half")), int_field(1, 1));
  EXPECT_EQ(v2("ModelReady", bytes_field(1, "nope")), "");
  EXPECT_THAT(v2("ServerMetadata", ""), HasSubstr(bytes_field(1, "tenon") + bytes_field(2, "test")));
  EXPECT_THAT(v2("ModelMetadata", bytes_field(1, "half")), HasSubstr(bytes_field(3, "onnx_onnxv1")));
  const std::string described = bytes_field(1, "x") + bytes_field(2, "FP32") + bytes_field(3, varint(3));
  const std::string head = bytes_field(1, "half") + bytes_field(3, "id-1");
  const std::string raw = v2("ModelInfer", head + bytes_field(5, described) + bytes_field(7, floats({1, 2, 5})));
  std::span<const std::byte> keep;
  EXPECT_EQ(values_of(read_infer_answer(reader(raw, keep), nullptr)), (std::vector<float>{2.5, 3, 4.5}));
  EXPECT_THAT(raw, HasSubstr(bytes_field(3, "id-1")));
  EXPECT_THAT(raw, HasSubstr(bytes_field(6, floats({2.5, 3, 4.5}))));
  const std::string contents = described + bytes_field(5, bytes_field(6, floats({1, 2, 5})));
  EXPECT_EQ(v2("ModelInfer", head + bytes_field(5, contents)), raw);
  const auto infer = [&](const std::string& rest) {
    return failing([&] { v2("ModelInfer", bytes_field(1, "half") + rest); });
  };
  EXPECT_THAT(infer(bytes_field(5, contents) + bytes_field(7, floats({1, 2, 5}))).message, HasSubstr("raw contents"));
  EXPECT_THAT(infer(bytes_field(5, described) + bytes_field(7, floats({1}))).message, HasSubstr("has 4 bytes"));
  EXPECT_THAT(infer(bytes_field(5, described)).message, HasSubstr("has 0 values"));
  EXPECT_EQ(infer(bytes_field(2, "x1")).code, Code::InvalidArgument);
  EXPECT_THAT(v2("ModelConfig", bytes_field(1, "half")), HasSubstr(bytes_field(17, "tenon").substr(2)));
  EXPECT_THAT(v2("ModelConfig", bytes_field(1, "half")), HasSubstr("batching is not switched on for this model"));
  EXPECT_THAT(v2("ModelStatistics", bytes_field(1, "half")), HasSubstr(int_field(4, 2)));  // requests so far
  EXPECT_THAT(v2("RepositoryIndex", ""), HasSubstr("READY"));
  EXPECT_EQ(failing([&] { v2("RepositoryModelUnload", bytes_field(2, "half")); }).code, Code::PermissionDenied);
  for (const std::string kind : {"System", "Cuda"}) {
    EXPECT_EQ(v2(kind + "SharedMemoryStatus", ""), "");
    EXPECT_EQ(v2(kind + "SharedMemoryUnregister", ""), "");
    EXPECT_EQ(failing([&] { v2(kind + "SharedMemoryUnregister", bytes_field(1, "r")); }).code, Code::InvalidArgument);
    EXPECT_EQ(failing([&] { v2(kind + "SharedMemoryRegister", ""); }).code, Code::Unimplemented);
  }
  const std::string region =
      bytes_field(4, bytes_field(1, "shared_memory_region") + bytes_field(2, bytes_field(3, "r")));
  EXPECT_THAT(infer(bytes_field(5, described + region)).message, HasSubstr("shared memory regions are not supported"));
}

// Nothing that was answered is missing from the counters: neither what cannot be read nor what fits no model.
TEST_F(GrpcTest, RequestsThatCannotBeReadAreCounted) {
  const auto counted = [&](const std::string& model, const std::string& version, const std::string& api) {
    return server_->core()
        .metrics()
        .counter("tenon_requests_total", "",
                 {{"model", model}, {"version", version}, {"api", api}, {"code", "INVALID_ARGUMENT"}})
        .value();
  };
  const std::string half = bytes_field(1, "half"), broken = "\xff\xff\xff";
  const auto fails = [&](const std::string& method, const std::string& message) {
    EXPECT_EQ(failing([&] {
                if (method == "ModelInfer")
                  v2(method, message);
                else
                  tfs("PredictionService/" + method, message);
              }).code,
              Code::InvalidArgument)
        << method;
  };
  fails("ModelInfer", broken);
  fails("ModelInfer", half + broken);
  fails("ModelInfer", half + bytes_field(2, "x1"));
  EXPECT_EQ(counted("", "", "v2_grpc"), 1U);
  EXPECT_EQ(counted("half", "", "v2_grpc"), 2U);
  const std::string spec = bytes_field(1, half), input = bytes_field(2, bytes_field(1, bytes_field(1, "")));
  fails("Predict", "");
  fails("Predict", broken);
  fails("Predict", spec + broken);
  fails("Classify", spec);                                                   // no example
  fails("Regress", bytes_field(1, half + bytes_field(3, "other")) + input);  // no such signature
  fails("MultiInference", bytes_field(1, spec) + broken);
  EXPECT_EQ(counted("", "", "tfs_grpc"), 2U);
  EXPECT_EQ(counted("half", "", "tfs_grpc"), 3U);
  fails("Regress", spec + input);  // an example without the feature x: then the version is known
  EXPECT_EQ(counted("half", "123", "tfs_grpc"), 2U);
}

TEST_F(GrpcTest, WhatIsNotSupportedIsNamed) {
  const std::string x = bytes_field(1, "x") + bytes_field(2, "FP32") + bytes_field(3, varint(1));
  const std::string request = bytes_field(1, "half") + bytes_field(5, x) + bytes_field(7, floats({1}));
  const auto parameter = [](const std::string& key, uint64_t v) {
    return bytes_field(1, key) + bytes_field(2, int_field(2, v));
  };
  const auto output = [&](uint64_t classes) {
    return bytes_field(6, bytes_field(1, "y") + bytes_field(2, parameter("classification", classes)));
  };
  EXPECT_NO_THROW(v2("ModelInfer", request + output(0) + bytes_field(4, parameter("sequence_id", 0))));
  const Status classes = failing([&] { v2("ModelInfer", request + output(3)); });
  EXPECT_EQ(classes.code, Code::InvalidArgument);
  EXPECT_THAT(classes.message, HasSubstr("'classification' (class_count) is not supported"));
  const Status sequence = failing([&] { v2("ModelInfer", request + bytes_field(4, parameter("sequence_id", 9))); });
  EXPECT_EQ(sequence.code, Code::InvalidArgument);
  EXPECT_THAT(sequence.message, HasSubstr("'sequence_id' is not supported"));
}

// Loading by hand: off; on REST's port, and then said so; over gRPC with the token, by those who ask for that.
TEST(GrpcControl, LoadsByHandOnlyWhereItIsAskedFor) {
  const fs::path base = fresh_folder("models");
  write_file(base / "1" / "model.onnx", affine_onnx(0.5F, 2));
  for (const int stage : {0, 1, 2}) {
    ServerOptions options = quick_server();
    if (stage > 0) {
      options.control_port = 0;
      options.control_token = "a secret token";
    }
    options.grpc_control = stage == 2;
    Server server(options, {{.name = "m", .base_path = base}});
    ASSERT_TRUE(server.core().repository().settle(seconds(20)));
    const auto channel =
        grpc::CreateChannel("127.0.0.1:" + std::to_string(server.ports().v2_grpc), grpc::InsecureChannelCredentials());
    grpc::GenericStub stub(channel);
    const auto call = [&](const std::string& method, const std::string& message, const std::string& authorization) {
      grpc::ClientContext context;
      if (!authorization.empty()) context.AddMetadata("authorization", authorization);
      const grpc::Slice slice(message);
      const grpc::ByteBuffer request(&slice, 1);
      grpc::ByteBuffer answer;
      std::promise<grpc::Status> done;
      stub.UnaryCall(&context, "/inference.GRPCInferenceService/" + method, grpc::StubOptions(), &request, &answer,
                     [&](const grpc::Status& status) { done.set_value(status); });
      return done.get_future().get();
    };
    const std::string model = bytes_field(2, "m"), token = "Bearer a secret token";
    const auto unload = call("RepositoryModelUnload", model, token);
    if (stage < 2) {
      EXPECT_EQ(unload.error_code(), grpc::PERMISSION_DENIED);
      EXPECT_THAT(unload.error_message(),
                  HasSubstr(stage == 0 ? "not switched on (--control-port, --grpc-control)"
                                       : "REST takes them on port " + std::to_string(server.ports().control)));
      EXPECT_EQ(server.core().repository().ready_versions("m").size(), 1U);
      continue;
    }
    EXPECT_TRUE(unload.ok()) << unload.error_message();
    EXPECT_TRUE(server.core().repository().ready_versions("m").empty());
    for (const char* wrong : {"", "Bearer a secret tokem", "a secret token"})
      EXPECT_EQ(call("RepositoryModelLoad", model, wrong).error_code(), grpc::UNAUTHENTICATED) << wrong;
    const std::string file = bytes_field(3, bytes_field(1, "file:1/model.onnx") + bytes_field(2, bytes_field(3, "x")));
    EXPECT_EQ(call("RepositoryModelLoad", model + file, token).error_code(), grpc::UNIMPLEMENTED);
    EXPECT_TRUE(call("RepositoryModelLoad", model, token).ok());
    EXPECT_EQ(server.core().repository().ready_versions("m").size(), 1U);
  }
}

TEST_F(GrpcTest, LargeTensorsCrossWithoutHarm) {
  std::vector<float> x(300000);
  for (size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 1000);
  const std::string described = bytes_field(1, "x") + bytes_field(2, "FP32") + bytes_field(3, varint(x.size()));
  const std::string raw =
      v2("ModelInfer", bytes_field(1, "half") + bytes_field(5, described) + bytes_field(7, floats(x)));
  std::span<const std::byte> keep;
  const auto y = values_of(read_infer_answer(reader(raw, keep), nullptr));
  ASSERT_EQ(y.size(), x.size());
  for (size_t i = 0; i < x.size(); i += 997) EXPECT_EQ(y[i], x[i] * 0.5F + 2);
  const std::string answer =
      tfs("PredictionService/Predict", predict_request(tensor_proto(x, true, static_cast<int64_t>(x.size()))));
  EXPECT_EQ(values_of(read_predict_answer(reader(answer, keep), nullptr)), y);
}

TEST_F(GrpcTest, TheLoadGeneratorsCountsAgreeWithTheServers) {
  struct Case {
    std::string url;
    std::string api;
  };
  const auto& ports = server_->ports();
  const auto url = [](const char* scheme, uint16_t port, const char* path) {
    return std::string(scheme) + "://127.0.0.1:" + std::to_string(port) + path;
  };
  for (const auto& c : {Case{url("http", ports.v2_rest, "/v2/models/half"), "v2_rest"},
                        Case{url("http", ports.tfs_rest, "/v1/models/half"), "tfs_rest"},
                        Case{url("grpc", ports.v2_grpc, "/half"), "v2_grpc"},
                        Case{url("grpc", ports.tfs_grpc, "/tensorflow/half"), "tfs_grpc"}}) {
    LoadOptions load;
    load.url = c.url;
    load.rate = 200;
    load.duration = milliseconds(500);
    load.warm_up = milliseconds(0);
    load.connections = 4;
    const LoadResult result = run_load(load);
    EXPECT_GT(result.answered, 50U) << c.url;
    EXPECT_TRUE(result.errors.empty()) << c.url << testing::PrintToString(result.errors);
    EXPECT_EQ(server_->core()
                  .metrics()
                  .counter("tenon_requests_total", "",
                           {{"model", "half"}, {"version", "123"}, {"api", c.api}, {"code", "OK"}})
                  .value(),
              result.answered)
        << c.url;
  }
}

TEST(LoadTest, HistogramKeepsQuantiles) {
  LatencyHistogram h;
  for (int i = 1; i <= 10000; ++i) h.add(std::chrono::microseconds(i * 10));
  EXPECT_NEAR(static_cast<double>(h.quantile(0.5).count()), 50e6, 1e6);
  EXPECT_NEAR(static_cast<double>(h.quantile(0.99).count()), 99e6, 2e6);
  EXPECT_NEAR(static_cast<double>(h.quantile(1).count()), 100e6, 2e6);
  EXPECT_EQ(LatencyHistogram().quantile(0.5).count(), 0);
}

TEST_F(GrpcTest, ReflectionListsAndDescribesWhatIsServed) {
  for (const std::string version : {"v1", "v1alpha"}) {
    const auto ask = [&](int field, const std::string& text) {
      return v2_->call("/grpc.reflection." + version + ".ServerReflection/ServerReflectionInfo",
                       bytes_field(1, "here") + bytes_field(field, text));
    };
    const std::string list = ask(7, "*");
    for (const std::string service :
         {"tensorflow.serving.PredictionService", "tensorflow.serving.ModelService", "inference.GRPCInferenceService",
          "grpc.health.v1.Health", "grpc.reflection.v1.ServerReflection", "grpc.reflection.v1alpha.ServerReflection"}) {
      EXPECT_THAT(list, HasSubstr(service));
      EXPECT_THAT(ask(4, service), HasSubstr(".proto")) << "each can be described";
    }
    EXPECT_THAT(list, HasSubstr(bytes_field(1, "here")));
    const std::string described = ask(4, "inference.ModelMetadataResponse.TensorMetadata");
    EXPECT_THAT(described, HasSubstr("ModelStreamInfer"));
    EXPECT_THAT(ask(3, "inference.proto"), HasSubstr("ModelStreamInfer"));
    EXPECT_THAT(ask(4, "no.such.Message"), HasSubstr("'no.such.Message' is not known"));
    EXPECT_THAT(ask(6, "inference.ModelInferRequest"), HasSubstr("there are no extensions"));
    EXPECT_THAT(ask(9, ""), HasSubstr("asks for nothing"));
  }
}

TEST(Wire, ReadsAcrossPieces) {
  const std::string message = int_field(1, 300) + bytes_field(2, "hello") + bytes_field(3, floats({1, 2, 3})) +
                              bytes_field(4, bytes_field(1, "inner"));
  for (size_t cut = 0; cut <= message.size(); ++cut) {
    const auto all = std::as_bytes(std::span(message));
    const std::span<const std::byte> pieces[] = {all.first(cut), {}, all.subspan(cut)};
    WireReader in(pieces);
    ASSERT_TRUE(in.next());
    EXPECT_EQ(in.varint(), 300U);
    ASSERT_TRUE(in.next());
    EXPECT_EQ(in.text(), "hello");
    ASSERT_TRUE(in.next());
    std::vector<float> list;
    in.repeated([&](WireReader& r) { list.push_back(r.real32()); });
    EXPECT_EQ(list, (std::vector<float>{1, 2, 3}));
    ASSERT_TRUE(in.next());
    WireReader inner = in.sub();
    ASSERT_TRUE(inner.next());
    EXPECT_EQ(inner.text(), "inner");
    EXPECT_FALSE(in.next());
  }
  for (size_t cut = 1; cut < message.size(); ++cut) {  // every damage is an error or a shorter message, never a crash
    const auto all = std::as_bytes(std::span(message)).first(cut);
    try {
      WireReader in(all);
      while (in.next()) in.skip();
    } catch (const RequestError& error) {
      EXPECT_THAT(error.what(), HasSubstr("no protobuf"));
    }
  }
}

// A tensor that came in one piece, and is aligned there, is not copied: it is where the transport put it.
TEST(Wire, TensorsStayWhereTheyCame) {
  const std::vector<float> x{1, 2, 3, 4};
  int stayed = 0;
  for (size_t pad = 0; pad < 16; ++pad) {
    const std::string tensor = bytes_field(1, "x") + bytes_field(2, "FP32") + bytes_field(3, varint(4));
    const std::string v2 = bytes_field(1, "m") + bytes_field(3, std::string(pad, 'i')) + bytes_field(5, tensor) +
                           bytes_field(7, floats(x));
    const std::string tfs = predict_request(tensor_proto(x, true, 4), bytes_field(1, std::string(pad, 'm')));
    for (const bool tensorflow : {false, true}) {
      const std::string& message = tensorflow ? tfs : v2;
      const auto bytes = std::as_bytes(std::span(message));
      const auto owner = std::make_shared<int>();
      const auto inputs =
          tensorflow ? read_predict(WireReader(bytes), owner).inputs : read_infer(WireReader(bytes), owner).inputs;
      EXPECT_EQ(values_of(inputs), x);
      const auto* at = std::get<Tensor>(inputs.at(0).value).data<std::byte>().data();
      const bool inside = at >= bytes.data() && at < bytes.data() + bytes.size();
      const auto where = reinterpret_cast<uintptr_t>(bytes.data()) + message.find(floats(x));
      EXPECT_EQ(inside, where % alignof(float) == 0) << pad;
      EXPECT_EQ(owner.use_count() > 1, inside) << "it keeps what holds it";
      stayed += inside ? 1 : 0;
    }
  }
  EXPECT_EQ(stayed, 8);
}

TEST(Wire, TensorsOfEveryTypeSurviveBothEncodings) {
  for (const DType dtype : {DType::F32, DType::F64, DType::F16, DType::BF16, DType::I8, DType::U8, DType::I16,
                            DType::U16, DType::I32, DType::U32, DType::I64, DType::U64, DType::Bool}) {
    Tensor x = empty({3, 2}, dtype);
    std::byte* bytes = mutable_data(x);
    const auto n = static_cast<size_t>(byte_size(dtype, 6));
    for (size_t i = 0; i < n; ++i) bytes[i] = static_cast<std::byte>(dtype == DType::Bool ? i % 2 : i * 7 + 1);
    for (bool lists : {false, true}) {
      const std::string written = write_tensor(x, lists).to_string();
      std::span<const std::byte> keep;
      const Value read = read_tensor(reader(written, keep), nullptr, "x");
      EXPECT_EQ(shape_of(read), x.shape());
      const auto out = std::get<Tensor>(read).data<std::byte>();
      EXPECT_EQ(std::memcmp(out.data(), x.data<std::byte>().data(), n), 0) << name(dtype) << lists;
    }
  }
  const Strings texts{{2}, {"a", std::string("b\0c", 3)}};
  std::span<const std::byte> keep;
  const std::string written = write_tensor(texts, false).to_string();
  EXPECT_EQ(std::get<Strings>(read_tensor(reader(written, keep), nullptr, "x")).values, texts.values);
}

}  // namespace
}  // namespace tenon::serve
