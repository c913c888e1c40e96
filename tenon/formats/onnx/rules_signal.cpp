// Signals: Fourier transforms and windows; random numbers.
#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>

#include "tenon/formats/onnx/call.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/matmul.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/random.h"
#include "tenon/ops/reduce.h"

namespace tenon::formats::onnx {
namespace {

// The discrete Fourier transform along the last but one axis of x [..., n, 1 or 2] as a product with its matrix; the
// angles are reduced as whole numbers, so that they are exact.
Tensor fourier(const Tensor& x, int64_t length, int64_t outputs, bool inverse, DType dtype) {
  std::vector<double> cosine, sine;
  for (int64_t t = 0; t < length; ++t) {
    for (int64_t k = 0; k < outputs; ++k) {
      const double angle = 2 * std::numbers::pi * static_cast<double>((t * k) % length) / static_cast<double>(length) *
                           (inverse ? 1 : -1);
      cosine.push_back(std::cos(angle) / (inverse ? static_cast<double>(length) : 1));
      sine.push_back(std::sin(angle) / (inverse ? static_cast<double>(length) : 1));
    }
  }
  const Tensor cos_matrix = from_vector(cosine, {length, outputs}), sin_matrix = from_vector(sine, {length, outputs});
  const Tensor re = cast(select(x, -1, 0), f64);
  Tensor real_part = matmul(re, cos_matrix), imaginary = matmul(re, sin_matrix);
  if (x.shape(-1) == 2) {
    const Tensor im = cast(select(x, -1, 1), f64);
    real_part = real_part - matmul(im, sin_matrix);
    imaginary = imaginary + matmul(im, cos_matrix);
  }
  return cast(stack({real_part, imaginary}, -1), dtype);
}

Tensor fitted(const Tensor& x, int64_t axis, int64_t length) {
  const int64_t have = x.shape(axis);
  if (have >= length) return narrow(x, axis, 0, length);
  Ints before(static_cast<size_t>(x.ndim()), 0), after = before;
  after[static_cast<size_t>(axis)] = length - have;
  return pad(x, before, after);
}

Values dft(Call& c) {
  Tensor x = c.tensor(0);
  const int64_t given =
      c.opset >= 20 ? (c.has(2) ? reshape(c.value(2), {}).item<int64_t>() : -2) : c.integer_attribute("axis", 1);
  const int64_t axis = normalize_axis(c.where, given, x.ndim());
  const bool inverse = c.integer_attribute("inverse", 0) != 0, one_sided = c.integer_attribute("onesided", 0) != 0;
  int64_t length = c.has(1) ? reshape(c.value(1), {}).item<int64_t>() : x.shape(axis);
  if (inverse && one_sided) {
    // Half of a spectrum whose other half is its mirror; the signal is real.
    const int64_t bins = x.shape(axis);
    if (!c.has(1)) length = 2 * (bins - 1);
    const Tensor mirror = flip(narrow(x, axis, 1, length - bins), {axis});
    const Tensor conjugate = stack({select(mirror, -1, 0), -select(mirror, -1, 1)}, -1);
    const Tensor whole = moveaxis(concat({x, conjugate}, axis), axis, -2);
    const Tensor y = fourier(whole, length, length, true, x.dtype());
    return {moveaxis(narrow(y, -1, 0, 1), -2, axis)};
  }
  x = moveaxis(fitted(x, axis, length), axis, -2);
  const Tensor y = fourier(x, length, one_sided ? length / 2 + 1 : length, inverse, x.dtype());
  return {moveaxis(y, -2, axis)};
}

Values stft(Call& c) {
  const Tensor signal = c.tensor(0);
  const int64_t step = reshape(c.value(1), {}).item<int64_t>();
  const int64_t length = c.has(3)   ? reshape(c.value(3), {}).item<int64_t>()
                         : c.has(2) ? c.tensor(2).size()
                                    : signal.shape(1);
  if (step < 1 || length < 1 || length > signal.shape(1)) c.fail("the frames do not fit into the signal");
  const bool one_sided = c.integer_attribute("onesided", 1) != 0;
  Tensors frames;
  for (int64_t at = 0; at + length <= signal.shape(1); at += step) frames.push_back(narrow(signal, 1, at, length));
  Tensor x = stack(frames, 1);  // [batch, frames, length, 1 or 2]
  if (x.ndim() == 3) x = unsqueeze(x, {3});
  if (c.has(2)) {
    Tensor window = c.tensor(2);
    if (window.size() < length) {
      const int64_t low = (length - window.size()) / 2;
      window = pad(window, {low}, {length - window.size() - low});
    }
    x = x * reshape(window, {length, 1});
  }
  return {fourier(x, length, one_sided ? length / 2 + 1 : length, false, signal.dtype())};
}

// a0 - a1 cos(2 pi n / N) + a2 cos(4 pi n / N)
Values cosine_window(Call& c, double a0, double a1, double a2) {
  const int64_t size = reshape(c.value(0), {}).item<int64_t>();
  const auto period = static_cast<double>(c.integer_attribute("periodic", 1) != 0 ? size : size - 1);
  std::vector<double> values;
  for (int64_t n = 0; n < size; ++n) {
    const double angle = 2 * std::numbers::pi * static_cast<double>(n) / period;
    values.push_back(a0 - a1 * std::cos(angle) + a2 * std::cos(2 * angle));
  }
  const auto type = static_cast<DataType>(c.integer_attribute("output_datatype", 1));
  return {cast(from_vector(values, {size}), dtype_of(type, c.where))};
}
Values hann(Call& c) { return cosine_window(c, 0.5, 0.5, 0); }
Values hamming(Call& c) { return cosine_window(c, 25.0 / 46, 21.0 / 46, 0); }
Values blackman(Call& c) { return cosine_window(c, 0.42, 0.5, 0.08); }

// Triangles on the mel scale (2595 log10(1 + f / 700)) over the bins of a spectrum.
Values mel_weights(Call& c) {
  const auto whole = [&](size_t i) { return reshape(c.value(i), {}).item<int64_t>(); };
  const auto real = [&](size_t i) { return reshape(c.value(i), {}).item<double>(); };
  const int64_t mels = whole(0), length = whole(1), rate = whole(2), bins = length / 2 + 1;
  const auto to_mel = [](double f) { return 2595 * std::log10(1 + f / 700); };
  const double low = to_mel(real(3)), high = to_mel(real(4)), step = (high - low) / static_cast<double>(mels + 2);
  std::vector<int64_t> edges;
  for (int64_t i = 0; i < mels + 2; ++i) {
    const double f = 700 * (std::pow(10.0, (low + step * static_cast<double>(i)) / 2595) - 1);
    edges.push_back(static_cast<int64_t>(std::floor(static_cast<double>(length + 1) * f / static_cast<double>(rate))));
  }
  std::vector<double> out(static_cast<size_t>(bins * mels), 0);
  const auto at = [&](int64_t bin, int64_t mel) -> double& { return out[static_cast<size_t>(bin * mels + mel)]; };
  for (int64_t m = 0; m < mels; ++m) {
    const int64_t left = edges[static_cast<size_t>(m)], mid = edges[static_cast<size_t>(m) + 1],
                  right = edges[static_cast<size_t>(m) + 2];
    if (left == mid) {
      if (mid < bins) at(mid, m) = 1;
    } else {
      for (int64_t b = left; b <= std::min(mid, bins - 1); ++b)
        at(b, m) = static_cast<double>(b - left) / static_cast<double>(mid - left);
    }
    if (right != mid) {
      for (int64_t b = mid; b < std::min(right, bins); ++b)
        at(b, m) = static_cast<double>(right - b) / static_cast<double>(right - mid);
    }
  }
  const auto type = static_cast<DataType>(c.integer_attribute("output_datatype", 1));
  return {cast(from_vector(out, {bins, mels}), dtype_of(type, c.where))};
}

// ---- random ----
Tensor key_of(Call& c) {
  const auto* seed = c.attribute("seed");
  if (!seed) return {};
  return random_key(static_cast<uint64_t>(std::llround(static_cast<double>(seed->f) * 65536)));
}
DType random_dtype(Call& c, DType fallback) {
  const auto* a = c.attribute("dtype");
  return a && a->i != 0 ? dtype_of(static_cast<DataType>(a->i), c.where) : fallback;
}
Values random_rule(Call& c, const Shape& shape, DType fallback, bool bell) {
  const DType dtype = random_dtype(c, fallback);
  return {bell ? normal(shape, c.real_attribute("mean", 0), c.real_attribute("scale", 1), dtype, key_of(c))
               : uniform(shape, c.real_attribute("low", 0), c.real_attribute("high", 1), dtype, key_of(c))};
}
Values random_normal(Call& c) { return random_rule(c, ints_of(c.integers_attribute("shape")), DType::F32, true); }
Values random_uniform(Call& c) { return random_rule(c, ints_of(c.integers_attribute("shape")), DType::F32, false); }
Values random_normal_like(Call& c) { return random_rule(c, c.tensor(0).shape(), c.tensor(0).dtype(), true); }
Values random_uniform_like(Call& c) { return random_rule(c, c.tensor(0).shape(), c.tensor(0).dtype(), false); }
Values bernoulli_rule(Call& c) {
  const Tensor p = c.tensor(0);
  return {cast(uniform(p.shape(), 0, 1, DType::F32, key_of(c)) < p, random_dtype(c, p.dtype()))};
}
Values multinomial(Call& c) {
  const Tensor logits = c.tensor(0);
  const int64_t count = c.integer_attribute("sample_size", 1), rows = logits.shape(0), classes = logits.shape(1);
  const Tensor drawn = categorical(expand(unsqueeze(logits, {1}), {rows, count, classes}), key_of(c));
  return {cast(drawn, random_dtype(c, DType::I32))};
}

constexpr std::array kRules{
    Rule{"DFT", dft},
    Rule{"STFT", stft},
    Rule{"HannWindow", hann},
    Rule{"HammingWindow", hamming},
    Rule{"BlackmanWindow", blackman},
    Rule{"MelWeightMatrix", mel_weights},
    Rule{"RandomNormal", random_normal, {}, true},
    Rule{"RandomUniform", random_uniform, {}, true},
    Rule{"RandomNormalLike", random_normal_like, {}, true},
    Rule{"RandomUniformLike", random_uniform_like, {}, true},
    Rule{"Bernoulli", bernoulli_rule, {}, true},
    Rule{"Multinomial", multinomial, {}, true},
};

}  // namespace

std::span<const Rule> signal_rules() { return kRules; }

}  // namespace tenon::formats::onnx
