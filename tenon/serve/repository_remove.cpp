#include <malloc.h>
#include <sys/resource.h>
#include <unistd.h>

#include <utility>

#include "tenon/serve/repository_parts.h"
#include "tenon/tensor/buffer.h"

namespace tenon::serve {

// On Linux the nice value belongs to the thread.
void Repository::lower_priority() { ::setpriority(PRIO_PROCESS, static_cast<id_t>(::gettid()), 15); }

struct Repository::Remover::State {
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<std::unique_ptr<Lane>> waiting;
  bool ending = false;
};

Repository::Remover::Remover(std::function<void()> freed)
    : state_(std::make_shared<State>()), thread_([state = state_, freed = std::move(freed)] { work(*state, freed); }) {}

Repository::Remover::~Remover() {
  {
    const std::lock_guard lock(state_->mutex);
    state_->ending = true;
  }
  state_->changed.notify_all();
  thread_.join();
}

LanePtr Repository::Remover::owned(std::unique_ptr<Lane> lane) const {
  return {lane.release(), [state = state_](Lane* last) {
            std::unique_ptr<Lane> mine(last);
            {
              const std::lock_guard lock(state->mutex);
              if (state->ending) return;
              state->waiting.push_back(std::move(mine));
            }
            state->changed.notify_one();
          }};
}

void Repository::Remover::work(State& state, const std::function<void()>& freed) {
  lower_priority();
  std::unique_lock lock(state.mutex);
  while (true) {
    state.changed.wait(lock, [&] { return state.ending || !state.waiting.empty(); });
    if (state.waiting.empty()) return;
    auto lane = std::move(state.waiting.front());
    state.waiting.pop_front();
    lock.unlock();
    // "Unloaded" is when the memory is back, so what says that it is alive goes last.
    auto alive = lane->alive().lock();
    lane.reset();
    release_cached_memory();
    ::malloc_trim(0);
    alive.reset();
    freed();
    lock.lock();
  }
}

}  // namespace tenon::serve
