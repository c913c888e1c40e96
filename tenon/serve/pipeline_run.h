// One request on its way through a pipeline.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include "tenon/serve/pipeline.h"
#include "tenon/serve/request.h"

namespace tenon::serve {

class PipelineRun : public std::enable_shared_from_this<PipelineRun> {
 public:
  // Asks a model; the answer may come at once or later, on any thread.
  using Ask = std::function<void(const ModelRef&, InferRequest, Completion)>;
  // Called once: OK and the wanted outputs in their order, or the first failure.
  using Done = std::function<void(Status, std::vector<Value>)>;

  // `inputs` in the order of the pipeline's inputs; `wanted` are places of its outputs. `request` has the deadline, the
  // priority, the cancel token, the trace and the key, which all steps get. `keep` holds the pipeline alive.
  static void start(const Pipeline& pipeline, std::shared_ptr<const void> keep, std::vector<Value> inputs,
                    std::vector<size_t> wanted, const InferRequest& request, Ask ask, Done done);

 private:
  PipelineRun(const Pipeline& pipeline, std::shared_ptr<const void> keep, Ask ask, Done done)
      : pipeline_(pipeline), keep_(std::move(keep)), ask_(std::move(ask)), done_(std::move(done)) {}
  void launch_ready();
  void launch(size_t step, std::vector<NamedValue> inputs);
  void answered(size_t step, InferResponse response);
  void fail(Status status);

  const Pipeline& pipeline_;
  std::shared_ptr<const void> keep_;
  Ask ask_;
  Done done_;
  Clock::time_point deadline_ = kNever;
  int priority_ = 0;
  Trace trace_;
  KeyLookup key_;
  std::vector<size_t> wanted_;
  std::mutex mutex_;
  std::map<std::string, Value> tensors_;  // those that are there and will be taken
  std::map<std::string, size_t> takers_;  // how many steps (and the answer) still take each
  std::vector<size_t> waiting_;           // steps not begun
  std::map<size_t, CancelPtr> running_;
  bool over_ = false;
};

}  // namespace tenon::serve
