#include "tenon/formats/hdf5/data_set.h"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <limits>

#include "tenon/base/error.h"
#include "tenon/base/mapped_pages.h"
#include "tenon/data/byte_reader.h"
#include "tenon/data/gzip.h"
#include "tenon/formats/hdf5/chunks.h"
#include "tenon/formats/hdf5/datatype.h"
#include "tenon/tensor/buffer.h"

namespace tenon::formats::hdf5 {
namespace {

enum Class : std::uint8_t { kCompact = 0, kContiguous = 1, kChunked = 2, kVirtual = 3 };
enum FilterId : std::uint16_t { kDeflate = 1, kShuffle = 2, kFletcher = 3 };

using Bytes = std::vector<std::byte>;

struct DataSet {
  File& file;
  const ObjectHeader& header;
  const std::string& path;
  Datatype type;
  Dataspace space;
  std::uint64_t bytes = 0;

  [[nodiscard]] std::string what() const { return fmt::format("the data set '{}'", path.substr(0, 200)); }
  [[noreturn]] void fail(std::uint64_t at, std::string_view problem, std::string expected = {},
                         std::string got = {}) const {
    file.fail(at, fmt::format("{}: {}", what(), problem), std::move(expected), std::move(got));
  }
};

Shape shape_of(const DataSet& set) { return Shape(std::span<const std::int64_t>(set.space.extents)); }

Ref<Buffer> allocate(const DataSet& set) { return Buffer::allocate(static_cast<std::size_t>(set.bytes)); }

// The value of elements that were never written: zero bytes, unless the file says otherwise.
std::span<const std::byte> fill_value(const DataSet& set) {
  for (const Message& message : set.header.messages) {
    Cursor body = message.body;
    std::uint64_t size = 0;
    if (message.type == MessageType::FillValue && !message.shared) {
      const unsigned version = body.u8();
      if (version == 3) {
        const unsigned flags = body.u8();
        if ((flags & 0x20U) != 0) size = body.u32();
      } else {
        body.skip(2);
        const bool defined = body.u8() != 0;
        if (defined && body.remaining() >= 4) size = body.u32();
      }
    } else if (message.type == MessageType::OldFillValue && !message.shared) {
      size = body.u32();
    }
    if (size == set.type.size) return body.take(size);
  }
  return {};
}

void fill(const DataSet& set, std::span<std::byte> to) {
  const auto value = fill_value(set);
  if (value.empty()) {
    std::fill(to.begin(), to.end(), std::byte{0});
  } else {
    for (std::size_t at = 0; at < to.size(); at += value.size())
      std::memcpy(to.data() + at, value.data(), value.size());
  }
}

// ---- in one piece ----
Tensor from_piece(const DataSet& set, std::span<const std::byte> piece, std::uint64_t at) {
  const TensorType type{set.type.dtype, shape_of(set)};
  const bool native = !set.type.big_endian || set.type.size == 1;
  const bool aligned = reinterpret_cast<std::uintptr_t>(piece.data()) % set.type.size == 0;
  if (native && aligned && set.file.owner() != nullptr && !piece.empty() && set.type.dtype != DType::Bool) {
    // Read-only memory: the buffer is not writable, so nothing writes through this pointer.
    return from_buffer(Buffer::wrap(const_cast<std::byte*>(piece.data()), piece.size(), set.file.owner()), type);
  }
  set.file.copy(piece.size(), at, set.what());
  Ref<Buffer> buffer = allocate(set);
  if (set.file.mapped()) {
    copy_from_mapping(piece, buffer->data());
  } else if (!piece.empty()) {
    std::memcpy(buffer->data(), piece.data(), piece.size());
  }
  return from_buffer(std::move(buffer), type);
}

Tensor never_written(const DataSet& set) {
  set.file.expand(set.bytes, set.header.address, set.what());
  Ref<Buffer> buffer = allocate(set);
  fill(set, {buffer->data(), static_cast<std::size_t>(set.bytes)});
  return from_buffer(std::move(buffer), {set.type.dtype, shape_of(set)});
}

// ---- in chunks ----
// Unpacks one chunk after the other with the same memory.
class Unpacker {
 public:
  Unpacker(const DataSet& set, std::vector<Filter> filters, const ChunkedLayout& layout)
      : set_(set), filters_(std::move(filters)), layout_(layout) {
    for (const Filter& filter : filters_)
      if (filter.id != kDeflate && filter.id != kShuffle && filter.id != kFletcher)
        set.file.unsupported(set.header.address, fmt::format("{} is packed by the filter {}", set.what(), filter.id),
                             "write it with compression='gzip'");
  }

  // The chunk's bytes: in the file, or in memory that is good until the next call.
  std::span<const std::byte> unpack(const Chunk& chunk) {
    std::span<const std::byte> bytes = set_.file.range(chunk.address, chunk.size, "a chunk");
    for (std::size_t i = filters_.size(); i-- > 0;) {
      if (i < 32 && (chunk.skipped >> i & 1U) != 0) continue;
      bytes = filters_[i].id == kDeflate   ? inflate_chunk(bytes, chunk)
              : filters_[i].id == kShuffle ? unshuffle(bytes)
                                           : without_checksum(bytes, chunk);
    }
    if (bytes.size() != layout_.bytes)
      set_.fail(chunk.address, "a chunk has another size than it should", fmt::format("{} bytes", layout_.bytes),
                fmt::format("{} bytes", bytes.size()));
    return bytes;
  }

 private:
  // Two blocks of memory in turns: a filter reads one and writes the other.
  std::span<std::byte> other(std::size_t size) {
    Bytes& memory = memory_[turn_ ^= 1U];
    if (memory.size() < size) memory.resize(size);
    return std::span(memory).first(size);
  }

  std::span<const std::byte> inflate_chunk(std::span<const std::byte> packed, const Chunk& chunk) {
    // A checksum may have been packed with the elements.
    const auto room = static_cast<std::size_t>(layout_.bytes + 4);
    if (layout_.bytes / static_cast<std::uint64_t>(data::kMaxDeflateRatio) > packed.size() + 64)
      set_.fail(chunk.address, "a chunk claims more bytes than its compressed data can hold",
                fmt::format("{} bytes", layout_.bytes), fmt::format("{} compressed bytes", packed.size()));
    set_.file.expand(layout_.bytes, chunk.address, set_.what());
    const std::span<std::byte> to = other(room);
    if (packed.size() > std::numeric_limits<uInt>::max() || room > std::numeric_limits<uInt>::max())
      set_.fail(chunk.address, "a chunk is larger than the format allows");
    uLongf made = room;
    const int code = uncompress(reinterpret_cast<Bytef*>(to.data()), &made,
                                reinterpret_cast<const Bytef*>(packed.data()), static_cast<uLong>(packed.size()));
    if (code == Z_BUF_ERROR) set_.fail(chunk.address, "a compressed chunk ends early or is longer than it should be");
    if (code != Z_OK) set_.fail(chunk.address, "a compressed chunk is damaged");
    return to.first(made);
  }

  // The first bytes of all elements come first, then the second bytes, ...
  std::span<const std::byte> unshuffle(std::span<const std::byte> bytes) {
    const auto size = static_cast<std::size_t>(set_.type.size);
    if (size < 2) return bytes;
    const std::size_t count = bytes.size() / size;
    const std::span<std::byte> to = other(bytes.size());
    for (std::size_t part = 0; part < size; ++part) {
      const std::byte* from = bytes.data() + part * count;
      for (std::size_t i = 0; i < count; ++i) to[i * size + part] = from[i];
    }
    const std::size_t rest = count * size;
    std::copy(bytes.begin() + static_cast<std::ptrdiff_t>(rest), bytes.end(),
              to.begin() + static_cast<std::ptrdiff_t>(rest));
    return to;
  }

  std::span<const std::byte> without_checksum(std::span<const std::byte> bytes, const Chunk& chunk) const {
    if (bytes.size() < 4) set_.fail(chunk.address, "a chunk is too short for its checksum");
    const auto content = bytes.first(bytes.size() - 4);
    std::uint32_t stored = 0;
    for (std::size_t i = 4; i-- > 0;) stored = stored << 8 | std::to_integer<std::uint32_t>(bytes[content.size() + i]);
    if (stored != fletcher32(content)) set_.fail(chunk.address, "a chunk is damaged: its checksum differs");
    return content;
  }

  const DataSet& set_;
  std::vector<Filter> filters_;
  const ChunkedLayout& layout_;
  Bytes memory_[2];
  unsigned turn_ = 0;
};

// Copies the part of a chunk that lies inside of the data set.
void place_chunk(const DataSet& set, const ChunkedLayout& layout, const Chunk& chunk, std::span<const std::byte> from,
                 std::byte* to) {
  const std::size_t rank = layout.extents.size();
  std::vector<std::uint64_t> inside(rank), index(rank, 0), to_strides(rank), from_strides(rank);
  std::uint64_t to_stride = set.type.size, from_stride = set.type.size;
  for (std::size_t axis = rank; axis-- > 0;) {
    const auto extent = static_cast<std::uint64_t>(set.space.extents[axis]);
    inside[axis] = std::min(layout.extents[axis], extent - chunk.at[axis]);
    to_strides[axis] = to_stride, from_strides[axis] = from_stride;
    to += chunk.at[axis] * to_stride;
    to_stride *= extent;
    from_stride *= layout.extents[axis];
  }
  const std::size_t row = static_cast<std::size_t>((rank == 0 ? 1 : inside[rank - 1]) * set.type.size);
  while (true) {
    std::uint64_t to_at = 0, from_at = 0;
    for (std::size_t axis = 0; axis + 1 < rank; ++axis)
      to_at += index[axis] * to_strides[axis], from_at += index[axis] * from_strides[axis];
    std::memcpy(to + to_at, from.data() + from_at, row);
    std::size_t axis = rank < 2 ? 0 : rank - 1;
    while (axis > 0 && ++index[axis - 1] == inside[axis - 1]) index[--axis] = 0;
    if (axis == 0) return;
  }
}

// Of a chunk; those at the edge reach beyond the data set.
std::uint64_t elements_inside(const DataSet& set, const ChunkedLayout& layout, const Chunk& chunk) {
  std::uint64_t count = 1;
  for (std::size_t axis = 0; axis < layout.extents.size(); ++axis)
    count *= std::min(layout.extents[axis], static_cast<std::uint64_t>(set.space.extents[axis]) - chunk.at[axis]);
  return count;
}

Tensor from_chunks(const DataSet& set, const Cursor& body, unsigned version) {
  const Message* pipeline = set.header.find(MessageType::Filters);
  std::vector<Filter> filters;
  if (pipeline != nullptr) filters = read_filters({pipeline->type, false, resolve(set.file, *pipeline)});
  const ChunkedLayout layout = read_chunks(set.file, body, version, set.space, !filters.empty());
  if (layout.element_size != set.type.size)
    set.fail(set.header.address, "the chunks have elements of another size", fmt::format("{} bytes", set.type.size),
             fmt::format("{} bytes", layout.element_size));
  std::uint64_t covered = 0;
  for (const Chunk& chunk : layout.chunks) {
    if (filters.empty() && chunk.size != layout.bytes)
      set.fail(chunk.address, "a chunk has another size than it should", fmt::format("{} bytes", layout.bytes),
               fmt::format("{} bytes", chunk.size));
    (void)set.file.range(chunk.address, chunk.size, "a chunk");
    set.file.work(chunk.size, chunk.address);
    covered += elements_inside(set, layout, chunk);
  }
  // What is never written is made, what is compressed may grow: both within what the file's size can justify.
  if (filters.empty() && covered == set.space.count) {
    set.file.copy(set.bytes, set.header.address, set.what());
  } else {
    set.file.expand(set.bytes, set.header.address, set.what());
  }
  Unpacker unpacker(set, filters, layout);
  Ref<Buffer> buffer = allocate(set);
  if (covered < set.space.count) fill(set, {buffer->data(), static_cast<std::size_t>(set.bytes)});
  for (const Chunk& chunk : layout.chunks) {
    place_chunk(set, layout, chunk, unpacker.unpack(chunk), buffer->data());
    set.file.release(chunk.address, chunk.size);
  }
  return from_buffer(std::move(buffer), {set.type.dtype, shape_of(set)});
}

// Of the layout's bytes as they are in the file.
Tensor from_layout(const DataSet& set, const Message& message) {
  Cursor body = resolve(set.file, message);
  const unsigned version = body.u8();
  const Cursor after_version = body;
  unsigned kind = body.u8();
  if (version == 1 || version == 2) {
    const unsigned rank = kind;
    kind = body.u8();
    body.skip(5);
    if (kind == kChunked) return from_chunks(set, after_version, version);
    const std::uint64_t address = kind == kContiguous ? body.offset() : 0;
    body.skip(4 * std::uint64_t{rank});
    if (kind == kContiguous) {
      if (!set.file.defined(address)) return never_written(set);
      return from_piece(set, set.file.range(address, set.bytes, set.what()), address);
    }
    if (kind == kCompact) (void)body.u32();
  } else if (version == 3 || version == 4) {
    if (kind == kChunked) return from_chunks(set, body, version);
    if (kind == kContiguous) {
      const std::uint64_t address = body.offset(), size = body.length();
      if (!set.file.defined(address)) return never_written(set);
      if (size != set.bytes)
        set.fail(address, "shape and stored bytes disagree", fmt::format("{} bytes", set.bytes),
                 fmt::format("{} bytes", size));
      return from_piece(set, set.file.range(address, set.bytes, set.what()), address);
    }
    if (kind == kCompact) (void)body.u16();
  } else {
    set.file.unsupported(body.address(), fmt::format("{} has a layout of the version {}", set.what(), version),
                         "write it with libver='earliest'");
  }
  if (kind == kCompact) {
    const std::uint64_t at = body.address();
    if (body.remaining() < set.bytes) set.fail(at, "a compact data set ends early");
    return from_piece(set, body.take(set.bytes), at);
  }
  if (kind == kVirtual)
    set.file.unsupported(body.address(), fmt::format("{} is put together from others (virtual)", set.what()),
                         "write the elements themselves");
  set.fail(body.address(), "unknown layout", "0 to 3", fmt::format("{}", kind));
}

}  // namespace

std::optional<Tensor> read_data_set(File& file, const ObjectHeader& header, const std::string& path) {
  const Message* layout = header.find(MessageType::Layout);
  const Message* type = header.find(MessageType::Datatype);
  const Message* space = header.find(MessageType::Dataspace);
  if (layout == nullptr || type == nullptr || space == nullptr) return std::nullopt;
  DataSet set{.file = file,
              .header = header,
              .path = path,
              .type = read_datatype(resolve(file, *type)),
              .space = read_dataspace(resolve(file, *space))};
  if (set.type.kind == Datatype::Kind::OddNumber)
    file.unsupported(header.address, fmt::format("{} has numbers of a form that tensors do not have", set.what()),
                     "convert it to float32 or int64");
  if (set.type.kind != Datatype::Kind::Number || set.space.null) return std::nullopt;
  if (header.find(MessageType::ExternalFiles) != nullptr)
    file.unsupported(header.address, fmt::format("{} lies in another file", set.what()));
  set.bytes = set.space.count * set.type.size;
  if (set.bytes == 0) return empty(shape_of(set), set.type.dtype);
  Tensor tensor = from_layout(set, *layout);
  const bool swap = set.type.big_endian && set.type.size > 1;
  if (!swap && set.type.dtype != DType::Bool) return tensor;
  // Both were copied, so the memory is ours.
  const std::span<std::byte> bytes(mutable_data(tensor), static_cast<std::size_t>(set.bytes));
  if (swap) data::swap_bytes(bytes, static_cast<std::size_t>(set.type.size));
  for (std::size_t i = 0; set.type.dtype == DType::Bool && i < bytes.size(); ++i)
    if (bytes[i] > std::byte{1}) set.fail(header.address, fmt::format("the truth value {} is neither 0 nor 1", i));
  return tensor;
}

}  // namespace tenon::formats::hdf5
