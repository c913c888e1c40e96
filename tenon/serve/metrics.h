// Counters, gauges and histograms, and the page of them in Prometheus' text format.
//
//   Metrics metrics;
//   Counter& hits = metrics.counter("tenon_hits_total", "Requests that hit.", {{"model", "a"}});
//   hits.add();                       // lock-free
//   std::string page = metrics.text();
//
// The same name and labels give the same cell. It lives as long as its Metrics, so callers look it up once; only those
// whose labels were held (Metrics::hold) go when nobody has held them for a while.
#pragma once

#include <atomic>
#include <cstdint>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace tenon::serve {

class Counter {
 public:
  void add(uint64_t n = 1) { value_.fetch_add(n, std::memory_order_relaxed); }
  [[nodiscard]] uint64_t value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> value_{0};
};

class Gauge {
 public:
  void set(double v) { value_.store(v, std::memory_order_relaxed); }
  [[nodiscard]] double value() const { return value_.load(std::memory_order_relaxed); }

 private:
  std::atomic<double> value_{0};
};

class Histogram {
 public:
  explicit Histogram(std::vector<double> bounds);
  void observe(double v);
  [[nodiscard]] const std::vector<double>& bounds() const { return bounds_; }
  [[nodiscard]] uint64_t count(size_t bucket) const { return counts_[bucket].load(std::memory_order_relaxed); }
  [[nodiscard]] uint64_t total() const;
  [[nodiscard]] double sum() const { return sum_.load(std::memory_order_relaxed); }

 private:
  std::vector<double> bounds_;                       // rising; one more bucket above the last
  std::unique_ptr<std::atomic<uint64_t>[]> counts_;  // of each bucket alone
  std::atomic<double> sum_{0};
};

using Labels = std::vector<std::pair<std::string, std::string>>;

// The cell in `slot`, looked up at its first use: not all that could be counted is.
template <class Cell, class Make>
Cell& made_once(std::atomic<Cell*>& slot, const Make& make) {
  Cell* out = slot.load(std::memory_order_acquire);
  if (!out) {
    out = &make();
    slot.store(out, std::memory_order_release);
  }
  return *out;
}

class Metrics {
 public:
  Metrics();
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  Counter& counter(std::string_view name, std::string_view help, const Labels& labels = {});
  Gauge& gauge(std::string_view name, std::string_view help, const Labels& labels = {});
  // A gauge whose value is asked for when the page is written.
  void gauge(std::string_view name, std::string_view help, const Labels& labels, std::function<double()> value);
  Histogram& histogram(std::string_view name, std::string_view help, const Labels& labels, std::vector<double> bounds);
  // Cells with these labels among theirs are used until the handle goes, which must be before this Metrics does. Of the
  // sets that nobody holds, the last kKeptUnheld of each group stay on the page, and the last kKeptInAll; the cells of
  // older ones are freed. So neither a model whose versions come and go nor models that do make a page without end.
  static constexpr size_t kKeptUnheld = 16, kKeptInAll = 256;
  [[nodiscard]] std::shared_ptr<void> hold(const Labels& labels, const std::string& group);

  // The page; content type "text/plain; version=0.0.4".
  [[nodiscard]] std::string text() const;

  // Bounds for durations in seconds, 100 µs to 60 s.
  static std::vector<double> duration_bounds();

 private:
  struct Cell;
  struct Family;
  Cell& cell(std::string_view name, std::string_view help, std::string_view type, const Labels& labels);
  void let_go(const Labels& labels, const std::string& group);
  void drop(const Labels& labels);

  mutable std::mutex mutex_;
  std::map<std::string, Family, std::less<>> families_;
  struct Unheld {
    Labels labels;
    std::string group;
  };
  std::map<Labels, int64_t> held_;  // how often
  std::deque<Unheld> unheld_;       // the oldest first
};

}  // namespace tenon::serve
