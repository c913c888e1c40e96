#include "tenon/data/gzip.h"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <limits>
#include <string>

#include "tenon/base/error.h"
#include "tenon/data/byte_reader.h"

namespace tenon::data {
namespace {

constexpr int kGzipWindow = 15 + 16;  // the largest window; 16 asks zlib for the gzip wrapper with its checksum

uInt chunk(std::size_t size) {
  return static_cast<uInt>(std::min<std::size_t>(size, std::numeric_limits<uInt>::max()));
}

}  // namespace

bool is_gzip(std::span<const std::byte> bytes) {
  return bytes.size() >= 2 && bytes[0] == std::byte{0x1f} && bytes[1] == std::byte{0x8b};
}

struct GzipReader::State {
  std::span<const std::byte> bytes;
  std::string where;
  z_stream stream{};
  std::size_t offset = 0;  // of the next input byte
  bool finished = false;
};

GzipReader::GzipReader(std::span<const std::byte> bytes, std::string_view where) : state_(std::make_unique<State>()) {
  state_->bytes = bytes;
  state_->where = where;
  if (inflateInit2(&state_->stream, kGzipWindow) != Z_OK) throw InternalError("zlib does not start");
}

GzipReader::~GzipReader() { inflateEnd(&state_->stream); }

std::size_t GzipReader::read(std::span<std::byte> out) {
  State& state = *state_;
  z_stream& stream = state.stream;
  std::size_t filled = 0;
  while (!state.finished && filled < out.size()) {
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(state.bytes.data() + state.offset));
    const uInt input = stream.avail_in = chunk(state.bytes.size() - state.offset);
    stream.next_out = reinterpret_cast<Bytef*>(out.data() + filled);
    const uInt room = stream.avail_out = chunk(out.size() - filled);
    const int code = inflate(&stream, Z_NO_FLUSH);
    state.offset += input - stream.avail_in;
    filled += room - stream.avail_out;
    if (code == Z_STREAM_END) {
      state.finished = !is_gzip(state.bytes.subspan(state.offset));
      if (state.finished && state.offset != state.bytes.size()) {
        throw_format_error(state.where, state.offset, "bytes follow the gzip stream", "the end of the file",
                           fmt::format("{} more bytes", state.bytes.size() - state.offset));
      }
      if (!state.finished) inflateReset(&stream);
    } else if (code == Z_BUF_ERROR || (code == Z_OK && state.offset == state.bytes.size() && stream.avail_out != 0)) {
      throw_format_error(state.where, state.offset, "the gzip stream is truncated", "more compressed data",
                         "the end of the file", "copy or download the file again");
    } else if (code != Z_OK) {
      throw_format_error(state.where, state.offset, "the gzip stream is damaged", "",
                         stream.msg != nullptr ? stream.msg : fmt::format("zlib code {}", code),
                         "copy or download the file again");
    }
  }
  return filled;
}

std::vector<std::byte> gunzip(std::span<const std::byte> bytes, std::string_view where, std::int64_t max_bytes) {
  GzipReader reader(bytes, where);
  const auto limit = static_cast<std::size_t>(max_bytes);
  std::vector<std::byte> content(std::min(bytes.size() * 4 + 64, limit) + 1);
  std::size_t used = 0;
  while (true) {
    used += reader.read(std::span(content).subspan(used));
    if (used > limit) {
      throw FormatError({std::string(where), "the decompressed content is too large",
                         fmt::format("at most {} bytes", limit), "more", "raise ReadLimits::max_bytes"});
    }
    if (used < content.size()) break;
    content.resize(std::min(content.size() * 2, limit + 1));
  }
  content.resize(used);
  return content;
}

std::vector<std::byte> gzip(std::span<const std::byte> content, int level) {
  z_stream stream{};
  if (deflateInit2(&stream, level, Z_DEFLATED, kGzipWindow, 8, Z_DEFAULT_STRATEGY) != Z_OK) {
    throw ValueError({"gzip", "zlib does not take this level", "-1 to 9", std::to_string(level), ""});
  }
  std::vector<std::byte> out(deflateBound(&stream, static_cast<uLong>(content.size())) + 64);
  std::size_t read = 0;
  std::size_t written = 0;
  int code = Z_OK;
  while (code != Z_STREAM_END) {
    stream.next_in = reinterpret_cast<Bytef*>(const_cast<std::byte*>(content.data() + read));
    const uInt input = stream.avail_in = chunk(content.size() - read);
    stream.next_out = reinterpret_cast<Bytef*>(out.data() + written);
    const uInt room = stream.avail_out = chunk(out.size() - written);
    code = deflate(&stream, read + input == content.size() ? Z_FINISH : Z_NO_FLUSH);
    read += input - stream.avail_in;
    written += room - stream.avail_out;
  }
  deflateEnd(&stream);
  out.resize(written);
  return out;
}

}  // namespace tenon::data
