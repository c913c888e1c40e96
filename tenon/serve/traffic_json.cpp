#include <fmt/format.h>
#include <fmt/ranges.h>

#include <nlohmann/json.hpp>

#include "tenon/serve/status.h"
#include "tenon/serve/traffic_fields.h"

namespace tenon::serve {
namespace {

using Json = nlohmann::ordered_json;

double millis(std::chrono::microseconds d) { return static_cast<double>(d.count()) / 1e3; }

Json window_json(const SlidingWindow::Counts& c) {
  return {{"requests", c.requests}, {"errors", c.errors}, {"slow", c.slow}};
}

Json rollback_json(const RollbackOptions& r) {
  Json out{{"window_seconds", static_cast<double>(r.window.count()) / 1e3}, {"min_requests", r.min_requests}};
  if (r.max_error_rate < 1) out["max_error_rate"] = r.max_error_rate;
  if (r.max_p99.count() > 0) out["max_p99_millis"] = millis(r.max_p99);
  if (r.count_invalid) out["count_invalid_arguments"] = true;
  return out;
}

// Reads an object field by field and collects what is wrong.
class Fields {
 public:
  Fields(const Json& json, std::string where, std::vector<std::string>& wrong)
      : json_(json), where_(std::move(where)), wrong_(wrong) {
    if (!json.is_object()) fault("is no object");
  }
  // Null if absent.
  const Json* get(const std::string& name) {
    known_.push_back(name);
    if (!json_.is_object() || !json_.contains(name)) return nullptr;
    return &json_.at(name);
  }
  double real(const std::string& name, double fallback) {
    const Json* v = get(name);
    if (!v) return fallback;
    if (v->is_number()) return v->get<double>();
    fault(fmt::format("'{}' must be a number", name));
    return fallback;
  }
  int64_t integer(const std::string& name, int64_t fallback) {
    const Json* v = get(name);
    if (!v) return fallback;
    if (v->is_number_integer()) return v->get<int64_t>();
    fault(fmt::format("'{}' must be an integer", name));
    return fallback;
  }
  std::string text(const std::string& name) {
    const Json* v = get(name);
    if (!v) return {};
    if (v->is_string()) return v->get<std::string>();
    fault(fmt::format("'{}' must be a text", name));
    return {};
  }
  bool boolean(const std::string& name, bool fallback) {
    const Json* v = get(name);
    if (!v) return fallback;
    if (v->is_boolean()) return v->get<bool>();
    fault(fmt::format("'{}' must be true or false", name));
    return fallback;
  }
  bool has(const std::string& name) { return get(name) != nullptr; }
  void done() {
    if (!json_.is_object()) return;
    for (const auto& [key, value] : json_.items()) {
      if (std::find(known_.begin(), known_.end(), key) == known_.end()) fault(fmt::format("there is no '{}'", key));
    }
  }
  void fault(const std::string& text) { wrong_.push_back(fmt::format("{}: {}", where_, text)); }

 private:
  const Json& json_;
  std::string where_;
  std::vector<std::string>& wrong_;
  std::vector<std::string> known_;
};

RollbackOptions rollback_of(const Json& json, const std::string& where, std::vector<std::string>& wrong) {
  Fields in(json, where, wrong);
  const RollbackOptions r = read_rollback(in);
  in.done();
  return r;
}

SplitTarget target_of(const Json& json, const std::string& where, std::vector<std::string>& wrong) {
  Fields in(json, where, wrong);
  SplitTarget t = read_target(in);
  if (const Json* rollback = in.get("rollback")) t.rollback = rollback_of(*rollback, where + ".rollback", wrong);
  for (const char* told : {"share", "requests", "window", "rolled_back"}) (void)in.get(told);  // of traffic_json
  in.done();
  return t;
}

Json shadow_json(const ShadowOptions& o) {
  Json out;
  if (o.version)
    out["version"] = *o.version;
  else
    out["label"] = o.label;
  out["sample_rate"] = o.sample_rate;
  out["relative_tolerance"] = o.tolerance.relative;
  out["absolute_tolerance"] = o.tolerance.absolute;
  out["max_in_flight"] = o.max_in_flight;
  out["max_bytes"] = o.max_bytes;
  out["timeout_millis"] = o.timeout.count();
  return out;
}

ShadowOptions shadow_of(const Json& json, std::vector<std::string>& wrong) {
  Fields in(json, "shadow", wrong);
  const ShadowOptions o = read_shadow(in);
  (void)in.get("requests");  // of traffic_json
  in.done();
  return o;
}

}  // namespace

std::string traffic_json(const std::string& model, const Traffic& traffic) {
  const TrafficOptions options = traffic.options();
  Json out{{"model", model}, {"split", Json::array()}};
  for (const auto& s : traffic.status()) {
    Json item;
    if (s.target.version)
      item["version"] = *s.target.version;
    else
      item["label"] = s.target.label;
    item["weight"] = s.target.weight;
    item["share"] = s.share;
    item["requests"] = s.requests;
    if (s.target.rollback) {
      item["rollback"] = rollback_json(*s.target.rollback);
      item["window"] = window_json(s.window);
    }
    if (s.rolled_back)
      item["rolled_back"] = {{"reason", s.rolled_back->reason},
                             {"time_ms", s.rolled_back->time_ms},
                             {"window", window_json(s.rolled_back->window)}};
    out["split"].push_back(std::move(item));
  }
  if (const auto shadow = traffic.shadow()) {
    Json item = shadow_json(shadow->options());
    for (size_t i = 0; i < Shadow::kResults; ++i) {
      const auto result = static_cast<Shadow::Result>(i);
      item["requests"][std::string(name(result))] = shadow->count(result);
    }
    out["shadow"] = std::move(item);
  }
  if (!options.sticky_key.empty()) out["sticky_key"] = options.sticky_key;
  return out.dump(-1, ' ', false, Json::error_handler_t::replace);
}

TrafficOptions traffic_from_json(std::string_view text, bool* force) {
  const Json json = Json::parse(text, nullptr, false);
  if (json.is_discarded()) throw RequestError(Code::InvalidArgument, "the body is no JSON");
  std::vector<std::string> wrong;
  TrafficOptions out;
  Fields in(json, "traffic", wrong);
  (void)in.get("model");
  const bool forced = in.boolean("force", false);
  if (force) *force = forced;
  out.sticky_key = in.text("sticky_key");
  out.seed = static_cast<uint64_t>(in.integer("seed", 1));
  if (const Json* split = in.get("split")) {
    if (!split->is_array()) in.fault("'split' must be a list");
    for (size_t i = 0; split->is_array() && i < split->size(); ++i)
      out.split.push_back(target_of((*split)[i], fmt::format("split {}", i + 1), wrong));
  }
  if (const Json* shadow = in.get("shadow")) out.shadow = shadow_of(*shadow, wrong);
  in.done();
  for (auto& fault : faults(out)) wrong.push_back(std::move(fault));
  if (!wrong.empty()) throw RequestError(Code::InvalidArgument, fmt::format("{}", fmt::join(wrong, "; ")));
  return out;
}

}  // namespace tenon::serve
