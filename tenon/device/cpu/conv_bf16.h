// Convolution of bf16 in blocks, as a product: places by what their windows see, times what the windows see by filters.
//
// Where channels fill whole steps, tile registers load what 32 places see straight from the input with its padding
// (PlacedImages): neighbouring places are neighbours in memory, for every tap; or, without tiles, products read it
// where it lies (ImagePlaces), and of images of few channels what lines of windows see is gathered once for all
// windows (LineRuns). Else what the windows of 32 places see is gathered into the order of the tiles when it is
// needed and stays in the cache; it exists nowhere else. The input is read with its channels side by side, any other
// layout is copied so first. The result is written so. Each element is one sum over (window, channel) in f32, plus
// the bias, rounded once; which way it goes does not show.
#pragma once

#include <span>

#include "tenon/base/thread_pool.h"
#include "tenon/device/cpu/conv_plan.h"
#include "tenon/device/cpu/product_bf16.h"
#include "tenon/tensor/buffer.h"
#include "tenon/tensor/view.h"

namespace tenon::cpu {

class Bf16Conv {
 public:
  // Whether this is for such convolutions: one group, and channels.
  static bool takes(const ConvShape& shape) { return shape.groups == 1 && shape.channels > 0; }
  explicit Bf16Conv(const ConvShape& shape);
  // weight [filters, channels, window…], row-major, in the order in which tiles read it.
  Ref<Buffer> pack(const uint16_t* weight, ThreadPool& pool) const;
  // The same from weights that lie in another way.
  Ref<Buffer> pack(const uint16_t* weight, const WeightSteps& steps, ThreadPool& pool) const;
  // x [n, channels, in…] and y [n, filters, out…] with any strides; operands of `after` broadcast to y's shape. Extents
  // of n may differ from the shape's. `bias` [filters] and `after` may be null; y is of the dtype of what comes out.
  void run(const ConstView& x, const Ref<Buffer>& packed, const float* bias, const Bf16After* after,
           std::span<const ConstView> operands, const View& y, ThreadPool& pool) const;

 private:
  [[nodiscard]] bool plain() const;  // every place sees one pixel, its own
  void run_rows(const ConstView& x, Bf16Product p, const Bf16Follow* follow, ThreadPool& pool) const;
  ConvShape s_;           // the spatial axes moved to the end
  int64_t taps_ = 0;      // of a run: a row of the window if its taps lie next to each other, else one
  int64_t run_size_ = 0;  // elements of a run
  int64_t depth_ = 0;     // packed elements of a window: runs filled up to whole steps
};

}  // namespace tenon::cpu
