#include "tenon/serve/scheduler.h"

#include <fmt/format.h>
#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <utility>

#include "tenon/exec/session.h"
#include "tenon/serve/batch.h"
#include "tenon/serve/metrics.h"

namespace tenon::serve {
namespace {

double seconds(Clock::duration d) { return std::chrono::duration<double>(d).count(); }
int64_t nanoseconds(Clock::time_point t) { return std::chrono::nanoseconds(t.time_since_epoch()).count(); }

Status expired(std::string_view when) {
  return {Code::DeadlineExceeded, fmt::format("the deadline passed while the request {}", when), 0};
}

}  // namespace

struct Lane::Job {
  LanePtr lane;
  std::vector<Value> inputs;
  int64_t rows = 1;
  Clock::time_point deadline;
  int priority = 0;
  CancelPtr cancel;
  Timings timings;
  enum class State : uint8_t { Queued, Running, Left } state = State::Queued;  // under the scheduler's mutex
  std::atomic<bool> answered{false};
  Scheduler::Done done;

  // The deadline, the client's leaving and the run may race: whoever claims the job answers it.
  bool claim() { return !answered.exchange(true, std::memory_order_acq_rel); }
  void answer(Status status, std::vector<Value> outputs = {}, Clock::time_point ready = {},
              Clock::time_point computed = {}, bool leads_batch = true) {
    if (claim()) answer_claimed(std::move(status), std::move(outputs), ready, computed, leads_batch);
  }
  void answer_claimed(Status status, std::vector<Value> outputs = {}, Clock::time_point ready = {},
                      Clock::time_point computed = {}, bool leads_batch = true) {
    lane->pending_.fetch_sub(1, std::memory_order_relaxed);
    timings.ready = std::max(ready, timings.started);
    timings.computed = std::max(computed, timings.ready);
    timings.finished = Clock::now();
    if (!status.ok()) {
      const std::lock_guard lock(lane->statistics_mutex_);
      lane->statistics_.fail.add(timings.finished - timings.arrived);
    }
    const auto call = std::exchange(done, nullptr);
    call({std::move(status), std::move(outputs), timings, leads_batch});
  }
};

namespace {

void pin(const std::vector<int>& cpus) {
  if (cpus.empty()) return;
  cpu_set_t set;
  CPU_ZERO(&set);
  for (const int cpu : cpus) CPU_SET(static_cast<size_t>(cpu), &set);
  ::pthread_setaffinity_np(::pthread_self(), sizeof(set), &set);  // faults() has seen that it may
}

int64_t bytes_of_all(const std::vector<Value>& values) {
  int64_t bytes = 0;
  for (const auto& value : values) bytes += byte_size(value);
  return bytes;
}

}  // namespace

// The threads of one model. They end when their lane does, or the scheduler, whichever comes first.
struct Lane::Pool {
  Pool(Lane* l, std::mutex& m) : lane(l), scheduler(m) {}
  Lane* lane;                    // valid until `ending`, under the scheduler's mutex
  std::mutex& scheduler;         // which outlives the threads
  std::condition_variable work;  // with the scheduler's mutex
  bool ending = false;           // under it
  std::mutex ends;
  std::vector<std::unique_ptr<Scheduler::Worker>> workers;
  std::atomic<bool> joined{false};

  void end() {
    if (of_this_thread() == this) {  // the last request of a lane that nobody else holds: stop() joins
      tell();
      return;
    }
    const std::lock_guard once(ends);
    if (workers.empty()) return;
    tell();
    for (auto& worker : workers) worker->thread.join();
    workers.clear();
    joined = true;
  }
  // The pool that the calling thread belongs to.
  static Pool*& of_this_thread() {
    thread_local Pool* pool = nullptr;
    return pool;
  }

 private:
  void tell() {
    {
      const std::lock_guard lock(scheduler);
      ending = true;
    }
    work.notify_all();
  }
};

Lane::~Lane() {
  if (pool_) pool_->end();
}

struct Scheduler::Batch {
  LanePtr lane;
  CloseReason reason = CloseReason::Single;
  std::vector<JobPtr> jobs;
  int64_t bytes = 0;  // of a single request's inputs
};

void Scheduler::Busy::begin(Lane& l, Clock::time_point now) {
  lane.store(&l, std::memory_order_relaxed);
  since.store(nanoseconds(now), std::memory_order_release);
}

void Scheduler::for_each_busy(const std::function<void(Busy&)>& look) {
  for (const auto& worker : workers_) look(worker->busy);
  for (const auto& place : places_) look(place->busy);
  for (const auto& pool : pools_) {
    if (pool->ending) continue;
    for (const auto& worker : pool->workers) look(worker->busy);
  }
}

void Scheduler::look_for_stuck_runs() {
  struct Stuck {
    Labels which;
    std::shared_ptr<void> held;  // the version may be gone before it is counted
    double seconds;
  };
  std::vector<Stuck> stuck;
  const int64_t now = nanoseconds(Clock::now());
  {
    const std::lock_guard lock(mutex_);
    for_each_busy([&](Busy& busy) {
      const int64_t since = busy.since.load(std::memory_order_acquire);
      if (since == 0 || since == busy.told_of || now - since < std::chrono::nanoseconds(options_.stuck_after).count())
        return;
      busy.told_of = since;
      const Lane& lane = *busy.lane.load(std::memory_order_relaxed);
      stuck.push_back({{{"model", lane.model_name_}, {"version", std::to_string(lane.version_)}},
                       lane.held_,
                       static_cast<double>(now - since) * 1e-9});
    });
  }
  for (auto& run : stuck) {
    metrics_.counter("tenon_stuck_runs_total", "Runs that took longer than the bound for stuck runs.", run.which).add();
    run.which.emplace_back("running_seconds", fmt::format("{:.1f}", run.seconds));
    if (options_.log) options_.log("error", "run_stuck", run.which);
  }
}

Scheduler::Scheduler(SchedulerOptions options, Metrics& metrics) : options_(std::move(options)), metrics_(metrics) {
  int threads = options_.threads;
  if (threads <= 0) threads = std::max(1, static_cast<int>(std::thread::hardware_concurrency()));
  for (int i = 0; i < threads; ++i) {
    workers_.push_back(std::make_unique<Worker>());
    places_.push_back(std::make_unique<Place>());
    free_places_.push_back(places_.back().get());
  }
  for (auto& worker : workers_) worker->thread = std::thread([this, w = worker.get()] { work(*w, nullptr); });
  deadline_watch_ = std::thread([this] { watch_deadlines(); });
  metrics.gauge("tenon_longest_run_seconds", "How long the batch that runs longest has been running.", {}, [this] {
    int64_t since = 0;
    const std::lock_guard lock(mutex_);
    for_each_busy([&](const Busy& busy) {
      const int64_t t = busy.since.load(std::memory_order_relaxed);
      if (t != 0 && (since == 0 || t < since)) since = t;
    });
    return since == 0 ? 0.0 : static_cast<double>(nanoseconds(Clock::now()) - since) * 1e-9;
  });
}

Scheduler::~Scheduler() { stop(); }

void Scheduler::stop() {
  std::vector<JobPtr> waiting;
  std::vector<std::shared_ptr<Lane::Pool>> pools;
  std::vector<LanePtr> active;  // let go after the lock
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) return;
    stopping_ = true;
    const auto empty = [&](Lane& lane) {
      for (auto& job : lane.queue_) {
        job->state = Job::State::Left;
        waiting.push_back(std::move(job));
      }
      lane.queue_.clear();
      lane.queued_ = lane.queued_rows_ = 0;
    };
    active.swap(active_);
    for (const auto& lane : active) empty(*lane);
    pools.swap(pools_);
    for (const auto& pool : pools) {
      if (!pool->ending) empty(*pool->lane);
    }
  }
  work_.notify_all();
  for (const auto& job : waiting) job->answer({Code::Unavailable, "the server is stopping", 1});
  for (auto& worker : workers_) worker->thread.join();
  for (const auto& pool : pools) pool->end();
  {
    std::unique_lock lock(mutex_);
    place_freed_.wait(lock, [this] { return free_places_.size() == places_.size(); });
  }
  {
    const std::lock_guard lock(deadlines_mutex_);
    deadlines_stopping_ = true;
  }
  deadlines_changed_.notify_all();
  deadline_watch_.join();
}

void Scheduler::submit(const LanePtr& lane, std::vector<Value> inputs, Clock::time_point deadline, int priority,
                       const CancelPtr& cancel, Done done) {
  const BatchingOptions& batching = lane->options_.batching;
  const auto now = Clock::now();
  if (deadline <= now) throw RequestError(Code::DeadlineExceeded, "the deadline passed before the request was queued");
  const bool own_pool = lane->options_.pool.threads > 0;
  if (!batching.enabled && !own_pool && priority >= 0 && lane->options_.run_here_below.count() > 0 &&
      !(cancel && cancel->requested())) {
    if (Place* place = take_place(*lane, bytes_of_all(inputs)))
      return run_here(*place, lane, std::move(inputs), now, done);
  }
  auto job = std::make_shared<Job>();
  job->lane = lane;
  job->rows = batching.enabled ? batch_rows(inputs, lane->model_->inputs()) : 1;
  if (batching.enabled && job->rows > batching.max_batch_size && !batching.split_large)
    throw RequestError(Code::InvalidArgument, fmt::format("the request has {} rows; a batch of '{}' takes {}",
                                                          job->rows, lane->model_name_, batching.max_batch_size));
  job->inputs = std::move(inputs);
  job->deadline = deadline;
  job->priority = priority;
  job->cancel = cancel;
  job->timings = {now, now, now, now, now};
  job->done = std::move(done);
  {
    const std::lock_guard lock(mutex_);
    if (stopping_) throw RequestError(Code::Unavailable, "the server is stopping", 1);
    if (lane->queued_ >= lane->options_.max_queued)
      throw RequestError(Code::Unavailable,
                         fmt::format("the queue of '{}' is full: {} requests wait", lane->model_name_, lane->queued_),
                         1);
    if (own_pool && !lane->pool_) start_pool(lane);
    const int pool = own_pool ? lane->options_.pool.threads : threads();
    const int at_once = lane->options_.instances > 0 ? std::min(lane->options_.instances, pool) : pool;
    const double wait = static_cast<double>(lane->queued_rows_) / lane->rows_per_run_ / at_once * lane->run_seconds_;
    if (deadline != kNever && wait > seconds(deadline - now))
      throw RequestError(
          Code::DeadlineExceeded,
          fmt::format("the deadline would pass in the queue: about {:.0f} ms of work are before it", wait * 1e3));
    auto at = lane->queue_.end();
    while (at != lane->queue_.begin() && (*std::prev(at))->priority < priority) --at;
    if (lane->queue_.empty() && !own_pool) active_.push_back(lane);
    lane->queue_.insert(at, job);
    ++lane->queued_;
    lane->queued_rows_ += job->rows;
    lane->pending_.fetch_add(1, std::memory_order_relaxed);
  }
  (own_pool ? lane->pool_->work : work_).notify_one();
  if (deadline != kNever) watch_deadline(job);
  if (cancel) {
    cancel->on_request([this, weak = std::weak_ptr(job)] {
      const auto gone = weak.lock();
      if (gone && !gone->answered) leave_early(gone, {Code::Cancelled, "the client went away", 0});
    });
  }
}

// A place to run on the caller's thread; null if the request must queue.
Scheduler::Place* Scheduler::take_place(Lane& lane, int64_t bytes) {
  const std::lock_guard lock(mutex_);
  if (stopping_ || free_places_.empty() || !lane.queue_.empty() || bytes > lane.quick_bytes_) return nullptr;
  if (lane.run_seconds_ >= seconds(lane.options_.run_here_below)) return nullptr;
  if (lane.options_.instances > 0 && lane.running_ >= lane.options_.instances) return nullptr;
  ++lane.running_;
  lane.pending_.fetch_add(1, std::memory_order_relaxed);
  Place* place = free_places_.back();
  free_places_.pop_back();
  return place;
}

void Scheduler::run_here(Place& place, const LanePtr& lane, std::vector<Value> inputs, Clock::time_point now,
                         const Done& done) {
  if (!place.session)
    place.session = std::make_unique<exec::Session>(exec::SessionOptions{.threads = options_.threads_per_run});
  place.busy.begin(*lane, now);
  Result result{.status = {}, .outputs = {}, .timings = {now, now, now, now, now}};
  try {
    const exec::SessionScope scope(*place.session);
    result.outputs = lane->model_->run(std::move(inputs));
  } catch (...) {
    result.status = current_status();
  }
  place.busy.end();
  result.timings.computed = result.timings.finished = Clock::now();
  lane->pending_.fetch_sub(1, std::memory_order_relaxed);
  lane->note_batch(CloseReason::Single, result.status.ok(), 1, 1, result.timings, {&now, 1});
  if (!result.status.ok()) {
    const std::lock_guard lock(lane->statistics_mutex_);
    lane->statistics_.fail.add(result.timings.finished - now);
  }
  bool stopping = false, waiting = false;
  {
    const std::lock_guard lock(mutex_);
    note_run(*lane, result.status.ok(), seconds(result.timings.computed - now), 1, -1);
    --lane->running_;
    free_places_.push_back(&place);
    stopping = stopping_;
    waiting = !lane->queue_.empty();
  }
  if (stopping) place_freed_.notify_all();
  if (waiting) work_.notify_one();
  done(std::move(result));
}

// Keeps what the next decisions are made from. Under the mutex. What failed or did not run at all, and was quick, says
// nothing of how long the model takes.
void Scheduler::note_run(Lane& lane, bool ok, double took, int64_t rows, int64_t bytes) {
  if (!ok && took < lane.run_seconds_) return;
  lane.run_seconds_ = lane.run_seconds_ == 0 ? took : 0.8 * lane.run_seconds_ + 0.2 * took;
  lane.rows_per_run_ = 0.8 * lane.rows_per_run_ + 0.2 * static_cast<double>(rows);
  if (ok && took < seconds(lane.options_.run_here_below)) lane.quick_bytes_ = std::max(lane.quick_bytes_, bytes);
}

void Scheduler::watch_deadline(const JobPtr& job) {
  bool first = false;
  {
    const std::lock_guard lock(deadlines_mutex_);
    if (deadlines_.size() >= tidy_deadlines_at_) {
      std::erase_if(deadlines_, [](const Deadline& d) {
        const auto waits = d.job.lock();
        return !waits || waits->answered;
      });
      std::make_heap(deadlines_.begin(), deadlines_.end());
      tidy_deadlines_at_ = std::max<size_t>(1024, 2 * deadlines_.size());
    }
    first = deadlines_.empty() || job->deadline < deadlines_.front().at;
    deadlines_.push_back({job->deadline, job});
    std::push_heap(deadlines_.begin(), deadlines_.end());
  }
  if (first) deadlines_changed_.notify_one();
}

void Scheduler::drain() {
  {
    const std::lock_guard lock(mutex_);
    draining_ = true;
    for (const auto& pool : pools_) pool->work.notify_all();
  }
  work_.notify_all();
}

// Takes a waiting job out of its queue. False if it runs or has left already.
bool Scheduler::take_out(const JobPtr& job) {
  const std::lock_guard lock(mutex_);
  if (job->state != Job::State::Queued) return false;
  job->state = Job::State::Left;
  Lane& lane = *job->lane;
  lane.queue_.erase(std::find(lane.queue_.begin(), lane.queue_.end(), job));
  --lane.queued_;
  lane.queued_rows_ -= job->rows;
  if (lane.queue_.empty()) std::erase(active_, job->lane);
  return true;
}

void Scheduler::leave_early(const JobPtr& job, Status status) {
  const bool waited = take_out(job);
  if (!job->claim()) return;
  if (status.code == Code::Cancelled)
    job->lane->cancelled_->add();
  else
    (waited ? job->lane->expired_queued_ : job->lane->expired_running_)->add();
  job->answer_claimed(std::move(status));
}

void Scheduler::watch_deadlines() {
  using std::chrono::milliseconds;
  const milliseconds between = std::clamp(options_.stuck_after / 4, milliseconds(1), milliseconds(5000));
  const bool look = options_.stuck_after.count() > 0;
  auto next_look = Clock::now() + between;
  std::unique_lock lock(deadlines_mutex_);
  while (!deadlines_stopping_) {
    const auto now = Clock::now();
    if (look && now >= next_look) {
      lock.unlock();
      look_for_stuck_runs();
      next_look = now + between;
      lock.lock();
      continue;
    }
    const auto deadline = deadlines_.empty() ? kNever : deadlines_.front().at;
    if (deadline > now) {
      const auto wake = look ? std::min(deadline, next_look) : deadline;
      if (wake == kNever)
        deadlines_changed_.wait(lock);  // NOLINT(bugprone-spuriously-wake-up-functions): the loop looks again
      else
        deadlines_changed_.wait_until(lock, wake);
      continue;
    }
    const JobPtr job = deadlines_.front().job.lock();
    std::pop_heap(deadlines_.begin(), deadlines_.end());
    deadlines_.pop_back();
    if (!job || job->answered) continue;
    lock.unlock();
    bool runs = false;
    {
      const std::lock_guard state(mutex_);
      runs = job->state == Job::State::Running;
    }
    leave_early(job, expired(runs ? "ran" : "waited in the queue"));
    lock.lock();
  }
}

std::unique_ptr<Scheduler::Batch> Scheduler::batch_of(Lane& lane, Clock::time_point now, Clock::time_point& wake) {
  if (lane.options_.instances > 0 && lane.running_ >= lane.options_.instances) return nullptr;
  const BatchingOptions& batching = lane.options_.batching;
  size_t count = 1;
  CloseReason reason = CloseReason::Single;
  if (batching.enabled && lane.queue_.front()->rows > batching.max_batch_size) {
    reason = CloseReason::Split;
  } else if (batching.enabled) {
    count = 0;
    int64_t rows = 0;
    bool closed = false;
    Clock::time_point oldest = now;
    for (const auto& job : lane.queue_) {
      if (rows + job->rows > batching.max_batch_size) {
        closed = true;
        reason = CloseReason::Full;
      } else if (!same_batch(lane.queue_.front()->inputs, job->inputs, batching.pad_variable_length)) {
        closed = true;
        reason = CloseReason::Shape;
      }
      if (closed) break;
      rows += job->rows;
      oldest = std::min(oldest, job->timings.arrived);
      ++count;
    }
    if (!closed) {
      closed = true;
      if (rows == batching.max_batch_size)
        reason = CloseReason::Full;
      else if (draining_)
        reason = CloseReason::Drain;
      else if (oldest + batching.timeout <= now)
        reason = CloseReason::Timeout;
      else
        closed = false;
    }
    if (!closed) {
      wake = std::min(wake, oldest + batching.timeout);
      return nullptr;
    }
  }
  auto batch = std::make_unique<Batch>();
  batch->reason = reason;
  batch->lane = lane.queue_.front()->lane;
  for (size_t i = 0; i < count; ++i) {
    JobPtr job = std::move(lane.queue_.front());
    lane.queue_.pop_front();
    job->state = Job::State::Running;
    job->timings.started = now;
    --lane.queued_;
    lane.queued_rows_ -= job->rows;
    batch->jobs.push_back(std::move(job));
  }
  ++lane.running_;
  return batch;
}

std::unique_ptr<Scheduler::Batch> Scheduler::next_batch(Clock::time_point now, Clock::time_point& wake) {
  for (size_t i = 0; i < active_.size(); ++i) {
    const size_t at = (turn_ + i) % active_.size();
    auto batch = batch_of(*active_[at], now, wake);
    if (!batch) continue;
    turn_ = at + 1;
    if (batch->lane->queue_.empty()) {
      active_.erase(active_.begin() + static_cast<std::ptrdiff_t>(at));
      turn_ = at;
    }
    return batch;
  }
  return nullptr;
}

// Under the mutex.
void Scheduler::start_pool(const LanePtr& lane) {
  const PoolOptions& options = lane->options_.pool;
  std::erase_if(pools_, [](const auto& pool) { return pool->joined.load(); });
  lane->pool_ = pools_.emplace_back(std::make_shared<Lane::Pool>(lane.get(), mutex_));
  for (int i = 0; i < options.threads; ++i) {
    auto worker = std::make_unique<Worker>();
    // The threads keep the pool; the lane ends it.
    worker->thread = std::thread([this, pool = lane->pool_, w = worker.get()] { work(*w, pool.get()); });
    lane->pool_->workers.push_back(std::move(worker));
  }
}

void Scheduler::work(Worker& self, Lane::Pool* pool) {
  int threads_per_run = options_.threads_per_run;
  if (pool) {
    Lane::Pool::of_this_thread() = pool;
    std::unique_lock lock(mutex_);
    if (pool->ending) return;
    const PoolOptions options = pool->lane->options_.pool;
    lock.unlock();
    if (options.threads_per_run > 0) threads_per_run = options.threads_per_run;
    pin(options.cpus);  // first: the threads of a run inherit it
  }
  exec::Session session({.threads = threads_per_run});
  const exec::SessionScope scope(session);
  std::condition_variable& work = pool ? pool->work : work_;
  std::unique_lock lock(mutex_);
  while (true) {
    Clock::time_point wake = kNever;
    const auto now = Clock::now();
    std::unique_ptr<Batch> batch;
    if (!pool)
      batch = next_batch(now, wake);
    else if (!pool->ending && !pool->lane->queue_.empty())
      batch = batch_of(*pool->lane, now, wake);
    if (batch) {
      const bool more = pool ? !pool->lane->queue_.empty() : !active_.empty();
      lock.unlock();
      if (more) work.notify_one();
      self.busy.begin(*batch->lane, now);
      const bool ok = execute(*batch);
      self.busy.end();
      Lane& lane = *batch->lane;
      const double took = seconds(Clock::now() - now);
      int64_t rows = 0;
      for (const auto& job : batch->jobs) rows += job->rows;
      lock.lock();
      --lane.running_;
      note_run(lane, ok, took, rows, batch->bytes);
      lock.unlock();
      batch.reset();  // the last one of a retired version frees it, which takes time
      lock.lock();
      continue;
    }
    if (pool ? pool->ending : stopping_) return;
    if (wake == kNever)
      work.wait(lock);  // NOLINT(bugprone-spuriously-wake-up-functions): the loop looks again
    else
      work.wait_until(lock, wake);
  }
}

bool Scheduler::execute(Batch& batch) {
  std::vector<JobPtr> jobs;
  const auto now = Clock::now();
  for (const auto& job : batch.jobs) {
    if (job->answered) continue;  // who went away since is left out
    if (job->deadline > now) {
      jobs.push_back(job);
    } else if (job->claim()) {  // those who watch the deadlines have not come to it yet
      job->lane->expired_queued_->add();
      job->answer_claimed(expired("waited in the queue"));
    }
  }
  if (jobs.empty()) return false;  // nothing runs, so nothing is counted
  if (batch.reason == CloseReason::Single) batch.bytes = bytes_of_all(jobs[0]->inputs);
  return batch.reason == CloseReason::Split ? run_split(batch, jobs[0]) : run_batch(batch, jobs, batch.reason);
}

bool Scheduler::run_batch(Batch& batch, std::vector<JobPtr>& jobs, CloseReason reason) {
  Lane& lane = *batch.lane;
  const BatchingOptions& batching = lane.options_.batching;
  int64_t rows = 0;
  for (const auto& job : jobs) rows += job->rows;
  const int64_t padded = batching.enabled ? padded_rows(rows, batching.allowed_sizes) : rows;
  std::vector<std::vector<Value>> parts;
  Status status;
  const auto started = jobs[0]->timings.started;
  auto ready = started, computed = started;
  try {
    std::vector<Value> inputs;
    if (jobs.size() == 1 && padded == rows) {
      inputs = std::move(jobs[0]->inputs);  // the model may take its memory
    } else {
      std::vector<const std::vector<Value>*> given;
      for (const auto& job : jobs) given.push_back(&job->inputs);
      inputs = joined_inputs(given, padded, batching.pad_variable_length);
    }
    ready = Clock::now();
    std::vector<Value> outputs = lane.model_->run(std::move(inputs));
    computed = Clock::now();
    std::vector<int64_t> counts;
    for (const auto& job : jobs) counts.push_back(job->rows);
    if (jobs.size() == 1 && padded == rows)
      parts.push_back(std::move(outputs));
    else
      parts = split_outputs(outputs, counts, padded, lane.model_->outputs());
  } catch (...) {
    status = current_status();
  }
  const auto finished = Clock::now();
  if (!status.ok() && jobs.size() > 1) {  // one client's mistake is not the others'
    lane.note_batch(reason, false, rows, 0, {started, started, ready, computed, finished}, {});
    bool any = false;
    for (const auto& job : jobs) {
      if (job->answered) continue;
      std::vector<JobPtr> alone{job};
      any = run_batch(batch, alone, CloseReason::Alone) || any;
    }
    return any;
  }
  // Who went away meanwhile has been answered, and counted, as that.
  std::vector<size_t> stay;
  std::vector<Clock::time_point> arrived;
  int64_t returned = 0;
  for (size_t i = 0; i < jobs.size(); ++i) {
    jobs[i]->inputs.clear();
    if (!jobs[i]->claim()) continue;
    stay.push_back(i);
    arrived.push_back(jobs[i]->timings.arrived);
    returned += jobs[i]->rows;
  }
  lane.note_batch(reason, status.ok(), rows, returned, {started, started, ready, computed, finished}, arrived);
  for (const size_t i : stay)
    jobs[i]->answer_claimed(status, status.ok() ? std::move(parts[i]) : std::vector<Value>(), ready, computed,
                            i == stay[0]);
  return status.ok();
}

// One request larger than a batch, in parts; its answer is put together again.
bool Scheduler::run_split(Batch& batch, const JobPtr& job) {
  Lane& lane = *batch.lane;
  const int64_t most = lane.options_.batching.max_batch_size;
  Status status;
  std::vector<Value> outputs;
  const auto started = job->timings.started;
  int64_t ran = 0;
  bool left = false;
  try {
    std::vector<std::vector<Value>> parts;
    for (int64_t at = 0; at < job->rows; at += most) {
      left = job->answered;
      if (left) break;  // gone, or too late: the rest is not computed
      const int64_t end = std::min(job->rows, at + most);
      ran = end;
      std::vector<Value> piece;
      for (const Value& value : job->inputs) piece.push_back(rows(value, at, end));
      const int64_t padded = padded_rows(end - at, lane.options_.batching.allowed_sizes);
      if (padded != end - at) piece = joined_inputs({&piece}, padded, false);
      auto out = lane.model_->run(std::move(piece));
      parts.push_back(std::move(split_outputs(out, {end - at}, padded, lane.model_->outputs())[0]));
    }
    for (size_t o = 0; !left && o < parts[0].size(); ++o) {
      std::vector<const Value*> pieces;
      for (const auto& part : parts) pieces.push_back(&part[o]);
      outputs.push_back(concat_rows(pieces, job->rows));
    }
  } catch (...) {
    status = current_status();
    outputs.clear();
  }
  const auto computed = Clock::now();
  if (ran == 0) return false;
  lane.closed_[static_cast<size_t>(CloseReason::Split)]->add();
  lane.batch_rows_->observe(static_cast<double>(ran));
  lane.run_histogram_->observe(seconds(computed - started));
  lane.queue_seconds_->observe(seconds(started - job->timings.arrived));
  if (left || !job->claim()) return false;
  if (status.ok()) {
    lane.rows_->add(static_cast<uint64_t>(job->rows));
    const std::lock_guard lock(lane.statistics_mutex_);
    Statistics& s = lane.statistics_;
    lane.last_inference_ = computed;
    s.inferences += static_cast<uint64_t>(job->rows);
    s.executions += static_cast<uint64_t>((job->rows + most - 1) / most);
    s.success.add(computed - job->timings.arrived);
    s.queue.add(started - job->timings.arrived);
    s.compute_infer.add(computed - started);
  }
  const bool ok = status.ok();
  job->answer_claimed(std::move(status), std::move(outputs), started, computed);
  return ok;
}

}  // namespace tenon::serve
