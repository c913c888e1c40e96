// DataLoader: a dataset in batches, epoch after epoch.
//
//   data::DataLoader loader(dataset, {.batch_size = 64, .shuffle = true, .seed = 1, .threads = 2});
//   for (int epoch = 0; epoch < 10; ++epoch)
//     for (auto& batch : loader) step(batch["input"], batch["label"]);
//
// Every loop over a loader is the next epoch. Which examples a batch holds depends on seed and epoch only, never
// on the number of threads. state() in the middle of a loop and restore() in another process continue with the next
// batch. Worker threads wait without using the processor; what they throw arrives in the loop, at the batch
// that could not be made.
#pragma once

#include <cstdint>
#include <iterator>
#include <memory>
#include <optional>

#include "tenon/data/dataset.h"

namespace tenon::data {

struct LoaderOptions {
  std::int64_t batch_size = 1;       // 0: the dataset's examples as they are (it is batched already)
  bool shuffle = false;              // a new order in each epoch
  std::uint64_t seed = 0;            // of the orders and of random map functions
  bool drop_last = false;            // leave out a last batch that is not full
  std::optional<int> threads = {};   // workers; 0 makes batches in the loop itself. Default: the dataset's hint, or 0
  std::optional<int> prefetch = {};  // batches ready ahead of the loop. Default: the dataset's hint, or 2
};

// Where a loader stands. Plain numbers: save them as you like.
struct LoaderState {
  std::uint64_t seed = 0;
  std::int64_t epoch = 0;
  std::int64_t position = 0;      // examples of this epoch that have been given out
  std::int64_t dataset_size = 0;  // for the check in restore()
  bool operator==(const LoaderState&) const = default;
};

class DataLoader {
 public:
  // Errors: ValueError for options that are not accepted.
  explicit DataLoader(Dataset dataset, LoaderOptions options = {});
  ~DataLoader();
  DataLoader(DataLoader&&) noexcept;
  DataLoader& operator=(DataLoader&&) noexcept;

  class Iterator;
  // Starts the next epoch, or goes on where restore() has pointed to. A loop left before its end counts as an
  // epoch; beginning another one ends it.
  Iterator begin();
  [[nodiscard]] std::default_sentinel_t end() const { return {}; }

  // Batches in a whole epoch.
  [[nodiscard]] std::int64_t size() const;
  [[nodiscard]] const Dataset& dataset() const;
  [[nodiscard]] const LoaderOptions& options() const;

  // After the batch that the loop has now; after the last one, the start of the next epoch.
  [[nodiscard]] LoaderState state() const;
  // The next loop continues from there. Errors: ValueError if the state is of a dataset of another size.
  void restore(const LoaderState& state);

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

class DataLoader::Iterator {
 public:
  using value_type = Example;
  using difference_type = std::ptrdiff_t;

  Example& operator*() const;
  Example* operator->() const { return &**this; }
  Iterator& operator++();
  void operator++(int) { ++*this; }
  bool operator==(std::default_sentinel_t) const;

 private:
  friend class DataLoader;
  explicit Iterator(Impl* impl) : impl_(impl) {}
  Impl* impl_;
};

}  // namespace tenon::data
