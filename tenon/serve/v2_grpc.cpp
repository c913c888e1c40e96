#include "tenon/serve/v2_grpc.h"

#include <fmt/format.h>

#include "tenon/serve/v2_json.h"
#include "tenon/serve/v2_rest.h"
#include "tenon/serve/v2_wire.h"

namespace tenon::serve {
namespace {

// The first fields of a small message.
struct Small {
  std::string one, two;
  bool flag = false;  // field 2, where that is a boolean
};
Small read_small(const RpcCall& call) {
  Small out;
  WireReader in(call.pieces);
  while (in.next()) {
    std::string* text = in.field() == 1 ? &out.one : in.field() == 2 ? &out.two : nullptr;
    if (text && in.type() == WireType::Bytes)
      *text = in.text();
    else if (in.field() == 2 && in.type() == WireType::Varint)
      out.flag = in.boolean();
    else
      in.skip();
  }
  return out;
}

ModelRef ref_of(const Small& small) {
  ModelRef ref{.name = small.one};
  if (small.two.empty()) return ref;
  if (small.two.find_first_not_of("0123456789") != std::string::npos || small.two.size() > 18)
    throw RequestError(Code::InvalidArgument, fmt::format("'{}' is no version number", small.two));
  ref.version = std::stoll(small.two);
  return ref;
}

// Whether a RepositoryModelLoadRequest brings a model with it: parameters (3) with the key (1) config or file:….
bool has_configuration(const RpcCall& call) {
  WireReader in(call.pieces);
  while (in.next()) {
    if (in.field() != 3) {
      in.skip();
      continue;
    }
    WireReader entry = in.sub();
    while (entry.next()) {
      if (entry.field() != 1) {
        entry.skip();
        continue;
      }
      const std::string key = entry.text();
      if (key == "config" || key.starts_with("file:")) return true;
    }
  }
  return false;
}

WireWriter flag_message(bool v) {
  WireWriter out;
  if (v) out.varint(1, 1);
  return out;
}

struct V2 {
  Core& core;
  V2GrpcOptions options;
  V2(Core& c, V2GrpcOptions o) : core(c), options(std::move(o)) {}

  void infer(const RpcCallPtr& call, const RpcAnswer& answer, bool stream) const {
    V2Message message;
    // What a request is routed by: a parameter, else the metadata.
    constexpr auto key = [](const RpcCall& from, const auto& texts, std::string_view name) -> std::string_view {
      const auto found = texts.find(name);
      return found != texts.end() ? std::string_view(found->second) : from.value(name);
    };
    Route route;
    try {
      message = read_infer(WireReader(call->pieces), call->owner);
      route =
          core.repository().route(message.ref, [&](std::string_view name) { return key(*call, message.texts, name); });
    } catch (...) {
      core.count_refused(Api::V2Grpc, {}, first_text(call->pieces, 0), current_status());
      throw;
    }
    InferRequest request{.inputs = std::move(message.inputs),
                         .outputs = std::move(message.outputs),
                         .deadline = std::min(call->deadline, core.deadline(message.timeout)),
                         .priority = message.priority,
                         .cancel = call->cancel,
                         .api = Api::V2Grpc,
                         .trace = call->trace};
    if (route.lane->model().pipeline())
      request.key = [call, key, texts = std::move(message.texts)](std::string_view name) {
        return key(*call, texts, name);
      };
    call->answered_by = {route.lane->model_name(), route.lane->version()};
    core.infer(std::move(route), std::move(request),
               [call, answer, stream, id = std::move(message.id)](InferResponse response) {
                 Status status = std::move(response.status);
                 std::vector<Chunk> out;
                 if (status.ok()) {
                   try {
                     WireWriter written = write_infer_answer(response, id);
                     if (stream) {
                       WireWriter outer;
                       outer.message(2, written);
                       written = std::move(outer);
                     }
                     out = written.take();
                   } catch (...) {
                     status = current_status();
                   }
                 }
                 answer(std::move(status), std::move(out));
               });
  }

  void ready(const RpcCallPtr& call, const RpcAnswer& answer) const {
    bool is = true;
    try {
      (void)core.repository().resolve(ref_of(read_small(*call)));
    } catch (const RequestError& error) {
      if (error.status_code == Code::InvalidArgument) throw;
      is = false;
    }
    answer({}, flag_message(is).take());
  }

  void server_metadata(const RpcCallPtr&, const RpcAnswer& answer) const {
    WireWriter out;
    out.text(1, "tenon");
    out.text(2, core.options().version);
    for (const auto& extension : v2_extensions()) out.text(3, extension);
    answer({}, out.take());
  }

  std::vector<LanePtr> lanes_of(const ModelRef& ref) const {
    if (ref.name.empty()) {
      std::vector<LanePtr> all;
      for (const auto& config : core.repository().configuration()) {
        for (auto& lane : core.repository().ready_versions(config.name)) all.push_back(std::move(lane));
      }
      return all;
    }
    LanePtr one = core.repository().resolve(ref);
    if (ref.version) return {one};
    return core.repository().ready_versions(ref.name);
  }

  void metadata(const RpcCallPtr& call, const RpcAnswer& answer) const {
    const ModelRef ref = ref_of(read_small(*call));
    const LanePtr lane = core.repository().resolve(ref);
    std::vector<int64_t> versions;
    for (const auto& l : core.repository().ready_versions(ref.name)) versions.push_back(l->version());
    answer({}, write_v2_metadata(lane->model(), ref.name, versions).take());
  }

  void config(const RpcCallPtr& call, const RpcAnswer& answer) const {
    const ModelRef ref = ref_of(read_small(*call));
    Repository& repository = core.repository();
    answer({},
           write_v2_config(*repository.resolve(ref), repository.labels(ref.name), repository.traffic(ref.name)).take());
  }

  void control(const RpcCallPtr& call, const RpcAnswer& answer, bool load) const {
    if (!options.control)
      throw RequestError(Code::PermissionDenied,
                         options.control_elsewhere.empty()
                             ? "loading and unloading are not switched on (--control-port, --grpc-control)"
                             : fmt::format("loading and unloading are not switched on for gRPC (--grpc-control): {}",
                                           options.control_elsewhere));
    if (!same_secret("Bearer " + options.control_token, call->value("authorization")))
      throw RequestError(Code::Unauthenticated, "loading and unloading need the metadata authorization: Bearer TOKEN");
    const std::string model = read_small(*call).two;
    if (load && has_configuration(*call))
      throw RequestError(Code::Unimplemented, "a configuration or files in a load request are not accepted");
    if (load)
      core.repository().load(model);
    else
      core.repository().unload(model);
    answer({}, {});
  }
};

}  // namespace

RpcMethods v2_grpc(Core& core, V2GrpcOptions options) {
  const auto v2 = std::make_shared<const V2>(core, std::move(options));
  const auto method = [&](std::string_view name, auto body) {
    RpcMethod out;
    out.path = fmt::format("/inference.GRPCInferenceService/{}", name);
    out.call = [v2, body](const RpcCallPtr& call, const RpcAnswer& answer) { body(*v2, call, answer); };
    out.small = true;
    return out;
  };
  RpcMethod infer = method("ModelInfer", [](const V2& v, auto& c, auto& a) { v.infer(c, a, false); });
  RpcMethod stream = method("ModelStreamInfer", [](const V2& v, auto& c, auto& a) { v.infer(c, a, true); });
  infer.small = stream.small = false;
  stream.stream = true;
  stream.error_message = [](const Status& status) {
    WireWriter message;
    message.text(1, status.message);
    return message.take();
  };
  RpcMethods out{
      std::move(infer),
      std::move(stream),
      method("ServerLive", [](const V2&, auto&, auto& a) { a({}, flag_message(true).take()); }),
      method("ServerReady", [](const V2& v, auto&, auto& a) { a({}, flag_message(v.core.ready()).take()); }),
      method("ModelReady", [](const V2& v, auto& c, auto& a) { v.ready(c, a); }),
      method("ServerMetadata", [](const V2& v, auto& c, auto& a) { v.server_metadata(c, a); }),
      method("ModelMetadata", [](const V2& v, auto& c, auto& a) { v.metadata(c, a); }),
      method("ModelConfig", [](const V2& v, auto& c, auto& a) { v.config(c, a); }),
      method("ModelStatistics", [](const V2& v, auto& c,
                                   auto& a) { a({}, write_v2_statistics(v.lanes_of(ref_of(read_small(*c)))).take()); }),
      method("RepositoryIndex",
             [](const V2& v, auto& c, auto& a) {
               a({}, write_v2_index(v.core.repository().index(), read_small(*c).flag).take());
             }),
  };
  for (const bool load : {true, false}) {
    out.push_back(method(load ? "RepositoryModelLoad" : "RepositoryModelUnload",
                         [load](const V2& v, auto& c, auto& a) { v.control(c, a, load); }));
    out.back().blocks = true;
  }
  // Clients take all regions away before they register theirs. There are none, so that is done; registering is not
  // supported.
  for (const auto* kind : {"System", "Cuda"}) {
    for (const auto* what : {"Status", "Unregister"})
      out.push_back(method(fmt::format("{}SharedMemory{}", kind, what), [](const V2&, auto& c, auto& a) {
        if (const std::string name = read_small(*c).one; !name.empty()) no_region(name);
        a({}, {});
      }));
    out.push_back(
        method(fmt::format("{}SharedMemoryRegister", kind), [](const V2&, auto&, auto&) { no_shared_memory(); }));
  }
  return out;
}

}  // namespace tenon::serve
