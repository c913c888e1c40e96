#include "tenon/serve/request.h"

#include <utility>

namespace tenon::serve {

std::string_view name(Api api) {
  constexpr std::string_view kNames[kApis] = {"tfs_rest", "tfs_grpc", "v2_rest", "v2_grpc", "internal", "shadow"};
  return kNames[static_cast<size_t>(api)];
}

void Cancel::request() {
  std::function<void()> callback;
  {
    const std::lock_guard lock(mutex_);
    if (requested_.exchange(true, std::memory_order_acq_rel)) return;
    callback = std::exchange(callback_, nullptr);
  }
  if (callback) callback();
}

void Cancel::on_request(std::function<void()> callback) {
  {
    const std::lock_guard lock(mutex_);
    if (!requested_.load(std::memory_order_acquire)) {
      callback_ = std::move(callback);
      return;
    }
  }
  if (callback) callback();
}

}  // namespace tenon::serve
