#include "tenon/base/mapped_pages.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace tenon {
namespace {

constexpr std::size_t kPiece = std::size_t{1} << 18;

}  // namespace

void release_mapped_pages(std::span<const std::byte> bytes) {
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  if (bytes.empty()) return;
  const auto begin = reinterpret_cast<std::uintptr_t>(bytes.data());
  const std::uintptr_t first = begin / page * page, end = (begin + bytes.size() + page - 1) / page * page;
  // A private read-only mapping of a file: its pages come back as they were. A refusal only costs memory.
  (void)::madvise(reinterpret_cast<void*>(first), end - first, MADV_DONTNEED);
}

void copy_from_mapping(std::span<const std::byte> from, std::byte* to) {
  while (!from.empty()) {
    const auto piece = from.first(std::min(from.size(), kPiece));
    std::memcpy(to, piece.data(), piece.size());
    release_mapped_pages(piece);
    from = from.subspan(piece.size());
    to += piece.size();
  }
}

}  // namespace tenon
