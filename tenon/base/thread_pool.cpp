#include "tenon/base/thread_pool.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "tenon/base/error.h"

namespace tenon {
namespace {

// Whether this thread is inside a part of some pool: a nested call then runs in order.
bool& inside_part() {
  thread_local bool inside = false;
  return inside;
}

struct InsidePart {
  bool before = std::exchange(inside_part(), true);
  ~InsidePart() { inside_part() = before; }
};

int usable_cpus() {
  cpu_set_t set;
  if (sched_getaffinity(0, sizeof set, &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
}

// One loop. Lives on the stack of the thread that called run().
struct Job {
  const std::function<void(int64_t)>* body;
  int64_t parts;
  std::atomic<int64_t> next{0};
  std::mutex error_mutex;
  std::exception_ptr error;
  int64_t error_part = INT64_MAX;

  // Of several exceptions the one of the first part is kept, so that a failing loop fails the same way each time.
  void work() {
    const InsidePart inside;
    for (int64_t part; (part = next.fetch_add(1, std::memory_order_relaxed)) < parts;) {
      try {
        (*body)(part);
      } catch (...) {
        const std::lock_guard lock(error_mutex);
        if (part < error_part) {
          error = std::current_exception();
          error_part = part;
        }
      }
    }
  }
};

}  // namespace

struct ThreadPool::State {
  int threads = 1;
  pid_t process = getpid();
  std::mutex run_mutex;  // held by the thread whose loop the workers serve
  std::mutex mutex;      // guards what follows
  std::condition_variable work_ready;
  std::condition_variable work_left;
  Job* job = nullptr;
  int wanted = 0;  // workers that may still enter the job
  int inside = 0;  // workers in the job
  bool stop = false;
  std::vector<std::thread> workers;

  void serve() {
    std::unique_lock lock(mutex);
    for (;;) {
      work_ready.wait(lock, [&] { return stop || (job != nullptr && wanted > 0); });
      if (stop) return;
      Job* mine = job;
      --wanted;
      ++inside;
      lock.unlock();
      mine->work();
      lock.lock();
      if (--inside == 0) work_left.notify_one();
    }
  }
};

ThreadPool::ThreadPool(int threads) : state_(std::make_unique<State>()) {
  if (threads < 0) {
    throw ValueError({.where = "ThreadPool",
                      .problem = "a negative number of threads",
                      .expected = "0 (one per CPU) or more",
                      .got = std::to_string(threads)});
  }
  state_->threads = threads == 0 ? usable_cpus() : threads;
  State* state = state_.get();
  for (int i = 1; i < state->threads; ++i) state->workers.emplace_back([state] { state->serve(); });
}

ThreadPool::~ThreadPool() {
  // A child after a fork has no workers, and condition variables on which the parent's workers sleep can never be
  // destroyed in it: the few bytes are left.
  if (state_->process != getpid()) {
    (void)state_.release();
    return;
  }
  {
    const std::lock_guard lock(state_->mutex);
    state_->stop = true;
  }
  state_->work_ready.notify_all();
  for (std::thread& worker : state_->workers) worker.join();
}

int ThreadPool::threads() const { return state_->threads; }

void ThreadPool::run(int64_t parts, const std::function<void(int64_t)>& body) {
  if (parts <= 0) return;
  Job job{.body = &body, .parts = parts, .error_mutex = {}, .error = {}};
  State& state = *state_;
  // A pool that serves another thread's loop, or that lost its workers in a fork (which may have left its mutexes
  // locked), is no use: run here.
  std::unique_lock turn(state.run_mutex, std::defer_lock);
  if (parts == 1 || state.threads == 1 || inside_part() || state.process != getpid() || !turn.try_lock()) {
    job.work();
  } else {
    const auto helpers = static_cast<int>(std::min<int64_t>(parts, state.threads) - 1);
    {
      const std::lock_guard lock(state.mutex);
      state.job = &job;
      state.wanted = helpers;
    }
    for (int i = 0; i < helpers; ++i) state.work_ready.notify_one();
    job.work();
    // Workers that have not entered by now are not waited for.
    std::unique_lock lock(state.mutex);
    state.job = nullptr;
    state.wanted = 0;
    state.work_left.wait(lock, [&] { return state.inside == 0; });
  }
  if (job.error) std::rethrow_exception(job.error);
}

}  // namespace tenon
