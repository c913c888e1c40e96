// What both image decoders share.
#pragma once

#include <cstdint>
#include <string_view>

#include "tenon/data/host_array.h"

namespace tenon::data {

// Errors: FormatError for an empty image or one above limits.max_pixels.
void require_pixels(std::string_view where, std::int64_t width, std::int64_t height, const ReadLimits& limits);

// A u8 image [height, width, any] with `channels` channels (0: unchanged); see ImageOptions.
HostArray convert_channels(HostArray image, int channels);

}  // namespace tenon::data
