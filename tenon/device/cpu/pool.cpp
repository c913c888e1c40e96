// Pooling, plane by plane (a plane is one channel of one example): taps in the outer loops, places of a row in the
// inner one, so that every place sees its taps in order.
#include <array>
#include <limits>
#include <vector>

#include "tenon/device/cpu/conv.h"
#include "tenon/device/cpu/copy.h"
#include "tenon/device/cpu/kernels.h"
#include "tenon/device/cpu/level.h"
#include "tenon/device/cpu/widen.h"
#include "tenon/ops/window.h"

namespace tenon::cpu {
namespace {

using ops::Windows;

constexpr int64_t kWideElements = 64 * 1024;  // of lines that wait as f32 while places see them

// Places o of one axis at which tap t lies inside the input: [first, end).
struct Range {
  int64_t first, end;
  bool operator==(const Range&) const = default;
};
Range inside(const Windows& w, size_t axis, int64_t t) {
  const int64_t shift = t * w.dilation[axis] - w.low[axis];  // element = o * stride + shift
  const int64_t stride = w.stride[axis];
  const int64_t first = shift >= 0 ? 0 : (-shift + stride - 1) / stride;
  const int64_t last = w.in[axis] - 1 - shift;
  return {first, last < 0 ? 0 : std::min(w.out[axis], last / stride + 1)};
}

// f(places of the row from, to, first element, its stride) for each row of places and tap, taps of a place in order.
template <class F>
void each_row_of_places(const Windows& w, const F& f) {
  for (int64_t a = 0; a < w.out[0]; ++a) {
    for (int64_t b = 0; b < w.out[1]; ++b) {
      const int64_t row = (a * w.out[1] + b) * w.out[2];
      for (int64_t i = 0; i < w.window[0]; ++i) {
        const int64_t x = a * w.stride[0] + i * w.dilation[0] - w.low[0];
        if (x < 0 || x >= w.in[0]) continue;
        for (int64_t j = 0; j < w.window[1]; ++j) {
          const int64_t y = b * w.stride[1] + j * w.dilation[1] - w.low[1];
          if (y < 0 || y >= w.in[1]) continue;
          for (int64_t k = 0; k < w.window[2]; ++k) {
            const Range range = inside(w, 2, k);
            const int64_t z = range.first * w.stride[2] + k * w.dilation[2] - w.low[2];
            if (range.first < range.end) {
              f(row + range.first, row + range.end, (x * w.in[1] + y) * w.in[2] + z, w.stride[2]);
            }
          }
        }
      }
    }
  }
}

int64_t volume(const Windows::Extents& e) { return e[0] * e[1] * e[2]; }

// Whether a tap takes the place of the largest before it; a NaN does, and stays. Without branches: which tap is the
// largest cannot be foreseen.
template <class T>
bool beats(T value, T best) {
  return (value > best) | ((value != value) & (best == best));
}

template <class T>
void max_pool(const KernelArgs& a) {
  const ConstView& x = a.inputs[0];
  const Windows w = ops::make_windows(ops::spatial(x.shape), ops::spatial(a.outputs[0].shape), a.attrs.ints(0),
                                      a.attrs.ints(1), a.attrs.ints(2), a.attrs.ints(4));
  const Contiguous source(x, a.pool);
  const int64_t in = volume(w.in);
  const int64_t out = volume(w.out);
  for_units(a.pool, x.shape[0] * x.shape[1], out * volume(w.window), [&](int64_t plane) {
    const T* from = source.as<T>() + plane * in;
    T* best = a.outputs[0].as<T>() + plane * out;
    int32_t* place = a.outputs[1].as<int32_t>() + plane * out;
    std::fill(place, place + out, -1);
    each_row_of_places(w, [&](int64_t begin, int64_t end, int64_t element, int64_t stride) {
      for (int64_t o = begin; o < end; ++o, element += stride) {
        const T value = from[element], old = best[o];
        const int32_t had = place[o];
        const bool take = (had < 0) | beats(value, old);
        best[o] = take ? value : old;
        place[o] = take ? static_cast<int32_t>(element) : had;
      }
    });
  });
}

// The largest value of each window, channels side by side, a row of places at a time. From minus infinity on, so that
// it is the largest as max_pool has it: of equal ones the first, and a NaN before all. Halves become f32 some lines at
// a time, and the results, which are elements, what they were.
class ChannelsLastMaxPool final : public PreparedKernel {
 public:
  ChannelsLastMaxPool(const PrepareArgs& args, Ints order)
      : windows_(ops::make_windows(ops::spatial(args.inputs[0].shape), ops::spatial(args.result.shape),
                                   args.attrs.ints(0), args.attrs.ints(1), args.attrs.ints(2), args.attrs.ints(4))),
        order_(std::move(order)),
        dtype_(args.result.dtype),
        largest_(level_table(best_level()).largest) {
    if (dtype_ == DType::F32) return;
    const auto& cast = level_table(best_level()).cast;
    widen_ = cast[static_cast<size_t>(dtype_)][static_cast<size_t>(DType::F32)];
    round_ = cast[static_cast<size_t>(DType::F32)][static_cast<size_t>(dtype_)];
  }
  [[nodiscard]] Ints order() const override { return order_; }
  [[nodiscard]] bool examples_apart() const override { return true; }
  void run(std::span<const ConstView> inputs, std::span<const ConstView>, const View& out,
           ThreadPool& pool) const override {
    const Windows& w = windows_;
    const int64_t channels = out.shape[1], in = volume(w.in) * channels, row = w.out[2] * channels;
    const int64_t rows = w.out[0] * w.out[1], size = element_size(dtype_);
    const std::byte* x = inputs[0].first();
    std::byte* y = out.first();
    for_units(pool, out.shape[0] * rows, row * volume(w.window), [&](int64_t unit) {
      row_of_places(x + unit / rows * in * size, y + unit * row * size, channels,
                    {unit % rows / w.out[1], unit % rows % w.out[1]});
    });
  }

 private:
  void row_of_places(const std::byte* x, std::byte* y, int64_t channels, const std::array<int64_t, 2>& at) const {
    const Windows& w = windows_;
    const int64_t line = w.in[2] * channels, places = w.out[2] * channels, size = element_size(dtype_);
    std::vector<const std::byte*> lines;
    for (int64_t i = 0; i < w.window[0]; ++i) {
      const int64_t d = at[0] * w.stride[0] + i * w.dilation[0] - w.low[0];
      if (d < 0 || d >= w.in[0]) continue;
      for (int64_t j = 0; j < w.window[1]; ++j) {
        const int64_t h = at[1] * w.stride[1] + j * w.dilation[1] - w.low[1];
        if (h >= 0 && h < w.in[1]) lines.push_back(x + (d * w.in[1] + h) * line * size);
      }
    }
    std::vector<int64_t> begins;
    if (widen_ == nullptr) {
      for (const std::byte* l : lines) begins.push_back((l - x) / size);
      return take({reinterpret_cast<const float*>(x), begins, channels, reinterpret_cast<float*>(y), false});
    }
    const auto all = static_cast<int64_t>(lines.size());
    const int64_t most = std::clamp<int64_t>(kWideElements / line, 1, std::max<int64_t>(all, 1));
    const Ref<Buffer> room = Buffer::allocate_scratch(static_cast<size_t>(most * line + places) * sizeof(float));
    auto* wide = reinterpret_cast<float*>(room->data());
    auto* best = wide + most * line;
    for (int64_t first = 0; first == 0 || first < all; first += most) {
      begins.clear();
      for (int64_t l = 0; l < std::min(most, all - first); ++l) {
        begins.push_back(l * line);
        widen_(wide + l * line, lines[static_cast<size_t>(first + l)], nullptr, nullptr, line);
      }
      take({wide, begins, channels, best, first > 0});
    }
    round_(y, best, nullptr, nullptr, places);
  }
  // A row of places, and where the lines of the input begin that it sees.
  struct Row {
    const float* x;
    const std::vector<int64_t>& begins;
    int64_t channels;
    float* y;
    bool more;  // lines were before these
  };
  // The taps of a line that are inside of it.
  [[nodiscard]] Range taps_of(int64_t place) const {
    const Windows& w = windows_;
    const int64_t at = place * w.stride[2] - w.low[2];
    Range taps{0, w.window[2]};
    while (taps.first < taps.end && at + taps.first * w.dilation[2] < 0) ++taps.first;
    while (taps.first < taps.end && at + (taps.end - 1) * w.dilation[2] >= w.in[2]) --taps.end;
    return taps;
  }
  void take(const Row& row) const {
    const Windows& w = windows_;
    const int64_t channels = row.channels;
    std::vector<int64_t> taps;
    Range has{0, 0};
    for (int64_t o = 0, places = 1; o < w.out[2]; o += places) {
      const Range range = taps_of(o);
      if (o == 0 || range != has) {
        has = range;
        taps.clear();
        for (const int64_t line : row.begins) {
          for (int64_t k = has.first; k < has.end; ++k)
            taps.push_back(line + (k * w.dilation[2] - w.low[2]) * channels);
        }
      }
      // Neighbours that see the same taps of neighbours are one.
      places = 1;
      while (w.stride[2] == 1 && o + places < w.out[2] && taps_of(o + places) == has) ++places;
      largest_({row.x + o * w.stride[2] * channels, taps.data(), static_cast<int64_t>(taps.size()),
                row.y + o * channels, places * channels, row.more});
    }
  }
  Windows windows_;
  Ints order_;
  DType dtype_;
  void (*largest_)(const LargestTaps&);
  LoopFn widen_ = nullptr, round_ = nullptr;
};

// What the elements of each window are divided by.
template <class T>
std::vector<T> counts_of(const Windows& w, const Ints& high, bool include_padding) {
  const size_t first = 3 - high.size();
  const auto count = [&](size_t axis, int64_t o) {
    const int64_t start = o * w.stride[axis] - w.low[axis];
    const int64_t padding = axis >= first && include_padding ? high[axis - first] : 0;
    return std::min(start + w.window[axis], w.in[axis] + padding) -
           (include_padding ? start : std::max<int64_t>(start, 0));
  };
  std::vector<T> counts;
  for (int64_t a = 0; a < w.out[0]; ++a) {
    for (int64_t b = 0; b < w.out[1]; ++b) {
      for (int64_t c = 0; c < w.out[2]; ++c) counts.push_back(static_cast<T>(count(0, a) * count(1, b) * count(2, c)));
    }
  }
  return counts;
}

template <class T>
void average_pool(const KernelArgs& a) {
  const ConstView& x = a.inputs[0];
  const Windows w = ops::make_windows(ops::spatial(x.shape), ops::spatial(a.outputs[0].shape), a.attrs.ints(0),
                                      a.attrs.ints(1), a.attrs.ints(2), {});
  const std::vector<T> counts = counts_of<T>(w, a.attrs.ints(3), a.attrs.flag(5));
  const Contiguous source(x, a.pool);
  const int64_t in = volume(w.in);
  const int64_t out = volume(w.out);
  for_units(a.pool, x.shape[0] * x.shape[1], out * volume(w.window), [&](int64_t plane) {
    const T* from = source.as<T>() + plane * in;
    T* to = a.outputs[0].as<T>() + plane * out;
    std::fill(to, to + out, T{0});
    each_row_of_places(w, [&](int64_t begin, int64_t end, int64_t element, int64_t stride) {
      for (int64_t o = begin; o < end; ++o, element += stride) to[o] += from[element];
    });
    for (int64_t o = 0; o < out; ++o) to[o] /= counts[static_cast<size_t>(o)];
  });
}

template <class T>
void average_pool_gradient(const KernelArgs& a) {
  const ConstView& ct = a.inputs[0];
  const View& dx = a.outputs[0];
  const Windows w = ops::make_windows(ops::spatial(dx.shape), ops::spatial(ct.shape), a.attrs.ints(0), a.attrs.ints(1),
                                      a.attrs.ints(2), {});
  const std::vector<T> counts = counts_of<T>(w, a.attrs.ints(3), a.attrs.flag(5));
  const Contiguous source(ct, a.pool);
  const int64_t in = volume(w.in);
  const int64_t out = volume(w.out);
  for_units(a.pool, ct.shape[0] * ct.shape[1], out * volume(w.window), [&](int64_t plane) {
    const T* from = source.as<T>() + plane * out;
    T* to = dx.as<T>() + plane * in;
    std::fill(to, to + in, T{0});
    each_row_of_places(w, [&](int64_t begin, int64_t end, int64_t element, int64_t stride) {
      for (int64_t o = begin; o < end; ++o, element += stride) to[element] += from[o] / counts[static_cast<size_t>(o)];
    });
  });
}

void by_dtype(const KernelArgs& a, void (*single)(const KernelArgs&), void (*wide)(const KernelArgs&)) {
  const DType dtype = a.inputs[0].dtype;
  if (is_half(dtype)) {
    run_widened(a, single);
  } else {
    (dtype == DType::F64 ? wide : single)(a);
  }
}

}  // namespace

std::optional<Ints> ready_max_pool(std::span<const ConstView> inputs) {
  const ConstView& x = inputs[0];
  const bool known = x.dtype == DType::F32 || is_half(x.dtype);
  Ints order = channels_last_order(x.shape.size());
  return known && lies_in(x, order) ? std::optional(std::move(order)) : std::nullopt;
}
std::unique_ptr<PreparedKernel> prepare_max_pool(const PrepareArgs& args) {
  if (args.inputs[0].data != nullptr || numel(args.result.shape) == 0) return nullptr;
  auto order = ready_max_pool(args.inputs);
  return order ? std::make_unique<ChannelsLastMaxPool>(args, std::move(*order)) : nullptr;
}
void run_max_pool(const KernelArgs& a) { by_dtype(a, max_pool<float>, max_pool<double>); }
void run_average_pool(const KernelArgs& a) { by_dtype(a, average_pool<float>, average_pool<double>); }
void run_average_pool_gradient(const KernelArgs& a) {
  by_dtype(a, average_pool_gradient<float>, average_pool_gradient<double>);
}

}  // namespace tenon::cpu
