// Scans along an axis. Neighbouring lines go side by side in tiles, so that the innermost loop is over contiguous
// memory whatever the axis; along the last axis some rows go side by side, whose sums do not wait for each other. Every
// line is one thread's, from its beginning, so bits do not depend on the number of threads.
#include <array>
#include <cmath>
#include <type_traits>

#include "tenon/device/cpu/around.h"
#include "tenon/device/cpu/copy.h"
#include "tenon/device/cpu/kernels.h"

namespace tenon::cpu {
namespace {

constexpr int64_t kTile = 64;
constexpr int64_t kRows = 8;  // as many states as fit in registers

struct Lines : Around {
  Lines(const Shape& shape, int64_t axis, bool reversed) : Around(shape, axis), reverse(reversed) {}
  bool reverse;
};

// body(first element of a tile of lines, how many lines, elements between neighbours along the axis).
template <class F>
void for_tiles(const Lines& lines, ThreadPool& pool, const F& body) {
  if (lines.outer * lines.extent * lines.inner == 0) return;
  const int64_t tiles = (lines.inner + kTile - 1) / kTile, width = std::min(lines.inner, kTile);
  const int64_t step = lines.reverse ? -lines.inner : lines.inner;
  const int64_t begin = lines.reverse ? (lines.extent - 1) * lines.inner : 0;
  for_units(pool, lines.outer * tiles, lines.extent * width, [&](int64_t u) {
    const int64_t column = u % tiles * kTile;
    body(u / tiles * lines.extent * lines.inner + begin + column, std::min(kTile, lines.inner - column), step);
  });
}

// `rows` rows side by side from element `first` on.
template <int64_t rows, class A, class T, class Step>
void scan_rows(const Lines& lines, int64_t first, A start, T* out, bool exclusive, const Step& next) {
  std::array<A, rows> state{};
  state.fill(start);
  const int64_t begin = lines.reverse ? lines.extent - 1 : 0, step = lines.reverse ? -1 : 1;
  for (int64_t k = 0, at = first + begin; k < lines.extent; ++k, at += step) {
    for (int64_t j = 0; j < rows; ++j) {
      A& total = state[static_cast<size_t>(j)];
      const A before = total;
      total = next(before, at + j * lines.extent);
      out[at + j * lines.extent] = static_cast<T>(exclusive ? before : total);
    }
  }
}

// State of type A of each line, replaced by step(state, element number), and what to write after (or before) it.
template <class A, class T, class Step>
void scan(const Lines& lines, ThreadPool& pool, A start, T* out, bool exclusive, const Step& next) {
  if (lines.inner == 1 && lines.extent > 0) {
    const int64_t groups = (lines.outer + kRows - 1) / kRows;
    for_units(pool, groups, lines.extent * std::min(lines.outer, kRows), [&](int64_t u) {
      int64_t row = u * kRows;
      if (row + kRows <= lines.outer) {
        scan_rows<kRows>(lines, row * lines.extent, start, out, exclusive, next);
      } else {
        for (; row < lines.outer; ++row) scan_rows<1>(lines, row * lines.extent, start, out, exclusive, next);
      }
    });
    return;
  }
  for_tiles(lines, pool, [&](int64_t first, int64_t width, int64_t step) {
    std::array<A, kTile> state{};
    state.fill(start);
    for (int64_t k = 0; k < lines.extent; ++k) {
      const int64_t at = first + k * step;
      for (int64_t j = 0; j < width; ++j) {
        const A before = state[static_cast<size_t>(j)], after = next(before, at + j);
        state[static_cast<size_t>(j)] = after;
        out[at + j] = static_cast<T>(exclusive ? before : after);
      }
    }
  });
}

template <bool Product, class T>
void accumulate(const KernelArgs& a) {
  using A = std::conditional_t<std::is_floating_point_v<T>, double, T>;
  const Contiguous x(a.inputs[0], a.pool);
  const T* in = x.as<T>();
  scan<A, T>(Lines(a.inputs[0].shape, a.attrs.integer(0), a.attrs.flag(2)), a.pool, Product ? 1 : 0,
             a.outputs[0].as<T>() + a.outputs[0].offset, a.attrs.flag(1), [in](A total, int64_t i) {
               return static_cast<A>(Product ? total * static_cast<A>(in[i]) : total + static_cast<A>(in[i]));
             });
}

// Integers wrap, so their sign does not matter.
template <bool Product>
void accumulate_any(const KernelArgs& a) {
  switch (a.inputs[0].dtype) {
    case DType::F32:
      return accumulate<Product, float>(a);
    case DType::F64:
      return accumulate<Product, double>(a);
    case DType::I32:
    case DType::U32:
      return accumulate<Product, uint32_t>(a);
    default:
      return accumulate<Product, uint64_t>(a);
  }
}

template <class T>
void recurrence(const KernelArgs& a) {
  const Contiguous x(a.inputs[0], a.pool), y(a.inputs[1], a.pool);
  const T *factor = x.as<T>(), *term = y.as<T>();
  scan<double, T>(Lines(a.inputs[0].shape, a.attrs.integer(0), a.attrs.flag(1)), a.pool, 0.0,
                  a.outputs[0].as<T>() + a.outputs[0].offset, false, [=](double before, int64_t i) {
                    return static_cast<double>(factor[i]) * before + static_cast<double>(term[i]);
                  });
}

template <class T>
void log_sum(const KernelArgs& a) {
  const Contiguous x(a.inputs[0], a.pool);
  const T* in = x.as<T>();
  scan<double, T>(Lines(a.inputs[0].shape, a.attrs.integer(0), false), a.pool, -INFINITY,
                  a.outputs[0].as<T>() + a.outputs[0].offset, false, [in](double y, int64_t i) {
                    const auto v = static_cast<double>(in[i]);
                    const double high = std::max(y, v), low = std::min(y, v);
                    if (std::isnan(v) || std::isnan(y)) return static_cast<double>(NAN);
                    return std::isinf(high) ? high : high + std::log1p(std::exp(low - high));
                  });
}

template <bool Largest, class T>
void extreme(const KernelArgs& a) {
  const Contiguous x(a.inputs[0], a.pool);
  const T* in = x.as<T>();
  T* values = a.outputs[0].as<T>() + a.outputs[0].offset;
  int64_t* places = a.outputs[1].as<int64_t>() + a.outputs[1].offset;
  const Lines lines(a.inputs[0].shape, a.attrs.integer(0), false);
  for_tiles(lines, a.pool, [&](int64_t first, int64_t width, int64_t step) {
    for (int64_t j = first; j < first + width; ++j) values[j] = in[j], places[j] = 0;
    for (int64_t k = 1; k < lines.extent; ++k) {
      for (int64_t j = first + k * step; j < first + k * step + width; ++j) {
        const T v = in[j], best = values[j - step];
        // The last of equal ones; the first NaN and every later one wins.
        const bool wins = v != v || (best == best && (Largest ? v >= best : v <= best));
        values[j] = wins ? v : best;
        places[j] = wins ? k : places[j - step];
      }
    }
  });
}

template <bool Largest>
void extreme_any(const KernelArgs& a) {
  switch (a.inputs[0].dtype) {
    case DType::F32:
      return extreme<Largest, float>(a);
    case DType::F64:
      return extreme<Largest, double>(a);
    case DType::I32:
      return extreme<Largest, int32_t>(a);
    default:
      return extreme<Largest, int64_t>(a);
  }
}

}  // namespace

bool accepts_accumulate(Types in, const ir::Attrs& /*attrs*/) {
  const DType t = in[0].dtype;
  return !in[0].shape.empty() && (t == DType::F32 || t == DType::F64 || t == DType::I32 || t == DType::U32 ||
                                  t == DType::I64 || t == DType::U64);
}
void run_cumsum(const KernelArgs& a) { accumulate_any<false>(a); }
void run_cumprod(const KernelArgs& a) { accumulate_any<true>(a); }

bool accepts_float_scan(Types in, const ir::Attrs& /*attrs*/) {
  return !in[0].shape.empty() && (in[0].dtype == DType::F32 || in[0].dtype == DType::F64);
}
void run_linear_recurrence(const KernelArgs& a) {
  a.inputs[0].dtype == DType::F32 ? recurrence<float>(a) : recurrence<double>(a);
}
void run_logcumsumexp(const KernelArgs& a) { a.inputs[0].dtype == DType::F32 ? log_sum<float>(a) : log_sum<double>(a); }

bool accepts_extreme(Types in, const ir::Attrs& /*attrs*/) {
  const DType t = in[0].dtype;
  return !in[0].shape.empty() && (t == DType::F32 || t == DType::F64 || t == DType::I32 || t == DType::I64);
}
void run_cummax(const KernelArgs& a) { extreme_any<true>(a); }
void run_cummin(const KernelArgs& a) { extreme_any<false>(a); }

}  // namespace tenon::cpu
