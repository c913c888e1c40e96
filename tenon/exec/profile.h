// Profiles: what ran, when, for how long.
//
//   tenon::Profiler profiler;                // records from here on, on this thread
//   for (…) step(x, y);
//   const tenon::Profile profile = profiler.stop();
//   std::cout << to_table(profile);
//   save_chrome_trace(profile, "step.json"); // for chrome://tracing and ui.perfetto.dev
//
// Eager ops, gradient rules and the kernels of compiled functions are events; an event that runs while another does is
// inside it. While no Profiler lives nothing is recorded and nothing is paid.
#pragma once

#include <cstdint>
#include <filesystem>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "tenon/tensor/type.h"

namespace tenon {

struct ProfileEvent {
  std::string name = {};  // of the op; of a compiled kernel: of all its ops
  // "op", "body" (a composite that runs op by op), "gradient", "segment" (what a compiled function recorded), "kernel"
  // (of a compiled program), "span" (named by the program).
  std::string_view kind = {};
  std::string layer = {};  // "blocks.0.fc" if it ran in a layer whose Variables have names, and for its gradient
  std::vector<TensorType> inputs = {}, outputs = {};  // an absent input is left out
  double start = 0, duration = 0;                     // seconds; since the profile began
  double own = 0;                                     // without the events inside it
  int thread = 0;                                     // 0: where the Profiler was made; then in order of appearance
  int depth = 0;                                      // how many events it is inside of
  double bytes = 0;   // that its inputs and outputs have; 0 for what only moves a window
  double flops = -1;  // a multiply-add counts as two; negative: not known
};

struct Profile {
  std::vector<ProfileEvent> events;  // by start
  double seconds = 0;                // from the Profiler's making to stop()
};

class Profiler {
 public:
  Profiler();
  ~Profiler();
  Profiler(const Profiler&) = delete;
  Profiler& operator=(const Profiler&) = delete;

  // Ends the recording (on the thread that made the Profiler) and gives what was recorded.
  Profile stop();

  // Records on another thread too, while it lives; the Profiler must live longer.
  class Join {
   public:
    explicit Join(Profiler& profiler);
    ~Join();
    Join(const Join&) = delete;
    Join& operator=(const Join&) = delete;

   private:
    struct State;
    std::unique_ptr<State> state_;
  };

 private:
  struct State;
  std::shared_ptr<State> state_;
};

// Runs `work`, an event of this name if a Profiler is in force: loading a batch, one step.
void profile_span(std::string_view name, const std::function<void()>& work);

enum class ProfileSort : uint8_t { OwnTime, TotalTime, Calls, Name };
struct ProfileTableOptions {
  ProfileSort sort = ProfileSort::OwnTime;
  bool by_layer = false;  // one row for each layer and op instead of each op
  bool by_shape = false;  // and for each set of input shapes
  size_t most_rows = 40;  // the rest is summed up in one row; 0: all
};
// A row for each op: calls, time with and without what ran inside, share of the whole time, bytes and flops per second.
std::string to_table(const Profile& profile, const ProfileTableOptions& options = {});
// The Trace Event Format's JSON: complete events, times in microseconds.
std::string to_chrome_trace(const Profile& profile);
// Errors: FileError.
void save_chrome_trace(const Profile& profile, const std::filesystem::path& path);

}  // namespace tenon
