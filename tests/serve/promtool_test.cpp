// The page of metrics as Prometheus' own tool reads it.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>

#include "tenon/serve/core.h"
#include "tenon/serve/loadtest.h"
#include "tenon/serve/server.h"
#include "tests/serve/http_client.h"
#include "tests/serve/support.h"

namespace tenon::serve {
namespace {

using namespace testing_support;
using std::chrono::milliseconds;

// As a part of the server does that makes its counters under a lock which the gauge's answer takes too.
TEST(Metrics, AGaugeMayMakeAMetricWhenItIsAsked) {
  Metrics metrics;
  metrics.gauge("tenon_asked", "", {}, [&] {
    metrics.counter("tenon_made", "").add(2);
    return 3.0;
  });
  const std::string page = metrics.text();
  EXPECT_NE(page.find("tenon_asked 3\n"), std::string::npos) << page;
  EXPECT_NE(page.find("tenon_made 2\n"), std::string::npos) << page;
}

TEST(Metrics, CellsThatNobodyHoldsGoAfterAWhile) {
  Metrics metrics;
  const auto labels = [](const std::string& model, size_t version) {
    return Labels{{"model", model}, {"version", std::to_string(version)}};
  };
  const auto count = [&](const std::string& model, size_t version) {
    Labels more = labels(model, version);
    more.emplace_back("api", "v2_rest");
    metrics.counter("tenon_some", "", more).add();
  };
  const auto shown = [&](const std::string& model, size_t version) {
    return metrics.text().find("model=\"" + model + "\",version=\"" + std::to_string(version) + "\"") !=
           std::string::npos;
  };
  const auto first = metrics.hold(labels("m", 0), "m");
  count("m", 0);
  auto other = metrics.hold(labels("other", 5), "other");
  count("other", 5);
  other.reset();
  constexpr size_t kMany = Metrics::kKeptUnheld + 10;
  for (size_t v = 1; v <= kMany; ++v) {
    const auto held = metrics.hold(labels("m", v), "m");
    auto twice = metrics.hold(labels("m", v), "m");
    twice.reset();
    count("m", v);
  }
  EXPECT_TRUE(shown("m", 0)) << "is held";
  EXPECT_TRUE(shown("other", 5)) << "another model's";
  for (size_t v = 1; v <= kMany; ++v) EXPECT_EQ(shown("m", v), v > kMany - Metrics::kKeptUnheld) << v;
  // One that comes back counts on.
  const auto again = metrics.hold(labels("m", kMany), "m");
  count("m", kMany);
  EXPECT_NE(metrics.text().find("version=\"" + std::to_string(kMany) + "\",api=\"v2_rest\"} 2\n"), std::string::npos);
}

// A model that is published anew every few minutes, for months.
TEST(Metrics, VersionsThatComeAndGoMakeNoPageWithoutEnd) {
  Metrics metrics;
  std::map<int64_t, size_t> sizes;
  for (int64_t v = 1001; v <= 1200; ++v) {
    Lane lane("m", v, std::make_shared<FakeModel>(1), {}, metrics);
    lane.count_request(Api::V2Rest, Code::Ok, milliseconds(1));
    EXPECT_EQ(lane.totals().answered, 1U);
    sizes[v] = metrics.text().size();
  }
  EXPECT_EQ(sizes[1200], sizes[1020]);
}

TEST(Metrics, ModelsThatComeAndGoMakeNoPageWithoutEnd) {
  Metrics metrics;
  const Labels stays{{"model", "stays"}};
  const auto held = metrics.hold(stays, "stays");
  metrics.counter("tenon_some", "", stays).add();
  std::map<size_t, size_t> lines;
  for (size_t m = 1; m <= 3 * Metrics::kKeptInAll; ++m) {
    const Labels labels{{"model", std::to_string(m)}};
    const auto briefly = metrics.hold(labels, std::to_string(m));
    metrics.counter("tenon_some", "", labels).add();
    const std::string page = metrics.text();
    lines[m] = static_cast<size_t>(std::count(page.begin(), page.end(), '\n'));
  }
  EXPECT_EQ(lines[Metrics::kKeptInAll], 2 + Metrics::kKeptInAll) << "a heading, and every model";
  EXPECT_EQ(lines[3 * Metrics::kKeptInAll], 3 + Metrics::kKeptInAll)
      << "those gone, the last one and the one that stays";
  EXPECT_NE(metrics.text().find("tenon_some{model=\"stays\"} 1\n"), std::string::npos);
}

// A model that gets a canary every few minutes, for months: its targets and shadows are versions.
TEST(Metrics, TargetsThatComeAndGoMakeNoPageWithoutEnd) {
  Metrics metrics;
  Traffic traffic("m", {}, metrics, {});
  std::map<int64_t, std::ptrdiff_t> lines;
  for (int64_t v = 1001; v <= 1200; ++v) {
    traffic.set(
        {.split = {{.label = "stable", .weight = 1},
                   {.version = v, .weight = 1, .rollback = RollbackOptions{.max_error_rate = 0, .min_requests = 1}}},
         .shadow = ShadowOptions{.version = v + 1}});
    Traffic::TargetPtr canary;
    while (!canary || canary->options.version != v)
      canary = traffic.choose({}, [](const SplitTarget&) { return true; });
    traffic.observe(canary, Code::Internal, milliseconds(1));
    const std::string page = metrics.text();
    EXPECT_NE(page.find("tenon_rollbacks_total{model=\"m\",target=\"" + std::to_string(v)), std::string::npos) << v;
    lines[v] = std::count(page.begin(), page.end(), '\n');
  }
  EXPECT_EQ(lines[1200], lines[1030]);
  EXPECT_NE(metrics.text().find("tenon_split_share{model=\"m\",target=\"stable\"} 1\n"), std::string::npos);
}

// All that is told of a model and not of a version: splits, shadows, rollbacks, logs, and requests that were refused.
TEST(Metrics, ModelsThatAreGoneTakeAllThatIsToldOfThemAlong) {
  const fs::path folder = fresh_folder("models");
  Core core({});
  constexpr int kModels = 150;
  const auto name = [](int m) { return "model" + std::to_string(1000 + m); };
  for (int m = 0; m < kModels; ++m) {
    const TrafficOptions traffic{.split = {{.version = 1, .weight = 1}, {.label = "canary", .weight = 1}},
                                 .shadow = ShadowOptions{.version = 3}};
    core.repository().configure({{.name = name(m),
                                  .base_path = folder / name(m),
                                  .traffic = traffic,
                                  .request_log = RequestLogOptions{.file = {.prefix = folder / "logs" / name(m)}}}});
    core.count_refused(Api::V2Rest, {}, name(m), {Code::Unavailable, "", 1});
  }
  const std::string last = name(kModels - 1);
  const std::string shown = core.metrics().text();
  for (const std::string& series :
       {"tenon_split_requests_total{model=\"" + last + "\",target=\"canary\"} 0",
        "tenon_split_share{model=\"" + last + "\",target=\"1\"} 0.5",
        "tenon_shadow_requests_total{model=\"" + last + "\",target=\"3\",result=\"same\"} 0",
        "tenon_log_records_total{log=\"requests/" + last + "\",result=\"written\"} 0",
        "tenon_log_off{log=\"requests/" + last + "\"} 0",
        "tenon_requests_total{model=\"" + last + "\",version=\"\",api=\"v2_rest\",code=\"UNAVAILABLE\"} 1"})
    EXPECT_NE(shown.find(series + "\n"), std::string::npos) << series;
  // Two targets, a shadow, a log and the model itself: five sets of labels for each.
  constexpr int kGone = kModels - static_cast<int>(Metrics::kKeptInAll) / 5 - 2;
  static_assert(kGone > 50);
  std::string stays;
  EXPECT_TRUE(eventually(
      [&] {
        const std::string page = core.metrics().text();
        stays.clear();
        for (int m = 0; m < kGone; ++m) stays += page.find(name(m)) == std::string::npos ? "" : name(m) + " ";
        return stays.empty();
      },
      std::chrono::seconds(10)))
      << stays;
}

// The same of TensorFlow Serving's page, where a warm-up is told by the version's path.
TEST(Metrics, TheLegacyPageHasAnEndToo) {
  Metrics metrics, legacy;
  const auto serve = [&](const std::string& model, int64_t version) {
    auto lane = std::make_unique<Lane>(model, version, std::make_shared<FakeModel>(1), LaneOptions(), metrics);
    const std::string path = "/models/" + model + "/" + std::to_string(version);
    lane->tfs_metrics().count_warm_up(legacy, path, version % 2 ? Code::Ok : Code::Internal, milliseconds(1), 3);
    lane->tfs_metrics().count(legacy, {.took = milliseconds(1), .examples = 2});
    lane->tfs_metrics().count_logged(legacy, Code::Ok);
    return lane;
  };
  const auto stays = serve("stays", 1001);
  auto before = serve("m", 1001);
  std::map<int64_t, std::ptrdiff_t> lines;
  for (int64_t v = 1002; v <= 1200; ++v) {
    before = serve("m", v);
    const std::string page = legacy.text();
    lines[v] = std::count(page.begin(), page.end(), '\n');
  }
  EXPECT_EQ(lines[1200], lines[1020]);
  const std::string page = legacy.text();
  EXPECT_NE(page.find("{model_path=\"/models/stays/1001\","), std::string::npos);
  EXPECT_NE(page.find("{model_path=\"/models/m/1200\","), std::string::npos);
  EXPECT_EQ(page.find("{model_path=\"/models/m/1100\","), std::string::npos);
  // What is told of the model itself goes on over its versions.
  EXPECT_NE(page.find(":tensorflow:serving:request_count{model_name=\"m\",status=\"OK\"} 200\n"), std::string::npos);
  EXPECT_NE(page.find(":tensorflow:serving:request_example_count_total{model=\"m\"} 400\n"), std::string::npos);
  EXPECT_NE(page.find(":tensorflow:serving:request_log_count{model_name=\"m\",status_code=\"OK\"} 200\n"),
            std::string::npos);
}

TEST(Metrics, PromtoolAcceptsThePage) {
  if (std::system("command -v promtool >/dev/null 2>&1") != 0)
    GTEST_SKIP() << "promtool is not there (Debian: apt-get install prometheus)";
  const fs::path base = fresh_folder("models");
  write_file(base / "1" / "model.onnx", affine_onnx(0.5F, 2));
  ServerOptions options;
  options.address = "127.0.0.1";
  options.tfs_grpc_port = options.tfs_rest_port = options.v2_rest_port = options.v2_grpc_port = 0;
  options.core.repository.settle = milliseconds(0);
  Server server(options, {{.name = "a \"quoted\" name", .base_path = base}, {.name = "m", .base_path = base}});
  ASSERT_TRUE(server.core().repository().settle(std::chrono::seconds(60)));
  const auto& ports = server.ports();
  for (const std::string& url : {"http://127.0.0.1:" + std::to_string(ports.v2_rest) + "/v2/models/m",
                                 "http://127.0.0.1:" + std::to_string(ports.tfs_rest) + "/v1/models/m",
                                 "grpc://127.0.0.1:" + std::to_string(ports.v2_grpc) + "/m",
                                 "grpc://127.0.0.1:" + std::to_string(ports.tfs_grpc) + "/tensorflow/m"}) {
    LoadOptions load;
    load.url = url;
    load.duration = milliseconds(100);
    load.warm_up = milliseconds(0);
    EXPECT_GT(run_load(load).answered, 0U) << url;
  }
  HttpClient client(ports.v2_rest);
  client.post("/v2/models/none/infer", "{}");  // a request that fails is counted too
  const fs::path page = base / "page";
  write_file(page, client.get("/metrics").body);
  FILE* tool = ::popen(("promtool check metrics < " + page.string() + " 2>&1").c_str(), "r");
  std::string said;
  for (char buffer[256]; fgets(buffer, sizeof(buffer), tool) != nullptr;) said += buffer;
  EXPECT_EQ(::pclose(tool), 0) << said;
  EXPECT_EQ(said, "");
}

}  // namespace
}  // namespace tenon::serve
