// The left side of a convolution of bf16 that lies in its images: where rows of a block may lie anywhere
// (bf16_blocks::rows_anywhere), a tap of a place is read where the image has it, and products leave out what lies
// outside of the image. Nothing is copied, and there are no zeros.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

#include "tenon/device/cpu/conv.h"
#include "tenon/device/cpu/product_bf16.h"

namespace tenon::cpu {

// Rows of a block, so that whole groups of them lie in one line of places, if they can.
int64_t rows_of_lines(int64_t line);
// The steps of a window, `all` in the order of its taps, whose lines are inside of the image for the i-th place.
bf16_blocks::StepRange steps_inside(const ConvShape& s, int64_t all, int64_t i);

class ImagePlaces final : public Bf16Rows {
 public:
  // Whether channels fill steps, each place sees one plane of the image, groups lie in one line each, and of none more
  // than one place has a tap beside it.
  static bool takes(const ConvShape& s);
  // The shape's spatial axes stand at the end. x: examples, depth, height and width are `step` elements apart, channels
  // are neighbours. Of a step's elements only so many pairs count.
  ImagePlaces(const ConvShape& s, int64_t images, const uint16_t* x, const std::array<int64_t, 4>& step,
              int64_t pairs = bf16_blocks::kDepth / 2);
  // The row of the result that the first place is.
  void result_from(int64_t row) { row_ = row; }
  [[nodiscard]] int64_t blocks() const override;
  [[nodiscard]] int64_t block_bytes() const override;
  [[nodiscard]] int64_t room() const override;
  bf16_blocks::Left block(int64_t i, uint16_t* room) const override;
  int runs(int64_t i, std::span<Bf16Run, bf16_blocks::kSide> to) const override;

 private:
  [[nodiscard]] int64_t rows_of(int64_t i) const;
  // Where places from `first` on begin, from x.
  void places_of(int64_t first, std::span<int64_t> to) const;

  ConvShape s_;
  int64_t places_, rows_;  // of all images; of a block
  const uint16_t* x_;
  std::array<int64_t, 4> step_;
  int64_t pairs_, row_ = 0;
  std::vector<int64_t> steps_;
  // For each group of a line what its steps leave out; empty: nothing.
  std::vector<std::vector<bf16_blocks::Omit>> omits_;
};

}  // namespace tenon::cpu
