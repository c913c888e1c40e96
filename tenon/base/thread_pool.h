// ThreadPool: workers that run the parts of one loop.
//
// An object, handed to whoever needs it. Workers park when there is nothing to do; only right after a loop, where loops
// have been following each other, they look some microseconds for the next one.
// The parts are fixed by the caller, not by the number of threads, so that a result cannot depend on it.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

namespace tenon {

class ThreadPool {
 public:
  // `threads` counts the calling thread; 1 starts no worker. 0 means one per CPU that this process may use.
  explicit ThreadPool(int threads = 0);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  [[nodiscard]] int threads() const;
  // What all parts of a loop are worth. Light: some microseconds, which is less than it takes to wake a thread; so
  // others are asked where they are awake, or where such loops follow each other closely.
  enum class Load : uint8_t { Light, Heavy };

  // Calls body(part) for each part in [0, parts), in any order, on any thread, and returns when all are
  // done. A call from inside a part runs its parts in order on that thread. The first exception is
  // rethrown here, after all parts have ended.
  void run(int64_t parts, const std::function<void(int64_t)>& body, Load load = Load::Heavy);

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace tenon
