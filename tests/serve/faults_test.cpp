// Faults while the server works: peers that are slow, half open or idle, versions that are corrupt, configurations that
// change, and the books, which must agree with the load generator's. scripts/soak does the same for longer, from
// outside.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/resource.h>

#include <random>
#include <set>

#include "tenon/serve/loadtest.h"
#include "tests/serve/http_client.h"
#include "tests/serve/server_support.h"
#include "tests/serve/support.h"

namespace tenon::serve {
namespace {

using namespace testing_support;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;

// Version N answers x + N.
void write_version(const fs::path& base, int version) {
  write_file(base / std::to_string(version) / "model.onnx", affine_onnx(1, static_cast<float>(version)));
}
const std::string kInfer = "/v2/models/m/infer";
const std::string kBody = R"({"inputs":[{"name":"x","datatype":"FP32","shape":[1],"data":[0]}]})";

std::string gauge(Server& server, const std::string& name) {
  const std::string page = server.core().metrics().text();
  const size_t at = page.find("\n" + name + " ") + name.size() + 2;
  return page.substr(at, page.find('\n', at) - at);
}
// The sum of a counter's cells whose labels hold all of `labels`.
uint64_t total(Server& server, const std::string& name, const std::vector<std::string>& labels) {
  std::istringstream page(server.core().metrics().text());
  uint64_t sum = 0;
  for (std::string line; std::getline(page, line);) {
    if (!line.starts_with(name + "{")) continue;
    bool all = true;
    for (const auto& label : labels) all = all && line.find(label) != std::string::npos;
    if (all) sum += std::stoull(line.substr(line.rfind(' ')));
  }
  return sum;
}

class FaultsTest : public testing::Test {
 protected:
  explicit FaultsTest(ServerOptions options = quick_server()) : base_(fresh_folder("faults")) {
    write_version(base_, 1);
    server_ = std::make_unique<Server>(std::move(options), std::vector<ModelConfig>{{.name = "m", .base_path = base_}});
    EXPECT_TRUE(server_->core().repository().settle(seconds(20)));
  }
  std::string url(const std::string& path = "/v2/models/m") {
    return "http://127.0.0.1:" + std::to_string(server_->ports().v2_rest) + path;
  }
  fs::path base_;
  std::unique_ptr<Server> server_;
};

class SlowPeersTest : public FaultsTest {
 protected:
  static ServerOptions impatient() {
    ServerOptions options = quick_server();
    options.http.header_timeout = options.http.body_timeout = milliseconds(700);
    return options;
  }
  SlowPeersTest() : FaultsTest(impatient()) {}
};

TEST_F(SlowPeersTest, HalfOpenConnectionsAndSlowWritersHoldUpNobodyAndAreClosed) {
  const std::string head =
      "POST " + kInfer + " HTTP/1.1\r\nHost: t\r\nContent-Length: " + std::to_string(kBody.size()) + "\r\n\r\n";
  std::vector<HttpClient> half, slow;
  for (size_t i = 0; i < 100; ++i) {
    half.emplace_back(server_->ports().v2_rest);
    half.back().send((head + kBody).substr(0, 1 + i * (head.size() + kBody.size() - 2) / 100));
    slow.emplace_back(server_->ports().v2_rest);
  }
  const auto begin = Clock::now();
  size_t sent = 0;
  int answered = 0;
  while (Clock::now() - begin < milliseconds(2000)) {  // one byte to each, and a whole request beside them
    for (auto& client : slow)
      client.send(std::string(1, (head + kBody)[std::min(sent, head.size() + kBody.size() - 1)]));
    ++sent;
    HttpClient client(server_->ports().v2_rest);
    ASSERT_EQ(client.post(kInfer, kBody).status, 200);
    ++answered;
    std::this_thread::sleep_for(milliseconds(20));
  }
  EXPECT_GT(answered, 0);
  for (auto& client : half) EXPECT_TRUE(client.closed());
  for (auto& client : slow) EXPECT_TRUE(client.closed());
  EXPECT_TRUE(eventually([&] { return gauge(*server_, "tenon_http_connections") == "0"; }));
  EXPECT_TRUE(eventually([&] {
    return gauge(*server_, "tenon_admitted_requests") == "0" && gauge(*server_, "tenon_admitted_bytes") == "0";
  }));
}

TEST_F(FaultsTest, ThousandsOfIdleConnectionsCostLittle) {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  if (limit.rlim_cur < limit.rlim_max) {
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
  }
  const auto count = std::min<size_t>(3000, (limit.rlim_cur - 200) / 2);  // both ends are in this process
  if (count < 500) GTEST_SKIP() << "only " << limit.rlim_cur << " descriptors are allowed";
  std::vector<HttpClient> idle;
  for (size_t i = 0; i < count; ++i) {
    idle.emplace_back(server_->ports().v2_rest);
    ASSERT_TRUE(idle.back().connected()) << i;
    if (i % 10 == 0) {
      ASSERT_EQ(idle.back().get("/healthz").status, 200);
    }
  }
  EXPECT_TRUE(
      eventually([&] { return gauge(*server_, "tenon_http_connections") == std::to_string(count); }, seconds(20)));
  LoadOptions load;
  load.url = url();
  load.rate = 300;
  load.duration = milliseconds(1500);
  load.warm_up = milliseconds(100);
  const LoadResult result = run_load(load);
  EXPECT_EQ(result.answered, result.sent) << testing::PrintToString(result.errors);
  for (size_t i = 0; i < count; i += 97) EXPECT_EQ(idle[i].get("/healthz").status, 200) << "still open";
}

TEST_F(FaultsTest, ACorruptVersionDroppedInChangesNothing) {
  std::atomic<bool> stop{false};
  std::atomic<int> wrong{0}, right{0};
  std::thread client([&] {
    HttpClient http(server_->ports().v2_rest);
    while (!stop) {
      const auto answer = http.post(kInfer, kBody);
      ++(answer.status == 200 && answer.body.find("\"data\":[1.0]") != std::string::npos ? right : wrong);
    }
  });
  write_file(base_ / "2" / "model.onnx", "this is no model");
  write_file(base_ / "3" / "model.onnx", affine_onnx(1, 3).substr(0, 40));  // cut off
  write_file(base_ / "4" / "manifest.json", R"({"files": {"model.onnx": {"bytes": 5, "murmur3_128": "no"}}})");
  write_file(base_ / "4" / "model.onnx", affine_onnx(1, 4));
  const auto reason = [&](int64_t version) {
    for (const auto& entry : server_->core().repository().index()) {
      if (entry.version == version) return entry.reason;
    }
    return std::string();
  };
  EXPECT_TRUE(eventually([&] { return !reason(3).empty() || !reason(4).empty(); }, seconds(10)));
  std::this_thread::sleep_for(milliseconds(200));
  stop = true;
  client.join();
  EXPECT_EQ(wrong, 0);
  EXPECT_GT(right, 0);
  fs::remove_all(base_ / "3");
  fs::remove_all(base_ / "4");
  write_version(base_, 5);  // and a good one is taken
  EXPECT_TRUE(eventually(
      [&] { return HttpClient(server_->ports().v2_rest).post(kInfer, kBody).body.find("[5.0]") != std::string::npos; },
      seconds(10)));
}

TEST_F(FaultsTest, ConfigurationsThatChangeAllTheTimeGiveNoWrongAnswer) {
  write_version(base_, 2);
  write_version(base_, 3);
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> answered{0}, wrong{0}, failed{0};
  std::vector<std::thread> clients;
  for (int i = 0; i < 3; ++i) {
    clients.emplace_back([&, i] {
      HttpClient http(server_->ports().v2_rest);
      std::mt19937 random(static_cast<unsigned>(i));
      while (!stop) {
        const int version = static_cast<int>(random() % 4);  // 0: whichever
        const auto answer =
            http.post(version == 0 ? kInfer : "/v2/models/m/versions/" + std::to_string(version) + "/infer", kBody);
        if (answer.status == 200) {
          ++answered;
          const size_t at = answer.body.find("\"model_version\":\"") + 17;
          const std::string said = answer.body.substr(at, 1);
          // The answer is that of the version that it names, and that one is the one asked for.
          if (answer.body.find("[" + said + ".0]") == std::string::npos ||
              (version != 0 && said != std::to_string(version)))
            ++wrong;
        } else if (version == 0 || (answer.status != 404 && answer.status != 503)) {
          ++failed;  // a version may be away for a moment, the model never is
        }
      }
    });
  }
  std::mt19937 random(7);
  int changes = 0;
  for (const auto until = Clock::now() + milliseconds(2500); Clock::now() < until; ++changes) {
    ModelConfig config{.name = "m", .base_path = base_};
    const auto kind = random() % 3;
    if (kind == 0) config.policy = {.kind = VersionPolicy::Kind::All};
    if (kind == 1)
      config.policy = {.kind = VersionPolicy::Kind::Latest, .latest = 1 + static_cast<int64_t>(random() % 3)};
    if (kind == 2)
      config.policy = {.kind = VersionPolicy::Kind::Specific, .specific = {1 + static_cast<int64_t>(random() % 3)}};
    server_->core().repository().configure({config});
    std::this_thread::sleep_for(milliseconds(random() % 30));
  }
  stop = true;
  for (auto& thread : clients) thread.join();
  EXPECT_EQ(wrong, 0U);
  EXPECT_EQ(failed, 0U);
  EXPECT_GT(answered, 0U);
  EXPECT_GT(changes, 0);
}

TEST_F(FaultsTest, TheBooksAgreeWithTheLoadGenerators) {
  const auto count = [&](const std::string& path, const std::string& api) {
    LoadOptions load;
    load.url = path;
    load.rate = 400;
    load.duration = milliseconds(1000);
    load.warm_up = milliseconds(0);
    const uint64_t before = total(*server_, "tenon_requests_total", {"api=\"" + api + "\"", "code=\"OK\""});
    const uint64_t buckets = total(*server_, "tenon_request_duration_seconds_count", {"api=\"" + api + "\""});
    const LoadResult result = run_load(load);
    EXPECT_EQ(result.answered, result.sent) << testing::PrintToString(result.errors);
    EXPECT_GT(result.sent, 200U);
    EXPECT_EQ(total(*server_, "tenon_requests_total", {"api=\"" + api + "\"", "code=\"OK\""}) - before, result.sent)
        << api;
    EXPECT_EQ(total(*server_, "tenon_request_duration_seconds_count", {"api=\"" + api + "\""}) - buckets, result.sent);
    return result.sent;
  };
  uint64_t sent = count(url(), "v2_rest");
  const uint64_t answers = total(*server_, "tenon_http_responses_total", {"listener=\"v2_rest\"", "code=\"200\""});
  EXPECT_EQ(answers, sent + 1) << "and one question for the model's inputs";
  sent += count("http://127.0.0.1:" + std::to_string(server_->ports().tfs_rest) + "/v1/models/m", "tfs_rest");
  sent += count("grpc://127.0.0.1:" + std::to_string(server_->ports().v2_grpc) + "/m", "v2_grpc");
  sent += count("grpc://127.0.0.1:" + std::to_string(server_->ports().v2_grpc) + "/tensorflow/m", "tfs_grpc");
  EXPECT_EQ(total(*server_, "tenon_rows_total", {}), sent);
  EXPECT_EQ(total(*server_, "tenon_batch_rows_count", {}), sent);
  EXPECT_EQ(total(*server_, "tenon_batches_total", {"reason=\"single\""}), sent);
  const auto statistics = server_->core().repository().resolve({"m"})->statistics();
  EXPECT_EQ(statistics.success.count, sent);
  EXPECT_EQ(statistics.fail.count, 0U);
}

}  // namespace
}  // namespace tenon::serve
