#include "tenon/serve/repository.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <set>

#include "tenon/base/file.h"
#include "tenon/exec/session.h"
#include "tenon/serve/repository_parts.h"

namespace tenon::serve {
namespace fs = std::filesystem;

namespace {

constexpr std::chrono::milliseconds kLookAgain{250};  // at what is being written

std::vector<int64_t> chosen(const VersionPolicy& policy, const std::vector<int64_t>& there) {  // rising
  switch (policy.kind) {
    case VersionPolicy::Kind::All:
      return there;
    case VersionPolicy::Kind::Specific: {
      std::vector<int64_t> out;
      for (int64_t v : there) {
        if (std::find(policy.specific.begin(), policy.specific.end(), v) != policy.specific.end()) out.push_back(v);
      }
      return out;
    }
    case VersionPolicy::Kind::Latest:
      break;
  }
  const auto n = std::min<size_t>(there.size(), static_cast<size_t>(policy.latest));
  return {there.end() - static_cast<std::ptrdiff_t>(n), there.end()};
}

// Steps that name no model of the configuration, and pipelines that contain themselves.
std::vector<std::string> pipeline_faults(const std::vector<ModelConfig>& models) {
  std::map<std::string, const ModelConfig*> known;
  for (const auto& config : models) known[config.name] = &config;
  std::vector<std::string> out;
  const std::function<bool(const ModelConfig&, const std::string&, size_t)> reaches =
      [&](const ModelConfig& from, const std::string& name, size_t depth) {
        if (!from.pipeline || depth > models.size()) return false;
        return std::any_of(from.pipeline->steps.begin(), from.pipeline->steps.end(), [&](const PipelineStep& step) {
          const auto next = known.find(step.model.name);
          return step.model.name == name || (next != known.end() && reaches(*next->second, name, depth + 1));
        });
      };
  for (const auto& config : models) {
    if (!config.pipeline) continue;
    for (const auto& fault : faults(*config.pipeline))
      out.push_back(fmt::format("pipeline '{}': {}", config.name, fault));
    for (const auto& step : config.pipeline->steps) {
      const auto found = known.find(step.model.name);
      if (found == known.end())
        out.push_back(fmt::format("pipeline '{}': the configuration has no model '{}'", config.name, step.model.name));
      else if (!step.model.label.empty() && !found->second->labels.contains(step.model.label))
        out.push_back(
            fmt::format("pipeline '{}': '{}' has no label '{}'", config.name, step.model.name, step.model.label));
    }
    if (reaches(config, config.name, 0)) out.push_back(fmt::format("pipeline '{}' contains itself", config.name));
  }
  return out;
}

}  // namespace

Repository::Repository(RepositoryOptions options, Metrics& metrics) : options_(std::move(options)), metrics_(metrics) {
  published_ = std::make_shared<const Published>();
  remover_ = std::make_unique<Remover>([this] {
    const std::lock_guard lock(mutex_);  // the manager has looked, or will
    reap_now_ = true;
    changed_.notify_all();
  });
  manager_ = std::thread([this] { manage(); });
  for (int i = 0; i < std::max(1, options_.load_threads); ++i) loaders_.emplace_back([this] { load_versions(); });
}

Repository::~Repository() {
  {
    const std::lock_guard lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
  tasks_ready_.notify_all();
  moved_.notify_all();
  manager_.join();
  for (auto& loader : loaders_) loader.join();
  remover_.reset();
}

void Repository::log(std::string_view level, std::string_view event, const Labels& fields) const {
  if (options_.log) options_.log(level, event, fields);
}

// The logs that the models want: those that are open stay, others are opened, before anything else changes.
std::map<std::string, RequestLogPtr> Repository::opened_logs(const std::vector<ModelConfig>& models) const {
  std::map<std::string, RequestLogPtr> out;
  for (const auto& config : models) {
    if (!config.request_log) continue;
    RequestLogPtr& log = out[config.name];
    {
      const std::lock_guard lock(mutex_);
      const auto found = models_.find(config.name);
      if (found != models_.end() && found->second->log && found->second->log->options() == *config.request_log)
        log = found->second->log;
    }
    if (!log) log = std::make_shared<RequestLog>(config.name, *config.request_log, metrics_, options_.log);
  }
  return out;
}

void Repository::configure(std::vector<ModelConfig> models) {
  std::set<std::string> names;
  for (const auto& config : models) {
    if (!names.insert(config.name).second)
      throw ValueError({"models", fmt::format("two models have the name '{}'", config.name), {}, {}, {}});
    check_local(config.base_path);
    const auto wrong = config.traffic ? faults(*config.traffic) : std::vector<std::string>();
    if (!wrong.empty())
      throw ValueError(
          {fmt::format("traffic of '{}'", config.name), fmt::format("{}", fmt::join(wrong, "; ")), {}, {}, {}});
  }
  const auto wrong = pipeline_faults(models);
  if (!wrong.empty()) throw ValueError({"models", fmt::format("{}", fmt::join(wrong, "; ")), {}, {}, {}});
  std::map<std::string, RequestLogPtr> logs = opened_logs(models);
  {
    const std::lock_guard lock(mutex_);
    for (auto& [name, entry] : models_) {
      if (!names.contains(name)) entry->removed = true;
    }
    for (auto& config : models) {
      auto& entry = models_[config.name];
      if (!entry) {
        entry = std::make_unique<Entry>();
        entry->wanted = !options_.explicit_control;
        entry->held = metrics_.hold({{"model", config.name}, {"version", ""}}, config.name);
      } else if (entry->config.base_path != config.base_path || entry->config.pipeline != config.pipeline ||
                 entry->config.lane.precision != config.lane.precision) {
        for (auto& [number, version] : entry->versions) version.outdate(++generation_);
      }
      if (!entry->traffic)
        entry->traffic =
            std::make_shared<Traffic>(config.name, config.traffic.value_or(TrafficOptions()), metrics_, options_.log);
      else if (config.traffic && config.traffic != entry->config.traffic)
        entry->traffic->set(*config.traffic);  // else what was set by hand stays
      if (!config.traffic) config.traffic = entry->config.traffic;
      entry->removed = false;
      entry->log = logs[config.name];
      entry->config = std::move(config);
    }
    look_now_ = configured_ = true;
    publish();
  }
  changed_.notify_all();
}

std::vector<ModelConfig> Repository::configuration() const {
  const std::lock_guard lock(mutex_);
  std::vector<ModelConfig> out;
  for (const auto& [name, entry] : models_) {
    if (!entry->removed) out.push_back(entry->config);
  }
  return out;
}

// ---- the manager ----

void Repository::manage() {
  std::unique_lock lock(mutex_);
  auto next_look = Clock::now();
  bool looked = false;
  while (!stopping_) {
    const auto now = Clock::now();
    // A single look lasts until what it saw is no longer being written.
    const bool poll = options_.poll.count() > 0 || (options_.poll.count() == 0 && (!looked || being_written_));
    if (look_now_ || (poll && now >= next_look)) {
      look_now_ = false;
      look(lock);
      looked = true;
      next_look = Clock::now() + (options_.poll.count() > 0 ? options_.poll : std::min(options_.settle, kLookAgain));
    }
    reconcile(Clock::now());
    const bool freed = reap();
    moved_.notify_all();
    if (stopping_ || look_now_ || reap_now_ || freed) continue;
    auto wake = Clock::now() + std::chrono::milliseconds(500);
    if (options_.poll.count() > 0 || (options_.poll.count() == 0 && being_written_)) wake = std::min(wake, next_look);
    changed_.wait_until(lock, wake);
  }
}

// What a look at one model's folder found.
struct Repository::Seen {
  std::string model;
  fs::path base;
  bool urgent;  // when the look began: who asks later means what a later look finds
  std::map<int64_t, std::pair<fs::path, bool>> known;  // path, is it known to be whole
  std::map<int64_t, fs::path> there;
  std::map<int64_t, Fingerprint> prints;
  std::map<int64_t, std::pair<Wholeness, std::string>> manifests;
  std::string error;

  void look() {
    try {
      there = find_versions(base);
      for (const auto& [number, path] : there) {
        const auto before = known.find(number);
        if (before != known.end() && before->second.second && before->second.first == path) continue;
        prints[number] = fingerprint(path);
        std::string why;
        const Wholeness whole = check_manifest(path, why);
        manifests[number] = {whole, why};
      }
    } catch (const Error& e) {
      error = e.what();
    }
  }
};

// Reads the disk with the lock let go, then notes what was found.
void Repository::look(std::unique_lock<std::mutex>& lock) {
  std::vector<Seen> all;
  for (const auto& [name, entry] : models_) {
    if (entry->removed || entry->config.pipeline) continue;
    Seen seen{name, entry->config.base_path, entry->urgent, {}, {}, {}, {}, {}};
    for (const auto& [number, version] : entry->versions) seen.known[number] = {version.path, version.whole};
    all.push_back(std::move(seen));
  }
  looking_ = true;
  lock.unlock();
  for (auto& seen : all) seen.look();
  lock.lock();
  looking_ = false;
  being_written_ = false;
  ++looks_;
  for (auto& seen : all) {
    const auto found = models_.find(seen.model);
    if (found == models_.end() || found->second->config.base_path != seen.base) continue;
    Entry& entry = *found->second;
    if (!seen.error.empty() && entry.disk_error != seen.error)
      log("warning", "disk_error", {{"model", seen.model}, {"error", seen.error}});
    entry.disk_error = seen.error;
    if (seen.error.empty()) note(entry, seen);  // else what was there before still counts
  }
}

void Repository::note(Entry& entry, const Seen& seen) {
  const auto now = Clock::now();
  const auto wall = std::chrono::nanoseconds(std::chrono::system_clock::now().time_since_epoch()).count();
  for (auto& [number, version] : entry.versions) {
    version.on_disk = seen.there.contains(number);
    // Gone before it was whole.
    if (!version.on_disk && version.state == VersionState::Start) version.state = VersionState::Unknown;
  }
  for (const auto& [number, path] : seen.there) {
    Version& version = entry.versions[number];
    version.number = number;
    version.on_disk = true;
    version.path = path;
    const auto print = seen.prints.find(number);
    if (print == seen.prints.end() || version.whole) continue;
    if (version.state == VersionState::Unknown) version.state = VersionState::Start;
    if (!(print->second == version.seen)) {
      version.seen = print->second;
      version.seen_since = now;
      // What could not be loaded has changed: it gets a new chance.
      if (version.attempts > 0 && !(version.failed == version.seen)) {
        version.state = VersionState::Start;
        version.attempts = 0;
      }
    }
    const auto& [whole, why] = seen.manifests.at(number);
    const auto quiet_for = std::chrono::nanoseconds(wall - version.seen.newest_ns);
    const bool settled =
        quiet_for >= options_.settle || (now > version.seen_since && now - version.seen_since >= options_.settle);
    version.whole = whole == Wholeness::Whole || (whole == Wholeness::NoManifest && (settled || seen.urgent));
    being_written_ = being_written_ || (whole == Wholeness::NoManifest && !version.whole);
    if (!version.whole && version.state == VersionState::Start)
      version.status = {Code::FailedPrecondition,
                        whole == Wholeness::Broken ? "not complete: " + why : "still being written", 0};
  }
  if (seen.urgent) entry.urgent = false;
}

void Repository::reconcile(Clock::time_point now) {
  for (auto& [name, entry] : models_) {
    if (!entry->config.pipeline) reconcile(*entry, now);
  }
  // A pipeline may be a step of another one.
  bool moved = true;
  for (size_t i = 0; moved && i <= models_.size(); ++i) {
    moved = false;
    for (auto& [name, entry] : models_) moved = (entry->config.pipeline && reconcile_pipeline(*entry)) || moved;
  }
  std::erase_if(models_, [](const auto& item) {
    const Entry& entry = *item.second;
    return entry.removed && std::none_of(entry.versions.begin(), entry.versions.end(), [](const auto& v) {
             return v.second.lane || v.second.state == VersionState::Unloading;
           });
  });
  publish();
}

void Repository::reconcile(Entry& entry, Clock::time_point now) {
  const bool away = entry.removed || !entry.wanted;
  std::vector<int64_t> there;
  for (auto& [number, version] : entry.versions) {
    if (version.on_disk && version.whole) there.push_back(number);
  }
  const std::vector<int64_t> list = away ? std::vector<int64_t>() : chosen(entry.config.policy, there);
  const std::set<int64_t> aspired(list.begin(), list.end());
  // What is whole and not chosen is nobody's business: it has no status, and nobody waits for it.
  for (int64_t number : there) {
    Version& version = entry.versions.at(number);
    if (!aspired.contains(number) && version.state == VersionState::Start) version.state = VersionState::Unknown;
  }
  const bool unloading = std::any_of(entry.versions.begin(), entry.versions.end(),
                                     [](const auto& v) { return v.second.state == VersionState::Unloading; });
  bool ready = false, pending = false;
  for (int64_t number : list) {
    Version& version = entry.versions.at(number);
    if (version.state == VersionState::Available) ready = true;
    const bool fresh = version.state == VersionState::Unknown || version.state == VersionState::Start ||
                       (version.state == VersionState::End && version.status.ok()) ||
                       (version.stale && version.state == VersionState::Available);
    const bool again = version.state == VersionState::Loading && version.attempts > 0 &&
                       version.retry_at != Clock::time_point() && now >= version.retry_at;
    if ((fresh || again) && !(options_.unload_first && unloading)) start_load(entry, version);
    if (version.pending()) pending = true;
  }
  // The old ones go when a new one is ready; when the new ones fail, or there are none, the old ones stay.
  const bool free_first = options_.unload_first && !aspired.empty();
  if (!(away || free_first || (ready && !pending))) return;
  for (auto& [number, version] : entry.versions) {
    if (version.lane && !aspired.contains(number)) retire(entry, version);
  }
}

void Repository::retire(const Entry& entry, Version& version) const {
  version.state = VersionState::Unloading;
  version.retired = version.lane->alive();
  version.lane.reset();
  log("info", "version_unloading", {{"model", entry.config.name}, {"version", std::to_string(version.number)}});
}

// ---- pipelines ----

// The version whose inputs and outputs a step is compared with; null while it is not ready.
LanePtr Repository::member(const ModelRef& ref) const {
  const auto found = models_.find(ref.name);
  if (found == models_.end() || found->second->removed) return nullptr;
  const Entry& entry = *found->second;
  std::optional<int64_t> wanted = ref.version;
  if (!ref.label.empty()) {
    const auto label = entry.config.labels.find(ref.label);
    if (label == entry.config.labels.end()) return nullptr;
    wanted = label->second;
  }
  LanePtr out;
  for (const auto& [number, version] : entry.versions) {
    if (version.lane && (!wanted || *wanted == number)) out = version.lane;  // the newest counts
  }
  return out;
}

// True if something changed.
bool Repository::reconcile_pipeline(Entry& entry) {
  const bool away = entry.removed || !entry.wanted;
  bool moved = false;
  if (!away) {
    Version& version = entry.versions[1];
    version.number = 1;
    version.on_disk = version.whole = true;
    moved = refresh_pipeline(entry, version);
  }
  const bool ready = !away && entry.versions.at(1).state == VersionState::Available;
  for (auto& [number, version] : entry.versions) {
    if (!version.lane || (!away && (number == 1 || !ready))) continue;
    retire(entry, version);
    moved = true;
  }
  return moved;
}

// Joins the pipeline when its models are ready, and anew when they are others.
bool Repository::refresh_pipeline(Entry& entry, Version& version) {
  const PipelineOptions& options = *entry.config.pipeline;
  std::vector<LanePtr> members;
  for (const auto& step : options.steps) {
    members.push_back(member(step.model));
    if (members.back()) continue;
    version.state = VersionState::Start;
    version.status = {Code::FailedPrecondition, fmt::format("waits for {}", text_of(step.model)), 0};
    version.members.clear();
    if (!version.lane || version.stale) return false;  // what was configured before serves while it can
    version.lane.reset();
    log("info", "pipeline_waits", {{"model", entry.config.name}, {"for", text_of(step.model)}});
    return true;
  }
  const bool same = !version.stale && version.members.size() == members.size() &&
                    std::equal(members.begin(), members.end(), version.members.begin(),
                               [](const LanePtr& lane, const auto& before) { return lane == before.lock(); });
  if (same) return false;
  version.members.assign(members.begin(), members.end());
  version.stale = false;
  const Labels which{{"model", entry.config.name}, {"version", "1"}};
  try {
    std::vector<const Model*> models;
    for (const auto& lane : members) models.push_back(&lane->model());
    LaneOptions lane = entry.config.lane;
    lane.batching.enabled = false;  // its steps batch
    version.lane = remover_->owned(std::make_unique<Lane>(
        entry.config.name, 1, std::make_shared<const Pipeline>(entry.config.name, options, models), lane, metrics_));
    version.state = VersionState::Available;
    version.status = {};
    log("info", "version_available", which);
  } catch (const Error& error) {
    version.lane.reset();
    version.state = VersionState::End;
    version.status = {Code::FailedPrecondition, error.what(), 0};
    Labels fields = which;
    fields.emplace_back("error", version.status.message);
    log("error", "version_failed", fields);
  }
  return true;
}

void Repository::start_load(Entry& entry, Version& version) {
  version.state = VersionState::Loading;
  version.generation = ++generation_;
  version.retry_at = {};
  tasks_.push_back({entry.config.name, version.number, version.generation, version.path, entry.config.lane});
  tasks_ready_.notify_one();
  log("info", "version_loading", {{"model", entry.config.name}, {"version", std::to_string(version.number)}});
}

// Notes the versions whose memory is back; true if there were any.
bool Repository::reap() {
  reap_now_ = false;
  bool freed = false;
  for (auto& [name, entry] : models_) {
    for (auto& [number, version] : entry->versions) {
      if (version.state != VersionState::Unloading || !version.retired.expired()) continue;
      version.state = VersionState::End;
      version.status = {};
      version.attempts = 0;
      version.whole = false;  // if it comes back it is looked at again
      freed = true;
      log("info", "version_unloaded", {{"model", name}, {"version", std::to_string(number)}});
    }
  }
  return freed;
}

// ---- the loaders ----

void Repository::load_versions() {
  lower_priority();
  exec::Session session({.threads = 1});
  const exec::SessionScope scope(session);
  std::unique_lock lock(mutex_);
  while (true) {
    tasks_ready_.wait(lock, [&] { return stopping_ || !tasks_.empty(); });
    if (stopping_) return;
    const Task task = std::move(tasks_.front());
    tasks_.pop_front();
    lock.unlock();
    LanePtr lane;
    Status status;
    bool lasting = false;  // as long as the files are what they are
    try {
      lane = remover_->owned(std::make_unique<Lane>(
          task.model, task.version, options_.loader(task.path, task.lane.precision), lane_of(task), metrics_));
      if (options_.warm_up && options_.warm) options_.warm(lane, task.path);
    } catch (const std::exception& error) {
      status = current_status();
      lasting = dynamic_cast<const FormatError*>(&error) || dynamic_cast<const UnsupportedError*>(&error);
    } catch (...) {
      status = current_status();
    }
    if (!status.ok()) lane.reset();
    finish_load(task, std::move(lane), std::move(status), lasting);
    lock.lock();
  }
}

// How the version is batched: as its folder says, if that is asked for, else as the configuration does.
LaneOptions Repository::lane_of(const Task& task) const {
  LaneOptions lane = task.lane;
  const fs::path file = task.path / "batching_params.pbtxt";
  std::error_code none;
  if (!options_.version_batching || !fs::exists(file, none)) return lane;
  int threads = 0;  // as the original: the threads are those of all models
  const BatchingOptions b = parse_batching(read_text_file(file), file.string(), lane, threads);
  log("info", "version_batching",
      {{"model", task.model},
       {"version", std::to_string(task.version)},
       {"file", file.string()},
       {"max_batch_size", std::to_string(b.max_batch_size)},
       {"batch_timeout_micros", std::to_string(b.timeout.count())}});
  return lane;
}

void Repository::finish_load(const Task& task, LanePtr lane, Status status, bool lasting) {
  const Labels which{{"model", task.model}, {"version", std::to_string(task.version)}};
  {
    const std::lock_guard lock(mutex_);
    const auto found = models_.find(task.model);
    if (found == models_.end()) return;
    const auto at = found->second->versions.find(task.version);
    if (at == found->second->versions.end() || at->second.generation != task.generation) return;
    Version& version = at->second;
    if (lane) {
      version.lane = std::move(lane);
      version.state = VersionState::Available;
      version.status = {};
      version.attempts = 0;
      version.stale = false;
      Labels fields = which;
      if (found->second->config.lane.batching.enabled && !version.lane->options().batching.enabled)
        fields.emplace_back("no_batching", version.lane->why_no_batching());
      if (std::string how = version.lane->model().execution(); !how.empty())
        fields.emplace_back("execution", std::move(how));
      log("info", "version_available", fields);
    } else {
      ++version.attempts;
      version.failed = version.seen;
      version.status = std::move(status);
      const bool again = !lasting && version.attempts <= options_.load_retries;
      if (again) version.retry_at = Clock::now() + options_.retry_interval;
      if (!again) version.state = version.lane ? VersionState::Available : VersionState::End;
      version.stale = version.stale && again;
      version.whole = version.whole && again;  // from now on only a change on the disk brings it back
      Labels fields = which;
      fields.emplace_back("error", version.status.message);
      fields.emplace_back("next_try", again ? fmt::format("in {} s", options_.retry_interval.count() / 1000)
                                            : std::string("when its files change"));
      log("error", "version_failed", fields);
    }
    publish();
  }
  changed_.notify_all();
  moved_.notify_all();
}

// ---- by hand ----

// Until a look that began after now is done and nothing of the model moves any more.
void Repository::wait_for(std::unique_lock<std::mutex>& lock, const std::string& model) {
  const uint64_t looks = looks_ + (looking_ ? 1 : 0);
  look_now_ = true;
  changed_.notify_all();
  moved_.wait(lock, [&] {
    if (stopping_ || !waits_) return true;
    const auto found = models_.find(model);
    if (found == models_.end()) return true;
    if (looks_ <= looks || look_now_) return false;
    return std::none_of(found->second->versions.begin(), found->second->versions.end(), [](const auto& v) {
      return (v.second.state == VersionState::Loading && v.second.retry_at == Clock::time_point()) ||
             v.second.state == VersionState::Unloading;
    });
  });
}

void Repository::load(const std::string& model) {
  std::unique_lock lock(mutex_);
  const auto found = models_.find(model);
  if (found == models_.end() || found->second->removed)
    throw RequestError(Code::NotFound, fmt::format("failed to load '{}': the configuration has no such model", model));
  found->second->wanted = true;
  found->second->urgent = true;
  for (auto& [number, version] : found->second->versions) {
    if (version.lane) continue;
    version.attempts = 0;
    if (version.state == VersionState::Loading && version.retry_at != Clock::time_point())
      version.retry_at = Clock::now();
    if (version.state == VersionState::End) version.state = VersionState::Start;
  }
  wait_for(lock, model);
  const auto after = models_.find(model);
  if (after == models_.end()) throw RequestError(Code::NotFound, fmt::format("'{}' was removed", model));
  std::string why = waits_ ? after->second->disk_error : "the server is stopping";
  for (const auto& [number, version] : after->second->versions) {
    if (version.lane) return;
    if (!version.status.ok() && waits_) why = version.status.message;
  }
  throw RequestError(Code::Unavailable,
                     fmt::format("failed to load '{}': {}", model, why.empty() ? "no version was found" : why));
}

void Repository::unload(const std::string& model) {
  std::unique_lock lock(mutex_);
  const auto found = models_.find(model);
  if (found == models_.end() || found->second->removed)
    throw RequestError(Code::NotFound, fmt::format("failed to unload '{}': there is no such model", model));
  found->second->wanted = false;
  wait_for(lock, model);
}

bool Repository::quiet() const {
  return tasks_.empty() && std::all_of(models_.begin(), models_.end(), [](const auto& m) {
           return std::none_of(m.second->versions.begin(), m.second->versions.end(), [](const auto& v) {
             return v.second.pending() || v.second.state == VersionState::Unloading;
           });
         });
}

bool Repository::settle(std::chrono::milliseconds patience) {
  std::unique_lock lock(mutex_);
  const uint64_t looks = looks_ + (looking_ ? 1 : 0);
  look_now_ = true;
  changed_.notify_all();
  const auto settled = [&] { return looks_ > looks && !look_now_ && quiet() && not_ready().empty(); };
  moved_.wait_for(lock, patience, [&] { return !waits_ || settled(); });
  return settled();
}

void Repository::wait_no_more() {
  {
    const std::lock_guard lock(mutex_);
    waits_ = false;
  }
  moved_.notify_all();
}

}  // namespace tenon::serve
