#include "tenon/formats/hdf5/chunks.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <set>

#include "tenon/formats/hdf5/trees.h"

namespace tenon::formats::hdf5 {
namespace {

constexpr std::uint8_t kPlainChunks = 10, kFilteredChunks = 11;  // types of records in version 2 trees

class Chunks {
 public:
  Chunks(File& file, ChunkedLayout& layout, const Dataspace& space, bool filtered, std::uint64_t at)
      : file_(file), layout_(layout), filtered_(filtered), at_(at) {
    for (std::size_t axis = 0; axis < space.extents.size(); ++axis) {
      const auto count = [&](std::uint64_t extent) {
        return extent == 0 ? 0 : (extent - 1) / layout.extents[axis] + 1;
      };
      grid_.push_back(count(static_cast<std::uint64_t>(space.extents[axis])));
      largest_.push_back(space.largest[axis] == kUnlimited ? kUnlimited : count(space.largest[axis]));
      order_.push_back(axis);
    }
  }

  // The number of chunks that arrays hold: those of the data set when it has grown as far as it may.
  std::uint64_t count() {
    std::uint64_t all = 1;
    for (const std::uint64_t n : largest_)
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

  // The same by the number of the chunk, row by row of the fully grown grid.
  void add_number(std::uint64_t number, std::uint64_t address, std::uint64_t size, std::uint32_t skipped) {
    std::vector<std::uint64_t> place(grid_.size());
    for (std::size_t k = order_.size(); k-- > 0;) {
      const std::uint64_t chunks = largest_[order_[k]];
      if (chunks == 0) return;
      place[order_[k]] = k == 0 ? number : number % chunks;
      number /= chunks;
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
    if (client != (filtered_ ? 1U : 0U) || !fits(entry) || page_bits > 40)
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
      if (!bit(present, i)) {
        data.skip(count * entry + 4);
        continue;
      }
      array_entries(data, i * page, count, entry);
      file_.verify_checksum(data, begin);
    }
  }

  // An array that grows: entries in its index block, behind them data blocks of rising size. The index block points to
  // the first of these, and to super blocks that point to the others.
  void extensible_array(std::uint64_t header) {
    Growing array;
    Cursor head = file_.cursor_from(header, "an extensible array");
    head.signature("EAHD");
    head.version(0);
    const unsigned client = head.u8();
    array.entry = head.u8();
    array.bits = head.u8();
    const unsigned in_index = head.u8();
    array.least = head.u8();
    const unsigned pointers = head.u8();
    array.page_bits = head.u8();
    for (int i = 0; i < 4; ++i) (void)head.length();  // how many blocks there are, and their sizes
    array.used = head.length();
    (void)head.length();
    const std::uint64_t index = head.offset();
    file_.verify_checksum(head, header);
    if (client != (filtered_ ? 1U : 0U) || !fits(array.entry) || array.bits == 0 || array.bits > 56 ||
        !std::has_single_bit(array.least) || !std::has_single_bit(pointers) || array.page_bits > 40 ||
        static_cast<unsigned>(std::countr_zero(array.least)) > array.bits)
      file_.fail(header, "the numbers of an extensible array do not fit together");
    grow_along_the_unlimited_axis(header);
    if (!file_.defined(index)) return;
    const unsigned supers = 1 + array.bits - static_cast<unsigned>(std::countr_zero(array.least));
    const unsigned direct = std::min(supers, 2 * static_cast<unsigned>(std::countr_zero(pointers)));
    Cursor body = file_.cursor_from(index, "an extensible array's index");
    body.signature("EAIB");
    body.version(0);
    body.skip(1 + std::uint64_t{file_.offset_size()});
    array_entries(body, 0, in_index, array.entry);
    std::vector<std::uint64_t> blocks, super_blocks;
    for (unsigned i = 0; i < 2 * (pointers - 1); ++i) blocks.push_back(body.offset());
    for (unsigned i = direct; i < supers; ++i) super_blocks.push_back(body.offset());
    file_.verify_checksum(body, index);
    std::uint64_t first = in_index;
    std::size_t next = 0;
    for (unsigned super = 0; super < supers && first < array.used; ++super) {
      const std::uint64_t count = std::uint64_t{1} << super / 2,
                          entries = std::uint64_t{array.least} << (super + 1) / 2;
      if (super >= direct) {
        super_block(array, super_blocks[super - direct], first, count, entries);
      } else {
        for (std::uint64_t i = 0; i < count && next < blocks.size(); ++i)
          data_block(array, blocks[next++], first + i * entries, entries, {}, 0);
      }
      first += count * entries;
    }
  }

 private:
  struct Growing {
    unsigned entry = 0, bits = 0, least = 0, page_bits = 0;
    std::uint64_t used = 0;  // entries behind these were never set
    [[nodiscard]] std::uint64_t page() const { return std::uint64_t{1} << page_bits; }
  };

  // The chunks are numbered with that axis as the slowest.
  void grow_along_the_unlimited_axis(std::uint64_t at) {
    const auto axis = std::ranges::find(largest_, kUnlimited);
    if (axis == largest_.end() || std::ranges::count(largest_, kUnlimited) != 1)
      file_.fail(at, "an extensible array is for a data set that may grow along one axis");
    const auto place = order_.begin() + (axis - largest_.begin());
    std::rotate(order_.begin(), place, place + 1);
  }

  void super_block(const Growing& array, std::uint64_t address, std::uint64_t first, std::uint64_t count,
                   std::uint64_t entries) {
    if (!file_.defined(address)) return;
    Cursor body = file_.cursor_from(address, "an extensible array's super block");
    body.signature("EASB");
    body.version(0);
    body.skip(1 + std::uint64_t{file_.offset_size()} + (array.bits + 7) / 8);
    const std::uint64_t pages = entries > array.page() ? entries / array.page() : 0;
    if (count > body.remaining() / file_.offset_size() || pages > body.remaining() * 8)
      body.fail("a super block goes past the end of the file");
    const auto present = body.take(count * ((pages + 7) / 8));
    std::vector<std::uint64_t> blocks(count);
    for (std::uint64_t& block : blocks) block = body.offset();
    file_.verify_checksum(body, address);
    for (std::uint64_t i = 0; i < count && first + i * entries < array.used; ++i)
      data_block(array, blocks[i], first + i * entries, entries, present, i * pages);
  }

  // `present` has a bit for each page, from `page_number` on for this block.
  void data_block(const Growing& array, std::uint64_t address, std::uint64_t first, std::uint64_t entries,
                  std::span<const std::byte> present, std::uint64_t page_number) {
    if (!file_.defined(address)) return;
    Cursor body = file_.cursor_from(address, "an extensible array's block");
    body.signature("EADB");
    body.version(0);
    body.skip(1 + std::uint64_t{file_.offset_size()} + (array.bits + 7) / 8);
    if (entries <= array.page() || present.empty()) {
      array_entries(body, first, entries, array.entry);
      return file_.verify_checksum(body, address);
    }
    file_.verify_checksum(body, address);
    for (std::uint64_t done = 0; done < entries; done += array.page(), ++page_number) {
      const std::uint64_t begin = body.address();
      if (bit(present, page_number)) {
        array_entries(body, first + done, array.page(), array.entry);
        file_.verify_checksum(body, begin);
      } else {
        body.skip(array.page() * array.entry + 4);
      }
    }
  }

  static bool bit(std::span<const std::byte> bits, std::uint64_t i) {
    return i / 8 < bits.size() && (std::to_integer<unsigned>(bits[i / 8]) >> (7 - i % 8) & 1U) != 0;
  }
  // An entry of an array: an address, and of a filtered chunk its size in up to eight bytes and the filters skipped.
  [[nodiscard]] bool fits(unsigned entry) const {
    const unsigned least = file_.offset_size() + (filtered_ ? 5U : 0U);
    return entry >= least && entry <= least + 8;
  }

  void array_entries(Cursor& data, std::uint64_t first, std::uint64_t count, std::uint64_t entry) {
    if (count > data.remaining()) data.fail("an array of chunks goes past the end of the file");
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
  std::vector<std::uint64_t> grid_, largest_;  // chunks along each axis, now and when it has grown as far as it may
  std::vector<std::size_t> order_;             // the axes by which arrays number the chunks, the slowest first
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

void read_new_index(File& file, Cursor& body, ChunkedLayout& layout, const Dataspace& space, bool filtered) {
  enum Index : std::uint8_t { kSingle = 1, kImplicit = 2, kFixedArray = 3, kExtensibleArray = 4, kTree = 5 };
  const unsigned flags = body.u8(), rank = body.u8(), width = body.u8();
  if (width < 1 || width > 8) body.fail("a chunk's extents are not accepted");
  set_extents(body, layout, rank, width, space.extents.size());
  const unsigned index = body.u8();
  const std::uint64_t at = body.address();
  if ((flags & 1U) != 0 && filtered) file.unsupported(at, "a data set whose chunks at the edge are not filtered");
  Chunks chunks(file, layout, space, filtered, at);
  std::uint64_t size = layout.bytes;
  std::uint32_t skipped = 0;
  if (index == kSingle && (flags & 2U) != 0) size = body.length(), skipped = body.u32();
  if (index == kFixedArray) body.skip(1);
  if (index == kExtensibleArray) body.skip(5);  // they stand in the array's header too
  if (index == kTree) body.skip(6);
  const std::uint64_t address = body.offset();
  if (!file.defined(address)) return;
  switch (index) {
    case kSingle:
      return chunks.add(std::vector<std::uint64_t>(space.extents.size()), address, size, skipped);
    case kImplicit:
      return chunks.implicit(address);
    case kFixedArray:
      return chunks.fixed_array(address);
    case kExtensibleArray:
      return chunks.extensible_array(address);
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

ChunkedLayout read_chunks(File& file, Cursor body, unsigned version, const Dataspace& space, bool filtered) {
  ChunkedLayout layout;
  if (version == 4) {
    read_new_index(file, body, layout, space, filtered);
    return layout;
  }
  const unsigned rank = body.u8();
  if (version < 3) body.skip(6);  // the class, which is known, and what is reserved
  const std::uint64_t tree = body.offset();
  set_extents(body, layout, rank, 4, space.extents.size());
  Chunks chunks(file, layout, space, filtered, body.address());
  if (file.defined(tree)) chunks.old_tree(tree);
  return layout;
}

}  // namespace tenon::formats::hdf5
