// Convolution in f32 without reorders of results: tiles of places by filters, kept in registers over the whole sum.
//
// The input is read with its channels side by side ("channels last"); any other layout, and padding, is copied so
// first. (Channels by themselves need no padding: taps outside are left out.) The result may lie either way. Weights
// are packed once. Every element is one chain of fused multiply-adds over (window, channel), then what `after` says:
// its bits depend on no layout, tile, thread or batch, so an eager call and a program that keeps its layouts agree.
// Channels that are groups of their own (depthwise) have a loop of their own; windows of 3 x 3 with steps of one go by
// winograd.h, which keeps all of this but for the chain. To add a shape of tile: level_tile.h.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "tenon/base/thread_pool.h"
#include "tenon/device/cpu/conv_finish.h"
#include "tenon/device/cpu/conv_plan.h"
#include "tenon/device/cpu/winograd.h"
#include "tenon/tensor/buffer.h"
#include "tenon/tensor/view.h"

namespace tenon::cpu {

class DirectConv {
 public:
  // `after`: input 0 is the sum, the others are operands.
  DirectConv(const ConvShape& shape, const LevelTable& level, const std::optional<ir::ScalarProgram>& after);
  // `weight` [filters, channels / groups, window…], row-major, in the order in which tiles read it. Besides the weight
  // that depends on `packing()` alone.
  [[nodiscard]] Ref<Buffer> pack(const float* weight) const;
  // The same from weights that lie in another way.
  [[nodiscard]] Ref<Buffer> pack(const float* weight, const WeightSteps& steps) const;
  [[nodiscard]] Ints packing() const {
    return {winograd_ ? -winograd_->columns() : depthwise_ ? 0 : panels_.columns, channel_stride_};
  }
  // Before the first run.
  void use(Ref<Buffer> packed) { weights_ = std::move(packed); }
  // x [n, channels, in…] and y [n, filters, out…] with any strides; operands broadcast to y's shape. Extents of n may
  // differ from the shape's.
  void run(const ConstView& x, std::span<const ConstView> operands, const View& y, ThreadPool& pool) const;

  // For chains of convolutions (conv_chain.h), which run some rows at a time.
  class Rows;
  [[nodiscard]] const ConvShape& shape() const { return s_; }  // the spatial axes at the end
  [[nodiscard]] bool has_rows() const { return s_.axes == 2 && !winograd_; }
  // Whether these may be of an input of which only some rows are there at a time.
  [[nodiscard]] bool takes_ring() const;
  [[nodiscard]] int64_t weight_bytes() const { return static_cast<int64_t>(weights_->size()); }
  // Whether x is read where it lies; else an example has to be placed.
  [[nodiscard]] bool reads(const ConstView& x) const;
  [[nodiscard]] const PlacedInput& placed() const { return placed_; }
  void place(const float* x, const PlaceStrides& from, float* to, ThreadPool& pool) const {
    placed_.place(x, from, to, loops_, pool);
  }

 private:
  struct Job;
  struct DepthwiseRuns;
  void read_from(Job& job, const PlaceStrides& strides) const;
  void cut(Job& job) const;
  [[nodiscard]] ConvFinish finish_of(const Job& job) const;
  void run_placed(const Job& job, ThreadPool& pool) const;
  void run_tiles(const Job& job, ConvFinish& finish, int64_t first, int64_t end, int64_t panel,
                 int64_t panel_end) const;
  void run_depthwise(const Job& job, ThreadPool& pool) const;
  void run_depthwise_rows(const Job& job, ConvFinish& finish, int64_t first, int64_t end) const;
  void run_depthwise_strips(const Job& job, const DepthwiseRuns& runs, ConvFinish& finish) const;
  void run_in_blocks(const Job& job, const DepthwiseRuns& runs, ConvFinish& finish) const;
  [[nodiscard]] int64_t block_places() const;
  [[nodiscard]] DepthwiseRow depthwise_row(const Job& job) const;
  [[nodiscard]] DepthwiseRuns depthwise_runs(const Job& job, int64_t first, int64_t end) const;
  void inner_rows(const Job& job, int64_t row, std::vector<DepthwiseTap>& rows) const;
  void inner_taps(const Job& job, int64_t column, std::span<const DepthwiseTap> rows,
                  std::vector<DepthwiseTap>& taps) const;
  [[nodiscard]] Panels choose_panels() const;
  [[nodiscard]] int64_t examples_together(int64_t examples, int threads) const;
  [[nodiscard]] int64_t places_of_tile(int64_t width) const;
  [[nodiscard]] bool wants_examples_side_by_side(int64_t examples, int64_t width) const;

  ConvShape s_;  // the spatial axes moved to the end: columns are axis 2
  TileLoops loops_;
  ConvProgram after_;
  std::optional<WinogradConv> winograd_;  // then only s_, after_, the placed input and the weights matter
  bool depthwise_ = false;
  bool merged_ = false;         // neighbouring taps of a row are one run
  int64_t channel_stride_ = 0;  // of a placed input: channels, rounded up where vectors are read
  PlacedInput placed_;
  Panels panels_;      // of a group's filters
  int64_t depth_ = 0;  // products of one element
  Ref<Buffer> weights_;
};

// On one thread: rows of one example's result, some after the others. Channels lie side by side in x and y; row r of
// either lies where row r % ring does, so that a ring need not hold them all.
class DirectConv::Rows {
 public:
  static constexpr int64_t kAll = INT64_MAX;  // no ring
  // `operands` are those of the example.
  Rows(const DirectConv& conv, const PlaceStrides& x, std::span<const ConstView> operands, const PlaceStrides& y);
  ~Rows();
  Rows(const Rows&) = delete;
  Rows& operator=(const Rows&) = delete;
  void run(const float* x, int64_t x_ring, float* y, int64_t y_ring, int64_t first, int64_t end);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tenon::cpu
