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
  };
  std::array<Class, kClasses> classes;
  bool open;
  bool closed;
};
// An allocator's state, the one place where it belongs to the threads.
thread_local constinit SmallCache small_cache{};  // NOLINT(cppcoreguidelines-avoid-non-const-global-variables)

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
      entry.count = 0;
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
  return true;
}

int class_of(size_t bytes) { return std::bit_width((std::max(bytes, kSmallest) - 1) / kSmallest); }

}  // namespace

std::byte* take_from_system(size_t bytes) noexcept {
  return static_cast<std::byte*>(::operator new(bytes, std::align_val_t{kBlockAlignment}, std::nothrow));
}
void give_to_system(std::byte* block) noexcept { ::operator delete(block, std::align_val_t{kBlockAlignment}); }

std::byte* take_small_block(size_t bytes) noexcept {
  if constexpr (!kKeepsBlocks) return take_from_system(std::max<size_t>(bytes, 1));
  const int index = class_of(bytes);
  SmallCache& cache = small_cache;
  auto& entry = cache.classes[static_cast<size_t>(index)];
  if (std::byte* block = entry.first; block != nullptr) {
    entry.first = *reinterpret_cast<std::byte**>(block);
    --entry.count;
    return block;
  }
  return take_from_system(kSmallest << index);
}

void give_small_block(std::byte* block, size_t bytes) noexcept {
  if constexpr (kKeepsBlocks) {
    const int index = class_of(bytes);
    SmallCache& cache = small_cache;
    if (open_small_cache(cache)) {
      auto& entry = cache.classes[static_cast<size_t>(index)];
      if (entry.count < kKeptPerClass >> (index + std::countr_zero(kSmallest))) {
        *reinterpret_cast<std::byte**>(block) = entry.first;
        entry.first = block;
        ++entry.count;
        return;
      }
    }
  }
  give_to_system(block);
}

}  // namespace tenon
