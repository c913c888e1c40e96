// Queues, batches, deadlines and cancellation.
#include "tenon/serve/scheduler.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <future>

#include "tenon/base/error.h"
#include "tenon/serve/metrics.h"
#include "tests/serve/support.h"

namespace tenon::serve {
namespace {

using namespace testing_support;
using std::chrono::milliseconds;
using std::chrono::seconds;
using testing::HasSubstr;

struct Answer {
  std::promise<Scheduler::Result> promise;
  std::future<Scheduler::Result> future = promise.get_future();
};

class SchedulerTest : public testing::Test {
 protected:
  LanePtr lane(const std::function<void(const Tensor&)>& before, const LaneOptions& options = {}) {
    return std::make_shared<Lane>("m", 1, std::make_shared<FakeModel>(1, std::vector<int64_t>{-1, 2}, before), options,
                                  metrics_);
  }
  std::shared_ptr<Answer> submit(Scheduler& scheduler, const LanePtr& lane, Tensor x,
                                 Clock::time_point deadline = kNever, const CancelPtr& cancel = {}, int priority = 0) {
    auto answer = std::make_shared<Answer>();
    scheduler.submit(lane, {std::move(x)}, deadline, priority, cancel,
                     [answer](Scheduler::Result r) { answer->promise.set_value(std::move(r)); });
    return answer;
  }
  uint64_t closed(CloseReason reason) {
    return metrics_
        .counter("tenon_batches_total", "", {{"model", "m"}, {"version", "1"}, {"reason", std::string(name(reason))}})
        .value();
  }
  uint64_t batches() {
    uint64_t sum = 0;
    for (size_t i = 0; i < kCloseReasons; ++i) sum += closed(static_cast<CloseReason>(i));
    return sum;
  }
  // As the page tells of a histogram.
  uint64_t observed(const std::string& histogram) {
    return metrics_.histogram(histogram, "", {{"model", "m"}, {"version", "1"}}, {}).total();
  }
  uint64_t abandoned(const std::string& reason) {
    return metrics_
        .counter("tenon_abandoned_requests_total", "", {{"model", "m"}, {"version", "1"}, {"reason", reason}})
        .value();
  }
  Metrics metrics_;
};

LaneOptions batching(int64_t size, milliseconds timeout) {
  LaneOptions options;
  options.batching.enabled = true;
  options.batching.max_batch_size = size;
  options.batching.timeout = timeout;
  return options;
}

TEST_F(SchedulerTest, RunsOneByOneWithoutBatching) {
  std::atomic<int> runs{0};
  Scheduler scheduler({.threads = 2}, metrics_);
  const auto l = lane([&](const Tensor&) { ++runs; });
  std::vector<std::shared_ptr<Answer>> answers;
  for (int i = 0; i < 10; ++i) answers.push_back(submit(scheduler, l, rows_of(1, static_cast<float>(i))));
  for (int i = 0; i < 10; ++i) {
    const auto result = answers[static_cast<size_t>(i)]->future.get();
    ASSERT_TRUE(result.status.ok()) << result.status.message;
    EXPECT_EQ(std::get<Tensor>(result.outputs[0]).to_vector<float>(), std::vector<float>(2, static_cast<float>(i) + 1));
  }
  EXPECT_EQ(runs, 10);
  EXPECT_EQ(closed(CloseReason::Single), 10U);
}

// A retired version waits to be freed by a thread made for it, maybe until after the scheduler has gone: the threads of
// its pool must not.
TEST_F(SchedulerTest, NoThreadOfAPoolOutlivesIt) {
  const auto threads = [] {
    return std::distance(fs::directory_iterator("/proc/self/task"), fs::directory_iterator());
  };
  const auto before = threads();
  std::atomic<Lane*> let_go{nullptr};
  {
    Scheduler scheduler({.threads = 1}, metrics_);
    LaneOptions options;
    options.pool.threads = 2;
    LanePtr l(new Lane("m", 1, std::make_shared<FakeModel>(1), options, metrics_), [&](Lane* lane) { let_go = lane; });
    EXPECT_TRUE(submit(scheduler, l, rows_of(1))->future.get().status.ok());
    l.reset();
    ASSERT_TRUE(eventually([&] { return let_go != nullptr; }));
  }
  EXPECT_TRUE(eventually([&] { return threads() == before; })) << threads() << ", before " << before;
  delete let_go.load();
}

// Deadlines that pass at about the moment of the answer: each request is counted as what its client was told.
TEST_F(SchedulerTest, WhatIsCountedIsWhatClientsWereTold) {
  Scheduler scheduler({.threads = 2}, metrics_);
  const auto l = lane([](const Tensor&) { std::this_thread::sleep_for(std::chrono::microseconds(300)); });
  uint64_t late = 0, gone = 0, refused = 0, good = 0;
  for (int round = 0; round < 40; ++round) {
    std::vector<std::shared_ptr<Answer>> answers;
    std::vector<CancelPtr> cancels;
    for (int i = 0; i < 10; ++i) {
      cancels.push_back(i % 3 == 0 ? std::make_shared<Cancel>() : nullptr);
      try {
        answers.push_back(submit(scheduler, l, rows_of(1),
                                 Clock::now() + std::chrono::microseconds(200 + 50 * round + 200 * i), cancels.back()));
      } catch (const RequestError& error) {
        EXPECT_EQ(error.status_code, Code::DeadlineExceeded);  // known before it was queued
        ++refused;
      }
    }
    std::this_thread::sleep_for(std::chrono::microseconds(20 * round));
    for (const auto& cancel : cancels) {
      if (cancel) cancel->request();
    }
    for (const auto& answer : answers) {
      const Code code = answer->future.get().status.code;
      EXPECT_TRUE(code == Code::Ok || code == Code::DeadlineExceeded || code == Code::Cancelled);
      late += code == Code::DeadlineExceeded ? 1 : 0;
      gone += code == Code::Cancelled ? 1 : 0;
      good += code == Code::Ok ? 1 : 0;
    }
  }
  EXPECT_EQ(abandoned("deadline_in_queue") + abandoned("deadline_in_run"), late) << refused << " were refused";
  EXPECT_EQ(abandoned("cancelled"), gone);
  // The last ones may be counted a moment after their clients have gone.
  EXPECT_TRUE(eventually([&] { return l->statistics().fail.count == late + gone; }));
  const Statistics s = l->statistics();
  EXPECT_EQ(s.success.count, good);
  EXPECT_EQ(s.inferences, good);
}

// A worker that sticks (complaint 15) is told of once for each run, whichever threads the model runs on.
TEST_F(SchedulerTest, Complaint15AStuckRunIsToldOfOnce) {
  for (const int own_threads : {0, 1}) {
    std::mutex mutex;
    std::vector<std::string> told;
    Scheduler scheduler({.threads = 1,
                         .stuck_after = milliseconds(20),
                         .log =
                             [&](std::string_view level, std::string_view event, const Labels& fields) {
                               const std::lock_guard lock(mutex);
                               told.push_back(std::string(level) + " " + std::string(event) + " " +
                                              fields.at(0).second + " " + fields.at(1).second);
                             }},
                        metrics_);
    const auto count = [&] {
      const std::lock_guard lock(mutex);
      return told.size();
    };
    LaneOptions options;
    options.pool.threads = own_threads;
    std::unique_ptr<Gate> gate;
    const auto l = lane([&](const Tensor&) { gate->wait(); }, options);
    for (size_t run = 1; run <= 2; ++run) {
      gate = std::make_unique<Gate>();
      const auto answer = submit(scheduler, l, rows_of(1));
      EXPECT_TRUE(eventually([&] { return count() == run; }));
      std::this_thread::sleep_for(milliseconds(80));  // it is looked at again, and said no more
      EXPECT_EQ(count(), run);
      gate->open();
      EXPECT_TRUE(answer->future.get().status.ok());
    }
    EXPECT_EQ(told[0], "error run_stuck m 1");
    EXPECT_EQ(metrics_.counter("tenon_stuck_runs_total", "", {{"model", "m"}, {"version", "1"}}).value(),
              static_cast<uint64_t>(2 * (own_threads + 1)));
  }
}

// Whoever asked has its answer before the thread that ran it lets go of the lane.
TEST_F(SchedulerTest, ALaneMayEndOnAThreadOfItsOwn) {
  for (const bool another : {false, true}) {
    Scheduler scheduler({.threads = 1}, metrics_);
    LaneOptions options;
    options.pool.threads = 2;
    auto gate = std::make_unique<Gate>();
    auto l = lane([&](const Tensor&) { gate->wait(); }, options);
    const auto answer = submit(scheduler, l, rows_of(1));
    l.reset();
    gate->open();
    EXPECT_TRUE(answer->future.get().status.ok());
    if (!another) continue;
    const auto next = lane([](const Tensor&) {}, options);
    EXPECT_TRUE(submit(scheduler, next, rows_of(1))->future.get().status.ok());
  }
}

TEST_F(SchedulerTest, QuickRequestsRunOnTheThreadThatBringsThem) {
  std::atomic<bool> slow{false};
  std::thread::id ran;
  Scheduler scheduler({.threads = 1}, metrics_);
  LaneOptions options;
  options.run_here_below = milliseconds(200);  // long, so that a busy machine does not make a quick one slow
  const auto before = [&](const Tensor&) {
    ran = std::this_thread::get_id();
    if (slow) std::this_thread::sleep_for(milliseconds(1500));
  };
  uint64_t runs = 0;
  const auto run = [&](const LanePtr& l, int64_t rows) {
    ++runs;
    const auto result = submit(scheduler, l, rows_of(rows, 3))->future.get();
    EXPECT_TRUE(result.status.ok()) << result.status.message;
    EXPECT_EQ(std::get<Tensor>(result.outputs[0]).to_vector<float>(),
              std::vector<float>(static_cast<size_t>(2 * rows), 4));
    return ran == std::this_thread::get_id();
  };
  const auto l = lane(before, options);
  // A worker answers before it gives its place back, so the next request may still find none.
  const auto comes_here = [&](int64_t rows) {
    for (int i = 0; i < 100; ++i) {
      if (run(l, rows)) return true;
    }
    return false;
  };
  EXPECT_FALSE(run(l, 4)) << "nobody knows yet how long it takes";
  EXPECT_TRUE(comes_here(4));
  EXPECT_TRUE(comes_here(1)) << "a smaller one is as quick";
  EXPECT_FALSE(run(l, 5)) << "a larger one is tried on a worker first";
  EXPECT_TRUE(comes_here(5));
  slow = true;
  run(l, 5);
  slow = false;
  EXPECT_FALSE(run(l, 5)) << "it has become slow";
  const Statistics s = l->statistics();
  EXPECT_EQ(s.success.count, runs);
  EXPECT_EQ(s.executions, runs);
  EXPECT_EQ(closed(CloseReason::Single), runs);
  EXPECT_EQ(l->pending(), 0);

  LaneOptions never;
  never.run_here_below = std::chrono::microseconds(0);
  const auto other = lane(before, never);
  for (int i = 0; i < 3; ++i) EXPECT_FALSE(run(other, 1));
}

// Requests that end in an error at once, however many, do not bring those of a slow model onto the threads of the
// connections.
TEST_F(SchedulerTest, WhatFailsAtOnceMakesNoModelQuick) {
  std::thread::id ran;
  Scheduler scheduler({.threads = 1}, metrics_);
  LaneOptions options;
  options.run_here_below = milliseconds(10);
  const auto l = lane(
      [&](const Tensor& x) {
        if (x.to_vector<float>()[0] == 13) throw RequestError(Code::InvalidArgument, "no");
        ran = std::this_thread::get_id();
        std::this_thread::sleep_for(milliseconds(30));
      },
      options);
  for (int round = 0; round < 2; ++round) {
    EXPECT_TRUE(submit(scheduler, l, rows_of(1))->future.get().status.ok());
    EXPECT_NE(ran, std::this_thread::get_id()) << round;
    for (int i = 0; i < 60; ++i)
      EXPECT_EQ(submit(scheduler, l, rows_of(1, 13))->future.get().status.code, Code::InvalidArgument);
  }
}

TEST_F(SchedulerTest, AsManyInstancesRunAtOnceAsAreAskedFor) {
  for (const int instances : {1, 2}) {
    Gate gate;
    std::atomic<int> begun{0};
    Scheduler scheduler({.threads = 3}, metrics_);
    LaneOptions options;
    options.instances = instances;
    const auto l = lane(
        [&](const Tensor&) {
          ++begun;
          gate.wait();
        },
        options);
    std::vector<std::shared_ptr<Answer>> answers;
    for (int i = 0; i < 4; ++i) answers.push_back(submit(scheduler, l, rows_of(1)));
    gate.wait_for_waiting(instances);
    // A thread is free, for others.
    EXPECT_TRUE(submit(scheduler, lane([](const Tensor&) {}), rows_of(1))->future.get().status.ok());
    EXPECT_EQ(begun, instances);
    gate.open();
    for (const auto& answer : answers) EXPECT_TRUE(answer->future.get().status.ok());
  }
}

TEST_F(SchedulerTest, ClosesBatchesForEachReasonAndGivesEveryoneTheirRows) {
  Gate gate;
  std::atomic<bool> first{true};
  std::vector<int64_t> sizes;
  Scheduler scheduler({.threads = 1}, metrics_);
  const auto l = lane(
      [&](const Tensor& x) {
        if (first.exchange(false)) gate.wait();
        sizes.push_back(x.shape(0));
      },
      batching(4, milliseconds(30)));
  auto blocker = submit(scheduler, l, rows_of(4));
  gate.wait_for_waiting(1);
  std::vector<std::shared_ptr<Answer>> answers;
  for (int i = 0; i < 5; ++i) answers.push_back(submit(scheduler, l, rows_of(1, static_cast<float>(i))));
  answers.push_back(submit(scheduler, l, rows_of(10, 5)));  // larger than a batch
  gate.open();
  for (int i = 0; i < 6; ++i) {
    const auto result = answers[static_cast<size_t>(i)]->future.get();
    ASSERT_TRUE(result.status.ok()) << result.status.message;
    const auto values = std::get<Tensor>(result.outputs[0]).to_vector<float>();
    EXPECT_EQ(values, std::vector<float>(i == 5 ? 20 : 2, static_cast<float>(i) + 1));
  }
  ASSERT_TRUE(blocker->future.get().status.ok());
  EXPECT_EQ(closed(CloseReason::Full), 3U);  // the blocker, four of five, and the fifth (the next one does not fit)
  EXPECT_EQ(closed(CloseReason::Split), 1U);
  EXPECT_EQ(sizes, (std::vector<int64_t>{4, 4, 1, 4, 4, 2}));
  ASSERT_TRUE(submit(scheduler, l, rows_of(1))->future.get().status.ok());
  EXPECT_EQ(closed(CloseReason::Timeout), 1U);
  scheduler.drain();
  ASSERT_TRUE(submit(scheduler, l, rows_of(1))->future.get().status.ok());
  EXPECT_EQ(closed(CloseReason::Drain), 1U);
}

TEST_F(SchedulerTest, PadsToAllowedSizesAndNotBeyond) {
  std::vector<int64_t> sizes;
  LaneOptions options = batching(8, milliseconds(0));
  options.batching.allowed_sizes = {2, 8};
  Scheduler scheduler({.threads = 1}, metrics_);
  const auto l = lane([&](const Tensor& x) { sizes.push_back(x.shape(0)); }, options);
  for (int64_t rows : {1, 2, 3, 8, 11}) {
    const auto result = submit(scheduler, l, rows_of(rows, 3))->future.get();
    ASSERT_TRUE(result.status.ok()) << result.status.message;
    EXPECT_EQ(shape_of(result.outputs[0]), (Shape{rows, 2}));
  }
  EXPECT_EQ(sizes, (std::vector<int64_t>{2, 2, 8, 8, 8, 8}));
}

TEST_F(SchedulerTest, OtherShapesCloseABatchOrArePadded) {
  for (bool pad : {false, true}) {
    Gate gate;
    std::atomic<int> runs{0};
    const auto before = [&](const Tensor&) {
      if (runs++ == 0) gate.wait();
    };
    LaneOptions options = batching(8, milliseconds(50));
    options.batching.pad_variable_length = pad;
    Scheduler scheduler({.threads = 1}, metrics_);
    const auto l = std::make_shared<Lane>("m", 1, std::make_shared<FakeModel>(1, std::vector<int64_t>{-1, -1}, before),
                                          options, metrics_);
    auto a = submit(scheduler, l, from_vector(std::vector<float>{0, 0}, {1, 2}));
    gate.wait_for_waiting(1);
    auto b = submit(scheduler, l, from_vector(std::vector<float>{1, 2}, {1, 2}));
    auto c = submit(scheduler, l, from_vector(std::vector<float>{3, 4, 5}, {1, 3}));
    gate.open();
    ASSERT_TRUE(a->future.get().status.ok());
    const auto rb = b->future.get(), rc = c->future.get();
    ASSERT_TRUE(rb.status.ok() && rc.status.ok()) << rb.status.message << rc.status.message;
    EXPECT_EQ(shape_of(rb.outputs[0]), (pad ? Shape{1, 3} : Shape{1, 2}));
    EXPECT_EQ(std::get<Tensor>(rc.outputs[0]).to_vector<float>(), (std::vector<float>{4, 5, 6}));
    EXPECT_EQ(runs, pad ? 2 : 3);
    EXPECT_EQ(closed(CloseReason::Shape), 1U);  // the first run of the loop's
  }
}

TEST_F(SchedulerTest, OneClientsMistakeIsNotTheOthers) {
  Gate gate;
  std::atomic<bool> first{true};
  Scheduler scheduler({.threads = 1}, metrics_);
  const auto l = lane(
      [&](const Tensor& x) {
        if (first.exchange(false)) return gate.wait();
        for (float v : x.to_vector<float>()) {
          if (v == 13) throw ValueError({"op", "13 is not accepted", {}, {}, {}});
        }
      },
      batching(8, milliseconds(20)));
  auto blocker = submit(scheduler, l, rows_of(1));
  gate.wait_for_waiting(1);
  auto good = submit(scheduler, l, rows_of(1, 1)), bad = submit(scheduler, l, rows_of(1, 13));
  gate.open();
  EXPECT_TRUE(good->future.get().status.ok());
  const Status status = bad->future.get().status;
  EXPECT_EQ(status.code, Code::InvalidArgument);
  EXPECT_THAT(status.message, HasSubstr("13 is not accepted"));
}

// Each run is a batch: the one that failed, and those of the requests alone.
TEST_F(SchedulerTest, ABatchThatFailsAndItsRequestsAloneAreAllCounted) {
  Gate gate;
  uint64_t runs = 0;
  const auto cancel = std::make_shared<Cancel>();
  Scheduler scheduler({.threads = 1}, metrics_);
  const auto l = lane(
      [&](const Tensor& x) {
        if (++runs == 1) return gate.wait();
        if (x.shape(0) == 3) cancel->request();  // while they run together
        for (float v : x.to_vector<float>()) {
          if (v == 13) throw ValueError({"op", "13 is not accepted", {}, {}, {}});
        }
      },
      batching(8, milliseconds(20)));
  auto blocker = submit(scheduler, l, rows_of(1));
  gate.wait_for_waiting(1);
  auto good = submit(scheduler, l, rows_of(1, 1)), bad = submit(scheduler, l, rows_of(1, 13));
  auto gone = submit(scheduler, l, rows_of(1, 2), kNever, cancel);
  gate.open();
  EXPECT_TRUE(good->future.get().status.ok());
  EXPECT_EQ(bad->future.get().status.code, Code::InvalidArgument);
  EXPECT_EQ(gone->future.get().status.code, Code::Cancelled);
  ASSERT_TRUE(submit(scheduler, l, rows_of(1))->future.get().status.ok());
  EXPECT_EQ(runs, 5U) << "the first one, three together, the two alone whose clients are there, the last one";
  EXPECT_EQ(batches(), runs);
  EXPECT_EQ(observed("tenon_batch_rows"), runs);
  EXPECT_EQ(observed("tenon_queue_duration_seconds"), 4U) << "requests, not runs; and not the one that left";
}

TEST_F(SchedulerTest, ExpiredWorkLeavesTheQueueAtItsDeadlineAndNeverRuns) {
  Gate gate;
  std::atomic<int> runs{0};
  Scheduler scheduler({.threads = 1}, metrics_);
  const auto l = lane([&](const Tensor&) {
    ++runs;
    gate.wait();
  });
  auto blocker = submit(scheduler, l, rows_of(1));
  gate.wait_for_waiting(1);
  auto late = submit(scheduler, l, rows_of(1), Clock::now() + milliseconds(300));
  EXPECT_EQ(late->future.get().status.code, Code::DeadlineExceeded) << "although the thread is busy";
  EXPECT_EQ(abandoned("deadline_in_queue"), 1U);
  gate.open();
  EXPECT_TRUE(blocker->future.get().status.ok());
  EXPECT_TRUE(submit(scheduler, l, rows_of(1))->future.get().status.ok());
  EXPECT_EQ(runs, 2);
  EXPECT_EQ(l->pending(), 0);
}

TEST_F(SchedulerTest, ADeadlineThatPassesInTheRunIsAnsweredAtOnce) {
  Gate gate;
  Scheduler scheduler({.threads = 1}, metrics_);
  const auto l = lane([&](const Tensor&) { gate.wait(); });
  // On a busy machine the run may not have begun when the deadline comes: then once more, with more time.
  for (auto allowed = milliseconds(100); abandoned("deadline_in_run") == 0 && allowed < seconds(30); allowed *= 2) {
    auto late = submit(scheduler, l, rows_of(1), Clock::now() + allowed);
    EXPECT_EQ(late->future.get().status.code, Code::DeadlineExceeded) << "although the gate is shut";
  }
  EXPECT_EQ(abandoned("deadline_in_run"), 1U);
  gate.open();
  // It ran to its end, and is no success for that.
  ASSERT_TRUE(submit(scheduler, l, rows_of(1))->future.get().status.ok());
  const Statistics s = l->statistics();
  EXPECT_EQ(s.executions, 2U);
  EXPECT_EQ(s.inferences, 1U);
  EXPECT_EQ(s.success.count, 1U);
  EXPECT_EQ(s.fail.count, abandoned("deadline_in_run") + abandoned("deadline_in_queue"));
}

TEST_F(SchedulerTest, RefusesWhatCannotBeDoneInTime) {
  Scheduler scheduler({.threads = 1}, metrics_);
  Gate gate;
  std::atomic<int> runs{0};
  const auto l = lane([&](const Tensor&) {
    if (++runs <= 3)
      std::this_thread::sleep_for(milliseconds(50));
    else
      gate.wait();
  });
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(submit(scheduler, l, rows_of(1))->future.get().status.ok());
  std::vector<std::shared_ptr<Answer>> waiting;
  for (int i = 0; i < 6; ++i) waiting.push_back(submit(scheduler, l, rows_of(1)));
  try {
    submit(scheduler, l, rows_of(1), Clock::now() + milliseconds(200));
    ADD_FAILURE() << "was queued";
  } catch (const RequestError& error) {
    EXPECT_EQ(error.status_code, Code::DeadlineExceeded);
    EXPECT_THAT(error.what(), HasSubstr("would pass in the queue"));
  }
  EXPECT_THROW(submit(scheduler, l, rows_of(1), Clock::now() - milliseconds(1)), RequestError);
  gate.open();
  for (auto& answer : waiting) EXPECT_TRUE(answer->future.get().status.ok());
}

TEST_F(SchedulerTest, ClientsThatGoAwayAreTakenOut) {
  Gate gate;
  std::atomic<int> runs{0};
  Scheduler scheduler({.threads = 1}, metrics_);
  const auto l = lane([&](const Tensor&) {
    ++runs;
    gate.wait();
  });
  auto blocker = submit(scheduler, l, rows_of(1));
  gate.wait_for_waiting(1);
  const auto cancel = std::make_shared<Cancel>();
  auto gone = submit(scheduler, l, rows_of(1), kNever, cancel);
  cancel->request();
  EXPECT_EQ(gone->future.get().status.code, Code::Cancelled);
  EXPECT_EQ(l->pending(), 1);
  gate.open();
  EXPECT_TRUE(blocker->future.get().status.ok());
  EXPECT_EQ(runs, 1);
  EXPECT_EQ(abandoned("cancelled"), 1U);
}

// Clients that leave at about the moment when their batch closes: a batch is counted if it ran, and only then.
TEST_F(SchedulerTest, OnlyBatchesThatRunAreCounted) {
  std::atomic<uint64_t> runs{0};
  Scheduler scheduler({.threads = 2}, metrics_);
  const auto l = lane([&](const Tensor&) { ++runs; }, batching(4, milliseconds(0)));
  // Work for the other thread, which is woken between the closing of a batch and its run.
  const auto other = std::make_shared<Lane>("other", 1, std::make_shared<FakeModel>(1), LaneOptions(), metrics_);
  uint64_t gone = 0;
  for (int round = 0; round < 10000; ++round) {
    const auto cancel = std::make_shared<Cancel>();
    const auto answer = submit(scheduler, l, rows_of(1), kNever, cancel);
    const auto beside = submit(scheduler, other, rows_of(1));
    const auto until = Clock::now() + std::chrono::nanoseconds(10 * (round % 2000));
    while (Clock::now() < until) {
    }
    cancel->request();
    gone += answer->future.get().status.ok() ? 0 : 1;
    beside->future.get();
  }
  ASSERT_TRUE(submit(scheduler, l, rows_of(1))->future.get().status.ok());
  const auto counted = [&] { return std::vector<uint64_t>{batches(), observed("tenon_batch_rows"), runs}; };
  EXPECT_TRUE(eventually([&] { return counted() == std::vector<uint64_t>(3, runs); }, seconds(5)))
      << testing::PrintToString(counted()) << ", " << gone << " of the clients left";
  EXPECT_EQ(abandoned("cancelled"), gone);
}

TEST_F(SchedulerTest, ALargeRequestWhoseClientLeavesIsCountedAsFarAsItRan) {
  const auto cancel = std::make_shared<Cancel>();
  Gate gate;
  uint64_t runs = 0;
  Scheduler scheduler({.threads = 1}, metrics_);
  const auto l = lane(
      [&](const Tensor&) {
        if (++runs == 2) gate.wait();
      },
      batching(4, milliseconds(0)));
  const auto large = submit(scheduler, l, rows_of(12), kNever, cancel);
  gate.wait_for_waiting(1);
  cancel->request();
  gate.open();
  EXPECT_EQ(large->future.get().status.code, Code::Cancelled);
  ASSERT_TRUE(submit(scheduler, l, rows_of(1))->future.get().status.ok());
  EXPECT_EQ(runs, 3U) << "two of its three parts, and another's";
  EXPECT_EQ(closed(CloseReason::Split), 1U);
  EXPECT_EQ(batches(), 2U);
  EXPECT_EQ(observed("tenon_batch_rows"), 2U);
  EXPECT_EQ(metrics_.histogram("tenon_batch_rows", "", {{"model", "m"}, {"version", "1"}}, {}).sum(), 8 + 1);
}

TEST_F(SchedulerTest, FullQueuesRefuseAndPrioritiesOvertake) {
  Gate gate;
  std::vector<float> order;
  std::atomic<bool> first{true};
  LaneOptions options;
  options.max_queued = 3;
  Scheduler scheduler({.threads = 1}, metrics_);
  const auto l = lane(
      [&](const Tensor& x) {
        if (first.exchange(false)) return gate.wait();
        order.push_back(x.to_vector<float>()[0]);
      },
      options);
  auto blocker = submit(scheduler, l, rows_of(1));
  gate.wait_for_waiting(1);
  std::vector<std::shared_ptr<Answer>> answers;
  answers.push_back(submit(scheduler, l, rows_of(1, 1)));
  answers.push_back(submit(scheduler, l, rows_of(1, 2)));
  answers.push_back(submit(scheduler, l, rows_of(1, 3), kNever, {}, 5));
  try {
    submit(scheduler, l, rows_of(1));
    ADD_FAILURE() << "was queued";
  } catch (const RequestError& error) {
    EXPECT_EQ(error.status_code, Code::Unavailable);
    EXPECT_GT(error.retry_after, 0);
  }
  gate.open();
  for (auto& answer : answers) EXPECT_TRUE(answer->future.get().status.ok());
  EXPECT_EQ(order, (std::vector<float>{3, 1, 2}));
}

TEST_F(SchedulerTest, EndingAnswersWhoWaits) {
  Gate gate;
  std::shared_ptr<Answer> runs, waits;
  std::thread opener;
  {
    Scheduler scheduler({.threads = 1}, metrics_);
    const auto l = lane([&](const Tensor&) { gate.wait(); });
    runs = submit(scheduler, l, rows_of(1));
    gate.wait_for_waiting(1);
    waits = submit(scheduler, l, rows_of(1));
    opener = std::thread([&] {
      EXPECT_EQ(waits->future.get().status.code, Code::Unavailable);
      gate.open();
    });
  }
  opener.join();
  EXPECT_TRUE(runs->future.get().status.ok());
}

TEST_F(SchedulerTest, OptionsThatContradictThemselvesAreRefused) {
  LaneOptions options = batching(8, milliseconds(0));
  options.batching.allowed_sizes = {2, 4};
  EXPECT_THROW(lane({}, options), ValueError);
  options.batching.allowed_sizes = {4, 2, 8};
  EXPECT_THROW(lane({}, options), ValueError);
}

TEST_F(SchedulerTest, AModelWithoutABatchAxisIsNotBatchedAndSaysWhy) {
  const Lane l("m", 1, std::make_shared<FakeModel>(1, std::vector<int64_t>{1, 2}), batching(8, milliseconds(0)),
               metrics_);
  EXPECT_FALSE(l.options().batching.enabled);
  EXPECT_THAT(l.why_no_batching(), HasSubstr("'x' has the shape [1,2]"));
}

}  // namespace
}  // namespace tenon::serve
