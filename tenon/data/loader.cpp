#include "tenon/data/loader.h"

#include <fmt/format.h>

#include <algorithm>
#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>

namespace tenon::data {
namespace {

// Separates the shuffling of epochs from the streams that map functions draw from the same seed.
constexpr std::uint64_t kShuffleStream = 0x73687566666c65;  // "shuffle"

// One epoch as a list of batches that can be made in any order.
class Plan {
 public:
  Plan(Dataset dataset, const LoaderOptions& options, const LoaderState& start)
      : dataset_(std::move(dataset)),
        draw_{start.seed, start.epoch},
        start_(start.position),
        batch_(std::max<std::int64_t>(options.batch_size, 1)),
        stacked_(options.batch_size > 0) {
    const std::int64_t left = dataset_.size() - start_;
    count_ = options.drop_last ? left / batch_ : (left + batch_ - 1) / batch_;
    if (options.shuffle) {
      order_.emplace(dataset_.size(),
                     stream_key(start.seed ^ kShuffleStream, static_cast<std::uint64_t>(start.epoch), 0));
    }
  }

  [[nodiscard]] std::int64_t count() const { return count_; }
  // Examples given out before batch `number`.
  [[nodiscard]] std::int64_t position(std::int64_t number) const {
    return std::min(start_ + number * batch_, dataset_.size());
  }
  [[nodiscard]] Example make(std::int64_t number) const {
    std::vector<std::int64_t> indices;
    for (std::int64_t at = position(number); at < position(number + 1); ++at) {
      indices.push_back(order_ ? (*order_)(at) : at);
    }
    return stacked_ ? dataset_.gather(indices, draw_) : dataset_.get(indices.front(), draw_);
  }

 private:
  Dataset dataset_;
  Draw draw_;
  std::int64_t start_;
  std::int64_t batch_;
  bool stacked_;
  std::int64_t count_ = 0;
  std::optional<Permutation> order_;
};

// Makes the batches of a plan ahead of their use. Workers take numbers in order and park when `ahead` batches
// are waiting or being made; the user takes them in order.
class Workers {
 public:
  Workers(const Plan& plan, int threads, int ahead) : plan_(plan), ahead_(std::max(ahead, threads)) {
    for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { work(); });
  }
  ~Workers() {
    {
      const std::scoped_lock lock(mutex_);
      stop_ = true;
    }
    room_.notify_all();
    for (std::thread& thread : threads_) thread.join();
  }
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  // Batch `number`, numbers in order. Throws what its making threw.
  Example take(std::int64_t number) {
    std::unique_lock lock(mutex_);
    ready_.wait(lock, [&] { return done_.contains(number); });
    Result result = std::move(done_.at(number));
    done_.erase(number);
    taken_ = number + 1;
    lock.unlock();
    room_.notify_one();
    if (result.error) std::rethrow_exception(result.error);
    return std::move(result.batch);
  }

 private:
  struct Result {
    Example batch;
    std::exception_ptr error;
  };

  void work() {
    std::unique_lock lock(mutex_);
    while (true) {
      room_.wait(lock, [&] { return stop_ || next_ >= plan_.count() || next_ < taken_ + ahead_; });
      if (stop_ || next_ >= plan_.count()) return;
      const std::int64_t number = next_++;
      lock.unlock();
      Result result;
      try {
        result.batch = plan_.make(number);
      } catch (...) {
        result.error = std::current_exception();
      }
      lock.lock();
      done_.emplace(number, std::move(result));
      ready_.notify_one();
    }
  }

  const Plan& plan_;
  const std::int64_t ahead_;
  std::mutex mutex_;
  std::condition_variable room_;   // a worker may go on
  std::condition_variable ready_;  // a batch is there
  std::map<std::int64_t, Result> done_;
  std::int64_t next_ = 0;   // first number that nobody has begun
  std::int64_t taken_ = 0;  // batches that the user has
  bool stop_ = false;
  std::vector<std::thread> threads_;  // last: they use all of the above
};

void require(bool fine, std::string_view problem, std::string expected, std::string got) {
  if (!fine) throw ValueError({"DataLoader", std::string(problem), std::move(expected), std::move(got), ""});
}

}  // namespace

struct DataLoader::Impl {
  Dataset dataset;
  LoaderOptions options;
  LoaderState state;         // of the batch that the loop has now
  bool fresh = true;         // the next loop starts at `state` itself
  std::optional<Plan> plan;  // the running epoch
  std::optional<Workers> workers;
  std::int64_t number = 0;  // of the current batch in the plan
  Example current;

  [[nodiscard]] bool finished() const { return !plan || number >= plan->count(); }

  [[nodiscard]] LoaderState after_current() const {
    LoaderState result = state;
    if (plan && !finished()) {
      result.position = plan->position(number + 1);
      if (number + 1 >= plan->count()) result = next_epoch();
    }
    return result;
  }
  [[nodiscard]] LoaderState next_epoch() const { return {state.seed, state.epoch + 1, 0, state.dataset_size}; }
  void stop() {
    workers.reset();
    plan.reset();
    current = {};
  }
  void start() {
    if (!fresh) state = finished() ? state : next_epoch();  // finish() has moved on already, leaving a loop has not
    stop();
    fresh = false;
    number = 0;
    plan.emplace(dataset, options, state);
    const int threads = *options.threads;
    if (threads > 0 && plan->count() > 0) workers.emplace(*plan, threads, *options.prefetch);
    load();
  }
  void load() {
    if (finished()) {
      const LoaderState next = next_epoch();
      stop();
      state = next;
      return;
    }
    try {
      current = workers ? workers->take(number) : plan->make(number);
    } catch (...) {
      // The loop is over. What the user has saved or saves now points to the batch that failed.
      state.position = plan->position(number);
      stop();
      fresh = true;
      throw;
    }
  }
};

DataLoader::DataLoader(Dataset dataset, LoaderOptions options)
    : impl_(new Impl{std::move(dataset), options, {}, true, {}, {}, 0, {}}) {
  LoaderOptions& chosen = impl_->options;
  const auto& hint = impl_->dataset.prefetch_hint();
  if (!chosen.threads) chosen.threads = hint ? hint->threads : 0;
  if (!chosen.prefetch) chosen.prefetch = hint ? hint->batches : 2;
  require(chosen.batch_size >= 0, "batch_size is negative", "1 or more, or 0 for a dataset that is batched already",
          std::to_string(chosen.batch_size));
  require(*chosen.threads >= 0, "threads is negative", "0 or more", std::to_string(*chosen.threads));
  require(*chosen.prefetch >= 1, "prefetch is not accepted", "1 or more", std::to_string(*chosen.prefetch));
  impl_->state.seed = chosen.seed;
  impl_->state.dataset_size = impl_->dataset.size();
}

DataLoader::~DataLoader() = default;
DataLoader::DataLoader(DataLoader&&) noexcept = default;
DataLoader& DataLoader::operator=(DataLoader&&) noexcept = default;

DataLoader::Iterator DataLoader::begin() {
  impl_->start();
  return Iterator(impl_.get());
}

std::int64_t DataLoader::size() const {
  const std::int64_t batch = std::max<std::int64_t>(impl_->options.batch_size, 1);
  const std::int64_t n = impl_->dataset.size();
  return impl_->options.drop_last ? n / batch : (n + batch - 1) / batch;
}

const Dataset& DataLoader::dataset() const { return impl_->dataset; }
const LoaderOptions& DataLoader::options() const { return impl_->options; }

LoaderState DataLoader::state() const { return impl_->after_current(); }

void DataLoader::restore(const LoaderState& state) {
  const std::int64_t size = impl_->dataset.size();
  require(state.dataset_size == size, "the saved state belongs to a dataset of another size",
          fmt::format("{} examples", size), fmt::format("{} examples", state.dataset_size));
  require(state.epoch >= 0 && state.position >= 0 && state.position <= size, "the saved state is damaged",
          fmt::format("an epoch from 0 on and a position from 0 to {}", size),
          fmt::format("epoch {}, position {}", state.epoch, state.position));
  impl_->stop();
  impl_->state = state;
  impl_->fresh = true;
}

Example& DataLoader::Iterator::operator*() const { return impl_->current; }

DataLoader::Iterator& DataLoader::Iterator::operator++() {
  ++impl_->number;
  impl_->load();
  return *this;
}

bool DataLoader::Iterator::operator==(std::default_sentinel_t) const { return impl_->finished(); }

}  // namespace tenon::data
