#include "tenon/device/cpu/winograd.h"

#include <algorithm>

#include "tenon/device/cpu/pieces.h"

namespace tenon::cpu {
namespace {

constexpr int64_t kFewChannels = 32;           // below which the transforms cost more than they save
constexpr int64_t kBand = 8;                   // tiles whose results go to memory together
constexpr int64_t kSpace = 320 * 1024;         // floats of a block's transformed inputs and products, …
constexpr int64_t kLeastTiles = 56;            // … and its tiles at least, so that weights are read seldom
constexpr int64_t kManyWeights = 512 * 1024;   // transformed weights (floats) from which on a block is as large as …
constexpr int64_t kMostTiles = 256;            // … this
constexpr int64_t kPartProducts = 512 * 1024;  // multiply-adds of one part, at least

}  // namespace

bool winograd_takes(const ConvShape& s) {
  using Extents = ConvShape::Extents;
  if (s.window != Extents{1, 3, 3} || s.stride != Extents{1, 1, 1} || s.dilation != Extents{1, 1, 1}) return false;
  if (s.groups != 1 || std::min(s.channels, s.filters) < kFewChannels || s.low[0] != 0 || s.in[0] != s.out[0])
    return false;
  // Tiles at the edges that are half empty must leave enough to be saved: at least a third.
  const WinogradTiles tiles(s, 1);
  return 3 * kWinogradPositions * tiles.rows * tiles.columns <= 2 * 9 * s.out[1] * s.out[2];
}

WinogradTiles::WinogradTiles(const ConvShape& s, int64_t examples)
    : images(examples * s.out[0]), rows(parts_of(s.out[1], 2)), columns(parts_of(s.out[2], 2)) {}

WinogradPlaces::WinogradPlaces(const ConvShape& s, const PlaceStrides& strides, const float* zeros)
    : s_(s), strides_(strides), zeros_(zeros) {}

int64_t WinogradPlaces::image_offset(int64_t image) const {
  return image / s_.out[0] * strides_.place[0] + image % s_.out[0] * strides_.place[1];
}

void WinogradPlaces::input(const float* x, int64_t image, int64_t row, int64_t column,
                           const float* (&at)[kWinogradPositions]) const {
  const int64_t top = 2 * row - s_.low[1], left = 2 * column - s_.low[2];
  const float* origin = x + image_offset(image);
  for (int64_t i = 0; i < 4; ++i) {
    const bool inside = top + i >= 0 && top + i < s_.in[1];
    for (int64_t j = 0; j < 4; ++j) {
      const bool there = inside && left + j >= 0 && left + j < s_.in[2];
      at[4 * i + j] = there ? origin + (top + i) * strides_.place[2] + (left + j) * strides_.place[3] : zeros_;
    }
  }
}

void WinogradPlaces::result(const float* y, int64_t image, int64_t row, int64_t column, const float* (&at)[4]) const {
  const float* origin = y + image_offset(image) + 2 * row * strides_.place[2] + 2 * column * strides_.place[3];
  for (int64_t i = 0; i < 2; ++i) {
    for (int64_t j = 0; j < 2; ++j) {
      const bool there = 2 * row + i < s_.out[1] && 2 * column + j < s_.out[2];
      at[2 * i + j] = there ? origin + i * strides_.place[2] + j * strides_.place[3] : zeros_;
    }
  }
}

// Bands are tiles that lie side by side, or whole rows of them one below the other.
struct WinogradConv::Job {
  Job(const WinogradTiles& of, const ConvResult& to, const ConvProgram& program, const PlaceSpace& space)
      : tiles(of), result(to), after(program), places(space) {}
  struct Band {
    int64_t image, row, column, rows, columns;
    [[nodiscard]] int64_t tiles() const { return rows * columns; }
  };
  [[nodiscard]] int64_t bands() const { return tiles.images * bands_of_image; }
  [[nodiscard]] Band band(int64_t b) const {
    const int64_t image = b / bands_of_image, i = b % bands_of_image;
    if (bands_of_row == 0) {
      const int64_t first = i * rows_of_band;
      return {image, first, 0, std::min(rows_of_band, tiles.rows - first), tiles.columns};
    }
    const int64_t row = i / bands_of_row, part = i % bands_of_row, first = tiles.columns * part / bands_of_row;
    return {image, row, first, 1, tiles.columns * (part + 1) / bands_of_row - first};
  }

  WinogradTiles tiles;
  ConvResult result;
  const ConvProgram& after;
  PlaceSpace places;
  const float *x = nullptr, *weights = nullptr;
  PlaceStrides x_strides;
  bool runs_on = false;      // rows of results run on from one to the next
  int64_t bands_of_row = 0;  // 0: a band has whole rows
  int64_t rows_of_band = 1, bands_of_image = 1;
};

// What is done at a time: transformed inputs v [16, tile, channel] and their products m [16, tile, filter].
struct WinogradConv::Block {
  std::vector<Job::Band> bands;
  std::vector<int64_t> at;  // each band's first tile, and the number of tiles
  float *v = nullptr, *m = nullptr;
  [[nodiscard]] int64_t tiles() const { return at.back(); }
};

WinogradConv::WinogradConv(const ConvShape& s, const LevelTable& level)
    : s_(s), loops_(level.tiles), transforms_(level.winograd) {
  panels_ = panels_of(s.filters, loops_, std::array{2, 3, 4, 1});
  channel_stride_ = rounded_up(s.channels, loops_.lanes);
  if (channel_stride_ % 256 == 0) channel_stride_ += loops_.lanes;  // tiles read as many rows of v at a time
  zeros_.assign(static_cast<size_t>(s.channels), 0.0F);
}

Ref<Buffer> WinogradConv::pack(const float* weight, const WeightSteps& steps) const {
  const int64_t columns = panels_.columns, position = panels_.count * s_.channels * columns;
  Ref<Buffer> packed = Buffer::allocate(static_cast<size_t>(kWinogradPositions * position) * sizeof(float));
  auto* to = reinterpret_cast<float*>(packed->data());
  std::vector<float> g(static_cast<size_t>(9 * columns), 0.0F);
  const TapRows rows(steps, loops_);
  for (int64_t p = 0; p < panels_.count; ++p) {
    const int64_t count = std::min(columns, s_.filters - p * columns);
    if (count < columns) std::fill(g.begin(), g.end(), 0.0F);
    const float* from = weight + p * columns * steps.filter;
    for (int64_t c = 0; c < s_.channels; ++c, to += columns) {
      rows(from + c * steps.channel, count, g.data(), columns);
      transforms_.weight(g.data(), columns, to, position);
    }
  }
  return packed;
}

int64_t WinogradConv::tiles_of_block() const {
  if (kWinogradPositions * s_.channels * s_.filters >= kManyWeights) return kMostTiles;
  return std::clamp(kSpace / (kWinogradPositions * (s_.channels + s_.filters)), kLeastTiles, kMostTiles);
}

int64_t WinogradConv::examples_together(int64_t examples, int threads) const {
  const int64_t wanted = std::max<int64_t>(1, tiles_of_block() / WinogradTiles(s_, 1).count());
  if (kWinogradPositions * s_.channels * s_.filters >= kManyWeights) return wanted;
  return std::clamp<int64_t>(examples / (2 * threads), 1, wanted);
}

void WinogradConv::run(const float* x, const PlaceStrides& strides, const float* weights, const ConvResult& result,
                       int64_t examples, const ConvProgram& after, ThreadPool& pool) const {
  PlaceSpace space;
  space.extent = {examples, s_.out[0], s_.out[1], s_.out[2]};
  space.count();
  Job job(WinogradTiles(s_, examples), result, after, space);
  job.x = x;
  job.x_strides = strides;
  job.weights = weights;
  PlaceSpace::Tensors tensors{&job.result.strides.place};
  for (auto& o : job.result.operands) {
    if (o.reach == ConvResult::Reach::All) tensors.push_back(&o.strides.place);
  }
  job.runs_on = job.places.runs_on(tensors, 2);
  if (job.runs_on && 2 * job.tiles.columns <= kBand) {
    job.rows_of_band = kBand / job.tiles.columns;
    job.bands_of_image = parts_of(job.tiles.rows, job.rows_of_band);
  } else {
    job.bands_of_row = parts_of(job.tiles.columns, kBand);
    job.bands_of_image = job.tiles.rows * job.bands_of_row;
  }
  const int64_t bands = job.bands(), tiles = job.tiles.count(), of_filters = panels_.count * panels_.columns;
  const int64_t products = kWinogradPositions * tiles * s_.channels * s_.filters;
  const int threads = products < 2 * kPartProducts ? 1 : pool.threads();
  int64_t blocks = parts_of(tiles, tiles_of_block());
  // Blocks for each thread, or threads for each block.
  const bool apart =
      threads == 1 || (blocks >= 2 * threads && kWinogradPositions * s_.channels * s_.filters < kManyWeights);
  if (apart) blocks = parts_of(blocks, threads) * threads;
  blocks = std::min(blocks, bands);
  const auto one = [&](int64_t b) {
    Block block;
    int64_t count = 0;
    for (int64_t i = bands * b / blocks; i < bands * (b + 1) / blocks; ++i) {
      block.bands.push_back(job.band(i));
      block.at.push_back(count);
      count += block.bands.back().tiles();
    }
    block.at.push_back(count);
    const Ref<Buffer> space_of_block = Buffer::allocate_scratch(
        static_cast<size_t>(kWinogradPositions * count * (channel_stride_ + of_filters)) * sizeof(float));
    block.v = reinterpret_cast<float*>(space_of_block->data());
    block.m = block.v + kWinogradPositions * count * channel_stride_;
    const auto in_parts = [&](int64_t units, auto step) {
      const int64_t parts = apart ? 1 : std::min<int64_t>(units, 4 * threads);
      pool.run(parts, [&](int64_t p) { (this->*step)(job, block, units * p / parts, units * (p + 1) / parts); });
    };
    in_parts(static_cast<int64_t>(block.bands.size()), &WinogradConv::transform);
    in_parts(kWinogradPositions * panels_.count, &WinogradConv::multiply);
    in_parts(static_cast<int64_t>(block.bands.size()), &WinogradConv::finish);
  };
  if (apart && threads > 1) {
    pool.run(blocks, one);
  } else {
    for (int64_t b = 0; b < blocks; ++b) one(b);
  }
}

// Of bands [first, end).
void WinogradConv::transform(const Job& job, const Block& block, int64_t first, int64_t end) const {
  const WinogradPlaces places(s_, job.x_strides, zeros_.data());
  const int64_t position = block.tiles() * channel_stride_;
  const float* d[kWinogradPositions];
  for (int64_t b = first; b < end; ++b) {
    const Job::Band& band = block.bands[static_cast<size_t>(b)];
    float* v = block.v + block.at[static_cast<size_t>(b)] * channel_stride_;
    for (int64_t i = 0; i < band.rows; ++i) {
      for (int64_t j = 0; j < band.columns; ++j, v += channel_stride_) {
        places.input(job.x, band.image, band.row + i, band.column + j, d);
        transforms_.input(d, s_.channels, v, position);
      }
    }
  }
}

// Of (position, panel) [first, end).
void WinogradConv::multiply(const Job& job, const Block& block, int64_t first, int64_t end) const {
  const int64_t tiles = block.tiles(), of_filters = panels_.count * panels_.columns;
  const int64_t pieces = parts_of(tiles, loops_.most_rows[panels_.vectors]), no_tap = 0;
  Tile tile{};
  tile.step = channel_stride_;
  tile.jump = kTileSegment * channel_stride_;
  tile.x_step = 1;
  tile.taps = &no_tap;
  tile.tap_count = 1;
  tile.run = s_.channels;
  tile.weight_step = panels_.columns;
  tile.y_step = of_filters;
  tile.last = loops_.lanes;
  for (int64_t unit = first; unit < end; ++unit) {
    const int64_t position = unit / panels_.count, panel = unit % panels_.count;
    const int64_t panel_size = s_.channels * panels_.columns;
    tile.weight = job.weights + unit * panel_size;
    for (int64_t p = 0; p < pieces; ++p) {
      // The last pieces ask for the next panel, a line for each channel.
      const int64_t left = (pieces - p) * s_.channels * kLine;
      const bool asks = unit + 1 < end && left <= panel_size;
      tile.next = asks ? tile.weight + 2 * panel_size - left : tile.weight;
      tile.next_step = asks ? kLine : 0;
      const int64_t at = tiles * p / pieces, rows = tiles * (p + 1) / pieces - at;
      tile.x = block.v + (position * tiles + at) * channel_stride_;
      tile.y = block.m + (position * tiles + at) * of_filters + panel * panels_.columns;
      loops_.tile[panels_.vectors][rows](tile);
    }
  }
}

// Of bands [first, end).
void WinogradConv::finish(const Job& job, const Block& block, int64_t first, int64_t end) const {
  alignas(64) float results[4 * kBand * kTileVectors * 16], nowhere[kTileVectors * 16];
  const int64_t columns = panels_.columns, of_filters = panels_.count * columns, position = block.tiles() * of_filters;
  ConvFinish after(job.result, job.places, job.after, loops_, 4 * kBand, columns);
  for (int64_t panel = 0; panel < panels_.count; ++panel) {
    after.filters(panel * columns, std::min(columns, s_.filters - panel * columns));
    for (int64_t b = first; b < end; ++b) {
      const Job::Band& band = block.bands[static_cast<size_t>(b)];
      const float* m = block.m + block.at[static_cast<size_t>(b)] * of_filters + panel * columns;
      const int64_t row = 2 * band.row, column = 2 * band.column;
      const int64_t height = std::min(2 * band.rows, s_.out[1] - row);
      const int64_t width = std::min(2 * band.columns, s_.out[2] - column);
      for (int64_t i = 0; i < height; i += 2) {
        for (int64_t j = 0; j < width; j += 2, m += of_filters) {
          float* y[4];
          for (int64_t k = 0; k < 4; ++k) {
            const int64_t in_row = i + k / 2, in_column = j + k % 2;
            y[k] = in_row < height && in_column < width ? results + (in_row * width + in_column) * columns : nowhere;
          }
          transforms_.output(m, position, columns, y);
        }
      }
      const int64_t at = band.image * s_.out[1] + row;
      PlaceTile places{{{at, column, width}, {at + 1, column, width}}, height == 2 ? 2 : 1};
      if (width == s_.out[2] && job.runs_on) places = {{{at, 0, height * width}, {}}, 1};
      after(places, results);
    }
  }
}

}  // namespace tenon::cpu
