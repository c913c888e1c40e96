// Mapped files and memory: what was copied out of a mapping need not stay resident beside its copy.
#pragma once

#include <cstddef>
#include <functional>
#include <span>

namespace tenon {

// Only for bytes of a MappedFile. Copies them to `to`, and gives the pages back to the system on the way: the process
// never holds much more than one copy. They are read again from the file if somebody looks at them later.
void copy_from_mapping(std::span<const std::byte> from, std::byte* to);
// The same for bytes that are not just copied: `use` gets them piece by piece, in order.
void read_from_mapping(std::span<const std::byte> from, const std::function<void(std::span<const std::byte>)>& use);
// The same for a part of a mapping that somebody else has read; `whole` is all of the mapping, because the system
// brings in neighbours of what is touched.
void release_mapped_pages(std::span<const std::byte> part, std::span<const std::byte> whole);

}  // namespace tenon
