#include "tenon/serve/pipeline_run.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

namespace tenon::serve {

void PipelineRun::start(const Pipeline& pipeline, std::shared_ptr<const void> keep, std::vector<Value> inputs,
                        std::vector<size_t> wanted, const InferRequest& request, Ask ask, Done done) {
  std::shared_ptr<PipelineRun> run(new PipelineRun(pipeline, std::move(keep), std::move(ask), std::move(done)));
  run->deadline_ = request.deadline;
  run->priority_ = request.priority;
  run->trace_ = request.trace;
  run->key_ = request.key;
  run->waiting_ = pipeline.needed(wanted);
  run->wanted_ = std::move(wanted);
  for (size_t step : run->waiting_) {
    for (const auto& [input, tensor] : pipeline.options().steps[step].inputs) ++run->takers_[tensor];
  }
  for (size_t at : run->wanted_) ++run->takers_[pipeline.outputs()[at].name];
  for (size_t i = 0; i < inputs.size(); ++i) run->tensors_.emplace(pipeline.inputs()[i].name, std::move(inputs[i]));
  if (request.cancel) {
    request.cancel->on_request([weak = std::weak_ptr(run)] {
      if (const auto gone = weak.lock()) gone->fail({Code::Cancelled, "the client went away", 0});
    });
  }
  run->launch_ready();
}

// Begins every step whose tensors are all there.
void PipelineRun::launch_ready() {
  std::vector<std::pair<size_t, std::vector<NamedValue>>> ready;
  {
    const std::lock_guard lock(mutex_);
    if (over_) return;
    for (auto at = waiting_.begin(); at != waiting_.end();) {
      const PipelineStep& step = pipeline_.options().steps[*at];
      if (!std::all_of(step.inputs.begin(), step.inputs.end(),
                       [&](const auto& input) { return tensors_.contains(input.second); })) {
        ++at;
        continue;
      }
      std::vector<NamedValue> inputs;
      for (const auto& [input, tensor] : step.inputs) {
        const auto value = tensors_.find(tensor);
        // The last one takes it along, so that nothing is held longer than it is used.
        if (--takers_[tensor] > 0) {
          inputs.push_back({input, value->second});
        } else {
          inputs.push_back({input, std::move(value->second)});
          tensors_.erase(value);
        }
      }
      ready.emplace_back(*at, std::move(inputs));
      at = waiting_.erase(at);
    }
    for (const auto& [step, inputs] : ready) running_[step] = std::make_shared<Cancel>();
  }
  for (auto& [step, inputs] : ready) launch(step, std::move(inputs));
}

void PipelineRun::launch(size_t step, std::vector<NamedValue> inputs) {
  const PipelineStep& s = pipeline_.options().steps[step];
  InferRequest request{.inputs = std::move(inputs),
                       .deadline = deadline_,
                       .priority = priority_,
                       .api = Api::Internal,
                       .trace = trace_,
                       .key = key_};
  for (const auto& [output, tensor] : s.outputs) request.outputs.push_back(output);
  {
    const std::lock_guard lock(mutex_);
    if (over_) return;
    request.cancel = running_[step];
  }
  ask_(s.model, std::move(request),
       [self = shared_from_this(), step](InferResponse response) { self->answered(step, std::move(response)); });
}

void PipelineRun::answered(size_t step, InferResponse response) {
  const PipelineStep& s = pipeline_.options().steps[step];
  if (!response.status.ok()) {
    Status status = std::move(response.status);
    status.message = fmt::format("step {} ('{}'): {}", step + 1, s.model.name, status.message);
    return fail(std::move(status));
  }
  std::vector<Value> outputs;
  Done done;
  {
    const std::lock_guard lock(mutex_);
    if (over_) return;
    running_.erase(step);
    for (auto& [name, value] : response.outputs) {
      const std::string& tensor = s.outputs.at(name);
      if (takers_.contains(tensor)) tensors_.insert_or_assign(tensor, std::move(value));
    }
    if (waiting_.empty() && running_.empty()) {
      over_ = true;
      for (size_t at : wanted_) outputs.push_back(tensors_.at(pipeline_.outputs()[at].name));
      tensors_.clear();
      done = std::exchange(done_, nullptr);
    }
  }
  if (done) return done({}, std::move(outputs));
  launch_ready();
}

void PipelineRun::fail(Status status) {
  std::map<size_t, CancelPtr> running;
  Done done;
  {
    const std::lock_guard lock(mutex_);
    if (over_) return;
    over_ = true;
    running.swap(running_);
    tensors_.clear();
    done = std::exchange(done_, nullptr);
  }
  for (const auto& [step, cancel] : running) cancel->request();
  done(std::move(status), {});
}

}  // namespace tenon::serve
