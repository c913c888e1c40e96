#include "tenon/device/device.h"

namespace tenon {

void KeptConstants::hold(Ref<Buffer> source) {
  const std::lock_guard lock(mutex_);
  const Buffer* key = source.get();
  sources_.insert_or_assign(key, std::move(source));
}

bool KeptConstants::holds(const Buffer& source) const {
  const std::lock_guard lock(mutex_);
  return sources_.contains(&source);
}

Ref<Buffer> KeptConstants::get(const std::vector<int64_t>& key, const std::function<Ref<Buffer>()>& make) {
  const std::lock_guard lock(mutex_);
  Ref<Buffer>& kept = kept_[key];
  if (!kept) kept = make();
  return kept;
}

int64_t KeptConstants::bytes() const {
  const std::lock_guard lock(mutex_);
  int64_t sum = 0;
  for (const auto& [key, kept] : kept_) sum += static_cast<int64_t>(kept->size());
  return sum;
}

}  // namespace tenon
