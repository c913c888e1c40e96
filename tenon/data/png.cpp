// PNG through libpng. libpng reports errors by longjmp: everything with a destructor therefore lives in
// PngReader, outside of the functions that setjmp, and those throw only after they have returned normally.
#include <fmt/format.h>
#include <png.h>

#include <csetjmp>
#include <cstring>

#include "tenon/base/error.h"
#include "tenon/data/byte_reader.h"
#include "tenon/data/gzip.h"
#include "tenon/data/image.h"
#include "tenon/data/image_channels.h"

namespace tenon::data {
namespace {

struct PngReader {
  png_structp png = nullptr;
  png_infop info = nullptr;
  std::span<const std::byte> bytes;
  std::size_t offset = 0;
  char message[128] = "";
  HostArray image;
  std::vector<png_bytep> rows;

  PngReader() = default;
  PngReader(const PngReader&) = delete;
  PngReader& operator=(const PngReader&) = delete;
  ~PngReader() { png_destroy_read_struct(&png, &info, nullptr); }
};

void on_error(png_structp png, png_const_charp text) {
  auto* reader = static_cast<PngReader*>(png_get_error_ptr(png));
  std::strncpy(reader->message, text, sizeof reader->message - 1);
  longjmp(png_jmpbuf(png), 1);  // NOLINT(cert-err52-cpp): libpng's interface
}

void on_warning(png_structp /*png*/, png_const_charp /*text*/) {}

void on_read(png_structp png, png_bytep to, png_size_t count) {
  auto* reader = static_cast<PngReader*>(png_get_io_ptr(png));
  if (count > reader->bytes.size() - reader->offset) png_error(png, "the file is truncated");
  std::memcpy(to, reader->bytes.data() + reader->offset, count);
  reader->offset += count;
}

// The three steps return false when libpng has jumped.
bool read_header(PngReader& reader) {
  if (setjmp(png_jmpbuf(reader.png))) return false;  // NOLINT(cert-err52-cpp)
  png_set_read_fn(reader.png, &reader, on_read);
  png_read_info(reader.png, reader.info);
  png_set_expand(reader.png);  // palette to RGB, small greys to 8 bits, tRNS to alpha
  png_set_scale_16(reader.png);
  (void)png_set_interlace_handling(reader.png);
  return true;
}

bool update_info(PngReader& reader) {
  if (setjmp(png_jmpbuf(reader.png))) return false;  // NOLINT(cert-err52-cpp)
  png_read_update_info(reader.png, reader.info);
  return true;
}

bool read_pixels(PngReader& reader) {
  if (setjmp(png_jmpbuf(reader.png))) return false;  // NOLINT(cert-err52-cpp)
  png_read_image(reader.png, reader.rows.data());
  png_read_end(reader.png, nullptr);  // a file without its end is truncated even if all rows came
  return true;
}

}  // namespace

HostArray decode_png(std::span<const std::byte> bytes, std::string_view where, const ImageOptions& options) {
  constexpr std::size_t kSignature = 8;
  const bool is_png =
      bytes.size() >= kSignature && png_sig_cmp(reinterpret_cast<png_const_bytep>(bytes.data()), 0, kSignature) == 0;
  if (!is_png)
    throw_format_error(where, 0, "not a PNG file: wrong signature", "89 50 4E 47 0D 0A 1A 0A", "other bytes");

  PngReader reader;
  reader.bytes = bytes;
  reader.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &reader, on_error, on_warning);
  reader.info = reader.png != nullptr ? png_create_info_struct(reader.png) : nullptr;
  if (reader.info == nullptr) throw InternalError("libpng does not start");
  const auto require = [&](bool done) {
    if (!done) throw_format_error(where, reader.offset, "damaged PNG file", "", reader.message, "save the image again");
  };
  png_set_user_limits(reader.png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);  // require_pixels has the tighter limit
  require(read_header(reader));
  const std::int64_t width = png_get_image_width(reader.png, reader.info);
  const std::int64_t height = png_get_image_height(reader.png, reader.info);
  require_pixels(where, width, height, options.limits);
  // Deflate's largest ratio bounds how many bytes of rows the file can hold: checked before they are allocated.
  const std::size_t stored = png_get_rowbytes(reader.png, reader.info) * static_cast<std::size_t>(height);
  if (stored / static_cast<std::size_t>(kMaxDeflateRatio) > bytes.size()) {
    throw_format_error(where, kSignature, "the file is too short for its size",
                       fmt::format("{} bytes of pixels", stored), fmt::format("a file of {} bytes", bytes.size()));
  }
  require(update_info(reader));
  const std::int64_t channels = png_get_channels(reader.png, reader.info);
  const std::size_t row_bytes = png_get_rowbytes(reader.png, reader.info);
  if (row_bytes != static_cast<std::size_t>(width * channels))
    throw InternalError("libpng's rows are not 8-bit samples");
  reader.image = {
      DType::U8, {height, width, channels}, std::vector<std::byte>(row_bytes * static_cast<std::size_t>(height))};
  for (std::int64_t y = 0; y < height; ++y) {
    reader.rows.push_back(
        reinterpret_cast<png_bytep>(reader.image.bytes.data() + static_cast<std::size_t>(y) * row_bytes));
  }
  require(read_pixels(reader));
  return convert_channels(std::move(reader.image), options.channels);
}

}  // namespace tenon::data
