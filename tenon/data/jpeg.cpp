// JPEG through libjpeg-turbo. Its error manager must not return: it jumps back into the decoding functions,
// whose locals have no destructors, and the exception is thrown outside. Warnings that mean lost pixels
// (a premature end, bad codes) are errors here.
#include <cstddef>
#include <cstdio>
// libjpeg's headers need the two above.
#include <fmt/format.h>
#include <jerror.h>
#include <jpeglib.h>

#include <algorithm>
#include <array>
#include <csetjmp>

#include "tenon/base/error.h"
#include "tenon/data/byte_reader.h"
#include "tenon/data/image.h"
#include "tenon/data/image_channels.h"

namespace tenon::data {
namespace {

struct JpegReader {
  jpeg_error_mgr errors{};
  jpeg_decompress_struct jpeg{};
  std::jmp_buf jump{};
  char message[JMSG_LENGTH_MAX] = "";
  std::size_t size = 0;
  HostArray image;

  JpegReader() = default;
  JpegReader(const JpegReader&) = delete;
  JpegReader& operator=(const JpegReader&) = delete;
  ~JpegReader() { jpeg_destroy_decompress(&jpeg); }

  [[nodiscard]] std::size_t offset() const {
    return jpeg.src != nullptr ? size - std::min(size, jpeg.src->bytes_in_buffer) : 0;
  }
};

JpegReader& reader_of(j_common_ptr common) { return *static_cast<JpegReader*>(common->client_data); }

void on_error(j_common_ptr common) {
  JpegReader& reader = reader_of(common);
  (*common->err->format_message)(common, reader.message);
  std::longjmp(reader.jump, 1);  // NOLINT(cert-err52-cpp): libjpeg's interface
}

void on_message(j_common_ptr common, int level) {
  constexpr std::array kLostPixels = {JWRN_JPEG_EOF,    JWRN_HIT_MARKER,     JWRN_HUFF_BAD_CODE,
                                      JWRN_MUST_RESYNC, JWRN_NOT_SEQUENTIAL, JWRN_BOGUS_PROGRESSION};
  if (level < 0 && std::ranges::find(kLostPixels, common->err->msg_code) != kLostPixels.end()) on_error(common);
}

void on_output(j_common_ptr /*common*/) {}

bool read_header(JpegReader& reader, std::span<const std::byte> bytes) {
  if (setjmp(reader.jump)) return false;  // NOLINT(cert-err52-cpp)
  jpeg_create_decompress(&reader.jpeg);
  jpeg_mem_src(&reader.jpeg, reinterpret_cast<const unsigned char*>(bytes.data()),
               static_cast<unsigned long>(bytes.size()));
  (void)jpeg_read_header(&reader.jpeg, TRUE);
  return true;
}

bool read_pixels(JpegReader& reader) {
  if (setjmp(reader.jump)) return false;  // NOLINT(cert-err52-cpp)
  (void)jpeg_start_decompress(&reader.jpeg);
  const std::size_t row_bytes =
      static_cast<std::size_t>(reader.jpeg.output_width) * static_cast<std::size_t>(reader.jpeg.output_components);
  while (reader.jpeg.output_scanline < reader.jpeg.output_height) {
    JSAMPROW row = reinterpret_cast<JSAMPROW>(reader.image.bytes.data() + reader.jpeg.output_scanline * row_bytes);
    (void)jpeg_read_scanlines(&reader.jpeg, &row, 1);
  }
  (void)jpeg_finish_decompress(&reader.jpeg);
  return true;
}

}  // namespace

HostArray decode_jpeg(std::span<const std::byte> bytes, std::string_view where, const ImageOptions& options) {
  if (bytes.size() < 3 || bytes[0] != std::byte{0xff} || bytes[1] != std::byte{0xd8}) {
    throw_format_error(where, 0, "not a JPEG file: wrong magic number", "FF D8", "other bytes");
  }
  JpegReader reader;
  reader.size = bytes.size();
  reader.jpeg.err = jpeg_std_error(&reader.errors);
  reader.jpeg.client_data = &reader;
  reader.errors.error_exit = on_error;
  reader.errors.emit_message = on_message;
  reader.errors.output_message = on_output;
  const auto require = [&](bool done) {
    if (!done)
      throw_format_error(where, reader.offset(), "damaged JPEG file", "", reader.message, "save the image again");
  };
  require(read_header(reader, bytes));
  const std::int64_t width = reader.jpeg.image_width;
  const std::int64_t height = reader.jpeg.image_height;
  require_pixels(where, width, height, options.limits);
  const bool grey = reader.jpeg.jpeg_color_space == JCS_GRAYSCALE;
  if (reader.jpeg.jpeg_color_space == JCS_CMYK || reader.jpeg.jpeg_color_space == JCS_YCCK) {
    throw UnsupportedError({std::string(where), "CMYK images cannot be decoded", "a grey or colour (YCbCr, RGB) JPEG",
                            fmt::format("{} components", reader.jpeg.num_components), "convert it to RGB"});
  }
  reader.jpeg.out_color_space = grey ? JCS_GRAYSCALE : JCS_RGB;
  // Integer and without shortcuts: the same pixels on every machine.
  reader.jpeg.dct_method = JDCT_ISLOW;
  const std::int64_t channels = grey ? 1 : 3;
  reader.image = {DType::U8,
                  {height, width, channels},
                  std::vector<std::byte>(static_cast<std::size_t>(width * height * channels))};
  require(read_pixels(reader));
  return convert_channels(std::move(reader.image), options.channels);
}

}  // namespace tenon::data
