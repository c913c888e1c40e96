#include "tenon/base/thread_pool.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sched.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <set>
#include <thread>
#include <vector>

#include "tenon/base/error.h"

namespace tenon {
namespace {

TEST(ThreadPool, RunsEachPartOnce) {
  for (int threads : {1, 2, 3, 8}) {
    ThreadPool pool(threads);
    EXPECT_EQ(pool.threads(), threads);
    for (int64_t parts : {0, 1, 2, 7, 1000}) {
      std::vector<int> count(static_cast<size_t>(parts));
      pool.run(parts, [&](int64_t i) { ++count[static_cast<size_t>(i)]; });
      for (int c : count) ASSERT_EQ(c, 1);
    }
  }
}

TEST(ThreadPool, ZeroMeansOnePerUsableCpuAndNegativeIsRejected) {
  EXPECT_GE(ThreadPool(0).threads(), 1);
  try {
    ThreadPool pool(-1);
    FAIL() << "no error";
  } catch (const ValueError& e) {
    EXPECT_STREQ(e.what(), "ThreadPool: a negative number of threads; expected 0 (one per CPU) or more, got -1");
  }
}

TEST(ThreadPool, OneThreadStaysOnTheCaller) {
  ThreadPool pool(1);
  const auto me = std::this_thread::get_id();
  pool.run(50, [&](int64_t) { EXPECT_EQ(std::this_thread::get_id(), me); });
}

// Neighbours go to one thread, as long as each has some of its own.
TEST(ThreadPool, ThreadsBeginApart) {
  constexpr int64_t kParts = 64;
  ThreadPool pool(2);
  std::mutex mutex;
  std::condition_variable changed;
  std::set<std::thread::id> threads;
  std::set<int64_t> first;
  pool.run(kParts, [&](int64_t i) {
    std::unique_lock lock(mutex);
    if (threads.insert(std::this_thread::get_id()).second) first.insert(i);
    changed.notify_all();
    EXPECT_TRUE(changed.wait_for(lock, std::chrono::seconds(20), [&] { return threads.size() == 2; }));
  });
  EXPECT_EQ(first, (std::set<int64_t>{0, kParts / 2}));
}

// A thread that is held up by one part keeps none of the others.
TEST(ThreadPool, WhoIsThroughTakesWhatIsLeft) {
  for (const int threads : {2, 3, 20}) {
    ThreadPool pool(threads);
    constexpr int64_t kParts = 64;
    std::mutex mutex;
    std::condition_variable changed;
    int64_t done = 0;
    bool all = false;
    pool.run(kParts, [&](int64_t i) {
      std::unique_lock lock(mutex);
      if (i == 0) {
        all = changed.wait_for(lock, std::chrono::seconds(20), [&] { return done == kParts - 1; });
        return;
      }
      ++done;
      changed.notify_all();
    });
    EXPECT_TRUE(all) << threads << " threads";
  }
}

// Two parts that each wait for the other can only end if two threads work.
TEST(ThreadPool, PartsRunAtTheSameTime) {
  ThreadPool pool(2);
  std::mutex mutex;
  std::condition_variable changed;
  int arrived = 0;
  bool met = true;
  pool.run(2, [&](int64_t) {
    std::unique_lock lock(mutex);
    ++arrived;
    changed.notify_all();
    met = met && changed.wait_for(lock, std::chrono::seconds(20), [&] { return arrived == 2; });
  });
  EXPECT_TRUE(met);
}

TEST(ThreadPool, NestedLoopsRunInOrderOnTheirThread) {
  ThreadPool pool(4);
  std::atomic<int> total{0};
  pool.run(8, [&](int64_t) {
    const auto me = std::this_thread::get_id();
    int64_t expected = 0;
    pool.run(5, [&](int64_t inner) {
      EXPECT_EQ(std::this_thread::get_id(), me);
      EXPECT_EQ(inner, expected++);
      ++total;
    });
  });
  EXPECT_EQ(total, 40);
}

TEST(ThreadPool, TheFirstPartsExceptionComesBackAfterAllParts) {
  for (int threads : {1, 3}) {
    ThreadPool pool(threads);
    for (int repeat = 0; repeat < 20; ++repeat) {
      std::atomic<int> ended{0};
      try {
        pool.run(100, [&](int64_t i) {
          if (i == 7 || i == 60) throw std::runtime_error("part " + std::to_string(i));
          ++ended;
        });
        FAIL() << "no exception";
      } catch (const std::runtime_error& e) {
        EXPECT_STREQ(e.what(), "part 7");
      }
      EXPECT_EQ(ended, 98);
    }
    int after = 0;
    pool.run(1, [&](int64_t) { ++after; });
    EXPECT_EQ(after, 1);
  }
}

TEST(ThreadPool, SeveralThreadsMayCallAtOnce) {
  ThreadPool pool(3);
  std::atomic<int64_t> sum{0};
  std::vector<std::thread> callers;
  callers.reserve(4);
  for (int t = 0; t < 4; ++t) {
    callers.emplace_back([&] {
      for (int repeat = 0; repeat < 200; ++repeat) pool.run(10, [&](int64_t i) { sum += i; });
    });
  }
  for (std::thread& caller : callers) caller.join();
  EXPECT_EQ(sum, 4 * 200 * 45);
}

// Parked workers use no processor time.
TEST(ThreadPool, WorkersParkWhenIdle) {
  ThreadPool pool(4);
  pool.run(16, [](int64_t) {});
  const std::clock_t before = std::clock();
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  const double used = static_cast<double>(std::clock() - before) / CLOCKS_PER_SEC;
  EXPECT_LT(used, 0.05);
}

// Loops that follow each other at once, after a while, and from another thread while workers still look for the next.
TEST(ThreadPool, LoopsMayComeAtOnceOrLate) {
  ThreadPool pool(2);
  std::atomic<int64_t> sum{0};
  const auto some = [&] {
    for (int repeat = 0; repeat < 50; ++repeat) pool.run(3, [&](int64_t i) { sum += i; });
  };
  for (int round = 0; round < 20; ++round) {
    some();
    std::this_thread::sleep_for(std::chrono::microseconds(10 * round));
    std::thread(some).join();
  }
  EXPECT_EQ(sum, 20 * 2 * 50 * 3);
}

// A worker that is sent to another CPU when it is woken may use all of them again in its parts.
TEST(ThreadPool, WorkersMayUseTheCpusOfTheirProcess) {
  ThreadPool pool(2);
  cpu_set_t mine;
  ASSERT_EQ(sched_getaffinity(0, sizeof mine, &mine), 0);
  for (int round = 0; round < 50; ++round) {
    std::this_thread::sleep_for(std::chrono::microseconds(100 * round));
    std::atomic<int> begun = 0, same = 0;
    pool.run(2, [&](int64_t) {  // each waits for the other
      ++begun;
      while (begun < 2) std::this_thread::yield();
      cpu_set_t here;
      if (sched_getaffinity(0, sizeof here, &here) == 0 && CPU_EQUAL(&here, &mine)) ++same;
    });
    ASSERT_EQ(same, 2) << "round " << round;
  }
}

// Light loops close together, with pauses in which workers fall asleep, and heavy ones between them: each part once.
TEST(ThreadPool, LightLoopsRunEachPartOnce) {
  ThreadPool pool(3);
  constexpr int64_t kParts = 5;
  std::array<int64_t, kParts> times{};
  int64_t loops = 0;
  for (int round = 0; round < 20; ++round) {
    for (int i = 0; i < 200; ++i, ++loops) {
      pool.run(
          kParts, [&](int64_t part) { ++times[static_cast<size_t>(part)]; },
          i % 50 == 49 ? ThreadPool::Load::Heavy : ThreadPool::Load::Light);
    }
    std::this_thread::sleep_for(std::chrono::microseconds(round * 20));
  }
  EXPECT_THAT(times, testing::Each(loops));
  EXPECT_THROW(
      pool.run(2, [](int64_t) { throw std::runtime_error("part"); }, ThreadPool::Load::Light), std::runtime_error);
}

// Workers that sleep are woken for light loops if enough of them follow each other.
TEST(ThreadPool, LightLoopsThatFollowEachOtherAreShared) {
  if (ThreadPool().threads() < 2) GTEST_SKIP() << "one CPU";
  ThreadPool pool(2);
  const auto caller = std::this_thread::get_id();
  std::atomic<bool> shared = false;
  const auto end = std::chrono::steady_clock::now() + std::chrono::seconds(20);
  while (!shared && std::chrono::steady_clock::now() < end) {
    pool.run(
        64,
        [&](int64_t) {
          if (std::this_thread::get_id() != caller) shared = true;
        },
        ThreadPool::Load::Light);
  }
  EXPECT_TRUE(shared);
}

#if !defined(__SANITIZE_THREAD__)
#if !defined(__has_feature)
#define TENON_TEST_FORK 1
#elif !__has_feature(thread_sanitizer)
#define TENON_TEST_FORK 1
#endif
#endif
#ifdef TENON_TEST_FORK  // thread sanitizer does not follow a process that forks with threads
TEST(ThreadPool, WorksInAForkedChild) {
  auto pool = std::make_unique<ThreadPool>(3);
  pool->run(10, [](int64_t) {});
  const pid_t child = fork();
  ASSERT_GE(child, 0);
  if (child == 0) {
    int64_t sum = 0;
    pool->run(10, [&](int64_t i) { sum += i; });
    pool.reset();
    _exit(sum == 45 ? 0 : 1);
  }
  int status = 0;
  ASSERT_EQ(waitpid(child, &status, 0), child);
  EXPECT_TRUE(WIFEXITED(status));
  EXPECT_EQ(WEXITSTATUS(status), 0);
}
#endif

}  // namespace
}  // namespace tenon
