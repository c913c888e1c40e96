#include "tenon/base/small_blocks.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>

namespace tenon {
namespace {

constexpr size_t kSmallest = 64;
constexpr size_t kKeptPerClass = size_t{128} << 10;  // bytes, per thread and class
constexpr int kClasses = std::countr_zero(kLargestSmallBlock) - std::countr_zero(kSmallest) + 1;

// A freed block holds the pointer to the next one. Trivially destructible, so that a tensor which is destroyed
// late in the life of its thread still finds it; Closer empties it and closes it.
struct SmallCache {
  struct Class {
    std::byte* first;
    uint32_t count;
    uint32_t most;  // 0 unless the cache is open
  };
  std::array<Class, kClasses> classes;
  bool open;
  bool closed;
};
// An allocator's state, the one place where it belongs to the threads. Small enough for every thread's first block of
// memory, in which it is found without a call.
[[gnu::tls_model("initial-exec")]] thread_local constinit SmallCache
    small_cache{};  // NOLINT(cppcoreguidelines-avoid-non-const-global-variables)

struct Closer {
  ~Closer() {
    small_cache.closed = true;
    small_cache.open = false;
    for (auto& entry : small_cache.classes) {
      while (entry.first) {
        std::byte* next = *reinterpret_cast<std::byte**>(entry.first);
        give_to_system(entry.first);
        entry.first = next;
      }
      entry.count = entry.most = 0;
    }
  }
  void touch() {}
};
thread_local Closer closer;  // NOLINT(cppcoreguidelines-avoid-non-const-global-variables)

bool open_small_cache(SmallCache& cache) {
  if (cache.open) [[likely]]
    return true;
  if (cache.closed) return false;
  closer.touch();  // constructs it, so that its destructor will run
  cache.open = true;
  for (size_t i = 0; i < cache.classes.size(); ++i)
    cache.classes[i].most = static_cast<uint32_t>(kKeptPerClass / (kSmallest << i));
  return true;
}

int class_of(size_t bytes) {
  const size_t last = bytes == 0 ? 0 : bytes - 1;
  return std::bit_width(last | (kSmallest - 1)) - std::countr_zero(kSmallest);
}

}  // namespace

std::byte* take_from_system(size_t bytes) noexcept {
  return static_cast<std::byte*>(::operator new(bytes, std::align_val_t{kBlockAlignment}, std::nothrow));
}
void give_to_system(std::byte* block) noexcept { ::operator delete(block, std::align_val_t{kBlockAlignment}); }

std::byte* take_small_block(size_t bytes) noexcept {
  if constexpr (!kKeepsBlocks) return take_from_system(std::max<size_t>(bytes, 1));
  const int index = class_of(bytes);
  auto& entry = small_cache.classes[static_cast<size_t>(index)];
  if (std::byte* block = entry.first; block != nullptr) {
    entry.first = *reinterpret_cast<std::byte**>(block);
    --entry.count;
    return block;
  }
  return take_from_system(kSmallest << index);
}

namespace {

void keep(SmallCache::Class& entry, std::byte* block) {
  *reinterpret_cast<std::byte**>(block) = entry.first;
  entry.first = block;
  ++entry.count;
}
// The thread's first block, or one too many.
[[gnu::noinline]] void give_seldom(SmallCache::Class& entry, std::byte* block) {
  if (open_small_cache(small_cache) && entry.count < entry.most) {
    keep(entry, block);
  } else {
    give_to_system(block);
  }
}

}  // namespace

void give_small_block(std::byte* block, size_t bytes) noexcept {
  if constexpr (!kKeepsBlocks) return give_to_system(block);
  auto& entry = small_cache.classes[static_cast<size_t>(class_of(bytes))];
  entry.count < entry.most ? keep(entry, block) : give_seldom(entry, block);
}

}  // namespace tenon
