// Images of bf16 with the zeros around them that windows see, side by side, in which each tap of the places of a line
// is a line too: for steps above one, planes of the elements whose coordinates leave the same remainders. A place is
// known by where its first tap lies; between the places of two images, and at the end of a line, there are some that
// are none.
#pragma once

#include <array>
#include <cstdint>
#include <vector>

#include "tenon/base/thread_pool.h"
#include "tenon/device/cpu/conv.h"
#include "tenon/device/cpu/product_bf16.h"

namespace tenon::cpu {

class PlacedImages final : public Bf16Rows {
 public:
  // The shape's spatial axes stand at the end; `images` of its examples.
  PlacedImages(const ConvShape& s, int64_t images);
  // Whether tiles can be loaded from it, and places that are none cost less than gathering.
  [[nodiscard]] bool worthwhile() const;
  // Elements of all images, and some behind them that the last block reads and forgets.
  [[nodiscard]] int64_t size() const;
  // x: the first of these images; examples, depth, height and width are `step` elements apart, channels are neighbours.
  void place(const uint16_t* x, const std::array<int64_t, 4>& step, uint16_t* to, ThreadPool& pool);
  // The row of the result that the first place is.
  void result_from(int64_t row) { row_ = row; }
  // Places, with those that are none.
  [[nodiscard]] int64_t places() const;
  // Where the i-th row of the result lies, of these images, from the first place, in pixels.
  [[nodiscard]] int64_t place_of(int64_t i) const;
  // Where a tap lies, from the place, in pixels.
  [[nodiscard]] int64_t tap(const ConvShape::Extents& window) const;

  [[nodiscard]] int64_t blocks() const override;
  [[nodiscard]] int64_t block_bytes() const override;
  [[nodiscard]] int64_t room() const override { return 0; }
  bf16_blocks::Left block(int64_t i, uint16_t* room) const override;
  int runs(int64_t i, std::span<Bf16Run, bf16_blocks::kSide> to) const override;

 private:
  [[nodiscard]] int64_t planes() const;
  [[nodiscard]] int64_t plane() const { return extent_[0] * extent_[1] * line_; }
  // The element of the input at this place of an axis; outside of it there are zeros.
  [[nodiscard]] int64_t element(size_t axis, int64_t remainder, int64_t at) const {
    return remainder + at * s_.stride[axis] - s_.low[axis];
  }
  [[nodiscard]] bool inside(size_t axis, int64_t e) const { return e >= 0 && e < s_.in[axis]; }
  // Whether images `pitch_` apart have only zeros in common.
  [[nodiscard]] bool zeros_between() const;
  void place_line(const uint16_t* x, const std::array<int64_t, 4>& step, int64_t l, uint16_t* to) const;

  ConvShape s_;
  int64_t images_, pitch_ = 0, line_ = 0;
  ConvShape::Extents extent_{0, 0, 0};
  std::array<std::vector<int64_t>, 3> remainders_;
  std::vector<int64_t> steps_;
  const uint16_t* images_at_ = nullptr;
  int64_t row_ = 0;

  friend class WantedPlaces;
};

// The same without places that are none, where rows of a block may lie anywhere (bf16_blocks::rows_anywhere). Nor are
// there products with lines that are outside of the image for all of a group of rows. For what ImagePlaces does not
// take.
class WantedPlaces final : public Bf16Rows {
 public:
  explicit WantedPlaces(const PlacedImages& images);
  [[nodiscard]] int64_t blocks() const override;
  [[nodiscard]] int64_t block_bytes() const override { return images_.block_bytes(); }
  [[nodiscard]] int64_t room() const override;
  bf16_blocks::Left block(int64_t i, uint16_t* room) const override;
  int runs(int64_t i, std::span<Bf16Run, bf16_blocks::kSide> to) const override;

 private:
  [[nodiscard]] int64_t rows_of(int64_t i) const;
  const PlacedImages& images_;
  int64_t rows_;  // of a block: whole groups lie in one line of an image, if they can
};

}  // namespace tenon::cpu
