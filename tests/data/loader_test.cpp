// The loader: same batches with any number of threads, resuming in mid-epoch, errors of workers.
#include "tenon/data/loader.h"

#include <time.h>

#include <atomic>
#include <chrono>
#include <numeric>
#include <thread>

#include "tests/data/support.h"

namespace tenon::data::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Ids = std::vector<std::int64_t>;

Dataset numbers(std::int64_t n) {
  Ids id(static_cast<std::size_t>(n));
  std::iota(id.begin(), id.end(), 0);
  return Dataset::from_tensors({{"id", from_vector(id, {n})}});
}

// One epoch as text: batches' ids, and a random number of each example where there is one.
std::vector<std::vector<double>> epoch(DataLoader& loader) {
  std::vector<std::vector<double>> batches;
  for (auto& batch : loader) {
    batches.push_back(batch["id"].to_vector<double>());
    if (!batch.contains("noise")) continue;
    const auto noise = batch["noise"].to_vector<double>();
    batches.back().insert(batches.back().end(), noise.begin(), noise.end());
  }
  return batches;
}

TEST(DataLoader, BatchesInOrder) {
  DataLoader loader(numbers(5), {.batch_size = 2});
  EXPECT_EQ(loader.size(), 3);
  EXPECT_THAT(epoch(loader), ElementsAre(ElementsAre(0, 1), ElementsAre(2, 3), ElementsAre(4)));
  DataLoader dropping(numbers(5), {.batch_size = 2, .drop_last = true});
  EXPECT_EQ(dropping.size(), 2);
  EXPECT_THAT(epoch(dropping), ElementsAre(ElementsAre(0, 1), ElementsAre(2, 3)));
  DataLoader batched(numbers(5).batch(3), {.batch_size = 0});
  EXPECT_THAT(epoch(batched), ElementsAre(ElementsAre(0, 1, 2), ElementsAre(3, 4)));
  DataLoader nothing(numbers(3).take(0), {.batch_size = 2});
  EXPECT_TRUE(epoch(nothing).empty());
}

TEST(DataLoader, ShufflingCoversEveryExampleAndChangesWithTheEpoch) {
  DataLoader loader(numbers(100), {.batch_size = 100, .shuffle = true, .seed = 3});
  const auto first = epoch(loader);
  const auto second = epoch(loader);
  EXPECT_NE(first, second);
  auto sorted = first[0];
  std::ranges::sort(sorted);
  std::vector<double> all(100);
  std::iota(all.begin(), all.end(), 0);
  EXPECT_EQ(sorted, all);
  DataLoader same(numbers(100), {.batch_size = 100, .shuffle = true, .seed = 3});
  EXPECT_EQ(epoch(same), first);
}

TEST(DataLoader, NothingDependsOnTheNumberOfThreads) {
  const auto set = numbers(103).map([](Example e, Random& random) {
    e.set("noise", Tensor(random.uniform()));
    return e;
  });
  std::vector<std::vector<double>> expected;
  for (const int threads : {0, 1, 2, 5}) {
    DataLoader loader(set, {.batch_size = 4, .shuffle = true, .seed = 9, .threads = threads, .prefetch = 3});
    auto batches = epoch(loader);
    for (auto& batch : epoch(loader)) batches.push_back(std::move(batch));
    if (threads == 0) expected = batches;
    EXPECT_EQ(batches, expected) << threads << " threads";
  }
}

TEST(DataLoader, AStateInMidEpochContinuesExactly) {
  const LoaderOptions options{.batch_size = 3, .shuffle = true, .seed = 4, .threads = 2};
  DataLoader whole(numbers(20), options);
  auto expected = epoch(whole);
  for (auto& batch : epoch(whole)) expected.push_back(std::move(batch));

  for (std::size_t stop = 1; stop <= expected.size(); ++stop) {
    DataLoader first(numbers(20), options);
    std::vector<std::vector<double>> seen;
    LoaderState saved = first.state();
    while (seen.size() < stop) {
      for (auto& batch : first) {
        seen.push_back(batch["id"].to_vector<double>());
        saved = first.state();
        if (seen.size() == stop) break;
      }
    }
    LoaderOptions others = options;
    others.seed = 77;  // the state's own seed counts
    DataLoader second(numbers(20), others);
    second.restore(saved);
    EXPECT_EQ(second.state(), saved);
    while (seen.size() < expected.size()) {
      for (auto& batch : epoch(second)) seen.push_back(std::move(batch));
    }
    EXPECT_EQ(seen, expected) << "stopped after " << stop;
  }
}

TEST(DataLoader, ALoopThatIsLeftCountsAsAnEpoch) {
  DataLoader loader(numbers(6), {.batch_size = 2, .threads = 1});
  for (auto& batch : loader) {
    EXPECT_EQ(batch["id"].to_vector<int>()[0], 0);
    break;
  }
  EXPECT_EQ(loader.state().position, 2);
  const auto all = epoch(loader);
  EXPECT_EQ(all.size(), 3U);
  EXPECT_EQ(loader.state(), (LoaderState{0, 2, 0, 6}));
}

TEST(DataLoader, ErrorsOfWorkersArriveInOrderAndTheLoopCanBeResumed) {
  auto broken = std::make_shared<std::atomic<bool>>(true);
  const auto set = numbers(10).map([broken](Example e) {
    if (*broken && e["id"].item<int>() == 5) throw std::runtime_error("unreadable");
    return e;
  });
  for (const int threads : {0, 2}) {
    *broken = true;
    DataLoader loader(set, {.batch_size = 2, .threads = threads});
    int batches = 0;
    EXPECT_EQ(error_text<ExampleError>([&] {
                for ([[maybe_unused]] auto& batch : loader) ++batches;
              }),
              "example 5: the map function failed: unreadable");
    EXPECT_EQ(batches, 2) << "the batches before it were given out";
    EXPECT_EQ(loader.state(), (LoaderState{0, 0, 4, 10}));
    *broken = false;
    EXPECT_THAT(epoch(loader), ElementsAre(ElementsAre(4, 5), ElementsAre(6, 7), ElementsAre(8, 9)));
  }
}

TEST(DataLoader, WorkersStayAheadByTheLimitOnlyAndPark) {
  auto made = std::make_shared<std::atomic<int>>(0);
  const auto set = Dataset::from_function(100, [made](std::int64_t i) {
    ++*made;
    return Example{{"id", Tensor(i)}};
  });
  DataLoader loader(set, {.batch_size = 1, .threads = 2, .prefetch = 4});
  auto batch = loader.begin();
  const auto cpu = [] {
    timespec t{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
  };
  std::this_thread::sleep_for(std::chrono::milliseconds(100));
  EXPECT_EQ(*made, 5) << "the batch in use and four ahead";
  const double before = cpu();
  std::this_thread::sleep_for(std::chrono::milliseconds(200));
  EXPECT_LT(cpu() - before, 0.05) << "waiting workers do not use the processor";
  ++batch;
  EXPECT_EQ((*batch)["id"].to_vector<int>()[0], 1);
}

TEST(DataLoader, PrefetchHintOfTheDatasetIsTakenUnlessSaidOtherwise) {
  const auto set = numbers(4).prefetch(7, 3).take(3);
  EXPECT_EQ(*DataLoader(set).options().threads, 3);
  EXPECT_EQ(*DataLoader(set).options().prefetch, 7);
  EXPECT_EQ(*DataLoader(set, {.threads = 0}).options().threads, 0);
  EXPECT_EQ(*DataLoader(numbers(4)).options().threads, 0);
}

TEST(DataLoader, LeavingEarlyEndsTheWorkers) {
  for (int i = 0; i < 20; ++i) {
    DataLoader loader(numbers(1000), {.batch_size = 1, .threads = 3});
    for ([[maybe_unused]] auto& batch : loader) break;
    DataLoader moved = std::move(loader);
    EXPECT_EQ(moved.state().position, 1);
  }
}

TEST(DataLoader, WrongOptionsAndStatesAreErrors) {
  const auto error = [](LoaderOptions options) {
    return error_text<ValueError>([&] { DataLoader loader(numbers(3), options); });
  };
  EXPECT_THAT(error({.batch_size = -1}), HasSubstr("DataLoader: batch_size is negative"));
  EXPECT_THAT(error({.threads = -1}), HasSubstr("DataLoader: threads is negative; expected 0 or more, got -1"));
  EXPECT_THAT(error({.prefetch = 0}), HasSubstr("DataLoader: prefetch is not accepted"));
  DataLoader loader(numbers(3));
  EXPECT_EQ(error_text<ValueError>([&] { loader.restore({0, 0, 0, 4}); }),
            "DataLoader: the saved state belongs to a dataset of another size; expected 3 examples, got 4 examples");
  EXPECT_THAT(error_text<ValueError>([&] { loader.restore({0, 0, 9, 3}); }), HasSubstr("the saved state is damaged"));
}

}  // namespace
}  // namespace tenon::data::testing
