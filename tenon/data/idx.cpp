#include "tenon/data/idx.h"

#include <fmt/format.h>

#include <array>
#include <bit>

#include "tenon/base/error.h"
#include "tenon/base/file.h"
#include "tenon/data/byte_reader.h"
#include "tenon/data/gzip.h"

namespace tenon::data {
namespace {

static_assert(std::endian::native == std::endian::little, "the readers swap from the file's order to little-endian");

struct ElementCode {
  std::uint8_t code;
  DType dtype;
};
constexpr std::array<ElementCode, 6> kElementCodes = {{{0x08, DType::U8},
                                                       {0x09, DType::I8},
                                                       {0x0B, DType::I16},
                                                       {0x0C, DType::I32},
                                                       {0x0D, DType::F32},
                                                       {0x0E, DType::F64}}};
constexpr std::string_view kPrefix = "a file that starts with 00 00, a type code (08 09 0B 0C 0D 0E) and the rank";

struct Header {
  DType dtype;
  std::vector<std::int64_t> shape;
};

DType element_type(std::span<const std::byte> magic, std::string_view where) {
  const auto byte = [&](std::size_t i) { return std::to_integer<unsigned>(magic[i]); };
  if (byte(0) == 0 && byte(1) == 0) {
    for (const ElementCode& row : kElementCodes) {
      if (row.code == byte(2)) return row.dtype;
    }
  }
  throw_format_error(where, 0, "not an IDX file: wrong magic number", std::string(kPrefix),
                     fmt::format("{:02X} {:02X} {:02X} {:02X}", byte(0), byte(1), byte(2), byte(3)));
}

// Bytes of the elements. `available` is the most that the file could hold.
std::int64_t data_bytes(const Header& header, std::string_view where, std::int64_t available,
                        const ReadLimits& limits) {
  const std::int64_t width = info(header.dtype).bits / 8;
  const std::int64_t count = checked_count(header.shape, limits.max_bytes / width);
  const std::size_t end_of_header = 4 + 4 * header.shape.size();
  if (count < 0) {
    throw_format_error(where, 4, "the shape is too large",
                       fmt::format("at most {} bytes of elements", limits.max_bytes),
                       fmt::format("{} {}", name(header.dtype), shape_text(header.shape)));
  }
  if (count * width > available) {
    throw_format_error(where, end_of_header, "the file is too short for its shape",
                       fmt::format("{} bytes for {} {}", count * width, name(header.dtype), shape_text(header.shape)),
                       fmt::format("at most {} bytes", available), "copy or download the file again");
  }
  return count * width;
}

Header read_header(ByteReader& reader) {
  const auto magic = reader.take(4, "the magic number");
  Header header{element_type(magic, reader.where()), {}};
  const auto rank = std::to_integer<unsigned>(magic[3]);
  for (unsigned axis = 0; axis < rank; ++axis) header.shape.push_back(reader.u32_big("the extents"));
  return header;
}

HostArray read_plain(std::span<const std::byte> bytes, std::string_view where, const ReadLimits& limits) {
  ByteReader reader(bytes, where);
  const Header header = read_header(reader);
  const auto size = data_bytes(header, where, static_cast<std::int64_t>(reader.remaining()), limits);
  const auto elements = reader.take(static_cast<std::size_t>(size), "the elements");
  if (reader.remaining() != 0) {
    reader.fail("bytes follow the elements", fmt::format("the end of the file for shape {}", shape_text(header.shape)),
                fmt::format("{} more bytes", reader.remaining()));
  }
  return {header.dtype, header.shape, {elements.begin(), elements.end()}};
}

HostArray read_compressed(std::span<const std::byte> bytes, std::string_view where, const ReadLimits& limits) {
  GzipReader reader(bytes, where);
  std::vector<std::byte> start(4);
  start.resize(reader.read(start));
  if (start.size() == 4) {
    const std::size_t extents = 4 * std::to_integer<std::size_t>(start[3]);
    start.resize(4 + extents);
    start.resize(4 + reader.read(std::span(start).subspan(4)));
  }
  ByteReader header_reader(start, where);
  const Header header = read_header(header_reader);
  const auto size =
      data_bytes(header, where, static_cast<std::int64_t>(bytes.size()) * kMaxDeflateRatio + kMaxDeflateRatio, limits);
  HostArray array{header.dtype, header.shape, std::vector<std::byte>(static_cast<std::size_t>(size))};
  const std::size_t got = reader.read(array.bytes);
  if (got != array.bytes.size()) {
    throw_format_error(where, start.size() + got, "the decompressed file ends inside the elements",
                       fmt::format("{} bytes for shape {}", size, shape_text(header.shape)),
                       fmt::format("{} bytes", got));
  }
  std::byte extra{};
  if (reader.read({&extra, 1}) != 0) {  // also reaches the checksum
    throw_format_error(where, start.size() + got, "bytes follow the elements",
                       fmt::format("the end of the file for shape {}", shape_text(header.shape)), "more bytes");
  }
  return array;
}

}  // namespace

HostArray read_idx(std::span<const std::byte> bytes, std::string_view where, const ReadLimits& limits) {
  HostArray array = is_gzip(bytes) ? read_compressed(bytes, where, limits) : read_plain(bytes, where, limits);
  swap_bytes(array.bytes, static_cast<std::size_t>(info(array.dtype).bits / 8));
  return array;
}

HostArray read_idx(const std::filesystem::path& path, const ReadLimits& limits) {
  const MappedFile file(path);
  return read_idx(file.bytes(), file.path(), limits);
}

std::vector<std::byte> encode_idx(const HostArray& array) {
  std::uint8_t code = 0;
  for (const ElementCode& row : kElementCodes) {
    if (row.dtype == array.dtype) code = row.code;
  }
  if (code == 0) {
    throw DTypeError({"encode_idx", "IDX has no such element type", "u8, i8, i16, i32, f32 or f64",
                      std::string(name(array.dtype)), ""});
  }
  std::vector<std::byte> out = {std::byte{0}, std::byte{0}, std::byte{code},
                                static_cast<std::byte>(array.shape.size())};
  for (const std::int64_t extent : array.shape) {
    for (int shift = 24; shift >= 0; shift -= 8) out.push_back(static_cast<std::byte>(extent >> shift & 0xff));
  }
  const std::size_t start = out.size();
  out.insert(out.end(), array.bytes.begin(), array.bytes.end());
  swap_bytes(std::span(out).subspan(start), static_cast<std::size_t>(info(array.dtype).bits / 8));
  return out;
}

}  // namespace tenon::data
