// Dataset: a value that gives example i of n, and the ways to make one from another.
//
//   auto [train, rest] = data::idx_images(dir, Split::Train).split(0.9);
//   auto set = train.map([](Example e, Random& random) { …; return e; }).shuffle(7);
//   for (const auto& example : set) …            // one by one; data::DataLoader makes batches and epochs
//
// Copying is cheap and nothing is read before it is asked for. A dataset has random access, so shuffle, take and the
// rest only change which index is asked for, and a loader can stop and go on anywhere. Functions given
// to map are called from the loader's threads: they must not change what they share.
#pragma once

#include <concepts>
#include <exception>
#include <functional>
#include <iterator>
#include <memory>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "tenon/base/error.h"
#include "tenon/data/random.h"
#include "tenon/data/source.h"

namespace tenon::data {

// A function of the user's pipeline ("map", or the "dataset" function) threw. The text carries the function's own text
// and the example's number in the dataset that was mapped; cause() is what it threw.
class ExampleError final : public Error {
 public:
  ExampleError(std::int64_t index, std::string_view kind, std::string_view text, std::exception_ptr cause);
  [[nodiscard]] std::int64_t index() const { return index_; }
  [[nodiscard]] std::exception_ptr cause() const { return cause_; }

 private:
  std::int64_t index_;
  std::exception_ptr cause_;
};

// What a loader does ahead of its user; see Dataset::prefetch.
struct Prefetch {
  int batches = 2;
  int threads = 0;
};

class Dataset {
 public:
  using MapFunction = std::function<Example(Example, Random&)>;

  explicit Dataset(std::shared_ptr<const Source> source) : source_(std::move(source)) {}

  // Rows of tensors: example i has row i of each field. Batches are copied straight from the tensors.
  // Errors: ShapeError unless all fields have the same first extent.
  static Dataset from_tensors(const Example& columns);
  // Example i is function(i), or function(i, random) where random depends on seed, epoch and i only.
  template <class Fn>
    requires std::is_invocable_r_v<Example, const Fn&, std::int64_t> ||
             std::is_invocable_r_v<Example, const Fn&, std::int64_t, Random&>
  static Dataset from_function(std::int64_t size, Fn function) {
    if constexpr (std::is_invocable_r_v<Example, const Fn&, std::int64_t, Random&>) {
      return generate(size, std::move(function));
    } else {
      return generate(size, [function = std::move(function)](std::int64_t i, Random&) { return function(i); });
    }
  }

  [[nodiscard]] std::int64_t size() const { return source_->size(); }
  // Errors: IndexError.
  [[nodiscard]] Example get(std::int64_t index, const Draw& draw = {}) const;
  [[nodiscard]] Example operator[](std::int64_t index) const { return get(index); }
  // The examples at these indices as one, stacked along a new first axis.
  [[nodiscard]] Example gather(std::span<const std::int64_t> indices, const Draw& draw = {}) const;
  // One field of all examples, stacked: all labels, say.
  [[nodiscard]] Tensor column(std::string_view name) const;

  // Example i is fn(example i), or fn(example i, random): random depends on seed, epoch and i only.
  // After batch(n) the function gets whole batches. Errors of fn arrive as ExampleError.
  template <class Fn>
    requires std::is_invocable_r_v<Example, const Fn&, Example> ||
             std::is_invocable_r_v<Example, const Fn&, Example, Random&>
  [[nodiscard]] Dataset map(Fn fn) const {
    if constexpr (std::is_invocable_r_v<Example, const Fn&, Example, Random&>) {
      return map_with(std::move(fn));
    } else {
      return map_with([fn = std::move(fn)](Example e, Random&) { return fn(std::move(e)); });
    }
  }
  // One fixed order by this seed. (DataLoader's shuffle draws a new order for each epoch.)
  [[nodiscard]] Dataset shuffle(std::uint64_t seed) const;
  // Example i is the stack of examples i*size …; the last one may be smaller unless drop_last.
  [[nodiscard]] Dataset batch(std::int64_t size, bool drop_last = false) const;
  // The dataset `times` times in a row. Random map functions draw anew each time.
  [[nodiscard]] Dataset repeat(std::int64_t times) const;
  // The first n examples (all, if there are fewer); all but those.
  [[nodiscard]] Dataset take(std::int64_t n) const;
  [[nodiscard]] Dataset skip(std::int64_t n) const;
  // Every count-th example from `index` on: one part of `count` for data-parallel training.
  [[nodiscard]] Dataset shard(std::int64_t count, std::int64_t index) const;
  // The examples at these indices, in this order.
  [[nodiscard]] Dataset select(std::vector<std::int64_t> indices) const;
  // The first round(fraction * size) examples and the others. Shuffle first for a random split.
  [[nodiscard]] std::pair<Dataset, Dataset> split(double fraction) const;
  // Example i has the fields of both. Errors: ValueError if sizes differ; an equal name is an error when read.
  [[nodiscard]] Dataset zip(const Dataset& other) const;
  [[nodiscard]] Dataset concat(const Dataset& other) const;
  // What a DataLoader over this dataset does ahead unless its own options say otherwise.
  [[nodiscard]] Dataset prefetch(int batches, int threads = 1) const;
  [[nodiscard]] const std::optional<Prefetch>& prefetch_hint() const { return prefetch_; }

  // Iteration over single examples, in order, on the calling thread.
  class Iterator;
  [[nodiscard]] Iterator begin() const;
  [[nodiscard]] std::default_sentinel_t end() const { return {}; }

 private:
  static Dataset generate(std::int64_t size, std::function<Example(std::int64_t, Random&)> function);
  [[nodiscard]] Dataset map_with(MapFunction fn) const;
  [[nodiscard]] Dataset reindex(std::int64_t size, std::function<std::int64_t(std::int64_t)> index) const;
  // This dataset's hint on another source.
  [[nodiscard]] Dataset with(std::shared_ptr<const Source> source) const;

  std::shared_ptr<const Source> source_;
  std::optional<Prefetch> prefetch_;
};

class Dataset::Iterator {
 public:
  using value_type = Example;
  using difference_type = std::ptrdiff_t;

  explicit Iterator(const Dataset& dataset) : dataset_(&dataset) { load(); }
  const Example& operator*() const { return current_; }
  const Example* operator->() const { return &current_; }
  Iterator& operator++() {
    ++index_;
    load();
    return *this;
  }
  void operator++(int) { ++*this; }
  bool operator==(std::default_sentinel_t) const { return index_ >= dataset_->size(); }

 private:
  void load() {
    if (index_ < dataset_->size()) current_ = dataset_->get(index_);
  }
  const Dataset* dataset_;
  std::int64_t index_ = 0;
  Example current_;
};

inline Dataset::Iterator Dataset::begin() const { return Iterator(*this); }

}  // namespace tenon::data
