// Schedules: the learning rate as a function of the step (0 is the first).
//
// A schedule is a plain function without state, so a resumed run needs nothing of it. To add one: a function here.
#pragma once

#include <cstdint>
#include <functional>
#include <string_view>

namespace tenon::train {

using Schedule = std::function<double(std::int64_t step)>;

struct ScheduleOptions {
  double peak = 1e-3;       // the learning rate after the warm-up
  double floor = 0;         // the learning rate at the end
  std::int64_t warmup = 0;  // steps of linear rise
  std::int64_t steps = 1;   // in all, the warm-up included
  std::int64_t every = 0;   // step decay only: steps between two falls; 0: a third of the run
  double factor = 0.1;      // step decay only: what a fall multiplies with
};

[[nodiscard]] Schedule constant_schedule(const ScheduleOptions& options);
// Down along half a cosine from peak to floor.
[[nodiscard]] Schedule cosine_schedule(const ScheduleOptions& options);
// Down along a line from peak to floor.
[[nodiscard]] Schedule linear_schedule(const ScheduleOptions& options);
// Times `factor` every `every` steps, never below floor.
[[nodiscard]] Schedule step_schedule(const ScheduleOptions& options);
// By name: "constant", "cosine", "linear", "step". Throws ValueError.
[[nodiscard]] Schedule schedule_from_name(std::string_view name, const ScheduleOptions& options);

}  // namespace tenon::train
