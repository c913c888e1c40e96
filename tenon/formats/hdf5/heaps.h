// Where names, texts of variable length and the links of large groups are kept: the three heaps of the format.
#pragma once

#include <map>
#include <vector>

#include "tenon/formats/hdf5/bytes.h"

namespace tenon::formats::hdf5 {

// The names of an old group.
class LocalHeap {
 public:
  LocalHeap(File& file, std::uint64_t address);
  std::string_view name(std::uint64_t offset);

 private:
  File* file_;
  std::uint64_t data_address_ = 0;
  std::span<const std::byte> data_;
};

// Objects of variable length, in collections. A collection is parsed once.
class GlobalHeap {
 public:
  explicit GlobalHeap(File& file) : file_(&file) {}
  std::span<const std::byte> object(std::uint64_t collection, std::uint32_t index);

 private:
  using Collection = std::map<std::uint32_t, std::span<const std::byte>>;
  Collection read(std::uint64_t address);
  File* file_;
  std::map<std::uint64_t, Collection> collections_;
};

// A heap of blocks that double in size: the messages of dense links and attributes.
class FractalHeap {
 public:
  FractalHeap(File& file, std::uint64_t address);
  [[nodiscard]] unsigned id_size() const { return id_size_; }
  // The object of an id.
  Cursor object(Cursor id);

 private:
  struct Block {
    std::uint64_t address, begin;  // in the file, in the heap's own space
    std::uint64_t size;
  };
  Block find_block(std::uint64_t offset);
  std::uint64_t child(std::uint64_t indirect, std::uint64_t rows, std::uint64_t entry);
  [[nodiscard]] std::uint64_t row_size(std::uint64_t row) const;
  [[nodiscard]] unsigned offset_bytes() const { return (heap_bits_ + 7) / 8; }
  File* file_;
  std::uint64_t address_;
  unsigned id_size_ = 0, heap_bits_ = 0, length_bytes_ = 0;
  std::uint64_t width_ = 0, start_size_ = 0, largest_direct_ = 0, root_ = 0, root_rows_ = 0;
};

}  // namespace tenon::formats::hdf5
