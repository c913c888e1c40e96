#include "tenon/data/dataset.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <new>
#include <numeric>

#include "tenon/data/array_source.h"

namespace tenon::data {
namespace {

using SourceRef = std::shared_ptr<const Source>;

void require(bool fine, std::string_view where, std::string_view problem, std::string expected, std::string got) {
  if (!fine) throw ValueError({std::string(where), std::string(problem), std::move(expected), std::move(got), ""});
}

// Calls a user's function; what it throws is told with the example's number. Interruptions and errors of
// Tenon itself are not a matter of the example and pass as they are.
template <class Fn>
Example call_for(std::int64_t index, std::string_view kind, Fn&& fn) {
  try {
    return fn();
  } catch (const CancelledError&) {
    throw;
  } catch (const InternalError&) {
    throw;
  } catch (const std::bad_alloc&) {
    throw;
  } catch (const std::exception& error) {
    throw ExampleError(index, kind, error.what(), std::current_exception());
  }
}

class FunctionSource final : public Source {
 public:
  FunctionSource(std::int64_t size, std::function<Example(std::int64_t, Random&)> function)
      : size_(size), function_(std::move(function)) {}
  [[nodiscard]] std::int64_t size() const override { return size_; }
  [[nodiscard]] Example get(std::int64_t index, const Draw& draw) const override {
    Random random(stream_key(draw.seed, static_cast<std::uint64_t>(draw.epoch), static_cast<std::uint64_t>(index)));
    return call_for(index, "dataset", [&] { return function_(index, random); });
  }

 private:
  std::int64_t size_;
  std::function<Example(std::int64_t, Random&)> function_;
};

class MapSource final : public Source {
 public:
  MapSource(SourceRef input, Dataset::MapFunction function)
      : input_(std::move(input)), function_(std::move(function)) {}
  [[nodiscard]] std::int64_t size() const override { return input_->size(); }
  [[nodiscard]] Example get(std::int64_t index, const Draw& draw) const override {
    // The input draws from another seed, so that two random steps in a row are independent.
    Example example = input_->get(index, {mix(draw.seed + 1), draw.epoch});
    Random random(stream_key(draw.seed, static_cast<std::uint64_t>(draw.epoch), static_cast<std::uint64_t>(index)));
    return call_for(index, "map", [&] { return function_(std::move(example), random); });
  }

 private:
  SourceRef input_;
  Dataset::MapFunction function_;
};

// Every combinator that only changes which example is asked for.
class ReindexSource final : public Source {
 public:
  ReindexSource(SourceRef input, std::int64_t size, std::function<std::int64_t(std::int64_t)> index)
      : input_(std::move(input)), size_(size), index_(std::move(index)) {}
  [[nodiscard]] std::int64_t size() const override { return size_; }
  [[nodiscard]] Example get(std::int64_t index, const Draw& draw) const override {
    return input_->get(index_(index), draw);
  }
  [[nodiscard]] Example gather(std::span<const std::int64_t> indices, const Draw& draw) const override {
    std::vector<std::int64_t> mapped(indices.size());
    std::ranges::transform(indices, mapped.begin(), index_);
    return input_->gather(mapped, draw);
  }

 private:
  SourceRef input_;
  std::int64_t size_;
  std::function<std::int64_t(std::int64_t)> index_;
};

class BatchSource final : public Source {
 public:
  BatchSource(SourceRef input, std::int64_t batch, bool drop_last)
      : input_(std::move(input)), batch_(batch), drop_last_(drop_last) {}
  [[nodiscard]] std::int64_t size() const override {
    return drop_last_ ? input_->size() / batch_ : (input_->size() + batch_ - 1) / batch_;
  }
  [[nodiscard]] Example get(std::int64_t index, const Draw& draw) const override {
    const std::int64_t start = index * batch_;
    std::vector<std::int64_t> indices(static_cast<std::size_t>(std::min(batch_, input_->size() - start)));
    std::iota(indices.begin(), indices.end(), start);
    return input_->gather(indices, draw);
  }

 private:
  SourceRef input_;
  std::int64_t batch_;
  bool drop_last_;
};

class RepeatSource final : public Source {
 public:
  RepeatSource(SourceRef input, std::int64_t times) : input_(std::move(input)), times_(times) {}
  [[nodiscard]] std::int64_t size() const override { return input_->size() * times_; }
  [[nodiscard]] Example get(std::int64_t index, const Draw& draw) const override {
    return input_->get(index % input_->size(), round(index, draw));
  }
  [[nodiscard]] Example gather(std::span<const std::int64_t> indices, const Draw& draw) const override {
    const std::int64_t n = input_->size();
    const auto same_round = [&](std::int64_t i) { return i / n == indices.front() / n; };
    if (!std::ranges::all_of(indices, same_round)) return Source::gather(indices, draw);
    std::vector<std::int64_t> mapped(indices.size());
    std::ranges::transform(indices, mapped.begin(), [&](std::int64_t i) { return i % n; });
    return input_->gather(mapped, round(indices.front(), draw));
  }

 private:
  [[nodiscard]] Draw round(std::int64_t index, const Draw& draw) const {
    return {draw.seed, draw.epoch * times_ + index / input_->size()};
  }
  SourceRef input_;
  std::int64_t times_;
};

class ZipSource final : public Source {
 public:
  ZipSource(SourceRef a, SourceRef b) : a_(std::move(a)), b_(std::move(b)) {}
  [[nodiscard]] std::int64_t size() const override { return a_->size(); }
  [[nodiscard]] Example get(std::int64_t index, const Draw& draw) const override {
    return merge(a_->get(index, draw), b_->get(index, draw));
  }
  [[nodiscard]] Example gather(std::span<const std::int64_t> indices, const Draw& draw) const override {
    return merge(a_->gather(indices, draw), b_->gather(indices, draw));
  }

 private:
  static Example merge(Example a, const Example& b) {
    for (const auto& [name, value] : b) {
      require(!a.contains(name), "zip", "both datasets have a field of this name", "names that differ",
              fmt::format("'{}' twice", name));
      a.set(name, value);
    }
    return a;
  }
  SourceRef a_;
  SourceRef b_;
};

class ConcatSource final : public Source {
 public:
  ConcatSource(SourceRef a, SourceRef b) : a_(std::move(a)), b_(std::move(b)) {}
  [[nodiscard]] std::int64_t size() const override { return a_->size() + b_->size(); }
  [[nodiscard]] Example get(std::int64_t index, const Draw& draw) const override {
    return index < a_->size() ? a_->get(index, draw) : b_->get(index - a_->size(), draw);
  }
  [[nodiscard]] Example gather(std::span<const std::int64_t> indices, const Draw& draw) const override {
    const std::int64_t first = a_->size();
    if (std::ranges::all_of(indices, [&](std::int64_t i) { return i < first; })) return a_->gather(indices, draw);
    if (std::ranges::any_of(indices, [&](std::int64_t i) { return i < first; })) return Source::gather(indices, draw);
    std::vector<std::int64_t> mapped(indices.size());
    std::ranges::transform(indices, mapped.begin(), [&](std::int64_t i) { return i - first; });
    return b_->gather(mapped, draw);
  }

 private:
  SourceRef a_;
  SourceRef b_;
};

}  // namespace

ExampleError::ExampleError(std::int64_t index, std::string_view kind, std::string_view text, std::exception_ptr cause)
    : Error({fmt::format("example {}", index), fmt::format("the {} function failed: {}", kind, text), "", "", ""}),
      index_(index),
      cause_(std::move(cause)) {}

Example Source::gather(std::span<const std::int64_t> indices, const Draw& draw) const {
  std::vector<Example> examples;
  examples.reserve(indices.size());
  for (const std::int64_t index : indices) examples.push_back(get(index, draw));
  return stack(examples, indices);
}

Dataset Dataset::from_tensors(const Example& columns) {
  std::vector<ArraySource::Column> list;
  for (const auto& [name, rows] : columns) list.push_back({name, rows, {}});
  require(!list.empty(), "Dataset::from_tensors", "no fields", "at least one named tensor", "none");
  return Dataset(std::make_shared<ArraySource>(std::move(list)));
}

Dataset Dataset::generate(std::int64_t size, std::function<Example(std::int64_t, Random&)> function) {
  require(size >= 0, "Dataset::from_function", "the size is negative", "0 or more", std::to_string(size));
  return Dataset(std::make_shared<FunctionSource>(size, std::move(function)));
}

Dataset Dataset::with(std::shared_ptr<const Source> source) const {
  Dataset result(std::move(source));
  result.prefetch_ = prefetch_;
  return result;
}

Dataset Dataset::reindex(std::int64_t size, std::function<std::int64_t(std::int64_t)> index) const {
  return with(std::make_shared<ReindexSource>(source_, size, std::move(index)));
}

Example Dataset::get(std::int64_t index, const Draw& draw) const {
  if (index < 0 || index >= size()) {
    throw IndexError({"Dataset", "no such example",
                      size() == 0 ? "nothing: the dataset is empty" : fmt::format("0 to {}", size() - 1),
                      std::to_string(index), ""});
  }
  return source_->get(index, draw);
}

Example Dataset::gather(std::span<const std::int64_t> indices, const Draw& draw) const {
  require(!indices.empty(), "Dataset::gather", "no indices", "at least one", "none");
  for (const std::int64_t index : indices) {
    if (index < 0 || index >= size()) (void)get(index);  // throws
  }
  return source_->gather(indices, draw);
}

Tensor Dataset::column(std::string_view name) const {
  require(size() > 0, "Dataset::column", "the dataset is empty", "at least one example", "none");
  // In pieces, so that the other fields of all examples need not be in memory at once.
  constexpr std::int64_t kPiece = 1024;
  Tensor all;
  std::byte* to = nullptr;
  Shape row;
  for (std::int64_t start = 0; start < size(); start += kPiece) {
    std::vector<std::int64_t> indices(static_cast<std::size_t>(std::min(kPiece, size() - start)));
    std::iota(indices.begin(), indices.end(), start);
    const Example piece = source_->gather(indices, {});
    const Tensor& rows = piece[name];
    const Shape piece_row(rows.shape().begin() + 1, rows.shape().end());
    if (start == 0) {
      row = piece_row;
      Shape shape = rows.shape();
      shape[0] = size();
      all = empty(shape, rows.dtype());
      to = mutable_data(all);
    } else if (piece_row != row || rows.dtype() != all.dtype()) {
      throw ShapeError({fmt::format("dataset field '{}'", name), fmt::format("examples 0 and {} differ", start),
                        to_string(TensorType{all.dtype(), row}), to_string(TensorType{rows.dtype(), piece_row}), ""});
    }
    to = std::ranges::copy(rows.data<std::byte>(), to).out;
  }
  return all;
}

Dataset Dataset::map_with(MapFunction fn) const { return with(std::make_shared<MapSource>(source_, std::move(fn))); }

Dataset Dataset::shuffle(std::uint64_t seed) const {
  return reindex(size(), Permutation(size(), stream_key(seed, 0, 0)));
}

Dataset Dataset::batch(std::int64_t size, bool drop_last) const {
  require(size > 0, "Dataset::batch", "the batch size is not accepted", "1 or more", std::to_string(size));
  return with(std::make_shared<BatchSource>(source_, size, drop_last));
}

Dataset Dataset::repeat(std::int64_t times) const {
  require(times > 0, "Dataset::repeat", "the number of times is not accepted", "1 or more", std::to_string(times));
  require(size() == 0 || times <= std::numeric_limits<std::int64_t>::max() / size(), "Dataset::repeat",
          "too many examples", "fewer than 2^63", fmt::format("{} times {}", times, size()));
  return with(std::make_shared<RepeatSource>(source_, times));
}

Dataset Dataset::take(std::int64_t n) const {
  require(n >= 0, "Dataset::take", "the count is negative", "0 or more", std::to_string(n));
  return reindex(std::min(n, size()), [](std::int64_t i) { return i; });
}

Dataset Dataset::skip(std::int64_t n) const {
  require(n >= 0, "Dataset::skip", "the count is negative", "0 or more", std::to_string(n));
  return reindex(std::max<std::int64_t>(size() - n, 0), [n](std::int64_t i) { return i + n; });
}

Dataset Dataset::shard(std::int64_t count, std::int64_t index) const {
  require(count > 0, "Dataset::shard", "the count is not accepted", "1 or more", std::to_string(count));
  require(index >= 0 && index < count, "Dataset::shard", "the index is not accepted", fmt::format("0 to {}", count - 1),
          std::to_string(index));
  return reindex(size() / count + (index < size() % count ? 1 : 0),
                 [count, index](std::int64_t i) { return i * count + index; });
}

Dataset Dataset::select(std::vector<std::int64_t> indices) const {
  for (const std::int64_t index : indices) {
    require(index >= 0 && index < size(), "Dataset::select", "no such example", fmt::format("0 to {}", size() - 1),
            std::to_string(index));
  }
  const auto count = static_cast<std::int64_t>(indices.size());
  auto list = std::make_shared<const std::vector<std::int64_t>>(std::move(indices));
  return reindex(count, [list](std::int64_t i) { return (*list)[static_cast<std::size_t>(i)]; });
}

std::pair<Dataset, Dataset> Dataset::split(double fraction) const {
  require(fraction >= 0 && fraction <= 1, "Dataset::split", "the fraction is not accepted", "0 to 1",
          fmt::format("{}", fraction));
  const std::int64_t first = std::llround(fraction * static_cast<double>(size()));
  return {take(first), skip(first)};
}

Dataset Dataset::zip(const Dataset& other) const {
  require(size() == other.size(), "Dataset::zip", "the datasets have different sizes",
          fmt::format("{} examples", size()), fmt::format("{} examples", other.size()));
  return with(std::make_shared<ZipSource>(source_, other.source_));
}

Dataset Dataset::concat(const Dataset& other) const {
  return with(std::make_shared<ConcatSource>(source_, other.source_));
}

Dataset Dataset::prefetch(int batches, int threads) const {
  require(batches > 0, "Dataset::prefetch", "the number of batches is not accepted", "1 or more",
          std::to_string(batches));
  require(threads >= 0, "Dataset::prefetch", "the number of threads is negative", "0 or more", std::to_string(threads));
  Dataset result = *this;
  result.prefetch_ = Prefetch{batches, threads};
  return result;
}

}  // namespace tenon::data
