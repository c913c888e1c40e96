#include "tenon/serve/console.h"

#include <algorithm>
#include <nlohmann/json.hpp>

namespace tenon::serve {
namespace {

using Json = nlohmann::ordered_json;

Json specs_json(const std::vector<TensorSpec>& specs) {
  Json out = Json::array();
  for (const auto& spec : specs) {
    out.push_back({{"name", spec.name}, {"datatype", v2_name(spec.type)}, {"shape", spec.dims}});
    if (!spec.has_rank) out.back()["shape"] = nullptr;
  }
  return out;
}

Json lane_json(const Lane& lane) {
  const LaneTotals totals = lane.totals();
  Json out{{"requests", totals.answered},
           {"errors", totals.errors},
           {"pending", lane.pending()},
           {"rows", totals.rows},
           {"buckets", totals.buckets},
           {"inputs", specs_json(lane.model().inputs())},
           {"outputs", specs_json(lane.model().outputs())},
           {"batching", lane.options().batching.enabled}};
  if (const std::string how = lane.model().execution(); !how.empty()) out["execution"] = how;
  if (const auto labels = lane.model().metadata().find("labels"); labels != lane.model().metadata().end())
    out["classes"] = labels->second;
  return out;
}

}  // namespace

std::string console_state(Core& core) {
  Json models = Json::array();
  for (const IndexEntry& entry : core.repository().index()) {
    if (models.empty() || models.back()["name"] != entry.name) {
      Json labels = Json::array();
      for (const auto& l : core.repository().labels(entry.name))
        labels.push_back({{"label", l.label}, {"version", l.version}, {"ready", l.ready}});
      models.push_back({{"name", entry.name}, {"labels", labels}, {"versions", Json::array()}});
      if (const TrafficPtr traffic = core.repository().traffic(entry.name); traffic && traffic->splits()) {
        for (const auto& t : traffic->status()) {
          models.back()["split"].push_back({{"target", t.target.name()}, {"share", t.share}});
          if (t.rolled_back) models.back()["split"].back()["rolled_back"] = t.rolled_back->reason;
        }
      }
    }
    if (entry.state == VersionState::Unknown && entry.version == 0) {
      models.back()["reason"] = entry.reason;
      continue;
    }
    Json version{{"version", entry.version}, {"state", name(entry.state)}, {"reason", entry.reason}};
    const auto ready = core.repository().ready_versions(entry.name);
    const auto lane =
        std::find_if(ready.begin(), ready.end(), [&](const auto& l) { return l->version() == entry.version; });
    if (lane != ready.end()) version.update(lane_json(**lane));
    models.back()["versions"].push_back(std::move(version));
  }
  std::vector<double> bounds = Metrics::duration_bounds();
  for (double& b : bounds) b *= 1000;
  const auto now = std::chrono::duration_cast<std::chrono::milliseconds>(Clock::now().time_since_epoch()).count();
  const Json state{{"server", "tenon"},     {"version", core.options().version},
                   {"ready", core.ready()}, {"time_ms", now},
                   {"bounds_ms", bounds},   {"models", models}};
  return state.dump(-1, ' ', false, Json::error_handler_t::replace);
}

bool answer_console(Core& core, const HttpRequest& request, const Respond& respond) {
  if (request.method != "GET" && request.method != "HEAD") return false;
  const std::string_view path = request.path();
  HttpResponse out;
  if (path == "/") {
    out = HttpResponse::json(std::string(console_page()));
    out.content_type = "text/html; charset=utf-8";
    // Whatever a model calls itself, the page runs and loads only its own.
    out.headers.emplace_back(
        "Content-Security-Policy",
        "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; connect-src 'self'; "
        "img-src data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'");
  } else if (path == "/console/state") {
    out = HttpResponse::json(console_state(core));
  } else {
    return false;
  }
  out.headers.emplace_back("Cache-Control", "no-store");
  respond(std::move(out));
  return true;
}

}  // namespace tenon::serve
