// Layers without weights that change extents, and embedding bags, as parts of a model.
#include "tenon/nn/resample.h"

#include <gmock/gmock.h>

#include "tenon/base/error.h"
#include "tenon/nn/conv.h"
#include "tenon/nn/embedding.h"
#include "tenon/nn/module.h"
#include "tenon/nn/pooling.h"
#include "tenon/nn/sequential.h"
#include "tenon/ops/creation.h"
#include "tenon/ops/elementwise.h"
#include "tenon/ops/movement.h"
#include "tenon/ops/reduce.h"
#include "tenon/optim/adam.h"
#include "tenon/optim/sgd.h"

namespace {

using namespace tenon;
using testing::ElementsAre;
using testing::HasSubstr;

Shape shape_of(const Tensor& x) { return x.shape(); }

TEST(Resample, LayersInASequential) {
  const nn::Sequential model(nn::Conv2d(3, 8, 3, {.padding = 1}), nn::MaxPool2d{}, nn::PixelShuffle{2},
                             nn::Upsample{.scale = {2}, .mode = InterpolateMode::Linear}, nn::ChannelShuffle{2},
                             nn::PixelUnshuffle{4}, nn::Unfold{.window = {2, 2}, .stride = {2}},
                             nn::Fold{.extents = {4, 4}, .window = {2, 2}, .stride = {2}});
  EXPECT_EQ(nn::parameters(model).size(), 2U);
  EXPECT_EQ(shape_of(model(ones({1, 3, 8, 8}))), (Shape{1, 32, 4, 4}));
}

TEST(Resample, UnfoldAndFoldUndoEachOther) {
  const Tensor x = reshape(cast(arange(32), f32), {1, 2, 4, 4});
  const nn::Unfold unfold{.window = {2, 2}, .stride = {2}};
  const nn::Fold fold{.extents = {4, 4}, .window = {2, 2}, .stride = {2}};
  EXPECT_EQ(fold(unfold(x)).to_vector<float>(), x.to_vector<float>());
}

TEST(Resample, UnpoolPutsTheLargestBack) {
  const Tensor x = from_vector<float>({1, 2, 3, 4, 8, 7, 6, 5}, {1, 1, 2, 4});
  const auto [values, indices] = max_pool_with_indices(x, {2, 2});
  EXPECT_THAT(nn::MaxUnpool2d{}(values, indices).to_vector<float>(), ElementsAre(0, 0, 0, 0, 8, 0, 6, 0));
}

TEST(EmbeddingBagLayer, TakesRowsOrOffsets) {
  const nn::EmbeddingBag bag(6, 3, {.mode = nn::BagMode::Sum});
  const Tensor rows = bag(tensor({{0, 1}, {4, 5}}));
  EXPECT_EQ(rows.to_vector<float>(), bag(tensor({0, 1, 4, 5}), tensor({0, 2})).to_vector<float>());
  EXPECT_EQ(shape_of(bag(tensor({0, 1}))), (Shape{3}));
  EXPECT_EQ(shape_of(bag(zeros({2, 5, 4}, i64))), (Shape{2, 5, 3}));
  EXPECT_EQ(nn::parameters(bag).size(), 1U);
}

// The rows that no bag names, and the padding row, keep their bits, whatever an optimiser would do to the others.
TEST(EmbeddingBagLayer, UpdatesTouchOnlyTheRowsUsed) {
  const auto changed = [](auto make_optimizer) {
    nn::EmbeddingBag bag(6, 2, {.mode = nn::BagMode::Mean, .sparse = true, .padding_index = 3});
    auto optimizer = make_optimizer(nn::parameters(bag));
    const auto before = bag.weight.value().to_vector<float>();
    for (int step = 0; step < 2; ++step) {
      optimizer.zero_grad();
      sum(square(bag(tensor({1, 3, 5, 1}), tensor({0, 2})) + 1)).backward();
      optimizer.step();
    }
    const auto after = bag.weight.value().to_vector<float>();
    std::vector<int> rows;
    for (size_t i = 0; i < 6; ++i) {
      if (before[2 * i] != after[2 * i] || before[2 * i + 1] != after[2 * i + 1]) rows.push_back(static_cast<int>(i));
    }
    return rows;
  };
  EXPECT_THAT(changed([](const auto& p) { return optim::SGD(p, {.lr = 0.1}); }), ElementsAre(1, 5));
  EXPECT_THAT(changed([](const auto& p) { return optim::Adam(p, {.lr = 0.1}); }), ElementsAre(1, 5));
}

TEST(EmbeddingLayer, PaddingRowStartsAtZero) {
  const nn::Embedding embedding(4, 2, {.padding_index = -1});
  EXPECT_THAT(embedding(tensor({3})).to_vector<float>(), ElementsAre(0, 0));
  try {
    nn::Embedding(4, 2, {.padding_index = 4});
    FAIL();
  } catch (const IndexError& e) {
    EXPECT_THAT(e.what(), HasSubstr("no such padding row"));
  }
}

}  // namespace
