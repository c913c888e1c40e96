// The parts of a Repository, which only its own sources see: repository.cpp loads and unloads them, repository_view.cpp
// shows requests a snapshot of them.
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include "tenon/serve/repository.h"

namespace tenon::serve {

// Frees versions on a thread of its own: the memory of a large model takes time to give back, and the request that
// happens to hold a version last must not pay for it.
class Repository::Remover {
 public:
  // `freed` is called after each, on that thread.
  explicit Remover(std::function<void()> freed);
  ~Remover();  // when it has freed what waits; what is let go later is freed by whoever lets go
  Remover(const Remover&) = delete;
  Remover& operator=(const Remover&) = delete;
  // A handle whose last copy gives the lane to the thread.
  [[nodiscard]] LanePtr owned(std::unique_ptr<Lane> lane) const;

 private:
  struct State;
  static void work(State& state, const std::function<void()>& freed);
  std::shared_ptr<State> state_;
  std::thread thread_;
};

struct Repository::Version {
  int64_t number = 0;
  std::filesystem::path path;
  VersionState state = VersionState::Unknown;
  Status status;
  LanePtr lane;                       // while it is available
  std::weak_ptr<const void> retired;  // its lane's alive(), while requests still hold it
  bool on_disk = false;
  bool whole = false;
  Fingerprint seen;
  Clock::time_point seen_since;
  Fingerprint failed;  // what it was when it could not be loaded
  int attempts = 0;
  Clock::time_point retry_at;
  uint64_t generation = 0;
  std::vector<std::weak_ptr<Lane>> members;  // of a pipeline, as it was joined
  bool stale = false;                        // serves, but the configuration now says another model

  [[nodiscard]] bool pending() const {
    return state == VersionState::Loading || (state == VersionState::Start && whole && on_disk);
  }
  // The configuration now says another model: what is there serves until that is loaded, and what is being loaded comes
  // too late.
  void outdate(uint64_t next_generation) {
    whole = on_disk = false;
    members.clear();
    stale = lane != nullptr;
    generation = next_generation;
    if (state != VersionState::Loading) return;
    state = lane ? VersionState::Available : VersionState::Start;
    status = {};
    attempts = 0;
    retry_at = {};
  }
};

struct Repository::Entry {
  ModelConfig config;
  TrafficPtr traffic;
  RequestLogPtr log;
  bool wanted = true;    // false: unloaded by unload()
  bool removed = false;  // no longer in the configuration
  bool urgent = false;   // load() says that what is there is whole
  std::string disk_error;
  std::map<int64_t, Version> versions;
  QuotaPtr quota = std::make_shared<Quota>();
  std::shared_ptr<void> held;  // what metrics tell of it and of no version
};

struct Repository::Published {
  struct Model {
    std::map<int64_t, LanePtr> versions;
    std::map<std::string, int64_t> labels;
    bool coming = false;  // a version is on its way
    std::string fault{};  // why there is none
    bool wanted = true;
    QuotaPtr quota;  // null: none
    TrafficPtr traffic;
    RequestLogPtr log;
    std::shared_ptr<void> held;
    [[nodiscard]] LanePtr lane(int64_t version) const {
      const auto at = versions.find(version);
      return at == versions.end() ? nullptr : at->second;
    }
    [[nodiscard]] LanePtr lane_of(const SplitTarget& target) const {
      if (target.version) return lane(*target.version);
      const auto at = labels.find(target.label);
      return at == labels.end() ? nullptr : lane(at->second);
    }
    [[nodiscard]] const LanePtr& resolve(const ModelRef& ref) const;
  };
  std::map<std::string, Model, std::less<>> models;
  [[nodiscard]] const Model& model(const ModelRef& ref) const;
};

// As TensorFlow Serving names a model in its messages.
std::string text_of(const ModelRef& ref);

}  // namespace tenon::serve
