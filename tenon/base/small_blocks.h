// Small blocks of memory: what tensors and their bodies are made of.
//
// Every op makes some and frees some of the same sizes. Classes of powers of two up to 64 KiB; each thread keeps a few
// freed blocks of each class, so that most of this never reaches the system's allocator. Under a sanitizer nothing is
// kept and sizes are exact, so that every stray access is seen.
#pragma once

#include <cstddef>
#include <new>

namespace tenon {

inline constexpr size_t kBlockAlignment = 64;                   // bytes, of small and large blocks
inline constexpr size_t kLargestSmallBlock = size_t{64} << 10;  // bytes

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool kKeepsBlocks = false;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer) || __has_feature(memory_sanitizer)
inline constexpr bool kKeepsBlocks = false;
#else
inline constexpr bool kKeepsBlocks = true;
#endif
#else
inline constexpr bool kKeepsBlocks = true;
#endif

// At least `bytes` bytes (at most kLargestSmallBlock), contents undefined; null if the system has none.
std::byte* take_small_block(size_t bytes) noexcept;
// `bytes` as they were asked for; any thread may give it back.
void give_small_block(std::byte* block, size_t bytes) noexcept;

// Straight from and to the system.
std::byte* take_from_system(size_t bytes) noexcept;
void give_to_system(std::byte* block) noexcept;

// A base of small classes whose objects come and go with every op.
struct SmallBlock {
  static void* operator new(size_t bytes) {
    if (void* block = take_small_block(bytes)) return block;
    throw std::bad_alloc();
  }
  static void operator delete(void* block, size_t bytes) noexcept {
    give_small_block(static_cast<std::byte*>(block), bytes);
  }
};

}  // namespace tenon
