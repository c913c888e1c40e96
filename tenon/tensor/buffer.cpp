// Where the memory of tensors comes from.
//
//  - Up to 64 KiB: base/small_blocks.h.
//  - Above: classes of an eighth of a power of two, one list for the process, because a training step frees
//    and takes the same large blocks again, and asking the system for pages each time costs more than many
//    kernels. The list never lifts what the process holds above the most that was in use at one time.
//  - From 64 MiB on in large pages, where the system has them.
//  - Under a sanitizer nothing is kept and sizes are exact, so that every stray access is seen.
#include "tenon/tensor/buffer.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <map>
#include <mutex>
#include <string>
#include <vector>

#include "tenon/base/error.h"
#include "tenon/base/small_blocks.h"

namespace tenon {
namespace {

constexpr size_t kMaximum = size_t{1} << 46;  // no address space holds more

// What follows is an allocator's state, the one place where it belongs to the process and to its threads.
// NOLINTBEGIN(cppcoreguidelines-avoid-non-const-global-variables)

// ---- statistics ----
constinit std::atomic<int64_t> current_bytes{0};
constinit std::atomic<int64_t> peak_bytes{0};
// NOLINTEND(cppcoreguidelines-avoid-non-const-global-variables)

void count(int64_t change) {
  const int64_t now = current_bytes.fetch_add(change, std::memory_order_relaxed) + change;
  int64_t peak = peak_bytes.load(std::memory_order_relaxed);
  while (now > peak && !peak_bytes.compare_exchange_weak(peak, now, std::memory_order_relaxed)) {
  }
}

// ---- large blocks ----
// From 1 MiB on they are mappings of their own: the C library keeps what threads free in their heaps, and a model that
// was unloaded would not be given back.
constexpr size_t kOwnMapping = size_t{1} << 20;

// Blocks from here on come in pages of 2 MiB where the system has them: whoever asks for hundreds of MiB anew in each
// step waits for pages. Smaller ones are kept (below).
constexpr size_t kHugePages = size_t{64} << 20;

std::byte* take_large_from_system(size_t bytes) {
  if (!kKeepsBlocks || bytes < kOwnMapping) return take_from_system(bytes);
  void* block = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (block == MAP_FAILED) return nullptr;
  if (bytes >= kHugePages) ::madvise(block, bytes, MADV_HUGEPAGE);  // without them it works too
  return static_cast<std::byte*>(block);
}
void give_large_to_system(std::byte* block, size_t bytes) {
  if (!kKeepsBlocks || bytes < kOwnMapping) {
    give_to_system(block);
  } else {
    ::munmap(block, bytes);
  }
}

size_t large_class(size_t bytes) {
  const size_t step = std::max(std::bit_floor(bytes) / 8, size_t{4096});
  return (bytes + step - 1) / step * step;
}

// What the process keeps at most, bytes: a step of a large model takes and frees some GiB at a time.
size_t most_kept() {
  const long pages = ::sysconf(_SC_PHYS_PAGES), page = ::sysconf(_SC_PAGESIZE);
  constexpr size_t kLeast = size_t{1} << 30;
  return pages <= 0 || page <= 0 ? kLeast
                                 : std::max(kLeast, static_cast<size_t>(pages) / 4 * static_cast<size_t>(page));
}

// What is kept and in use together is what was in use at one time, at most, and so much more: scratch memory and
// tensors of many sizes do not fit into each other's blocks, and to ask for pages anew takes longer than what is done
// with them.
constexpr size_t kSpare = size_t{32} << 20;

class LargeCache {
 public:
  struct Block {
    std::byte* data = nullptr;
    size_t size = 0;  // a class
  };
  // A kept block may have up to `factor` times the size.
  Block take(size_t bytes, size_t factor) {
    size_t size = large_class(bytes);
    std::vector<Block> excess;
    std::byte* block = nullptr;
    {
      const std::lock_guard lock(mutex_);
      if (auto found = free_.lower_bound(size); found != free_.end() && found->first <= factor * size) {
        size = found->first;
        block = found->second.back();
        found->second.pop_back();
        if (found->second.empty()) free_.erase(found);
        kept_ -= size;
        in_use_ += size;
      } else {
        in_use_ += size;
        shrink(std::max(highest_, in_use_) - in_use_ + kSpare, excess);
      }
      highest_ = std::max(highest_, in_use_);
    }
    for (const Block& old : excess) give_large_to_system(old.data, old.size);
    if (!block) block = take_large_from_system(size);
    if (!block) {
      release();
      block = take_large_from_system(size);
    }
    if (!block) {
      const std::lock_guard lock(mutex_);
      in_use_ -= size;
    }
    return {block, size};
  }

  void give(std::byte* block, size_t bytes) {
    const size_t size = large_class(bytes);
    {
      const std::lock_guard lock(mutex_);
      in_use_ -= size;
      if (kept_ + size <= most_kept_) {
        free_[size].push_back(block);
        kept_ += size;
        return;
      }
    }
    give_large_to_system(block, size);
  }

  void release() {
    std::vector<Block> excess;
    {
      const std::lock_guard lock(mutex_);
      shrink(0, excess);
      highest_ = in_use_;
    }
    for (const Block& old : excess) give_large_to_system(old.data, old.size);
  }

 private:
  // Drops blocks, the largest first, until at most `limit` bytes are kept.
  void shrink(size_t limit, std::vector<Block>& excess) {
    while (kept_ > limit) {
      auto last = std::prev(free_.end());
      excess.push_back({last->second.back(), last->first});
      last->second.pop_back();
      kept_ -= last->first;
      if (last->second.empty()) free_.erase(last);
    }
  }

  const size_t most_kept_ = most_kept();
  std::mutex mutex_;
  std::map<size_t, std::vector<std::byte*>> free_;  // by class
  size_t kept_ = 0;
  size_t in_use_ = 0;
  size_t highest_ = 0;  // in_use_ at most so far
};

// Never destroyed: tensors may outlive every other object of the program.
LargeCache& large_cache() {
  static LargeCache* cache = new LargeCache;
  return *cache;
}

[[gnu::noinline]] std::byte* take_large(size_t bytes) {
  if (bytes > kMaximum) return nullptr;
  return kKeepsBlocks ? large_cache().take(bytes, 1).data : take_from_system(bytes);
}

[[gnu::noinline]] void give_large(std::byte* block, size_t bytes) {
  if (kKeepsBlocks) {
    large_cache().give(block, bytes);
  } else {
    give_to_system(block);
  }
}

[[noreturn]] [[gnu::noinline]] void no_memory(size_t bytes) {
  throw MemoryError({.where = "allocate",
                     .problem = "the system has no memory for a tensor",
                     .got = std::to_string(bytes) + " bytes asked, " +
                            std::to_string(current_bytes.load(std::memory_order_relaxed)) + " bytes in tensors now",
                     .hint = "smaller batches, or checkpoint(…) around parts of the model"});
}

}  // namespace

Ref<Buffer> Buffer::allocate(size_t bytes) {
  std::byte* block = bytes <= kLargestSmallBlock ? take_small_block(bytes) : take_large(bytes);
  if (!block) [[unlikely]]
    no_memory(bytes);
  Ref<Buffer> buffer(new Buffer(block, bytes, true, nullptr));
  buffer->owned_ = true;
  count(static_cast<int64_t>(bytes));
  return buffer;
}

Ref<Buffer> Buffer::allocate_scratch(size_t bytes) {
  if (bytes <= kLargestSmallBlock || bytes > kMaximum || !kKeepsBlocks) return allocate(bytes);
  const auto [block, size] = large_cache().take(bytes, 4);
  if (!block) no_memory(bytes);
  Ref<Buffer> buffer(new Buffer(block, size, true, nullptr));
  buffer->owned_ = true;
  count(static_cast<int64_t>(size));
  return buffer;
}

Ref<Buffer> Buffer::wrap(void* data, size_t bytes, std::shared_ptr<const void> owner, bool writable) {
  return Ref<Buffer>(new Buffer(static_cast<std::byte*>(data), bytes, writable, std::move(owner)));
}

Buffer::~Buffer() {
  if (!owned_) return;
  size_ <= kLargestSmallBlock ? give_small_block(data_, size_) : give_large(data_, size_);
  count(-static_cast<int64_t>(size_));
}

MemoryStats memory_stats() {
  return {current_bytes.load(std::memory_order_relaxed), peak_bytes.load(std::memory_order_relaxed)};
}

void reset_peak_memory() { peak_bytes.store(current_bytes.load(std::memory_order_relaxed), std::memory_order_relaxed); }

void release_cached_memory() {
  if constexpr (kKeepsBlocks) large_cache().release();
}

}  // namespace tenon
