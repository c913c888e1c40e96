#include "tenon/data/image.h"

#include <fmt/format.h>

#include <array>
#include <cstring>

#include "tenon/base/error.h"
#include "tenon/base/file.h"
#include "tenon/data/byte_reader.h"
#include "tenon/data/image_channels.h"

namespace tenon::data {

void require_pixels(std::string_view where, std::int64_t width, std::int64_t height, const ReadLimits& limits) {
  if (width > 0 && height > 0 && height <= limits.max_pixels / width) return;
  throw FormatError({std::string(where), "the image's size is not accepted",
                     fmt::format("1 to {} pixels", limits.max_pixels), fmt::format("{} x {}", width, height),
                     "raise ReadLimits::max_pixels"});
}

HostArray convert_channels(HostArray image, int channels) {
  const auto from = static_cast<std::size_t>(image.shape[2]);
  const auto to = static_cast<std::size_t>(channels);
  if (channels == 0 || from == to) return image;
  if (channels != 1 && channels != 3 && channels != 4) {
    throw ValueError({"ImageOptions", "channels is not accepted", "0, 1, 3 or 4", std::to_string(channels), ""});
  }
  const std::size_t pixels = image.bytes.size() / from;
  HostArray result{DType::U8, {image.shape[0], image.shape[1], channels}, std::vector<std::byte>(pixels * to)};
  for (std::size_t i = 0; i < pixels; ++i) {
    const std::byte* in = image.bytes.data() + i * from;
    std::byte* out = result.bytes.data() + i * to;
    const bool colour = from >= 3;
    const std::byte alpha = from == 2 ? in[1] : from == 4 ? in[3] : std::byte{255};
    if (to == 1) {
      const auto at = [&](std::size_t c) { return std::to_integer<std::uint32_t>(in[c]); };
      // Luma in 16-bit fixed point, rounded: the weights add up to 65536.
      const std::uint32_t luma =
          (19595 * at(0) + (colour ? 38470 * at(1) + 7471 * at(2) : 45941 * at(0)) + 32768) >> 16;
      out[0] = static_cast<std::byte>(luma);
    } else {
      for (std::size_t c = 0; c < 3; ++c) out[c] = in[colour ? c : 0];
      if (to == 4) out[3] = alpha;
    }
  }
  return result;
}

HostArray decode_image(std::span<const std::byte> bytes, std::string_view where, const ImageOptions& options) {
  constexpr std::array<unsigned char, 4> kPng = {0x89, 'P', 'N', 'G'};
  constexpr std::array<unsigned char, 3> kJpeg = {0xff, 0xd8, 0xff};
  const auto starts_with = [&](const auto& magic) {
    return bytes.size() >= magic.size() && std::memcmp(bytes.data(), magic.data(), magic.size()) == 0;
  };
  if (starts_with(kPng)) return decode_png(bytes, where, options);
  if (starts_with(kJpeg)) return decode_jpeg(bytes, where, options);
  std::string got = bytes.empty() ? "an empty file" : "";
  for (std::size_t i = 0; i < std::min<std::size_t>(bytes.size(), 4); ++i) {
    got += fmt::format("{}{:02X}", i == 0 ? "" : " ", std::to_integer<unsigned>(bytes[i]));
  }
  throw_format_error(where, 0, "not an image that can be read", "a PNG (89 50 4E 47) or JPEG (FF D8 FF) file", got,
                     "convert it to PNG");
}

HostArray read_image(const std::filesystem::path& path, const ImageOptions& options) {
  const MappedFile file(path);
  return decode_image(file.bytes(), file.path(), options);
}

}  // namespace tenon::data
