// Chains of convolutions in strips of rows: the bits of a loop over the chain's definition.
#include "tenon/device/cpu/conv_chain.h"

#include <gtest/gtest.h>

#include <cmath>
#include <memory>

#include "tests/device/support.h"
#include "tests/device/tile_support.h"

namespace tenon::test {
namespace {

using cpu::ConvShape;

// What follows a convolution's sums.
enum class After : uint8_t {
  Nothing,
  Bounded,  // + a channel's number, at most 1, in the registers of the tile
  Mixed     // what_follows(): by a channel's number, plus another tensor, at least a number
};
struct Layer {
  int64_t filters, groups, window, stride, dilation, low, high;
  After after = After::Nothing;
};
Layer pointwise(int64_t filters, After after = After::Nothing) { return {filters, 1, 1, 1, 1, 0, 0, after}; }
Layer depthwise(int64_t channels, int64_t window, int64_t stride, int64_t low, int64_t high,
                After after = After::Nothing) {
  return {channels, channels, window, stride, 1, low, high, after};
}

// A layer with all that it reads but the result of the one before it.
struct Link {
  ConvShape s;
  After after = After::Nothing;
  Shape shape;  // of the result
  std::vector<float> weight, channel, other, result;
  float least = -0.25F;
  std::unique_ptr<cpu::DirectConv> conv;
  std::vector<ConstView> operands;
};

std::vector<float> numbers(int64_t count, uint64_t seed) {
  Array a(DType::F32, {count});
  a.fill_random(seed, -1, 1);
  return floats(a);
}

float followed(const Link& link, float sum, int64_t channel, size_t element) {
  const float own = link.channel[static_cast<size_t>(channel)];
  switch (link.after) {
    case After::Nothing:
      return sum;
    case After::Bounded:
      return std::min(sum + own, 1.0F);
    case After::Mixed:
      return std::max(sum * own + link.other[element], link.least);
  }
  return sum;
}

// One chain of fused multiply-adds over (window, channel) for each element of [n, channels, rows, columns].
std::vector<float> by_loops(const Link& link, const std::vector<float>& x) {
  const ConvShape& s = link.s;
  const int64_t cg = s.channels / s.groups, fg = s.filters / s.groups;
  std::vector<float> y;
  const auto element = [&](int64_t n, int64_t f, int64_t row, int64_t column) {
    float sum = 0;
    for (int64_t i = 0; i < s.window[0]; ++i) {
      for (int64_t j = 0; j < s.window[1]; ++j) {
        const int64_t r = row * s.stride[0] + i * s.dilation[0] - s.low[0];
        const int64_t c = column * s.stride[1] + j * s.dilation[1] - s.low[1];
        if (r < 0 || r >= s.in[0] || c < 0 || c >= s.in[1]) continue;
        for (int64_t k = 0; k < cg; ++k) {
          const auto at = static_cast<size_t>(((n * s.channels + f / fg * cg + k) * s.in[0] + r) * s.in[1] + c);
          sum = std::fma(x[at], link.weight[static_cast<size_t>(((f * cg + k) * s.window[0] + i) * s.window[1] + j)],
                         sum);
        }
      }
    }
    y.push_back(followed(link, sum, f, y.size()));
  };
  for (int64_t n = 0; n < s.n; ++n) {
    for (int64_t f = 0; f < s.filters; ++f) {
      for (int64_t row = 0; row < s.out[0]; ++row) {
        for (int64_t column = 0; column < s.out[1]; ++column) element(n, f, row, column);
      }
    }
  }
  return y;
}

std::optional<ir::ScalarProgram> program_after(After after) {
  if (after == After::Nothing) return std::nullopt;
  if (after == After::Mixed) return what_follows();
  return program_of({DType::F32, DType::F32},
                    [](auto x) { return ir::apply_op(ir::ScalarOp::Min, std::array{x[0] + x[1], ir::Scalar(1.0)}); });
}

struct Chain {
  std::vector<float> x;
  Shape x_shape;
  std::vector<std::unique_ptr<Link>> links;
  [[nodiscard]] const std::vector<float>& result() const { return links.back()->result; }
};

Chain chain_of(int64_t n, int64_t channels, int64_t rows, int64_t columns, const std::vector<Layer>& layers) {
  Chain chain;
  chain.x_shape = {n, channels, rows, columns};
  chain.x = numbers(numel(chain.x_shape), 1);
  uint64_t seed = 2;
  for (const Layer& layer : layers) {
    auto link = std::make_unique<Link>();
    const auto out = [&](int64_t in) {
      return (in + layer.low + layer.high - layer.dilation * (layer.window - 1) - 1) / layer.stride + 1;
    };
    link->s = {2,
               n,
               channels,
               layer.filters,
               layer.groups,
               {rows, columns, 1},
               {out(rows), out(columns), 1},
               {layer.window, layer.window, 1},
               {layer.stride, layer.stride, 1},
               {layer.dilation, layer.dilation, 1},
               {layer.low, layer.low, 0},
               {layer.high, layer.high, 0}};
    link->after = layer.after;
    link->shape = {n, layer.filters, out(rows), out(columns)};
    link->weight = numbers(link->s.weight_size(), seed++);
    link->channel = numbers(layer.filters, seed++);
    link->other = numbers(numel(link->shape), seed++);
    link->result = by_loops(*link, chain.links.empty() ? chain.x : chain.result());
    channels = layer.filters, rows = link->shape[2], columns = link->shape[3];
    chain.links.push_back(std::move(link));
  }
  return chain;
}

Array laid_out(const std::vector<float>& values, const Shape& shape, bool last) {
  Array a = last ? channels_last(shape) : Array(DType::F32, shape);
  a.fill([&](int64_t i) { return values[static_cast<size_t>(i)]; });
  return a;
}

void expect_the_same(const Chain& chain, const cpu::LevelTable& level, int threads) {
  for (const auto& link : chain.links) {
    link->conv = std::make_unique<cpu::DirectConv>(link->s, level, program_after(link->after));
    link->conv->use(link->conv->pack(link->weight.data()));
    EXPECT_TRUE(&link == &chain.links.front() || link->conv->takes_ring()) << "no such chain";
  }
  ThreadPool pool(threads);
  for (const bool last : {false, true}) {
    const Array x = laid_out(chain.x, chain.x_shape, last);
    std::vector<Array> others;
    std::vector<cpu::ConvLink> links;
    others.reserve(chain.links.size());
    for (const auto& link : chain.links) {
      const Array& other = others.emplace_back(laid_out(link->other, link->shape, last));
      link->operands = {cpu::bias_view(link->channel.data(), link->shape)};
      if (link->after == After::Nothing) link->operands.clear();
      if (link->after == After::Mixed) {
        link->operands.push_back(other.in());
        link->operands.push_back(cpu::bias_view(&link->least, link->shape));
        link->operands.back().strides[1] = 0;
      }
      links.push_back({*link->conv, link->operands});
    }
    Array y = channels_last(chain.links.back()->shape);
    cpu::run_in_strips(links, x.in(), y.out(), pool);
    EXPECT_TRUE(same_bits(floats(y), chain.result())) << level.name << ", " << threads << " threads, " << last;
  }
}

void expect_the_same(const Chain& chain) {
  for (int level : {2, 3, 4}) {
    if (cpu::best_level() < level) continue;
    for (const int threads : {1, 3}) expect_the_same(chain, cpu::level_table(level), threads);
  }
}

TEST(ConvChain, ExpansionDepthwiseAndProjection) {
  expect_the_same(chain_of(
      1, 8, 37, 23,
      {pointwise(48, After::Bounded), depthwise(48, 3, 1, 1, 1, After::Bounded), pointwise(20, After::Mixed)}));
}

TEST(ConvChain, StepsWindowsAndPadding) {
  const Layer stem{32, 1, 3, 2, 1, 1, 1, After::Bounded};
  expect_the_same(chain_of(2, 3, 65, 45,
                           {stem, depthwise(32, 3, 1, 1, 1), pointwise(16), pointwise(48, After::Mixed),
                            depthwise(48, 3, 2, 0, 1, After::Mixed), pointwise(24)}));
  const Layer apart{16, 16, 3, 1, 4, 4, 4};
  expect_the_same(chain_of(1, 16, 31, 19, {depthwise(16, 5, 2, 2, 2), apart, depthwise(16, 2, 2, -1, 3)}));
}

TEST(ConvChain, MoreRowsOfPaddingThanOfTheInput) {
  expect_the_same(chain_of(1, 4, 3, 9, {pointwise(16), depthwise(16, 7, 1, 6, 6), pointwise(5)}));
}

TEST(ConvChain, ManyExamples) {
  expect_the_same(chain_of(7, 8, 12, 11, {pointwise(32), depthwise(32, 3, 1, 1, 1, After::Mixed), pointwise(9)}));
}

TEST(ConvChain, GainsWhereWhatIsBetweenIsLargeAndWeightsAreFew) {
  const cpu::LevelTable& level = cpu::level_table(cpu::best_level());
  const auto gains = [&](int64_t side, int64_t channels, const Layer& next) {
    const Chain chain = chain_of(1, 8, side, side, {pointwise(channels), next});
    for (const auto& link : chain.links) {
      link->conv = std::make_unique<cpu::DirectConv>(link->s, level, std::nullopt);
      link->conv->use(link->conv->pack(link->weight.data()));
    }
    return cpu::gains_in_strips(*chain.links[0]->conv, *chain.links[1]->conv);
  };
  EXPECT_TRUE(gains(112, 32, depthwise(32, 3, 2, 1, 1)));
  EXPECT_TRUE(gains(112, 32, pointwise(8)));
  EXPECT_FALSE(gains(28, 32, depthwise(32, 3, 2, 1, 1))) << "little between them";
  EXPECT_FALSE(gains(112, 32, {8, 1, 3, 1, 1, 1, 1})) << "windows over all channels want whole rows side by side";
}

}  // namespace
}  // namespace tenon::test
