#include "tenon/device/cpu/conv_plan.h"

#include <algorithm>
#include <cstring>
#include <numeric>

#include "tenon/device/cpu/pieces.h"

namespace tenon::cpu {
namespace {

constexpr int64_t kPlacedPart = 64 * 1024;       // elements of one part, about
constexpr int64_t kBatchParts = 8;               // at most, …
constexpr int64_t kBatchSums = 4 * 1024 * 1024;  // … bytes of their sums, …
constexpr int64_t kPartProducts = 1024 * 1024;   // … and multiply-adds of one part, at least

// How the elements of one axis fall into phases.
struct AxisPhase {
  int64_t first = 0, count = 0;             // elements of x
  int64_t tap = 0, tap_step = 1, taps = 0;  // of the window, the last one first
  int64_t low = 0, dilation = 1;            // of the convolution
  [[nodiscard]] int64_t high(int64_t in) const { return count - in - low + dilation * (taps - 1); }
};

// Element i gets tap t from place o where i + low = o * stride + t * dilation. With i + low = q * stride + rest the
// taps are those with t * dilation = rest modulo stride, and o falls by one where q does.
AxisPhase axis_phase(const ConvShape& s, size_t d, int64_t rest) {
  const int64_t stride = s.stride[d], dilation = s.dilation[d], low = s.low[d];
  AxisPhase p;
  const int64_t q = -floor_of(rest - low, stride);
  p.first = q * stride + rest - low;
  p.count = std::max<int64_t>(0, floor_of(s.in[d] - 1 - p.first, stride) + 1);
  const int64_t common = std::gcd(dilation, stride);
  p.tap_step = stride / common;
  p.dilation = dilation / common;
  int64_t tap = 0;
  while (tap < p.tap_step && tap * dilation % stride != rest) ++tap;
  if (tap == p.tap_step || tap >= s.window[d]) return p;
  p.taps = (s.window[d] - 1 - tap) / p.tap_step + 1;
  p.tap = tap + (p.taps - 1) * p.tap_step;
  p.low = (p.taps - 1) * p.dilation + (tap * dilation - rest) / stride - q;
  return p;
}

}  // namespace

PlaceStrides place_strides(const Shape& strides) {
  PlaceStrides s;
  s.place[0] = strides[0];
  s.channel = strides[1];
  const size_t count = strides.size() - 2;
  for (size_t d = 0; d < count; ++d) s.place[4 - count + d] = strides[2 + d];
  return s;
}

PlacedInput placed_input(const ConvShape& s, int64_t channel_stride) {
  PlacedInput p{.in = s.in, .low = s.low, .channels = s.channels, .channel_stride = channel_stride};
  for (size_t d = 0; d < 3; ++d) p.extent[d] = (s.out[d] - 1) * s.stride[d] + s.dilation[d] * (s.window[d] - 1) + 1;
  return p;
}

void PlacedInput::place(const float* x, const PlaceStrides& from, float* to, const TileLoops& loops,
                        ThreadPool& pool) const {
  ConvShape::Extents whole = extent, begin{}, count{};
  int64_t offset = 0;
  for (size_t d = 0; d < 3; ++d) {
    begin[d] = std::clamp<int64_t>(low[d], 0, extent[d]);
    count[d] = std::max<int64_t>(0, std::min(extent[d], in[d] + low[d]) - begin[d]);
    offset += (begin[d] - low[d]) * from.place[d + 1];
  }
  // Rows that run on are one.
  if (count[2] == whole[2] && count[1] == whole[1] && from.place[2] == from.place[3] * whole[2]) {
    whole[2] = count[2] = whole[1] * whole[2];
    whole[1] = count[1] = 1;
  }
  const bool empty = ConvShape::volume(count) * channels == 0;
  const int64_t row_size = whole[2] * channel_stride, rows = whole[0] * whole[1];
  const auto place_row = [&](int64_t r) {
    float* row = to + r * row_size;
    const int64_t d = r / whole[1] - begin[0], h = r % whole[1] - begin[1];
    const bool outside = empty || d < 0 || d >= count[0] || h < 0 || h >= count[1];
    if (outside || channel_stride != channels) {
      std::fill_n(row, row_size, 0.0F);
      if (outside) return;
    } else {
      std::fill_n(row, begin[2] * channel_stride, 0.0F);
      std::fill(row + (begin[2] + count[2]) * channel_stride, row + row_size, 0.0F);
    }
    row += begin[2] * channel_stride;
    const float* at = x + offset + d * from.place[1] + h * from.place[2];
    if ((from.channel == 1 || channels == 1) && from.place[3] == channels && channel_stride == channels) {
      std::memcpy(row, at, static_cast<size_t>(count[2] * channels) * sizeof(float));
    } else if (from.channel == 1) {
      loops.copy(at, from.place[3], count[2], channels, row, channel_stride);
    } else if (from.place[3] == 1) {
      loops.transpose(at, from.channel, channels, count[2], row, channel_stride);
    } else {
      for (int64_t w = 0; w < count[2]; ++w) {
        for (int64_t c = 0; c < channels; ++c) row[w * channel_stride + c] = at[w * from.place[3] + c * from.channel];
      }
    }
  };
  const int64_t parts = std::min(rows, rows * row_size / kPlacedPart);
  if (parts <= 1) {
    for (int64_t r = 0; r < rows; ++r) place_row(r);
    return;
  }
  pool.run(parts, [&](int64_t p) {
    for (int64_t r = rows * p / parts; r < rows * (p + 1) / parts; ++r) place_row(r);
  });
}

std::vector<int64_t> tap_offsets(const ConvShape& s, const PlaceStrides& strides, bool rows) {
  std::vector<int64_t> taps;
  for (int64_t d = 0; d < s.window[0]; ++d) {
    for (int64_t h = 0; h < s.window[1]; ++h) {
      for (int64_t w = 0; w < (rows ? std::min<int64_t>(1, s.window[2]) : s.window[2]); ++w)
        taps.push_back(d * s.dilation[0] * strides.place[1] + h * s.dilation[1] * strides.place[2] +
                       w * s.dilation[2] * strides.place[3]);
    }
  }
  return taps;
}

WeightSteps row_major_steps(const ConvShape& s) {
  const int64_t taps = ConvShape::volume(s.window), channels = s.channels / s.groups;
  WeightSteps steps{s.filters / s.groups * channels * taps, channels * taps, taps, {}};
  steps.taps.resize(static_cast<size_t>(taps));
  std::iota(steps.taps.begin(), steps.taps.end(), 0);
  return steps;
}

WeightSteps phase_steps(const ConvShape& s, const InputPhase& phase) {
  WeightSteps steps = row_major_steps(s);
  std::swap(steps.filter, steps.channel);
  steps.taps = phase.taps;
  return steps;
}

TapRows::TapRows(const WeightSteps& steps, const TileLoops& loops) : steps_(steps), loops_(loops) {
  for (size_t t = 1; t < steps.taps.size(); ++t) {
    forwards_ = forwards_ && steps.taps[t] == steps.taps[t - 1] + 1;
    backwards_ = backwards_ && steps.taps[t] == steps.taps[t - 1] - 1;
  }
}

void TapRows::operator()(const float* first, int64_t filters, float* to, int64_t step) const {
  const std::vector<int64_t>& taps = steps_.taps;
  const auto count = static_cast<int64_t>(taps.size());
  if (count == 0) return;
  if (forwards_) {
    loops_.transpose(first + taps.front(), steps_.filter, filters, count, to, step);
  } else if (backwards_) {
    loops_.transpose(first + taps.back(), steps_.filter, filters, count, to + (count - 1) * step, -step);
  } else {
    for (const int64_t tap : taps) {
      for (int64_t f = 0; f < filters; ++f) to[f] = first[f * steps_.filter + tap];
      to += step;
    }
  }
}

Panels panels_of(int64_t filters, const TileLoops& loops, std::span<const int> wanted) {
  Panels best;
  for (const int vectors : wanted) {
    if (loops.most_rows[vectors] == 0) continue;
    const int64_t columns = static_cast<int64_t>(vectors) * loops.lanes, count = (filters + columns - 1) / columns;
    if (best.count == 0 || columns * count < best.columns * best.count) best = {vectors, columns, count};
  }
  return best;
}

int64_t batch_parts(int64_t examples, int64_t sums, int64_t products) {
  const int64_t worth = std::min(kBatchSums / (sums * kFloat), examples * sums * products / kPartProducts);
  return std::clamp<int64_t>(worth, 1, std::min(examples, kBatchParts));
}

std::vector<InputPhase> input_phases(const ConvShape& s) {
  std::vector<InputPhase> phases;
  for (int64_t a = 0; a < s.stride[0]; ++a) {
    for (int64_t b = 0; b < s.stride[1]; ++b) {
      for (int64_t c = 0; c < s.stride[2]; ++c) {
        const std::array<AxisPhase, 3> axes{axis_phase(s, 0, a), axis_phase(s, 1, b), axis_phase(s, 2, c)};
        InputPhase phase{.shape = s, .first = {}, .taps = {}};
        ConvShape& of = phase.shape;
        of.axes = 3;
        std::swap(of.channels, of.filters);
        of.in = s.out;
        of.stride = {1, 1, 1};
        for (size_t d = 0; d < 3; ++d) {
          phase.first[d] = axes[d].first;
          of.out[d] = axes[d].count;
          of.window[d] = axes[d].taps;
          of.dilation[d] = axes[d].dilation;
          of.low[d] = axes[d].low;
          of.high[d] = axes[d].high(s.out[d]);
        }
        if (ConvShape::volume(of.out) == 0 || ConvShape::volume(of.window) == 0) continue;
        for (int64_t i = 0; i < of.window[0]; ++i) {
          for (int64_t j = 0; j < of.window[1]; ++j) {
            for (int64_t k = 0; k < of.window[2]; ++k)
              phase.taps.push_back(
                  ((axes[0].tap - i * axes[0].tap_step) * s.window[1] + axes[1].tap - j * axes[1].tap_step) *
                      s.window[2] +
                  axes[2].tap - k * axes[2].tap_step);
          }
        }
        phases.push_back(std::move(phase));
      }
    }
  }
  return phases;
}

bool is_whole(const ConvShape& s, const std::vector<InputPhase>& phases) {
  return phases.size() == 1 && phases[0].shape.out == s.in;
}

PhaseRoom room_of(const std::vector<InputPhase>& phases) {
  PhaseRoom room;
  for (size_t d = 0; d < 3; ++d) {
    room.low[d] = INT64_MIN;
    for (const auto& p : phases) room.low[d] = std::max(room.low[d], p.shape.low[d]);
    for (const auto& p : phases) {
      const int64_t reach = p.shape.out[d] + p.shape.dilation[d] * (p.shape.window[d] - 1);
      room.extent[d] = std::max(room.extent[d], room.low[d] - p.shape.low[d] + reach);
    }
  }
  return room;
}

}  // namespace tenon::cpu
