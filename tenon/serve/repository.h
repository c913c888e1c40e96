// The model repository: which versions there are, which are wanted, loading and retiring them.
//
// A manager thread looks at the disk, compares it with the configuration and gives work to a pool of loaders, which run
// at low priority. What is ready is in a snapshot that is replaced as a whole, so a request never waits for a load.
// A version that requests still hold is freed when the last of them ends, by a thread made for it. When the disk cannot
// be read or shows no version, what was ready stays; only the configuration or unload() removes the last version of a
// model.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "tenon/serve/config.h"
#include "tenon/serve/metrics.h"
#include "tenon/serve/model.h"
#include "tenon/serve/quota.h"
#include "tenon/serve/request.h"
#include "tenon/serve/version_folder.h"

namespace tenon::serve {

// The numbers are TensorFlow Serving's.
enum class VersionState : int { Unknown = 0, Start = 10, Loading = 20, Available = 30, Unloading = 40, End = 50 };
std::string_view name(VersionState state);

struct VersionStatus {
  int64_t version = 0;
  VersionState state = VersionState::Unknown;
  Status status;
};
struct LabelStatus {
  std::string label;
  int64_t version = 0;
  bool ready = false;  // else it waits for its version
};
struct IndexEntry {
  std::string name;
  int64_t version = 0;  // 0: the model has no version
  VersionState state = VersionState::Unknown;
  std::string reason;
};

// A version chosen for a request, and who chose it.
struct Route {
  LanePtr lane;
  TrafficPtr traffic{};         // null if the request named its version, or nothing is split or mirrored
  RequestLogPtr log{};          // the model's; may be null
  QuotaPtr quota{};             // the model's; null if there is none
  Traffic::TargetPtr target{};  // null if nothing was split
  Route() = default;
  Route(LanePtr l) : lane(std::move(l)) {}  // NOLINT(google-explicit-constructor): a version named is a route
};

struct RepositoryOptions {
  std::chrono::milliseconds poll{
      1000};  // between looks at the disk; 0: one look, until what is there stands still; negative: none until asked
  std::chrono::milliseconds settle{2000};  // a version without manifest is whole when it has not changed for so long
  int load_threads = 1;
  int load_retries = 5;
  std::chrono::milliseconds retry_interval{60000};
  bool unload_first = false;  // free the old version before the new one is loaded
  bool warm_up = true;
  int warm_iterations = 1;        // times that each recorded request runs in the warm-up
  bool version_batching = false;  // batching_params.pbtxt in a version's folder says how that version is batched
  bool explicit_control = false;  // models are loaded by load() only
  ModelLoader loader = load_model;
  // Called with each lane before it becomes available; an error keeps it out. Default: see warmup.h.
  std::function<void(const LanePtr&, const std::filesystem::path&)> warm = {};
  LogSink log = {};
};

class Repository {
 public:
  Repository(RepositoryOptions options, Metrics& metrics);
  ~Repository();
  Repository(const Repository&) = delete;
  Repository& operator=(const Repository&) = delete;

  // The models to serve from now on; those not named are unloaded. Errors: ValueError for contradictions, FileError
  // for a base path that is not local, and then nothing changes.
  void configure(std::vector<ModelConfig> models);
  [[nodiscard]] std::vector<ModelConfig> configuration() const;

  // The version that a request means. RequestError: NOT_FOUND for what is not served, UNAVAILABLE while it loads.
  [[nodiscard]] LanePtr resolve(const ModelRef& ref) const;
  // The same; a request that names no version goes where the model's traffic says. `key`: see Traffic::choose.
  [[nodiscard]] Route route(const ModelRef& ref, const KeyLookup& key = {}) const;
  // The traffic of a model, to look at and to change; null for an unknown one.
  [[nodiscard]] TrafficPtr traffic(const std::string& model) const;
  // Of the targets and the shadow, those that are not ready now: "version 9", "label 'canary'".
  [[nodiscard]] std::vector<std::string> missing(const std::string& model, const TrafficOptions& traffic) const;
  // The version that a shadow names; null while it is not ready.
  [[nodiscard]] LanePtr lane_of(const std::string& model, const ShadowOptions& shadow) const;

  // Every version that is or was there. RequestError NOT_FOUND for an unknown model (or version).
  [[nodiscard]] std::vector<VersionStatus> status(const ModelRef& ref) const;
  [[nodiscard]] std::vector<LabelStatus> labels(const std::string& model) const;
  [[nodiscard]] std::vector<IndexEntry> index() const;
  // Versions ready now, rising.
  [[nodiscard]] std::vector<LanePtr> ready_versions(const std::string& model) const;
  // What keeps the metrics of a model's name, of no version, while it is there (Metrics::hold); null for an unknown
  // one.
  [[nodiscard]] std::shared_ptr<void> held(const std::string& model) const;
  // Every model of the configuration that is wanted has a version ready, or all had at one time: a model that is added
  // later, or loses its folder, is no reason to turn the others' requests away.
  [[nodiscard]] bool ready() const { return ready_.load(std::memory_order_acquire); }
  // Models that are wanted and have no version ready now.
  [[nodiscard]] std::vector<std::string> not_ready() const;

  // Loads (again) or unloads a model of the configuration and waits until that is done. RequestError: NOT_FOUND;
  // UNAVAILABLE with the loader's message.
  void load(const std::string& model);
  void unload(const std::string& model);
  // The server stops: load(), unload() and settle() wait no longer, now and later.
  void wait_no_more();
  // Looks at the disk now and waits until nothing is left to do (or for so long). True if every model
  // that is wanted has a version then.
  bool settle(std::chrono::milliseconds patience);

 private:
  struct Version;
  struct Entry;
  struct Task {
    std::string model;
    int64_t version;
    uint64_t generation;  // of the load: a result that comes too late is dropped
    std::filesystem::path path;
    LaneOptions lane;
  };
  struct Published;
  struct Seen;
  class Remover;

  [[nodiscard]] std::map<std::string, RequestLogPtr> opened_logs(const std::vector<ModelConfig>& models) const;
  static void lower_priority();
  void manage();
  void load_versions();
  void look(std::unique_lock<std::mutex>& lock);
  void note(Entry& entry, const Seen& seen);
  void reconcile(Clock::time_point now);
  void reconcile(Entry& entry, Clock::time_point now);
  bool reconcile_pipeline(Entry& entry);
  bool refresh_pipeline(Entry& entry, Version& version);
  [[nodiscard]] LanePtr member(const ModelRef& ref) const;
  void retire(const Entry& entry, Version& version) const;
  void start_load(Entry& entry, Version& version);
  [[nodiscard]] LaneOptions lane_of(const Task& task) const;
  void finish_load(const Task& task, LanePtr lane, Status status, bool lasting);
  void publish();
  bool reap();
  void wait_for(std::unique_lock<std::mutex>& lock, const std::string& model);
  void log(std::string_view level, std::string_view event, const Labels& fields) const;
  [[nodiscard]] bool quiet() const;
  [[nodiscard]] std::shared_ptr<const Published> published() const;

  RepositoryOptions options_;
  Metrics& metrics_;
  mutable std::mutex mutex_;
  std::condition_variable changed_;  // for the manager
  std::condition_variable moved_;    // for those who wait for a change
  std::condition_variable tasks_ready_;
  std::map<std::string, std::unique_ptr<Entry>> models_;
  std::deque<Task> tasks_;
  bool stopping_ = false, waits_ = true;
  bool look_now_ = false, looking_ = false, reap_now_ = false;
  bool being_written_ = false;  // something that the last look saw
  uint64_t looks_ = 0;
  uint64_t generation_ = 0;
  bool configured_ = false;
  std::atomic<bool> ready_{false};
  mutable std::mutex published_mutex_;
  std::shared_ptr<const Published> published_;
  std::thread manager_;
  std::vector<std::thread> loaders_;
  std::unique_ptr<Remover> remover_;
};

}  // namespace tenon::serve
