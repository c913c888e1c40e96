#include "tenon/device/cpu/conv_i8.h"

#include <algorithm>
#include <cstring>
#include <optional>

#include "tenon/device/cpu/amx.h"
#include "tenon/device/cpu/pieces.h"

namespace tenon::cpu {
namespace {

constexpr int64_t kRightBytes = 512 * 1024;          // of gathered panels that stay in the second cache
constexpr int64_t kPartProducts = 16 * 1024 * 1024;  // multiply-adds of one part, at least
constexpr int64_t kPartBytes = 256 * 1024;           // of an image that one part lays out, at least
constexpr int64_t kDirectProducts = 4;               // of channels and filters of a group, at most: tap by tap
constexpr int64_t kMostColumns = 32, kMostSums = 32 * kMostColumns;  // of a block
constexpr int64_t kSlack = kI8Ahead;  // bytes that copies in whole vectors may reach beyond an end
constexpr uint8_t kHighest = 0x80;

}  // namespace

I8Conv::I8Conv(const ConvShape& shape, bool x_signed, bool weight_signed, const I8Loops& loops)
    : s_(moved_to_the_end(shape)),
      x_signed_(x_signed),
      weight_signed_(weight_signed),
      loops_(loops),
      flips_(loops.shifted && x_signed == weight_signed),
      taps_(ConvShape::volume(s_.window)),
      places_(ConvShape::volume(s_.out)),
      unit_(4 / loops.element) {
  const auto all = [](const ConvShape::Extents& e, int64_t x) { return e == ConvShape::Extents{x, x, x}; };
  plain_ = all(s_.window, 1) && all(s_.stride, 1) && all(s_.low, 0) && s_.in == s_.out;
  for (size_t a = 0; a < 3; ++a) laid_[a] = (s_.out[a] - 1) * s_.stride[a] + s_.dilation[a] * (s_.window[a] - 1) + 1;
  // Padding and distances can be of any size: no image of them then.
  const double size = static_cast<double>(laid_[0]) * static_cast<double>(laid_[1]) * static_cast<double>(laid_[2]);
  const bool large = size > 16384 + 4.0 * static_cast<double>(ConvShape::volume(s_.in) + places_);
  direct_ = filters() * channels() <= kDirectProducts || large;
  whole_rows_ = direct_ && !large;
  if (direct_) return;
  const int64_t channel_units = parts_of(channels(), unit_), plane = ConvShape::volume(laid_);
  for (int64_t c = 0; c < channel_units; ++c) {
    for (int64_t d = 0; d < s_.window[0]; ++d) {
      for (int64_t h = 0; h < s_.window[1]; ++h) {
        for (int64_t w = 0; w < s_.window[2]; ++w)
          offsets_.push_back(c * plane + (d * s_.dilation[0] * laid_[1] + h * s_.dilation[1]) * laid_[2] +
                             w * s_.dilation[2]);
      }
    }
  }
  depth_ = static_cast<int64_t>(offsets_.size()) * unit_;
  steps_ = parts_of(depth_, loops_.depth);
}

int64_t I8Conv::left_bytes() const { return steps_ * loops_.depth * loops_.rows * loops_.element; }
int64_t I8Conv::blocks() const { return parts_of(filters(), loops_.rows); }

void I8Conv::pack_filters(const uint8_t* weight, int64_t count, std::byte* to) const {
  std::vector<uint8_t> lines(static_cast<size_t>(loops_.rows * depth_));
  for (int64_t first = 0; first < count; first += loops_.rows, to += left_bytes()) {
    const int64_t here = std::min(loops_.rows, count - first);
    std::fill(lines.begin(), lines.end(), uint8_t{0});
    for (int64_t f = 0; f < here; ++f) {
      const uint8_t* from = weight + (first + f) * channels() * taps_;
      uint8_t* line = lines.data() + f * depth_;
      for (int64_t c = 0; c < channels(); ++c) {
        for (int64_t tap = 0; tap < taps_; ++tap) line[(c / unit_ * taps_ + tap) * unit_ + c % unit_] = *from++;
      }
    }
    // Bytes stay as they are: the sign is the block's to know.
    loops_.pack_left({lines.data(), depth_, 1, !loops_.shifted && weight_signed_}, here, depth_, to);
  }
}

Ref<Buffer> I8Conv::pack(const uint8_t* weight) const {
  const int64_t seen = channels() * taps_;
  if (direct_) {
    Ref<Buffer> kept = Buffer::allocate(static_cast<size_t>(std::max<int64_t>(1, s_.filters * seen)));
    std::copy_n(weight, s_.filters * seen, reinterpret_cast<uint8_t*>(kept->data()));
    return kept;
  }
  const int64_t group_bytes = blocks() * left_bytes();
  Ref<Buffer> packed = Buffer::allocate(
      static_cast<size_t>(s_.groups * group_bytes + s_.filters * static_cast<int64_t>(sizeof(uint32_t))));
  for (int64_t g = 0; g < s_.groups; ++g)
    pack_filters(weight + g * filters() * seen, filters(), packed->data() + g * group_bytes);
  auto* of_filters = reinterpret_cast<uint32_t*>(packed->data() + s_.groups * group_bytes);
  for (int64_t f = 0; f < s_.filters; ++f) {
    uint32_t sum = 0;
    for (int64_t i = 0; i < seen; ++i) {
      const uint8_t w = weight[f * seen + i];
      sum += static_cast<uint32_t>(weight_signed_ ? static_cast<int8_t>(w) : static_cast<int32_t>(w));
    }
    of_filters[f] = sum;
  }
  return packed;
}

// `to` is where these channels begin in the image; x is the group's first channel.
void I8Conv::lay_out(const uint8_t* x, uint8_t zero, int64_t channel_unit, uint32_t* to) const {
  const int64_t plane = ConvShape::volume(s_.in), first = channel_unit * unit_;
  const int64_t count = std::min(unit_, channels() - first);
  const bool as_signed = loops_.shifted ? !flips_ : x_signed_;  // as pack_right would flip them
  uint32_t padding = 0;
  const std::vector<uint8_t> zeros(static_cast<size_t>(unit_), zero);
  loops_.pack_unit({zeros.data(), 1, 1, as_signed}, 1, unit_, reinterpret_cast<std::byte*>(&padding));
  const int64_t begin = std::clamp<int64_t>(s_.low[2], 0, laid_[2]);
  const int64_t end = std::clamp<int64_t>(s_.in[2] + s_.low[2], begin, laid_[2]);
  for (int64_t d = 0; d < laid_[0]; ++d) {
    for (int64_t h = 0; h < laid_[1]; ++h, to += laid_[2]) {
      const int64_t from_d = d - s_.low[0], from_h = h - s_.low[1];
      const bool inside = from_d >= 0 && from_d < s_.in[0] && from_h >= 0 && from_h < s_.in[1] && begin < end;
      std::fill(to, to + (inside ? begin : laid_[2]), padding);
      if (!inside) continue;
      const uint8_t* line = x + first * plane + (from_d * s_.in[1] + from_h) * s_.in[2] + begin - s_.low[2];
      loops_.pack_unit({line, 1, plane, as_signed}, end - begin, count, reinterpret_cast<std::byte*>(to + begin));
      std::fill(to + end, to + laid_[2], padding);
    }
  }
}

// A panel of `count` places.
void I8Conv::gather(const Piece& piece, int64_t first, int64_t count, std::byte* to) const {
  if (piece.image == nullptr) {
    const bool as_signed = loops_.shifted ? !flips_ : x_signed_;
    loops_.pack_right({piece.x + first, 1, places_, as_signed}, count, channels(), to);
    return;
  }
  // Places that lie in one row of the result: where they see the image, and how many there are.
  I8Gather::Run runs[kMostColumns];
  int64_t ends[kMostColumns];  // of the runs of each piece of columns
  const int64_t pieces = loops_.columns / loops_.piece;
  int64_t n = 0;
  for (int64_t p = 0; p < pieces; ++p) {
    const int64_t last = first + std::min(count, (p + 1) * loops_.piece);
    for (int64_t place = first + p * loops_.piece; place < last;) {
      const int64_t w = place % s_.out[2], row = place / s_.out[2], h = row % s_.out[1], d = row / s_.out[1];
      const int64_t here = std::min(last - place, s_.out[2] - w);
      runs[n++] = {(d * s_.stride[0] * laid_[1] + h * s_.stride[1]) * laid_[2] + w * s_.stride[2], here};
      place += here;
    }
    ends[p] = n;
  }
  const int64_t units = depth_ / unit_, all = steps_ * loops_.depth / unit_, row_bytes = 4 * loops_.piece;
  const int64_t of_step = pieces == 1 ? all : loops_.depth / unit_;  // where steps follow each other, all at once
  for (int64_t unit = 0; unit < all; unit += of_step) {
    const int64_t there = std::min(of_step, units - unit);
    for (int64_t p = 0; p < pieces; ++p, to += of_step * row_bytes) {
      const int64_t begin = p == 0 ? 0 : ends[p - 1];
      loops_.gather({.image = piece.image,
                     .offsets = offsets_.data() + unit,
                     .units = there,
                     .step = s_.stride[2],
                     .runs = runs + begin,
                     .run_count = ends[p] - begin,
                     .to = to,
                     .line_bytes = row_bytes});
      if (there < of_step) std::memset(to + there * row_bytes, 0, static_cast<size_t>((of_step - there) * row_bytes));
    }
  }
}

// `windows` are the sums of what the block's places see, if weights have zero points.
void I8Conv::write(const Piece& piece, const int32_t* sums, int64_t filter, int64_t place, const int32_t* windows,
                   int32_t* to, int64_t row) const {
  const int64_t rows = std::min(loops_.rows, filters() - filter), columns = std::min(loops_.columns, places_ - place);
  loops_.move(sums, loops_.columns, rows, columns, piece.less + filter, to, row);
  if (windows == nullptr) return;
  for (int64_t r = 0; r < rows; ++r, to += row) {
    const auto zero = static_cast<uint32_t>(piece.zeros[filter + r]);
    if (zero == 0) continue;
    for (int64_t c = 0; c < columns; ++c)
      to[c] = static_cast<int32_t>(static_cast<uint32_t>(to[c]) -
                                   zero * (static_cast<uint32_t>(windows[c]) - piece.all_zeros));
  }
}

void I8Conv::sums(const Piece& piece, int64_t panel_begin, int64_t panel_end, int64_t block_begin,
                  int64_t block_end) const {
  std::optional<amx::Tiles> tiles;
  if (loops_.tiles) tiles.emplace();
  const int64_t panel_bytes = steps_ * loops_.depth * loops_.columns * loops_.element;
  const int64_t together = std::clamp<int64_t>(kRightBytes / panel_bytes, 1, panel_end - panel_begin);
  const Ref<Buffer> room = Buffer::allocate_scratch(static_cast<size_t>(together * panel_bytes + kSlack));
  const auto block = loops_.shifted && weight_signed_ ? loops_.turned : loops_.block[weight_signed_][x_signed_];
  alignas(64) int32_t results[kMostSums], whole_results[kMostSums];
  std::vector<int32_t> windows(piece.ones == nullptr ? 0 : static_cast<size_t>(together * loops_.columns));
  std::optional<I8Finish> finish;
  if (piece.follow != nullptr) finish.emplace(*piece.follow, loops_);
  for (int64_t begin = panel_begin; begin < panel_end; begin += together) {
    const int64_t end = std::min(begin + together, panel_end);
    for (int64_t j = begin; j < end; ++j) {
      std::byte* panel = room->data() + (j - begin) * panel_bytes;
      gather(piece, j * loops_.columns, std::min(loops_.columns, places_ - j * loops_.columns), panel);
      if (piece.ones == nullptr) continue;
      block(piece.ones, panel, steps_, results, loops_.columns);
      std::copy_n(results, loops_.columns, windows.data() + (j - begin) * loops_.columns);
    }
    for (int64_t b = block_begin; b < block_end; ++b) {
      const int64_t filter = b * loops_.rows, rows = std::min(loops_.rows, filters() - filter);
      // Nothing to take off, and a whole block: to where it belongs at once.
      const bool whole =
          !finish && piece.ones == nullptr && rows == loops_.rows &&
          std::all_of(piece.less + filter, piece.less + filter + loops_.rows, [](uint32_t v) { return v == 0; });
      for (int64_t j = begin; j < end; ++j) {
        const std::byte* panel = room->data() + (j - begin) * panel_bytes;
        const int64_t place = j * loops_.columns;
        int32_t* to = finish ? nullptr : piece.y + filter * places_ + place;
        if (whole && places_ - place >= loops_.columns) {
          block(piece.left + b * left_bytes(), panel, steps_, to, places_);
          continue;
        }
        block(piece.left + b * left_bytes(), panel, steps_, results, loops_.columns);
        const int32_t* seen = piece.ones == nullptr ? nullptr : windows.data() + (j - begin) * loops_.columns;
        if (!finish) {
          write(piece, results, filter, place, seen, to, places_);
          continue;
        }
        if (seen != nullptr) write(piece, results, filter, place, seen, whole_results, loops_.columns);
        (*finish)({.sums = seen == nullptr ? results : whole_results,
                   .from = loops_.columns,
                   .less = seen == nullptr ? piece.less + filter : nullptr,
                   .image = piece.n,
                   .row = piece.filter + filter,
                   .rows = rows,
                   .column = place,
                   .columns = std::min(loops_.columns, places_ - place)});
      }
    }
  }
}

I8Conv::Shared I8Conv::shared(const Call& call) const {
  Shared s;
  const auto* of_filters = reinterpret_cast<const uint32_t*>(call.packed + s_.groups * blocks() * left_bytes());
  // As blocks of sums see it.
  const int32_t seen_zero = flips_ ? call.x_zero + (x_signed_ ? kHighest : -kHighest) : call.x_zero;
  s.less.resize(static_cast<size_t>(s_.filters));
  std::transform(of_filters, of_filters + s_.filters, s.less.begin(),
                 [&](uint32_t sum) { return sum * static_cast<uint32_t>(seen_zero); });
  s.all_zeros = static_cast<uint32_t>(seen_zero) * static_cast<uint32_t>(channels() * taps_);
  if (std::any_of(call.weight_zeros.begin(), call.weight_zeros.end(), [](int32_t z) { return z != 0; })) {
    s.zeros.assign(static_cast<size_t>(s_.filters), call.weight_zeros[0]);
    if (call.weight_zeros.size() > 1) s.zeros.assign(call.weight_zeros.begin(), call.weight_zeros.end());
    s.ones.resize(static_cast<size_t>(left_bytes()));
    pack_filters(std::vector<uint8_t>(static_cast<size_t>(channels() * taps_), 1).data(), 1, s.ones.data());
  }
  return s;
}

I8Conv::Piece I8Conv::piece(const Call& call, const Shared& shared, int64_t i, const uint32_t* laid) const {
  const int64_t g = i % s_.groups;
  return {.x = call.x + i * channels() * ConvShape::volume(s_.in),
          .image = laid,
          .left = call.packed + g * blocks() * left_bytes(),
          .ones = shared.ones.empty() ? nullptr : shared.ones.data(),
          .less = shared.less.data() + g * filters(),
          .zeros = shared.zeros.empty() ? nullptr : shared.zeros.data() + g * filters(),
          .all_zeros = shared.all_zeros,
          .y = call.follow != nullptr ? nullptr : call.y + i * filters() * places_,
          .follow = call.follow,
          .n = i / s_.groups,
          .filter = g * filters()};
}

void I8Conv::run_tiles(const Call& call, ThreadPool& pool) const {
  const int64_t plane = ConvShape::volume(laid_), channel_units = parts_of(channels(), unit_);
  const int64_t panels = parts_of(places_, loops_.columns), pieces = call.n * s_.groups;
  const Shared all = shared(call);
  const auto new_image = [&] {
    return plain_ ? Ref<Buffer>() : Buffer::allocate_scratch(static_cast<size_t>(channel_units * plane * 4 + kSlack));
  };
  const auto laid_in = [](const Ref<Buffer>& image) {
    return image ? reinterpret_cast<uint32_t*>(image->data()) : nullptr;
  };
  const auto lay = [&](const Piece& p, uint32_t* laid, int64_t begin, int64_t end) {
    for (int64_t c = begin; c < end; ++c) lay_out(p.x, static_cast<uint8_t>(call.x_zero), c, laid + c * plane);
  };
  const int64_t work = filters() * places_ * depth_;
  if (work < 2 * kPartProducts || pool.threads() == 1) {
    // Parts are runs of images and groups.
    const int64_t wanted = pool.threads() == 1 ? 1 : work * pieces / kPartProducts;
    const int64_t parts = std::clamp<int64_t>(wanted, 1, std::min<int64_t>(pieces, 4 * pool.threads()));
    pool.run(parts, [&](int64_t part) {
      const Ref<Buffer> image = new_image();
      for (int64_t i = pieces * part / parts; i < pieces * (part + 1) / parts; ++i) {
        const Piece p = piece(call, all, i, laid_in(image));
        if (image) lay(p, laid_in(image), 0, channel_units);
        sums(p, 0, panels, 0, blocks());
      }
    });
    return;
  }
  // Parts are ranges of panels, and of filters where there are too few panels.
  const int64_t wanted = std::clamp<int64_t>(work / kPartProducts, pool.threads(), 4 * pool.threads());
  const int64_t across = std::min(panels, wanted), down = std::clamp<int64_t>(wanted / across, 1, blocks());
  const int64_t laying = std::clamp<int64_t>(channel_units * plane * 4 / kPartBytes, 1, channel_units);
  const Ref<Buffer> image = new_image();
  for (int64_t i = 0; i < pieces; ++i) {
    const Piece one = piece(call, all, i, laid_in(image));
    if (image) {
      pool.run(laying, [&](int64_t part) {
        lay(one, laid_in(image), channel_units * part / laying, channel_units * (part + 1) / laying);
      });
    }
    pool.run(across * down, [&](int64_t part) {
      const int64_t p = part % across, b = part / across;
      sums(one, panels * p / across, panels * (p + 1) / across, blocks() * b / down, blocks() * (b + 1) / down);
    });
  }
}

// One row of the result.
void I8Conv::direct_row(const Call& call, int64_t n, int64_t filter, int64_t row, int32_t* y) const {
  const auto add = loops_.add_products[x_signed_];
  const auto inside = [&](size_t axis, int64_t at) { return at >= 0 && at < s_.in[axis]; };
  const int64_t depth = row / s_.out[1], line = row % s_.out[1], stride = s_.stride[2];
  const uint8_t* x = call.x + (n * s_.channels + filter / filters() * channels()) * ConvShape::volume(s_.in);
  const auto* weight = reinterpret_cast<const uint8_t*>(call.packed) + filter * channels() * taps_;
  const auto zeros = call.weight_zeros;
  const int32_t zero = zeros.empty() ? 0 : zeros[zeros.size() == 1 ? 0 : static_cast<size_t>(filter)];
  std::fill(y, y + s_.out[2], 0);
  for (int64_t c = 0; c < channels(); ++c, x += ConvShape::volume(s_.in)) {
    for (int64_t d = 0; d < s_.window[0]; ++d) {
      for (int64_t h = 0; h < s_.window[1]; ++h, weight += s_.window[2]) {
        const int64_t at_d = depth * s_.stride[0] + d * s_.dilation[0] - s_.low[0];
        const int64_t at_h = line * s_.stride[1] + h * s_.dilation[1] - s_.low[1];
        if (!inside(0, at_d) || !inside(1, at_h)) continue;
        const uint8_t* from = x + (at_d * s_.in[1] + at_h) * s_.in[2];
        for (int64_t w = 0; w < s_.window[2]; ++w) {
          // Place o sees o * stride + at.
          const int64_t at = w * s_.dilation[2] - s_.low[2];
          const int64_t begin = at >= 0 ? 0 : (stride - 1 - at) / stride;
          const int64_t end = s_.in[2] <= at ? 0 : std::min(s_.out[2], (s_.in[2] - 1 - at) / stride + 1);
          if (begin >= end) continue;
          const int32_t value = weight_signed_ ? static_cast<int8_t>(weight[w]) : static_cast<int32_t>(weight[w]);
          add(from + begin * stride + at, stride, end - begin, call.x_zero, value - zero, y + begin);
        }
      }
    }
  }
}

void I8Conv::direct_rows(const Call& call, int64_t begin, int64_t end) const {
  const int64_t rows = s_.out[0] * s_.out[1], width = s_.out[2];
  std::optional<I8Finish> finish;
  if (call.follow != nullptr) finish.emplace(*call.follow, loops_);
  std::vector<int32_t> own(finish ? static_cast<size_t>(width) : 0);
  for (int64_t i = begin; i < end; ++i) {
    const int64_t n = i / rows / s_.filters, filter = i / rows % s_.filters;
    direct_row(call, n, filter, i % rows, finish ? own.data() : call.y + i * width);
    if (finish) (*finish)({own.data(), width, nullptr, n, filter, 1, i % rows * width, width});
  }
}

void I8Conv::run_direct(const Call& call, ThreadPool& pool) const {
  const int64_t seen = channels() * taps_, all = call.n * s_.filters * s_.out[0] * s_.out[1];
  // Such products take about sixteen times as long.
  const int64_t parts = std::clamp<int64_t>(all * s_.out[2] * seen / (kPartProducts / 16), 1, all);
  pool.run(parts, [&](int64_t part) { direct_rows(call, all * part / parts, all * (part + 1) / parts); });
}

// A group's channels with their padding; of each row the columns that are a step of the result apart side by side.
void I8Conv::lay_phases(const uint8_t* x, uint8_t zero, std::byte* to) const {
  const int64_t stride = s_.stride[2], phase = parts_of(laid_[2], stride);
  std::memset(to, zero, static_cast<size_t>(channels() * laid_[0] * laid_[1] * stride * phase));
  const int64_t begin = std::clamp<int64_t>(s_.low[2], 0, laid_[2]);
  const int64_t end = std::clamp<int64_t>(s_.in[2] + s_.low[2], begin, laid_[2]);
  auto* row = reinterpret_cast<uint8_t*>(to);
  for (int64_t c = 0; c < channels(); ++c) {
    for (int64_t d = 0; d < laid_[0]; ++d) {
      for (int64_t h = 0; h < laid_[1]; ++h, row += stride * phase) {
        const int64_t from_d = d - s_.low[0], from_h = h - s_.low[1];
        if (from_d < 0 || from_d >= s_.in[0] || from_h < 0 || from_h >= s_.in[1]) continue;
        const uint8_t* from = x + ((c * s_.in[0] + from_d) * s_.in[1] + from_h) * s_.in[2] - s_.low[2];
        if (stride == 1) {
          std::copy(from + begin, from + end, row + begin);
          continue;
        }
        for (int64_t w = begin; w < end; ++w) row[w % stride * phase + w / stride] = from[w];
      }
    }
  }
}

// Rows of the filters of one image and group.
void I8Conv::group_rows(const Call& call, int64_t piece, int64_t row_begin, int64_t row_end, std::byte* image) const {
  const int64_t stride = s_.stride[2], phase = parts_of(laid_[2], stride), line = stride * phase, width = s_.out[2];
  const int64_t n = piece / s_.groups, first = piece % s_.groups * filters();
  lay_phases(call.x + piece * channels() * ConvShape::volume(s_.in), static_cast<uint8_t>(call.x_zero), image);
  std::vector<int64_t> offsets;
  for (int64_t c = 0; c < channels(); ++c) {
    for (int64_t d = 0; d < s_.window[0]; ++d) {
      for (int64_t h = 0; h < s_.window[1]; ++h) {
        for (int64_t w = 0; w < s_.window[2]; ++w) {
          const int64_t at = w * s_.dilation[2];
          offsets.push_back(((c * laid_[0] + d * s_.dilation[0]) * laid_[1] + h * s_.dilation[1]) * line +
                            at % stride * phase + at / stride);
        }
      }
    }
  }
  std::optional<I8Finish> finish;
  if (call.follow != nullptr) finish.emplace(*call.follow, loops_);
  std::vector<int32_t> own(finish ? static_cast<size_t>(width) : 0);
  std::vector<int16_t> weights(offsets.size());
  std::vector<const uint8_t*> taps(offsets.size());
  for (int64_t f = first; f < first + filters(); ++f) {
    const auto zeros = call.weight_zeros;
    const int32_t zero = zeros.empty() ? 0 : zeros[zeros.size() == 1 ? 0 : static_cast<size_t>(f)];
    const auto* bytes = reinterpret_cast<const uint8_t*>(call.packed) + f * static_cast<int64_t>(offsets.size());
    int64_t sum = 0;
    for (size_t t = 0; t < weights.size(); ++t) {
      const int32_t value = weight_signed_ ? static_cast<int8_t>(bytes[t]) : static_cast<int32_t>(bytes[t]);
      weights[t] = static_cast<int16_t>(value - zero);
      sum += weights[t];
    }
    for (int64_t row = row_begin; row < row_end; ++row) {
      const int64_t d = row / s_.out[1] * s_.stride[0], h = row % s_.out[1] * s_.stride[1];
      const auto* from = reinterpret_cast<const uint8_t*>(image) + (d * laid_[1] + h) * line;
      for (size_t t = 0; t < taps.size(); ++t) taps[t] = from + offsets[t];
      int32_t* y = finish ? own.data() : call.y + ((n * s_.filters + f) * s_.out[0] * s_.out[1] + row) * width;
      loops_.taps({taps.data(), weights.data(), static_cast<int64_t>(taps.size()), x_signed_,
                   static_cast<uint32_t>(call.x_zero * sum), y, width});
      if (finish) (*finish)({y, width, nullptr, n, f, 1, row * width, width});
    }
  }
}

void I8Conv::run_taps(const Call& call, ThreadPool& pool) const {
  const int64_t rows = s_.out[0] * s_.out[1], pieces = call.n * s_.groups;
  const int64_t bytes = channels() * laid_[0] * laid_[1] * rounded_up(laid_[2], s_.stride[2]) + kI8Ahead;
  // Such products take about four times as long. Parts are runs of pieces, or of rows where there is but one piece.
  const int64_t wanted = pieces * filters() * places_ * channels() * taps_ / (kPartProducts / 4);
  const int64_t across = std::clamp<int64_t>(wanted, 1, pieces);
  const int64_t down = pieces == 1 ? std::clamp<int64_t>(wanted, 1, std::min<int64_t>(rows, pool.threads())) : 1;
  pool.run(across * down, [&](int64_t part) {
    const int64_t p = part / down, r = part % down;
    const Ref<Buffer> image = Buffer::allocate_scratch(static_cast<size_t>(bytes));
    for (int64_t i = pieces * p / across; i < pieces * (p + 1) / across; ++i)
      group_rows(call, i, rows * r / down, rows * (r + 1) / down, image->data());
  });
}

void I8Conv::run(const Call& call, ThreadPool& pool) const {
  if (call.n * s_.filters * places_ == 0) return;
  if (whole_rows_)
    run_taps(call, pool);
  else
    direct_ ? run_direct(call, pool) : run_tiles(call, pool);
}

}  // namespace tenon::cpu
