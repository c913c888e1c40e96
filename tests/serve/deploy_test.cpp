// What is in deploy/: the dashboard asks only for metrics that the server has; the manifests use only flags, ports and
// paths that it has.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <regex>
#include <set>

#include "tenon/base/file.h"
#include "tenon/serve/server.h"
#include "tests/serve/http_client.h"
#include "tests/serve/support.h"

namespace tenon::serve {
namespace {

using namespace testing_support;
using std::chrono::milliseconds;

const std::string kDeploy = std::string(TENON_SOURCE_DIR) + "/deploy/";

std::set<std::string> matches(const std::string& text, const std::string& pattern) {
  std::set<std::string> out;
  const std::regex regex(pattern);
  for (std::sregex_iterator it(text.begin(), text.end(), regex), end; it != end; ++it) out.insert((*it)[1]);
  return out;
}

TEST(Deploy, EachMetricOfTheDashboardIsOnThePage) {
  ServerOptions options;
  options.address = "127.0.0.1";
  options.v2_rest_port = 0;
  options.core.repository.settle = milliseconds(0);
  const fs::path base = fresh_folder("deploy");
  write_file(base / "1" / "model.onnx", affine_onnx(0.5F, 2));
  Server server(options, {{.name = "m", .base_path = base}});
  ASSERT_TRUE(server.core().repository().settle(std::chrono::seconds(20)));
  HttpClient client(server.ports().v2_rest);
  ASSERT_EQ(
      client.post("/v2/models/m/infer", R"({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1], "data": [1]}]})")
          .status,
      200);
  const std::string page = client.get("/metrics").body;
  const auto there = matches(page, "(?:^|\n)(tenon_[a-z_0-9]+)");
  const auto asked = matches(read_text_file(kDeploy + "grafana.json"), "(tenon_[a-z_0-9]+)");
  EXPECT_GE(asked.size(), 15U);
  for (const auto& name : asked) EXPECT_TRUE(there.contains(name)) << name << " is not on /metrics";

  const auto dashboard = nlohmann::json::parse(read_text_file(kDeploy + "grafana.json"));
  std::set<int> ids;
  for (const auto& panel : dashboard.at("panels")) {
    EXPECT_TRUE(ids.insert(panel.at("id").get<int>()).second);
    for (const auto& target : panel.at("targets")) {
      const auto expression = target.at("expr").get<std::string>();
      EXPECT_EQ(std::count(expression.begin(), expression.end(), '('),
                std::count(expression.begin(), expression.end(), ')'));
      for (const auto& label : matches(expression, R"(by \(([a-z, ]+)\))")) {
        for (const auto& one : matches(label, "([a-z]+)"))
          EXPECT_THAT(page, testing::HasSubstr(one + "=\"")) << expression;
      }
    }
  }
}

// All kernels are in the library: the server needs no memory that is written and then run.
TEST(Deploy, TheUnitLetsNoMachineCodeBeMade) {
  EXPECT_THAT(read_text_file(kDeploy + "tenon.service"), testing::HasSubstr("MemoryDenyWriteExecute=yes"));
}

// The image's build copies the checkout: not what was built there, which is large and another machine's.
TEST(Deploy, TheImageIsBuiltFromSourcesAlone) {
  const std::string ignored = read_text_file(std::string(TENON_SOURCE_DIR) + "/.dockerignore");
  for (const char* name : {"\n.git\n", "\nbuild/\n"}) EXPECT_THAT(ignored, testing::HasSubstr(name));
}

TEST(Deploy, ProbesAskForPathsThatAnswer) {
  ServerOptions options;
  options.address = "127.0.0.1";
  options.v2_rest_port = 0;
  Server server(options, {});
  HttpClient client(server.ports().v2_rest);
  for (const auto* file : {"kubernetes.yaml", "kserve-runtime.yaml", "Dockerfile"}) {
    const std::string text = read_text_file(kDeploy + file);
    const auto paths = matches(text, R"((/healthz|/readyz|/metrics)\b)");
    EXPECT_TRUE(paths.contains("/healthz")) << file;
    for (const auto& path : paths) EXPECT_EQ(client.get(path).status, 200) << file << ' ' << path;
  }
}

}  // namespace
}  // namespace tenon::serve
