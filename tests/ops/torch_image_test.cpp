// Image and window ops against PyTorch, values and gradients (tools/goldens/torch_image.py). A case that the script
// gains fails here until it has a line.
#include <gmock/gmock.h>

#include "tenon/base/error.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/embedding_bag.h"
#include "tenon/ops/gather.h"
#include "tenon/ops/grid_sample.h"
#include "tenon/ops/interpolate.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/patches.h"
#include "tenon/ops/pooling.h"
#include "tenon/ops/reduce.h"
#include "tenon/tensor/sparse_rows.h"
#include "tenon/tensor/variable.h"
#include "tenon/trace/sparse.h"
#include "tests/support/error_text.h"
#include "tests/support/goldens.h"

using namespace tenon;
using test::Goldens;
using testing::HasSubstr;
using testing_support::error_text;

namespace {

TEST(TorchImage, Interpolate) {
  Goldens g(TENON_SOURCE_DIR "/tests/ops/goldens/torch_interpolate.safetensors");
  const auto check = [&](const std::string& name, const InterpolateOptions& options) {
    g.check(name, [&](const Tensors& x) -> Tensors { return {interpolate(x[0], options)}; });
  };
  using Mode = InterpolateMode;
  const std::map<std::string, Mode> modes{{"nearest", Mode::Nearest},  {"nearest-exact", Mode::NearestExact},
                                          {"linear", Mode::Linear},    {"bilinear", Mode::Linear},
                                          {"trilinear", Mode::Linear}, {"bicubic", Mode::Cubic},
                                          {"area", Mode::Area}};
  for (const char* mode : {"nearest", "nearest-exact", "linear", "area"}) {
    check(mode + std::string("_1d"), {.size = {8}, .mode = modes.at(mode)});
    check(mode + std::string("_1d_smaller"), {.size = {3}, .mode = modes.at(mode)});
  }
  for (const char* mode : {"nearest", "nearest-exact", "bilinear", "bicubic", "area"}) {
    check(mode + std::string("_2d"), {.size = {5, 7}, .mode = modes.at(mode)});
    check(mode + std::string("_2d_smaller"), {.size = {2, 4}, .mode = modes.at(mode)});
    check(mode + std::string("_2d_scale"), {.scale = {1.7, 0.6}, .mode = modes.at(mode)});
  }
  for (const char* mode : {"nearest", "nearest-exact", "trilinear", "area"})
    check(mode + std::string("_3d"), {.size = {3, 4, 2}, .mode = modes.at(mode)});
  for (const auto& [mode, size] : std::map<std::string, Ints>{
           {"linear", {5}}, {"bilinear", {5, 1}}, {"trilinear", {5, 1, 3}}, {"bicubic", {5, 1}}}) {
    check(mode + "_corners", {.size = size, .mode = modes.at(mode), .align_corners = true});
    check(mode + "_corners_scale", {.scale = {1.6}, .mode = modes.at(mode), .align_corners = true});
  }
  for (const char* mode : {"bilinear", "bicubic"}) {
    check(mode + std::string("_antialias"), {.size = {3, 4}, .mode = modes.at(mode), .antialias = true});
    check(mode + std::string("_antialias_larger"), {.size = {6, 3}, .mode = modes.at(mode), .antialias = true});
    check(mode + std::string("_antialias_scale"), {.scale = {0.45}, .mode = modes.at(mode), .antialias = true});
  }
  g.expect_all_checked();
}

TEST(TorchImage, GridSample) {
  Goldens g(TENON_SOURCE_DIR "/tests/ops/goldens/torch_grid_sample.safetensors");
  const auto check = [&](const std::string& name, const GridSampleOptions& options) {
    g.check(name, [&](const Tensors& x) -> Tensors {
      const Tensor y = grid_sample(x[0], x[1], options);
      // Nearest elements do not vary with the grid; PyTorch says so with zeros.
      return {options.mode == GridMode::Nearest ? y + 0 * sum(x[1]) : y};
    });
  };
  const std::map<std::string, GridMode> modes{
      {"bilinear", GridMode::Linear}, {"nearest", GridMode::Nearest}, {"bicubic", GridMode::Cubic}};
  const std::map<std::string, GridPadding> paddings{
      {"zeros", GridPadding::Zeros}, {"border", GridPadding::Border}, {"reflection", GridPadding::Reflection}};
  for (const auto& [padding, kind] : paddings) {
    for (const auto& [mode, how] : modes) {
      check(mode + "_" + padding + "_edges", {.mode = how, .padding = kind});
      check(mode + "_" + padding + "_corners", {.mode = how, .padding = kind, .align_corners = true});
    }
    check("trilinear_" + padding, {.padding = kind});
  }
  check("nearest_3d", {.mode = GridMode::Nearest, .align_corners = true});
  const auto affine = [&](const char* name, const Shape& size, bool corners) {
    g.check(name, [&](const Tensors& x) -> Tensors { return {affine_grid(x[0], size, corners)}; });
  };
  affine("affine_grid", {2, 3, 3, 4}, false);
  affine("affine_grid_corners", {1, 3, 2, 1}, true);
  affine("affine_grid_3d", {1, 1, 2, 3, 2}, false);
  g.expect_all_checked();
}

TEST(TorchImage, Patches) {
  Goldens g(TENON_SOURCE_DIR "/tests/ops/goldens/torch_patches.safetensors");
  const auto check = [&](const char* name, const std::function<Tensor(const Tensor&)>& fn) {
    g.check(name, [&](const Tensors& x) -> Tensors { return {fn(x[0])}; });
  };
  const UnfoldOptions options{.stride = {2, 1}, .padding = {2, 1}, .dilation = {1, 2}};
  check("unfold", [](const Tensor& x) { return unfold(x, {2, 3}); });
  check("unfold_options", [&](const Tensor& x) { return unfold(x, {3, 2}, options); });
  check("unfold_one", [](const Tensor& x) { return unfold(x, {2, 2}, {.stride = {2}}); });
  check("fold", [](const Tensor& x) { return fold(x, {4, 5}, {2, 3}); });
  check("fold_options", [&](const Tensor& x) { return fold(x, {5, 4}, {3, 2}, options); });
  check("fold_one", [](const Tensor& x) { return fold(x, {4, 4}, {2, 2}, {.stride = {2}}); });
  check("sliding_window", [](const Tensor& x) { return sliding_window(x, 1, 3, 2); });
  check("pixel_shuffle", [](const Tensor& x) { return pixel_shuffle(x, 2); });
  check("pixel_unshuffle", [](const Tensor& x) { return pixel_unshuffle(x, 3); });
  check("channel_shuffle", [](const Tensor& x) { return channel_shuffle(x, 3); });
  const auto unpool = [&](const char* name, const Ints& window, const MaxPoolOptions& pool, const Ints& extents) {
    check(name, [&](const Tensor& x) {
      const auto [values, indices] = max_pool_with_indices(x, window, pool);
      return max_unpool(values, indices, window, {.stride = pool.stride, .padding = pool.padding, .extents = extents});
    });
  };
  unpool("max_unpool1d", {2}, {}, {});
  unpool("max_unpool2d", {2, 2}, {.stride = {2}}, {5, 6});
  unpool("max_unpool2d_padding", {3, 3}, {.stride = {3}, .padding = {1}}, {});
  unpool("max_unpool3d", {2, 2, 2}, {}, {});
  g.expect_all_checked();
}

TEST(TorchImage, EmbeddingBag) {
  Goldens g(TENON_SOURCE_DIR "/tests/ops/goldens/torch_embedding_bag.safetensors");
  const auto check = [&](const std::string& name, const std::function<Tensor(const Tensors&)>& fn) {
    g.check(name, [&](const Tensors& x) -> Tensors { return {fn(x)}; });
  };
  const std::map<std::string, BagMode> modes{{"sum", BagMode::Sum}, {"mean", BagMode::Mean}, {"max", BagMode::Max}};
  for (const auto& [name, mode] : modes) {
    const EmbeddingBagOptions options{.mode = mode};
    check("bag_" + name, [&](const Tensors& x) { return embedding_bag(x[1], x[0], {}, {}, options); });
    check("bag_" + name + "_offsets", [&](const Tensors& x) { return embedding_bag(x[1], x[0], x[2], {}, options); });
    check("bag_" + name + "_padding", [&](const Tensors& x) {
      const auto padding = select(x[0], 0, 3).item<int64_t>();
      return embedding_bag(x[1], x[0], x[2], {},
                           {.mode = options.mode, .padding_index = padding, .include_last_offset = true});
    });
  }
  check("bag_weights", [](const Tensors& x) { return embedding_bag(x[1], x[0], x[2], x[3], {.mode = BagMode::Sum}); });
  check("bag_weights_padding", [](const Tensors& x) {
    return embedding_bag(x[1], x[0], {}, x[2], {.mode = BagMode::Sum, .padding_index = 2});
  });
  check("embedding_padding", [](const Tensors& x) { return embedding(x[0], x[1], false, -2); });
  g.expect_all_checked();
}

std::vector<int64_t> rows_of(const Tensor& gradient) {
  return sparse_rows(gradient) ? sparse_rows(gradient)->indices.to_vector<int64_t>() : std::vector<int64_t>{-1};
}

TEST(EmbeddingBag, SparseGradientHoldsTheRowsUsedAndEqualsTheDenseOne) {
  const Tensor indices = tensor({3, 7, 3, 0, 9}), offsets = tensor({0, 3});
  const auto gradient = [&](BagMode mode, bool sparse) {
    Variable table(reshape(cast(arange(20), f32), {10, 2}));
    sum(square(embedding_bag(table, indices, offsets, {}, {.mode = mode, .sparse = sparse, .padding_index = 0})))
        .backward();
    return table.grad();
  };
  for (const BagMode mode : {BagMode::Sum, BagMode::Mean, BagMode::Max}) {
    const Tensor sparse = gradient(mode, true);
    EXPECT_EQ(rows_of(sparse), (std::vector<int64_t>{3, 7, 3, 9}));
    EXPECT_EQ(to_dense(sparse).to_vector<float>(), gradient(mode, false).to_vector<float>());
  }
}

TEST(Embedding, PaddingRowHasNoGradient) {
  Variable table(ones({5, 2}));
  sum(embedding(table, tensor({4, 1, 4}), true, 4)).backward();
  EXPECT_EQ(rows_of(table.grad()), (std::vector<int64_t>{1}));
  EXPECT_THAT(error_text([&] { (void)embedding(table, tensor({0}), false, 5); }), HasSubstr("no such padding row"));
}

// PyTorch computes positions in f32, where o * (1 / 1.4) falls below a whole number that it is in truth.
TEST(Interpolate, PositionsAreExact) {
  const Tensor x = from_vector<float>({0, 1, 2, 3, 4}, {1, 1, 5});
  EXPECT_EQ(interpolate(x, {.size = {7}}).to_vector<int>(), (std::vector<int>{0, 0, 1, 2, 2, 3, 4}));
  for (int64_t n = 1; n < 60; ++n) {
    const auto first = interpolate(x, {.size = {5 * n}}).to_vector<int64_t>();
    for (int64_t o = 0; o < 5 * n; ++o) ASSERT_EQ(first[static_cast<size_t>(o)], o / n) << n << " times, element " << o;
  }
}

// Positions far beyond the ends mean the ends.
TEST(Interpolate, FarOutsideIsTheEnd) {
  using Method = AxisInterpolation::Method;
  const Tensor x = tensor({1.0, 2.0, 3.0});
  for (const Method method : {Method::Nearest, Method::Linear, Method::Cubic}) {
    const Tensor y = interpolate_axis(x, 0, {.extent = 3, .method = method, .step = 1e300, .start = -1e300});
    EXPECT_EQ(y.to_vector<float>(), (std::vector<float>{1, 1, 3}));
  }
}

TEST(Interpolate, RoundsIntegers) {
  const Tensor x = cast(tensor({0, 255}), u8);
  const Tensor y = interpolate_axis(x, 0, {.extent = 5, .step = 0.25});
  EXPECT_EQ(y.dtype(), u8);
  EXPECT_EQ(y.to_vector<int>(), (std::vector<int>{0, 64, 128, 191, 255}));
}

TEST(CenterCrop, CutsAndPadsBothSides) {
  const Tensor x = tensor({{1, 2, 3, 4}, {5, 6, 7, 8}});
  EXPECT_EQ(center_crop(x, {1, 0}, {1, 5}).to_vector<int>(), (std::vector<int>{0, 2, 6, 0, 0}));
  EXPECT_EQ(center_crop(x, {-1}, {2}).to_vector<int>(), (std::vector<int>{2, 3, 6, 7}));
  EXPECT_THAT(error_text([&] { (void)center_crop(x, {0}, {1, 2}); }), HasSubstr("one extent for each axis"));
  EXPECT_THAT(error_text([&] { (void)center_crop(x, {0}, {-1}); }), HasSubstr("extent is negative"));
}

TEST(Patches, SayWhatIsWrong) {
  const Tensor x = ones({1, 2, 4, 4});
  EXPECT_THAT(error_text([&] { (void)unfold(x, {2}); }), HasSubstr("with 1 spatial axes"));
  EXPECT_THAT(error_text([&] { (void)unfold(x, {2, 2}, {.stride = {1, 1, 1}}); }), HasSubstr("'stride' does not fit"));
  EXPECT_THAT(error_text([&] { (void)fold(x, {4, 4}, {2, 2}); }), HasSubstr("wrong rank"));
  EXPECT_THAT(error_text([&] { (void)max_unpool(x, ones({1, 2}), {2, 2}); }), HasSubstr("one position for each"));
  EXPECT_THAT(error_text([&] { (void)affine_grid(ones({2, 2, 3}), {1, 1, 4, 4}); }),
              HasSubstr("does not fit the size"));
}

TEST(Interpolate, SaysWhatIsWrong) {
  const Tensor x = from_vector<float>({0, 1, 2, 3}, {1, 1, 4});
  EXPECT_THAT(error_text([&] { (void)interpolate(tensor({1.0}), {.size = {4}}); }), HasSubstr("no spatial axis"));
  EXPECT_THAT(error_text([&] { (void)interpolate(x, {}); }), HasSubstr("either 'size' or 'scale'"));
  EXPECT_THAT(error_text([&] { (void)interpolate(x, {.size = {4}, .scale = {2}}); }), HasSubstr("both"));
  EXPECT_THAT(error_text([&] { (void)interpolate(x, {.size = {4, 4}}); }), HasSubstr("does not fit 1 spatial axes"));
  EXPECT_THAT(error_text([&] { (void)interpolate(x, {.size = {0}}); }), HasSubstr("would be empty"));
  EXPECT_THAT(error_text([&] { (void)interpolate(x, {.scale = {-1}}); }), HasSubstr("not a positive number"));
  EXPECT_THAT(error_text([&] { (void)interpolate(x, {.scale = {1e300}}); }), HasSubstr("would be too large"));
  EXPECT_THAT(error_text([&] { (void)interpolate(x, {.size = {8}, .align_corners = true}); }),
              HasSubstr("'align_corners' has no meaning"));
}

}  // namespace
