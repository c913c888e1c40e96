#include "tenon/device/device.h"

#include <algorithm>
#include <cstdint>

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

Ref<Buffer> KeptConstants::take_space(int64_t bytes) {
  const auto wanted = static_cast<size_t>(bytes);
  const auto size = [](const Ref<Buffer>& b) { return b->size(); };
  {
    const std::lock_guard lock(mutex_);
    // The smallest that is large enough; if there is none, the largest goes, so that there are never more than were in
    // use at one time.
    const auto fits = std::ranges::min_element(
        spaces_, {}, [&](const Ref<Buffer>& b) { return b->size() >= wanted ? b->size() : SIZE_MAX; });
    if (fits != spaces_.end()) {
      const auto place = (*fits)->size() >= wanted ? fits : std::ranges::max_element(spaces_, {}, size);
      const Ref<Buffer> space = std::move(*place);
      spaces_.erase(place);
      if (space->size() >= wanted) return space;
    }
  }
  return Buffer::allocate(wanted);
}

void KeptConstants::give_back(Ref<Buffer> space) {
  const std::lock_guard lock(mutex_);
  spaces_.push_back(std::move(space));
}

}  // namespace tenon
