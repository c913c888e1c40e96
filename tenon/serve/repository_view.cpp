// What requests see of the repository: a snapshot that loading never holds up.
#include <fmt/format.h>

#include <algorithm>

#include "tenon/serve/repository_parts.h"

namespace tenon::serve {

std::string_view name(VersionState state) {
  switch (state) {
    case VersionState::Start:
      return "START";
    case VersionState::Loading:
      return "LOADING";
    case VersionState::Available:
      return "AVAILABLE";
    case VersionState::Unloading:
      return "UNLOADING";
    case VersionState::End:
      return "END";
    case VersionState::Unknown:
      break;
  }
  return "UNKNOWN";
}

std::string text_of(const ModelRef& ref) {
  if (ref.version) return fmt::format("Specific({}, {})", ref.name, *ref.version);
  if (!ref.label.empty()) return fmt::format("Label({}, {})", ref.name, ref.label);
  return fmt::format("Latest({})", ref.name);
}

namespace {

[[noreturn]] void not_found(const ModelRef& ref, const std::string& why = {}) {
  throw RequestError(Code::NotFound, "Servable not found for request: " + text_of(ref) + why);
}

}  // namespace

void Repository::publish() {
  auto next = std::make_shared<Published>();
  for (const auto& [name, entry] : models_) {
    Published::Model model;
    for (const auto& [number, version] : entry->versions) {
      if (version.lane) model.versions[number] = version.lane;
      model.coming = model.coming || version.pending() || version.state == VersionState::Start;
      if (version.state == VersionState::End && !version.status.ok())
        model.fault = fmt::format("; version {} was not loaded: {}", number, version.status.message);
    }
    if (entry->removed && model.versions.empty()) continue;
    model.coming = model.coming || looks_ == 0;
    model.labels = entry->config.labels;
    model.wanted = entry->wanted && !entry->removed;
    entry->quota->set(entry->config.max_in_flight);
    if (entry->config.max_in_flight > 0) model.quota = entry->quota;
    model.traffic = entry->traffic;
    model.log = entry->log;
    model.held = entry->held;
    next->models.emplace(name, std::move(model));
  }
  std::shared_ptr<const Published> old = std::move(next);
  {
    const std::lock_guard lock(published_mutex_);
    published_.swap(old);
  }
  if (configured_ && !ready() && not_ready().empty()) ready_.store(true, std::memory_order_release);
}

std::shared_ptr<const Repository::Published> Repository::published() const {
  const std::lock_guard lock(published_mutex_);
  return published_;
}

const Repository::Published::Model& Repository::Published::model(const ModelRef& ref) const {
  const auto found = models.find(ref.name);
  if (found == models.end()) not_found(ref);
  return found->second;
}

LanePtr Repository::resolve(const ModelRef& ref) const {
  const auto snapshot = published();
  return snapshot->model(ref).resolve(ref);
}

const LanePtr& Repository::Published::Model::resolve(const ModelRef& ref) const {
  std::optional<int64_t> number = ref.version;
  if (!ref.label.empty()) {
    const auto label = labels.find(ref.label);
    if (label == labels.end())
      throw RequestError(Code::InvalidArgument, "Unrecognized servable version label: " + ref.label);
    if (!versions.contains(label->second))
      throw RequestError(Code::Unavailable,
                         fmt::format("label '{}' of '{}' waits for version {}, which is not ready", ref.label, ref.name,
                                     label->second),
                         1);
    number = label->second;
  }
  // Some clients say 0 for "any".
  if (number == 0 && !versions.contains(0)) number.reset();
  if (number) {
    const auto at = versions.find(*number);
    if (at == versions.end()) not_found(ref);
    return at->second;
  }
  if (versions.empty()) {
    if (wanted && coming) throw RequestError(Code::Unavailable, fmt::format("'{}' is not ready yet", ref.name), 1);
    not_found(ref, fault);
  }
  return versions.rbegin()->second;
}

Route Repository::route(const ModelRef& ref, const KeyLookup& key) const {
  const auto snapshot = published();
  const auto& model = snapshot->model(ref);
  Route out;
  out.log = model.log;
  out.quota = model.quota;
  const bool any = !ref.version || (*ref.version == 0 && !model.versions.contains(0));
  if (any && ref.label.empty() && !model.traffic->plain()) out.traffic = model.traffic;
  if (!out.traffic || !out.traffic->splits() || model.versions.empty()) {
    out.lane = model.resolve(ref);
    return out;
  }
  out.target = out.traffic->choose(key, [&](const SplitTarget& t) { return model.lane_of(t) != nullptr; });
  if (!out.target)
    throw RequestError(Code::Unavailable, fmt::format("no version that '{}' splits its requests to is ready", ref.name),
                       1);
  out.lane = model.lane_of(out.target->options);
  return out;
}

LanePtr Repository::lane_of(const std::string& model, const ShadowOptions& shadow) const {
  const auto snapshot = published();
  const auto found = snapshot->models.find(model);
  if (found == snapshot->models.end()) return nullptr;
  return found->second.lane_of({.version = shadow.version, .label = shadow.label});
}

std::vector<std::string> Repository::missing(const std::string& model, const TrafficOptions& traffic) const {
  const auto snapshot = published();
  const auto found = snapshot->models.find(model);
  std::vector<std::string> out;
  const auto look = [&](const SplitTarget& target) {
    if (found != snapshot->models.end() && found->second.lane_of(target)) return;
    out.push_back(target.version ? fmt::format("version {}", *target.version)
                                 : fmt::format("label '{}'", target.label));
  };
  for (const auto& target : traffic.split) look(target);
  if (traffic.shadow) look({.version = traffic.shadow->version, .label = traffic.shadow->label});
  return out;
}

TrafficPtr Repository::traffic(const std::string& model) const {
  const auto snapshot = published();
  const auto found = snapshot->models.find(model);
  return found == snapshot->models.end() ? nullptr : found->second.traffic;
}

std::vector<VersionStatus> Repository::status(const ModelRef& ref) const {
  const std::lock_guard lock(mutex_);
  const auto found = models_.find(ref.name);
  if (found == models_.end())
    throw RequestError(Code::NotFound, fmt::format("Could not find any versions of model {}", ref.name));
  std::vector<VersionStatus> out;
  const bool any = !ref.version || (*ref.version == 0 && !found->second->versions.contains(0));
  for (const auto& [number, version] : found->second->versions) {
    if (!any && number != *ref.version) continue;
    if (version.state == VersionState::Unknown) continue;
    out.push_back({number, version.state, version.status});
  }
  if (out.empty() && !any)
    throw RequestError(Code::NotFound, fmt::format("Could not find version {} of model {}", *ref.version, ref.name));
  if (out.empty()) throw RequestError(Code::NotFound, fmt::format("Could not find any versions of model {}", ref.name));
  return out;
}

std::vector<LabelStatus> Repository::labels(const std::string& model) const {
  const auto snapshot = published();
  const auto found = snapshot->models.find(model);
  std::vector<LabelStatus> out;
  if (found == snapshot->models.end()) return out;
  for (const auto& [label, version] : found->second.labels)
    out.push_back({label, version, found->second.versions.contains(version)});
  return out;
}

std::vector<IndexEntry> Repository::index() const {
  const std::lock_guard lock(mutex_);
  std::vector<IndexEntry> out;
  for (const auto& [name, entry] : models_) {
    if (entry->removed) continue;
    const size_t before = out.size();
    for (const auto& [number, version] : entry->versions) {
      if (version.state == VersionState::Unknown) continue;
      out.push_back({name, number, version.state, version.status.message});
    }
    if (out.size() == before) out.push_back({name, 0, VersionState::Unknown, entry->disk_error});
  }
  return out;
}

std::shared_ptr<void> Repository::held(const std::string& model) const {
  const auto snapshot = published();
  const auto found = snapshot->models.find(model);
  return found == snapshot->models.end() ? nullptr : found->second.held;
}

std::vector<LanePtr> Repository::ready_versions(const std::string& model) const {
  const auto snapshot = published();
  std::vector<LanePtr> out;
  const auto found = snapshot->models.find(model);
  if (found == snapshot->models.end()) return out;
  for (const auto& [number, lane] : found->second.versions) out.push_back(lane);
  return out;
}

std::vector<std::string> Repository::not_ready() const {
  const auto snapshot = published();
  std::vector<std::string> out;
  for (const auto& [name, model] : snapshot->models) {
    if (model.wanted && model.versions.empty()) out.push_back(name);
  }
  return out;
}

}  // namespace tenon::serve
