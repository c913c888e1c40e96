#include "tenon/serve/v2_rest.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <charconv>
#include <list>
#include <nlohmann/json.hpp>

#include "tenon/serve/console.h"
#include "tenon/serve/tfs_rest.h"
#include "tenon/serve/v2_json.h"

namespace tenon::serve {
namespace {

using Json = nlohmann::ordered_json;

HttpResponse error_response(const Status& status) {
  return http_error(status, v2_http_status(status), v2_error(status.message));
}

// What lies between the slashes of a path.
class Segments {
 public:
  explicit Segments(std::string_view path) {
    parts_.reserve(6);
    while (!path.empty()) {
      path.remove_prefix(1);  // the slash
      const std::string_view part = path.substr(0, path.find('/'));
      path.remove_prefix(part.size());
      parts_.push_back(part.find('%') == std::string_view::npos ? part : decoded_.emplace_back(url_decoded(part)));
    }
  }
  [[nodiscard]] bool empty() const { return parts_.empty(); }
  [[nodiscard]] size_t size() const { return parts_.size(); }
  std::string_view operator[](size_t i) const { return parts_[i]; }

 private:
  std::vector<std::string_view> parts_;  // of the path, or of
  std::list<std::string> decoded_;       // those that had escapes
};

int64_t number_of(std::string_view text) {
  int64_t v = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), v);
  if (error != std::errc() || stop != text.data() + text.size() || v < 0)
    throw RequestError(Code::InvalidArgument, fmt::format("'{}' is no version number", text));
  return v;
}

std::vector<int64_t> numbers(const std::vector<LanePtr>& lanes) {
  std::vector<int64_t> out;
  for (const auto& lane : lanes) out.push_back(lane->version());
  return out;
}

struct V2 {
  Core& core;
  V2RestOptions options;

  void infer(const HttpRequestPtr& http, const Respond& respond, const ModelRef& ref) {
    auto request = std::make_shared<V2Request>();
    InferRequest infer{.cancel = http->cancel, .api = Api::V2Rest, .trace = http->trace};
    Route route;
    try {
      *request = parsed(http, ref, route);
      // The sticky key may be a parameter, so which version answers is said after parsing.
      route = core.repository().route(ref, [&](std::string_view name) { return key(*http, *request, name); });
      infer.deadline = core.deadline(header_timeout(*http, request->timeout));
    } catch (...) {
      core.count_refused(Api::V2Rest, route, ref.name, current_status());
      throw;
    }
    if (route.lane->model().pipeline())
      infer.key = [http, request](std::string_view name) { return key(*http, *request, name); };
    http->answered_by = {route.lane->model_name(), route.lane->version()};
    infer.inputs = std::move(request->inputs);
    infer.priority = request->priority;
    for (const auto& output : request->outputs) infer.outputs.push_back(output.name);
    core.infer(std::move(route), std::move(infer), [http, respond, request](const InferResponse& response) {
      if (!response.status.ok()) return respond(error_response(response.status));
      HttpResponse out;
      try {
        out = v2_answer(*request, response);
        compress(*http, out);
      } catch (...) {
        out = error_response(current_status());
      }
      respond(std::move(out));
    });
  }

  // The request as it is written. One that is broken counts as the newest version's, which is left in `whose`; a model
  // that is not there is the larger mistake.
  V2Request parsed(const HttpRequestPtr& http, const ModelRef& ref, Route& whose) const {
    LanePtr lane;
    const auto model = [&]() -> const Model& {
      if (!lane) lane = core.repository().resolve(ref);
      return lane->model();
    };
    try {
      std::optional<size_t> header_length;
      if (const auto text = http->header("Inference-Header-Content-Length"); !text.empty())
        header_length = static_cast<size_t>(number_of(text));
      return parse_v2(http->body, header_length, http, model);
    } catch (...) {
      if (!lane) lane = core.repository().resolve(ref);
      whose = lane;
      throw;
    }
  }

  // What a request is routed by: a parameter, else a header.
  static std::string_view key(const HttpRequest& http, const V2Request& request, std::string_view name) {
    const auto found = request.texts.find(name);
    return found != request.texts.end() ? std::string_view(found->second) : http.header(name);
  }

  static void compress(const HttpRequest& http, HttpResponse& out) {
    const std::string_view encoding = accepted_encoding(http.header("Accept-Encoding"));
    size_t size = 0;
    for (const auto& chunk : out.body) size += chunk.bytes.size();
    if (encoding.empty() || size < 1024) return;
    std::string packed = encoded_body(out.body_text(), encoding);
    out.body.clear();
    out.body.push_back(Chunk::of(std::move(packed)));
    out.headers.emplace_back("Content-Encoding", std::string(encoding));
  }

  void model(const HttpRequestPtr& http, const Respond& respond, const Segments& path) {
    ModelRef ref{.name = std::string(path[2])};
    size_t at = 3;
    if (path.size() > at + 1 && path[at] == "versions") {
      ref.version = number_of(path[at + 1]);
      at += 2;
    }
    const std::string_view what = at < path.size() ? path[at] : std::string_view();
    if (path.size() > at + 1 || (at < path.size() && what.empty())) return unknown(http, respond);
    if (http->method == "POST" && what == "infer") return infer(http, respond, ref);
    if (http->method != "GET") return unknown(http, respond);
    if (what == "ready") {
      bool ready = true;
      try {
        (void)core.repository().resolve(ref);
      } catch (const RequestError&) {
        ready = false;
      }
      return respond(HttpResponse::json(dump({{"name", ref.name}, {"ready", ready}}), ready ? 200 : 400));
    }
    if (what == "traffic" && !ref.version) {
      const TrafficPtr traffic = core.repository().traffic(ref.name);
      if (!traffic) throw RequestError(Code::NotFound, fmt::format("there is no model '{}'", ref.name));
      return respond(HttpResponse::json(traffic_json(ref.name, *traffic)));
    }
    if (what == "stats") {
      if (!ref.version) {
        (void)core.repository().resolve(ref);
        return respond(HttpResponse::json(v2_statistics(core.repository().ready_versions(ref.name))));
      }
      return respond(HttpResponse::json(v2_statistics({core.repository().resolve(ref)})));
    }
    const LanePtr lane = (what.empty() || what == "config") ? core.repository().resolve(ref) : nullptr;
    if (what.empty())
      return respond(HttpResponse::json(
          v2_model_metadata(lane->model(), ref.name, numbers(core.repository().ready_versions(ref.name)))));
    if (what == "config")
      return respond(HttpResponse::json(
          v2_model_config(*lane, core.repository().labels(ref.name), core.repository().traffic(ref.name))));
    unknown(http, respond);
  }

  void repository(const HttpRequestPtr& http, const Respond& respond, const Segments& path) {
    if (http->method != "POST") return unknown(http, respond);
    if (path.size() == 3 && path[2] == "index") {
      bool only_ready = false;
      if (!http->body.empty()) {
        const Json body = Json::parse(http->body, nullptr, false);
        if (body.is_discarded()) throw RequestError(Code::InvalidArgument, "the body is no JSON");
        if (body.is_object() && body.contains("ready") && body["ready"].is_boolean()) only_ready = body["ready"];
      }
      return respond(HttpResponse::json(v2_index(core.repository().index(), only_ready)));
    }
    if (path.size() != 5 || path[2] != "models" || (path[4] != "load" && path[4] != "unload" && path[4] != "traffic"))
      return unknown(http, respond);
    if (!options.control)
      throw RequestError(Code::PermissionDenied, "loading and unloading are not switched on (--control-port)");
    if (!same_secret("Bearer " + options.control_token, http->header("Authorization")))
      throw RequestError(Code::Unauthenticated, "loading and unloading need the header Authorization: Bearer TOKEN");
    const std::string name(path[3]);
    if (path[4] == "traffic") {
      const TrafficPtr traffic = core.repository().traffic(name);
      if (!traffic) throw RequestError(Code::NotFound, fmt::format("there is no model '{}'", name));
      bool force = false;
      const TrafficOptions wanted = traffic_from_json(http->body, &force);
      const auto missing = core.repository().missing(name, wanted);
      if (!missing.empty() && !force)
        throw RequestError(Code::FailedPrecondition,
                           fmt::format("'{}' has no {} ready, so nothing was changed; \"force\": true sets it all the "
                                       "same, and the others get its share until it is there",
                                       name, fmt::join(missing, ", ")),
                           0, 409);
      traffic->set(wanted);
      return respond(HttpResponse::json(traffic_json(name, *traffic)));
    }
    if (path[4] == "load") {
      if (http->body.find("\"config\"") != std::string::npos || http->body.find("\"file:") != std::string::npos)
        throw RequestError(Code::Unimplemented, "a configuration or files in a load request are not accepted");
      core.repository().load(name);
    } else {
      core.repository().unload(name);
    }
    respond(HttpResponse::json(""));
  }

  // Triton's settings and regions: what there is to tell is told, what cannot be changed is refused.
  bool triton(const HttpRequest& http, const Respond& respond, const Segments& path) const {
    const std::string_view what = path.size() > 1 ? path[1] : std::string_view();
    const std::string_view last = path[path.size() - 1];
    const bool get = http.method == "GET", post = http.method == "POST";
    if (what == "systemsharedmemory" || what == "cudasharedmemory") {
      const bool named = path.size() == 5 && path[2] == "region";
      if (path.size() != 3 && !named) return false;
      if (post && last == "register") no_shared_memory();
      if (!(get && last == "status") && !(post && last == "unregister")) return false;
      if (named) no_region(path[3]);
      respond(HttpResponse::json(get ? "[]" : ""));
      return true;
    }
    const bool logging = path.size() == 2 && what == "logging";
    const bool trace = last == "setting" && path.size() > 2 && path[path.size() - 2] == "trace" &&
                       (path.size() == 3 || (path.size() == 5 && what == "models"));
    if ((!logging && !trace) || (!get && !post)) return false;
    if (post)
      throw RequestError(Code::Unimplemented,
                         logging ? "logging is set by the command line (--access-log)"
                                 : "traces are not collected here: the header traceparent is passed on");
    respond(HttpResponse::json(dump(logging ? Json{{"log_file", ""},
                                                   {"log_info", true},
                                                   {"log_warning", true},
                                                   {"log_error", true},
                                                   {"log_verbose_level", 0},
                                                   {"log_format", "default"}}
                                            : Json{{"trace_level", {"OFF"}}})));
    return true;
  }

  static std::string dump(const Json& json) { return json.dump(-1, ' ', false, Json::error_handler_t::replace); }

  static void unknown(const HttpRequestPtr& http, const Respond& respond) {
    respond(HttpResponse::json(v2_error(fmt::format("there is no {} {}", http->method, http->path())), 404));
  }

  void handle(const HttpRequestPtr& http, const Respond& respond) {
    if (answer_health(core, *http, respond) || answer_console(core, *http, respond)) return;
    const Segments path(http->path());
    if (path.empty() || path[0] != "v2") return unknown(http, respond);
    const bool get = http->method == "GET" || http->method == "HEAD";
    if (path.size() == 1 && get)
      return respond(HttpResponse::json(
          dump({{"name", "tenon"}, {"version", core.options().version}, {"extensions", v2_extensions()}})));
    if (path.size() == 3 && path[1] == "health" && get) {
      if (path[2] == "live") return respond(HttpResponse::json("{\"live\":true}"));
      if (path[2] == "ready") {
        const bool ready = core.ready();
        return respond(HttpResponse::json(dump({{"ready", ready}}), ready ? 200 : 503));
      }
    }
    if (triton(*http, respond, path)) return;
    if (path.size() >= 2 && path[1] == "repository") return repository(http, respond, path);
    if (path.size() == 3 && path[1] == "models" && path[2] == "stats" && get) {
      std::vector<LanePtr> lanes;
      for (const auto& config : core.repository().configuration()) {
        for (auto& lane : core.repository().ready_versions(config.name)) lanes.push_back(std::move(lane));
      }
      return respond(HttpResponse::json(v2_statistics(lanes)));
    }
    if (path.size() >= 3 && path[1] == "models" && !path[2].empty()) return model(http, respond, path);
    unknown(http, respond);
  }
};

}  // namespace

std::vector<std::string> v2_extensions() {
  return {"binary_tensor_data", "model_repository", "statistics", "model_configuration"};
}

bool same_secret(std::string_view a, std::string_view b) {
  unsigned differs = a.size() == b.size() ? 0 : 1;
  for (size_t i = 0; i < b.size(); ++i)
    differs |= static_cast<unsigned>(static_cast<unsigned char>(b[i])) ^
               static_cast<unsigned>(a.empty() ? 256 : static_cast<unsigned char>(a[i % a.size()]));
  return differs == 0;
}

HttpHandler v2_rest(Core& core, V2RestOptions options) {
  auto v2 = std::make_shared<V2>(core, std::move(options));
  return {.handle = [v2](const HttpRequestPtr& request, const Respond& respond) { v2->handle(request, respond); },
          .on_error = error_response,
          .slow = [](const HttpRequest& request) { return request.path().starts_with("/v2/repository/models/"); }};
}

}  // namespace tenon::serve
