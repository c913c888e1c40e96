// Images: PNG and JPEG files to u8 arrays [height, width, channels].
//
// Channels are as in the file (1 grey, 2 grey+alpha, 3 RGB, 4 RGBA) unless asked for otherwise. Palettes and
// 1-, 2- and 4-bit greys are expanded, 16-bit samples are scaled to 8 (rounded), nothing is colour-managed
// and a JPEG's orientation tag is not applied. A damaged or truncated file is an error, never half an image.
#pragma once

#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>

#include "tenon/data/host_array.h"

namespace tenon::data {

struct ImageOptions {
  int channels =
      0;  // 0: as in the file; 1, 3 or 4 converts (grey by ITU-R 601 luma; alpha is dropped, or added opaque)
  ReadLimits limits = {};
};

// Errors: FormatError naming `where`; UnsupportedError for CMYK JPEGs.
HostArray decode_png(std::span<const std::byte> bytes, std::string_view where, const ImageOptions& options = {});
HostArray decode_jpeg(std::span<const std::byte> bytes, std::string_view where, const ImageOptions& options = {});

// Either, told apart by its first bytes.
HostArray decode_image(std::span<const std::byte> bytes, std::string_view where, const ImageOptions& options = {});
HostArray read_image(const std::filesystem::path& path, const ImageOptions& options = {});

}  // namespace tenon::data
