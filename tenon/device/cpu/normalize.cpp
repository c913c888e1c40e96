// normalize and its gradient in the two layouts that matter: statistics of each row (layer, RMS norm), and of each
// channel over examples and places (batch norm). Other axes go by the op's body.
#include <cmath>
#include <vector>

#include "tenon/device/cpu/copy.h"
#include "tenon/device/cpu/kernels.h"
#include "tenon/device/cpu/level.h"

namespace tenon::cpu {
namespace {

constexpr int64_t kRowGroup = 32;  // rows whose weight gradients are added up one after the other

enum class Layout : uint8_t { Rows, Channels, Other };

struct Extents {
  Layout layout = Layout::Other;
  int64_t outer = 1;     // rows, or examples
  int64_t channels = 1;  // of Channels
  int64_t inner = 1;     // of a row, or places of a channel
  Shape parameter;       // the shape of weight and bias
};

Extents extents_of(const Shape& shape, const Ints& attribute) {
  const auto rank = static_cast<int64_t>(shape.size());
  Extents e;
  std::vector<bool> reduced(shape.size(), attribute.empty());
  for (int64_t axis : attribute) {
    const int64_t at = axis < 0 ? axis + rank : axis;
    if (at < 0 || at >= rank) return e;
    reduced[static_cast<size_t>(at)] = true;
  }
  if (numel(shape) == 0) return e;
  size_t first = shape.size();
  while (first > 0 && reduced[first - 1]) --first;
  const bool rows =
      first < shape.size() &&
      std::none_of(reduced.begin(), reduced.begin() + static_cast<std::ptrdiff_t>(first), [](bool r) { return r; });
  if (rows) {
    e.layout = Layout::Rows;
    for (size_t d = 0; d < shape.size(); ++d) {
      (d < first ? e.outer : e.inner) *= shape[d];
      if (d >= first) e.parameter.push_back(shape[d]);
    }
  } else if (rank >= 2 && reduced[0] && !reduced[1] && (first == 2 || rank == 2)) {
    e.layout = Layout::Channels;
    e.outer = shape[0];
    e.channels = shape[1];
    e.parameter.push_back(shape[1]);
    for (size_t d = 2; d < shape.size(); ++d) {
      e.inner *= shape[d];
      e.parameter.push_back(1);
    }
  }
  return e;
}

bool full_float(DType dtype) { return dtype == DType::F32 || dtype == DType::F64; }

struct Channel {
  const RowLoops& loops;
  const Extents& e;
  int bytes;
  [[nodiscard]] int64_t at(int64_t n, int64_t c) const { return (n * e.channels + c) * e.inner * bytes; }
};

template <class T>
void normalize_channels(const KernelArgs& a, const Extents& e, const RowLoops& loops) {
  const Contiguous x(a.inputs[0], a.pool);
  const Contiguous weight(a.inputs.size() > 1 ? a.inputs[1] : ConstView{}, a.pool);
  const Contiguous bias(a.inputs.size() > 2 ? a.inputs[2] : ConstView{}, a.pool);
  // Without memory for it somebody else makes the first result (recipes.h).
  const bool whole = a.outputs[0].data != nullptr;
  std::byte* y = whole ? a.outputs[0].data + a.outputs[0].offset * static_cast<int64_t>(sizeof(T)) : nullptr;
  const Channel channel{loops, e, sizeof(T)};
  const T count = static_cast<T>(e.outer * e.inner);
  for_units(a.pool, e.channels, e.outer * e.inner, [&](int64_t c) {
    T p[4] = {0, 0, weight.data() != nullptr ? weight.as<T>()[c] : T{1},
              bias.data() != nullptr ? bias.as<T>()[c] : T{0}};
    T part = 0;
    if (a.attrs.flag(2)) {
      for (int64_t n = 0; n < e.outer; ++n) {
        loops.sum(&part, x.data() + channel.at(n, c), nullptr, e.inner);
        p[0] += part;
      }
      p[0] /= count;
    }
    for (int64_t n = 0; n < e.outer; ++n) {
      loops.sum_of_squares(&part, x.data() + channel.at(n, c), p, e.inner);
      p[1] += part;
    }
    p[1] = T{1} / std::sqrt(p[1] / count + static_cast<T>(a.attrs.real(1)));
    a.outputs[1].as<T>()[c] = p[0];
    a.outputs[2].as<T>()[c] = p[1];
    for (int64_t n = 0; whole && n < e.outer; ++n) {
      loops.standardize(y + channel.at(n, c), x.data() + channel.at(n, c), nullptr, p, e.inner);
    }
  });
}

template <class T>
void normalize_channels_grad(const KernelArgs& a, const Extents& e, const RowLoops& loops) {
  const Contiguous ct(a.inputs[0], a.pool);
  const Contiguous x(a.inputs[1], a.pool);
  const Contiguous mean(a.inputs[2], a.pool);
  const Contiguous rstd(a.inputs[3], a.pool);
  const Contiguous weight(a.inputs[4], a.pool);
  std::byte* dx = a.outputs[0].data + a.outputs[0].offset * static_cast<int64_t>(sizeof(T));
  const Channel channel{loops, e, sizeof(T)};
  const T count = static_cast<T>(e.outer * e.inner);
  const bool center = a.attrs.flag(2);
  for_units(a.pool, e.channels, e.outer * e.inner, [&](int64_t c) {
    const T w = weight.as<T>()[c];
    T p[5] = {center ? mean.as<T>()[c] : T{0}, rstd.as<T>()[c], 0, 0, 0};
    T sums[2] = {0, 0};
    for (int64_t n = 0; n < e.outer; ++n) {
      T part[2];
      loops.gradient_sums(part, ct.data() + channel.at(n, c), x.data() + channel.at(n, c), p, e.inner);
      sums[0] += part[0];
      sums[1] += part[1];
    }
    a.outputs[1].as<T>()[c] = sums[1];
    a.outputs[2].as<T>()[c] = sums[0];
    p[2] = center ? sums[0] / count : T{0};
    p[3] = sums[1] / count;
    p[4] = w * p[1];
    for (int64_t n = 0; n < e.outer; ++n) {
      loops.standardize_grad(dx + channel.at(n, c), ct.data() + channel.at(n, c), x.data() + channel.at(n, c), p,
                             e.inner);
    }
  });
}

template <class T>
void normalize_rows(const KernelArgs& a, const Extents& e, const RowLoops& loops) {
  const Contiguous x(a.inputs[0], a.pool);
  const Contiguous weight(a.inputs.size() > 1 ? a.inputs[1] : ConstView{}, a.pool);
  const Contiguous bias(a.inputs.size() > 2 ? a.inputs[2] : ConstView{}, a.pool);
  for_units(a.pool, e.outer, e.inner, [&](int64_t r) {
    loops.normalize({x.as<T>() + r * e.inner, weight.data(), bias.data(), a.outputs[0].as<T>() + r * e.inner,
                     a.outputs[1].as<T>() + r, a.outputs[2].as<T>() + r, e.inner, a.attrs.real(1), a.attrs.flag(2)});
  });
}

template <class T>
void normalize_rows_grad(const KernelArgs& a, const Extents& e, const RowLoops& loops) {
  const Contiguous ct(a.inputs[0], a.pool);
  const Contiguous x(a.inputs[1], a.pool);
  const Contiguous mean(a.inputs[2], a.pool);
  const Contiguous rstd(a.inputs[3], a.pool);
  const Contiguous weight(a.inputs[4], a.pool);
  const int64_t groups = (e.outer + kRowGroup - 1) / kRowGroup;
  std::vector<T> sums(static_cast<size_t>(groups * 2 * e.inner), T{0});  // of each group: weight's, then bias'
  for_units(a.pool, groups, kRowGroup * e.inner, [&](int64_t g) {
    T* dw = sums.data() + g * 2 * e.inner;
    for (int64_t r = g * kRowGroup; r < std::min(e.outer, (g + 1) * kRowGroup); ++r) {
      loops.normalize_grad({ct.as<T>() + r * e.inner, x.as<T>() + r * e.inner, weight.data(), mean.as<T>() + r,
                            rstd.as<T>() + r, a.outputs[0].as<T>() + r * e.inner, dw, dw + e.inner, e.inner,
                            a.attrs.flag(2)});
    }
  });
  for (int64_t step = 1; step < groups; step *= 2) {
    for (int64_t g = 0; g + step < groups; g += 2 * step) {
      T* to = sums.data() + g * 2 * e.inner;
      const T* from = to + step * 2 * e.inner;
      for (int64_t i = 0; i < 2 * e.inner; ++i) to[i] += from[i];
    }
  }
  std::copy_n(sums.data(), e.inner, a.outputs[1].as<T>());
  std::copy_n(sums.data() + e.inner, e.inner, a.outputs[2].as<T>());
}

}  // namespace

bool accepts_normalize(Types in, const ir::Attrs& attrs) {
  const Extents e = extents_of(in[0].shape, attrs.ints(0));
  if (e.layout == Layout::Other || !full_float(in[0].dtype)) return false;
  // An absent parameter has the empty shape; a true scalar goes by the body, like every other broadcast.
  for (size_t i = 1; i < in.size(); ++i) {
    const bool absent = in[i].shape.empty() && in[i].dtype == DType::F32;
    if (!absent && (in[i].shape != e.parameter || in[i].dtype != in[0].dtype)) return false;
  }
  return true;
}
void run_normalize(const KernelArgs& a) {
  const ConstView& x = a.inputs[0];
  const Extents e = extents_of(x.shape, a.attrs.ints(0));
  const RowLoops& loops = level_table(best_level()).rows(x.dtype);
  // A scalar that looked absent: spread it.
  std::vector<ConstView> inputs(a.inputs.begin(), a.inputs.end());
  for (size_t i = 1; i < inputs.size(); ++i) {
    if (inputs[i].data == nullptr || inputs[i].shape == e.parameter) continue;
    inputs[i].shape = e.parameter;
    inputs[i].strides = Shape(e.parameter.size(), int64_t{0});
  }
  const KernelArgs spread{inputs, a.outputs, a.attrs, a.pool};
  if (e.layout == Layout::Rows) {
    x.dtype == DType::F64 ? normalize_rows<double>(spread, e, loops) : normalize_rows<float>(spread, e, loops);
  } else {
    x.dtype == DType::F64 ? normalize_channels<double>(spread, e, loops) : normalize_channels<float>(spread, e, loops);
  }
}

bool accepts_normalize_grad(Types in, const ir::Attrs& attrs) {
  const Extents e = extents_of(in[1].shape, attrs.ints(0));
  if (e.layout == Layout::Other || !full_float(in[1].dtype) || in.size() < 5 || in[4].shape != e.parameter)
    return false;
  for (const TensorType& t : in) {
    if (t.dtype != in[1].dtype) return false;
  }
  return !e.parameter.empty();
}
void run_normalize_grad(const KernelArgs& a) {
  const ConstView& x = a.inputs[1];
  const Extents e = extents_of(x.shape, a.attrs.ints(0));
  const RowLoops& loops = level_table(best_level()).rows(x.dtype);
  if (e.layout == Layout::Rows) {
    x.dtype == DType::F64 ? normalize_rows_grad<double>(a, e, loops) : normalize_rows_grad<float>(a, e, loops);
  } else {
    x.dtype == DType::F64 ? normalize_channels_grad<double>(a, e, loops) : normalize_channels_grad<float>(a, e, loops);
  }
}

}  // namespace tenon::cpu
