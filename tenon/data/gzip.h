// gzip: decompression with a known goal, so that a small file cannot ask for more than it holds.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

namespace tenon::data {

// True for bytes that open as a gzip file does.
bool is_gzip(std::span<const std::byte> bytes);

// Deflate cannot expand a byte to more than this many; a header that promises more is false.
inline constexpr std::int64_t kMaxDeflateRatio = 1032;

// Reads the content of a gzip file (concatenated members included) from front to back.
class GzipReader {
 public:
  // The bytes must outlive the reader. `where` names the file in errors.
  GzipReader(std::span<const std::byte> bytes, std::string_view where);
  ~GzipReader();
  GzipReader(const GzipReader&) = delete;
  GzipReader& operator=(const GzipReader&) = delete;

  // Fills `out` as far as content is left; returns the number of bytes. Checks each member's checksum.
  // Errors: FormatError for a damaged or truncated stream.
  std::size_t read(std::span<std::byte> out);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// The whole content. Errors: FormatError, also when it exceeds max_bytes.
std::vector<std::byte> gunzip(std::span<const std::byte> bytes, std::string_view where, std::int64_t max_bytes);

// A gzip file with this content.
std::vector<std::byte> gzip(std::span<const std::byte> content, int level = 6);

}  // namespace tenon::data
