#include "tenon/base/mapped_pages.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstring>

namespace tenon {
namespace {

constexpr std::uintptr_t kPiece = std::uintptr_t{1} << 18;
// Linux maps up to this much around a page that is touched, from a multiple of it, if it is in its cache.
constexpr std::uintptr_t kAround = std::uintptr_t{1} << 16;

std::uintptr_t address_of(const std::byte* at) { return reinterpret_cast<std::uintptr_t>(at); }

void release(std::uintptr_t begin, std::uintptr_t end) {
  const auto page = static_cast<std::uintptr_t>(::sysconf(_SC_PAGESIZE));
  const std::uintptr_t first = begin / page * page, last = (end + page - 1) / page * page;
  // A private read-only mapping of a file: its pages come back as they were. A refusal only costs memory.
  void* begin_of_pages = reinterpret_cast<void*>(first);  // NOLINT(performance-no-int-to-ptr): a rounded address
  if (first < last) (void)::madvise(begin_of_pages, last - first, MADV_DONTNEED);
}

}  // namespace

void release_mapped_pages(std::span<const std::byte> part, std::span<const std::byte> whole) {
  if (part.empty()) return;
  const std::uintptr_t begin = address_of(part.data()) / kAround * kAround;
  const std::uintptr_t end = (address_of(part.data()) + part.size() + kAround - 1) / kAround * kAround;
  release(std::max(begin, address_of(whole.data())), std::min(end, address_of(whole.data()) + whole.size()));
}

void read_from_mapping(std::span<const std::byte> from, const std::function<void(std::span<const std::byte>)>& use) {
  while (!from.empty()) {
    // Pieces end where the next page that is touched brings in nothing of them.
    const std::uintptr_t border = (address_of(from.data()) / kPiece + 1) * kPiece;
    const auto piece = from.first(std::min<std::size_t>(from.size(), border - address_of(from.data())));
    use(piece);
    release(address_of(piece.data()), address_of(piece.data()) + piece.size());
    from = from.subspan(piece.size());
  }
}

void copy_from_mapping(std::span<const std::byte> from, std::byte* to) {
  read_from_mapping(from, [&](std::span<const std::byte> piece) {
    std::memcpy(to, piece.data(), piece.size());
    to += piece.size();
  });
}

}  // namespace tenon
