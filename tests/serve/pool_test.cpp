// Pools of a model's own: its runs happen there and nowhere else, on the CPUs that are named.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>

#include <set>

#include "tenon/base/error.h"
#include "tenon/exec/session.h"
#include "tests/serve/http_client.h"
#include "tests/serve/server_support.h"
#include "tests/serve/support.h"

namespace tenon::serve {
namespace {

using namespace testing_support;
using std::chrono::seconds;
using testing::HasSubstr;

const std::string kInstances = R"({"instances": [[1, 2]]})";

std::set<int> allowed_cpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  ::sched_getaffinity(0, sizeof(set), &set);
  std::set<int> out;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(static_cast<size_t>(cpu), &set)) out.insert(cpu);
  }
  return out;
}

// Two models: "own" has a pool of two threads on one CPU, "shared" runs on the server's only thread.
class PoolTest : public testing::Test {
 protected:
  PoolTest() : cpu_(*allowed_cpus().rbegin()) {
    ServerOptions options = quick_server();
    options.core.scheduler.threads = 1;
    options.core.repository.warm_up = false;
    options.core.repository.loader = [this](const fs::path& path, Precision) -> ModelPtr {
      const bool own = path.string().find("own") != std::string::npos;
      return std::make_shared<FakeModel>(1, std::vector<int64_t>{-1, 2}, [this, own](const Tensor&) {
        {
          const std::lock_guard lock(mutex_);
          (own ? threads_ : shared_threads_).insert(std::this_thread::get_id());
          cpus_[own ? 1 : 0] = allowed_cpus();
          of_a_run_[own ? 1 : 0] = exec::session().options().threads;
          begun_ += own ? 1 : 0;
        }
        if (own) gate_.wait();
      });
    };
    std::vector<ModelConfig> models;
    for (const std::string name : {"own", "shared"}) {
      const fs::path base = fresh_folder(name);
      write_file(base / "1" / "model.onnx", "never read");
      models.push_back({.name = name, .base_path = base});
    }
    models[0].lane.pool = {.threads = 2, .threads_per_run = 3, .cpus = {cpu_}};
    server_ = std::make_unique<Server>(options, models);
    EXPECT_TRUE(server_->core().repository().settle(seconds(20)));
  }
  int ask(const std::string& model) {
    return HttpClient(server_->ports().tfs_rest).post("/v1/models/" + model + ":predict", kInstances).status;
  }

  int cpu_;
  std::mutex mutex_;
  std::set<std::thread::id> threads_, shared_threads_;
  std::set<int> cpus_[2];
  int of_a_run_[2] = {0, 0};
  int begun_ = 0;
  Gate gate_;
  std::unique_ptr<Server> server_;
};

TEST_F(PoolTest, RunsAreThePoolsAndHoldUpNobodyElse) {
  std::vector<std::thread> clients;
  for (int i = 0; i < 5; ++i) clients.emplace_back([&] { EXPECT_EQ(ask("own"), 200); });
  gate_.wait_for_waiting(2);  // as many at the same time as it has threads
  for (int i = 0; i < 10; ++i) EXPECT_EQ(ask("shared"), 200) << "the server's thread is free";
  {
    const std::lock_guard lock(mutex_);
    EXPECT_EQ(begun_, 2) << "and not more";
  }
  gate_.open();
  for (auto& client : clients) client.join();
  EXPECT_EQ(threads_.size(), 2U);
  for (const auto& id : shared_threads_) EXPECT_FALSE(threads_.contains(id));
  EXPECT_EQ(of_a_run_[1], 3) << "threads of each of its runs";
  EXPECT_EQ(of_a_run_[0], 1);
  EXPECT_EQ(cpus_[1], std::set<int>{cpu_}) << "pinned";
  EXPECT_EQ(cpus_[0], allowed_cpus()) << "the others are not";
}

TEST_F(PoolTest, EndsWithItsModelAndWithTheServer) {
  gate_.open();
  EXPECT_EQ(ask("own"), 200);
  server_->core().repository().unload("own");
  EXPECT_EQ(ask("own"), 404);
  server_->core().repository().load("own");
  EXPECT_EQ(ask("own"), 200);
  EXPECT_TRUE(server_->stop({.patience = seconds(20)}));
  server_.reset();
}

TEST(PoolOptions, WhatIsWrongIsSaid) {
  const auto config = [](const std::string& pool) {
    return parse_model_config("model_config_list { config { name: 'm' base_path: '/m' pool { " + pool + " } } }",
                              "models.config");
  };
  const int cpu = *allowed_cpus().begin();
  const auto pool = config("threads: 2 threads_per_run: 3 cpus: " + std::to_string(cpu))[0].lane.pool;
  EXPECT_EQ(pool, (PoolOptions{.threads = 2, .threads_per_run = 3, .cpus = {cpu}}));
  for (const auto& [text, said] : std::vector<std::pair<std::string, std::string>>{
           {"threads: 1 cpus: 100000", "CPU 100000 is not one of those that this process may use"},
           {"cpus: 0", "threads is missing"},
           {"threads: -1", "threads must be from 0 to 1024"}}) {
    try {
      config(text);
      ADD_FAILURE() << text;
    } catch (const FormatError& error) {
      EXPECT_THAT(error.what(), HasSubstr(said));
    }
  }
}

}  // namespace
}  // namespace tenon::serve
