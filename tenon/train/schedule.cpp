#include "tenon/train/schedule.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <vector>

#include "tenon/base/error.h"
#include "tenon/base/nearest.h"

namespace tenon::train {
namespace {

// The warm-up, which every schedule begins with, and then `shape` of the share of the rest that is done.
template <typename Shape>
Schedule with_warmup(const ScheduleOptions& options, Shape shape) {
  return [options, shape](std::int64_t step) {
    if (step < options.warmup)
      return options.peak * static_cast<double>(step + 1) / static_cast<double>(options.warmup + 1);
    return shape(options, step);
  };
}

double share_done(const ScheduleOptions& options, std::int64_t step) {
  const auto length = static_cast<double>(std::max<std::int64_t>(1, options.steps - options.warmup));
  return std::min(1.0, static_cast<double>(step - options.warmup) / length);
}

struct Named {
  std::string_view name;
  Schedule (*make)(const ScheduleOptions&);
};
constexpr std::array schedules{Named{"constant", constant_schedule}, Named{"cosine", cosine_schedule},
                               Named{"linear", linear_schedule}, Named{"step", step_schedule}};

}  // namespace

Schedule constant_schedule(const ScheduleOptions& options) {
  return with_warmup(options, [](const ScheduleOptions& o, std::int64_t) { return o.peak; });
}

Schedule cosine_schedule(const ScheduleOptions& options) {
  return with_warmup(options, [](const ScheduleOptions& o, std::int64_t step) {
    return o.floor + 0.5 * (1 + std::cos(std::numbers::pi * share_done(o, step))) * (o.peak - o.floor);
  });
}

Schedule linear_schedule(const ScheduleOptions& options) {
  return with_warmup(options, [](const ScheduleOptions& o, std::int64_t step) {
    return o.peak + share_done(o, step) * (o.floor - o.peak);
  });
}

Schedule step_schedule(const ScheduleOptions& options) {
  return with_warmup(options, [](const ScheduleOptions& o, std::int64_t step) {
    const std::int64_t every = o.every > 0 ? o.every : std::max<std::int64_t>(1, (o.steps - o.warmup + 2) / 3);
    const std::int64_t times = (step - o.warmup) / every;  // whole ones
    return std::max(o.floor, o.peak * std::pow(o.factor, static_cast<double>(times)));
  });
}

Schedule schedule_from_name(std::string_view name, const ScheduleOptions& options) {
  std::vector<std::string_view> names;
  for (const auto& schedule : schedules) {
    if (schedule.name == name) return schedule.make(options);
    names.push_back(schedule.name);
  }
  const auto near = nearest_name(name, names);
  throw ValueError({.where = "schedule_from_name",
                    .problem = "unknown schedule",
                    .expected = fmt::format("{}", fmt::join(names, ", ")),
                    .got = "\"" + std::string(name) + "\"",
                    .hint = near.empty() ? "" : fmt::format("schedule_from_name(\"{}\", options)", near)});
}

}  // namespace tenon::train
