#include "tenon/serve/tfs_rest.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <charconv>
#include <optional>

#include "tenon/serve/tfs_json.h"

namespace tenon::serve {
namespace {

// /v1/models[/NAME[/versions/N|/labels/L]][/metadata][:METHOD]
struct UrlParts {
  bool models = false;  // the path begins with /v1/models
  bool whole = false;   // and all of it is understood
  ModelRef ref;
  std::string method;  // after the colon
  bool metadata = false;
};

// Takes `word` from the front, whatever its case.
bool take(std::string_view& text, std::string_view word) {
  if (!same_ignoring_case(text.substr(0, word.size()), word)) return false;
  text.remove_prefix(word.size());
  return true;
}
std::string_view segment(std::string_view& text) {
  const std::string_view out = text.substr(0, text.find_first_of("/:"));
  text.remove_prefix(out.size());
  return out;
}

UrlParts parse_route(std::string_view path) {
  UrlParts r;
  if (!take(path, "/v1/models")) return r;
  r.models = true;
  if (path.empty()) {
    r.whole = true;
    return r;
  }
  if (!take(path, "/")) return r;
  r.ref.name = url_decoded(segment(path));
  if (r.ref.name.empty()) return r;
  if (take(path, "/versions/")) {
    const std::string_view digits = segment(path);
    int64_t version = 0;
    const auto [stop, error] = std::from_chars(digits.data(), digits.data() + digits.size(), version);
    if (error == std::errc::result_out_of_range)
      throw RequestError(Code::InvalidArgument, fmt::format("Failed to convert version: {} to numeric.", digits));
    if (error != std::errc() || stop != digits.data() + digits.size() || version < 0) return r;
    r.ref.version = version;
  } else if (take(path, "/labels/")) {
    r.ref.label = url_decoded(segment(path));
    if (r.ref.label.empty()) return r;
  }
  if (take(path, ":")) {
    r.method = std::string(path);
    for (std::string_view known : {"predict", "classify", "regress"}) {
      if (same_ignoring_case(path, known)) r.method = known;
    }
    r.whole = r.method == "predict" || r.method == "classify" || r.method == "regress";
    return r;
  }
  r.metadata = take(path, "/metadata");
  r.whole = path.empty();
  return r;
}

HttpResponse error_response(const Status& status) {
  return http_error(status, http_status(status), error_answer(status.message));
}

struct Tfs : std::enable_shared_from_this<Tfs> {
  Core& core;
  TfsRestOptions options;

  Tfs(Core& core, TfsRestOptions options) : core(core), options(std::move(options)) {}

  void infer(const HttpRequestPtr& request, const Respond& respond, const UrlParts& route) {
    const KeyLookup key = [request](std::string_view name) { return request->header(name); };
    Route chosen;
    InferRequest infer{.cancel = request->cancel, .api = Api::TfsRest, .trace = request->trace};
    std::function<std::string(const InferResponse&)> write;
    try {
      chosen = core.repository().route(route.ref, key);
      const LanePtr& lane = chosen.lane;
      request->answered_by = {lane->model_name(), lane->version()};
      infer.deadline = core.deadline(header_timeout(*request, options.timeout));
      if (lane->model().pipeline()) infer.key = key;
      if (route.method == "predict") {
        PredictBody body = parse_predict(request->body, lane->model());
        infer.inputs = std::move(body.inputs);
        write = [rows = body.rows](const InferResponse& r) { return predict_answer(r.outputs, rows); };
      } else {
        const ExamplesBody body = parse_examples(request->body);
        infer.inputs = inputs_of(lane->model(), body.examples);
        const size_t count = body.examples.size();
        infer.method = route.method == "classify" ? TfsMethod::Classify : TfsMethod::Regress;
        infer.examples = static_cast<int64_t>(count);
        if (route.method == "classify")
          write = [lane](const InferResponse& r) { return classify_answer(classes_of(lane->model(), r.outputs)); };
        else
          write = [count](const InferResponse& r) { return regress_answer(regressions_of(r.outputs, count)); };
      }
    } catch (...) {
      core.count_refused(Api::TfsRest, chosen, route.ref.name, current_status());
      throw;
    }
    std::string().swap(request->body);  // the tensors are all that is needed now
    core.infer(std::move(chosen), std::move(infer),
               [request, respond, write = std::move(write)](const InferResponse& response) {
                 if (!response.status.ok()) return respond(error_response(response.status));
                 HttpResponse out;
                 try {
                   out = HttpResponse::json(write(response));
                 } catch (...) {
                   out = error_response(current_status());
                 }
                 respond(std::move(out));
               });
  }

  void preflight(const HttpRequest& request, const Respond& respond) const {
    const std::string_view origin = request.header("Origin");
    if (!origin.starts_with("http://") && !origin.starts_with("https://"))
      throw RequestError(Code::InvalidArgument, "OPTIONS needs an Origin header with http or https");
    respond(HttpResponse::json(""));
  }

  void handle(const HttpRequestPtr& request, const Respond& respond) {
    if (answer_health(core, *request, respond)) return;
    if (!options.metrics_path.empty() && request->path() == options.metrics_path && request->method == "GET") {
      HttpResponse page = HttpResponse::text(core.legacy_metrics().text());
      page.content_type = "text/plain; version=0.0.4";
      return respond(std::move(page));
    }
    const UrlParts route = parse_route(request->path());
    if (!route.models) {
      HttpResponse nothing = HttpResponse::text("Not Found\n", 404);
      return respond(std::move(nothing));
    }
    if (route.whole && request->method == "OPTIONS") return preflight(*request, respond);
    if (route.whole && request->method == "POST" && !route.method.empty()) return infer(request, respond, route);
    if (!route.whole || request->method != "GET" || !route.method.empty())
      throw RequestError(Code::InvalidArgument,
                         fmt::format("Malformed request: {} {}", request->method, request->path()));
    if (route.ref.name.empty()) throw RequestError(Code::InvalidArgument, "Missing model name in request.");
    if (route.metadata) {
      const LanePtr lane = core.repository().resolve(route.ref);
      return respond(HttpResponse::json(metadata_answer(lane->model(), lane->model_name(), lane->version())));
    }
    // As the original: a label in the URL is not looked at.
    respond(HttpResponse::json(status_answer(core.repository().status({route.ref.name, route.ref.version, {}}))));
  }
};

}  // namespace

HttpResponse http_error(const Status& status, int http, std::string body) {
  HttpResponse r = HttpResponse::json(std::move(body), http);
  int retry = status.retry_after;
  if (retry == 0 && (http == 503 || http == 429)) retry = 1;
  if (retry > 0) r.headers.emplace_back("Retry-After", std::to_string(retry));
  return r;
}

std::chrono::nanoseconds header_timeout(const HttpRequest& request, std::chrono::nanoseconds fallback) {
  const std::string_view text = request.header("Tenon-Timeout");
  if (text.empty()) return fallback;
  int64_t ms = 0;
  const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), ms);
  if (error != std::errc() || stop != text.data() + text.size() || ms <= 0 || ms > int64_t{1} << 40)
    throw RequestError(Code::InvalidArgument, "the header Tenon-Timeout must be a positive number of milliseconds");
  return std::chrono::milliseconds(ms);
}

bool answer_health(Core& core, const HttpRequest& request, const Respond& respond) {
  const std::string_view path = request.path();
  if (request.method != "GET" && request.method != "HEAD") return false;
  if (path == "/healthz") {
    respond(HttpResponse::text("live\n"));
  } else if (path == "/readyz") {
    const bool ready = core.ready();
    const auto waits_for = ready || core.leaving() ? std::vector<std::string>() : core.repository().not_ready();
    const std::string why = waits_for.empty() ? "" : fmt::format(": waits for {}", fmt::join(waits_for, ", "));
    respond(HttpResponse::text(ready ? "ready\n" : "not ready" + why + "\n", ready ? 200 : 503));
  } else if (path == "/metrics") {
    HttpResponse page = HttpResponse::text(core.metrics().text());
    page.content_type = "text/plain; version=0.0.4; charset=utf-8";
    respond(std::move(page));
  } else {
    return false;
  }
  return true;
}

HttpHandler tfs_rest(Core& core, TfsRestOptions options) {
  auto tfs = std::make_shared<Tfs>(core, std::move(options));
  return {.handle =
              [tfs](const HttpRequestPtr& request, const Respond& respond) {
                if (!tfs->options.cors) return tfs->handle(request, respond);
                tfs->handle(request, [respond](HttpResponse r) {
                  r.headers.emplace_back("Access-Control-Allow-Origin", "*");
                  r.headers.emplace_back("Access-Control-Allow-Methods", "GET, POST");
                  r.headers.emplace_back("Access-Control-Allow-Headers", "Content-Type");
                  respond(std::move(r));
                });
              },
          .on_error = error_response};
}

}  // namespace tenon::serve
