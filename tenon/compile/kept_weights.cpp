#include "tenon/compile/kept_weights.h"

namespace tenon::compiler {

KeptWeights& KeptWeights::of_process() {
  static auto* const all = new KeptWeights;  // programs of static lifetime may end after everything else
  return *all;
}

std::shared_ptr<KeptWeights::Source> KeptWeights::hold(const Ref<Buffer>& buffer) {
  const std::lock_guard lock(mutex_);
  std::weak_ptr<Source>& known = sources_[buffer.get()];
  if (auto source = known.lock(); source && source->buffer_ == buffer) return source;
  auto source = std::make_shared<Source>();
  source->buffer_ = buffer;
  known = source;
  std::erase_if(sources_, [](const auto& entry) { return entry.second.expired(); });
  return source;
}

bool KeptWeights::holds(const Source& source, const Buffer& buffer) const {
  const std::lock_guard lock(mutex_);
  return source.buffer_.get() == &buffer;
}

void KeptWeights::give_back(const Buffer& buffer) {
  const std::lock_guard lock(mutex_);
  const auto found = sources_.find(&buffer);
  if (found == sources_.end()) return;
  if (const auto source = found->second.lock()) source->buffer_ = nullptr;
  sources_.erase(found);
}

}  // namespace tenon::compiler
