#include "tenon/device/cpu/placed_images.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <new>

#include "tenon/device/cpu/image_places.h"

namespace tenon::cpu {
namespace {

using bf16_blocks::kDepth;
using bf16_blocks::kSide;

constexpr auto kElement = static_cast<int64_t>(sizeof(uint16_t));
constexpr int64_t kPlacedPart = 64 * 1024;  // elements of one part, about

}  // namespace

PlacedImages::PlacedImages(const ConvShape& s, int64_t images) : s_(s), images_(images) {
  for (size_t d = 0; d < 3; ++d) {
    for (int64_t t = 0; t < s.window[d]; ++t) {
      const int64_t at = t * s.dilation[d];
      extent_[d] = std::max(extent_[d], s.out[d] + at / s.stride[d]);
      if (std::ranges::count(remainders_[d], at % s.stride[d]) == 0) remainders_[d].push_back(at % s.stride[d]);
    }
  }
  // The zeros after an image are those before the next.
  pitch_ = s.out[2];
  while (!zeros_between()) ++pitch_;
  line_ = (images - 1) * pitch_ + extent_[2];
  for (int64_t i = 0; i < s.window[0]; ++i) {
    for (int64_t j = 0; j < s.window[1]; ++j) {
      for (int64_t k = 0; k < s.window[2]; ++k) {
        for (int64_t c = 0; c < s.channels; c += kDepth) steps_.push_back(tap({i, j, k}) * s.channels + c);
      }
    }
  }
}

bool PlacedImages::worthwhile() const {
  return s_.channels % kDepth == 0 &&
         (bf16_blocks::rows_anywhere() || 2 * blocks() <= 3 * (images_ * ConvShape::volume(s_.out) / kSide + 1));
}

int64_t PlacedImages::size() const { return (planes() * plane() + kSide) * s_.channels; }

void PlacedImages::place(const uint16_t* x, const std::array<int64_t, 4>& step, uint16_t* to, ThreadPool& pool) {
  images_at_ = to;
  const int64_t lines = planes() * extent_[0] * extent_[1];
  const int64_t parts = std::clamp<int64_t>(lines * line_ * s_.channels / kPlacedPart, 1, lines);
  pool.run(parts, [&](int64_t p) {
    for (int64_t l = lines * p / parts; l < lines * (p + 1) / parts; ++l)
      place_line(x, step, l, to + l * line_ * s_.channels);
  });
}

int64_t PlacedImages::places() const {
  return ((s_.out[0] - 1) * extent_[1] + s_.out[1] - 1) * line_ + (images_ - 1) * pitch_ + s_.out[2];
}
int64_t PlacedImages::blocks() const { return (places() + kSide - 1) / kSide; }
int64_t PlacedImages::block_bytes() const { return kSide * s_.channels * kElement; }

bf16_blocks::Left PlacedImages::block(int64_t i, uint16_t* /*room*/) const {
  return {.at = images_at_ + i * kSide * s_.channels, .row = s_.channels, .steps = steps_.data(), .step = 0};
}

int PlacedImages::runs(int64_t i, std::span<Bf16Run, kSide> to) const {
  int count = 0;
  for (int64_t first = 0; first < kSide;) {
    const int64_t at = i * kSide + first, column = at % line_, image = column / pitch_, w = column % pitch_;
    const int64_t h = at / line_ % extent_[1], d = at / line_ / extent_[1];
    if (d >= s_.out[0]) break;
    if (h >= s_.out[1] || image >= images_) {
      first += line_ - column;
      continue;
    }
    if (w < s_.out[2]) {
      const int64_t row = ((image * s_.out[0] + d) * s_.out[1] + h) * s_.out[2] + w;
      to[static_cast<size_t>(count++)] = {first, std::min(s_.out[2] - w, kSide - first), row_ + row};
    }
    first += std::min(pitch_ - w, line_ - column);
  }
  return count;
}

int64_t PlacedImages::place_of(int64_t i) const {
  const int64_t w = i % s_.out[2], h = i / s_.out[2] % s_.out[1], plane = i / s_.out[2] / s_.out[1];
  return (plane % s_.out[0] * extent_[1] + h) * line_ + plane / s_.out[0] * pitch_ + w;
}

WantedPlaces::WantedPlaces(const PlacedImages& images) : images_(images), rows_(rows_of_lines(images.s_.out[2])) {}
int64_t WantedPlaces::blocks() const {
  return (images_.images_ * ConvShape::volume(images_.s_.out) + rows_ - 1) / rows_;
}
int64_t WantedPlaces::rows_of(int64_t i) const {
  return std::min(rows_, images_.images_ * ConvShape::volume(images_.s_.out) - i * rows_);
}

namespace {
// What is kept of a block.
struct Kept {
  std::array<int64_t, kSide> places{};
  std::array<bf16_blocks::StepRange, bf16_blocks::groups(kSide)> ranges;
};
}  // namespace

int64_t WantedPlaces::room() const { return static_cast<int64_t>(sizeof(Kept) / sizeof(uint16_t)); }

bf16_blocks::Left WantedPlaces::block(int64_t i, uint16_t* room) const {
  Kept& kept = *new (room) Kept;
  const int64_t rows = rows_of(i), groups = bf16_blocks::groups(rows);
  for (int64_t r = 0; r < rows; ++r)
    kept.places[static_cast<size_t>(r)] = images_.place_of(i * rows_ + r) * images_.s_.channels;
  const auto steps_of = [&](int64_t r) {
    return steps_inside(images_.s_, static_cast<int64_t>(images_.steps_.size()), i * rows_ + r);
  };
  for (int64_t g = 0; g < groups; ++g) {
    bf16_blocks::StepRange& range = kept.ranges[static_cast<size_t>(g)];
    const int64_t first = bf16_blocks::group_begin(g, rows), end = bf16_blocks::group_begin(g + 1, rows);
    range = steps_of(first);
    for (int64_t r = first + 1; r < end; ++r) {
      const bf16_blocks::StepRange steps = steps_of(r);
      range = {std::min(range.begin, steps.begin), std::max(range.end, steps.end)};
    }
  }
  bf16_blocks::Left left{.at = images_.images_at_, .row = 0, .steps = images_.steps_.data(), .step = 0};
  left.rows = rows;
  left.places = kept.places.data();
  left.ranges = kept.ranges.data();
  return left;
}

int WantedPlaces::runs(int64_t i, std::span<Bf16Run, kSide> to) const {
  to[0] = {0, rows_of(i), images_.row_ + i * rows_};
  return 1;
}

int64_t PlacedImages::planes() const {
  int64_t count = 1;
  for (const auto& list : remainders_) count *= static_cast<int64_t>(list.size());
  return count;
}

bool PlacedImages::zeros_between() const {
  for (const int64_t r : remainders_[2]) {
    for (int64_t at = pitch_; at < extent_[2]; ++at)
      if (inside(2, element(2, r, at)) || inside(2, element(2, r, at - pitch_))) return false;
  }
  return true;
}

int64_t PlacedImages::tap(const ConvShape::Extents& window) const {
  int64_t number = 0, at = 0;
  for (size_t d = 0; d < 3; ++d) {
    const int64_t e = window[d] * s_.dilation[d];
    const auto& list = remainders_[d];
    number = number * static_cast<int64_t>(list.size()) + (std::ranges::find(list, e % s_.stride[d]) - list.begin());
    at = at * (d == 2 ? line_ : extent_[d]) + e / s_.stride[d];
  }
  return number * plane() + at;
}

void PlacedImages::place_line(const uint16_t* x, const std::array<int64_t, 4>& step, int64_t l, uint16_t* to) const {
  const int64_t h = l % extent_[1], d = l / extent_[1] % extent_[0];
  int64_t number = l / extent_[1] / extent_[0];
  std::array<int64_t, 3> remainder{};
  for (size_t axis = 3; axis-- > 0;) {
    const auto size = static_cast<int64_t>(remainders_[axis].size());
    remainder[axis] = remainders_[axis][static_cast<size_t>(number % size)];
    number /= size;
  }
  const int64_t at_d = element(0, remainder[0], d), at_h = element(1, remainder[1], h);
  const int64_t channels = s_.channels;
  if (!inside(0, at_d) || !inside(1, at_h)) {
    std::fill_n(to, line_ * channels, uint16_t{0});
    return;
  }
  // Places of the line whose elements are inside.
  int64_t begin = 0, end = extent_[2];
  while (begin < end && !inside(2, element(2, remainder[2], begin))) ++begin;
  while (end > begin && !inside(2, element(2, remainder[2], end - 1))) --end;
  const uint16_t* from = x + at_d * step[1] + at_h * step[2] + element(2, remainder[2], begin) * step[3];
  int64_t done = 0;
  for (int64_t image = 0; image < images_; ++image, from += step[0]) {
    const int64_t first = image * pitch_ + begin;
    std::fill(to + done * channels, to + first * channels, uint16_t{0});
    if (s_.stride[2] == 1 && step[3] == channels) {
      std::memcpy(to + first * channels, from, static_cast<size_t>((end - begin) * channels * kElement));
    } else {
      for (int64_t w = 0; w < end - begin; ++w)
        std::memcpy(to + (first + w) * channels, from + w * s_.stride[2] * step[3],
                    static_cast<size_t>(channels * kElement));
    }
    done = first + end - begin;
  }
  std::fill(to + done * channels, to + line_ * channels, uint16_t{0});
}

}  // namespace tenon::cpu
