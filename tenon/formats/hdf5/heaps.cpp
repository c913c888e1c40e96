#include "tenon/formats/hdf5/heaps.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

namespace tenon::formats::hdf5 {

LocalHeap::LocalHeap(File& file, std::uint64_t address) : file_(&file) {
  Cursor cursor = file.cursor_from(address, "a local heap");
  cursor.signature("HEAP");
  cursor.version(0);
  cursor.skip(3);
  const std::uint64_t size = cursor.length();
  (void)cursor.length();  // the free list
  data_address_ = cursor.offset();
  data_ = file.range(data_address_, size, "a local heap's names");
}

std::string_view LocalHeap::name(std::uint64_t offset) {
  if (offset >= data_.size()) file_->fail(data_address_, "a name lies outside of its local heap");
  return Cursor(*file_, data_.subspan(static_cast<std::size_t>(offset)), data_address_ + offset, "a local heap").text();
}

GlobalHeap::Collection GlobalHeap::read(std::uint64_t address) {
  Cursor head = file_->cursor_from(address, "a global heap");
  head.signature("GCOL");
  head.version(1);
  head.skip(3);
  const std::uint64_t size = head.length();
  Cursor cursor = file_->cursor(address, size, "a global heap");
  cursor.skip(8 + std::uint64_t{file_->length_size()});
  Collection collection;
  const std::uint64_t prefix = 8 + std::uint64_t{file_->length_size()};
  while (cursor.remaining() >= prefix) {
    const std::uint16_t index = cursor.u16();
    cursor.skip(6);
    const std::uint64_t bytes = cursor.length();
    if (index == 0) break;  // the rest is free
    const std::uint64_t at = cursor.address();
    if (!collection.emplace(index, cursor.take(bytes)).second) file_->fail(at, "a global heap has an object twice");
    cursor.skip(std::min<std::uint64_t>((8 - bytes % 8) % 8, cursor.remaining()));
  }
  return collection;
}

std::span<const std::byte> GlobalHeap::object(std::uint64_t address, std::uint32_t index) {
  auto found = collections_.find(address);
  if (found == collections_.end()) found = collections_.emplace(address, read(address)).first;
  const auto object = found->second.find(index);
  if (object == found->second.end())
    file_->fail(address, fmt::format("a global heap does not have the object {}", index));
  return object->second;
}

FractalHeap::FractalHeap(File& file, std::uint64_t address) : file_(&file), address_(address) {
  Cursor cursor = file.cursor_from(address, "a fractal heap");
  cursor.signature("FRHP");
  cursor.version(0);
  id_size_ = cursor.u16();
  if (cursor.u16() != 0)
    file.unsupported(address, "a compressed fractal heap", "write the file without filters of groups");
  cursor.skip(1);
  const std::uint64_t largest_managed = cursor.u32();
  (void)cursor.length(), (void)cursor.offset();       // huge objects: the next id, their tree
  (void)cursor.length(), (void)cursor.offset();       // free space
  for (int i = 0; i < 8; ++i) (void)cursor.length();  // how much there is of everything
  width_ = cursor.u16();
  start_size_ = cursor.length();
  largest_direct_ = cursor.length();
  heap_bits_ = cursor.u16();
  (void)cursor.u16();
  root_ = cursor.offset();
  root_rows_ = cursor.u16();
  file.verify_checksum(cursor, address);
  const bool sound = width_ > 0 && std::has_single_bit(width_) && std::has_single_bit(start_size_) &&
                     std::has_single_bit(largest_direct_) && start_size_ <= largest_direct_ && heap_bits_ > 0 &&
                     heap_bits_ <= 64 && root_rows_ < 64 && std::bit_width(largest_direct_ * 2 / start_size_) < 64 &&
                     largest_direct_ <= std::uint64_t{1} << 32;
  if (!sound) file.fail(address, "the numbers of a fractal heap do not fit together");
  length_bytes_ = std::min(bytes_for(largest_direct_), bytes_for(largest_managed));
  if (id_size_ < 1 + offset_bytes() + length_bytes_) file.fail(address, "the ids of a fractal heap are too short");
}

// Rows 0 and 1 have blocks of the first size; each later row has blocks of twice the size.
std::uint64_t FractalHeap::row_size(std::uint64_t row) const {
  const std::uint64_t shift = row == 0 ? 0 : row - 1;
  if (shift + static_cast<std::uint64_t>(std::bit_width(start_size_ * width_)) > 63)
    file_->fail(address_, "the numbers of a fractal heap do not fit together");
  return start_size_ << shift;
}

// The address of an entry of an indirect block: `rows` rows of `width_` children.
std::uint64_t FractalHeap::child(std::uint64_t indirect, std::uint64_t rows, std::uint64_t entry) {
  const std::uint64_t prefix = 5 + std::uint64_t{file_->offset_size()} + offset_bytes();
  const std::uint64_t size = prefix + rows * width_ * file_->offset_size();
  Cursor cursor = file_->cursor(indirect, size + 4, "an indirect block of a fractal heap");
  cursor.signature("FHIB");
  cursor.version(0);
  if (cursor.offset() != address_) file_->fail(indirect, "a block belongs to another fractal heap");
  cursor.skip(offset_bytes());
  cursor.skip(entry * file_->offset_size());
  const std::uint64_t found = cursor.offset();
  cursor.skip(cursor.remaining() - 4);
  file_->verify_checksum(cursor, indirect);
  if (!file_->defined(found)) file_->fail(indirect, "an object lies in a block that a fractal heap does not have");
  return found;
}

FractalHeap::Block FractalHeap::find_block(std::uint64_t offset) {
  if (root_rows_ == 0) return {root_, 0, start_size_};
  std::uint64_t indirect = root_, rows = root_rows_, begin = 0;
  while (true) {
    std::uint64_t row = 0, row_begin = begin;
    while (row < rows && offset - row_begin >= row_size(row) * width_) row_begin += row_size(row++) * width_;
    if (row == rows) file_->fail(address_, "an object lies outside of its fractal heap");
    const std::uint64_t size = row_size(row), column = (offset - row_begin) / size;
    const std::uint64_t address = child(indirect, rows, row * width_ + column);
    begin = row_begin + column * size;
    if (size <= largest_direct_) return {address, begin, size};
    // An indirect block: as many rows as cover its size. Each is smaller than its parent, so this ends.
    if (size < start_size_ * width_) file_->fail(address_, "the numbers of a fractal heap do not fit together");
    indirect = address;
    rows = static_cast<std::uint64_t>(std::bit_width(size) - std::bit_width(start_size_ * width_)) + 1;
  }
}

Cursor FractalHeap::object(Cursor id) {
  const std::uint64_t at = id.address();
  const unsigned flags = id.u8(), kind = flags >> 4 & 3;
  if (kind == 2 && id_size_ <= 18) {  // tiny: in the id itself
    return id.sub((flags & 15U) + 1U);
  }
  if (kind != 0)
    file_->unsupported(at, "a huge object of a fractal heap (an attribute or a link beyond 64 KB)",
                       "store it as a data set");
  const std::uint64_t offset = id.number(offset_bytes()), length = id.number(length_bytes_);
  const Block block = find_block(offset);
  if (offset - block.begin > block.size || length > block.size - (offset - block.begin))
    file_->fail(at, "an object goes past the end of its block");
  Cursor head = file_->cursor_from(block.address, "a block of a fractal heap");
  head.signature("FHDB");
  head.version(0);
  if (head.offset() != address_) file_->fail(block.address, "a block belongs to another fractal heap");
  return file_->cursor(block.address + (offset - block.begin), length, "an object of a fractal heap");
}

}  // namespace tenon::formats::hdf5
