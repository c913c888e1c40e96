// Convolution of 8-bit integers, added up in i32 modulo 2^32 (level_i8.h): for each image and group the product of the
// weights, filters by what a window sees, and of what the windows see, by places.
//
// An image is laid out once in units of neighbouring channels, four bytes of each pixel, with its padding. A panel of
// places is gathered from it into the order in which blocks of sums read it, units at a time, when it is needed, and
// stays in the cache. A window of one pixel needs no such image. The padding holds the zero point of x, and the sums of
// each filter's weights, kept beside them, take it off again. Zero points of weights need the sum of each window: one
// more block, with weights of 1. Filters that see few numbers (depthwise) go tap by tap along the rows of the result,
// over channels with their padding whose columns lie phase by phase where places are more than one apart. Sums of
// integers have no order: all ways and all loops give the same bits.
#pragma once

#include <span>
#include <vector>

#include "tenon/base/thread_pool.h"
#include "tenon/device/cpu/conv.h"
#include "tenon/device/cpu/i8_finish.h"
#include "tenon/device/cpu/level_i8.h"
#include "tenon/tensor/buffer.h"

namespace tenon::cpu {

class I8Conv {
 public:
  I8Conv(const ConvShape& shape, bool x_signed, bool weight_signed, const I8Loops& loops);
  // weight [filters, channels / groups, window…], row-major, as `run` takes it: the same for x with or without a sign.
  [[nodiscard]] Ref<Buffer> pack(const uint8_t* weight) const;
  // What the order depends on besides the weight.
  [[nodiscard]] std::vector<int64_t> packing() const { return {s_.groups, weight_signed_, direct_}; }
  // x [n, channels, in…] and y [n, filters, out…], row-major; n may differ from the shape's. `weight_zeros` has no
  // number, one, or one for each filter. With `follow`, of n images of filters by places, y is not written.
  struct Call {
    int64_t n;
    const uint8_t* x;
    int32_t x_zero;
    const std::byte* packed;
    std::span<const int32_t> weight_zeros;
    int32_t* y;
    const I8Follow* follow = nullptr;
  };
  void run(const Call& call, ThreadPool& pool) const;

 private:
  // Of one image and group: where it is, and what blocks of sums of it are made of.
  struct Piece {
    const uint8_t* x;
    const uint32_t* image;  // null: x itself
    const std::byte* left;
    const std::byte* ones;  // null: weights have no zero points
    const uint32_t* less;   // of each filter
    const int32_t* zeros;
    uint32_t all_zeros;  // what zero points of both sides have in common, for a weight's zero point of 1
    int32_t* y;          // or
    const I8Follow* follow;
    int64_t n, filter;  // the image, and the group's first filter
  };
  // What all pieces of a call share.
  struct Shared {
    std::vector<uint32_t> less;
    std::vector<int32_t> zeros;
    std::vector<std::byte> ones;
    uint32_t all_zeros = 0;
  };
  [[nodiscard]] Shared shared(const Call& call) const;
  [[nodiscard]] Piece piece(const Call& call, const Shared& shared, int64_t i, const uint32_t* laid) const;
  [[nodiscard]] int64_t filters() const { return s_.filters / s_.groups; }
  [[nodiscard]] int64_t channels() const { return s_.channels / s_.groups; }
  [[nodiscard]] int64_t left_bytes() const;  // of a block of filters
  [[nodiscard]] int64_t blocks() const;      // of filters in a group
  // One line of weights for each filter, in the order of the units, then as a left side.
  void pack_filters(const uint8_t* weight, int64_t count, std::byte* to) const;
  void lay_out(const uint8_t* x, uint8_t zero, int64_t channel_unit, uint32_t* to) const;
  void gather(const Piece& piece, int64_t first, int64_t count, std::byte* to) const;
  void sums(const Piece& piece, int64_t panel_begin, int64_t panel_end, int64_t block_begin, int64_t block_end) const;
  // A block from `sums` to `to`, without what zero points are to blame for.
  void write(const Piece& piece, const int32_t* sums, int64_t filter, int64_t place, const int32_t* windows,
             int32_t* to, int64_t row) const;
  void run_tiles(const Call& call, ThreadPool& pool) const;
  void run_direct(const Call& call, ThreadPool& pool) const;
  void lay_phases(const uint8_t* x, uint8_t zero, std::byte* to) const;
  void group_rows(const Call& call, int64_t piece, int64_t row_begin, int64_t row_end, std::byte* image) const;
  void run_taps(const Call& call, ThreadPool& pool) const;
  void direct_row(const Call& call, int64_t n, int64_t filter, int64_t row, int32_t* y) const;
  void direct_rows(const Call& call, int64_t begin, int64_t end) const;

  ConvShape s_;  // the spatial axes moved to the end
  bool x_signed_, weight_signed_;
  const I8Loops& loops_;
  bool flips_;                        // the packed x has its highest bits turned over
  bool plain_, direct_;               // every place sees one pixel, its own; tap by tap
  bool whole_rows_ = false;           // … from an image with its padding
  ConvShape::Extents laid_{1, 1, 1};  // of an image with its padding, as far as taps reach
  int64_t taps_ = 0, places_ = 0, unit_ = 0, depth_ = 0, steps_ = 0;
  std::vector<int64_t> offsets_;  // of units in the image, from a place's own
};

}  // namespace tenon::cpu
