#include "tenon/device/cpu/planes.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "tenon/device/cpu/pieces.h"
#include "tenon/tensor/buffer.h"

namespace tenon::cpu {
namespace {

constexpr int64_t kShortRow = 28;          // places of a row, below which channels side by side are faster
constexpr int64_t kTogether = 256 * 1024;  // bytes of the planes that a thread takes at a time, about

// Rows of one channel: those of a tensor, or of a copy.
struct Plane {
  const float* data = nullptr;
  int64_t depth = 0, row = 0;  // steps
};

// Places along an axis of the result that see this tap of the window.
struct Range {
  int64_t first, end;
};
Range range_of(const ConvShape& s, size_t axis, int64_t tap) {
  const int64_t at = tap * s.dilation[axis] - s.low[axis], stride = s.stride[axis];
  const int64_t first = std::clamp<int64_t>(-floor_of(at, stride), 0, s.out[axis]);
  return {first, std::clamp<int64_t>(floor_of(s.in[axis] - 1 - at, stride) + 1, first, s.out[axis])};
}

// A convolution of planes: which elements each place sees.
class PlaneConv {
 public:
  // `turn`: in a row of the planes that it will read, from the elements 0, stride, 2 stride, … to 1, stride + 1, …; 0:
  // they lie as they come.
  PlaneConv(const ConvShape& s, int64_t turn, const LevelTable& level) : s_(s), loops_(level.planes) {
    const int64_t lanes = level.tiles.lanes, blocks = (s.out[2] + lanes - 1) / lanes, count = s.window[2];
    there_.assign(static_cast<size_t>(blocks * count), 0);
    Range whole{0, s.out[2]};
    for (int64_t k = 0; k < count; ++k) {
      const int64_t at = k * s.dilation[2] - s.low[2], stride = s.stride[2], places = floor_of(at, stride);
      taps_.push_back(turn == 0 ? at : (at - places * stride) * turn + places);
      const Range see = range_of(s, 2, k);
      whole = {std::max(whole.first, see.first), std::min(whole.end, see.end)};
      for (int64_t c = see.first; c < see.end; ++c)
        there_[static_cast<size_t>(c / lanes * count + k)] |= 1U << static_cast<uint32_t>(c % lanes);
    }
    whole_from_ = (whole.first + lanes - 1) / lanes;
    whole_end_ = whole.end / lanes;
    if (whole_from_ >= whole_end_) whole_from_ = whole_end_ = 0;
    Range inner{0, s.out[1]};
    for (int64_t j = 0; j < s.window[1]; ++j) {
      const Range see = range_of(s, 1, j);
      inner = {std::max(inner.first, see.first), std::min(inner.end, see.end)};
    }
    if (inner.first < inner.end) {
      inner_ = inner.first;
      inner_end_ = inner.end;
    }
  }

  // One plane of the result, whose rows and depths are so far apart. `weight` has the taps one after the other.
  void run(const Plane& x, const float* weight, const float* bias, float* y, int64_t depth_step, int64_t row_step,
           std::vector<PlaneRows::Taps>& rows) const {
    for (int64_t d = 0; d < s_.out[0]; ++d) {
      for (int64_t h = 0; h < s_.out[1];) {
        const int64_t end = h < inner_ || h >= inner_end_ ? h + 1 : inner_end_;
        taps_of(d, h, x, rows);
        loops_.rows({.x = x.data + h * s_.stride[1] * x.row,
                     .x_step = s_.stride[1] * x.row,
                     .count = end - h,
                     .rows = rows.data(),
                     .row_count = static_cast<int64_t>(rows.size()),
                     .taps = taps_.data(),
                     .there = there_.data(),
                     .tap_count = s_.window[2],
                     .columns = s_.out[2],
                     .whole_from = whole_from_,
                     .whole_end = whole_end_,
                     .weight = weight,
                     .bias = bias,
                     .y = y + d * depth_step + h * row_step,
                     .y_step = row_step});
        h = end;
      }
    }
  }

 private:
  // What row h of depth d sees, from the row of x where its window would begin without padding.
  void taps_of(int64_t d, int64_t h, const Plane& x, std::vector<PlaneRows::Taps>& rows) const {
    rows.clear();
    for (int64_t i = 0; i < s_.window[0]; ++i) {
      const int64_t depth = d * s_.stride[0] + i * s_.dilation[0] - s_.low[0];
      if (depth < 0 || depth >= s_.in[0]) continue;
      for (int64_t j = 0; j < s_.window[1]; ++j) {
        const int64_t at = j * s_.dilation[1] - s_.low[1], row = h * s_.stride[1] + at;
        if (row < 0 || row >= s_.in[1]) continue;
        rows.push_back({depth * x.depth + at * x.row, (i * s_.window[1] + j) * s_.window[2]});
      }
    }
  }

  ConvShape s_;
  PlaneLoops loops_;
  std::vector<int64_t> taps_;  // from the element with the number of a place
  std::vector<uint32_t> there_;
  int64_t whole_from_ = 0, whole_end_ = 0;  // vectors of places that see all taps
  int64_t inner_ = 0, inner_end_ = 0;       // rows that see all rows of the window
};

// f(n, c, scratch, rows) for each plane, some planes at a time on a thread, with `floats` of scratch.
template <class F>
void each_plane(const ConvShape& s, int64_t floats, ThreadPool& pool, const F& f) {
  const int64_t count = s.n * s.channels;
  const int64_t bytes = (ConvShape::volume(s.in) + ConvShape::volume(s.out)) * kFloat;
  const int64_t groups = std::clamp<int64_t>(count * bytes / kTogether, 1, count);
  pool.run(groups, [&](int64_t g) {
    const Ref<Buffer> memory = Buffer::allocate_scratch(static_cast<size_t>(std::max<int64_t>(1, floats) * kFloat));
    std::vector<PlaneRows::Taps> rows;
    for (int64_t p = count * g / groups; p < count * (g + 1) / groups; ++p)
      f(p / s.channels, p % s.channels, reinterpret_cast<float*>(memory->data()), rows);
  });
}

// The gradient of x with steps: a convolution of dy for each remainder, each of which makes every so many places of
// some rows. dy gets zeros around it, as there.
class PlanePhases {
 public:
  PlanePhases(const ConvShape& s, const std::vector<InputPhase>& phases, const LevelTable& level)
      : s_(s), loops_(level.planes), room_(room_of(phases)) {
    for (const auto& p : phases) {
      ConvShape of = p.shape;
      for (size_t d = 0; d < 3; ++d) {
        of.in[d] = room_.extent[d];
        of.low[d] -= room_.low[d];
      }
      phases_.push_back({PlaneConv(of, 0, level), p.first, p.taps});
      taps_ = std::max(taps_, p.taps.size());
    }
    columns_ = (s.in[2] + s.stride[2] - 1) / s.stride[2];
  }

  [[nodiscard]] int64_t floats() const {
    return ConvShape::volume(room_.extent) + s_.in[0] * s_.in[1] * s_.stride[2] * columns_ +
           static_cast<int64_t>(taps_);
  }

  void run(const Plane& dy, const float* weight, float* dx, int64_t depth_step, int64_t row_step, float* scratch,
           std::vector<PlaneRows::Taps>& rows) const {
    const int64_t row_size = s_.stride[2] * columns_, result_size = s_.in[0] * s_.in[1] * row_size;
    const Plane placed{scratch, room_.extent[1] * room_.extent[2], room_.extent[2]};
    place(dy, scratch);
    float *result = scratch + ConvShape::volume(room_.extent), *weights = result + result_size;
    std::fill_n(result, result_size, 0.0F);  // of places that no phase makes
    for (const Phase& phase : phases_) {
      for (size_t t = 0; t < phase.taps.size(); ++t) weights[t] = weight[phase.taps[t]];
      float* to = result + (phase.first[0] * s_.in[1] + phase.first[1]) * row_size + phase.first[2] * columns_;
      phase.conv.run(placed, weights, nullptr, to, s_.stride[0] * s_.in[1] * row_size, s_.stride[1] * row_size, rows);
    }
    const PlaneParts parts{s_.stride[2], s_.in[2], s_.in[1], row_step, columns_, row_size};
    for (int64_t d = 0; d < s_.in[0]; ++d) loops_.merge(result + d * s_.in[1] * row_size, parts, dx + d * depth_step);
  }

 private:
  struct Phase {
    PlaneConv conv;
    ConvShape::Extents first;
    std::vector<int64_t> taps;
  };

  void place(const Plane& dy, float* to) const {
    std::fill_n(to, ConvShape::volume(room_.extent), 0.0F);
    const auto first = [&](size_t d) { return std::clamp<int64_t>(-room_.low[d], 0, s_.out[d]); };
    const auto end = [&](size_t d) { return std::clamp<int64_t>(room_.extent[d] - room_.low[d], first(d), s_.out[d]); };
    const auto width = static_cast<size_t>(end(2) - first(2)) * sizeof(float);
    for (int64_t d = first(0); d < end(0); ++d) {
      for (int64_t h = first(1); h < end(1); ++h)
        std::memcpy(
            to + ((d + room_.low[0]) * room_.extent[1] + h + room_.low[1]) * room_.extent[2] + first(2) + room_.low[2],
            dy.data + d * dy.depth + h * dy.row + first(2), width);
    }
  }

  ConvShape s_;
  PlaneLoops loops_;
  PhaseRoom room_;
  std::vector<Phase> phases_;
  size_t taps_ = 0;
  int64_t columns_ = 0;  // of the places of a row that one phase makes, at most
};

// A row after the other, the elements 0, stride, 2 stride, … of each first.
Plane dealt(const ConvShape& s, const Plane& x, int64_t turn, const PlaneLoops& loops, float* to) {
  const int64_t row = turn * s.stride[2];
  const PlaneParts parts{s.stride[2], s.in[2], s.in[1], x.row, turn, row};
  for (int64_t d = 0; d < s.in[0]; ++d) loops.deal(x.data + d * x.depth, parts, to + d * s.in[1] * row);
  return {to, s.in[1] * row, row};
}

}  // namespace

bool is_by_planes(const ConvShape& s, const ConstView& x, const ConstView& y) {
  const auto last = static_cast<size_t>(s.axes) - 1;
  return s.groups == s.channels && s.filters == s.channels && s.in[last] >= kShortRow && s.out[last] >= kShortRow &&
         x.strides.back() == 1 && y.strides.back() == 1;
}

void planes(const ConvShape& shape, const ConstView& x, const float* weight, const float* bias, const View& y,
            const LevelTable& level, ThreadPool& pool) {
  const ConvShape s = moved_to_the_end(shape);
  const int64_t taps = ConvShape::volume(s.window);
  const int64_t turn = s.stride[2] == 1 ? 0 : (s.in[2] + s.stride[2] - 1) / s.stride[2];
  const PlaneConv conv(s, turn, level);
  const PlaceStrides from = place_strides(x.strides), to = place_strides(y.strides);
  const int64_t copied = turn == 0 ? 0 : s.in[0] * s.in[1] * turn * s.stride[2];
  each_plane(s, copied, pool, [&](int64_t n, int64_t c, float* scratch, std::vector<PlaneRows::Taps>& rows) {
    Plane in{x.as<float>() + n * from.place[0] + c * from.channel, from.place[1], from.place[2]};
    if (turn != 0) in = dealt(s, in, turn, level.planes, scratch);
    float* out = y.as<float>() + n * to.place[0] + c * to.channel;
    conv.run(in, weight + c * taps, bias == nullptr ? nullptr : bias + c, out, to.place[1], to.place[2], rows);
  });
}

void planes_input_gradient(const ConvShape& s, const std::vector<InputPhase>& phases, const ConstView& dy,
                           const float* weight, const View& dx, const LevelTable& level, ThreadPool& pool) {
  const int64_t taps = ConvShape::volume(s.window);
  const PlaceStrides from = place_strides(dy.strides), to = place_strides(dx.strides);
  const auto plane_of = [&](int64_t n, int64_t c) {
    return Plane{dy.as<float>() + n * from.place[0] + c * from.channel, from.place[1], from.place[2]};
  };
  const auto result_of = [&](int64_t n, int64_t c) { return dx.as<float>() + n * to.place[0] + c * to.channel; };
  if (is_whole(s, phases)) {
    const InputPhase& phase = phases[0];
    const PlaneConv conv(phase.shape, 0, level);
    each_plane(s, taps, pool, [&](int64_t n, int64_t c, float* weights, std::vector<PlaneRows::Taps>& rows) {
      for (size_t t = 0; t < phase.taps.size(); ++t) weights[t] = weight[c * taps + phase.taps[t]];
      conv.run(plane_of(n, c), weights, nullptr, result_of(n, c), to.place[1], to.place[2], rows);
    });
    return;
  }
  const PlanePhases all(s, phases, level);
  each_plane(s, all.floats(), pool, [&](int64_t n, int64_t c, float* scratch, std::vector<PlaneRows::Taps>& rows) {
    all.run(plane_of(n, c), weight + c * taps, result_of(n, c), to.place[1], to.place[2], scratch, rows);
  });
}

}  // namespace tenon::cpu
