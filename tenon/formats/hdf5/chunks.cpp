#include "tenon/formats/hdf5/chunks.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "tenon/formats/hdf5/trees.h"

namespace tenon::formats::hdf5 {
namespace {

constexpr std::uint8_t kPlainChunks = 10, kFilteredChunks = 11;  // types of records in version 2 trees

class Chunks {
 public:
  Chunks(File& file, ChunkedLayout& layout, const std::vector<std::int64_t>& extents, bool filtered, std::uint64_t at)
      : file_(file), layout_(layout), filtered_(filtered), at_(at) {
    for (std::size_t axis = 0; axis < extents.size(); ++axis) {
      const auto extent = static_cast<std::uint64_t>(extents[axis]);
      grid_.push_back(extent == 0 ? 0 : (extent - 1) / layout.extents[axis] + 1);
    }
  }

  // The number of chunks that cover the data set; an error if the file cannot hold an index of so many.
  std::uint64_t count() {
    std::uint64_t all = 1;
    for (const std::uint64_t n : grid_)
      if (__builtin_mul_overflow(all, n, &all)) file_.fail(at_, "a data set claims too many chunks");
    return all;
  }

  // A chunk by its place in the grid; what lies outside of the data set does not count.
  void add(std::vector<std::uint64_t> place, std::uint64_t address, std::uint64_t size, std::uint32_t skipped) {
    if (!file_.defined(address)) return;
    for (std::size_t axis = 0; axis < grid_.size(); ++axis) {
      if (place[axis] >= grid_[axis]) return;
      place[axis] *= layout_.extents[axis];
    }
    if (!places_.insert(place).second) file_.fail(address, "a data set has a chunk twice");
    layout_.chunks.push_back({std::move(place), address, size, skipped});
  }

  // The same by the number of the chunk, row by row.
  void add_number(std::uint64_t number, std::uint64_t address, std::uint64_t size, std::uint32_t skipped) {
    std::vector<std::uint64_t> place(grid_.size());
    for (std::size_t axis = grid_.size(); axis-- > 0;) {
      place[axis] = number % grid_[axis];
      number /= grid_[axis];
    }
    add(std::move(place), address, size, skipped);
  }

  void old_tree(std::uint64_t root) {
    const std::size_t rank = grid_.size();
    walk_old_tree(file_, root, {OldTree::Chunks, 8 + 8 * (std::uint64_t{rank} + 1)},
                  [&](Cursor key, std::uint64_t child) {
                    const std::uint64_t size = key.u32();
                    const std::uint32_t skipped = key.u32();
                    std::vector<std::uint64_t> place;
                    for (std::size_t axis = 0; axis < rank; ++axis) {
                      const std::uint64_t first = key.u64();
                      if (first % layout_.extents[axis] != 0) key.fail("a chunk does not begin where chunks begin");
                      place.push_back(first / layout_.extents[axis]);
                    }
                    add(std::move(place), child, size, skipped);
                  });
  }

  void new_tree(std::uint64_t header) {
    const auto record = [&](Cursor body) {
      const std::uint64_t address = body.offset();
      std::uint64_t size = layout_.bytes;
      std::uint32_t skipped = 0;
      if (filtered_) {
        if (body.remaining() < 4 + 8 * grid_.size()) body.fail("a chunk's record is too short");
        const std::size_t width = body.remaining() - 4 - 8 * grid_.size();
        if (width > 8) body.fail("a chunk's record is too long");
        size = body.number(static_cast<unsigned>(width));
        skipped = body.u32();
      }
      std::vector<std::uint64_t> place;
      for (std::size_t axis = 0; axis < grid_.size(); ++axis) place.push_back(body.u64());
      add(std::move(place), address, size, skipped);
    };
    walk_new_tree(file_, header, filtered_ ? kFilteredChunks : kPlainChunks, record);
  }

  void implicit(std::uint64_t address) {
    const std::uint64_t all = count();
    (void)file_.range(address, 0, "the chunks");
    for (std::uint64_t i = 0; i < all; ++i) {
      (void)file_.range(address + i * layout_.bytes, layout_.bytes, "a chunk");  // ends the loop where the file ends
      file_.work(1, address);
      add_number(i, address + i * layout_.bytes, layout_.bytes, 0);
    }
  }

  void fixed_array(std::uint64_t header) {
    Cursor head = file_.cursor_from(header, "a fixed array");
    head.signature("FAHD");
    head.version(0);
    const unsigned client = head.u8(), entry = head.u8(), page_bits = head.u8();
    const std::uint64_t entries = head.length(), block = head.offset();
    file_.verify_checksum(head, header);
    const std::uint64_t least = file_.offset_size() + (filtered_ ? 5U : 0U);
    if (client != (filtered_ ? 1U : 0U) || entry < least || entry > least + 8 || page_bits > 40)
      file_.fail(header, "the numbers of a fixed array do not fit together");
    if (entries != count()) file_.fail(header, "a fixed array has another number of chunks than the data set");
    if (!file_.defined(block)) return;
    Cursor data = file_.cursor_from(block, "a fixed array's block");
    data.signature("FADB");
    data.version(0);
    data.skip(1 + std::uint64_t{file_.offset_size()});
    const std::uint64_t page = std::uint64_t{1} << page_bits;
    if (entries <= page) {
      array_entries(data, 0, entries, entry);
      return file_.verify_checksum(data, block);
    }
    const std::uint64_t pages = (entries - 1) / page + 1;
    const auto present = data.take((pages + 7) / 8);
    file_.verify_checksum(data, block);
    for (std::uint64_t i = 0; i < pages; ++i) {
      const std::uint64_t count = std::min(page, entries - i * page), begin = data.address();
      const bool there = (std::to_integer<unsigned>(present[i / 8]) >> (7 - i % 8) & 1U) != 0;
      if (!there) {
        data.skip(count * entry + 4);
        continue;
      }
      array_entries(data, i * page, count, entry);
      file_.verify_checksum(data, begin);
    }
  }

 private:
  void array_entries(Cursor& data, std::uint64_t first, std::uint64_t count, std::uint64_t entry) {
    if (count > data.remaining()) data.fail("a fixed array goes past the end of the file");
    file_.work(count * entry, data.address());
    for (std::uint64_t i = 0; i < count; ++i) {
      Cursor one = data.sub(entry);
      const std::uint64_t address = one.offset();
      std::uint64_t size = layout_.bytes;
      std::uint32_t skipped = 0;
      if (filtered_) {
        size = one.number(static_cast<unsigned>(one.remaining() - 4));
        skipped = one.u32();
      }
      add_number(first + i, address, size, skipped);
    }
  }

  File& file_;
  ChunkedLayout& layout_;
  bool filtered_;
  std::uint64_t at_;
  std::vector<std::uint64_t> grid_;
  std::set<std::vector<std::uint64_t>> places_;
};

void set_extents(Cursor& body, ChunkedLayout& layout, unsigned rank, unsigned width, std::size_t data_rank) {
  if (rank != data_rank + 1) body.fail("the chunks have another number of axes than the data set");
  layout.bytes = 1;
  for (unsigned axis = 0; axis < rank; ++axis) {
    const std::uint64_t extent = body.number(width);
    if (extent == 0 || __builtin_mul_overflow(layout.bytes, extent, &layout.bytes) ||
        layout.bytes > std::uint64_t{1} << 60)
      body.fail("a chunk's extents are not accepted");
    if (axis + 1 < rank) {
      layout.extents.push_back(extent);
    } else {
      layout.element_size = extent;
    }
  }
}

void read_new_index(File& file, Cursor& body, ChunkedLayout& layout, const std::vector<std::int64_t>& extents,
                    bool filtered) {
  enum Index : std::uint8_t { kSingle = 1, kImplicit = 2, kFixedArray = 3, kExtensibleArray = 4, kTree = 5 };
  const unsigned flags = body.u8(), rank = body.u8(), width = body.u8();
  if (width < 1 || width > 8) body.fail("a chunk's extents are not accepted");
  set_extents(body, layout, rank, width, extents.size());
  const unsigned index = body.u8();
  const std::uint64_t at = body.address();
  if ((flags & 1U) != 0 && filtered) file.unsupported(at, "a data set whose chunks at the edge are not filtered");
  Chunks chunks(file, layout, extents, filtered, at);
  std::uint64_t size = layout.bytes;
  std::uint32_t skipped = 0;
  if (index == kSingle && (flags & 2U) != 0) size = body.length(), skipped = body.u32();
  if (index == kFixedArray) body.skip(1);
  if (index == kExtensibleArray)
    file.unsupported(at, "a data set that may grow along one axis, in the newest layout (an extensible array)",
                     "write it with libver='earliest', or without maxshape");
  if (index == kTree) body.skip(6);
  const std::uint64_t address = body.offset();
  if (!file.defined(address)) return;
  switch (index) {
    case kSingle:
      return chunks.add(std::vector<std::uint64_t>(extents.size()), address, size, skipped);
    case kImplicit:
      return chunks.implicit(address);
    case kFixedArray:
      return chunks.fixed_array(address);
    case kTree:
      return chunks.new_tree(address);
    default:
      file.fail(at, "unknown index of chunks", "1 to 5", fmt::format("{}", index));
  }
}

}  // namespace

std::vector<Filter> read_filters(const Message& message) {
  Cursor body = message.body;
  const unsigned version = body.u8(), count = body.u8();
  if (version != 1 && version != 2)
    body.fail("unknown version of a filter pipeline", "1 or 2", fmt::format("{}", version));
  if (version == 1) body.skip(6);
  std::vector<Filter> filters;
  for (unsigned i = 0; i < count; ++i) {
    Filter filter{.id = body.u16(), .optional = false};
    std::uint64_t name = version == 1 || filter.id >= 256 ? body.u16() : 0;
    filter.optional = (body.u16() & 1U) != 0;
    const std::uint64_t values = body.u16();
    if (version == 1) name = (name + 7) / 8 * 8;
    body.skip(name + 4 * values);
    if (version == 1 && values % 2 != 0) body.skip(4);
    filters.push_back(filter);
  }
  return filters;
}

ChunkedLayout read_chunks(File& file, Cursor body, unsigned version, const std::vector<std::int64_t>& extents,
                          bool filtered) {
  ChunkedLayout layout;
  if (version == 4) {
    read_new_index(file, body, layout, extents, filtered);
    return layout;
  }
  const unsigned rank = body.u8();
  if (version < 3) body.skip(6);  // the class, which is known, and what is reserved
  const std::uint64_t tree = body.offset();
  set_extents(body, layout, rank, 4, extents.size());
  Chunks chunks(file, layout, extents, filtered, body.address());
  if (file.defined(tree)) chunks.old_tree(tree);
  return layout;
}

}  // namespace tenon::formats::hdf5
