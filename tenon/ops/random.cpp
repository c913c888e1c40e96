#include "tenon/ops/random.h"

#include <mutex>

namespace tenon {
namespace {

// The one generator that is ambient, as users of PyTorch and NumPy expect. Everything else takes keys.
struct DefaultGenerator {
  std::mutex mutex;
  RandomState state;
};
DefaultGenerator& default_generator() {
  static DefaultGenerator generator;
  return generator;
}

}  // namespace

RandomState random_state() {
  const std::lock_guard lock(default_generator().mutex);
  return default_generator().state;
}
void set_random_state(const RandomState& state) {
  const std::lock_guard lock(default_generator().mutex);
  default_generator().state = state;
}
void manual_seed(uint64_t seed) { set_random_state({seed, 0}); }

}  // namespace tenon
