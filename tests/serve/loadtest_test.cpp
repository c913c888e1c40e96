// The load generator against servers whose behaviour is known.
#include "tenon/serve/loadtest.h"

#include <gtest/gtest.h>

#include <thread>

#include "tests/serve/server_support.h"
#include "tests/serve/support.h"

namespace tenon::serve {
namespace {

using namespace testing_support;
using std::chrono::milliseconds;

class LoadTestTest : public testing::Test {
 protected:
  LoadTestTest() {
    ServerOptions options = quick_server();
    options.core.repository.warm_up = false;
    options.core.repository.loader = [this](const fs::path&, Precision) {
      return std::make_shared<FakeModel>(1, std::vector<int64_t>{-1, 2}, [this](const Tensor&) {
        ++runs_;
        std::this_thread::sleep_for(milliseconds(takes_));
      });
    };
    const fs::path base = fresh_folder("load");
    write_file(base / "1" / "model.onnx", "never read");
    server_ = std::make_unique<Server>(options, std::vector<ModelConfig>{{.name = "m", .base_path = base}});
    EXPECT_TRUE(server_->core().repository().settle(std::chrono::seconds(20)));
    load_.url = "http://127.0.0.1:" + std::to_string(server_->ports().v2_rest) + "/v2/models/m";
    load_.warm_up = milliseconds(0);
  }
  std::atomic<uint64_t> runs_{0};
  std::atomic<int> takes_{0};
  LoadOptions load_;
  std::unique_ptr<Server> server_;
};

// Latency counts from when a request should have left: one connection that can do 50 a second and shall do 100 falls
// behind, and says so.
TEST_F(LoadTestTest, AServerThatIsTooSlowCannotHideIt) {
  takes_ = 20;
  load_.rate = 100;
  load_.duration = milliseconds(1000);
  load_.connections = 1;
  const LoadResult r = run_load(load_);
  EXPECT_EQ(r.answered, r.sent);
  EXPECT_GT(r.latency.quantile(0.9), milliseconds(200)) << "each answer by itself took 20 ms";
}

TEST_F(LoadTestTest, ArrivalsAreTheSeedsAndTheWarmUpDoesNotCount) {
  load_.rate = 1000;
  load_.duration = milliseconds(400);
  load_.warm_up = milliseconds(200);
  const auto sent = [&](uint64_t seed) {
    load_.seed = seed;
    const uint64_t before = runs_;
    const LoadResult r = run_load(load_);
    EXPECT_EQ(r.answered, r.sent);
    EXPECT_EQ(r.latency.count(), r.sent);
    EXPECT_NEAR(static_cast<double>(r.sent), 400, 100);                  // five standard deviations of Poisson's
    EXPECT_NEAR(static_cast<double>(runs_ - before - r.sent), 200, 71);  // sent, but not counted
    return r.sent;
  };
  const uint64_t one = sent(1);
  EXPECT_EQ(sent(1), one);
  EXPECT_NE(sent(2), one);
}

}  // namespace
}  // namespace tenon::serve
