#include "tenon/serve/shadow.h"

#include <fmt/format.h>

#include "tenon/serve/random.h"

namespace tenon::serve {
namespace {

constexpr std::string_view kNames[Shadow::kResults] = {"same", "different", "failed", "dropped", "unpaired"};

}  // namespace

std::string_view name(Shadow::Result result) { return kNames[static_cast<size_t>(result)]; }
std::string ShadowOptions::name() const { return version ? std::to_string(*version) : label; }

std::vector<std::string> faults(const ShadowOptions& o) {
  std::vector<std::string> out;
  if (o.version.has_value() == !o.label.empty()) out.emplace_back("shadow needs either a version or a label");
  if (!(o.sample_rate >= 0 && o.sample_rate <= 1))
    out.push_back(fmt::format("shadow has the sample_rate {}: 0 to 1", o.sample_rate));
  if (!(o.tolerance.relative >= 0) || !(o.tolerance.absolute >= 0)) out.emplace_back("shadow has a negative tolerance");
  if (o.max_in_flight < 1 || o.max_bytes < 1) out.emplace_back("shadow has max_in_flight or max_bytes below 1");
  if (o.timeout.count() < 1) out.emplace_back("shadow has a timeout below 1 ms");
  return out;
}

Shadow::Shadow(std::string model, ShadowOptions options, uint64_t seed, Metrics& metrics, LogSink log)
    : model_(std::move(model)),
      options_(std::move(options)),
      seed_(seed),
      log_(std::move(log)),
      held_(metrics.hold({{"model", model_}, {"target", options_.name()}}, "targets of " + model_)) {
  for (size_t i = 0; i < kResults; ++i)
    metrics_[i] = &metrics.counter(
        "tenon_shadow_requests_total", "Mirrored requests, by how the shadow's answer compares with the real one.",
        {{"model", model_}, {"target", options_.name()}, {"result", std::string(kNames[i])}});
}

std::shared_ptr<Mirror> Shadow::mirror(int64_t bytes) {
  if (unit_random(seed_, drawn_.fetch_add(1, std::memory_order_relaxed)) >= options_.sample_rate) return nullptr;
  const int64_t before = in_flight_.fetch_add(1, std::memory_order_acq_rel);
  const int64_t held = bytes_.fetch_add(bytes, std::memory_order_acq_rel);
  if (before >= options_.max_in_flight || held + bytes > options_.max_bytes) {
    in_flight_.fetch_sub(1, std::memory_order_acq_rel);
    bytes_.fetch_sub(bytes, std::memory_order_acq_rel);
    note(Result::Dropped, {}, 0);
    return nullptr;
  }
  return std::make_shared<Mirror>(shared_from_this(), bytes);
}

void Shadow::note(Result result, const std::string& text, int64_t version) {
  counts_[static_cast<size_t>(result)].fetch_add(1, std::memory_order_relaxed);
  metrics_[static_cast<size_t>(result)]->add();
  if (!log_ || (result != Result::Different && result != Result::Failed)) return;
  // One line a second says enough; the counters say how often.
  const int64_t now = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now().time_since_epoch()).count();
  int64_t last = logged_ms_.load();
  if ((last != 0 && now - last < 1000) || !logged_ms_.compare_exchange_strong(last, now)) return;
  log_("warning", result == Result::Different ? "shadow_differs" : "shadow_failed",
       {{"model", model_}, {"target", options_.name()}, {"version", std::to_string(version)}, {"what", text}});
}

Mirror::~Mirror() {
  shadow_->in_flight_.fetch_sub(1, std::memory_order_acq_rel);
  shadow_->bytes_.fetch_sub(bytes_, std::memory_order_acq_rel);
}

void Mirror::real(const Status& status, std::vector<NamedValue> outputs) {
  {
    const std::lock_guard lock(mutex_);
    real_ = Side{status, std::move(outputs)};
    if (!its_) return;
  }
  settle();
}

void Mirror::shadow(InferResponse response) {
  {
    const std::lock_guard lock(mutex_);
    its_ = Side{std::move(response.status), std::move(response.outputs), response.version};
    if (!real_) return;
  }
  settle();
}

// Both are there; nobody changes them any more.
void Mirror::settle() {
  using Result = Shadow::Result;
  if (its_->status.code == Code::Unavailable || its_->status.code == Code::ResourceExhausted)
    return shadow_->note(Result::Dropped, {}, 0);
  if (!real_->status.ok()) return shadow_->note(Result::Unpaired, {}, 0);
  if (!its_->status.ok()) return shadow_->note(Result::Failed, its_->status.message, its_->version);
  const std::string text = difference(real_->outputs, its_->outputs, shadow_->options_.tolerance);
  shadow_->note(text.empty() ? Result::Same : Result::Different, text, its_->version);
}

}  // namespace tenon::serve
