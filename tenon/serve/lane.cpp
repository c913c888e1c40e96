#include <fmt/format.h>
#include <fmt/ranges.h>
#include <sched.h>

#include <algorithm>

#include "tenon/base/error.h"
#include "tenon/serve/metrics.h"
#include "tenon/serve/scheduler.h"

namespace tenon::serve {
namespace {

constexpr std::string_view kReasons[kCloseReasons] = {"full", "timeout", "shape", "drain", "single", "split", "alone"};

void check(const BatchingOptions& b, const std::string& where) {
  const auto refuse = [&](std::string problem, std::string hint) {
    throw ValueError({where, std::move(problem), {}, {}, std::move(hint)});
  };
  if (b.max_batch_size < 1) refuse("max_batch_size is less than 1", "max_batch_size { value: 32 }");
  if (b.allowed_sizes.empty()) return;
  if (!std::is_sorted(b.allowed_sizes.begin(), b.allowed_sizes.end(), std::less_equal<>()))
    refuse("allowed_batch_sizes must rise", {});
  if (b.allowed_sizes.front() < 1) refuse("allowed_batch_sizes must be at least 1", {});
  if (b.allowed_sizes.back() != b.max_batch_size)
    refuse(fmt::format("the last of allowed_batch_sizes is {}, max_batch_size is {}: they must be equal",
                       b.allowed_sizes.back(), b.max_batch_size),
           fmt::format("allowed_batch_sizes: {}", b.max_batch_size));
}

}  // namespace

std::vector<std::string> faults(const PoolOptions& options) {
  std::vector<std::string> out;
  if (options.threads < 0 || options.threads > 1024) out.emplace_back("threads must be from 0 to 1024");
  if (options.threads_per_run < 0 || options.threads_per_run > 1024)
    out.emplace_back("threads_per_run must be from 0 to 1024");
  if (options.threads == 0 && (options.threads_per_run != 0 || !options.cpus.empty()))
    out.emplace_back("threads is missing: a pool needs at least one");
  cpu_set_t allowed;
  CPU_ZERO(&allowed);
  ::sched_getaffinity(0, sizeof(allowed), &allowed);
  std::vector<int> there;
  for (int cpu = 0; cpu < CPU_SETSIZE; ++cpu) {
    if (CPU_ISSET(static_cast<size_t>(cpu), &allowed)) there.push_back(cpu);
  }
  for (const int cpu : options.cpus) {
    if (std::find(there.begin(), there.end(), cpu) == there.end())
      out.push_back(
          fmt::format("CPU {} is not one of those that this process may use: {}", cpu, fmt::join(there, ", ")));
  }
  return out;
}

std::string_view name(CloseReason reason) { return kReasons[static_cast<size_t>(reason)]; }

Lane::Lane(std::string model, int64_t version, ModelPtr loaded, LaneOptions options, Metrics& metrics)
    : model_name_(std::move(model)),
      version_(version),
      model_(std::move(loaded)),
      options_(std::move(options)),
      tfs_metrics_(model_name_) {
  check(options_.batching, model_name_);
  if (const auto wrong = faults(options_.pool); !wrong.empty())
    throw ValueError({model_name_ + ", pool", fmt::format("{}", fmt::join(wrong, "; ")), {}, {}, {}});
  if (options_.batching.enabled) {
    why_no_batching_ = model_->why_not_batchable();
    options_.batching.enabled = why_no_batching_.empty();
  } else {
    why_no_batching_ = "batching is not switched on for this model";
  }
  const Labels labels{{"model", model_name_}, {"version", std::to_string(version_)}};
  held_ = metrics.hold(labels, model_name_);
  for (size_t i = 0; i < kCloseReasons; ++i) {
    Labels with = labels;
    with.emplace_back("reason", kReasons[i]);
    closed_[i] =
        &metrics.counter("tenon_batches_total", "Batches run, by the reason for which they were closed.", with);
  }
  batch_rows_ = &metrics.histogram("tenon_batch_rows", "Rows of the batches that ran.", labels,
                                   {1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024});
  queue_seconds_ = &metrics.histogram("tenon_queue_duration_seconds", "Time that requests waited for their batch.",
                                      labels, Metrics::duration_bounds());
  run_histogram_ = &metrics.histogram("tenon_run_duration_seconds", "Time that batches took to run.", labels,
                                      Metrics::duration_bounds());
  rows_ = &metrics.counter("tenon_rows_total", "Rows computed and returned.", labels);
  const auto unanswered = [&](std::string_view why) {
    Labels with = labels;
    with.emplace_back("reason", why);
    return &metrics.counter("tenon_abandoned_requests_total",
                            "Requests given up: the deadline passed in the queue or in the run, or the client went.",
                            with);
  };
  expired_queued_ = unanswered("deadline_in_queue");
  expired_running_ = unanswered("deadline_in_run");
  cancelled_ = unanswered("cancelled");
  metrics_ = &metrics;
}

void Lane::count_request(Api api, Code code, Clock::duration took) {
  const auto labels = [&] {
    return Labels{{"model", model_name_}, {"version", std::to_string(version_)}, {"api", std::string(name(api))}};
  };
  made_once(requests_[static_cast<size_t>(api)][static_cast<size_t>(code)], [&]() -> Counter& {
    Labels with = labels();
    with.emplace_back("code", name(code));
    return metrics_->counter("tenon_requests_total", "Requests answered, by gRPC's name of the status.", with);
  }).add();
  made_once(durations_[static_cast<size_t>(api)], [&]() -> Histogram& {
    return metrics_->histogram("tenon_request_duration_seconds",
                               "Time from the arrival of a request in the core to its answer.", labels(),
                               Metrics::duration_bounds());
  }).observe(std::chrono::duration<double>(took).count());
}

void Lane::note_batch(CloseReason reason, bool ok, int64_t rows, int64_t returned, const Timings& when,
                      std::span<const Clock::time_point> arrived) {
  const auto seconds = [](Clock::duration d) { return std::chrono::duration<double>(d).count(); };
  {
    const std::lock_guard lock(statistics_mutex_);
    Statistics& s = statistics_;
    const auto add_to = [&](auto& counts, uint64_t n) {
      counts.compute_input.add(when.ready - when.started, n);
      counts.compute_infer.add(when.computed - when.ready, n);
      counts.compute_output.add(when.finished - when.computed, n);
    };
    if (ok) {
      s.inferences += static_cast<uint64_t>(returned);
      ++s.executions;
      last_inference_ = when.finished;
      add_to(s.batches[rows], 1);
      add_to(s, arrived.size());
      for (const auto at : arrived) {
        s.success.add(when.finished - at);
        s.queue.add(when.started - at);
      }
    }
  }
  closed_[static_cast<size_t>(reason)]->add();
  batch_rows_->observe(static_cast<double>(rows));
  run_histogram_->observe(seconds(when.finished - when.started));
  if (ok) rows_->add(static_cast<uint64_t>(returned));
  for (const auto at : arrived) queue_seconds_->observe(seconds(when.started - at));
}

void Lane::count_run(Code code, Clock::duration took) {
  const std::lock_guard lock(statistics_mutex_);
  if (code != Code::Ok) return statistics_.fail.add(took);
  ++statistics_.inferences;
  ++statistics_.executions;
  last_inference_ = Clock::now();
  statistics_.success.add(took);
  statistics_.compute_infer.add(took);
}

LaneTotals Lane::totals() const {
  LaneTotals out{.answered = 0, .errors = 0, .rows = rows_->value()};
  for (const auto& by_code : requests_) {
    for (size_t code = 0; code < by_code.size(); ++code) {
      const Counter* counter = by_code[code].load(std::memory_order_acquire);
      if (!counter) continue;
      out.answered += counter->value();
      if (code != static_cast<size_t>(Code::Ok)) out.errors += counter->value();
    }
  }
  out.buckets.resize(Metrics::duration_bounds().size() + 1);
  for (const auto& slot : durations_) {
    const Histogram* histogram = slot.load(std::memory_order_acquire);
    if (!histogram) continue;
    for (size_t i = 0; i < out.buckets.size(); ++i) out.buckets[i] += histogram->count(i);
  }
  return out;
}

Statistics Lane::statistics() const {
  const std::lock_guard lock(statistics_mutex_);
  Statistics out = statistics_;
  if (last_inference_ != Clock::time_point{}) {
    const auto then = std::chrono::system_clock::now().time_since_epoch() - (Clock::now() - last_inference_);
    out.last_inference_ms = std::chrono::duration_cast<std::chrono::milliseconds>(then).count();
  }
  return out;
}

}  // namespace tenon::serve
