#include "tenon/serve/core.h"

#include <fmt/format.h>

#include <algorithm>
#include <thread>

#include "tenon/serve/pipeline_run.h"
#include "tenon/serve/warmup.h"

namespace tenon::serve {
namespace {

CoreOptions completed(CoreOptions options, Metrics& legacy) {
  auto& repository = options.repository;
  if (!repository.warm)
    repository.warm = [&legacy, n = repository.warm_iterations](const LanePtr& lane,
                                                                const std::filesystem::path& version) {
      const auto start = Clock::now();
      int64_t records = 0;
      const auto count = [&](Code code) {
        lane->tfs_metrics().count_warm_up(legacy, version.string(), code, Clock::now() - start, records);
      };
      try {
        records = warm_up(lane, version, n);
      } catch (...) {
        count(current_status().code);
        throw;
      }
      count(Code::Ok);
    };
  if (!options.scheduler.log) options.scheduler.log = repository.log;
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
    : options_(completed(std::move(options), legacy_)),
      admission_(options_.admission, metrics_),
      repository_(options_.repository, metrics_),
      request_log_(options_.request_log
                       ? std::make_shared<RequestLog>("all", *options_.request_log, metrics_, options_.repository.log)
                       : nullptr),
      scheduler_(options_.scheduler, metrics_) {
  metrics_.gauge("tenon_ready", "1 if every model had a version ready at one time and the server is not about to stop.",
                 {}, [this] { return ready() ? 1.0 : 0.0; });
  metrics_.gauge("tenon_models_not_ready", "Models of the configuration that have no version ready.", {},
                 [this] { return static_cast<double>(repository_.not_ready().size()); });
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

struct Core::Call {
  Route route{};
  Api api = Api::Internal;
  TfsMethod method = TfsMethod::Predict;
  int64_t examples = 0;
  Clock::time_point arrived{};
  Completion done{};
  std::vector<size_t> wanted{};  // places of the outputs, unless
  bool all = false;              // all are wanted
  Quota::Place place{};
  MirrorPtr mirror{};                       // waits for the answer too
  RequestLogPtr log{};                      // takes
  std::unique_ptr<LoggedRequest> logged{};  // this
};

void Core::count(const Call& call, const Status& status, const Scheduler::Result& result, Clock::duration took) {
  const LanePtr& lane = call.route.lane;
  if (call.route.target) call.route.traffic->observe(call.route.target, status.code, took);
  lane->count_request(call.api, status.code, took);
  if (!options_.legacy_metrics || (call.api != Api::TfsGrpc && call.api != Api::TfsRest)) return;
  lane->tfs_metrics().count(legacy_, {.method = call.method,
                                      .grpc = call.api == Api::TfsGrpc,
                                      .code = status.code,
                                      .took = took,
                                      .timings = result.timings,
                                      .examples = call.examples,
                                      .batched = lane->options().batching.enabled,
                                      .leads_batch = result.leads_batch});
}

void Core::count_refused(Api api, const Route& route, const std::string& model, const Status& status) {
  if (route.lane) {
    if (route.target) route.traffic->observe(route.target, status.code, {});
    route.lane->count_request(api, status.code, {});
    return;
  }
  // The name is the client's text: only those that the configuration knows become a label.
  const auto held = repository_.held(model);
  metrics_
      .counter("tenon_requests_total", "Requests answered, by gRPC's name of the status.",
               {{"model", held ? model : ""},
                {"version", ""},
                {"api", std::string(name(api))},
                {"code", std::string(name(status.code))}})
      .add();
}

// The shadow's part of a request, if the model has a shadow that takes it.
Core::Twin Core::begin_twin(const Route& route, const std::vector<Value>& inputs,
                            const std::vector<std::string>& outputs) {
  Twin twin;
  const ShadowPtr shadow = route.traffic->shadow();
  if (!shadow || leaving()) return twin;
  twin.lane = repository_.lane_of(route.lane->model_name(), shadow->options());
  if (twin.lane == route.lane) return twin;  // nothing to compare with
  int64_t bytes = 0;
  for (const Value& value : inputs) bytes += byte_size(value);
  twin.mirror = shadow->mirror(bytes);
  if (!twin.mirror) return twin;
  twin.request = {
      .outputs = outputs, .deadline = Clock::now() + shadow->options().timeout, .priority = -1, .api = Api::Shadow};
  for (size_t i = 0; i < inputs.size(); ++i)
    twin.request.inputs.push_back({route.lane->model().inputs()[i].name, inputs[i]});
  return twin;
}

void Core::run_twin(Twin twin) {
  const auto answer = [mirror = twin.mirror](InferResponse response) { mirror->shadow(std::move(response)); };
  if (twin.lane) return infer(twin.lane, std::move(twin.request), answer);
  answer({.status = {Code::Unavailable, "the shadow is not ready", 0}});
}

void Core::finish(Call& call, Scheduler::Result result) {
  const Lane& lane = *call.route.lane;
  const auto took = result.timings.finished - call.arrived;
  InferResponse response;
  response.status = std::move(result.status);
  response.model = lane.model_name();
  response.version = lane.version();
  response.timings = result.timings;
  if (response.status.ok()) {
    const auto& specs = lane.model().outputs();
    response.outputs.reserve(call.all ? specs.size() : call.wanted.size());
    for (size_t i = 0; call.all && i < specs.size(); ++i)
      response.outputs.push_back({specs[i].name, std::move(result.outputs.at(i))});
    for (size_t at : call.wanted) response.outputs.push_back({specs[at].name, result.outputs.at(at)});
  }
  call.place = {};
  count(call, response.status, result, took);
  if (call.logged && !call.log->holds(response.status)) call.logged.reset();
  if (call.logged) {
    call.logged->status = response.status;
    call.logged->outputs = response.outputs;  // handles
    call.logged->duration = took;
  }
  Status status;
  std::vector<NamedValue> outputs;
  if (call.mirror) {
    status = response.status;
    outputs = response.outputs;
  }
  call.done(std::move(response));
  // The client has its answer; now what others want of it.
  if (call.mirror) call.mirror->real(status, std::move(outputs));
  if (call.logged) {
    const bool taken = call.log->write(std::move(*call.logged));
    if (options_.legacy_metrics)
      call.route.lane->tfs_metrics().count_logged(legacy_, taken ? Code::Ok : Code::Unavailable);
  }
}

void Core::infer(Route chosen, InferRequest request, Completion done) {
  auto call = std::make_shared<Call>(Call{.route = std::move(chosen),
                                          .api = request.api,
                                          .method = request.method,
                                          .examples = request.examples,
                                          .arrived = Clock::now(),
                                          .done = std::move(done)});
  const Route& route = call->route;
  const Lane& lane = *route.lane;
  try {
    if (route.quota && call->api != Api::Shadow) call->place = Quota::take(route.quota, lane.model_name());
    call->all = request.outputs.empty() && !lane.model().pipeline();
    if (!call->all) call->wanted = selection(lane.model(), request.outputs);
    auto inputs = ordered_inputs(lane.model(), std::move(request.inputs));
    Twin twin;
    if (route.traffic) twin = begin_twin(route, inputs, request.outputs);
    call->mirror = twin.mirror;
    note_for_log(*call, request, inputs);
    if (lane.model().pipeline())
      run_pipeline(call, std::move(inputs), request);
    else
      scheduler_.submit(route.lane, std::move(inputs), request.deadline, request.priority, request.cancel,
                        [this, call](Scheduler::Result result) { finish(*call, std::move(result)); });
    if (twin.mirror) run_twin(std::move(twin));
    return;
  } catch (...) {
    const auto now = Clock::now();
    finish(*call, {.status = current_status(), .outputs = {}, .timings = {call->arrived, now, now, now, now}});
  }
}

void Core::run_pipeline(const std::shared_ptr<Call>& call, std::vector<Value> inputs, const InferRequest& request) {
  const LanePtr lane = call->route.lane;
  const auto ask = [this](const ModelRef& ref, InferRequest step, Completion done) {
    Route route;
    try {
      route = repository_.route(ref, step.key);
    } catch (...) {
      return done({.status = current_status()});
    }
    infer(std::move(route), std::move(step), std::move(done));
  };
  PipelineRun::start(*lane->model().pipeline(), lane, std::move(inputs), call->wanted, request, ask,
                     [this, call, lane](Status status, std::vector<Value> outputs) {
                       const auto now = Clock::now();
                       lane->count_run(status.code, now - call->arrived);
                       Scheduler::Result result{.status = std::move(status),
                                                .outputs = std::vector<Value>(lane->model().outputs().size()),
                                                .timings = {call->arrived, call->arrived, call->arrived, now, now}};
                       for (size_t i = 0; i < outputs.size(); ++i)
                         result.outputs[call->wanted[i]] = std::move(outputs[i]);
                       finish(*call, std::move(result));
                     });
}

void Core::note_for_log(Call& call, const InferRequest& request, const std::vector<Value>& inputs) {
  if (call.api == Api::Shadow || call.api == Api::Internal) return;
  call.log = call.route.log ? call.route.log : request_log_;
  if (!call.log || !call.log->sampled()) return;
  const Lane& lane = *call.route.lane;
  call.logged = std::make_unique<LoggedRequest>(LoggedRequest{.time = std::chrono::system_clock::now(),
                                                              .model = lane.model_name(),
                                                              .version = lane.version(),
                                                              .api = call.api,
                                                              .trace_id = std::string(request.trace.trace_id()),
                                                              .wanted = request.outputs});
  for (size_t i = 0; i < inputs.size(); ++i) call.logged->inputs.push_back({lane.model().inputs()[i].name, inputs[i]});
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
