// Buffer: one block of memory that tensors share.
//
// Contents are written only by the kernel that produces them, before any other handle exists, or by a
// kernel that was given the buffer because nobody else holds it (exec/reuse.h decides that, nobody else).
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>

#include "tenon/base/ref.h"
#include "tenon/base/small_blocks.h"

namespace tenon {

class Buffer final : public RefCounted, public SmallBlock {
 public:
  // Fresh memory, aligned to 64 bytes, contents undefined. Small blocks come from a per-thread cache.
  // MemoryError if the system has none.
  static Ref<Buffer> allocate(size_t bytes);
  // The same for the length of one call: at least so many bytes, in a freed block of up to four times the size where
  // there is one, so that kernels of different sizes share it.
  static Ref<Buffer> allocate_scratch(size_t bytes);
  // Memory that somebody else owns (a mapped file, a user's array); `owner` keeps it alive.
  static Ref<Buffer> wrap(void* data, size_t bytes, std::shared_ptr<const void> owner, bool writable = false);
  ~Buffer() override;

  [[nodiscard]] std::byte* data() { return data_; }
  [[nodiscard]] const std::byte* data() const { return data_; }
  [[nodiscard]] size_t size() const { return size_; }
  // False for wrapped read-only memory: it is never reused for a result.
  [[nodiscard]] bool writable() const { return writable_; }

 private:
  Buffer(std::byte* data, size_t size, bool writable, std::shared_ptr<const void> owner)
      : data_(data), size_(size), writable_(writable), owner_(std::move(owner)) {}
  std::byte* data_;
  size_t size_;
  bool writable_;
  bool owned_ = false;
  std::shared_ptr<const void> owner_;
};

// Bytes in buffers now and at most since the last reset, over all threads: what peak-memory tests read.
struct MemoryStats {
  int64_t current = 0;
  int64_t peak = 0;
};
MemoryStats memory_stats();
void reset_peak_memory();
// Freed large blocks are kept for the next tensor, up to a quarter of the system's memory (at least 1 GiB) and never
// more than 32 MiB beyond what was in use at one time. This hands them back to the system.
void release_cached_memory();

}  // namespace tenon
