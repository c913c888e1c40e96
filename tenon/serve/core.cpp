#include "tenon/serve/core.h"

#include <fmt/format.h>

#include <algorithm>
#include <thread>

#include "tenon/serve/warmup.h"

namespace tenon::serve {
namespace {

CoreOptions with_warm_up(CoreOptions options) {
  if (!options.repository.warm) options.repository.warm = warm_up;
  return options;
}

// The wanted outputs' places, in their order.
std::vector<size_t> selection(const Model& model, const std::vector<std::string>& wanted) {
  std::vector<size_t> out;
  const auto& specs = model.outputs();
  if (wanted.empty()) {
    for (size_t i = 0; i < specs.size(); ++i) out.push_back(i);
    return out;
  }
  for (const auto& name : wanted) {
    const auto found = std::find_if(specs.begin(), specs.end(), [&](const auto& s) { return s.name == name; });
    if (found == specs.end()) {
      std::vector<std::string_view> names;
      for (const auto& s : specs) names.emplace_back(s.name);
      throw RequestError(Code::InvalidArgument, fmt::format("unexpected output '{}': the model's outputs are {}", name,
                                                            fmt::join(names, ", ")));
    }
    out.push_back(static_cast<size_t>(found - specs.begin()));
  }
  return out;
}

}  // namespace

Core::Core(CoreOptions options)
    : options_(with_warm_up(std::move(options))),
      admission_(options_.admission, metrics_),
      repository_(options_.repository, metrics_),
      scheduler_(options_.scheduler, metrics_) {
  metrics_.gauge("tenon_ready", "1 if every model has a version ready and the server is not about to stop.", {},
                 [this] { return ready() ? 1.0 : 0.0; });
  metrics_.gauge("tenon_pending_requests", "Requests that wait or run.", {}, [this] {
    int64_t pending = 0;
    for (const auto& config : repository_.configuration()) {
      for (const auto& lane : repository_.ready_versions(config.name)) pending += lane->pending();
    }
    return static_cast<double>(pending);
  });
}

Core::~Core() = default;

Clock::time_point Core::deadline(std::chrono::nanoseconds timeout) const {
  if (timeout.count() <= 0) timeout = options_.default_timeout;
  constexpr auto kLongest = std::chrono::hours(24 * 365);
  if (timeout.count() <= 0 || timeout > kLongest) return kNever;
  return Clock::now() + timeout;
}

void Core::count(const LanePtr& lane, Api api, const Status& status, Clock::duration took) {
  lane->count_request(api, status.code, took);
  if (!options_.legacy_metrics || (api != Api::TfsGrpc && api != Api::TfsRest)) return;
  lane->count_legacy(legacy_, api, status.code, took);
}

void Core::count_refused(Api api, const std::string& model, const Status& status) {
  // The name is the client's text: only those that the configuration knows become a label.
  const bool known = !repository_.ready_versions(model).empty();
  metrics_
      .counter("tenon_requests_total", "Requests answered, by gRPC's name of the status.",
               {{"model", known ? model : ""},
                {"version", ""},
                {"api", std::string(name(api))},
                {"code", std::string(name(status.code))}})
      .add();
}

void Core::infer(const LanePtr& lane, InferRequest request, Completion done) {
  const auto arrived = Clock::now();
  const Api api = request.api;
  InferResponse refused;
  try {
    auto quota = repository_.take_quota(lane->model_name());
    std::vector<size_t> wanted = selection(lane->model(), request.outputs);
    auto inputs = ordered_inputs(lane->model(), std::move(request.inputs));
    scheduler_.submit(lane, std::move(inputs), request.deadline, request.priority, request.cancel,
                      [this, lane, api, arrived, done, wanted = std::move(wanted),
                       quota = std::move(quota)](Scheduler::Result result) mutable {
                        InferResponse response;
                        response.status = std::move(result.status);
                        response.model = lane->model_name();
                        response.version = lane->version();
                        response.timings = result.timings;
                        if (response.status.ok()) {
                          for (size_t at : wanted)
                            response.outputs.push_back({lane->model().outputs()[at].name, result.outputs.at(at)});
                        }
                        quota.reset();
                        count(lane, api, response.status, Clock::now() - arrived);
                        done(std::move(response));
                      });
    return;
  } catch (...) {
    refused.status = current_status();
  }
  refused.model = lane->model_name();
  refused.version = lane->version();
  const auto now = Clock::now();
  refused.timings = {arrived, now, now, now, now};
  count(lane, api, refused.status, now - arrived);
  done(std::move(refused));
}

bool Core::ready() const { return !leaving() && !admission_.draining() && repository_.ready(); }

bool Core::drain(std::chrono::milliseconds patience) {
  leave();
  admission_.drain();
  scheduler_.drain();
  const auto until = Clock::now() + patience;
  while (admission_.requests() > 0) {
    if (Clock::now() >= until) return false;
    std::this_thread::sleep_for(std::chrono::milliseconds(2));
  }
  return true;
}

}  // namespace tenon::serve
