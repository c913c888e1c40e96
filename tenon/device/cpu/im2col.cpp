#include "tenon/device/cpu/im2col.h"

#include <algorithm>
#include <vector>

#include "tenon/device/cpu/gemm.h"

namespace tenon::cpu {
namespace {

// Calls f(row of the columns matrix, position, element of the channel) for every tap inside the input.
template <class F>
void each_tap(const ConvShape& s, const F& f) {
  int64_t tap = 0;
  for (int64_t a = 0; a < s.window[0]; ++a) {
    for (int64_t b = 0; b < s.window[1]; ++b) {
      for (int64_t c = 0; c < s.window[2]; ++c, ++tap) {
        for (int64_t i = 0; i < s.out[0]; ++i) {
          const int64_t x = i * s.stride[0] + a * s.dilation[0] - s.low[0];
          if (x < 0 || x >= s.in[0]) continue;
          for (int64_t j = 0; j < s.out[1]; ++j) {
            const int64_t y = j * s.stride[1] + b * s.dilation[1] - s.low[1];
            if (y < 0 || y >= s.in[1]) continue;
            for (int64_t k = 0; k < s.out[2]; ++k) {
              const int64_t z = k * s.stride[2] + c * s.dilation[2] - s.low[2];
              if (z < 0 || z >= s.in[2]) continue;
              f(tap, (i * s.out[1] + j) * s.out[2] + k, (x * s.in[1] + y) * s.in[2] + z);
            }
          }
        }
      }
    }
  }
}

struct Sizes {
  explicit Sizes(const ConvShape& s)
      : channels(s.channels / s.groups),
        filters(s.filters / s.groups),
        taps(ConvShape::volume(s.window)),
        places(ConvShape::volume(s.out)),
        plane(ConvShape::volume(s.in)) {}
  int64_t channels, filters, taps, places, plane;  // channels and filters of one group
};

// columns[channel, tap, place] of one example's group; zero where the tap lies in the padding.
template <class T>
void fill_columns(const ConvShape& s, const Sizes& z, const T* x, std::vector<T>& columns) {
  std::fill(columns.begin(), columns.end(), T{0});
  for (int64_t c = 0; c < z.channels; ++c) {
    T* to = columns.data() + c * z.taps * z.places;
    const T* from = x + c * z.plane;
    each_tap(s, [&](int64_t tap, int64_t place, int64_t element) { to[tap * z.places + place] = from[element]; });
  }
}

}  // namespace

template <class T>
void im2col_forward(const ConvShape& s, const T* x, const T* weight, const T* bias, T* y, ThreadPool& pool) {
  const Sizes z(s);
  pool.run(s.n, [&](int64_t i) {
    std::vector<T> columns(static_cast<size_t>(z.channels * z.taps * z.places));
    for (int64_t g = 0; g < s.groups; ++g) {
      fill_columns(s, z, x + i * s.x_size() + g * z.channels * z.plane, columns);
      T* to = y + i * s.y_size() + g * z.filters * z.places;
      const int64_t depth = z.channels * z.taps;
      gemm(Gemm<T>{z.filters, z.places, depth, weight + g * z.filters * depth, depth, false, columns.data(), z.places,
                   false, to, z.places});
      for (int64_t f = 0; f < z.filters && bias != nullptr; ++f) {
        for (int64_t p = 0; p < z.places; ++p) to[f * z.places + p] += bias[g * z.filters + f];
      }
    }
  });
}

template <class T>
void im2col_backward_data(const ConvShape& s, const T* dy, const T* weight, T* dx, ThreadPool& pool) {
  const Sizes z(s);
  pool.run(s.n, [&](int64_t i) {
    std::vector<T> columns(static_cast<size_t>(z.channels * z.taps * z.places));
    T* to = dx + i * s.x_size();
    std::fill(to, to + s.x_size(), T{0});
    for (int64_t g = 0; g < s.groups; ++g) {
      const int64_t depth = z.channels * z.taps;
      gemm(Gemm<T>{depth, z.places, z.filters, weight + g * z.filters * depth, depth, true,
                   dy + i * s.y_size() + g * z.filters * z.places, z.places, false, columns.data(), z.places});
      for (int64_t c = 0; c < z.channels; ++c) {
        T* plane = to + (g * z.channels + c) * z.plane;
        const T* from = columns.data() + c * z.taps * z.places;
        each_tap(s,
                 [&](int64_t tap, int64_t place, int64_t element) { plane[element] += from[tap * z.places + place]; });
      }
    }
  });
}

template <class T>
void im2col_backward_weight(const ConvShape& s, const T* x, const T* dy, T* dw, ThreadPool& pool) {
  const Sizes z(s);
  pool.run(s.groups, [&](int64_t g) {
    std::vector<T> columns(static_cast<size_t>(z.channels * z.taps * z.places));
    const int64_t depth = z.channels * z.taps;
    T* to = dw + g * z.filters * depth;
    std::fill(to, to + z.filters * depth, T{0});
    for (int64_t i = 0; i < s.n; ++i) {
      fill_columns(s, z, x + i * s.x_size() + g * z.channels * z.plane, columns);
      gemm(Gemm<T>{z.filters, depth, z.places, dy + i * s.y_size() + g * z.filters * z.places, z.places, false,
                   columns.data(), z.places, true, to, depth, true});
    }
  });
}

template void im2col_forward(const ConvShape&, const double*, const double*, const double*, double*, ThreadPool&);
template void im2col_backward_data(const ConvShape&, const double*, const double*, double*, ThreadPool&);
template void im2col_backward_weight(const ConvShape&, const double*, const double*, double*, ThreadPool&);

}  // namespace tenon::cpu
