// Layers that change the extents of feature maps without weights. The maths is in ops/interpolate.h and ops/patches.h.
#pragma once

#include "tenon/nn/members.h"
#include "tenon/ops/interpolate.h"
#include "tenon/ops/patches.h"

namespace tenon::nn {

// [N, C, spatial...] -> [N, C, size...]: give `size`, or `scale` by which the extents are multiplied.
//   nn::Upsample{.scale = {2}, .mode = InterpolateMode::Linear}
struct Upsample {
  Ints size = {};
  std::vector<double> scale = {};
  InterpolateMode mode = InterpolateMode::Nearest;
  bool align_corners = false;
  bool antialias = false;
  Tensor operator()(const Tensor& x) const {
    return interpolate(
        x, {.size = size, .scale = scale, .mode = mode, .align_corners = align_corners, .antialias = antialias});
  }
  using Members = nn::Members<>;
};

// [..., C * factor * factor, H, W] -> [..., C, H * factor, W * factor], and back.
struct PixelShuffle {
  int64_t factor = 2;
  Tensor operator()(const Tensor& x) const { return pixel_shuffle(x, factor); }
};
struct PixelUnshuffle {
  int64_t factor = 2;
  Tensor operator()(const Tensor& x) const { return pixel_unshuffle(x, factor); }
};
// Channels dealt out among groups, between two grouped convolutions.
struct ChannelShuffle {
  int64_t groups = 2;
  Tensor operator()(const Tensor& x) const { return channel_shuffle(x, groups); }
};

// Windows as columns: [N, C, spatial...] -> [N, C * elements of the window, windows].
struct Unfold {
  Ints window{2, 2};
  Ints stride{1};
  Ints padding{0};
  Ints dilation{1};
  Tensor operator()(const Tensor& x) const {
    return unfold(x, window, {.stride = stride, .padding = padding, .dilation = dilation});
  }
};
// Columns added up into a map: [N, C * elements of the window, windows] -> [N, C, extents...].
struct Fold {
  Ints extents;
  Ints window{2, 2};
  Ints stride{1};
  Ints padding{0};
  Ints dilation{1};
  Tensor operator()(const Tensor& x) const {
    return fold(x, extents, window, {.stride = stride, .padding = padding, .dilation = dilation});
  }
};

}  // namespace tenon::nn
