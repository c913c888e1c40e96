#include "tenon/serve/traffic.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <cmath>
#include <set>

#include "tenon/base/error.h"
#include "tenon/serve/random.h"

namespace tenon::serve {
namespace {

uint64_t mixed(uint64_t x) {  // MurmurHash3's finaliser
  x ^= x >> 33;
  x *= 0xff51afd7ed558ccdULL;
  x ^= x >> 33;
  x *= 0xc4ceb9fe1a85ec53ULL;
  x ^= x >> 33;
  return x;
}
double unit(uint64_t x) { return static_cast<double>(x >> 11) * 0x1.0p-53; }

bool counts_as_error(Code code, const RollbackOptions& rollback) {
  switch (code) {
    case Code::Ok:
    case Code::NotFound:
    case Code::Unauthenticated:
    case Code::PermissionDenied:
      return false;
    case Code::InvalidArgument:
      return rollback.count_invalid;
    default:
      return true;
  }
}

}  // namespace

std::string SplitTarget::name() const { return version ? std::to_string(*version) : label; }

std::vector<std::string> faults(const TrafficOptions& options) {
  std::vector<std::string> out;
  std::set<std::string> names;
  double sum = 0;
  for (size_t i = 0; i < options.split.size(); ++i) {
    const SplitTarget& t = options.split[i];
    const std::string where = fmt::format("split {}", i + 1);
    if (t.version.has_value() == !t.label.empty()) out.push_back(where + " needs either a version or a label");
    if (!names.insert(t.name()).second) out.push_back(fmt::format("{} names '{}' again", where, t.name()));
    if (!(t.weight >= 0) || !std::isfinite(t.weight))
      out.push_back(fmt::format("{} has the weight {}: at least 0", where, t.weight));
    else
      sum += t.weight;
    if (!t.rollback) continue;
    const RollbackOptions& r = *t.rollback;
    if (!(r.max_error_rate >= 0 && r.max_error_rate <= 1))
      out.push_back(fmt::format("{} has max_error_rate {}: 0 to 1", where, r.max_error_rate));
    if (r.max_p99.count() < 0) out.push_back(where + " has a negative bound of p99");
    if (r.max_error_rate >= 1 && r.max_p99.count() == 0)
      out.push_back(where + " has a rollback without a bound: max_error_rate or max_p99_millis");
    if (r.window < std::chrono::milliseconds(10)) out.push_back(where + " has a window below 10 ms");
    if (r.min_requests < 1) out.push_back(where + " has min_requests below 1");
  }
  if (options.shadow) {
    for (auto& fault : faults(*options.shadow)) out.push_back(std::move(fault));
  }
  if (!options.split.empty() && !(sum > 0)) out.emplace_back("the weights add up to 0");
  return out;
}

double sticky_bucket(std::string_view model, std::string_view value) {
  uint64_t h = 0xcbf29ce484222325ULL;
  const auto add = [&](unsigned char c) { h = (h ^ c) * 0x100000001b3ULL; };
  for (char c : model) add(static_cast<unsigned char>(c));
  add(0);
  for (char c : value) add(static_cast<unsigned char>(c));
  return unit(mixed(h));
}

int64_t SlidingWindow::index(Clock::time_point now) const {
  return std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch()).count() / step_;
}
void SlidingWindow::add(Clock::time_point now, bool error, bool slow) {
  const int64_t at = index(now);
  Step& step = steps_[static_cast<size_t>(at) % kSteps];
  if (step.index != at) step = {at, {}};
  ++step.counts.requests;
  step.counts.errors += error ? 1 : 0;
  step.counts.slow += slow ? 1 : 0;
}
SlidingWindow::Counts SlidingWindow::counts(Clock::time_point now) const {
  const int64_t at = index(now);
  Counts sum;
  for (const Step& step : steps_) {
    if (step.index < 0 || step.index <= at - static_cast<int64_t>(kSteps) || step.index > at) continue;
    sum.requests += step.counts.requests;
    sum.errors += step.counts.errors;
    sum.slow += step.counts.slow;
  }
  return sum;
}

struct Traffic::State {
  TrafficOptions options;
  ShadowPtr shadow;
  std::vector<TargetPtr> targets;
};

Traffic::Traffic(std::string model, TrafficOptions options, Metrics& metrics, LogSink log)
    : model_(std::move(model)), metrics_(metrics), log_(std::move(log)) {
  take(made(std::move(options)));
  publish_weights(*state_);
}

std::shared_ptr<const Traffic::State> Traffic::made(TrafficOptions options) const {
  const auto wrong = faults(options);
  if (!wrong.empty())
    throw ValueError({fmt::format("traffic of '{}'", model_),
                      fmt::format("{}", fmt::join(wrong, "; ")),
                      {},
                      {},
                      "split { version: 1 weight: 95 } split { version: 2 weight: 5 }"});
  auto out = std::make_shared<State>();
  for (const auto& target : options.split) {
    const Labels labels{{"model", model_}, {"target", target.name()}};
    auto held = metrics_.hold(labels, "targets of " + model_);
    Counter& requests =
        metrics_.counter("tenon_split_requests_total", "Requests that a split gave to a target.", labels);
    out->targets.push_back(std::make_shared<Target>(target, std::move(held), requests));
  }
  if (options.shadow) out->shadow = std::make_shared<Shadow>(model_, *options.shadow, options.seed, metrics_, log_);
  out->options = std::move(options);
  return out;
}

std::shared_ptr<const Traffic::State> Traffic::state() const {
  const std::lock_guard lock(mutex_);
  return state_;
}

void Traffic::take(std::shared_ptr<const State> state) {
  const std::lock_guard lock(mutex_);
  state_ = std::move(state);
  plain_.store(state_->targets.empty() && !state_->shadow, std::memory_order_release);
}

void Traffic::set(TrafficOptions options) {
  auto next = made(std::move(options));
  const auto before = state();
  for (const auto& target : before->targets)
    metrics_.gauge("tenon_split_share", "", {{"model", model_}, {"target", target->options.name()}}).set(0);
  take(next);
  publish_weights(*next);
  if (!log_) return;
  std::vector<std::string> text;
  for (const auto& target : next->options.split) text.push_back(fmt::format("{}: {}", target.name(), target.weight));
  log_("info", "traffic_set", {{"model", model_}, {"split", fmt::format("{}", fmt::join(text, ", "))}});
}

TrafficOptions Traffic::options() const { return state()->options; }
ShadowPtr Traffic::shadow() const { return state()->shadow; }
bool Traffic::splits() const { return !state()->targets.empty(); }

void Traffic::publish_weights(const State& state) const {
  double sum = 0;
  for (const auto& target : state.targets) sum += target->out ? 0 : target->options.weight;
  for (const auto& target : state.targets) {
    const double weight = target->out ? 0 : target->options.weight;
    metrics_
        .gauge("tenon_split_share", "The share of a split's target in its model's requests; 0 once it is rolled back.",
               {{"model", model_}, {"target", target->options.name()}})
        .set(sum > 0 ? weight / sum : 0);
  }
}

Traffic::TargetPtr Traffic::choose(const KeyLookup& key, const std::function<bool(const SplitTarget&)>& ready) const {
  const auto now = state();
  std::string_view value;
  if (!now->options.sticky_key.empty() && key) value = key(now->options.sticky_key);
  double bucket = 0;
  if (value.empty())
    bucket = unit_random(now->options.seed, drawn_.fetch_add(1, std::memory_order_relaxed));
  else
    bucket = sticky_bucket(model_, value);
  // The bucket's place on the line of all targets; if that one cannot serve, its place on the line of those that can.
  const auto pick = [&](auto&& takes, double at) -> TargetPtr {
    double sum = 0;
    for (const auto& target : now->targets) sum += takes(*target) ? target->options.weight : 0;
    double left = at * sum;
    TargetPtr last;
    for (const auto& target : now->targets) {
      if (!takes(*target) || !(target->options.weight > 0)) continue;
      last = target;
      left -= target->options.weight;
      if (left < 0) break;
    }
    return last;
  };
  const auto serves = [&](const Target& t) { return !t.out.load(std::memory_order_acquire) && ready(t.options); };
  TargetPtr chosen = pick([](const Target&) { return true; }, bucket);
  if (chosen && !serves(*chosen)) {
    const double again = value.empty() ? unit(mixed(static_cast<uint64_t>(bucket * 0x1.0p53) + 1))
                                       : sticky_bucket(model_ + '\0' + "again", value);
    chosen = pick(serves, again);
  }
  if (!chosen) return nullptr;
  chosen->count.fetch_add(1, std::memory_order_relaxed);
  chosen->requests.add();
  return chosen;
}

void Traffic::observe(const TargetPtr& target, Code code, Clock::duration took, Clock::time_point now) {
  if (!target->options.rollback || code == Code::Cancelled) return;
  const RollbackOptions& bounds = *target->options.rollback;
  const bool slow = bounds.max_p99.count() > 0 && took > bounds.max_p99;
  SlidingWindow::Counts sum;
  {
    const std::lock_guard lock(target->mutex);
    target->window.add(now, counts_as_error(code, bounds), slow);
    sum = target->window.counts(now);
  }
  if (target->out || sum.requests < bounds.min_requests) return;
  const auto n = static_cast<double>(sum.requests);
  if (static_cast<double>(sum.errors) > bounds.max_error_rate * n)
    return roll_back(*state(), target, "error_rate", sum);
  // The 99th percentile is the value of rank ceil(0.99 n): it is above the bound when fewer than that are below.
  const int64_t rank = (99 * sum.requests + 99) / 100;
  if (bounds.max_p99.count() > 0 && sum.requests - sum.slow < rank) roll_back(*state(), target, "p99", sum);
}

void Traffic::roll_back(const State& state, const TargetPtr& target, std::string reason,
                        const SlidingWindow::Counts& counts) {
  if (std::find(state.targets.begin(), state.targets.end(), target) == state.targets.end()) return;  // set() since
  const Labels which{{"model", model_}, {"target", target->options.name()}, {"reason", reason}};
  {
    const std::lock_guard lock(mutex_);  // two targets must not go at once and leave none
    if (target->out) return;
    const bool others = std::any_of(state.targets.begin(), state.targets.end(), [&](const TargetPtr& t) {
      return t != target && !t->out && t->options.weight > 0;
    });
    if (!others) return;  // nobody else would serve
    const std::lock_guard its(target->mutex);
    target->rolled_back = Rollback{
        reason, counts,
        std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch())
            .count()};
    target->out.store(true, std::memory_order_release);
  }
  publish_weights(state);
  metrics_.counter("tenon_rollbacks_total", "Targets of splits taken out because their bounds were broken.", which)
      .add();
  if (!log_) return;
  const RollbackOptions& bounds = *target->options.rollback;
  Labels fields = which;
  const auto add = [&](std::string name, auto value) {
    fields.emplace_back(std::move(name), fmt::format("{}", value));
  };
  add("window_requests", counts.requests);
  add("window_errors", counts.errors);
  add("window_slow", counts.slow);
  add("max_error_rate", bounds.max_error_rate);
  add("max_p99_millis", static_cast<double>(bounds.max_p99.count()) / 1e3);
  add("min_requests", bounds.min_requests);
  add("window_seconds", static_cast<double>(bounds.window.count()) / 1e3);
  log_("warning", "canary_rolled_back", fields);
}

std::vector<Traffic::TargetStatus> Traffic::status(Clock::time_point now) const {
  const auto current = state();
  double sum = 0;
  for (const auto& target : current->targets) sum += target->out ? 0 : target->options.weight;
  std::vector<TargetStatus> out;
  for (const auto& target : current->targets) {
    TargetStatus s{
        .target = target->options, .share = 0, .requests = target->count.load(), .window = {}, .rolled_back = {}};
    if (!target->out && sum > 0) s.share = target->options.weight / sum;
    const std::lock_guard lock(target->mutex);
    s.window = target->window.counts(now);
    s.rolled_back = target->rolled_back;
    out.push_back(std::move(s));
  }
  return out;
}

}  // namespace tenon::serve
