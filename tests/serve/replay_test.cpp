// What real clients sent and what came back (goldens/transcript.json, recorded by clients/clients_test.py), replayed
// without them: the same questions must get the same answers.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tenon/base/file.h"
#include "tenon/serve/base64.h"
#include "tenon/serve/grpc_client.h"
#include "tenon/serve/server.h"
#include "tests/serve/http_client.h"
#include "tests/serve/support.h"

namespace tenon::serve {
namespace {

using namespace testing_support;
using Json = nlohmann::json;

TEST(Replay, RecordedClientsGetTheSameAnswers) {
  const fs::path goldens = fs::path(TENON_SOURCE_DIR) / "tests/serve/goldens";
  ServerOptions options;
  options.address = "127.0.0.1";
  options.tfs_rest_port = options.v2_rest_port = options.v2_grpc_port = 0;
  options.core.version = "0.1.0";
  options.core.repository.poll = std::chrono::milliseconds(20);
  options.core.repository.settle = std::chrono::milliseconds(0);
  const VersionPolicy all{VersionPolicy::Kind::All, 1, {}};
  Server server(options, {{.name = "half_plus_two",
                           .base_path = goldens / "models/half_plus_two",
                           .policy = all,
                           .labels = {{"stable", 123}}},
                          {.name = "echo", .base_path = goldens / "models/echo", .policy = all}});
  ASSERT_TRUE(server.core().repository().settle(std::chrono::seconds(20)));
  GrpcClient grpc("127.0.0.1:" + std::to_string(server.ports().v2_grpc));
  const Json transcript = Json::parse(read_text_file(goldens / "transcript.json"));
  int http_calls = 0, grpc_calls = 0;
  for (const auto& entry : transcript) {
    const std::string request = from_base64(entry["request"].get<std::string>());
    if (entry.contains("grpc")) {
      ++grpc_calls;
      const std::string method = entry["grpc"];
      try {
        const std::string answer = grpc.call(method, request);
        EXPECT_EQ(base64(answer), entry.value("answer", "")) << method;
      } catch (const RequestError& error) {
        EXPECT_EQ(name(error.status_code), entry.value("code", "OK")) << method;
      }
      continue;
    }
    ++http_calls;
    HttpClient client(entry["http"] == "tfs" ? server.ports().tfs_rest : server.ports().v2_rest);
    client.send(request);
    const auto answer = client.read();
    EXPECT_EQ(answer.status, entry["status"].get<int>()) << request.substr(0, 200);
    EXPECT_EQ(base64(answer.body), entry["answer"].get<std::string>()) << request.substr(0, 200) << answer.body;
  }
  EXPECT_GT(http_calls, 15);
  EXPECT_GT(grpc_calls, 10);
}

}  // namespace
}  // namespace tenon::serve
