#include "tenon/device/cpu/conv_chain.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "tenon/device/cpu/pieces.h"

namespace tenon::cpu {
namespace {

constexpr int64_t kBetween = 1 << 20;     // bytes of a result from which on it is not worth its way through memory
constexpr int64_t kWeights = 128 * 1024;  // bytes that every strip reads again, at most
constexpr int64_t kRings = 384 * 1024;    // bytes of all rings of a thread, about: what the second cache has room for
constexpr int64_t kMostRows = 8;          // of a strip of the last result

int64_t row_size(const ConvShape& s) { return s.out[2] * s.filters; }

// The rows of the input that a row of the result reads, beyond the first one.
int64_t reach(const ConvShape& s) { return s.dilation[1] * (s.window[1] - 1); }
int64_t first_input(const ConvShape& s, int64_t row) {
  return std::clamp<int64_t>(row * s.stride[1] - s.low[1], 0, s.in[1]);
}
// Behind the last input of the rows up to `end`.
int64_t input_end(const ConvShape& s, int64_t end) {
  return std::clamp<int64_t>((end - 1) * s.stride[1] - s.low[1] + reach(s) + 1, 0, s.in[1]);
}

// What strips of so many rows of the last result need: the rows of each ring, one for every link but the last.
struct Rings {
  std::vector<int64_t> rows;
  int64_t floats = 0;
};
Rings rings_for(std::span<const ConvLink> links, int64_t strip) {
  Rings rings{std::vector<int64_t>(links.size() - 1, 0)};
  for (size_t i = links.size() - 1; i-- > 0;) {
    const ConvShape& s = links[i + 1].conv.shape();
    strip = std::min(s.in[1], (strip - 1) * s.stride[1] + reach(s) + 1);
    rings.rows[i] = strip;
    rings.floats += strip * row_size(links[i].conv.shape());
  }
  return rings;
}

// One example.
struct ChainRun {
  std::span<const ConvLink> links;
  int64_t example;
  const float* x;
  PlaceStrides x_strides;
  float* y;
  PlaceStrides y_strides;
  int64_t strip;
  Rings rings;

  struct Stage {
    std::unique_ptr<DirectConv::Rows> rows;
    float* y;
    int64_t ring;
    int64_t done, wanted;  // rows of the result
  };

  // The last result's rows [first, end), from the rings of this thread.
  void operator()(int64_t first, int64_t end) const {
    const Ref<Buffer> space = Buffer::allocate_scratch(static_cast<size_t>(rings.floats * kFloat));
    std::vector<Stage> stages = make_stages(reinterpret_cast<float*>(space->data()));
    const size_t last = stages.size() - 1;
    stages[last].done = first;
    for (size_t i = last; i-- > 0;) stages[i].done = first_input(links[i + 1].conv.shape(), stages[i + 1].done);
    while (stages[last].done < end) {
      stages[last].wanted = std::min(end, stages[last].done + strip);
      for (size_t i = last; i-- > 0;) stages[i].wanted = input_end(links[i + 1].conv.shape(), stages[i + 1].wanted);
      const float* from = x;
      int64_t ring = DirectConv::Rows::kAll;
      for (Stage& stage : stages) {
        if (stage.done < stage.wanted) stage.rows->run(from, ring, stage.y, stage.ring, stage.done, stage.wanted);
        stage.done = std::max(stage.done, stage.wanted);
        from = stage.y;
        ring = stage.ring;
      }
    }
  }

 private:
  [[nodiscard]] std::vector<Stage> make_stages(float* ring) const {
    std::vector<Stage> stages;
    PlaceStrides from = x_strides;
    std::vector<ConstView> operands;
    for (size_t i = 0; i < links.size(); ++i) {
      const ConvShape& s = links[i].conv.shape();
      const bool last = i + 1 == links.size();
      const PlaceStrides to = last ? y_strides : PlaceStrides{{0, 0, row_size(s), s.filters}, 1};
      operands.assign(links[i].operands.begin(), links[i].operands.end());
      for (ConstView& o : operands) o.offset += example * o.strides[0];
      stages.push_back({std::make_unique<DirectConv::Rows>(links[i].conv, from, operands, to), last ? y : ring,
                        last ? DirectConv::Rows::kAll : rings.rows[i], 0, 0});
      if (!last) ring += rings.rows[i] * row_size(s);
      from = to;
    }
    return stages;
  }
};

}  // namespace

bool gains_in_strips(const DirectConv& conv, const DirectConv& next) {
  const ConvShape& s = conv.shape();
  return conv.has_rows() && next.takes_ring() && row_size(s) * s.out[1] * kFloat >= kBetween &&
         conv.weight_bytes() <= kWeights && next.weight_bytes() <= kWeights;
}

void run_in_strips(std::span<const ConvLink> links, const ConstView& x, const View& y, ThreadPool& pool) {
  const DirectConv& first = links.front().conv;
  const int64_t n = y.shape[0], rows = links.back().conv.shape().out[1];
  int64_t strip = kMostRows;
  while (strip > 1 && rings_for(links, strip).floats * kFloat > kRings) --strip;
  const PlaceStrides from = place_strides(x.strides), to = place_strides(y.strides);
  const bool as_it_is = first.reads(x);
  const bool by_example = n >= 2 * pool.threads();
  // A part computes some rows of what is between that its neighbour computes too.
  const int64_t parts = by_example || pool.threads() == 1 ? 1 : std::min<int64_t>(rows, 2 * pool.threads());
  const auto example = [&](int64_t e) {
    ChainRun run{links,
                 e,
                 x.as<float>() + e * from.place[0],
                 from,
                 y.as<float>() + e * to.place[0],
                 to,
                 strip,
                 rings_for(links, strip)};
    Ref<Buffer> space;
    if (!as_it_is) {
      const PlacedInput& placed = first.placed();
      space = Buffer::allocate_scratch(static_cast<size_t>(placed.distance() * kFloat));
      auto* data = reinterpret_cast<float*>(space->data());
      first.place(run.x, from, data, pool);
      run.x = data;
      run.x_strides = placed.strides();
    }
    pool.run(parts, [&](int64_t p) { run(rows * p / parts, rows * (p + 1) / parts); });
  };
  if (by_example) {
    pool.run(n, example);
  } else {
    for (int64_t e = 0; e < n; ++e) example(e);
  }
}

}  // namespace tenon::cpu
