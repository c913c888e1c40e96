// The bytes of an HDF5 file, every step checked: nothing in this folder touches memory but through `File` and `Cursor`.
//
// Addresses in the file are relative to its base address. Reading outside of the file is a FormatError that names the
// file, the offset and what was being read. A `Budget` bounds what a hostile file can make the reader do: structures
// that point to the same bytes again and again (texts, trees, chunks) cost time or memory that the file's size does not
// justify, and every read of a structure pays for itself.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "tenon/formats/hdf5.h"

namespace tenon::formats::hdf5 {

// What may be spent, in bytes, for a file of `file_size` bytes.
class Budget {
 public:
  explicit Budget(std::size_t file_size);
  // Bytes of structures looked at, bytes copied as they are in the file, bytes that compression or fill values make.
  [[nodiscard]] bool work(std::uint64_t bytes) { return take(work_, bytes); }
  [[nodiscard]] bool copy(std::uint64_t bytes) { return take(copy_, bytes); }
  [[nodiscard]] bool expand(std::uint64_t bytes) { return take(expand_, bytes); }

 private:
  static bool take(std::uint64_t& left, std::uint64_t bytes);
  std::uint64_t work_, copy_, expand_;
};

class Cursor;

class File {
 public:
  // `bytes` are the whole file. `owner` keeps them alive: with it, tensors may point into them.
  File(std::span<const std::byte> bytes, std::string_view where, std::shared_ptr<const void> owner,
       const Hdf5Options& options);

  // Finds and reads the superblock; the address of the root group's object header.
  std::uint64_t open();

  // Bytes at an address, and a cursor over them; `what` names them in errors.
  std::span<const std::byte> range(std::uint64_t address, std::uint64_t size, std::string_view what);
  Cursor cursor(std::uint64_t address, std::uint64_t size, std::string_view what);
  // From an address to the end of the file: for structures whose size is not known before they are read.
  Cursor cursor_from(std::uint64_t address, std::string_view what);
  // Reads the checksum at the cursor and compares it with that of the bytes from `begin` (an address) to the cursor.
  void verify_checksum(Cursor& cursor, std::uint64_t begin);

  // All bits set is "there is none".
  [[nodiscard]] bool defined(std::uint64_t address) const;
  [[nodiscard]] bool defined_length(std::uint64_t length) const;
  [[nodiscard]] unsigned offset_size() const { return offset_size_; }
  [[nodiscard]] unsigned length_size() const { return length_size_; }
  [[nodiscard]] bool mapped() const { return options_.mapped; }
  // Gives the pages of what was read back to the system, if the file is mapped.
  void release(std::uint64_t address, std::uint64_t size);
  [[nodiscard]] const std::shared_ptr<const void>& owner() const { return owner_; }

  // FormatError{PROBLEM at byte ADDRESS}; UnsupportedError for what is right but not read here.
  [[noreturn]] void fail(std::uint64_t address, std::string_view problem, std::string expected = {},
                         std::string got = {}) const;
  [[noreturn]] void unsupported(std::uint64_t address, std::string_view problem, std::string hint = {}) const;
  // Fails if the budget is spent.
  void work(std::uint64_t bytes, std::uint64_t address);
  void copy(std::uint64_t bytes, std::uint64_t address, std::string_view what);
  void expand(std::uint64_t bytes, std::uint64_t address, std::string_view what);

 private:
  std::uint64_t read_old_superblock(Cursor& cursor, unsigned version);
  std::uint64_t read_new_superblock(Cursor& cursor);
  void set_sizes(Cursor& cursor, unsigned offset_size, unsigned length_size);
  void set_extent(Cursor& cursor, std::uint64_t base, std::uint64_t end);

  std::span<const std::byte> all_, bytes_;  // the file, and the file from its base address on
  std::string where_;
  std::shared_ptr<const void> owner_;
  Hdf5Options options_;
  unsigned offset_size_ = 8, length_size_ = 8;
  std::size_t base_ = 0;
  Budget budget_;
};

// Walks over bytes of a file, little-endian.
class Cursor {
 public:
  Cursor(File& file, std::span<const std::byte> bytes, std::uint64_t address, std::string_view what)
      : file_(&file), bytes_(bytes), address_(address), what_(what) {}

  [[nodiscard]] std::uint64_t address() const { return address_ + at_; }  // of the next byte
  [[nodiscard]] std::size_t remaining() const { return bytes_.size() - at_; }
  std::span<const std::byte> take(std::uint64_t count);
  void skip(std::uint64_t count) { (void)take(count); }
  // A cursor of its own over the next `count` bytes.
  Cursor sub(std::uint64_t count);
  std::uint64_t number(unsigned width);
  std::uint8_t u8() { return static_cast<std::uint8_t>(number(1)); }
  std::uint16_t u16() { return static_cast<std::uint16_t>(number(2)); }
  std::uint32_t u32() { return static_cast<std::uint32_t>(number(4)); }
  std::uint64_t u64() { return number(8); }
  std::uint64_t offset() { return number(file_->offset_size()); }
  std::uint64_t length() { return number(file_->length_size()); }
  // A text up to a zero byte, which must be there.
  std::string_view text();
  // The next bytes must be these, or this version.
  void signature(std::string_view expected);
  void version(unsigned expected);
  [[noreturn]] void fail(std::string_view problem, std::string expected = {}, std::string got = {}) const {
    file_->fail(address(), problem, std::move(expected), std::move(got));
  }
  [[nodiscard]] File& file() { return *file_; }

 private:
  File* file_;
  std::span<const std::byte> bytes_;
  std::uint64_t address_;
  std::string_view what_;
  std::size_t at_ = 0;
};

// The checksums of the format: Jenkins's lookup3 for structures, Fletcher's for chunks.
std::uint32_t lookup3(std::span<const std::byte> bytes);
std::uint32_t fletcher32(std::span<const std::byte> bytes);

// Bytes that numbers up to `largest` take.
unsigned bytes_for(std::uint64_t largest);

inline std::string_view as_text(std::span<const std::byte> bytes) {
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

}  // namespace tenon::formats::hdf5
