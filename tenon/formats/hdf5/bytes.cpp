#include "tenon/formats/hdf5/bytes.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "tenon/base/error.h"
#include "tenon/base/mapped_pages.h"
#include "tenon/data/gzip.h"

namespace tenon::formats::hdf5 {
namespace {

constexpr std::string_view kSignature = "\x89HDF\r\n\x1a\n";

}  // namespace

// A sound file reads each structure a few times and copies each element once; the constants leave room for small files.
Budget::Budget(std::size_t file_size)
    : work_(256 * static_cast<std::uint64_t>(file_size) + (1U << 20)),
      copy_(2 * static_cast<std::uint64_t>(file_size) + (1U << 16)),
      expand_(static_cast<std::uint64_t>(data::kMaxDeflateRatio) * file_size + (1U << 16)) {}

bool Budget::take(std::uint64_t& left, std::uint64_t bytes) {
  if (bytes > left) return false;
  left -= bytes;
  return true;
}

File::File(std::span<const std::byte> bytes, std::string_view where, std::shared_ptr<const void> owner,
           const Hdf5Options& options)
    : all_(bytes), bytes_(bytes), where_(where), owner_(std::move(owner)), options_(options), budget_(bytes.size()) {}

void File::fail(std::uint64_t address, std::string_view problem, std::string expected, std::string got) const {
  throw FormatError({.where = where_,
                     .problem = fmt::format("{} at byte {}", problem, address + base_),
                     .expected = std::move(expected),
                     .got = std::move(got)});
}

void File::unsupported(std::uint64_t address, std::string_view problem, std::string hint) const {
  throw UnsupportedError({.where = where_,
                          .problem = fmt::format("{} at byte {} of the HDF5 file", problem, address + base_),
                          .hint = std::move(hint)});
}

void File::work(std::uint64_t bytes, std::uint64_t address) {
  if (!budget_.work(bytes)) fail(address, "the file's structures point to the same bytes too many times");
}
void File::copy(std::uint64_t bytes, std::uint64_t address, std::string_view what) {
  if (!budget_.copy(bytes)) fail(address, fmt::format("{} claims more bytes than the file can hold", what));
}
void File::expand(std::uint64_t bytes, std::uint64_t address, std::string_view what) {
  if (!budget_.expand(bytes)) fail(address, fmt::format("{} claims more elements than the file can hold", what));
}

namespace {
// "Undefined" is all bits set, as many as the file's numbers have.
bool all_ones(std::uint64_t number, unsigned bytes) { return number == ~std::uint64_t{0} >> (64 - 8 * bytes); }
}  // namespace
bool File::defined(std::uint64_t address) const { return !all_ones(address, offset_size_); }
bool File::defined_length(std::uint64_t length) const { return !all_ones(length, length_size_); }

std::span<const std::byte> File::range(std::uint64_t address, std::uint64_t size, std::string_view what) {
  if (address > bytes_.size() || size > bytes_.size() - address)
    fail(address, fmt::format("{} goes past the end of the file", what), fmt::format("{} bytes", size),
         fmt::format("{}", address > bytes_.size() ? 0 : bytes_.size() - address));
  return bytes_.subspan(static_cast<std::size_t>(address), static_cast<std::size_t>(size));
}

void File::release(std::uint64_t address, std::uint64_t size) {
  if (mapped()) release_mapped_pages(range(address, size, "a part"), all_);
}

Cursor File::cursor(std::uint64_t address, std::uint64_t size, std::string_view what) {
  const auto bytes = range(address, size, what);
  work(size, address);
  return {*this, bytes, address, what};
}

Cursor File::cursor_from(std::uint64_t address, std::string_view what) {
  (void)range(address, 0, what);
  work(64, address);
  return {*this, bytes_.subspan(static_cast<std::size_t>(address)), address, what};
}

void File::verify_checksum(Cursor& cursor, std::uint64_t begin) {
  const std::uint64_t end = cursor.address();
  const std::uint32_t stored = cursor.u32();
  work(end - begin, begin);
  if (options_.verify_checksums && stored != lookup3(range(begin, end - begin, "a checksum")))
    fail(begin, "the file is damaged: a checksum differs for what lies");
}

void File::set_sizes(Cursor& cursor, unsigned offset_size, unsigned length_size) {
  for (const unsigned size : {offset_size, length_size})
    if (size != 2 && size != 4 && size != 8)
      cursor.fail("the superblock's size of addresses or lengths is not accepted", "2, 4 or 8",
                  fmt::format("{}", size));
  offset_size_ = offset_size;
  length_size_ = length_size;
}

void File::set_extent(Cursor& cursor, std::uint64_t base, std::uint64_t end) {
  if (base > all_.size() || !defined(base)) cursor.fail("the base address goes past the end of the file");
  if (!defined(end) || end > all_.size())
    cursor.fail("the file is truncated: its own end address goes past its end", fmt::format("{} bytes", end),
                fmt::format("{} bytes", all_.size()));
  base_ = static_cast<std::size_t>(base);
  bytes_ = all_.subspan(base_);
}

std::uint64_t File::read_old_superblock(Cursor& cursor, unsigned version) {
  cursor.skip(4);  // versions of the free space storage and the root entry, reserved, version of shared messages
  const unsigned offset_size = cursor.u8(), length_size = cursor.u8();
  set_sizes(cursor, offset_size, length_size);
  cursor.skip(version == 1 ? 13 : 9);  // reserved, the K values, flags
  const std::uint64_t base = cursor.offset();
  cursor.skip(offset_size_);
  const std::uint64_t end = cursor.offset();
  cursor.skip(2 * offset_size_);  // driver information; the root's name
  const std::uint64_t root = cursor.offset();
  set_extent(cursor, base, end);
  return root;
}

std::uint64_t File::read_new_superblock(Cursor& cursor) {
  const unsigned offset_size = cursor.u8(), length_size = cursor.u8();
  set_sizes(cursor, offset_size, length_size);
  cursor.skip(1);
  const std::uint64_t base = cursor.offset();
  cursor.skip(offset_size_);  // the extension
  const std::uint64_t end = cursor.offset(), root = cursor.offset();
  const std::uint64_t size = 12 + 4 * std::uint64_t{offset_size_};
  verify_checksum(cursor, cursor.address() - size);
  set_extent(cursor, base, end);
  return root;
}

std::uint64_t File::open() {
  // The superblock is at 0, 512, 1024, 2048, …: what comes before is the user's own.
  for (std::uint64_t at = 0; at + kSignature.size() <= all_.size(); at = at == 0 ? 512 : at * 2) {
    if (as_text(all_.subspan(static_cast<std::size_t>(at), kSignature.size())) != kSignature) continue;
    Cursor cursor = cursor_from(at, "the superblock");
    cursor.skip(kSignature.size());
    const unsigned version = cursor.u8();
    if (version <= 1) return read_old_superblock(cursor, version);
    if (version <= 3) return read_new_superblock(cursor);
    cursor.fail("unknown version of the superblock", "0 to 3", fmt::format("{}", version));
  }
  fail(0, "no HDF5 signature", "an HDF5 file", all_.empty() ? "an empty file" : "");
}

std::span<const std::byte> Cursor::take(std::uint64_t count) {
  if (count > remaining())
    fail(fmt::format("{} ends early", what_), fmt::format("{} bytes", count), fmt::format("{} bytes", remaining()));
  const auto result = bytes_.subspan(at_, static_cast<std::size_t>(count));
  at_ += static_cast<std::size_t>(count);
  return result;
}

Cursor Cursor::sub(std::uint64_t count) {
  const std::uint64_t begin = address();
  return {*file_, take(count), begin, what_};
}

std::uint64_t Cursor::number(unsigned width) {
  const auto bytes = take(width);
  std::uint64_t value = 0;
  for (unsigned i = width; i-- > 0;) value = value << 8 | std::to_integer<std::uint64_t>(bytes[i]);
  return value;
}

std::string_view Cursor::text() {
  const auto rest = bytes_.subspan(at_);
  const auto end = std::find(rest.begin(), rest.end(), std::byte{0});
  file_->work(static_cast<std::uint64_t>(end - rest.begin()), address());
  if (end == rest.end()) fail(fmt::format("a name in {} does not end", what_));
  const auto found = take(static_cast<std::uint64_t>(end - rest.begin()));
  skip(1);
  return as_text(found);
}

void Cursor::signature(std::string_view expected) {
  const std::uint64_t begin = address();
  if (as_text(take(expected.size())) != expected)
    file_->fail(begin, fmt::format("{} is not where the file says", what_), std::string(expected));
}

void Cursor::version(unsigned expected) {
  if (const unsigned got = u8(); got != expected)
    fail(fmt::format("unknown version of {}", what_), fmt::format("{}", expected), fmt::format("{}", got));
}

std::uint32_t lookup3(std::span<const std::byte> bytes) {
  std::uint32_t a = 0xdeadbeefU + static_cast<std::uint32_t>(bytes.size()), b = a, c = a;
  const auto word = [&](std::size_t at) {
    std::uint32_t value = 0;
    for (std::size_t i = 0; i < 4 && at + i < bytes.size(); ++i)
      value |= std::to_integer<std::uint32_t>(bytes[at + i]) << (8 * i);
    return value;
  };
  std::size_t at = 0;
  for (; bytes.size() - at > 12; at += 12) {
    a += word(at), b += word(at + 4), c += word(at + 8);
    a -= c, a ^= std::rotl(c, 4), c += b;
    b -= a, b ^= std::rotl(a, 6), a += c;
    c -= b, c ^= std::rotl(b, 8), b += a;
    a -= c, a ^= std::rotl(c, 16), c += b;
    b -= a, b ^= std::rotl(a, 19), a += c;
    c -= b, c ^= std::rotl(b, 4), b += a;
  }
  if (at == bytes.size()) return c;
  a += word(at), b += word(at + 4), c += word(at + 8);
  c ^= b, c -= std::rotl(b, 14);
  a ^= c, a -= std::rotl(c, 11);
  b ^= a, b -= std::rotl(a, 25);
  c ^= b, c -= std::rotl(b, 16);
  a ^= c, a -= std::rotl(c, 4);
  b ^= a, b -= std::rotl(a, 14);
  c ^= b, c -= std::rotl(b, 24);
  return c;
}

std::uint32_t fletcher32(std::span<const std::byte> bytes) {
  std::uint32_t low = 0, high = 0;
  const auto fold = [](std::uint32_t x) { return (x & 0xffffU) + (x >> 16); };
  std::size_t at = 0;
  while (at + 1 < bytes.size()) {
    // 360 words are what 32 bits hold without an overflow.
    for (std::size_t i = 0; i < 360 && at + 1 < bytes.size(); ++i, at += 2) {
      low += std::to_integer<std::uint32_t>(bytes[at]) << 8 | std::to_integer<std::uint32_t>(bytes[at + 1]);
      high += low;
    }
    low = fold(low), high = fold(high);
  }
  if (at < bytes.size()) {
    low += std::to_integer<std::uint32_t>(bytes[at]) << 8;
    high += low;
    low = fold(low), high = fold(high);
  }
  low = fold(low), high = fold(high);
  return high << 16 | low;
}

unsigned bytes_for(std::uint64_t largest) { return (static_cast<unsigned>(std::bit_width(largest | 1)) - 1) / 8 + 1; }

}  // namespace tenon::formats::hdf5
