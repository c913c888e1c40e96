// Convolutions in f32 with a window of 3 x 3 and steps of one by F(2 x 2, 3 x 3): 16 products for each pair of channel
// and filter where 2 x 2 places of the result would take 36 (Winograd 1980; Lavin and Gray 2015, arXiv:1509.09308,
// section 4.1). y = A' ((G g G') * (B' d B)) A, where d are the 4 x 4 places that a tile of 2 x 2 results sees.
//
// The sixteen products are products of matrices on the tiles of level_tile.h: each element one chain of fused
// multiply-adds over channels; transforms are sums of two numbers in a fixed order (level_winograd.h). So, as with
// direct_conv.h, bits depend on no layout, block, thread or batch: which convolutions go this way is a rule over
// extents and channels alone. Sums are shorter by the window, which makes up for the transforms: the tests ask that the
// worst error is at most 1.5 times the plain sum's. An infinity or NaN reaches all four places of each tile that sees
// it. Larger tiles would save more, but lose digits.
#pragma once

#include <vector>

#include "tenon/base/thread_pool.h"
#include "tenon/device/cpu/conv_finish.h"
#include "tenon/device/cpu/conv_plan.h"
#include "tenon/tensor/buffer.h"

namespace tenon::cpu {

// Shapes here have their spatial axes at the end (moved_to_the_end).
bool winograd_takes(const ConvShape& s);

constexpr int64_t kWinogradPositions = 16;  // of a transformed tile

// The tiles of 2 x 2 places of a result. Images are examples, or planes of them where there are three axes.
struct WinogradTiles {
  int64_t images = 0, rows = 0, columns = 0;

  WinogradTiles(const ConvShape& s, int64_t examples);
  [[nodiscard]] int64_t count() const { return images * rows * columns; }
};

// Where the 4 x 4 places of the input that a tile sees lie, or its 2 x 2 of the result; those outside are `zeros`.
class WinogradPlaces {
 public:
  WinogradPlaces(const ConvShape& s, const PlaceStrides& strides, const float* zeros);
  void input(const float* x, int64_t image, int64_t row, int64_t column, const float* (&at)[kWinogradPositions]) const;
  void result(const float* y, int64_t image, int64_t row, int64_t column, const float* (&at)[4]) const;

 private:
  [[nodiscard]] int64_t image_offset(int64_t image) const;
  const ConvShape& s_;
  PlaceStrides strides_;
  const float* zeros_;
};

class WinogradConv {
 public:
  WinogradConv(const ConvShape& s, const LevelTable& level);
  // [16, panel of filters, channel, column]
  [[nodiscard]] Ref<Buffer> pack(const float* weight, const WeightSteps& steps) const;
  [[nodiscard]] int64_t columns() const { return panels_.columns; }
  // So many examples make blocks that use the weights well.
  [[nodiscard]] int64_t examples_together(int64_t examples, int threads) const;
  // x has its channels side by side.
  void run(const float* x, const PlaceStrides& strides, const float* weights, const ConvResult& result,
           int64_t examples, const ConvProgram& after, ThreadPool& pool) const;

 private:
  struct Job;
  struct Block;
  void transform(const Job& job, const Block& block, int64_t first, int64_t end) const;
  void multiply(const Job& job, const Block& block, int64_t first, int64_t end) const;
  void finish(const Job& job, const Block& block, int64_t first, int64_t end) const;
  [[nodiscard]] int64_t tiles_of_block() const;

  ConvShape s_;
  const TileLoops& loops_;
  const WinogradLoops& transforms_;
  Panels panels_;
  int64_t channel_stride_ = 0;  // of transformed inputs
  std::vector<float> zeros_;
};

// dw of the same convolutions: G' (sum over tiles of (B' d B)' (A dy A')) G, each sum one chain over the tiles of up
// to eight parts of the batch, which are added up in order.
bool winograd_takes_weight_gradient(const ConvShape& s);
void winograd_weight_gradient(const ConvShape& s, const ConstView& x, const ConstView& dy, float* dw,
                              const LevelTable& level, ThreadPool& pool);

}  // namespace tenon::cpu
