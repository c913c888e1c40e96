#include "tenon/exec/plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

namespace tenon::exec {
namespace {

MemoryPlan plan_apart(const std::vector<Lifetime>& values) {
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

// Whether b may lie where a lies, although a step that writes b still reads a.
bool follows(const std::vector<Lifetime>& values, const MemoryPlan& plan, size_t a, size_t b) {
  return values[b].from == static_cast<int32_t>(a) && values[a].last == values[b].first &&
         values[a].bytes == values[b].bytes && plan.offsets[a] == plan.offsets[b];
}

}  // namespace

MemoryPlan plan_memory(const std::vector<Lifetime>& values) {
  MemoryPlan apart = plan_apart(values);
  // Values of which each lies where the one before it lay are one that lives as long as all of them.
  std::vector<int32_t> follower(values.size(), -1);
  bool any = false;
  for (size_t i = 0; i < values.size(); ++i) {
    if (values[i].from < 0) continue;
    follower[static_cast<size_t>(values[i].from)] = static_cast<int32_t>(i);
    any = true;
  }
  if (!any) return apart;
  std::vector<Lifetime> chains;
  std::vector<size_t> chain_of(values.size(), 0);
  for (size_t i = 0; i < values.size(); ++i) {
    if (values[i].from >= 0) continue;
    Lifetime chain = values[i];
    for (auto at = static_cast<int32_t>(i); at >= 0; at = follower[static_cast<size_t>(at)]) {
      chain_of[static_cast<size_t>(at)] = chains.size();
      chain.last = std::max(chain.last, values[static_cast<size_t>(at)].last);
    }
    chains.push_back(chain);
  }
  MemoryPlan joined = plan_apart(chains);
  if (joined.size >= apart.size) return apart;
  joined.sum = apart.sum;
  const std::vector<int64_t> offsets = std::move(joined.offsets);
  joined.offsets.clear();
  for (size_t i = 0; i < values.size(); ++i) joined.offsets.push_back(offsets[chain_of[i]]);
  return joined;
}

std::string problem_of(const std::vector<Lifetime>& values, const MemoryPlan& plan) {
  if (plan.offsets.size() != values.size()) return "not every value has a place";
  for (size_t i = 0; i < values.size(); ++i) {
    const int64_t begin = plan.offsets[i], end = begin + values[i].bytes;
    if (begin < 0 || end > plan.size) return fmt::format("value {} lies outside of the arena", i);
    for (size_t k = 0; k < i; ++k) {
      if (values[i].last < values[k].first || values[k].last < values[i].first) continue;
      if (follows(values, plan, i, k) || follows(values, plan, k, i)) continue;
      if (begin < plan.offsets[k] + values[k].bytes && plan.offsets[k] < end)
        return fmt::format("values {} and {} live at the same time in the same place", k, i);
    }
  }
  return {};
}

}  // namespace tenon::exec
