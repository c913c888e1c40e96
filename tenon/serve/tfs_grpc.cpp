#include "tenon/serve/tfs_grpc.h"

#include <fmt/format.h>

#include "tenon/serve/tfs_json.h"
#include "tenon/serve/tfs_wire.h"

namespace tenon::serve {
namespace {

constexpr std::string_view kDefault = "serving_default";

struct Tfs {
  Tfs(Core& c, TfsGrpcOptions o) : core(c), options(std::move(o)) {}
  Core& core;
  TfsGrpcOptions options;

  Route route(const RpcCall& call, const ModelRef& ref) const {
    if (ref.name.empty()) throw RequestError(Code::InvalidArgument, "Missing ModelSpec");
    return core.repository().route(ref, [&](std::string_view key) { return call.value(key); });
  }

  // These leave the route in `chosen` until the core has the request: what fails before is counted by who calls them.

  // Runs the model and answers with what `write` makes of the outputs.
  void run(const RpcCallPtr& call, const RpcAnswer& answer, Route route, InferRequest request,
           std::function<WireWriter(const InferResponse&)> write) const {
    request.deadline = call->deadline == kNever ? core.deadline({}) : call->deadline;
    request.cancel = call->cancel;
    request.api = Api::TfsGrpc;
    request.trace = call->trace;
    if (route.lane->model().pipeline()) request.key = [call](std::string_view name) { return call->value(name); };
    call->answered_by = {route.lane->model_name(), route.lane->version()};
    core.infer(std::move(route), std::move(request), [call, answer, write = std::move(write)](InferResponse response) {
      Status status = std::move(response.status);
      std::vector<Chunk> message;
      if (status.ok()) {
        try {
          message = write(response).take();
        } catch (...) {
          status = current_status();
        }
      }
      answer(std::move(status), std::move(message));
    });
  }

  void predict(const RpcCallPtr& call, const RpcAnswer& answer, Route& chosen) const {
    PredictMessage message = read_predict(WireReader(call->pieces), call->owner);
    check_signature(message.spec.signature);
    chosen = route(*call, message.spec.ref);
    const std::string signature = message.spec.signature.empty() ? std::string(kDefault) : message.spec.signature;
    run(call, answer, std::move(chosen), {.inputs = std::move(message.inputs), .outputs = std::move(message.outputs)},
        [signature, lists = options.typed_lists](const InferResponse& r) {
          return write_predict_answer(r.outputs, write_model_spec(r.model, r.version, signature), lists);
        });
  }

  // ClassificationRequest and RegressionRequest have the same fields.
  void with_examples(const RpcCallPtr& call, const RpcAnswer& answer, bool classify, Route& chosen) const {
    ModelSpec spec;
    std::vector<Example> examples;
    WireReader in(call->pieces);
    while (in.next()) {
      if (in.field() == 1)
        spec = read_model_spec(in.sub());
      else if (in.field() == 2)
        examples = read_examples(in.sub());
      else
        in.skip();
    }
    check_signature(spec.signature);
    chosen = route(*call, spec.ref);
    const LanePtr lane = chosen.lane;
    const std::string signature = spec.signature.empty() ? std::string(kDefault) : spec.signature;
    const size_t count = examples.size();
    auto inputs = inputs_of(lane->model(), examples);
    run(call, answer, std::move(chosen),
        {.inputs = std::move(inputs),
         .method = classify ? TfsMethod::Classify : TfsMethod::Regress,
         .examples = static_cast<int64_t>(count)},
        [lane, signature, classify, count](const InferResponse& r) {
          WireWriter out;
          out.message(1, classify ? write_classifications(classes_of(lane->model(), r.outputs))
                                  : write_regressions(regressions_of(r.outputs, count)));
          out.message(2, write_model_spec(r.model, r.version, signature));
          return out;
        });
  }

  // All tasks are of one model and read the same Examples, so the model runs once.
  void multi_inference(const RpcCallPtr& call, const RpcAnswer& answer, Route& chosen) const {
    struct Task {
      ModelSpec spec;
      std::string method;
    };
    std::vector<Task> tasks;
    std::vector<Example> examples;
    WireReader in(call->pieces);
    while (in.next()) {
      if (in.field() == 1) {
        Task task;
        WireReader one = in.sub();
        while (one.next()) {
          if (one.field() == 1)
            task.spec = read_model_spec(one.sub());
          else if (one.field() == 2)
            task.method = one.text();
          else
            one.skip();
        }
        tasks.push_back(std::move(task));
      } else if (in.field() == 2) {
        examples = read_examples(in.sub());
      } else {
        in.skip();
      }
    }
    if (tasks.empty()) throw RequestError(Code::InvalidArgument, "there is no task");
    for (const auto& task : tasks) {
      if (task.spec.ref.name != tasks[0].spec.ref.name)
        throw RequestError(Code::InvalidArgument, fmt::format("All ModelSpecs must have the same model name: {} and {}",
                                                              tasks[0].spec.ref.name, task.spec.ref.name));
      if (task.method != "tensorflow/serving/classify" && task.method != "tensorflow/serving/regress")
        throw RequestError(Code::Unimplemented, fmt::format("Unsupported signature method_name: {}", task.method));
      check_signature(task.spec.signature);
    }
    chosen = route(*call, tasks[0].spec.ref);
    const LanePtr lane = chosen.lane;
    const size_t count = examples.size();
    auto inputs = inputs_of(lane->model(), examples);
    run(call, answer, std::move(chosen),
        {.inputs = std::move(inputs), .method = TfsMethod::MultiInference, .examples = static_cast<int64_t>(count)},
        [lane, tasks = std::move(tasks), count](const InferResponse& r) {
          WireWriter out;
          for (const auto& task : tasks) {
            WireWriter result;
            result.message(1, write_model_spec(r.model, r.version, task.spec.signature));
            if (task.method.ends_with("classify"))
              result.message(2, write_classifications(classes_of(lane->model(), r.outputs)));
            else
              result.message(3, write_regressions(regressions_of(r.outputs, count)));
            out.message(1, result);
          }
          return out;
        });
  }

  void metadata(const RpcCallPtr& call, const RpcAnswer& answer) const {
    ModelSpec spec;
    std::vector<std::string> fields;
    WireReader in(call->pieces);
    while (in.next()) {
      if (in.field() == 1)
        spec = read_model_spec(in.sub());
      else if (in.field() == 2)
        fields.push_back(in.text());
      else
        in.skip();
    }
    if (spec.ref.name.empty()) throw RequestError(Code::InvalidArgument, "Missing ModelSpec");
    if (fields.empty())
      throw RequestError(Code::InvalidArgument, "GetModelMetadataRequest must specify at least one metadata_field");
    for (const auto& field : fields) {
      if (field != "signature_def")
        throw RequestError(Code::InvalidArgument, fmt::format("Metadata field {} is not supported", field));
    }
    const LanePtr lane = core.repository().resolve(spec.ref);
    WireWriter any, entry, out;
    any.text(1, "type.googleapis.com/tensorflow.serving.SignatureDefMap");
    any.message(2, write_signature_map(lane->model()));
    entry.text(1, "signature_def");
    entry.message(2, any);
    out.message(1, write_model_spec(lane->model_name(), lane->version(), ""));
    out.message(2, entry);
    answer({}, out.take());
  }

  void status(const RpcCallPtr& call, const RpcAnswer& answer) const {
    ModelSpec spec;
    WireReader in(call->pieces);
    while (in.next()) {
      if (in.field() == 1)
        spec = read_model_spec(in.sub());
      else
        in.skip();
    }
    if (spec.ref.name.empty()) throw RequestError(Code::InvalidArgument, "Missing ModelSpec");
    answer({}, write_status(core.repository().status(spec.ref)).take());
  }

  void reload(const RpcCallPtr& call, const RpcAnswer& answer) const {
    if (!options.reload_config)
      throw RequestError(Code::PermissionDenied,
                         "reloading the configuration is not switched on (--allow-reload-config)");
    std::optional<std::vector<ModelConfig>> models;
    WireReader in(call->pieces);
    while (in.next()) {
      if (in.field() == 1)
        models = read_server_config(in.sub(), options.lane);
      else
        in.skip();
    }
    if (!models)  // as the original: what names no list does not mean "none"
      throw RequestError(Code::InvalidArgument,
                         "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is "
                         "currently supported");
    core.repository().configure(std::move(*models));
    const bool ready = core.repository().settle(std::chrono::seconds(60));
    WireWriter status, out;
    status.integer(1, static_cast<int>(ready ? Code::Ok : Code::Unavailable));
    if (!ready) status.text(2, "not every model of the new configuration is ready yet");
    out.message(1, status);
    answer({}, out.take());
  }
};

}  // namespace

RpcMethods tfs_grpc(Core& core, TfsGrpcOptions options) {
  const auto tfs = std::make_shared<const Tfs>(core, std::move(options));
  const auto method = [&](std::string_view service, std::string_view name, auto body) {
    RpcMethod out;
    out.path = fmt::format("/tensorflow.serving.{}/{}", service, name);
    out.call = [tfs, body](const RpcCallPtr& call, const RpcAnswer& answer) { body(*tfs, call, answer); };
    return out;
  };
  // `depth`: of the model's name (first_text).
  const auto inference = [&](std::string_view name, int depth, auto body) {
    return method("PredictionService", name, [depth, body](const Tfs& t, auto& call, auto& answer) {
      Route chosen;
      try {
        body(t, call, answer, chosen);
      } catch (...) {
        t.core.count_refused(Api::TfsGrpc, chosen, first_text(call->pieces, depth), current_status());
        throw;
      }
    });
  };
  RpcMethods out{
      inference("Predict", 1, [](const Tfs& t, auto& c, auto& a, Route& r) { t.predict(c, a, r); }),
      inference("Classify", 1, [](const Tfs& t, auto& c, auto& a, Route& r) { t.with_examples(c, a, true, r); }),
      inference("Regress", 1, [](const Tfs& t, auto& c, auto& a, Route& r) { t.with_examples(c, a, false, r); }),
      inference("MultiInference", 2, [](const Tfs& t, auto& c, auto& a, Route& r) { t.multi_inference(c, a, r); }),
      method("PredictionService", "GetModelMetadata", [](const Tfs& t, auto& c, auto& a) { t.metadata(c, a); }),
      method("ModelService", "GetModelStatus", [](const Tfs& t, auto& c, auto& a) { t.status(c, a); }),
      method("ModelService", "HandleReloadConfigRequest", [](const Tfs& t, auto& c, auto& a) { t.reload(c, a); }),
  };
  out[4].small = out[5].small = true;
  out[6].blocks = true;
  return out;
}

}  // namespace tenon::serve
