// The server without a network: repository, scheduler, admission and metrics, and infer() for all front ends.
//
//   Core core({});
//   core.repository().configure({{.name = "m", .base_path = "models/m"}});
//   core.infer(core.repository().resolve({"m"}), {.inputs = …}, [](InferResponse answer) { … });
#pragma once

#include <chrono>
#include <memory>
#include <string>

#include "tenon/serve/admission.h"
#include "tenon/serve/metrics.h"
#include "tenon/serve/repository.h"
#include "tenon/serve/request.h"
#include "tenon/serve/scheduler.h"

namespace tenon::serve {

struct CoreOptions {
  SchedulerOptions scheduler{};
  AdmissionLimits admission{};
  RepositoryOptions repository{};
  std::chrono::milliseconds default_timeout{0};    // of a request that names none; 0: none
  std::string version = "0";                       // of the server, for its metadata
  bool legacy_metrics = true;                      // keep TensorFlow Serving's names too
  std::optional<RequestLogOptions> request_log{};  // of models that have none of their own
};

class Core {
 public:
  explicit Core(CoreOptions options);
  ~Core();

  [[nodiscard]] Repository& repository() { return repository_; }
  [[nodiscard]] Scheduler& scheduler() { return scheduler_; }
  [[nodiscard]] Admission& admission() { return admission_; }
  [[nodiscard]] Metrics& metrics() { return metrics_; }
  // TensorFlow Serving's names (:tensorflow:serving:request_count …), for their own page.
  [[nodiscard]] Metrics& legacy_metrics() { return legacy_; }
  [[nodiscard]] const CoreOptions& options() const { return options_; }

  // Checks the request against the model and queues it. Everything that goes wrong is the status of the answer.
  void infer(Route route, InferRequest request, Completion done);
  // The deadline of a request that allows so much from now; `timeout` 0: the server's default.
  [[nodiscard]] Clock::time_point deadline(std::chrono::nanoseconds timeout) const;
  // Counts a request that ended before infer() got it: as one of its version if that was chosen (its split and rollback
  // count it too), else of the model that it names.
  void count_refused(Api api, const Route& route, const std::string& model, const Status& status);

  // Ready: every model has, or at one time all had, a version ready (Repository::ready), and the server is not about to
  // stop.
  [[nodiscard]] bool ready() const;
  // Says "not ready" from now on, but still answers: load balancers look elsewhere.
  void leave() { leaving_.store(true, std::memory_order_release); }
  [[nodiscard]] bool leaving() const { return leaving_.load(std::memory_order_acquire); }
  // Takes no new request; waits until those inside are answered. False if `patience` ran out first.
  bool drain(std::chrono::milliseconds patience);

 private:
  // The shadow's part of a request.
  struct Twin {
    MirrorPtr mirror;  // null: there is none
    LanePtr lane;      // null: not ready
    InferRequest request;
  };
  Twin begin_twin(const Route& route, const std::vector<Value>& inputs, const std::vector<std::string>& outputs);
  void run_twin(Twin twin);
  // One request under way, and what is owed when it ends.
  struct Call;
  void run_pipeline(const std::shared_ptr<Call>& call, std::vector<Value> inputs, const InferRequest& request);
  void note_for_log(Call& call, const InferRequest& request, const std::vector<Value>& inputs);
  void finish(Call& call, Scheduler::Result result);
  void count(const Call& call, const Status& status, const Scheduler::Result& result, Clock::duration took);

  Metrics metrics_, legacy_;
  CoreOptions options_;
  Admission admission_;
  Repository repository_;
  RequestLogPtr request_log_;
  Scheduler scheduler_;
  std::atomic<bool> leaving_{false};
};

}  // namespace tenon::serve
