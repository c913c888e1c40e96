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
#include "tenon/ops/grid_sample.h"
#include "tenon/ops/interpolate.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/patches.h"

namespace tenon::formats::onnx {
namespace {

// ---- Resize: one axis at a time ----
struct Resampling {
  AxisInterpolation how;
  std::string coordinates;
  double scale = 1, roi_start = 0, roi_end = 1;
  bool antialias = false;
};

AxisInterpolation::Rounding rounding_of(const std::string& nearest_mode) {
  using Rounding = AxisInterpolation::Rounding;
  if (nearest_mode == "round_prefer_ceil") return Rounding::HalfUp;
  if (nearest_mode == "floor") return Rounding::Floor;
  return nearest_mode == "ceil" ? Rounding::Ceil : Rounding::HalfDown;  // round_prefer_floor
}
AxisInterpolation::Method method_of(const std::string& mode) {
  using Method = AxisInterpolation::Method;
  if (mode == "cubic") return Method::Cubic;
  return mode == "nearest" ? Method::Nearest : Method::Linear;
}

// Where the new elements stand, by the names of the standard. `length` is the new extent before it was rounded.
AxisInterpolation positions_of(const Resampling& r, int64_t in, int64_t out, double length) {
  AxisInterpolation how = r.how;
  how.extent = out;
  how.step = 1 / r.scale;
  how.stretch = r.antialias && r.scale < 1 ? 1 / r.scale : 1;
  const auto n = static_cast<double>(in), m = static_cast<double>(out);
  const double middles = how.step / 2 - 0.5;
  if (r.coordinates == "align_corners") {
    how.step = length == 1 ? 0 : (n - 1) / (length - 1);
  } else if (r.coordinates == "asymmetric") {
    how.start = 0;
  } else if (r.coordinates == "pytorch_half_pixel") {
    how.start = out == 1 ? 0 : middles;
  } else if (r.coordinates == "half_pixel_symmetric") {
    how.start = n / 2 * (1 - m / length) + middles;
  } else if (r.coordinates == "tf_crop_and_resize") {
    how.step = out == 1 ? 0 : (r.roi_end - r.roi_start) * (n - 1) / (m - 1);
    how.start = (out == 1 ? (r.roi_start + r.roi_end) / 2 : r.roi_start) * (n - 1);
  } else {
    how.start = middles;  // half_pixel
  }
  return how;
}

// What sums are made in, over all axes before they are rounded.
Tensor widened(const Tensor& x) { return cast(x, x.dtype() == DType::F64 ? DType::F64 : DType::F32); }

Values resize(Call& c) {
  const Tensor x = c.tensor(0);
  Resampling r;
  const bool old = c.opset < 11;
  r.how.method = method_of(c.text_attribute("mode", "nearest"));
  r.how.rounding = rounding_of(old ? "floor" : c.text_attribute("nearest_mode", "round_prefer_floor"));
  r.how.cubic_coefficient = c.real_attribute("cubic_coeff_a", -0.75);
  r.how.exclude_outside = c.integer_attribute("exclude_outside", 0) != 0;
  r.coordinates = old ? "asymmetric" : c.text_attribute("coordinate_transformation_mode", "half_pixel");
  r.antialias = c.integer_attribute("antialias", 0) != 0;
  const size_t scales_at = old ? 1 : 2;
  const auto rank = static_cast<size_t>(x.ndim());
  std::vector<int64_t> axes = c.integers_attribute("axes");
  if (axes.empty()) {
    axes.resize(rank);
    std::iota(axes.begin(), axes.end(), 0);
  }
  std::vector<double> scales, roi;
  if (c.has(scales_at)) scales = c.value(scales_at).to_vector<double>();
  if (const auto* a = c.attribute("scales")) scales.assign(a->floats.begin(), a->floats.end());
  if (!old && c.has(1)) roi = c.value(1).to_vector<double>();
  std::vector<int64_t> sizes = !old && c.has(3) ? c.integers(3) : std::vector<int64_t>();
  if (scales.empty() && sizes.empty()) c.fail("neither scales nor sizes are given");
  if ((sizes.empty() ? scales.size() : sizes.size()) != axes.size())
    c.fail("scales or sizes have another number of axes");
  for (int64_t size : sizes) {
    if (size > INT32_MAX) c.fail("an axis would be too large");
  }
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
  Tensor hidden;
  std::vector<std::pair<int64_t, AxisInterpolation>> moves;
  double growth = 1;
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
      if (!(std::abs(length) < INT32_MAX)) c.fail("an axis would be too large");
      out = static_cast<int64_t>(std::floor(length));
    }
    if (out == in && r.scale == 1 && !crop) continue;
    if (out < 0 || in == 0) c.fail("nothing can be resized to this");
    const AxisInterpolation how = positions_of(r, in, out, length);
    moves.emplace_back(axis, how);
    growth *= static_cast<double>(out) / static_cast<double>(in);
    if (crop) {
      Shape shape(rank, 1);
      shape[static_cast<size_t>(axis)] = out;
      const Tensor at = cast(reshape(arange(out), shape), f64) * how.step + how.start;
      const Tensor here = logical_or(at<0, at> static_cast<double>(in - 1));
      hidden = hidden.defined() ? logical_or(hidden, here) : here;
    }
  }
  // Growing starts with the last axis, where single elements move, and shrinking with the first.
  if (growth > 1) std::ranges::reverse(moves);
  Tensor y = r.how.method == AxisInterpolation::Method::Nearest && x.dtype() != boolean ? x : widened(x);
  for (const auto& [axis, how] : moves) y = interpolate_axis(y, axis, how);
  if (hidden.defined()) y = where(hidden, c.real_attribute("extrapolation_value", 0), y);
  if (is_integer(x.dtype()) && is_float(y.dtype())) y = round(y);
  return {cast(y, x.dtype())};
}

Values upsample(Call& c) {
  Resampling r;
  r.how.method = method_of(c.text_attribute("mode", "nearest"));
  r.coordinates = "asymmetric";
  Tensor y = widened(c.tensor(0));
  std::vector<double> scales;
  if (const auto* a = c.attribute("scales")) scales.assign(a->floats.begin(), a->floats.end());
  if (c.has(1)) scales = c.value(1).to_vector<double>();
  for (size_t axis = 0; axis < scales.size(); ++axis) {
    const int64_t in = y.shape(static_cast<int64_t>(axis));
    r.scale = scales[axis];
    const double length = static_cast<double>(in) * r.scale;
    if (!(std::abs(length) < INT32_MAX)) c.fail("an axis would be too large");
    const auto out = static_cast<int64_t>(std::floor(length));
    if (out != in) y = interpolate_axis(y, static_cast<int64_t>(axis), positions_of(r, in, out, length));
  }
  return {cast(y, c.tensor(0).dtype())};
}

// ---- sampling ----
Values grid_sample_rule(Call& c) {
  const Tensor x = c.tensor(0);
  const std::string mode = c.text_attribute("mode", "linear"), padding = c.text_attribute("padding_mode", "zeros");
  GridSampleOptions options;
  if (mode == "nearest") options.mode = GridMode::Nearest;
  if (mode == "cubic" || mode == "bicubic") options.mode = GridMode::Cubic;
  if (padding == "border") options.padding = GridPadding::Border;
  if (padding == "reflection") options.padding = GridPadding::Reflection;
  options.align_corners = c.integer_attribute("align_corners", 0) != 0;
  const Tensor values = is_float(x.dtype()) ? x : cast(x, f32);
  return {cast(grid_sample(values, cast(c.tensor(1), values.dtype()), options), x.dtype())};
}

Values affine_grid_rule(Call& c) {
  return {affine_grid(c.tensor(0), ints_of(c.integers(1)), c.integer_attribute("align_corners", 0) != 0)};
}

// ---- regions ----
// Averages (or largest) of bilinear samples in each bin of each region (He et al., arXiv 1703.06870).
Values roi_align(Call& c) {
  const Tensor x = c.tensor(0);
  const auto rois = c.value(1).to_vector<double>();
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
  const int64_t most = c.has(2) ? reshape(c.value(2), {}).item<int64_t>() : 0;
  const double overlap = c.has(3) ? reshape(c.value(3), {}).item<double>() : 0;
  const bool has_least = c.has(4), centers = c.integer_attribute("center_point_box", 0) != 0;
  const double least = has_least ? reshape(c.value(4), {}).item<double>() : 0;
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
  const auto wanted = c.integers(1);
  auto axes = c.integers_attribute("axes");
  if (axes.empty()) {
    axes.resize(wanted.size());
    std::iota(axes.begin(), axes.end(), 0);
  }
  return {center_crop(c.tensor(0), ints_of(axes), ints_of(wanted))};
}

Values col2im(Call& c) {
  const auto image = c.integers(1), block = c.integers(2);
  const size_t rank = image.size();
  const auto pads = c.integers_attribute("pads", std::vector<int64_t>(2 * rank, 0));
  if (pads.size() != 2 * rank) c.fail("pads do not fit the image");
  return {fold(c.tensor(0), ints_of(image), ints_of(block),
               {.stride = ints_of(c.integers_attribute("strides", std::vector<int64_t>(rank, 1))),
                .padding = Ints(pads.begin(), pads.begin() + static_cast<std::ptrdiff_t>(rank)),
                .padding_high = Ints(pads.begin() + static_cast<std::ptrdiff_t>(rank), pads.end()),
                .dilation = ints_of(c.integers_attribute("dilations", std::vector<int64_t>(rank, 1)))})};
}

// PNG and JPEG files as u8 [height, width, channels].
Values image_decoder(Call& c) {
  const auto bytes = c.value(0).to_vector<uint8_t>();
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
