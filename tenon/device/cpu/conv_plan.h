// The geometry of a convolution, said once for the product itself and for both gradients: how inputs are laid out for
// tiles, where the taps of a place lie, and which convolutions the gradient of the input consists of.
#pragma once

#include <array>
#include <span>
#include <vector>

#include "tenon/base/thread_pool.h"
#include "tenon/device/cpu/conv.h"
#include "tenon/device/cpu/level.h"

namespace tenon::cpu {

// Shapes here have their spatial axes at the end (moved_to_the_end): columns are axis 2.

// a / b, rounded down; b is positive.
constexpr int64_t floor_of(int64_t a, int64_t b) { return a >= 0 ? a / b : -((b - 1 - a) / b); }

// Strides of a tensor [n, channels, spatial…].
struct PlaceStrides {
  std::array<int64_t, 4> place{};  // n, depth, rows, columns; 0 where there is no such axis
  int64_t channel = 0;
};
PlaceStrides place_strides(const Shape& strides);

// An input with its padding, as far as taps reach, and its channels side by side.
struct PlacedInput {
  ConvShape::Extents in{1, 1, 1}, low{0, 0, 0}, extent{1, 1, 1};  // of one example, of what it gets in front, of both
  int64_t channels = 0, channel_stride = 0;

  [[nodiscard]] int64_t row() const { return extent[2] * channel_stride; }
  [[nodiscard]] int64_t size() const { return ConvShape::volume(extent) * channel_stride; }
  // From one example to the next. Not a multiple of a page: tiles read the same place of many examples.
  [[nodiscard]] int64_t distance() const { return size() % 256 == 0 ? size() + 16 : size(); }
  [[nodiscard]] PlaceStrides strides() const { return {{distance(), extent[1] * row(), row(), channel_stride}, 1}; }
  // One example.
  void place(const float* x, const PlaceStrides& from, float* to, const TileLoops& loops, ThreadPool& pool) const;
};
PlacedInput placed_input(const ConvShape& s, int64_t channel_stride);

// Where the input of each tap lies, from the place's own; with `rows` only of the first tap of each row of the window.
std::vector<int64_t> tap_offsets(const ConvShape& s, const PlaceStrides& strides, bool rows);

// Where the weights of a convolution lie, in elements.
struct WeightSteps {
  int64_t group = 0, filter = 0, channel = 0;
  std::vector<int64_t> taps;  // offsets
};
WeightSteps row_major_steps(const ConvShape& s);

// to[tap * step + f] = the weight of that tap and filter f. Taps one after the other, forwards or backwards, are
// transposed in squares.
class TapRows {
 public:
  TapRows(const WeightSteps& steps, const TileLoops& loops);
  void operator()(const float* first, int64_t filters, float* to, int64_t step) const;

 private:
  const WeightSteps& steps_;
  const TileLoops& loops_;
  bool forwards_ = true, backwards_ = true;
};

// Filters, or other columns of a tile, in panels of `vectors` vectors.
struct Panels {
  int vectors = 1;
  int64_t columns = 0, count = 0;
};
// Those that leave the fewest columns empty; of those, the first one in `wanted` that has tiles.
Panels panels_of(int64_t filters, const TileLoops& loops, std::span<const int> wanted);

// The gradient of the weight is added up from the sums of so many parts of the batch, where the sums of a part are so
// many numbers and each gets so many products from an example. Bits depend on it: it knows extents only.
int64_t batch_parts(int64_t examples, int64_t sums, int64_t products);

// The gradient of the input is one convolution of the result's gradient, with a step of one, for each remainder that
// elements leave when they are divided by the strides.
struct InputPhase {
  ConvShape shape;
  ConvShape::Extents first{};  // of x's elements; the others follow in strides
  std::vector<int64_t> taps;   // of the weight's window, in the order of the phase's taps
};
// Those that have taps; of the others dx is zero.
std::vector<InputPhase> input_phases(const ConvShape& s);
// Whether they are one convolution that makes all of x's gradient.
bool is_whole(const ConvShape& s, const std::vector<InputPhase>& phases);
// dy with the zeros around it that all phases read: what it gets in front, and the extents of both.
struct PhaseRoom {
  ConvShape::Extents low{}, extent{1, 1, 1};
};
PhaseRoom room_of(const std::vector<InputPhase>& phases);
// Where such a phase finds its weights in row-major ones: filters and channels have changed places.
WeightSteps phase_steps(const ConvShape& s, const InputPhase& phase);

// A tensor [n, channels, spatial…] with three spatial axes.
template <class AnyView>
AnyView with_three_axes(AnyView view) {
  while (view.shape.size() < 5) {
    view.shape.insert(view.shape.begin() + 2, 1);
    view.strides.insert(view.strides.begin() + 2, 0);
  }
  return view;
}

}  // namespace tenon::cpu
