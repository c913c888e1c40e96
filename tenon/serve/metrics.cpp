#include "tenon/serve/metrics.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "tenon/base/error.h"

namespace tenon::serve {
namespace {

std::string escaped(std::string_view text) {
  std::string out;
  for (char c : text) {
    if (c == '\\' || c == '"') out += '\\';
    if (c == '\n')
      out += "\\n";
    else
      out += c;
  }
  return out;
}
std::string label_text(const Labels& labels) {
  std::string out;
  for (const auto& [name, value] : labels)
    out += fmt::format("{}{}=\"{}\"", out.empty() ? "" : ",", name, escaped(value));
  return out;
}
std::string number(double v) {
  if (std::isnan(v)) return "NaN";
  if (std::isinf(v)) return v > 0 ? "+Inf" : "-Inf";
  return fmt::format("{}", v);
}
std::string braces(const std::string& labels) { return labels.empty() ? "" : "{" + labels + "}"; }

}  // namespace

Histogram::Histogram(std::vector<double> bounds)
    : bounds_(std::move(bounds)), counts_(std::make_unique<std::atomic<uint64_t>[]>(bounds_.size() + 1)) {}

void Histogram::observe(double v) {
  const auto at = std::lower_bound(bounds_.begin(), bounds_.end(), v) - bounds_.begin();
  counts_[static_cast<size_t>(at)].fetch_add(1, std::memory_order_relaxed);
  double sum = sum_.load(std::memory_order_relaxed);
  while (!sum_.compare_exchange_weak(sum, sum + v, std::memory_order_relaxed)) {
  }
}
uint64_t Histogram::total() const {
  uint64_t n = 0;
  for (size_t i = 0; i <= bounds_.size(); ++i) n += count(i);
  return n;
}

struct Metrics::Cell {
  Labels labels;
  Counter counter;
  Gauge gauge;
  std::function<double()> ask;
  std::unique_ptr<Histogram> histogram;
};
struct Metrics::Family {
  std::string help, type;
  std::map<std::string, std::unique_ptr<Cell>> cells;
};

Metrics::Metrics() = default;
Metrics::~Metrics() = default;

Metrics::Cell& Metrics::cell(std::string_view name, std::string_view help, std::string_view type,
                             const Labels& labels) {
  auto found = families_.find(name);
  if (found == families_.end())
    found = families_.emplace(std::string(name), Family{std::string(help), std::string(type), {}}).first;
  Family& family = found->second;
  if (family.type != type) throw InternalError(fmt::format("metric {} has two types", name));
  auto& slot = family.cells[label_text(labels)];
  if (!slot) {
    slot = std::make_unique<Cell>();
    slot->labels = labels;
  }
  return *slot;
}

Counter& Metrics::counter(std::string_view name, std::string_view help, const Labels& labels) {
  const std::lock_guard lock(mutex_);
  return cell(name, help, "counter", labels).counter;
}
Gauge& Metrics::gauge(std::string_view name, std::string_view help, const Labels& labels) {
  const std::lock_guard lock(mutex_);
  return cell(name, help, "gauge", labels).gauge;
}
void Metrics::gauge(std::string_view name, std::string_view help, const Labels& labels, std::function<double()> value) {
  const std::lock_guard lock(mutex_);
  cell(name, help, "gauge", labels).ask = std::move(value);
}
Histogram& Metrics::histogram(std::string_view name, std::string_view help, const Labels& labels,
                              std::vector<double> bounds) {
  const std::lock_guard lock(mutex_);
  Cell& c = cell(name, help, "histogram", labels);
  if (!c.histogram) c.histogram = std::make_unique<Histogram>(std::move(bounds));
  return *c.histogram;
}

std::shared_ptr<void> Metrics::hold(const Labels& labels, const std::string& group) {
  {
    const std::lock_guard lock(mutex_);
    ++held_[labels];
    std::erase_if(unheld_, [&](const Unheld& set) { return set.labels == labels; });
  }
  return {this, [labels, group](Metrics* metrics) { metrics->let_go(labels, group); }};
}

void Metrics::let_go(const Labels& labels, const std::string& group) {
  const std::lock_guard lock(mutex_);
  const auto held = held_.find(labels);
  if (--held->second > 0) return;
  held_.erase(held);
  unheld_.push_back({labels, group});
  const auto of_group = [&](const Unheld& set) { return set.group == group; };
  const bool many = static_cast<size_t>(std::ranges::count_if(unheld_, of_group)) > kKeptUnheld;
  if (!many && unheld_.size() <= kKeptInAll) return;
  const auto oldest = many ? std::ranges::find_if(unheld_, of_group) : unheld_.begin();
  drop(oldest->labels);
  unheld_.erase(oldest);
}

// Under the lock.
void Metrics::drop(const Labels& gone) {
  for (auto& [name, family] : families_) {
    std::erase_if(family.cells, [&](const auto& item) {
      const Labels& all = item.second->labels;
      return std::ranges::all_of(gone, [&](const auto& label) { return std::ranges::count(all, label) > 0; });
    });
  }
}

std::string Metrics::text() const {
  // Values are asked for without the lock: who answers may hold locks of its own while it makes a metric.
  std::map<const Cell*, std::function<double()>> asked;
  {
    const std::lock_guard lock(mutex_);
    for (const auto& [name, family] : families_) {
      for (const auto& [labels, c] : family.cells) {
        if (c->ask) asked.emplace(c.get(), c->ask);
      }
    }
  }
  std::map<const Cell*, double> answers;
  for (const auto& [c, ask] : asked) answers.emplace(c, ask());
  const std::lock_guard lock(mutex_);
  std::string out;
  for (const auto& [name, family] : families_) {
    bool opened = false;
    // TensorFlow Serving writes bounds with six digits, and queries name them: le="708235".
    const auto bound = [&](double v) { return name.starts_with(':') ? fmt::format("{:g}", v) : number(v); };
    for (const auto& [labels, c] : family.cells) {
      const auto answer = answers.find(c.get());
      if (c->ask && answer == answers.end()) continue;  // made meanwhile
      if (!opened) {
        if (!family.help.empty()) out += fmt::format("# HELP {} {}\n", name, family.help);
        out += fmt::format("# TYPE {} {}\n", name, family.type);
        opened = true;
      }
      if (family.type == "counter") {
        out += fmt::format("{}{} {}\n", name, braces(labels), c->counter.value());
      } else if (family.type == "gauge") {
        out += fmt::format("{}{} {}\n", name, braces(labels), number(c->ask ? answer->second : c->gauge.value()));
      } else {
        const Histogram& h = *c->histogram;
        const std::string comma = labels.empty() ? "" : labels + ",";
        uint64_t below = 0;
        for (size_t i = 0; i <= h.bounds().size(); ++i) {
          below += h.count(i);
          out += fmt::format("{}_bucket{{{}le=\"{}\"}} {}\n", name, comma,
                             i < h.bounds().size() ? bound(h.bounds()[i]) : "+Inf", below);
        }
        out += fmt::format("{}_sum{} {}\n{}_count{} {}\n", name, braces(labels), number(h.sum()), name, braces(labels),
                           below);
      }
    }
  }
  return out;
}

std::vector<double> Metrics::duration_bounds() {
  return {0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60};
}

}  // namespace tenon::serve
