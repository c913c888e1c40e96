#include "tenon/device/cpu/direct_conv.h"

#include <algorithm>
#include <vector>

#include "tenon/device/cpu/pieces.h"
#include "tenon/device/cpu/product.h"

namespace tenon::cpu {
namespace {

constexpr int64_t kLongSum = 1536;           // products from which on a panel is narrow, so that it stays in the cache
constexpr int64_t kChunk = 16 * 1024;        // bytes of input that all panels run over, where
constexpr int64_t kFewWeights = 512 * 1024;  // … the weights have no more bytes than this
constexpr int64_t kDepthwiseTile = 8192;     // elements of a block of results that are finished afterwards
constexpr int64_t kDepthwiseStrip = 6144;    // elements of the input's rows, and weights, that stay in the first cache
constexpr int64_t kFewPlaces = 512;          // of the examples that go together, …
constexpr int64_t kTogether = 1536 * 1024;   // … and bytes of their input
constexpr int64_t kPartProducts = 512 * 1024;  // multiply-adds of one part, at least; …
constexpr int64_t kDepthwisePart = 96 * 1024;  // … where each waits for an element of its own

}  // namespace

struct DirectConv::Job {
  PlaceSpace space;
  const float* x = nullptr;
  PlaceStrides x_strides;           // of neighbouring elements
  std::array<int64_t, 4> x_step{};  // from a place to the next one's input
  std::vector<int64_t> taps;
  int64_t run = 1;
  ConvResult result;
  int64_t tile_rows = 1;     // places of a tile, at most
  int64_t tiles_of_row = 1;  // 0: two rows of places make one tile
  int64_t tiles = 0;
  // Of a part of the rows of an example (Rows):
  int64_t first_row = 0;      // of the result
  int64_t ring = Rows::kAll;  // row r of x lies where row r % ring does

  [[nodiscard]] PlaceTile tile(int64_t t) const {
    if (tiles_of_row == 0) {
      PlaceTile two{{{2 * t, 0, space.width}, {2 * t + 1, 0, space.width}}, 2};
      if (2 * t + 1 == space.rows) two.pieces = 1;
      return two;
    }
    const int64_t row = t / tiles_of_row, i = t % tiles_of_row;
    const int64_t first = space.width * i / tiles_of_row;
    return {{{row, first, space.width * (i + 1) / tiles_of_row - first}, {}}, 1};
  }
};

DirectConv::DirectConv(const ConvShape& shape, const LevelTable& level, const std::optional<ir::ScalarProgram>& after)
    : s_(moved_to_the_end(shape)), loops_(level.tiles), after_(level, after) {
  depthwise_ = s_.groups == s_.channels && s_.filters == s_.channels;
  if (winograd_takes(s_)) winograd_.emplace(s_, level);
  channel_stride_ = depthwise_ ? rounded_up(s_.channels, loops_.lanes) : s_.channels;
  placed_ = placed_input(s_, channel_stride_);
  if (depthwise_ || winograd_) {  // what lies outside is not read
    placed_.low = {0, 0, 0};
    placed_.extent = s_.in;
  }
  merged_ = s_.groups == 1 && s_.dilation[2] == 1;
  depth_ = s_.channels / s_.groups * ConvShape::volume(s_.window);
  if (!depthwise_) panels_ = choose_panels();
}

// Wide panels read the input less often, narrow ones the weights.
Panels DirectConv::choose_panels() const {
  const bool narrow = depth_ > kLongSum || s_.out[2] <= kTileSegment;
  return panels_of(s_.filters / s_.groups, loops_, narrow ? std::array{2, 3, 4, 1} : std::array{4, 3, 2, 1});
}

// How many places the tiles of so many have.
int64_t DirectConv::places_of_tile(int64_t width) const {
  const int64_t most = loops_.most_rows[panels_.vectors];
  return width / parts_of(width, most);
}

// Short rows leave tiles half empty, and long sums pay for examples that lie far apart.
bool DirectConv::wants_examples_side_by_side(int64_t examples, int64_t width) const {
  if (depthwise_ || depth_ < kLongSum / 2 || width == kTileSegment || width >= kTileRows) return false;
  return 4 * places_of_tile(examples) > 5 * places_of_tile(width);
}

Ref<Buffer> DirectConv::pack(const float* weight) const { return pack(weight, row_major_steps(s_)); }

Ref<Buffer> DirectConv::pack(const float* weight, const WeightSteps& steps) const {
  if (winograd_) return winograd_->pack(weight, steps);
  const int64_t taps = ConvShape::volume(s_.window), channels = s_.channels / s_.groups;
  if (depthwise_) {
    Ref<Buffer> packed = Buffer::allocate(static_cast<size_t>(taps * channel_stride_) * sizeof(float));
    auto* to = reinterpret_cast<float*>(packed->data());
    std::fill_n(to, taps * channel_stride_, 0.0F);
    for (int64_t c = 0; c < s_.channels; ++c) {
      for (int64_t t = 0; t < taps; ++t)
        to[t * channel_stride_ + c] = weight[c * steps.group + steps.taps[static_cast<size_t>(t)]];
    }
    return packed;
  }
  const int64_t filters = s_.filters / s_.groups, tap_step = channels * panels_.columns;
  const TapRows rows(steps, loops_);
  Ref<Buffer> packed =
      Buffer::allocate(static_cast<size_t>(s_.groups * panels_.count * depth_ * panels_.columns) * sizeof(float));
  auto* to = reinterpret_cast<float*>(packed->data());
  for (int64_t g = 0; g < s_.groups; ++g) {
    for (int64_t p = 0; p < panels_.count; ++p, to += depth_ * panels_.columns) {
      const int64_t count = std::min(panels_.columns, filters - p * panels_.columns);
      const float* from = weight + g * steps.group + p * panels_.columns * steps.filter;
      if (taps == 1) {
        pack_panel(from + steps.taps[0], steps.channel, steps.filter, depth_, count, to, panels_.columns, loops_);
        continue;
      }
      if (count < panels_.columns) std::fill_n(to, depth_ * panels_.columns, 0.0F);
      for (int64_t c = 0; c < channels; ++c) rows(from + c * steps.channel, count, to + c * panels_.columns, tap_step);
    }
  }
  return packed;
}

bool DirectConv::reads(const ConstView& x) const {
  const auto zero = [](const ConvShape::Extents& e) { return e == ConvShape::Extents{0, 0, 0}; };
  return x.strides[1] == 1 && (depthwise_ || winograd_ || (zero(s_.low) && zero(s_.high))) &&
         channel_stride_ == s_.channels && numel(x.shape) != 0;
}

// Where the taps of a place lie in an input with these strides.
void DirectConv::read_from(Job& job, const PlaceStrides& strides) const {
  job.x_strides = strides;
  if (depthwise_) return;
  job.x_step[0] = strides.place[0];
  for (size_t d = 0; d < 3; ++d) job.x_step[d + 1] = strides.place[d + 1] * s_.stride[d];
  const bool merged = merged_ && strides.place[3] == s_.channels;
  job.run = s_.channels / s_.groups * (merged ? s_.window[2] : 1);
  job.taps = tap_offsets(s_, strides, merged);
}

void DirectConv::run(const ConstView& x, std::span<const ConstView> operands, const View& y, ThreadPool& pool) const {
  const int64_t n = y.shape[0];
  if (numel(y.shape) == 0) return;
  Job job;
  job.result.y = y.as<float>();
  job.result.strides = place_strides(y.strides);
  for (const ConstView& o : operands) job.result.add_operand(o.as<float>(), place_strides(o.strides));
  const PlaceStrides from = place_strides(x.strides);
  const auto run_on = [&](Job& part, const float* data, const PlaceStrides& strides, int64_t examples,
                          ThreadPool& threads) {
    part.x = data;
    part.space.extent = {examples, s_.out[0], s_.out[1], s_.out[2]};
    if (winograd_) {
      winograd_->run(data, strides, reinterpret_cast<const float*>(weights_->data()), part.result, examples, after_,
                     threads);
      return;
    }
    read_from(part, strides);
    if (depthwise_) {
      run_depthwise(part, threads);
    } else {
      run_placed(part, threads);
    }
  };
  if (reads(x)) {
    run_on(job, x.as<float>(), from, n, pool);
    return;
  }
  const int64_t distance = placed_.distance(), together = examples_together(n, pool.threads());
  const int64_t groups = parts_of(n, together);
  const auto examples = [&](int64_t group) {
    const int64_t first = n * group / groups, count = n * (group + 1) / groups - first;
    const Ref<Buffer> space = Buffer::allocate_scratch(static_cast<size_t>(count * distance) * sizeof(float));
    auto* placed = reinterpret_cast<float*>(space->data());
    for (int64_t i = 0; i < count; ++i)
      placed_.place(x.as<float>() + (first + i) * from.place[0], from, placed + i * distance, loops_, pool);
    Job part = job;
    part.result.y += first * part.result.strides.place[0];
    for (auto& o : part.result.operands) o.data += first * o.strides.place[0];
    run_on(part, placed, placed_.strides(), count, pool);
  };
  if (groups < 2 * pool.threads()) {
    for (int64_t g = 0; g < groups; ++g) examples(g);
  } else {
    pool.run(groups, examples);
  }
}

// Examples of few places go together, so that weights are read once for all of them.
int64_t DirectConv::examples_together(int64_t examples, int threads) const {
  if (winograd_) return winograd_->examples_together(examples, threads);
  const int64_t bytes = placed_.distance() * kFloat;
  const int64_t most = std::max<int64_t>(1, kTogether / std::max<int64_t>(1, bytes));  // no channels, no bytes
  int64_t wanted = kFewPlaces / ConvShape::volume(s_.out);
  if (!depthwise_ && wants_examples_side_by_side(kTileRows, s_.out[2])) wanted = std::max<int64_t>(wanted, kTileRows);
  return std::clamp<int64_t>(std::min(wanted, examples / (2 * threads)), 1, most);
}

void DirectConv::run_placed(const Job& given, ThreadPool& pool) const {
  Job job = given;
  PlaceSpace::Tensors tensors{&job.x_step, &job.result.strides.place};
  for (auto& o : job.result.operands) {
    if (o.reach == ConvResult::Reach::All) tensors.push_back(&o.strides.place);
  }
  if (wants_examples_side_by_side(job.space.extent[0], job.space.extent[3]) && !job.space.runs_on(tensors, 2)) {
    const auto turn = [](std::array<int64_t, 4>& axes) { std::rotate(axes.begin(), axes.begin() + 1, axes.end()); };
    turn(job.space.extent);
    for (auto* t : tensors) turn(*t);
  }
  job.space.merge(tensors);
  const int64_t products = job.space.rows * job.space.width * s_.filters * depth_;
  const int64_t threads = products < 2 * kPartProducts ? 1 : pool.threads();
  cut(job);
  const int64_t panels = s_.groups * panels_.count;
  // Each thread its own weights where these are more than the places; the bits are the same either way.
  const bool by_panel =
      panels >= 2 * threads && depth_ * s_.filters > 4 * job.space.rows * job.space.width * s_.channels;
  const int64_t units = by_panel ? panels : job.tiles;
  const int64_t parts = threads == 1 ? 1 : std::min(units, 4 * threads);
  pool.run(parts, [&](int64_t p) {
    const int64_t first = units * p / parts, end = units * (p + 1) / parts;
    ConvFinish finish = finish_of(job);
    if (by_panel) {
      run_tiles(job, finish, 0, job.tiles, first, end);
    } else {
      run_tiles(job, finish, first, end, 0, panels);
    }
  });
}

// Places into tiles.
void DirectConv::cut(Job& job) const {
  job.tile_rows = loops_.most_rows[panels_.vectors];
  const bool pairs = job.space.width == kTileSegment && job.tile_rows == 2 * kTileSegment && job.space.rows > 1;
  job.tiles_of_row = pairs ? 0 : parts_of(job.space.width, job.tile_rows);
  job.tiles = pairs ? (job.space.rows + 1) / 2 : job.space.rows * job.tiles_of_row;
}

ConvFinish DirectConv::finish_of(const Job& job) const {
  if (!depthwise_) return {job.result, job.space, after_, loops_, loops_.most_rows[panels_.vectors], panels_.columns};
  ConvFinish finish(job.result, job.space, after_, loops_, block_places(), channel_stride_);
  finish.filters(0, s_.channels);
  return finish;
}

void DirectConv::run_tiles(const Job& job, ConvFinish& finish, int64_t first, int64_t end, int64_t panel,
                           int64_t panel_end) const {
  alignas(64) float block[kTileRows * kTileVectors * 16] = {};
  const int64_t filters = s_.filters / s_.groups;
  const bool few_weights = (panel_end - panel) * depth_ * panels_.columns * kFloat <= kFewWeights;
  const int64_t bytes = job.tile_rows * job.x_step[3] * kFloat;
  const int64_t chunk = few_weights ? std::max<int64_t>(1, kChunk / std::max<int64_t>(1, bytes)) : end - first;
  const auto* weights = reinterpret_cast<const float*>(weights_->data());
  for (int64_t begin = first; begin < end; begin += chunk) {
    for (int64_t p = panel; p < panel_end; ++p) {
      const int64_t group = p / panels_.count, filter = group * filters + p % panels_.count * panels_.columns;
      const int64_t count = std::min(panels_.columns, filters - p % panels_.count * panels_.columns);
      finish.filters(filter, count);
      const int vectors = static_cast<int>(parts_of(count, loops_.lanes));
      Tile tile{};
      tile.step = job.x_step[3];
      tile.jump = kTileSegment * job.x_step[3];
      tile.x_step = 1;
      tile.taps = job.taps.data();
      tile.tap_count = static_cast<int64_t>(job.taps.size());
      tile.run = job.run;
      tile.weight = weights + p * depth_ * panels_.columns;
      tile.weight_step = panels_.columns;
      tile.last = static_cast<int>(count - static_cast<int64_t>(vectors - 1) * loops_.lanes);
      for (int64_t t = begin; t < std::min(end, begin + chunk); ++t) {
        const PlaceTile places = job.tile(t);
        const PlaceTile::Piece& piece = places.piece[0];
        const int64_t x = job.space.offset(job.x_step, piece.row);
        tile.x = job.x + x + piece.first * job.x_step[3] + group * (s_.channels / s_.groups);
        if (places.pieces == 2) tile.jump = job.space.offset(job.x_step, places.piece[1].row) - x;
        float* straight = finish.straight(places);
        // The next panel's weights, a line for each product, so that its first tile need not wait for them.
        const int64_t line = (t - begin) * depth_ * kLine;
        const bool wanted = begin == first && p + 1 < panel_end && line < depth_ * panels_.columns;
        tile.next = wanted ? tile.weight + depth_ * panels_.columns + line : tile.weight;
        tile.next_step = wanted ? kLine : 0;
        tile.steps = finish.steps().data();
        tile.step_count = straight != nullptr ? static_cast<int>(finish.steps().size()) : 0;
        tile.y = straight != nullptr ? straight : block;
        tile.y_step = straight != nullptr ? finish.step() : panels_.columns;
        loops_.tile[vectors][places.places()](tile);
        if (straight == nullptr) finish(places, block);
      }
    }
  }
}

void DirectConv::run_depthwise(const Job& given, ThreadPool& pool) const {
  Job job = given;
  job.space.count();
  const int64_t products = job.space.rows * job.space.width * s_.filters * depth_;
  const int64_t most = pool.threads() == 1 ? 1 : std::min<int64_t>(job.space.rows, 4 * pool.threads());
  const int64_t parts = std::clamp<int64_t>(products / kDepthwisePart, 1, most);
  pool.run(parts, [&](int64_t p) {
    const int64_t first = job.space.rows * p / parts;
    ConvFinish finish = finish_of(job);
    run_depthwise_rows(job, finish, first, job.space.rows * (p + 1) / parts);
  });
}

// The taps of a place in the given column that lie inside, of those rows of the window that `rows` says.
void DirectConv::inner_taps(const Job& job, int64_t column, std::span<const DepthwiseTap> rows,
                            std::vector<DepthwiseTap>& taps) const {
  for (const DepthwiseTap& row : rows) {
    for (int64_t w = 0; w < s_.window[2]; ++w) {
      const int64_t at = column * s_.stride[2] + w * s_.dilation[2] - s_.low[2];
      if (at >= 0 && at < s_.in[2])
        taps.push_back({row.x + at * job.x_strides.place[3], (row.weight + w) * channel_stride_});
    }
  }
}

// The rows of the window that lie inside for a row of places: where each begins, and the number of its first tap.
void DirectConv::inner_rows(const Job& job, int64_t row, std::vector<DepthwiseTap>& rows) const {
  row += job.first_row;
  const std::array<int64_t, 2> at{row / s_.out[1] % s_.out[0], row % s_.out[1]};
  const int64_t example = row / s_.out[1] / s_.out[0] * job.x_strides.place[0];
  rows.clear();
  for (int64_t d = 0; d < s_.window[0]; ++d) {
    for (int64_t h = 0; h < s_.window[1]; ++h) {
      const int64_t in_d = at[0] * s_.stride[0] + d * s_.dilation[0] - s_.low[0];
      const int64_t in_h = at[1] * s_.stride[1] + h * s_.dilation[1] - s_.low[1];
      if (in_d < 0 || in_d >= s_.in[0] || in_h < 0 || in_h >= s_.in[1]) continue;
      rows.push_back({example + in_d * job.x_strides.place[1] + in_h % job.ring * job.x_strides.place[2],
                      (d * s_.window[1] + h) * s_.window[2]});
    }
  }
}

// Runs of places in a row, each with the taps of all its places.
struct DirectConv::DepthwiseRuns {
  struct Run {
    int64_t row, column, places;
    size_t tap, tap_end;
  };
  std::vector<Run> runs;
  std::vector<DepthwiseTap> taps;

  // The places [column, end) of a run that has them.
  void set(DepthwiseRow& row, const Run& run, int64_t column, int64_t end, const float* x) const {
    row.x = x + (column - run.column) * row.step;
    row.places = end - column;
    row.taps = taps.data() + run.tap;
    row.tap_count = static_cast<int64_t>(run.tap_end - run.tap);
  }
};

DirectConv::DepthwiseRuns DirectConv::depthwise_runs(const Job& job, int64_t first, int64_t end) const {
  const int64_t width = job.space.width;
  // Columns whose taps all lie inside: [low, high).
  const int64_t reach = s_.dilation[2] * (s_.window[2] - 1), stride = s_.stride[2];
  const int64_t low = std::clamp<int64_t>((s_.low[2] + stride - 1) / stride, 0, width);
  const int64_t last = s_.in[2] - 1 + s_.low[2] - reach;
  const int64_t high = std::clamp<int64_t>(last < 0 ? 0 : last / stride + 1, low, width);
  DepthwiseRuns all;
  std::vector<DepthwiseTap> rows;
  for (int64_t row = first; row < end; ++row) {
    inner_rows(job, row, rows);
    for (int64_t column = 0, places = 0; column < width; column += places) {
      places = column >= low && column < high ? high - column : 1;
      const size_t tap = all.taps.size();
      inner_taps(job, column, rows, all.taps);
      all.runs.push_back({row, column, places, tap, all.taps.size()});
    }
  }
  return all;
}

DepthwiseRow DirectConv::depthwise_row(const Job& job) const {
  DepthwiseRow row{};
  row.step = s_.stride[2] * job.x_strides.place[3];
  row.channels = channel_stride_;
  row.weight = reinterpret_cast<const float*>(weights_->data());
  return row;
}

// All rows of some columns and channels, then the next: so many that each element of the input comes to the first cache
// once for all rows of the window.
void DirectConv::run_depthwise_strips(const Job& job, const DepthwiseRuns& runs, ConvFinish& finish) const {
  const int64_t width = job.space.width, lanes = loops_.lanes, taps = ConvShape::volume(s_.window);
  const int64_t reach = s_.dilation[2] * (s_.window[2] - 1), rows = taps / s_.window[2];
  const auto channels_of = [&](int64_t columns) {
    return kDepthwiseStrip / (rows * (columns * s_.stride[2] + reach) + taps) / lanes * lanes;
  };
  int64_t strips = 1;
  while (strips < width && channels_of(parts_of(width, strips)) < std::min(s_.channels, 2 * lanes)) ++strips;
  const int64_t most = std::max(lanes, channels_of(parts_of(width, strips)));
  DepthwiseRow row = depthwise_row(job);
  row.y_step = finish.step();
  row.steps = finish.steps().data();
  row.step_count = static_cast<int>(finish.steps().size());
  for (int64_t strip = 0; strip < strips; ++strip) {
    const int64_t first = width * strip / strips, end = width * (strip + 1) / strips;
    for (row.channel = 0; row.channel < s_.channels; row.channel += row.channels) {
      row.channels = std::min(most, s_.channels - row.channel);
      for (const auto& run : runs.runs) {
        const int64_t column = std::max(first, run.column), stop = std::min(end, run.column + run.places);
        if (column >= stop) continue;
        row.y = finish.straight({{{run.row, column, stop - column}, {}}, 1});
        runs.set(row, run, column, stop, job.x);
        loops_.depthwise(row);
      }
    }
  }
}

// Places of a block of results.
int64_t DirectConv::block_places() const {
  const int64_t most = std::clamp<int64_t>(kDepthwiseTile / channel_stride_, 1, s_.out[2]);
  return most > kTileSegment ? most / kTileSegment * kTileSegment : most;
}

// Results go to a block first, because what follows or the way to memory is not for registers.
void DirectConv::run_in_blocks(const Job& job, const DepthwiseRuns& runs, ConvFinish& finish) const {
  const int64_t places = block_places();
  const Ref<Buffer> memory = Buffer::allocate(static_cast<size_t>(places * channel_stride_) * sizeof(float));
  auto* block = reinterpret_cast<float*>(memory->data());
  DepthwiseRow row = depthwise_row(job);
  row.y_step = channel_stride_;
  int64_t first = 0;  // column of the block
  for (const auto& run : runs.runs) {
    if (run.column == 0) first = 0;
    for (int64_t column = run.column; column < run.column + run.places;) {
      const int64_t end = std::min(job.space.width, first + places), stop = std::min(end, run.column + run.places);
      row.y = block + (column - first) * channel_stride_;
      runs.set(row, run, column, stop, job.x);
      loops_.depthwise(row);
      column = stop;
      if (stop < end) continue;
      finish({{{run.row, first, end - first}, {}}, 1}, block);
      first = end;
    }
  }
}

void DirectConv::run_depthwise_rows(const Job& job, ConvFinish& finish, int64_t first, int64_t end) const {
  const DepthwiseRuns runs = depthwise_runs(job, first, end);
  if (finish.in_tiles() && channel_stride_ == s_.channels) {
    run_depthwise_strips(job, runs, finish);
  } else {
    run_in_blocks(job, runs, finish);
  }
}

bool DirectConv::takes_ring() const {
  if (!has_rows() || channel_stride_ != s_.channels) return false;
  const ConvShape::Extents none{0, 0, 0}, ones{1, 1, 1};
  if (depthwise_) return s_.stride[1] <= s_.dilation[1] * (s_.window[1] - 1) + 1;
  return s_.window == ones && s_.stride == ones && s_.low == none && s_.high == none;
}

struct DirectConv::Rows::State {
  const DirectConv& conv;
  Job job;
  bool one_run;                       // rows run on in every tensor
  std::vector<const float*> operand;  // of row 0
  ConvFinish finish;

  State(const DirectConv& c, const Job& j, bool run) : conv(c), job(j), one_run(run), finish(c.finish_of(job)) {
    for (const auto& o : job.result.operands) operand.push_back(o.data);
  }
};

DirectConv::Rows::Rows(const DirectConv& conv, const PlaceStrides& x, std::span<const ConstView> operands,
                       const PlaceStrides& y) {
  Job job;
  conv.read_from(job, x);
  job.result.strides = y;
  for (const ConstView& o : operands) job.result.add_operand(o.as<float>(), place_strides(o.strides));
  job.space.extent = {1, 1, conv.s_.out[1], conv.s_.out[2]};
  PlaceSpace::Tensors tensors{&job.x_step, &job.result.strides.place};
  for (auto& o : job.result.operands) {
    if (o.reach == ConvResult::Reach::All) tensors.push_back(&o.strides.place);
  }
  const bool one_run = !conv.depthwise_ && conv.s_.out[2] > 1 && job.space.runs_on(tensors, 2);
  state_ = std::make_unique<State>(conv, job, one_run);
}
DirectConv::Rows::~Rows() = default;

void DirectConv::Rows::run(const float* x, int64_t x_ring, float* y, int64_t y_ring, int64_t first, int64_t end) {
  State& s = *state_;
  const DirectConv& conv = s.conv;
  Job& job = s.job;
  const int64_t width = conv.s_.out[2];
  for (int64_t count = 0; first < end; first += count) {
    count = std::min(end - first, y_ring - first % y_ring);
    if (!conv.depthwise_) count = std::min(count, x_ring - first % x_ring);
    job.result.y = y + first % y_ring * job.result.strides.place[2];
    for (size_t i = 0; i < s.operand.size(); ++i)
      job.result.operands[i].data = s.operand[i] + first * job.result.operands[i].strides.place[2];
    job.space.extent = {1, 1, s.one_run ? 1 : count, s.one_run ? count * width : width};
    job.space.count();
    if (conv.depthwise_) {
      job.x = x;
      job.first_row = first;
      job.ring = x_ring;
      conv.run_depthwise_rows(job, s.finish, 0, count);
    } else {
      job.x = x + first * conv.s_.stride[1] % x_ring * job.x_strides.place[2];
      conv.cut(job);
      conv.run_tiles(job, s.finish, 0, job.tiles, 0, conv.s_.groups * conv.panels_.count);
    }
  }
}

}  // namespace tenon::cpu
