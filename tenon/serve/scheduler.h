// The scheduler: queues of requests, one for each model version, and the threads that run them in batches.
//
// A request leaves the queue in one of four ways: it runs, its deadline passes (it then never runs), its client goes
// away, or the scheduler is destroyed. A request whose deadline passes while it runs is answered at that moment.
// A batch that runs is counted by the reason for which it was closed: full, timeout, shape, drain; single (batching is
// off), split (one request larger than a batch) or alone (its batch failed, and each of its requests runs by itself).
#pragma once

#include <array>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <span>
#include <thread>
#include <vector>

#include "tenon/serve/log_sink.h"
#include "tenon/serve/model.h"
#include "tenon/serve/request.h"
#include "tenon/serve/tfs_metrics.h"

namespace tenon::exec {
class Session;
}

namespace tenon::serve {

struct BatchingOptions {
  bool enabled = false;
  int64_t max_batch_size = 32;           // rows
  std::chrono::microseconds timeout{0};  // how long the first request of a batch waits for others
  std::vector<int64_t> allowed_sizes{};  // rising; the last one is max_batch_size. Batches are padded up to one
  bool pad_variable_length = false;      // inputs of other extents are padded with zeros to the largest of the batch
  bool split_large = true;               // a request with more rows runs in parts; else it is refused
};

// Threads of a model's own, which wait for its work alone and park when there is none. As many runs at the same time.
struct PoolOptions {
  int threads = 0;          // 0: none, the model shares the server's
  int threads_per_run = 0;  // of each run; 0: as the server's
  std::vector<int> cpus{};  // that they may run on; empty: all
  bool operator==(const PoolOptions&) const = default;
};
// All that is wrong with them, in words; CPUs that this process may not use, too.
std::vector<std::string> faults(const PoolOptions& options);

struct LaneOptions {
  BatchingOptions batching{};
  int64_t max_queued = 1024;  // requests that wait; more are refused with UNAVAILABLE
  int instances = 0;          // runs at the same time; 0: as many as there are threads
  // Unbatched requests run on the thread that brings them, while their model is known to take less than this: the
  // hand-over to another thread costs more. 0: never.
  std::chrono::microseconds run_here_below{100};
  PoolOptions pool{};
  Precision precision = Precision::Strict;  // what the model was loaded with (ModelLoader)
};

enum class CloseReason : uint8_t { Full, Timeout, Shape, Drain, Single, Split, Alone };
inline constexpr size_t kCloseReasons = 7;
std::string_view name(CloseReason reason);

struct CountAndTime {
  uint64_t count = 0;
  uint64_t ns = 0;
  void add(Clock::duration d, uint64_t n = 1) {
    count += n;
    ns += static_cast<uint64_t>(std::chrono::nanoseconds(d).count()) * n;
  }
};
// The counts that the Open Inference Protocol's statistics show.
struct Statistics {
  uint64_t inferences = 0, executions = 0;  // rows, batches
  int64_t last_inference_ms = 0;            // since the Unix epoch
  CountAndTime success, fail, queue, compute_input, compute_infer, compute_output;
  struct Batch {
    CountAndTime compute_input, compute_infer, compute_output;
  };
  std::map<int64_t, Batch> batches;  // by rows
};

// All requests of a version, whatever their protocol.
struct LaneTotals {
  uint64_t answered = 0, errors = 0, rows = 0;  // answered: with or without success
  std::vector<uint64_t> buckets{};              // by duration: Metrics::duration_bounds() and above
};

// The queue of one model version.
class Lane {
 public:
  // Errors: ValueError for options that contradict themselves. Batching is left out, with a reason that
  // why_no_batching() tells, for a model that has no batch axis.
  // One with a pool of its own must not be let go by a thread of that pool (the repository's never are).
  Lane(std::string model, int64_t version, ModelPtr loaded, LaneOptions options, Metrics& metrics);
  ~Lane();
  Lane(const Lane&) = delete;
  Lane& operator=(const Lane&) = delete;

  [[nodiscard]] const std::string& model_name() const { return model_name_; }
  [[nodiscard]] int64_t version() const { return version_; }
  [[nodiscard]] const Model& model() const { return *model_; }
  [[nodiscard]] const LaneOptions& options() const { return options_; }
  [[nodiscard]] const std::string& why_no_batching() const { return why_no_batching_; }
  [[nodiscard]] Statistics statistics() const;
  // Counts one answered request (or refused one).
  void count_request(Api api, Code code, Clock::duration took);
  // The same under TensorFlow Serving's names.
  [[nodiscard]] TfsMetrics& tfs_metrics() { return tfs_metrics_; }
  // Notes a run that the scheduler did not make: a pipeline's.
  void count_run(Code code, Clock::duration took);
  [[nodiscard]] LaneTotals totals() const;
  [[nodiscard]] int64_t pending() const { return pending_.load(std::memory_order_relaxed); }
  // Expires when nothing of it is left: a weak pointer to the lane itself does before the model's memory is given back.
  [[nodiscard]] std::weak_ptr<const void> alive() const { return alive_; }

 private:
  friend class Scheduler;
  struct Job;
  using JobPtr = std::shared_ptr<Job>;
  struct Pool;

  // Counts a batch that ran: its rows, and those of clients that still get them; when it started, was ready to compute,
  // had computed and ended, and when the requests of these clients came.
  void note_batch(CloseReason reason, bool ok, int64_t rows, int64_t returned, const Timings& when,
                  std::span<const Clock::time_point> arrived);

  std::shared_ptr<const void> alive_ = std::make_shared<char>();  // the first member, and so the last to go
  std::string model_name_;
  int64_t version_;
  ModelPtr model_;
  LaneOptions options_;
  std::string why_no_batching_;

  // Under the scheduler's mutex.
  std::deque<JobPtr> queue_;  // by priority, then by arrival; those that left early are skipped
  int64_t queued_ = 0, queued_rows_ = 0;
  int running_ = 0;
  double run_seconds_ = 0;  // of one batch, a moving average
  double rows_per_run_ = 1;
  int64_t quick_bytes_ = -1;    // of the inputs of the largest request that was quick
  std::shared_ptr<Pool> pool_;  // once there was work for it

  std::shared_ptr<void> held_;  // the cells below
  std::atomic<int64_t> pending_{0};
  mutable std::mutex statistics_mutex_;
  Statistics statistics_;
  Clock::time_point last_inference_{};  // which statistics() tells in time since the Unix epoch
  std::array<Counter*, kCloseReasons> closed_{};
  Histogram* batch_rows_;
  Histogram* queue_seconds_;
  Histogram* run_histogram_;
  Counter* rows_;
  Counter* expired_queued_;
  Counter* expired_running_;
  Counter* cancelled_;
  Metrics* metrics_;
  std::array<std::array<std::atomic<Counter*>, 17>, kApis> requests_{};
  std::array<std::atomic<Histogram*>, kApis> durations_{};
  TfsMetrics tfs_metrics_;
};
using LanePtr = std::shared_ptr<Lane>;

struct SchedulerOptions {
  int threads = 0;          // batches that run at the same time; 0: one for each CPU
  int threads_per_run = 1;  // of each batch
  // A run that takes longer is told of, once: in the log ("run_stuck") and in tenon_stuck_runs_total. 0: never.
  std::chrono::milliseconds stuck_after{60000};
  LogSink log = {};
};

class Scheduler {
  friend class Lane;

 public:
  Scheduler(SchedulerOptions options, Metrics& metrics);
  ~Scheduler();  // stop()
  Scheduler(const Scheduler&) = delete;
  Scheduler& operator=(const Scheduler&) = delete;

  struct Result {
    Status status;
    std::vector<Value> outputs;
    Timings timings;
    bool leads_batch = true;  // of the requests of a batch, one does
  };
  using Done = std::function<void(Result)>;
  // `inputs` fit the model (ordered_inputs). RequestError instead of a call of `done`: UNAVAILABLE if the queue is
  // full, DEADLINE_EXCEEDED if the deadline has passed or will have before its turn, INVALID_ARGUMENT for inputs whose
  // batch sizes differ.
  // A quick request may be run, and `done` called, before this returns (LaneOptions::run_here_below), unless its
  // priority is below 0.
  void submit(const LanePtr& lane, std::vector<Value> inputs, Clock::time_point deadline, int priority,
              const CancelPtr& cancel, Done done);
  // Batches close at once from now on.
  void drain();
  // Ends what runs; answers what waits, and what comes later, with UNAVAILABLE.
  void stop();
  [[nodiscard]] int threads() const { return static_cast<int>(workers_.size()); }

 private:
  using Job = Lane::Job;
  using JobPtr = Lane::JobPtr;
  struct Batch;
  // A run under way, for those who watch.
  struct Busy {
    std::atomic<int64_t> since{0};  // ns of the clock; 0: idle
    // Valid while `since` is not 0 and the mutex is held: whoever runs takes the mutex before the lane may go.
    std::atomic<Lane*> lane{nullptr};
    int64_t told_of = 0;  // the watch's: the run whose length it has told

    void begin(Lane& l, Clock::time_point now);
    void end() { since.store(0, std::memory_order_release); }
  };
  struct Worker {
    std::thread thread;
    Busy busy;
  };
  // What a request needs to run on the thread that brings it. As many as there are workers.
  struct Place {
    std::unique_ptr<exec::Session> session;
    Busy busy;
  };

  void work(Worker& self, Lane::Pool* pool);
  void start_pool(const LanePtr& lane);
  void watch_deadlines();
  // Calls `look` with every Busy; under the mutex.
  void for_each_busy(const std::function<void(Busy&)>& look);
  void look_for_stuck_runs();
  std::unique_ptr<Batch> next_batch(Clock::time_point now, Clock::time_point& wake);
  std::unique_ptr<Batch> batch_of(Lane& lane, Clock::time_point now, Clock::time_point& wake);
  // These say whether the model ran, and did not fail.
  bool execute(Batch& batch);
  bool run_batch(Batch& batch, std::vector<JobPtr>& jobs, CloseReason reason);
  bool run_split(Batch& batch, const JobPtr& job);
  Place* take_place(Lane& lane, int64_t bytes);
  void run_here(Place& place, const LanePtr& lane, std::vector<Value> inputs, Clock::time_point now, const Done& done);
  void note_run(Lane& lane, bool ok, double took, int64_t rows, int64_t bytes);
  void watch_deadline(const JobPtr& job);
  void leave_early(const JobPtr& job, Status status);
  bool take_out(const JobPtr& job);

  SchedulerOptions options_;
  Metrics& metrics_;
  std::mutex mutex_;
  std::condition_variable work_;
  std::vector<LanePtr> active_;  // those with a queue and no pool of their own
  // Shared with their lanes: one whose lane is just being freed must still have ended before the mutex goes.
  std::vector<std::shared_ptr<Lane::Pool>> pools_;
  size_t turn_ = 0;
  bool stopping_ = false, draining_ = false;
  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<std::unique_ptr<Place>> places_;
  std::vector<Place*> free_places_;
  std::condition_variable place_freed_;  // for stop()

  struct Deadline {
    Clock::time_point at;
    std::weak_ptr<Job> job;
    bool operator<(const Deadline& other) const { return at > other.at; }  // the earliest on top
  };
  std::mutex deadlines_mutex_;
  std::condition_variable deadlines_changed_;
  std::vector<Deadline> deadlines_;  // a heap
  size_t tidy_deadlines_at_ = 1024;  // those already answered are thrown out when there are so many
  bool deadlines_stopping_ = false;
  std::thread deadline_watch_;
};

}  // namespace tenon::serve
