#include "tenon/device/cpu/pointwise.h"

#include <algorithm>
#include <optional>

#include "tenon/device/cpu/conv_plan.h"
#include "tenon/device/cpu/pieces.h"
#include "tenon/device/cpu/product.h"
#include "tenon/tensor/buffer.h"

namespace tenon::cpu {
namespace {

constexpr int64_t kFewPlaces = 128;  // below, many of a tile's columns are empty, and transposing costs less
constexpr int64_t kThinSum = 4;      // channels of a group, below which a product has nothing to add up

// Whether the places of an example lie one after the other.
bool places_run_on(const ConstView& v) {
  int64_t expected = 1;
  for (size_t d = v.shape.size(); d-- > 2;) {
    if (v.shape[d] != 1 && v.strides[d] != expected) return false;
    expected *= v.shape[d];
  }
  return true;
}

// For each example and group c[rows, places] = w[rows, sums] b[sums, places].
struct Products {
  int64_t examples, groups, rows, sums, places;
  const float* w;
  int64_t w_group, w_row, w_sum;
  const ConstView& b;
  const View& c;

  void operator()(const TileLoops& loops, ThreadPool& pool, const TileProgram* add, const float* bias) const {
    const auto one = [&](int64_t unit, ThreadPool* threads) {
      const int64_t n = unit / groups, g = unit % groups;
      Product p{.m = rows, .n = places, .k = sums, .a = w + g * w_group, .a_row = w_row, .a_k = w_sum};
      p.b = b.as<float>() + n * b.strides[0] + g * sums * b.strides[1];
      p.b_k = b.strides[1];
      p.b_column = 1;
      p.c = c.as<float>() + n * c.strides[0] + g * rows * c.strides[1];
      p.c_row = c.strides[1];
      const ProductFollow::Operand operand{bias == nullptr ? nullptr : bias + g * rows, 1, 0};
      const std::optional<ProductFollow> follow =
          bias == nullptr ? std::nullopt : std::optional(ProductFollow{*add, {&operand, 1}});
      if (threads == nullptr) {
        product(p, loops, follow ? &*follow : nullptr);
      } else {
        product(p, loops, *threads, follow ? &*follow : nullptr);
      }
    };
    const int64_t units = examples * groups;
    if (units < 2 * pool.threads()) {
      for (int64_t u = 0; u < units; ++u) one(u, &pool);
    } else {
      pool.run(units, [&](int64_t u) { one(u, nullptr); });
    }
  }
};

}  // namespace

bool is_pointwise(const ConvShape& s, const ConstView& x, const ConstView& y) {
  const ConvShape::Extents ones{1, 1, 1}, none{0, 0, 0};
  return s.window == ones && s.stride == ones && s.low == none && s.high == none && s.channels >= kThinSum * s.groups &&
         s.filters >= kThinSum * s.groups && ConvShape::volume(s.out) >= kFewPlaces && places_run_on(x) &&
         places_run_on(y);
}

void pointwise(const ConvShape& s, const ConstView& x, const float* weight, const float* bias, const View& y,
               const LevelTable& level, ThreadPool& pool) {
  const int64_t rows = s.filters / s.groups, sums = s.channels / s.groups;
  const TileProgram add(level, add_bias());
  Products{s.n, s.groups, rows, sums, ConvShape::volume(s.out), weight, rows * sums, sums, 1, x, y}(level.tiles, pool,
                                                                                                    &add, bias);
}

void pointwise_input_gradient(const ConvShape& s, const ConstView& dy, const float* weight, const View& dx,
                              const LevelTable& level, ThreadPool& pool) {
  const int64_t rows = s.channels / s.groups, sums = s.filters / s.groups;
  Products{s.n, s.groups, rows, sums, ConvShape::volume(s.out), weight, rows * sums, 1, rows, dy, dx}(level.tiles, pool,
                                                                                                      nullptr, nullptr);
}

// One of the two is transposed to be the right-hand side: the one with fewer channels. If that is dy, so is the result.
void pointwise_weight_gradient(const ConvShape& s, const ConstView& x, const ConstView& dy, float* dw,
                               const LevelTable& level, ThreadPool& pool) {
  const int64_t filters = s.filters / s.groups, channels = s.channels / s.groups, size = filters * channels;
  const bool turned = filters < channels;
  const ConstView &left = turned ? x : dy, &right = turned ? dy : x;
  const int64_t rows = turned ? channels : filters, columns = turned ? filters : channels;
  const int64_t parts = batch_parts(s.n, s.weight_size(), ConvShape::volume(s.out));
  const Ref<Buffer> memory = Buffer::allocate_scratch(static_cast<size_t>(parts * s.weight_size() * kFloat));
  auto* sums = reinterpret_cast<float*>(memory->data());
  const auto add_part = [&](int64_t part, ThreadPool* threads) {
    const int64_t begin = s.n * part / parts, end = s.n * (part + 1) / parts;
    for (int64_t i = begin; i < end; ++i) {
      for (int64_t g = 0; g < s.groups; ++g) {
        Product p{.m = rows, .n = columns, .k = ConvShape::volume(s.out)};
        p.a = left.as<float>() + i * left.strides[0] + g * rows * left.strides[1];
        p.a_row = left.strides[1];
        p.a_k = 1;
        p.b = right.as<float>() + i * right.strides[0] + g * columns * right.strides[1];
        p.b_k = 1;
        p.b_column = right.strides[1];
        p.c = sums + (part * s.groups + g) * size;
        p.c_row = columns;
        p.accumulate = i != begin;
        if (threads == nullptr) {
          product(p, level.tiles);
        } else {
          product(p, level.tiles, *threads);
        }
      }
    }
  };
  if (parts < 2 * pool.threads()) {
    for (int64_t part = 0; part < parts; ++part) add_part(part, &pool);
  } else {
    pool.run(parts, [&](int64_t part) { add_part(part, nullptr); });
  }
  const LoopFn add = level.loop[static_cast<size_t>(ir::ScalarOp::Add)][static_cast<size_t>(DType::F32)];
  pool.run(s.groups, [&](int64_t g) {
    float* sum = sums + g * size;
    for (int64_t part = 1; part < parts; ++part) add(sum, sum, sum + part * s.weight_size(), nullptr, size);
    if (turned) {
      level.tiles.transpose(sum, columns, rows, columns, dw + g * size, rows);
    } else {
      std::copy_n(sum, size, dw + g * size);
    }
  });
}

}  // namespace tenon::cpu
