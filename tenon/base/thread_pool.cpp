#include "tenon/base/thread_pool.h"

#include <sched.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "tenon/base/error.h"
#include "tenon/base/pause.h"

namespace tenon {
namespace {

constexpr size_t kCacheLine = 64;

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

// The system likes to wake a thread on the CPU where it went to sleep. Where that is now the CPU of the one that wakes
// it, and goes on, the two would take turns for milliseconds; so such a thread is sent to another that it may use.
struct Parked {
  pid_t thread = 0;
  int cpu = -1;  // where it sleeps; -1: it does not
  bool sent = false;
  cpu_set_t usable{};

  // By the thread itself.
  void sleeps() { cpu = sched_getcpu(); }
  void woke() {
    cpu = -1;
    if (std::exchange(sent, false)) sched_setaffinity(0, sizeof usable, &usable);
  }
  // By the one that is about to wake it.
  void send_away() {
    if (cpu < 0 || cpu != sched_getcpu() || sched_getaffinity(thread, sizeof usable, &usable) != 0) return;
    cpu_set_t others = usable;
    CPU_CLR(static_cast<size_t>(cpu), &others);
    sent = CPU_COUNT(&others) != 0 && sched_setaffinity(thread, sizeof others, &others) == 0;
    cpu = -1;
  }
};

// A loop that follows another at once, as the next kernel of a program does, comes sooner than the system wakes a
// thread: for so long a thread that waits looks before it parks.
using Clock = std::chrono::steady_clock;
constexpr auto kWatch = std::chrono::microseconds(30);
// Light loops follow each other if they are so close, and so many before workers are woken for them.
constexpr auto kClose = std::chrono::microseconds(10);
constexpr int kFollowing = 8;

template <class Done>
void watch(const Done& done) {
  const auto end = Clock::now() + kWatch;
  do {
    for (int i = 0; i < 8; ++i) {
      if (done()) return;
      pause_cpu();
    }
  } while (Clock::now() < end);
}

// Of several exceptions the one of the first part is kept, so that a failing loop fails the same way each time.
class FirstError {
 public:
  void run(const std::function<void(int64_t)>& body, int64_t part) {
    try {
      body(part);
    } catch (...) {
      const std::lock_guard lock(mutex_);
      if (part < part_) {
        error_ = std::current_exception();
        part_ = part;
      }
    }
  }
  void rethrow() const {
    if (error_) std::rethrow_exception(error_);
  }

 private:
  std::mutex mutex_;
  std::exception_ptr error_;
  int64_t part_ = INT64_MAX;
};

void run_in_order(int64_t parts, const std::function<void(int64_t)>& body) {
  const InsidePart inside;
  FirstError error;
  for (int64_t part = 0; part < parts; ++part) error.run(body, part);
  error.rethrow();
}

// One loop. Lives on the stack of the thread that called run().
//
// Each thread has a stretch of the parts, because neighbours often read the same memory, or what memory brings next,
// and the same one in each loop, because the next loop often reads what this one wrote. A thread that is through with
// its own takes what is left of the others', from the same end as they do.
class Job {
 public:
  Job(const std::function<void(int64_t)>& body, int64_t parts, int64_t threads)
      : body_(body), stretches_(std::min<int64_t>({parts, threads, kStretches})) {
    for (int64_t i = 0; i < stretches_; ++i) {
      Stretch& s = list_[static_cast<size_t>(i)];
      s.next.store(parts * i / stretches_, std::memory_order_relaxed);
      s.end = parts * (i + 1) / stretches_;
    }
  }
  // By the thread of this number; 0 is the one that called run().
  void work(int64_t own) {
    const InsidePart inside;
    for (int64_t i = 0; i < stretches_; ++i) {
      Stretch& s = list_[static_cast<size_t>((own + i) % stretches_)];
      for (int64_t part; (part = s.next.fetch_add(1, std::memory_order_relaxed)) < s.end;) error_.run(body_, part);
    }
  }
  void rethrow() const { error_.rethrow(); }

 private:
  static constexpr int64_t kStretches = 16;  // more threads share them
  struct alignas(kCacheLine) Stretch {
    std::atomic<int64_t> next{0};
    int64_t end = 0;
  };

  const std::function<void(int64_t)>& body_;
  int64_t stretches_;
  FirstError error_;
  std::array<Stretch, kStretches> list_;
};

}  // namespace

struct ThreadPool::State {
  int threads = 1;
  bool watches = false;  // there is a CPU for each thread
  pid_t process = getpid();
  std::mutex run_mutex;         // held by the thread whose loop the workers serve; guards these two:
  Clock::time_point light_end;  // of the last light loop
  int following = 0;            // light loops that followed another closely
  std::mutex mutex;             // guards what follows
  std::condition_variable work_ready;
  std::condition_variable work_left;
  Job* job = nullptr;
  int wanted = 0;  // workers that may still enter the job
  bool stop = false;
  std::vector<Parked> parked;  // workers, by number - 1
  std::vector<std::thread> workers;
  // Threads look at these all the time, so each has its line.
  alignas(kCacheLine) std::atomic<int> inside = 0;      // workers in the job
  alignas(kCacheLine) std::atomic<uint64_t> calls = 0;  // jobs so far, and the end
  alignas(kCacheLine) std::atomic<int> looking = 0;     // workers that watch for one

  // Whether workers help with a light loop.
  bool awake() {
    if (looking != 0) return true;
    following = Clock::now() - light_end < kClose ? following + 1 : 0;
    if (!watches || following < kFollowing) return false;
    following = 0;
    return true;
  }
  [[nodiscard]] bool called() const { return stop || (job != nullptr && wanted > 0); }
  // Whether a loop calls before a while has gone by in which none did. `lock` is that of the mutex.
  bool look(std::unique_lock<std::mutex>& lock) {
    ++looking;
    uint64_t seen = 0;
    do {
      seen = calls;
      lock.unlock();
      watch([&] { return calls.load(std::memory_order_relaxed) != seen; });
      lock.lock();
    } while (!called() && calls != seen);  // too late for that one
    --looking;
    return called();
  }
  void serve(int64_t number) {
    bool soon = watches;  // it was worth looking for the last loop, or would have been
    std::unique_lock lock(mutex);
    Parked& me = parked[static_cast<size_t>(number - 1)];
    me.thread = gettid();
    for (;;) {
      soon = soon && (called() || look(lock));
      while (!called()) {
        const uint64_t seen = calls;
        const auto since = Clock::now();
        me.sleeps();
        work_ready.wait(lock);
        me.woke();
        soon = watches && Clock::now() - since < 2 * kWatch;
        // Too late for that loop, but in time for the next perhaps.
        if (watches && calls != seen && !called()) soon = look(lock);
      }
      if (stop) return;
      Job* mine = job;
      --wanted;
      ++inside;
      lock.unlock();
      mine->work(number);
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
  state_->watches = state_->threads <= usable_cpus();
  State* state = state_.get();
  state->parked.resize(static_cast<size_t>(state->threads - 1));
  for (int i = 1; i < state->threads; ++i) state->workers.emplace_back([state, i] { state->serve(i); });
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
    ++state_->calls;
  }
  state_->work_ready.notify_all();
  for (std::thread& worker : state_->workers) worker.join();
}

int ThreadPool::threads() const { return state_->threads; }

void ThreadPool::run(int64_t parts, const std::function<void(int64_t)>& body, Load load) {
  if (parts <= 0) return;
  State& state = *state_;
  // A pool that serves another thread's loop, or that lost its workers in a fork (which may have left its mutexes
  // locked), is no use: run here.
  std::unique_lock turn(state.run_mutex, std::defer_lock);
  if (parts == 1 || state.threads == 1 || inside_part() || state.process != getpid() || !turn.try_lock()) {
    run_in_order(parts, body);
  } else if (load == Load::Light && !state.awake()) {
    run_in_order(parts, body);
    state.light_end = Clock::now();
  } else {
    Job job(body, parts, state.threads);
    const auto helpers = static_cast<int>(std::min<int64_t>(parts, state.threads) - 1);
    {
      const std::lock_guard lock(state.mutex);
      state.job = &job;
      state.wanted = helpers;
      if (state.watches)
        for (Parked& worker : state.parked) worker.send_away();
      ++state.calls;
    }
    for (int i = 0; i < helpers; ++i) state.work_ready.notify_one();
    job.work(0);
    // Workers that have not entered by now are not waited for.
    std::unique_lock lock(state.mutex);
    state.job = nullptr;
    state.wanted = 0;
    if (state.watches && state.inside != 0) {
      lock.unlock();
      watch([&] { return state.inside == 0; });
      lock.lock();
    }
    state.work_left.wait(lock, [&] { return state.inside == 0; });
    lock.unlock();
    if (load == Load::Light) state.light_end = Clock::now();
    job.rethrow();
  }
}

}  // namespace tenon
