#include "tenon/serve/quota.h"

#include <fmt/format.h>

#include "tenon/serve/status.h"

namespace tenon::serve {

Quota::Place Quota::take(const std::shared_ptr<Quota>& quota, const std::string& model) {
  const int64_t most = quota->most_.load(std::memory_order_relaxed);
  if (quota->taken_.fetch_add(1, std::memory_order_acq_rel) < most) return Place(quota);
  quota->taken_.fetch_sub(1, std::memory_order_acq_rel);
  throw RequestError(Code::ResourceExhausted,
                     fmt::format("'{}' is over its quota of {} requests at one time", model, most), 1);
}

}  // namespace tenon::serve
