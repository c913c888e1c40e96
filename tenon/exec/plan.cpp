#include "tenon/exec/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

namespace tenon::exec {

MemoryPlan plan_memory(const std::vector<Lifetime>& values) {
  constexpr int64_t kAlign = 64;
  MemoryPlan plan;
  plan.offsets.assign(values.size(), 0);
  std::vector<size_t> order(values.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::sort(order.begin(), order.end(), [&](size_t a, size_t b) {
    return values[a].bytes != values[b].bytes ? values[a].bytes > values[b].bytes : a < b;
  });
  const auto rounded = [](int64_t bytes) { return (bytes + kAlign - 1) / kAlign * kAlign; };
  std::vector<size_t> placed;  // by rising offset
  for (size_t i : order) {
    const Lifetime& v = values[i];
    const int64_t bytes = rounded(v.bytes);
    plan.sum += bytes;
    int64_t at = 0;
    for (size_t other : placed) {
      const Lifetime& o = values[other];
      if (o.last < v.first || v.last < o.first) continue;
      if (plan.offsets[other] >= at + bytes) break;
      at = std::max(at, plan.offsets[other] + rounded(o.bytes));
    }
    plan.offsets[i] = at;
    plan.size = std::max(plan.size, at + bytes);
    const auto place = std::upper_bound(placed.begin(), placed.end(), at,
                                        [&](int64_t a, size_t other) { return a < plan.offsets[other]; });
    placed.insert(place, i);
  }
  return plan;
}

std::string problem_of(const std::vector<Lifetime>& values, const MemoryPlan& plan) {
  if (plan.offsets.size() != values.size()) return "not every value has a place";
  for (size_t i = 0; i < values.size(); ++i) {
    const int64_t begin = plan.offsets[i], end = begin + values[i].bytes;
    if (begin < 0 || end > plan.size) return fmt::format("value {} lies outside of the arena", i);
    for (size_t k = 0; k < i; ++k) {
      if (values[i].last < values[k].first || values[k].last < values[i].first) continue;
      if (begin < plan.offsets[k] + values[k].bytes && plan.offsets[k] < end)
        return fmt::format("values {} and {} live at the same time in the same place", k, i);
    }
  }
  return {};
}

}  // namespace tenon::exec
