// Operators on images and feature maps: resampling, regions, patches.
#include <algorithm>
#include <array>
#include <cmath>
#include <numeric>

#include "tenon/data/image.h"
#include "tenon/data/to_tensor.h"
#include "tenon/formats/onnx/call.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/gather.h"
#include "tenon/ops/indexing.h"
#include "tenon/ops/matmul.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/reduce.h"

namespace tenon::formats::onnx {
namespace {

// ---- Resize: one axis at a time, as a matrix from old positions to new ones ----
struct Resampling {
  std::string mode, coordinates, nearest;
  double cubic = -0.75, scale = 1, roi_start = 0, roi_end = 1;
  bool exclude_outside = false, antialias = false;
};

double source_of(const Resampling& r, int64_t out_index, int64_t in, int64_t out, double out_length) {
  const auto x = static_cast<double>(out_index);
  const auto n = static_cast<double>(in), m = static_cast<double>(out);
  if (r.coordinates == "align_corners") return out_length == 1 ? 0 : x * (n - 1) / (out_length - 1);
  if (r.coordinates == "asymmetric") return x / r.scale;
  if (r.coordinates == "pytorch_half_pixel") return out_length == 1 ? 0 : (x + 0.5) / r.scale - 0.5;
  if (r.coordinates == "half_pixel_symmetric") {
    const double adjustment = m / out_length, center = n / 2, offset = center * (1 - adjustment);
    return offset + (x + 0.5) / r.scale - 0.5;
  }
  if (r.coordinates == "tf_crop_and_resize")
    return out == 1 ? 0.5 * (r.roi_start + r.roi_end) * (n - 1)
                    : r.roi_start * (n - 1) + x * (r.roi_end - r.roi_start) * (n - 1) / (m - 1);
  return (x + 0.5) / r.scale - 0.5;  // half_pixel
}

double cubic_weight(double d, double a) {
  d = std::abs(d);
  if (d <= 1) return ((a + 2) * d - (a + 3)) * d * d + 1;
  if (d < 2) return ((a * d - 5 * a) * d + 8 * a) * d - 4 * a;
  return 0;
}

int64_t nearest_index(const std::string& rounding, double x) {
  if (rounding == "round_prefer_ceil") return static_cast<int64_t>(std::floor(x + 0.5));
  if (rounding == "floor") return static_cast<int64_t>(std::floor(x));
  if (rounding == "ceil") return static_cast<int64_t>(std::ceil(x));
  return static_cast<int64_t>(std::ceil(x - 0.5));  // round_prefer_floor
}

// Row o: the weights of the old positions in new position o. A position outside of the crop is marked in `outside`.
std::vector<double> resample_matrix(const Resampling& r, int64_t in, int64_t out, double out_length,
                                    std::vector<bool>& outside) {
  std::vector<double> matrix(static_cast<size_t>(in * out), 0);
  for (int64_t o = 0; o < out; ++o) {
    const double x = source_of(r, o, in, out, out_length);
    double* row = matrix.data() + o * in;
    outside[static_cast<size_t>(o)] =
        r.coordinates == "tf_crop_and_resize" && (x < 0 || x > static_cast<double>(in - 1));
    if (r.mode == "nearest") {
      row[std::clamp<int64_t>(nearest_index(r.nearest, x), 0, in - 1)] += 1;
      continue;
    }
    const double widen = r.antialias && r.scale < 1 ? 1 / r.scale : 1;  // the filter covers what one output stands for
    const double support = (r.mode == "cubic" ? 2 : 1) * widen;
    const auto first = static_cast<int64_t>(std::floor(x - support)),
               last = static_cast<int64_t>(std::ceil(x + support));
    double total = 0;
    std::vector<std::pair<int64_t, double>> taps;
    for (int64_t k = first; k <= last; ++k) {
      const double d = (static_cast<double>(k) - x) / widen;
      const double w = r.mode == "cubic" ? cubic_weight(d, r.cubic) : std::max(0.0, 1 - std::abs(d));
      const bool inside = k >= 0 && k < in;
      if (w == 0 || (r.exclude_outside && !inside)) continue;
      // Antialiasing counts only what is there; otherwise the border is repeated.
      if (r.antialias && !inside) {
        if (r.exclude_outside) continue;
      }
      taps.emplace_back(std::clamp<int64_t>(k, 0, in - 1), w);
      total += w;
    }
    for (const auto& [k, w] : taps) row[k] += w / total;
  }
  return matrix;
}

Tensor resample_axis(const Tensor& x, int64_t axis, const std::vector<double>& matrix, int64_t in, int64_t out) {
  const DType work = x.dtype() == DType::F64 ? DType::F64 : DType::F32;
  const Tensor weights = cast(from_vector(matrix, {out, in}), work);
  const Tensor last = moveaxis(cast(x, work), axis, -1);
  return moveaxis(matmul(last, transpose(weights)), -1, axis);
}

Values resize(Call& c) {
  const Tensor x = c.tensor(0);
  Resampling r;
  r.mode = c.text_attribute("mode", "nearest");
  if (r.mode == "bilinear" || r.mode == "trilinear") r.mode = "linear";
  const bool old = c.opset < 11;
  r.coordinates = old ? "asymmetric" : c.text_attribute("coordinate_transformation_mode", "half_pixel");
  r.nearest = old ? "floor" : c.text_attribute("nearest_mode", "round_prefer_floor");
  r.cubic = c.real_attribute("cubic_coeff_a", -0.75);
  r.exclude_outside = c.integer_attribute("exclude_outside", 0) != 0;
  r.antialias = c.integer_attribute("antialias", 0) != 0;
  const size_t scales_at = old ? 1 : 2;
  const auto rank = static_cast<size_t>(x.ndim());
  std::vector<int64_t> axes = c.integers_attribute("axes");
  if (axes.empty()) {
    axes.resize(rank);
    std::iota(axes.begin(), axes.end(), 0);
  }
  std::vector<double> scales, roi;
  if (c.has(scales_at)) scales = c.tensor(scales_at).to_vector<double>();
  if (const auto* a = c.attribute("scales")) scales.assign(a->floats.begin(), a->floats.end());
  if (!old && c.has(1)) roi = c.tensor(1).to_vector<double>();
  std::vector<int64_t> sizes = !old && c.has(3) ? c.integers(3) : std::vector<int64_t>();
  if (scales.empty() && sizes.empty()) c.fail("neither scales nor sizes are given");
  if ((sizes.empty() ? scales.size() : sizes.size()) != axes.size())
    c.fail("scales or sizes have another number of axes");
  const std::string policy = c.text_attribute("keep_aspect_ratio_policy", "stretch");
  if (!sizes.empty() && policy != "stretch") {
    double common = policy == "not_larger" ? 1e300 : 0;
    for (size_t k = 0; k < axes.size(); ++k) {
      const double s = static_cast<double>(sizes[k]) / static_cast<double>(x.shape(axes[k]));
      common = policy == "not_larger" ? std::min(common, s) : std::max(common, s);
    }
    scales.assign(axes.size(), common);
    for (size_t k = 0; k < axes.size(); ++k)
      sizes[k] = static_cast<int64_t>(std::floor(common * static_cast<double>(x.shape(axes[k])) + 0.5));
  }
  Tensor y = x;
  Tensor hidden;
  for (size_t k = 0; k < axes.size(); ++k) {
    const int64_t axis = normalize_axis(c.where, axes[k], x.ndim()), in = x.shape(axis);
    if (!roi.empty()) {
      r.roi_start = roi[k];
      r.roi_end = roi[k + axes.size()];
    }
    const bool crop = r.coordinates == "tf_crop_and_resize";
    int64_t out = 0;
    double length = 0;
    if (!sizes.empty()) {
      out = sizes[k];
      r.scale = scales.empty() ? static_cast<double>(out) / static_cast<double>(in) : scales[k];
      length = static_cast<double>(out);
      if (!scales.empty()) length = r.scale * static_cast<double>(in);
    } else {
      r.scale = scales[k];
      const double extent = crop ? static_cast<double>(in) * (r.roi_end - r.roi_start) : static_cast<double>(in);
      length = extent * r.scale;
      out = static_cast<int64_t>(std::floor(length));
    }
    if (out == in && r.scale == 1 && !crop) continue;
    if (out < 0 || in == 0) c.fail("nothing can be resized to this");
    std::vector<bool> outside(static_cast<size_t>(out));
    const double reach = r.coordinates == "half_pixel_symmetric" ? length
                         : r.coordinates == "align_corners"      ? length
                                                                 : static_cast<double>(out);
    y = resample_axis(y, axis, resample_matrix(r, in, out, reach, outside), in, out);
    if (crop) {
      Shape shape(rank, 1);
      shape[static_cast<size_t>(axis)] = out;
      const Tensor here = reshape(from_vector(outside, {out}), shape);
      hidden = hidden.defined() ? logical_or(hidden, here) : here;
    }
  }
  if (hidden.defined()) y = where(hidden, c.real_attribute("extrapolation_value", 0), y);
  if (is_integer(x.dtype())) y = round(y);
  return {cast(y, x.dtype())};
}

Values upsample(Call& c) {
  Resampling r;
  r.mode = c.text_attribute("mode", "nearest") == "nearest" ? "nearest" : "linear";
  r.coordinates = "asymmetric";
  r.nearest = "floor";
  Tensor y = c.tensor(0);
  std::vector<double> scales;
  if (const auto* a = c.attribute("scales")) scales.assign(a->floats.begin(), a->floats.end());
  if (c.has(1)) scales = c.tensor(1).to_vector<double>();
  const DType dtype = y.dtype();
  for (size_t axis = 0; axis < scales.size(); ++axis) {
    const int64_t in = y.shape(static_cast<int64_t>(axis));
    r.scale = scales[axis];
    const auto out = static_cast<int64_t>(std::floor(static_cast<double>(in) * r.scale));
    if (out == in) continue;
    std::vector<bool> outside(static_cast<size_t>(out));
    y = resample_axis(y, static_cast<int64_t>(axis), resample_matrix(r, in, out, static_cast<double>(out), outside), in,
                      out);
  }
  return {cast(y, dtype)};
}

// ---- GridSample ----
// Back into [low, high] by mirroring at the ends.
Tensor reflected(const Tensor& x, double low, double high) {
  const double span = high - low;
  if (span == 0) return zeros_like(x);
  const Tensor d = abs(x - low), folded = tenon::fmod(d, span);
  const Tensor turns = remainder(floor(d / span), 2);
  return where(equal(turns, 0), folded + low, high - folded);
}

class GridSampler {
 public:
  GridSampler(Call& c, const Tensor& x) : x_(x) {
    mode_ = c.text_attribute("mode", "linear");
    if (mode_ == "bilinear") mode_ = "linear";
    if (mode_ == "bicubic") mode_ = "cubic";
    padding_ = c.text_attribute("padding_mode", "zeros");
    corners_ = c.integer_attribute("align_corners", 0) != 0;
    axes_ = x.ndim() - 2;
  }

  // grid: [N, out…, axes], the last axis of x first.
  Tensor operator()(const Tensor& grid) {
    Tensors at;
    for (int64_t k = 0; k < axes_; ++k) {
      const Tensor g = select(grid, -1, axes_ - 1 - k);
      const auto extent = static_cast<double>(x_.shape(k + 2));
      Tensor p = corners_ ? (g + 1) * ((extent - 1) / 2) : ((g + 1) * extent - 1) / 2;
      if (mode_ == "nearest") {
        p = round(p);
      } else if (mode_ == "linear") {
        p = bounded(p, k);
      }
      at.push_back(p);
    }
    if (mode_ == "nearest") return value_at(at);
    return mode_ == "linear" ? mix(at, 0, 1, [](const Tensor& f, int64_t tap) { return tap == 0 ? 1 - f : f; })
                             : mix(at, -1, 2, cubic);
  }

 private:
  // What padding makes of a position, before neighbours are chosen.
  Tensor bounded(const Tensor& p, int64_t k) const {
    const auto extent = static_cast<double>(x_.shape(k + 2));
    if (padding_ == "border") return minimum(maximum(p, 0), extent - 1);
    if (padding_ == "reflection")
      return corners_ ? reflected(p, 0, extent - 1) : minimum(maximum(reflected(p, -0.5, extent - 0.5), 0), extent - 1);
    return p;
  }

  static Tensor cubic(const Tensor& f, int64_t tap) {
    const double a = -0.75;
    const Tensor d = abs(f - static_cast<double>(tap));
    return tap == 0 || tap == 1 ? ((a + 2) * d - (a + 3)) * d * d + 1 : ((a * d - 5 * a) * d + 8 * a) * d - 4 * a;
  }

  template <class Weight>
  Tensor mix(const Tensors& at, int64_t first, int64_t last, const Weight& weight) {
    Tensor total;
    const int64_t taps = last - first + 1;
    int64_t combinations = 1;
    for (int64_t k = 0; k < axes_; ++k) combinations *= taps;
    for (int64_t n = 0; n < combinations; ++n) {
      Tensors place;
      Tensor w;
      int64_t rest = n;
      for (int64_t k = 0; k < axes_; ++k) {
        const int64_t tap = first + rest % taps;
        rest /= taps;
        const Tensor base = floor(at[static_cast<size_t>(k)]);
        const Tensor factor = weight(at[static_cast<size_t>(k)] - base, tap);
        w = w.defined() ? w * factor : factor;
        place.push_back(base + static_cast<double>(tap));
      }
      const Tensor part = value_at(place) * unsqueeze(w, {1});
      total = total.defined() ? total + part : part;
    }
    return total;
  }

  // x at whole positions [N, out…] for each channel: [N, C, out…].
  Tensor value_at(const Tensors& place) {
    Tensor index, inside;
    for (int64_t k = 0; k < axes_; ++k) {
      const auto extent = static_cast<double>(x_.shape(k + 2));
      Tensor p = place[static_cast<size_t>(k)];
      if (padding_ != "zeros") p = bounded(p, k);
      const Tensor here = logical_and(p >= 0, p <= extent - 1);
      inside = inside.defined() ? logical_and(inside, here) : here;
      const Tensor whole = cast(minimum(maximum(p, 0), extent - 1), i64);
      index = index.defined() ? index * x_.shape(k + 2) + whole : whole;
    }
    const int64_t n = x_.shape(0), channels = x_.shape(1);
    const Tensor flat = reshape(x_, {n, channels, -1});
    const Tensor where_to = expand(reshape(index, {n, 1, -1}), {n, channels, index.size() / std::max<int64_t>(n, 1)});
    Shape shape = index.shape();
    shape.insert(shape.begin() + 1, channels);
    const Tensor values = reshape(take_along_axis(flat, where_to, 2), shape);
    return where(unsqueeze(inside, {1}), values, zeros_like(values));
  }

  Tensor x_;
  std::string mode_, padding_;
  bool corners_ = false;
  int64_t axes_ = 2;
};

Values grid_sample_rule(Call& c) {
  const Tensor x = c.tensor(0);
  if (x.ndim() < 3) c.fail("no spatial axes", "[N, C, …]", to_string(x.shape()));
  return {GridSampler(c, x)(cast(c.tensor(1), x.dtype()))};
}

// theta [N, k, k + 1] and a size [N, C, …] to the positions of each output in [-1, 1].
Values affine_grid_rule(Call& c) {
  const Tensor theta = c.tensor(0);
  const auto size = c.integers(1);
  const bool corners = c.integer_attribute("align_corners", 0) != 0;
  const Shape out(size.begin() + 2, size.end());
  Tensors base;
  for (size_t k = out.size(); k-- > 0;) {
    const auto n = static_cast<double>(out[k]);
    const Tensor i = cast(iota(out, static_cast<int64_t>(k)), theta.dtype());
    base.push_back(corners ? (out[k] == 1 ? i * 0 : i * (2 / (n - 1)) - 1) : (i * 2 + 1) / n - 1);
  }
  base.push_back(ones(out, theta.dtype()));
  const Tensor points = reshape(stack(base, -1), {-1, static_cast<int64_t>(base.size())});
  Shape shape = joined({size[0]}, out);
  shape.push_back(static_cast<int64_t>(out.size()));
  return {reshape(matmul(points, transpose(theta)), shape)};
}

// ---- regions ----
// Averages (or largest) of bilinear samples in each bin of each region (He et al., arXiv 1703.06870).
Values roi_align(Call& c) {
  const Tensor x = c.tensor(0);
  const auto rois = c.tensor(1).to_vector<double>();
  const auto batch = c.integers(2);
  const int64_t out_h = c.integer_attribute("output_height", 1), out_w = c.integer_attribute("output_width", 1),
                ratio = c.integer_attribute("sampling_ratio", 0), channels = x.shape(1), height = x.shape(2),
                width = x.shape(3);
  const double scale = c.real_attribute("spatial_scale", 1);
  const bool largest = c.text_attribute("mode", "avg") == "max";
  const bool half = c.text_attribute("coordinate_transformation_mode",
                                     c.opset >= 16 ? "half_pixel" : "output_half_pixel") == "half_pixel";
  const auto data = x.to_vector<double>();
  std::vector<double> out;
  for (size_t n = 0; n < batch.size(); ++n) {
    if (batch[n] < 0 || batch[n] >= x.shape(0)) c.fail("a region of an image that does not exist");
    const double shift = half ? 0.5 : 0;
    const double x1 = rois[4 * n] * scale - shift, y1 = rois[4 * n + 1] * scale - shift;
    double w = rois[4 * n + 2] * scale - shift - x1, h = rois[4 * n + 3] * scale - shift - y1;
    if (!half) {
      w = std::max(w, 1.0);
      h = std::max(h, 1.0);
    }
    const double bin_h = h / static_cast<double>(out_h), bin_w = w / static_cast<double>(out_w);
    const int64_t grid_h = ratio > 0 ? ratio : std::max<int64_t>(1, static_cast<int64_t>(std::ceil(bin_h))),
                  grid_w = ratio > 0 ? ratio : std::max<int64_t>(1, static_cast<int64_t>(std::ceil(bin_w)));
    for (int64_t ch = 0; ch < channels; ++ch) {
      const double* plane = data.data() + (batch[n] * channels + ch) * height * width;
      for (int64_t py = 0; py < out_h; ++py) {
        for (int64_t px = 0; px < out_w; ++px) {
          double total = 0, best = -1e300;
          for (int64_t iy = 0; iy < grid_h; ++iy) {
            for (int64_t ix = 0; ix < grid_w; ++ix) {
              double yy =
                  y1 +
                  (static_cast<double>(py) + (static_cast<double>(iy) + 0.5) / static_cast<double>(grid_h)) * bin_h;
              double xx =
                  x1 +
                  (static_cast<double>(px) + (static_cast<double>(ix) + 0.5) / static_cast<double>(grid_w)) * bin_w;
              if (yy < -1 || yy > static_cast<double>(height) || xx < -1 || xx > static_cast<double>(width)) {
                best = std::max(best, 0.0);
                continue;
              }
              yy = std::clamp(yy, 0.0, static_cast<double>(height - 1));
              xx = std::clamp(xx, 0.0, static_cast<double>(width - 1));
              const auto ya = static_cast<int64_t>(yy), xa = static_cast<int64_t>(xx);
              const int64_t yb = std::min(ya + 1, height - 1), xb = std::min(xa + 1, width - 1);
              const double fy = yy - static_cast<double>(ya), fx = xx - static_cast<double>(xa);
              const double a = (1 - fy) * (1 - fx) * plane[ya * width + xa], b = (1 - fy) * fx * plane[ya * width + xb],
                           d = fy * (1 - fx) * plane[yb * width + xa], e = fy * fx * plane[yb * width + xb];
              total += a + b + d + e;
              best = std::max({best, a, b, d, e});
            }
          }
          out.push_back(largest ? best : total / static_cast<double>(grid_h * grid_w));
        }
      }
    }
  }
  return {cast(from_vector(out, {static_cast<int64_t>(batch.size()), channels, out_h, out_w}), x.dtype())};
}

// Boxes by falling score, without those that overlap a better one of their class too much.
Values non_max_suppression(Call& c) {
  const Tensor boxes = c.tensor(0), scores = c.tensor(1);
  const int64_t most = c.has(2) ? reshape(c.tensor(2), {}).item<int64_t>() : 0;
  const double overlap = c.has(3) ? reshape(c.tensor(3), {}).item<double>() : 0;
  const bool has_least = c.has(4), centers = c.integer_attribute("center_point_box", 0) != 0;
  const double least = has_least ? reshape(c.tensor(4), {}).item<double>() : 0;
  const auto b = boxes.to_vector<double>(), s = scores.to_vector<double>();
  const int64_t batches = scores.shape(0), classes = scores.shape(1), n = scores.shape(2);
  struct Box {
    double y1, x1, y2, x2;
    [[nodiscard]] double area() const { return (y2 - y1) * (x2 - x1); }
  };
  const auto box_at = [&](int64_t batch, int64_t i) {
    const double* p = b.data() + (batch * n + i) * 4;
    if (centers) return Box{p[1] - p[3] / 2, p[0] - p[2] / 2, p[1] + p[3] / 2, p[0] + p[2] / 2};
    return Box{std::min(p[0], p[2]), std::min(p[1], p[3]), std::max(p[0], p[2]), std::max(p[1], p[3])};
  };
  std::vector<int64_t> out;
  for (int64_t batch = 0; batch < batches; ++batch) {
    for (int64_t k = 0; k < classes; ++k) {
      const double* score = s.data() + (batch * classes + k) * n;
      std::vector<int64_t> order;
      for (int64_t i = 0; i < n; ++i) {
        if (!has_least || score[i] > least) order.push_back(i);
      }
      std::stable_sort(order.begin(), order.end(), [&](int64_t i, int64_t j) { return score[i] > score[j]; });
      std::vector<Box> kept;
      for (int64_t i : order) {
        if (static_cast<int64_t>(kept.size()) >= most) break;
        const Box box = box_at(batch, i);
        const bool hidden = std::any_of(kept.begin(), kept.end(), [&](const Box& o) {
          const double h = std::min(box.y2, o.y2) - std::max(box.y1, o.y1),
                       w = std::min(box.x2, o.x2) - std::max(box.x1, o.x1);
          if (h <= 0 || w <= 0) return false;
          return h * w / (box.area() + o.area() - h * w) > overlap;
        });
        if (hidden) continue;
        kept.push_back(box);
        out.insert(out.end(), {batch, k, i});
      }
    }
  }
  return {from_vector(out, {static_cast<int64_t>(out.size() / 3), 3})};
}

Values center_crop_pad(Call& c) {
  Tensor x = c.tensor(0);
  const auto wanted = c.integers(1);
  auto axes = c.integers_attribute("axes");
  if (axes.empty()) {
    axes.resize(wanted.size());
    std::iota(axes.begin(), axes.end(), 0);
  }
  for (size_t k = 0; k < axes.size(); ++k) {
    const int64_t axis = normalize_axis(c.where, axes[k], x.ndim()), have = x.shape(axis), want = wanted[k];
    if (want < have) {
      x = narrow(x, axis, (have - want) / 2, want);
    } else if (want > have) {
      Ints before(static_cast<size_t>(x.ndim()), 0), after = before;
      before[static_cast<size_t>(axis)] = (want - have) / 2;
      after[static_cast<size_t>(axis)] = want - have - (want - have) / 2;
      x = pad(x, before, after);
    }
  }
  return {x};
}

// Adds patches [N, C * window, positions] up into images: the transpose of unfolding.
Values col2im(Call& c) {
  const Tensor x = c.tensor(0);
  const auto image = c.integers(1), block = c.integers(2);
  const size_t rank = image.size();
  auto dilations = c.integers_attribute("dilations", std::vector<int64_t>(rank, 1)),
       strides = c.integers_attribute("strides", std::vector<int64_t>(rank, 1)),
       pads = c.integers_attribute("pads", std::vector<int64_t>(2 * rank, 0));
  Shape window = ints_of(block), places, padded;
  for (size_t k = 0; k < rank; ++k) {
    padded.push_back(image[k] + pads[k] + pads[k + rank]);
    places.push_back((padded[k] - dilations[k] * (block[k] - 1) - 1) / strides[k] + 1);
  }
  const int64_t n = x.shape(0), channels = x.shape(1) / numel(window);
  // The place in the padded image of each element of each patch.
  const Shape both = joined(window, places);
  Tensor index = zeros(both, i64);
  for (size_t k = 0; k < rank; ++k)
    index = index * padded[k] + iota(both, static_cast<int64_t>(k)) * dilations[k] +
            iota(both, static_cast<int64_t>(rank + k)) * strides[k];
  const Tensor values = reshape(x, {n * channels, -1});
  const Tensor sums = index_add(zeros({n * channels, numel(padded)}, x.dtype()), 1, reshape(index, {-1}), values);
  const Shape shape = joined({n, channels}, padded);
  Tensor y = reshape(sums, shape);
  for (size_t k = 0; k < rank; ++k) y = narrow(y, static_cast<int64_t>(k) + 2, pads[k], image[k]);
  return {y};
}

// PNG and JPEG files as u8 [height, width, channels].
Values image_decoder(Call& c) {
  const auto bytes = c.tensor(0).to_vector<uint8_t>();
  const bool png = bytes.size() > 1 && bytes[0] == 0x89,
             jpeg = bytes.size() > 1 && bytes[0] == 0xff && bytes[1] == 0xd8;
  if (!png && !jpeg) c.unsupported("an image that is neither PNG nor JPEG");
  const std::string format = c.text_attribute("pixel_format", "RGB");
  const data::ImageOptions options{.channels = format == "Grayscale" ? 1 : 3};
  Tensor image = data::to_tensor(data::decode_image(std::as_bytes(std::span(bytes)), c.where, options));
  if (image.ndim() == 2) image = unsqueeze(image, {2});
  if (format == "BGR") image = flip(image, {2});
  return {image};
}

constexpr std::array kRules{
    Rule{"Resize", resize},
    Rule{"Upsample", upsample},
    Rule{"GridSample", grid_sample_rule},
    Rule{"AffineGrid", affine_grid_rule},
    Rule{"RoiAlign", roi_align},
    Rule{"NonMaxSuppression", non_max_suppression},
    Rule{"CenterCropPad", center_crop_pad},
    Rule{"Col2Im", col2im},
    Rule{"ImageDecoder", image_decoder},
};

}  // namespace

std::span<const Rule> image_rules() { return kRules; }

}  // namespace tenon::formats::onnx
