// What users of other servers complain about, a test each; docs/serving.md has the list (6, 9, 10 and 13 stand beside
// what they are about: rest_test.cpp and repository_test.cpp).
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <malloc.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cstdio>
#include <fstream>
#include <future>
#include <random>
#include <set>
#include <sstream>

#include "tenon/base/error.h"
#include "tenon/base/file.h"
#include "tenon/base/small_blocks.h"
#include "tenon/serve/grpc_client.h"
#include "tenon/serve/loadtest.h"
#include "tenon/serve/server.h"
#include "tenon/serve/tfs_json.h"
#include "tenon/serve/v2_wire.h"
#include "tests/serve/http_client.h"
#include "tests/serve/support.h"

namespace tenon::serve {
namespace {

using namespace testing_support;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;

// A server on free ports whose model "m" is a FakeModel that calls `before`.
ServerOptions fake(std::function<void(const Tensor&)> before, int threads = 1) {
  ServerOptions options;
  options.address = "127.0.0.1";
  options.tfs_rest_port = options.v2_rest_port = options.v2_grpc_port = 0;
  options.core.scheduler.threads = threads;
  options.core.repository.poll = milliseconds(20);
  options.core.repository.settle = milliseconds(0);
  options.core.repository.warm_up = false;
  options.core.repository.loader = [before = std::move(before)](const fs::path&, Precision) {
    return std::make_shared<FakeModel>(1, std::vector<int64_t>{-1, 2}, before);
  };
  options.http.threads = 2;
  return options;
}
std::vector<ModelConfig> one_model(LaneOptions lane = {}) {
  const fs::path base = fresh_folder("fake");
  write_file(base / "1" / "model.onnx", "never read");
  return {{.name = "m", .base_path = base, .lane = std::move(lane)}};
}
std::unique_ptr<Server> started(ServerOptions options, std::vector<ModelConfig> models) {
  auto server = std::make_unique<Server>(std::move(options), std::move(models));
  EXPECT_TRUE(server->core().repository().settle(seconds(20)));
  return server;
}
const std::string kPredict = "/v1/models/m:predict";
const std::string kBody = R"({"instances": [[1, 2]]})";

uint64_t abandoned(Server& server, const std::string& reason) {
  return server.core()
      .metrics()
      .counter("tenon_abandoned_requests_total", "", {{"model", "m"}, {"version", "1"}, {"reason", reason}})
      .value();
}

int64_t resident_bytes(const char* field = "VmRSS:") {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);) {
    if (line.starts_with(field)) return std::stoll(line.substr(std::strlen(field))) * 1024;
  }
  return 0;
}

TEST(Complaint01, RollingRestartLosesNoRequest) {
  const auto slow = [](const Tensor&) { std::this_thread::sleep_for(milliseconds(3)); };
  std::unique_ptr<Server> servers[2] = {started(fake(slow, 2), one_model()), started(fake(slow, 2), one_model())};
  std::atomic<uint16_t> ports[2] = {servers[0]->ports().tfs_rest, servers[1]->ports().tfs_rest};
  std::atomic<bool> stop{false};
  std::atomic<int> failed{0}, answered{0};
  // A client behind a balancer: it asks for readiness when it connects, and keeps its connection as long as it may.
  const auto client = [&](size_t first) {
    while (!stop) {
      for (size_t i = 0; i < 2 && !stop; ++i) {
        HttpClient connection(ports[(first + i) % 2]);
        if (!connection.connected() || connection.get("/readyz").status != 200) continue;
        HttpClient work(ports[(first + i) % 2]);
        while (!stop && work.connected()) {
          const auto answer = work.post(kPredict, kBody);
          if (answer.status == 200) {
            ++answered;
          } else {
            ++failed;
            break;
          }
          if (answer.header("Connection") == "close") break;
        }
      }
    }
  };
  std::vector<std::thread> clients;
  for (size_t i = 0; i < 4; ++i) clients.emplace_back(client, i);
  for (int round = 0; round < 4; ++round) {
    auto& server = servers[round % 2];
    std::this_thread::sleep_for(milliseconds(60));
    EXPECT_TRUE(server->stop({.grace = milliseconds(500), .patience = seconds(10)}));
    server = started(fake(slow, 2), one_model());
    ports[round % 2] = server->ports().tfs_rest;
  }
  stop = true;
  for (auto& thread : clients) thread.join();
  EXPECT_EQ(failed, 0);
  EXPECT_GT(answered, 100);
}

// Who loads by hand, or waits for a new configuration, does not hold up the end.
TEST(Complaint01, LoadsByHandDoNotHoldUpTheEnd) {
  Gate gate;
  auto options = fake({}, 1);
  options.control_port = 0;
  options.control_token = "a secret token";
  options.tfs_grpc.reload_config = true;
  options.core.repository.loader = [&](const fs::path&, Precision) -> ModelPtr {
    gate.wait();
    return std::make_shared<FakeModel>(1);
  };
  const auto models = one_model();
  auto server = std::make_unique<Server>(options, models);
  gate.wait_for_waiting(1);
  std::thread load([&] {
    const auto answer = HttpClient(server->ports().control)
                            .post("/v2/repository/models/m/load", "{}", "Authorization: Bearer a secret token\r\n");
    EXPECT_EQ(answer.status, 503);
    EXPECT_THAT(answer.body, HasSubstr("the server is stopping"));
  });
  GrpcClient grpc("127.0.0.1:" + std::to_string(server->ports().v2_grpc));
  std::promise<Status> reloaded;
  const std::string config = bytes_field(1, bytes_field(1, "m") + bytes_field(2, models[0].base_path.string()));
  grpc.call("/tensorflow.serving.ModelService/HandleReloadConfigRequest", bytes_field(1, bytes_field(1, config)),
            seconds(100), [&](const Status& status, const std::string&) { reloaded.set_value(status); });
  EXPECT_TRUE(eventually([&] { return server->core().admission().requests() == 2; }));
  EXPECT_TRUE(server->stop({.patience = seconds(20)})) << "the loader is still at it";
  load.join();
  EXPECT_TRUE(reloaded.get_future().get().ok()) << "its answer says that not all are ready";
  gate.open();
}

TEST(Complaint02, JsonTakesNoMoreThanBodyAndTensor) {
  if (!kKeepsBlocks) GTEST_SKIP() << "sanitizers take memory of their own";
  const int64_t count = 4'000'000;
  std::string body = "{\"instances\": [[";
  for (int64_t i = 0; i < count; ++i) body += i % 2 == 0 ? "1.5," : "0.25,";
  body.back() = ']';
  body += "]}";
  const FakeModel model(0, {-1, -1});
  ::malloc_trim(0);
  if (!(std::ofstream("/proc/self/clear_refs") << "5" << std::flush)) GTEST_SKIP() << "the high-water mark stays";
  const int64_t before = resident_bytes();
  const auto parsed = parse_predict(body, model);
  const int64_t peak = resident_bytes("VmHWM:");
  EXPECT_EQ(numel(shape_of(parsed.inputs[0].value)), count);
  EXPECT_LE(peak - before, count * 4 + (4 << 20)) << "body " << body.size();
}

TEST(Complaint03, ServingGoesOnWhileAnotherModelLoads) {
  Gate gate;
  std::atomic<int> nice{0};
  auto options = fake({}, 2);
  options.core.repository.loader = [&](const fs::path& path, Precision) -> ModelPtr {
    if (path.string().find("heavy") != std::string::npos) {
      nice = ::getpriority(PRIO_PROCESS, static_cast<id_t>(::gettid()));
      gate.wait();
    }
    return std::make_shared<FakeModel>(1);
  };
  auto models = one_model();
  auto server = started(options, models);
  const fs::path heavy = fresh_folder("heavy");
  write_file(heavy / "1" / "model.onnx", "never read");
  models.push_back({.name = "heavy", .base_path = heavy});
  server->core().repository().configure(models);
  gate.wait_for_waiting(1);
  HttpClient client(server->ports().tfs_rest);
  for (int i = 0; i < 100; ++i) ASSERT_EQ(client.post(kPredict, kBody).status, 200);  // none of them waits for the load
  EXPECT_GT(nice, 0);  // and the loader gives way to them
  EXPECT_EQ(client.post("/v1/models/heavy:predict", kBody).status, 503);
  gate.open();
  EXPECT_TRUE(eventually([&] { return client.post("/v1/models/heavy:predict", kBody).status == 200; }));
}

// Those who load by hand, or wait for a new configuration, wait on threads that nobody else needs.
TEST(Complaint03, LoadsByHandHoldUpNoLargeRequest) {
  Gate gate;
  auto options = fake({}, 2);
  options.control_port = 0;
  options.control_token = "a secret token";
  options.tfs_grpc.reload_config = true;
  options.core.repository.load_threads = 3;
  options.core.repository.loader = [&](const fs::path& path, Precision) -> ModelPtr {
    if (path.string().find("heavy") != std::string::npos) gate.wait();
    return std::make_shared<FakeModel>(1);
  };
  auto models = one_model();
  std::string configs;
  for (const char* name : {"heavy", "heavier"}) {
    const fs::path base = fresh_folder("heavy");
    write_file(base / "1" / "model.onnx", "never read");
    models.push_back({.name = name, .base_path = base});
  }
  for (const auto& m : models) configs += bytes_field(1, bytes_field(1, m.name) + bytes_field(2, m.base_path.string()));
  Server server(options, models);
  gate.wait_for_waiting(2);
  EXPECT_TRUE(eventually([&] { return !server.core().repository().ready_versions("m").empty(); }));
  std::vector<std::thread> loads;
  for (const char* name : {"heavy", "heavier"}) {
    loads.emplace_back([&, path = "/v2/repository/models/" + std::string(name) + "/load"] {
      EXPECT_EQ(HttpClient(server.ports().control).post(path, "{}", "Authorization: Bearer a secret token\r\n").status,
                200);
    });
  }
  EXPECT_TRUE(eventually([&] { return server.core().admission().requests() == 2; }));
  EXPECT_EQ(HttpClient(server.ports().tfs_rest).post(kPredict, kBody + std::string(1 << 20, ' ')).status, 200);
  // The same by gRPC.
  GrpcClient grpc("127.0.0.1:" + std::to_string(server.ports().v2_grpc));
  std::promise<Status> reloaded[2];
  for (auto& done : reloaded)
    grpc.call("/tensorflow.serving.ModelService/HandleReloadConfigRequest", bytes_field(1, bytes_field(1, configs)),
              seconds(100), [&](const Status& status, const std::string&) { done.set_value(status); });
  EXPECT_TRUE(eventually([&] { return server.core().admission().requests() == 4; }));
  const V2Message large{.ref = {.name = "m"}, .id = {}, .inputs = {{"x", rows_of(200000)}}, .outputs = {}};
  EXPECT_NO_THROW(grpc.call("/inference.GRPCInferenceService/ModelInfer", write_infer(large).to_string()));
  gate.open();
  for (auto& load : loads) load.join();
  for (auto& done : reloaded) EXPECT_TRUE(done.get_future().get().ok());
}

TEST(Complaint04, EveryAllowedBatchSizeIsWarmBeforeTheVersionIsAvailable) {
  std::mutex mutex;
  std::vector<int64_t> sizes;
  auto options = fake([&](const Tensor& x) {
    const std::lock_guard lock(mutex);
    sizes.push_back(x.shape(0));
  });
  options.core.repository.warm_up = true;
  LaneOptions lane;
  lane.batching = {.enabled = true, .max_batch_size = 8, .allowed_sizes = {1, 4, 8}};
  auto server = started(options, one_model(lane));
  const std::lock_guard lock(mutex);
  EXPECT_EQ(sizes, (std::vector<int64_t>{1, 4, 8}));
}

TEST(Complaint05, MemoryComesBackAfterUnload) {
  if (!kKeepsBlocks) GTEST_SKIP() << "sanitizers take memory of their own";
  const fs::path base = fresh_folder("weights");
  // x + sum of a weight of 8 MB
  std::string raw(size_t{8} << 20, '\1');
  const std::string weight =
      bytes_field(5, int_field(1, raw.size() / 4) + int_field(2, 1) + bytes_field(8, "w") + bytes_field(9, raw));
  write_file(base / "1" / "model.onnx",
             onnx_model(onnx_node("ReduceSum", {"w"}, "s") + onnx_node("Add", {"x", "s"}, "y") + weight +
                        onnx_value(11, "x", {-1}) + onnx_value(12, "y", {-1, -1})));
  auto options = fake({});
  options.core.repository.loader = load_model;
  options.core.repository.explicit_control = true;
  Server server(options, {{.name = "w", .base_path = base}});
  auto& repository = server.core().repository();
  const auto round = [&] {
    repository.load("w");
    ASSERT_EQ(repository.ready_versions("w").size(), 1U);
    repository.unload("w");
  };
  for (int i = 0; i < 10; ++i) round();
  const int64_t before = resident_bytes();
  for (int i = 0; i < 100; ++i) round();
  EXPECT_LE(resident_bytes(), before + before / 20 + (2 << 20));
}

// The thread that answers the last request of a version that was unloaded does not pay for its memory.
TEST(Complaint05, AModelIsFreedByAThreadMadeForIt) {
  Gate gate;
  std::atomic<bool> freed{false};
  std::thread::id ran, freed_by;
  auto options = fake({});
  options.core.repository.explicit_control = true;
  options.core.repository.loader = [&](const fs::path&, Precision) {
    const std::shared_ptr<void> goes_with_the_model(nullptr, [&](void*) {
      freed_by = std::this_thread::get_id();
      freed = true;
    });
    return std::make_shared<FakeModel>(1, std::vector<int64_t>{-1, 2}, [&, goes_with_the_model](const Tensor&) {
      ran = std::this_thread::get_id();
      gate.wait();
    });
  };
  Server server(options, one_model());
  auto& repository = server.core().repository();
  repository.load("m");
  std::thread client([&] { EXPECT_EQ(HttpClient(server.ports().tfs_rest).post(kPredict, kBody).status, 200); });
  gate.wait_for_waiting(1);
  std::thread unloader([&] { repository.unload("m"); });
  EXPECT_TRUE(eventually([&] { return repository.ready_versions("m").empty(); }));
  EXPECT_FALSE(freed) << "a request still runs";
  gate.open();
  client.join();
  unloader.join();
  EXPECT_TRUE(freed) << "unload() returns when the memory is back";
  EXPECT_NE(freed_by, ran);
  EXPECT_NE(freed_by, std::this_thread::get_id());
}

TEST(Complaint07, WorkEndsWithItsDeadlineOrItsClient) {
  Gate gate;
  std::atomic<int> runs{0};
  auto server = started(fake([&](const Tensor&) {
                          ++runs;
                          gate.wait();
                        }),
                        one_model());
  const uint16_t port = server->ports().tfs_rest;
  std::thread blocker([&] { EXPECT_EQ(HttpClient(port).post(kPredict, kBody).status, 200); });
  gate.wait_for_waiting(1);
  const auto late = HttpClient(port).post(kPredict, kBody, "Tenon-Timeout: 300\r\n");
  EXPECT_EQ(late.status, 504);
  EXPECT_EQ(abandoned(*server, "deadline_in_queue"), 1U);
  {
    HttpClient gone(port), pipelined(port);
    const std::string one = "POST " + kPredict +
                            " HTTP/1.1\r\nHost: t\r\nContent-Length: " + std::to_string(kBody.size()) + "\r\n\r\n" +
                            kBody;
    gone.send(one);
    pipelined.send(one + one);  // its end cannot be seen by reading alone
    EXPECT_TRUE(eventually([&] { return server->core().admission().requests() == 3; }));
  }
  EXPECT_TRUE(eventually([&] { return abandoned(*server, "cancelled") == 2; }));
  EXPECT_TRUE(eventually([&] { return server->core().admission().requests() == 1; }));
  gate.open();
  blocker.join();
  EXPECT_EQ(HttpClient(port).post(kPredict, kBody).status, 200);
  EXPECT_EQ(runs, 2);
}

TEST(Complaint08, EveryBatchSaysWhyItWasClosed) {
  LaneOptions lane;
  lane.batching = {.enabled = true, .max_batch_size = 4, .timeout = milliseconds(5)};
  auto server = started(fake({}), one_model(lane));
  HttpClient client(server->ports().tfs_rest);
  EXPECT_EQ(client.post(kPredict, kBody).status, 200);
  EXPECT_EQ(client.post(kPredict, R"({"instances": [[1,2],[1,2],[1,2],[1,2]]})").status, 200);
  EXPECT_EQ(client.post(kPredict, R"({"instances": [[1,2],[1,2],[1,2],[1,2],[1,2],[1,2]]})").status, 200);  // split
  const std::string page = client.get("/metrics").body;
  for (const char* reason : {"full", "timeout", "split"})
    EXPECT_THAT(page,
                HasSubstr(std::string("tenon_batches_total{model=\"m\",version=\"1\",reason=\"") + reason + "\"} 1\n"));
}

TEST(Complaint11, TlsOnRestAndMetricsAndCertificatesChangeWithoutARestart) {
  if (output_of("command -v openssl").empty() || output_of("command -v curl").empty())
    GTEST_SKIP() << "openssl and curl are needed to make a certificate and to speak TLS";
  const fs::path folder = fresh_folder("tls");
  const std::string key = folder / "key.pem", certificate = folder / "certificate.pem";
  const auto make = [&](const std::string& organisation) {
    output_of("openssl req -x509 -newkey rsa:2048 -nodes -days 1 -subj /CN=localhost/O=" + organisation +
              " -addext subjectAltName=DNS:localhost,IP:127.0.0.1 -keyout " + key + " -out " + certificate);
  };
  make("first");
  auto options = fake({});
  options.tls = TlsFiles{certificate, key, {}};
  options.tfs_grpc_port = options.control_port = 0;
  options.control_token = "a secret token";
  auto server = started(options, one_model());
  const std::string base = "https://127.0.0.1:" + std::to_string(server->ports().tfs_rest);
  const auto curl = [&](const std::string& rest) { return output_of("curl -s --cacert " + certificate + " " + rest); };
  EXPECT_EQ(curl(base + "/readyz"), "ready\n");
  EXPECT_THAT(curl(base + "/metrics"), HasSubstr("tenon_ready 1"));
  EXPECT_EQ(curl("-d '" + kBody + "' " + base + kPredict), "{\n    \"predictions\": [[2.0, 3.0]]\n}");
  EXPECT_EQ(HttpClient(server->ports().tfs_rest).get("/readyz").status, 0);  // no plain text
  const auto& p = server->ports();
  const uint16_t ports[] = {p.tfs_rest, p.v2_rest, p.control, p.tfs_grpc, p.v2_grpc};
  const auto shown = [&](uint16_t port) {
    return output_of("openssl s_client -alpn h2 -connect 127.0.0.1:" + std::to_string(port) +
                     " </dev/null 2>/dev/null | openssl x509 -noout -subject");
  };
  for (const uint16_t port : ports) EXPECT_THAT(shown(port), HasSubstr("first"));
  make("second");
  for (const uint16_t port : ports)
    EXPECT_TRUE(eventually([&] { return shown(port).find("second") != std::string::npos; }, seconds(15))) << port;
  std::ofstream(certificate) << "broken";
  std::this_thread::sleep_for(milliseconds(2200));
  for (const uint16_t port : ports) EXPECT_THAT(shown(port), HasSubstr("second"));  // the last one that was right
  EXPECT_THROW(Server(options, {}), FileError);
}

// No ARM64 builds: what is written for one processor has another way beside it. Only these files name a processor (the
// levels' own are left out elsewhere), none uses intrinsics, and they are valid C++ for ARM64 where clang can say so.
TEST(Complaint12, NothingButKernelsKnowsTheProcessor) {
  const fs::path root = fs::path(TENON_SOURCE_DIR) / "tenon";
  const std::set<std::string> known{"base/pause.h",
                                    "compile/llvm/jit.cpp",
                                    "device/cpu/amx.cpp",
                                    "device/cpu/bf16_blocks.cpp",
                                    "device/cpu/level.cpp",
                                    "device/cpu/level_v3.cpp",
                                    "device/cpu/level_v4.cpp",
                                    "device/cpu/level_i8_v3.cpp",
                                    "device/cpu/level_i8_v4.cpp",
                                    "device/cpu/level_i8_vnni.cpp",
                                    "device/cpu/product_i8.cpp"};
  // These ask for what the compiler's target has; they are read below as ARM64's.
  const std::set<std::string> tiles{"base/pause.h",
                                    "device/cpu/level_amx.cpp",
                                    "device/cpu/level_bf16.cpp",
                                    "device/cpu/level_bf16_attention.cpp",
                                    "device/cpu/level_elementwise.h",
                                    "device/cpu/level_i8_pack.h",
                                    "device/cpu/level_i8_rescale.h",
                                    "device/cpu/level_i8_taps.h",
                                    "device/cpu/level_lanes.h",
                                    "device/cpu/level_tile.h"};
  size_t files = 0;
  for (const auto& entry : fs::recursive_directory_iterator(root)) {
    if (entry.path().extension() != ".cpp" && entry.path().extension() != ".h") continue;
    ++files;
    const std::string name = fs::relative(entry.path(), root), text = read_text_file(entry.path());
    for (const char* word : {"immintrin.h", "x86intrin.h", "__builtin_ia32", "asm volatile", "__asm"})
      EXPECT_TRUE(text.find(word) == std::string::npos || tiles.contains(name)) << name << " uses " << word;
    EXPECT_TRUE(text.find("__x86_64__") == std::string::npos || known.contains(name)) << name;
  }
  EXPECT_GT(files, 300U);
  if (output_of("command -v clang++-19").empty()) GTEST_SKIP() << "clang 19 is needed to read them as ARM64's compiler";
  const fs::path stubs = fresh_folder("stubs");
  write_file(stubs / "gnu" / "stubs-32.h", "");  // the headers of this machine's C library are asked for another's
  for (const std::string name :
       {"device/cpu/amx.cpp", "device/cpu/bf16_blocks.cpp", "device/cpu/level.cpp", "device/cpu/level_amx.cpp",
        "device/cpu/level_bf16.cpp", "device/cpu/level_bf16_attention.cpp", "device/cpu/level_i8_amx.cpp",
        "device/cpu/level_i8_v2.cpp", "device/cpu/level_i8_v3.cpp", "device/cpu/level_v2.cpp",
        "device/cpu/level_v3.cpp", "device/cpu/product_i8.cpp", "base/small_blocks.cpp", "base/thread_pool.cpp"}) {
    const std::string errors =
        output_of("clang++-19 --target=aarch64-linux-gnu -std=c++20 -I" + std::string(TENON_SOURCE_DIR) + " -isystem " +
                  stubs.string() +
                  " -isystem /usr/include/c++/12 -isystem /usr/include/x86_64-linux-gnu/c++/12 -isystem "
                  "/usr/include/x86_64-linux-gnu -fsyntax-only " +
                  (root / name).string() + " 2>&1");
    EXPECT_THAT(errors, testing::Not(HasSubstr("error:"))) << name;
  }
}

// The model waits at a gate, so what is admitted does not hang on the machine's speed; scripts/soak measures goodput.
TEST(Complaint14, OverloadKeepsGoodputAndAnswersWithTheRightCodes) {
  Gate gate;
  std::atomic<int> runs{0};
  LaneOptions lane;
  lane.max_queued = 16;
  auto server = started(fake([&](const Tensor&) {
                          ++runs;
                          gate.wait();
                        }),
                        one_model(lane));
  const uint16_t port = server->ports().tfs_rest;
  std::atomic<int> refused{0}, late{0}, answered{0}, hurried{0};
  std::vector<std::thread> clients;
  const auto ask = [&](const std::string& header) {
    clients.emplace_back([&, header] {
      const auto answer = HttpClient(port).post(kPredict, kBody, header);
      EXPECT_NE(answer.status == 503, answer.header("Retry-After").empty());
      ++(answer.status == 503 ? refused : answer.status == 504 ? late : answered);
      if (!header.empty()) ++hurried;
      EXPECT_TRUE(answer.status == 200 || answer.status == 503 || answer.status == 504) << answer.status;
    });
  };
  ask("");
  gate.wait_for_waiting(1);
  for (int i = 0; i < 64; ++i) ask(i % 2 == 0 ? "" : "Tenon-Timeout: 100\r\n");
  // One runs and 16 wait; the rest hear so at once. Those in the queue whose time ends leave it for others.
  EXPECT_TRUE(eventually([&] { return refused + late + server->core().admission().requests() == 65; }, seconds(20)));
  EXPECT_TRUE(eventually([&] { return hurried == 32; }, seconds(20)));
  EXPECT_GE(refused, 64 - 16 - late);
  EXPECT_EQ(answered, 0);
  EXPECT_TRUE(eventually([&] { return abandoned(*server, "deadline_in_queue") == static_cast<uint64_t>(late); }));
  gate.open();
  for (auto& client : clients) client.join();
  EXPECT_EQ(refused + late + answered, 65);
  EXPECT_GE(answered, 1);
  EXPECT_EQ(runs, answered) << "what was refused or late never reached the model: all work done was of use";
  EXPECT_TRUE(eventually([&] { return server->core().admission().requests() == 0; }));
}

// Four times what the model can do, from the load generator: only these codes, and every request has one answer.
TEST(Complaint14, AStormIsAccountedFor) {
  std::atomic<uint64_t> runs{0};
  auto options = fake([&](const Tensor&) {
    ++runs;
    std::this_thread::sleep_for(milliseconds(5));
  });
  options.tfs_rest.timeout = milliseconds(200);
  LaneOptions lane;
  lane.max_queued = 16;
  auto server = started(options, one_model(lane));
  LoadOptions load;
  load.url = "http://127.0.0.1:" + std::to_string(server->ports().tfs_rest) + "/v1/models/m";
  load.connections = 64;
  load.warm_up = milliseconds(0);
  load.duration = milliseconds(1500);
  load.rate = 800;
  const LoadResult storm = run_load(load);
  uint64_t failed = 0, late = 0;
  for (const auto& [code, count] : storm.errors) {
    EXPECT_TRUE(code == "503" || code == "504") << code << ": " << count;
    failed += count;
    if (code == "504") late += count;
  }
  EXPECT_EQ(storm.answered + failed, storm.sent);
  EXPECT_GT(storm.answered, 0U);
  EXPECT_GE(runs, storm.answered);
  EXPECT_LE(runs, storm.answered + late) << "refused requests were executed";
  EXPECT_TRUE(eventually([&] { return server->core().admission().requests() == 0; }));
}

TEST(Complaint15, ClientsThatDieLeaveNothingBehind) {
  std::atomic<int> thrown{0};
  auto server = started(fake(
                            [&](const Tensor& x) {
                              if (x.to_vector<float>()[0] == 13 && ++thrown > 0) throw std::runtime_error("broken op");
                            },
                            2),
                        one_model());
  const std::string bad = R"({"instances": [[13, 2]]})";
  std::mt19937 random(1);
  for (int i = 0; i < 300; ++i) {
    HttpClient client(i % 2 == 0 ? server->ports().tfs_rest : server->ports().v2_rest);
    const std::string& body = i % 5 == 0 ? bad : kBody;
    std::string whole = "POST " + kPredict + " HTTP/1.1\r\nHost: t\r\nContent-Length: " + std::to_string(body.size()) +
                        "\r\n\r\n" + body;
    client.send(whole.substr(0, random() % (whole.size() + 1)));
    if (i % 3 == 0) client.send(whole);
    // and gone
  }
  EXPECT_TRUE(eventually(
      [&] { return server->core().admission().requests() == 0 && server->core().admission().bytes() == 0; }));
  EXPECT_TRUE(eventually(
      [&] { return server->core().metrics().text().find("tenon_http_connections 0\n") != std::string::npos; }));
  HttpClient client(server->ports().tfs_rest);
  EXPECT_EQ(client.post(kPredict, bad).status, 500);  // an op that breaks is this request's error, not the server's
  EXPECT_EQ(client.post(kPredict, kBody).status, 200);
}

}  // namespace
}  // namespace tenon::serve
