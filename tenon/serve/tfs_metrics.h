// TensorFlow Serving's own metrics of one model, for dashboards that know those names. They are on a page of their own,
// because promtool refuses them (a leading colon, no help).
//
// To add one: a cell here and a line in count(), if the server can tell it truthfully.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "tenon/serve/request.h"
#include "tenon/serve/status.h"

namespace tenon::serve {

class Counter;
class Histogram;
class Metrics;

// One answered request of TensorFlow Serving's protocols.
struct TfsCall {
  TfsMethod method = TfsMethod::Predict;
  bool grpc = false;
  Code code = Code::Ok;
  Clock::duration took{0};
  Timings timings{};
  int64_t examples = 0;      // that came in it
  bool batched = false;      // its model is
  bool leads_batch = false;  // and it was the first of its batch
};

// Of one version; `page`, always the same, lives longer. What the page says of a model and of a version's path stays
// while there is a version of it, and a while longer (Metrics::hold).
class TfsMetrics {
 public:
  explicit TfsMetrics(std::string model) : model_(std::move(model)) {}
  void count(Metrics& page, const TfsCall& call);
  void count_logged(Metrics& page, Code code);
  // Before requests come.
  void count_warm_up(Metrics& page, const std::string& path, Code code, Clock::duration took, int64_t records);

 private:
  void hold_model(Metrics& page);

  std::string model_;
  std::once_flag once_;
  std::array<std::shared_ptr<void>, 2> held_;  // the cells of the model
  std::shared_ptr<void> held_path_;
  std::array<std::atomic<Counter*>, 17> requests_{};
  std::array<std::array<std::atomic<Histogram*>, 2>, kTfsMethods> latency_{};  // REST, gRPC
  std::array<std::atomic<Histogram*>, kTfsMethods> runtime_{};
  std::atomic<Histogram*> examples_{nullptr}, queued_{nullptr};
  std::atomic<Counter*> example_total_{nullptr}, runs_{nullptr};
};

}  // namespace tenon::serve
