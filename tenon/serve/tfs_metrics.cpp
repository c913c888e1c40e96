#include "tenon/serve/tfs_metrics.h"

#include <chrono>
#include <cmath>

#include "tenon/serve/metrics.h"

namespace tenon::serve {
namespace {

std::vector<double> exponential(double first, double factor, int count) {
  std::vector<double> bounds;
  for (int i = 0; i < count; ++i) bounds.push_back(first * std::pow(factor, i));
  return bounds;
}
// Of durations: 10 microseconds to 20 minutes.
std::vector<double> long_bounds() { return exponential(10, 1.8, 33); }
double micros(Clock::duration d) { return std::chrono::duration<double, std::micro>(d).count(); }

// As the original writes it: its two front ends differ in the case of the first letter.
std::string name_of(TfsMethod method, bool grpc) {
  constexpr const char* kNames[kTfsMethods] = {"Predict", "Classify", "Regress", "MultiInference"};
  std::string out = kNames[static_cast<size_t>(method)];
  if (!grpc) out[0] = static_cast<char>(out[0] - 'A' + 'a');
  return out;
}

}  // namespace

// The original names the model by one label or the other.
void TfsMetrics::hold_model(Metrics& page) {
  std::call_once(once_, [&] {
    held_ = {page.hold({{"model_name", model_}}, "model_name " + model_),
             page.hold({{"model", model_}}, "model " + model_)};
  });
}

void TfsMetrics::count(Metrics& page, const TfsCall& call) {
  hold_model(page);
  const auto method = static_cast<size_t>(call.method);
  made_once(requests_[static_cast<size_t>(call.code)], [&]() -> Counter& {
    return page.counter(":tensorflow:serving:request_count", "",
                        {{"model_name", model_}, {"status", std::string(name(call.code))}});
  }).add();
  if (call.examples > 0) {
    made_once(examples_, [&]() -> Histogram& {
      return page.histogram(":tensorflow:serving:request_example_counts", "", {{"model", model_}},
                            exponential(1, 2, 15));
    }).observe(static_cast<double>(call.examples));
    made_once(example_total_, [&]() -> Counter& {
      return page.counter(":tensorflow:serving:request_example_count_total", "", {{"model", model_}});
    }).add(static_cast<uint64_t>(call.examples));
  }
  if (call.code != Code::Ok) return;  // as the original: latencies are those of answers
  made_once(latency_[method][call.grpc ? 1 : 0], [&]() -> Histogram& {
    return page.histogram(
        ":tensorflow:serving:request_latency", "",
        {{"model_name", model_}, {"API", name_of(call.method, call.grpc)}, {"entrypoint", call.grpc ? "GRPC" : "REST"}},
        long_bounds());
  }).observe(micros(call.took));
  made_once(runtime_[method], [&]() -> Histogram& {
    return page.histogram(":tensorflow:serving:runtime_latency", "",
                          {{"model_name", model_}, {"API", name_of(call.method, true)}, {"runtime", "Tenon"}},
                          long_bounds());
  }).observe(micros(call.timings.computed - call.timings.ready));
  if (!call.batched) return;
  made_once(queued_, [&]() -> Histogram& {
    return page.histogram(":tensorflow:serving:batching_session:queuing_latency", "", {{"thread_pool_name", "tenon"}},
                          exponential(100, 1.2, 52));
  }).observe(micros(call.timings.started - call.timings.arrived));
  if (call.leads_batch)
    made_once(runs_, [&]() -> Counter& {
      return page.counter(":tensorflow:serving:batching_session:wrapped_run_count", "");
    }).add();
}

void TfsMetrics::count_warm_up(Metrics& page, const std::string& path, Code code, Clock::duration took,
                               int64_t records) {
  held_path_ = page.hold({{"model_path", path}}, "path of " + model_);
  const Labels labels{{"model_path", path}, {"status", std::string(name(code))}};
  page.histogram(":tensorflow:serving:model_warmup_latency", "", labels, long_bounds()).observe(micros(took));
  page.counter(":tensorflow:serving:model_warmup_records_read", "", labels).add(static_cast<uint64_t>(records));
}

void TfsMetrics::count_logged(Metrics& page, Code code) {
  hold_model(page);
  page.counter(":tensorflow:serving:request_log_count", "",
               {{"model_name", model_}, {"status_code", std::string(name(code))}})
      .add();
}

}  // namespace tenon::serve
