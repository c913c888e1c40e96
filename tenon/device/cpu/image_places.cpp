#include "tenon/device/cpu/image_places.h"

#include <algorithm>
#include <new>
#include <optional>

namespace tenon::cpu {
namespace {

using bf16_blocks::kDepth;
using bf16_blocks::kGroup;
using bf16_blocks::kSide;
using bf16_blocks::Omit;
using bf16_blocks::StepRange;

constexpr auto kElement = static_cast<int64_t>(sizeof(uint16_t));

bool inside(const ConvShape& s, size_t axis, int64_t e) { return e >= 0 && e < s.in[axis]; }

// What a tap in a line leaves out of the group of `rows` places from `first` on, if it is one of its ends at most.
std::optional<Omit> omit_of(const ConvShape& s, int64_t tap, int64_t first, int64_t rows) {
  const int64_t at = first * s.stride[2] - s.low[2] + tap * s.dilation[2];
  int64_t begin = 0, end = rows;
  while (begin < end && !inside(s, 2, at + begin * s.stride[2])) ++begin;
  while (begin < end && !inside(s, 2, at + (end - 1) * s.stride[2])) --end;
  if (rows - (end - begin) > 1) return std::nullopt;
  return begin > 0 ? Omit::First : end < rows ? Omit::Last : Omit::None;
}

// What is kept of a block.
struct Kept {
  std::array<int64_t, kSide> places{};
  std::array<StepRange, bf16_blocks::groups(kSide)> ranges;
};

}  // namespace

int64_t rows_of_lines(int64_t line) {
  return line % kGroup != 0 && line % (kGroup - 1) == 0 ? bf16_blocks::kSevens : kSide;
}

StepRange steps_inside(const ConvShape& s, int64_t all, int64_t i) {
  if (s.window[0] != 1) return {0, all};
  const int64_t line = all / s.window[1], at = i / s.out[2] % s.out[1] * s.stride[1] - s.low[1];
  int64_t begin = 0, end = s.window[1];
  while (begin < end && !inside(s, 1, at + begin * s.dilation[1])) ++begin;
  while (begin < end && !inside(s, 1, at + (end - 1) * s.dilation[1])) --end;
  return {begin * line, end * line};
}

bool ImagePlaces::takes(const ConvShape& s) {
  const int64_t group = rows_of_lines(s.out[2]) / bf16_blocks::groups(kSide);
  if (!bf16_blocks::rows_anywhere() || s.channels % kDepth != 0 || s.out[2] % group != 0) return false;
  // Each place sees one plane, which is there.
  const int64_t last = (s.out[0] - 1) * s.stride[0] - s.low[0];
  if (s.window[0] != 1 || !inside(s, 0, -s.low[0]) || !inside(s, 0, last)) return false;
  for (int64_t first = 0; first < s.out[2]; first += group) {
    for (int64_t tap = 0; tap < s.window[2]; ++tap)
      if (!omit_of(s, tap, first, group)) return false;
  }
  return true;
}

ImagePlaces::ImagePlaces(const ConvShape& s, int64_t images, const uint16_t* x, const std::array<int64_t, 4>& step,
                         int64_t pairs)
    : s_(s),
      places_(images * ConvShape::volume(s.out)),
      rows_(rows_of_lines(s.out[2])),
      x_(x),
      step_(step),
      pairs_(pairs) {
  for (int64_t h = 0; h < s.window[1]; ++h) {
    for (int64_t w = 0; w < s.window[2]; ++w) {
      for (int64_t c = 0; c < s.channels; c += kDepth)
        steps_.push_back(h * s.dilation[1] * step[2] + w * s.dilation[2] * step[3] + c);
    }
  }
  const int64_t group = rows_ / bf16_blocks::groups(kSide), of_tap = s.channels / kDepth;
  for (int64_t first = 0; first < s.out[2]; first += group) {
    std::vector<Omit>& omits = omits_.emplace_back();
    for (int64_t tap = 0; tap < s.window[1] * s.window[2]; ++tap)
      omits.insert(omits.end(), static_cast<size_t>(of_tap), *omit_of(s, tap % s.window[2], first, group));
    if (std::ranges::all_of(omits, [](Omit o) { return o == Omit::None; })) omits.clear();
  }
}

int64_t ImagePlaces::blocks() const { return (places_ + rows_ - 1) / rows_; }
int64_t ImagePlaces::block_bytes() const { return kSide * s_.channels * kElement; }
int64_t ImagePlaces::room() const { return static_cast<int64_t>(sizeof(Kept)) / kElement; }
int64_t ImagePlaces::rows_of(int64_t i) const { return std::min(rows_, places_ - i * rows_); }

void ImagePlaces::places_of(int64_t first, std::span<int64_t> to) const {
  PlaceCursor place(s_, first);
  int64_t next = 0;  // in the same line
  for (size_t r = 0; r < to.size(); ++r, place.next()) {
    if (r == 0 || place.at[2] == 0) {
      next = place.n * step_[0];
      for (size_t axis = 0; axis < 3; ++axis)
        next += (place.at[axis] * s_.stride[axis] - s_.low[axis]) * step_[axis + 1];
    }
    to[r] = next;
    next += s_.stride[2] * step_[3];
  }
}

bf16_blocks::Left ImagePlaces::block(int64_t i, uint16_t* room) const {
  Kept& kept = *new (room) Kept;
  const int64_t rows = rows_of(i), groups = bf16_blocks::groups(rows), all = static_cast<int64_t>(steps_.size());
  places_of(i * rows_, std::span(kept.places).first(static_cast<size_t>(rows)));
  for (int64_t g = 0; g < groups; ++g) {
    const int64_t first = i * rows_ + bf16_blocks::group_begin(g, rows);
    StepRange& range = kept.ranges[static_cast<size_t>(g)] = steps_inside(s_, all, first);
    const auto& omits = omits_[static_cast<size_t>(first % s_.out[2] / (rows / groups))];
    if (!omits.empty()) range.omits = omits.data();
  }
  bf16_blocks::Left left{.at = x_, .row = 0, .steps = steps_.data(), .step = 0};
  left.rows = rows;
  left.pairs = pairs_;
  left.places = kept.places.data();
  left.ranges = kept.ranges.data();
  return left;
}

int ImagePlaces::runs(int64_t i, std::span<Bf16Run, kSide> to) const {
  to[0] = {0, rows_of(i), row_ + i * rows_};
  return 1;
}

}  // namespace tenon::cpu
